"""Ed25519 keys by role. Belongs here: making, keeping and loading them, and signing and verifying bytes.

Never here: what is signed, and which role may sign it. A private key never leaves its folder; the trust folder holds
public keys only, and whoever may write to it decides what verifies: keep it apart from the lake.
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import stat
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from drivelake.errors import Conflict, NotFound, StoreError, VerificationFailed

__all__ = ["PublicKey", "Signer", "add_public", "create_keys", "create_once", "load_public", "load_signer", "sync_folder"]

ROLE = re.compile(r"[a-z][a-z0-9_-]{0,39}")
PUBLIC_SUFFIX = ".pub.pem"


@dataclass(frozen=True)
class PublicKey:
    """An Ed25519 public key: its 32 raw bytes (RFC 8032)."""

    raw: bytes

    @property
    def keyid(self) -> str:
        """SHA-256 of the raw key, 64 hex digits: a hint for finding the key, never a reason to trust it."""
        return hashlib.sha256(self.raw).hexdigest()

    @property
    def pem(self) -> bytes:
        """SubjectPublicKeyInfo in PEM, as ``openssl pkeyutl -pubin`` reads it."""
        return Ed25519PublicKey.from_public_bytes(self.raw).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Whether ``signature`` (64 bytes) over ``message`` was made with the private half of this key."""
        try:
            Ed25519PublicKey.from_public_bytes(self.raw).verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True)
class Signer:
    """The private key of one role."""

    role: str
    private: Ed25519PrivateKey = field(repr=False, compare=False)

    @property
    def public(self) -> PublicKey:
        """The half that the trust folder holds."""
        return PublicKey(self.private.public_key().public_bytes_raw())

    def sign(self, message: bytes) -> bytes:
        """Ed25519 signature, 64 bytes; the same message always gives the same signature."""
        return self.private.sign(message)


def create_keys(
    private_folder: Path, trust_folder: Path, roles: Sequence[str] = ("runner", "logger", "log")
) -> dict[str, PublicKey]:
    """Make a key pair for every role that has none. Existing keys are kept; processes that race end with the same keys.

    Args:
        private_folder: gets ``<role>.pem`` (PKCS #8, mode 0600); made with mode 0700 when absent.
        trust_folder: gets ``<role>.pub.pem``.
        roles: lower-case names. An approver's pair is made by the approver; see :func:`add_public`.

    Returns:
        The public key of every role.

    Raises:
        Conflict: the trust folder holds a public key whose private half is not in ``private_folder``.
        StoreError: a private key is damaged or readable by others, or a folder cannot be written.
    """
    for role in roles:
        _check_role(role)
    _make_folder(private_folder, 0o700)
    _make_folder(trust_folder, 0o755)
    made = {}
    for role in roles:
        path = private_folder / f"{role}.pem"
        # asked in this order, since the private half is always written first
        if (trust_folder / f"{role}{PUBLIC_SUFFIX}").exists() and not path.exists():
            raise Conflict(
                f"The trust folder holds a public key for role {role!r}, but {path} is absent.",
                next_step=f"restore {path.name}, or use another trust folder; a new key would not verify what the old one signed",
            )
        if not path.exists():
            pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            create_once(path, pem, mode=0o600)
        made[role] = add_public(trust_folder, role, load_signer(private_folder, role).public.pem)
    return made


def add_public(trust_folder: Path, role: str, pem: bytes) -> PublicKey:
    """Trust a public key for a role, e.g. the one that an approver hands over. Never replaces another.

    Raises:
        VerificationFailed: ``pem`` is not an Ed25519 public key.
        Conflict: the role has another key already.
    """
    path = trust_folder / f"{_check_role(role)}{PUBLIC_SUFFIX}"
    key = _parse_public(pem, where=f"The key for role {role!r}")
    if not create_once(path, key.pem) and (present := _parse_public(path.read_bytes(), where=str(path))) != key:
        raise Conflict(
            f"{path} holds key {present.keyid[:12]}, expected {key.keyid[:12]}.",
            next_step="find out which of the two is right; nothing was changed",
        )
    return key


def load_signer(private_folder: Path, role: str) -> Signer:
    """The private key of ``role``.

    Raises:
        NotFound: there is none.
        StoreError: it is not an unencrypted Ed25519 key in PEM, or others than its owner may read it.
    """
    path = private_folder / f"{_check_role(role)}.pem"
    try:
        with path.open("rb") as handle:
            # the open file is asked, not the path, so that it cannot be exchanged in between
            mode = stat.S_IMODE(os.fstat(handle.fileno()).st_mode)
            pem = handle.read()
    except FileNotFoundError:
        raise NotFound(
            f"There is no private key at {path}.", next_step="create the keys, or name the folder they are in"
        ) from None
    except OSError as error:
        raise StoreError(f"{path} cannot be read: {error.strerror}.", next_step="check its owner and rights") from None
    if mode & 0o077:
        raise StoreError(
            f"{path} has mode {mode:04o}: others than its owner can reach it, expected 0600.",
            next_step=f"chmod 600 {shlex.quote(str(path))}",
        )
    try:
        private = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise StoreError(
            f"{path} is not an unencrypted private key in PEM: {error}.", next_step="restore it from a copy"
        ) from None
    if not isinstance(private, Ed25519PrivateKey):
        raise StoreError(f"{path} holds a {type(private).__name__}, expected Ed25519.", next_step="restore it from a copy")
    return Signer(role, private)


def load_public(trust_folder: Path) -> dict[str, PublicKey]:
    """Every trusted public key, by role, sorted.

    Raises:
        NotFound: the folder is absent or holds no key.
        VerificationFailed: a key is damaged, a file has no role for a name, or two roles share a key.
    """
    found: dict[str, PublicKey] = {}
    for path in sorted(trust_folder.glob(f"*{PUBLIC_SUFFIX}")):
        role = path.name.removesuffix(PUBLIC_SUFFIX)
        if not ROLE.fullmatch(role):
            raise VerificationFailed(f"{path} names no role: expected {ROLE.pattern}.", next_step="rename or remove it")
        raw = path.read_bytes()
        key = _parse_public(raw, where=str(path))
        if key.pem != raw:
            raise VerificationFailed(f"{path} is not in the form it is written in.", next_step="restore the pinned key")
        twin = next((other for other, seen in found.items() if seen == key), None)
        if twin is not None:
            # one key for two roles would let a runner approve its own work
            raise VerificationFailed(
                f"The roles {twin!r} and {role!r} share one key.", next_step="give every role a key of its own"
            )
        found[role] = key
    if not found:
        raise NotFound(f"There is no public key in {trust_folder}.", next_step="create the keys, or name the trust folder")
    return found


def create_once(path: Path, data: bytes, *, mode: int = 0o644) -> bool:
    """Write a new file, all of it or none, durably; an existing one is left as it is.

    Returns:
        Whether the file was written by this call.

    Raises:
        StoreError: the folder cannot be written, or its file system knows no hard links.
    """
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(descriptor, "wb") as handle:
                os.fchmod(descriptor, mode)
                handle.write(data)
                handle.flush()
                os.fsync(descriptor)
            # a rename would replace what another process put there; a link refuses
            os.link(temporary, path)
        except FileExistsError:
            return False
        finally:
            temporary.unlink()
        sync_folder(path.parent)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror}.", next_step="check the folder's rights and space"
        ) from None
    return True


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_folder(folder: Path, mode: int) -> None:
    try:
        folder.mkdir(mode=mode, parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"{folder} cannot be made: {error.strerror}.", next_step="check the rights of its parent") from None


def _check_role(role: str) -> str:
    if not ROLE.fullmatch(role):
        raise StoreError(f"{role!r} cannot be a role: expected {ROLE.pattern}.", next_step="choose a lower-case name")
    return role


def _parse_public(pem: bytes, *, where: str) -> PublicKey:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise VerificationFailed(
            f"{where} is not a public key in PEM: {error}.", next_step="fetch it again from its holder"
        ) from None
    if not isinstance(key, Ed25519PublicKey):
        raise VerificationFailed(
            f"{where} is a {type(key).__name__}, expected Ed25519.", next_step="ask its holder for an Ed25519 key"
        )
    return PublicKey(key.public_bytes_raw())
