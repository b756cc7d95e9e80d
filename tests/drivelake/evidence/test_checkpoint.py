"""Laws of the proofs: they are those of RFC 6962, they hold for every size, and no other leaf, size or root passes."""

import hashlib

import pytest

from drivelake.errors import NotFound
from drivelake.evidence.checkpoint import (
    consistency_proof,
    inclusion_proof,
    verifier_key,
    verify_consistency,
    verify_inclusion,
)
from drivelake.evidence.keys import PublicKey
from drivelake.manifest import merkle_root

LEAVES = [b"leaf %d" % n for n in range(33)]
ROOTS = [merkle_root(LEAVES[:size]) for size in range(34)]

# the leaves and hashes that the reference implementation of RFC 6962 tests itself with
KNOWN = [
    bytes.fromhex(h) for h in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
]
KNOWN_ROOT = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
KNOWN_PROOF = [
    "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
    "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
    "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
]


def slow_root(leaves):
    """RFC 6962 section 2.1 as it is written."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = max(2**n for n in range(10) if 2**n < len(leaves))
    return hashlib.sha256(b"\1" + slow_root(leaves[:split]) + slow_root(leaves[split:])).digest()


def test_the_root_is_the_one_of_the_rfc_for_every_size():
    assert [slow_root(LEAVES[:size]) for size in range(34)] == ROOTS
    assert merkle_root(KNOWN).hex() == KNOWN_ROOT


def test_the_known_inclusion_proof():
    assert [h.hex() for h in inclusion_proof(KNOWN, 0)] == KNOWN_PROOF


def test_every_leaf_of_every_size_is_shown_to_be_included_and_nothing_else_is():
    for size in range(1, 34):
        for index in range(size):
            proof = inclusion_proof(LEAVES[:size], index)
            assert verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size])
            assert not verify_inclusion(b"another", index, size, proof, ROOTS[size])
            assert not verify_inclusion(LEAVES[index], index, size, proof, ROOTS[size - 1])
            assert not verify_inclusion(LEAVES[index], index, size, [*proof, ROOTS[1]], ROOTS[size])
            assert not (proof and verify_inclusion(LEAVES[index], index, size, proof[:-1], ROOTS[size]))
            others = [
                at for at in range(-1, size + 1) if at != index and verify_inclusion(LEAVES[index], at, size, proof, ROOTS[size])
            ]
            assert not others, f"leaf {index} of {size} passes for {others}"


def test_every_prefix_of_every_size_is_shown_to_be_one_and_nothing_else_is():
    for second in range(34):
        for first in range(second + 1):
            proof = consistency_proof(LEAVES[:second], first)
            assert verify_consistency(first, second, ROOTS[first], ROOTS[second], proof)
            assert not verify_consistency(first, second, b"x" * 32, ROOTS[second], proof)
            assert not verify_consistency(first, second, ROOTS[first], ROOTS[second], [*proof, ROOTS[1]])
            if first:
                assert not verify_consistency(first, second, ROOTS[first], b"x" * 32, proof)
                forged = merkle_root([b"forged", *LEAVES[1:second]])
                forged_proof = consistency_proof([b"forged", *LEAVES[1:second]], first)
                assert not verify_consistency(first, second, ROOTS[first], forged, forged_proof)
            if proof:
                assert not verify_consistency(first, second, ROOTS[first], ROOTS[second], proof[:-1])
                assert not verify_consistency(first, 2 * second, ROOTS[first], ROOTS[second], proof)
                assert not verify_consistency(second, first, ROOTS[second], ROOTS[first], proof)


@pytest.mark.parametrize("outside", [-1, 5])
def test_a_proof_of_what_is_not_there_is_refused(outside):
    with pytest.raises(NotFound, match="among 5"):
        inclusion_proof(LEAVES[:5], outside)
    with pytest.raises(NotFound, match="among 5"):
        consistency_proof(LEAVES[:5], outside if outside < 0 else 6)


def test_a_verifier_key_is_spelled_as_other_tools_read_it():
    """The example in the documentation of Go's golang.org/x/mod/sumdb/note."""
    raw = bytes.fromhex("1a5cd907143c384c41e830c5bce12aa8817ec5649aaabf2c31388b35b2d744d6")
    assert verifier_key("PeterNeumann", PublicKey(raw)) == "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
