"""What a log's key signs, and proofs against it. Belongs here: checkpoints, signed notes, Merkle proofs.

Never here: files, locks, and what the leaves mean. Formats: c2sp.org/signed-note, c2sp.org/tlog-checkpoint;
proofs: RFC 6962 section 2.1 and the verifying algorithms of RFC 9162 section 2.1. A leaf is a line of the log.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from drivelake.errors import NotFound, VerificationFailed
from drivelake.evidence.keys import PublicKey, Signer
from drivelake.manifest import merkle_root

__all__ = [
    "Checkpoint",
    "consistency_proof",
    "inclusion_proof",
    "open_note",
    "sign_note",
    "verifier_key",
    "verify_consistency",
    "verify_inclusion",
]

ED25519 = b"\x01"  # signature type of a signed note
BODY = re.compile(r"([^\n]+)\n(0|[1-9][0-9]{0,17})\n([A-Za-z0-9+/]{43}=)\n")


@dataclass(frozen=True)
class Checkpoint:
    """So many lines have this RFC 6962 root (32 bytes)."""

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        """The three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    def sign(self, signer: Signer) -> str:
        """The checkpoint as a signed note; its key is named by the origin."""
        return sign_note(self.body, self.origin, signer)

    @classmethod
    def open(cls, note: bytes, origin: str, key: PublicKey, *, where: str) -> Checkpoint:
        """The checkpoint in a note that this key signed, every byte accounted for.

        Raises:
            VerificationFailed: the signature does not hold, or it is not a checkpoint of ``origin``.
        """
        body = open_note(note, origin, key, where=where)
        found = BODY.fullmatch(body)
        if found is None:
            raise _refused(where, "is signed but is not a checkpoint: expected origin, size and root, a line each")
        checkpoint = cls(origin=found[1], size=int(found[2]), root=base64.b64decode(found[3]))
        if checkpoint.origin != origin or checkpoint.body != body:
            raise _refused(where, f"is of log {checkpoint.origin!r}, expected {origin!r} in canonical form")
        return checkpoint

    @classmethod
    def open_cosigned(cls, note: str, origin: str, key: PublicKey, *, where: str) -> Checkpoint:
        """As :meth:`open`, for a note to which witnesses may have added signatures; theirs are not looked at."""
        body, _, signatures = note.partition("\n\n")
        own = [line for line in signatures.split("\n") if line.startswith(_prefix(origin))]
        return cls.open("\n".join([body, "", *own, ""]).encode(errors="replace"), origin, key, where=where)


def sign_note(body: str, name: str, signer: Signer) -> str:
    """A signed note with one Ed25519 signature; ``body`` ends in a newline, ``name`` holds no space and no plus."""
    signature = _key_hash(name, signer.public) + signer.sign(body.encode())
    return f"{body}\n{_prefix(name)}{base64.b64encode(signature).decode()}\n"


def open_note(note: bytes, name: str, key: PublicKey, *, where: str) -> str:
    """The text of a note that carries exactly one signature, by this key.

    Raises:
        VerificationFailed: anything else; a byte that the signature does not cover counts too.
    """
    body, _, last = note.rpartition(b"\n\n")
    body += b"\n"
    prefix = _prefix(name).encode()
    if not last.startswith(prefix):
        raise _refused(where, f"is not a note signed under the name {name!r}")
    try:
        signature = base64.b64decode(last.removeprefix(prefix).removesuffix(b"\n"), validate=True)
        text = body.decode()
    except (binascii.Error, UnicodeDecodeError) as error:
        raise _refused(where, f"is not a signed note: {error}") from None
    if signature[:4] != _key_hash(name, key) or not key.verifies(signature[4:], body):
        raise _refused(where, f"is not signed by the trusted key {key.keyid[:12]}")
    # base64 has spellings that decode alike: only the one that is written counts
    if note != body + b"\n" + prefix + base64.b64encode(signature) + b"\n":
        raise _refused(where, "is not in canonical form")
    return text


def verifier_key(name: str, key: PublicKey) -> str:
    """The key as other tools for signed notes take it: name, hash and key in one word."""
    return f"{name}+{_key_hash(name, key).hex()}+{base64.b64encode(ED25519 + key.raw).decode()}"


def inclusion_proof(leaves: Sequence[bytes], index: int) -> list[bytes]:
    """Hashes that lead from one leaf to the root, lowest first (RFC 6962 section 2.1.1).

    Raises:
        NotFound: ``index`` is not one of the leaves.
    """
    if not 0 <= index < len(leaves):
        raise NotFound(f"There is no leaf {index} among {len(leaves)}.", next_step="name one from 0 on")
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if index < split:
        return [*inclusion_proof(leaves[:split], index), merkle_root(leaves[split:])]
    return [*inclusion_proof(leaves[split:], index - split), merkle_root(leaves[:split])]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Whether the proof leads from ``leaf`` at ``index`` to the root of ``size`` leaves (RFC 9162 section 2.1.3.2)."""
    if not 0 <= index < size:
        return False
    node, here, last = merkle_root([leaf]), index, size - 1
    for sibling in proof:
        if last == 0:
            return False
        if here & 1 or here == last:
            node = _node(sibling, node)
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            node = _node(node, sibling)
        here, last = here >> 1, last >> 1
    return last == 0 and node == root


def consistency_proof(leaves: Sequence[bytes], first: int) -> list[bytes]:
    """Hashes that show that the root of the first leaves grew into the root of all (RFC 6962 section 2.1.2).

    Raises:
        NotFound: ``first`` exceeds the number of leaves, or is negative.
    """
    if not 0 <= first <= len(leaves):
        raise NotFound(f"There is no prefix of {first} among {len(leaves)} leaves.", next_step="name a smaller one")
    return _subproof(leaves, first, whole=True) if first else []


def verify_consistency(first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> bool:
    """Whether a log of ``first`` leaves only grew to become one of ``second`` (RFC 9162 section 2.1.4.2)."""
    if first in {0, second}:
        # everything extends the empty log, and nothing is to be shown about equal sizes
        known = merkle_root(()) if first == 0 else second_root
        return first <= second and not proof and first_root == known
    if not 0 < first < second or not proof:
        return False
    path = [first_root, *proof] if first & (first - 1) == 0 else list(proof)
    here, last = first - 1, second - 1
    while here & 1:
        here, last = here >> 1, last >> 1
    old = new = path[0]
    for sibling in path[1:]:
        if last == 0:
            return False
        if here & 1 or here == last:
            old, new = _node(sibling, old), _node(sibling, new)
            while here and not here & 1:
                here, last = here >> 1, last >> 1
        else:
            new = _node(new, sibling)
        here, last = here >> 1, last >> 1
    return last == 0 and (old, new) == (first_root, second_root)


def _subproof(leaves: Sequence[bytes], first: int, *, whole: bool) -> list[bytes]:
    """SUBPROOF of RFC 6962; ``whole`` while the verifier knows the root of these leaves."""
    if first == len(leaves):
        return [] if whole else [merkle_root(leaves)]
    split = _split(len(leaves))
    if first <= split:
        return [*_subproof(leaves[:split], first, whole=whole), merkle_root(leaves[split:])]
    return [*_subproof(leaves[split:], first - split, whole=False), merkle_root(leaves[:split])]


def _split(count: int) -> int:
    """The largest power of two smaller than ``count``."""
    return 1 << (count - 1).bit_length() - 1


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def _prefix(name: str) -> str:
    return f"\N{EM DASH} {name} "


def _key_hash(name: str, key: PublicKey) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + ED25519 + key.raw).digest()[:4]


def _refused(where: str, reason: str) -> VerificationFailed:
    return VerificationFailed(f"{where} {reason}.", next_step="compare it with a copy that somebody else kept")
