"""Laws of the keys: made once, never replaced, refused when others can read them or when they are damaged."""

import multiprocessing
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from drivelake.errors import Conflict, NotFound, StoreError, VerificationFailed
from drivelake.evidence.keys import add_public, create_keys, create_once, load_public, load_signer

# RFC 8032 section 7.1, test 3
SECRET = bytes.fromhex("c5aa8df43f9f837bedb7442f31dcb7b166d38535076f094b85ce3a2e0b4458f7")
SIGNATURE = (
    "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
    "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a"
)


def pem(private, encryption=None):
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())


def test_every_role_gets_a_pair_and_the_private_half_is_for_its_owner_alone(tmp_path):
    made = create_keys(tmp_path / "keys", tmp_path / "trust")
    assert sorted(made) == ["log", "logger", "runner"]
    assert made == load_public(tmp_path / "trust")
    assert len({key.raw for key in made.values()}) == 3
    for role in made:
        assert (tmp_path / "keys" / f"{role}.pem").stat().st_mode & 0o777 == 0o600
        assert load_signer(tmp_path / "keys", role).public == made[role]
    assert (tmp_path / "keys").stat().st_mode & 0o777 == 0o700
    assert not [p for p in tmp_path.rglob("*") if p.name.startswith(".")], "a scratch file was left behind"


def test_creating_again_changes_no_byte(tmp_path):
    create_keys(tmp_path / "keys", tmp_path / "trust")
    before = {p: p.read_bytes() for p in tmp_path.rglob("*.pem")}
    create_keys(tmp_path / "keys", tmp_path / "trust")
    assert {p: p.read_bytes() for p in tmp_path.rglob("*.pem")} == before


def test_processes_that_race_end_with_the_same_keys(tmp_path):
    context = multiprocessing.get_context("fork")
    start, answers = context.Barrier(4), context.Queue()

    def one():
        start.wait()
        answers.put({role: key.keyid for role, key in create_keys(tmp_path / "keys", tmp_path / "trust").items()})

    workers = [context.Process(target=one) for _ in range(4)]
    for worker in workers:
        worker.start()
    found = [answers.get(timeout=60) for _ in workers]
    for worker in workers:
        worker.join()
    on_disk = {role: key.keyid for role, key in load_public(tmp_path / "trust").items()}
    assert found == [on_disk] * 4


def test_a_trusted_key_whose_private_half_is_lost_is_never_replaced(tmp_path):
    create_keys(tmp_path / "keys", tmp_path / "trust")
    (tmp_path / "keys" / "runner.pem").unlink()
    trusted = (tmp_path / "trust" / "runner.pub.pem").read_bytes()
    with pytest.raises(Conflict, match=r"runner\.pem is absent"):
        create_keys(tmp_path / "keys", tmp_path / "trust")
    assert (tmp_path / "trust" / "runner.pub.pem").read_bytes() == trusted


def test_another_public_key_for_a_role_is_a_conflict_that_names_both(tmp_path):
    first = create_keys(tmp_path / "a", tmp_path / "trust", roles=("approver",))["approver"]
    other = create_keys(tmp_path / "b", tmp_path / "elsewhere", roles=("approver",))["approver"]
    with pytest.raises(Conflict) as caught:
        add_public(tmp_path / "trust", "approver", other.pem)
    assert first.keyid[:12] in caught.value.message
    assert other.keyid[:12] in caught.value.message
    assert add_public(tmp_path / "trust", "approver", first.pem) == first


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o660, 0o622])
def test_a_private_key_that_others_can_reach_is_refused_with_the_remedy(tmp_path, mode):
    create_keys(tmp_path / "my keys", tmp_path / "trust")
    path = tmp_path / "my keys" / "runner.pem"
    path.chmod(mode)
    with pytest.raises(StoreError, match=f"{mode:04o}") as caught:
        load_signer(tmp_path / "my keys", "runner")
    subprocess.run(caught.value.next_step, shell=True, check=True)
    assert load_signer(tmp_path / "my keys", "runner").role == "runner"


def test_a_missing_key_is_not_found(tmp_path):
    with pytest.raises(NotFound, match=r"runner\.pem"):
        load_signer(tmp_path, "runner")
    with pytest.raises(NotFound, match="no public key"):
        load_public(tmp_path)


@pytest.mark.parametrize(
    "damaged",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        pem(generate_private_key(SECP256R1())),
        pem(Ed25519PrivateKey.from_private_bytes(SECRET), BestAvailableEncryption(b"secret")),
    ],
    ids=["empty", "not a key", "another kind", "encrypted"],
)
def test_a_damaged_private_key_is_refused(tmp_path, damaged):
    create_once(tmp_path / "runner.pem", damaged, mode=0o600)
    with pytest.raises(StoreError, match=r"runner\.pem") as caught:
        load_signer(tmp_path, "runner")
    assert caught.value.next_step


def test_a_damaged_public_key_fails_verification(tmp_path):
    create_keys(tmp_path / "keys", tmp_path / "trust")
    path = tmp_path / "trust" / "log.pub.pem"
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(VerificationFailed, match=r"log\.pub\.pem"):
        load_public(tmp_path / "trust")
    elliptic = generate_private_key(SECP256R1()).public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    with pytest.raises(VerificationFailed, match="expected Ed25519"):
        add_public(tmp_path / "trust", "approver", elliptic)


def test_two_roles_never_share_a_key(tmp_path):
    create_keys(tmp_path / "keys", tmp_path / "trust")
    (tmp_path / "trust" / "approver.pub.pem").write_bytes((tmp_path / "trust" / "runner.pub.pem").read_bytes())
    with pytest.raises(VerificationFailed, match="'approver' and 'runner' share one key"):
        load_public(tmp_path / "trust")


@pytest.mark.parametrize("role", ["", "../runner", "Runner", "a/b", "r" * 41])
def test_a_role_that_cannot_be_a_file_name_is_refused(tmp_path, role):
    with pytest.raises(StoreError, match="cannot be a role"):
        create_keys(tmp_path / "keys", tmp_path / "trust", roles=(role,))
    assert not list(tmp_path.iterdir())


def test_signatures_are_those_of_rfc_8032(tmp_path):
    create_once(tmp_path / "runner.pem", pem(Ed25519PrivateKey.from_private_bytes(SECRET)), mode=0o600)
    signer = load_signer(tmp_path, "runner")
    assert signer.sign(b"\xaf\x82").hex() == SIGNATURE
    assert signer.public.verifies(bytes.fromhex(SIGNATURE), b"\xaf\x82")
    assert not signer.public.verifies(bytes.fromhex(SIGNATURE), b"\xaf\x83")
    assert not signer.public.verifies(b"", b"\xaf\x82")


def test_a_private_key_is_never_printed(tmp_path):
    create_keys(tmp_path / "keys", tmp_path / "trust")
    assert "private" not in repr(load_signer(tmp_path / "keys", "runner"))


def test_a_file_is_written_once_and_a_full_folder_says_so(tmp_path):
    assert create_once(tmp_path / "f", b"first")
    assert not create_once(tmp_path / "f", b"second")
    assert (tmp_path / "f").read_bytes() == b"first"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]
    with pytest.raises(StoreError, match="cannot be written"):
        create_once(Path(tmp_path / "absent" / "f"), b"x")
