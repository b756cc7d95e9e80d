"""The manifest: what an asset version is. Belongs here: its fields, its canonical bytes, its digest, its checks.

Never here: publishing, signing, storing, and anything that differs from run to run (times, hosts, run ids):
the same bytes from the same inputs must give the same digest. What differs stands in the signed statement.
"""

from __future__ import annotations

import errno
import hashlib
import importlib.metadata
import os
import platform
import re
import stat
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import Annotated, Literal, get_args

import rfc8785
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from drivelake.errors import InputError, VerificationFailed

__all__ = [
    "ASSETS",
    "Asset",
    "FileEntry",
    "Input",
    "Json",
    "Manifest",
    "Reference",
    "check_partition",
    "hash_file",
    "hash_folder",
    "merkle_root",
    "regular_hash",
    "tool_versions",
]

# The order in which data flows; the position decides what may be whose input.
Asset = Literal[
    "calibrations", "raw_logs", "signals", "sensor_frames", "curated_datasets", "checkpoints", "soc_artefacts", "evidence"
]
ASSETS: tuple[Asset, ...] = get_args(Asset)

PARTITION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@=-]{0,119}")
CHUNK_BYTES = 1 << 20
HASHING = 4  # threads; hashing lets go of the interpreter's lock
SAFE_INTEGER = 2**53 - 1  # beyond it a double does not hold every integer


def as_doubles(value: JsonValue) -> JsonValue:
    """Numbers as JSON knows them: RFC 8785 writes the double 1e20 without an exponent, which reads back as an integer."""
    if isinstance(value, dict):
        return {key: as_doubles(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [as_doubles(inner) for inner in value]
    if not isinstance(value, int) or abs(value) <= SAFE_INTEGER:
        return value
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"a number of {value.bit_length()} bits is none that JSON can carry") from None


Json = Annotated[JsonValue, AfterValidator(as_doubles)]


class FileEntry(BaseModel):
    """One file of the version, by path inside it."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    path: str
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @field_validator("path")
    @classmethod
    def _stays_inside(cls, value: str) -> str:
        parts = PurePosixPath(value)
        if parts.is_absolute() or ".." in parts.parts or str(parts) != value or not value:
            raise ValueError(f"path {value!r} must be relative, normal and inside the version")
        return value


class Reference(FileEntry):
    """A log too large to copy, or in a bucket already: registered where it is, verified on every read.

    ``uri`` is ``inbox:<drive>/<file>`` for a file of the lake's inbox, so that neither the place of the lake nor the
    machine counts, or ``s3://bucket/key``. See drivelake.references.

    ``version_id`` and ``etag`` are what the bucket said of the object, and None for the inbox; None is not written, so that
    manifests from before there were such fields keep their digests.
    """

    uri: str = Field(pattern=r"^(inbox:.+|s3://[^/]+/.+)$")
    version_id: str | None = Field(default=None, min_length=1)
    etag: str | None = Field(default=None, min_length=1)

    @model_validator(mode="after")
    def _of_its_place(self) -> Reference:
        if self.uri.startswith("s3://") != (self.etag is not None) or (self.version_id and not self.etag):
            raise ValueError("an object on S3 is registered with its ETag, and only such an object")
        return self

    @model_serializer(mode="wrap")
    def _without_none(self, dump: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        written: dict[str, JsonValue] = dump(self)
        return {key: value for key, value in written.items() if value is not None}


class Input(BaseModel):
    """A version that this one was made from."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    asset: Asset
    partition: str
    version: str = Field(pattern=r"^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """Everything that identifies an asset version. Its digest is the version."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    schema_version: Literal[1] = 1
    asset: Asset
    partition: str
    files: tuple[FileEntry, ...]
    references: tuple[Reference, ...] = ()
    inputs: tuple[Input, ...] = ()
    code_version: str
    parameters: dict[str, Json]
    tools: dict[str, str]
    facts: dict[str, Json] = Field(default_factory=dict, description="measured in the making; deterministic")

    def input(self, asset: Asset) -> Input:
        """The one input of that asset."""
        return next(named for named in self.inputs if named.asset == asset)

    def canonical(self) -> bytes:
        """RFC 8785 bytes; the same manifest gives the same bytes on every machine."""
        return self._canonical

    @cached_property
    def _canonical(self) -> bytes:
        return rfc8785.dumps(self.model_dump(mode="json"))

    @cached_property
    def version(self) -> str:
        """SHA-256 of the canonical bytes, 64 hex digits."""
        return hashlib.sha256(self.canonical()).hexdigest()

    @property
    def name(self) -> str:
        """``asset/partition``, as in the version store."""
        return f"{self.asset}/{self.partition}"

    @property
    def recipe(self) -> str:
        """SHA-256 over what goes in (inputs, code version, parameters), before anything is made."""
        dumped = self.model_dump(mode="json", include={"asset", "partition", "inputs", "code_version", "parameters"})
        return hashlib.sha256(rfc8785.dumps(dumped)).hexdigest()

    @property
    def root(self) -> str:
        """RFC 6962 root over the sorted ``[path, sha256]`` leaves of files and references."""
        entries = sorted((*self.files, *self.references), key=lambda e: e.path)
        return merkle_root(rfc8785.dumps([e.path, e.sha256]) for e in entries).hex()

    @classmethod
    def parse(cls, raw: bytes, *, where: str) -> Manifest:
        """The manifest in ``raw``; refuses bytes that are not canonical, since their digest would not be the version.

        Raises:
            VerificationFailed: not JSON, unknown or missing fields, or not the canonical form.
        """
        try:
            manifest = cls.model_validate_json(raw)
        except ValidationError as error:
            first = error.errors()[0]
            raise VerificationFailed(
                f"{where} is not a manifest: {'.'.join(map(str, first['loc']))}: {first['msg']}.",
                next_step="restore the file from a copy of the store",
            ) from None
        if manifest.canonical() != raw:
            raise VerificationFailed(f"{where} is not in canonical form.", next_step="restore the file from a copy of the store")
        return manifest


def check_partition(key: str) -> str:
    """The key, if it can stand in a path, a ref and a URL alike.

    Raises:
        InputError: anything but 1 to 120 letters, digits and ``. _ @ = -``, starting with a letter or digit;
            or a ``..`` or a trailing ``.`` or ``.lock``, which git refuses in names.
    """
    if not PARTITION.fullmatch(key) or ".." in key or key.endswith((".", ".lock", ".dvc")):
        raise InputError(
            f"{key!r} cannot be a partition key: expected 1 to 120 of A-Z a-z 0-9 . _ @ = -, first a letter or digit, "
            "no '..', not ending in '.', '.lock' or '.dvc'.",
            next_step="rename the drive's folder; nothing was published",
        )
    return key


def hash_file(path: Path) -> tuple[int, str]:
    """Size in bytes and SHA-256 of a file, read once in blocks of 1 MiB."""
    return _hashed(str(path))


def _hashed(path: str) -> tuple[int, str]:
    digest, size = hashlib.sha256(), 0
    with open(path, "rb", buffering=0) as handle:  # noqa: PTH123 - as in hash_folder
        while block := handle.read(CHUNK_BYTES):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def regular_hash(path: Path) -> tuple[int, str]:
    """As ``hash_file``, for the store's own objects: a link, a pipe or a device is none of them.

    Raises:
        OSError: it is no regular file, or cannot be read.
    """
    if not stat.S_ISREG(path.lstat().st_mode):
        raise OSError(errno.EINVAL, "is no regular file", str(path))
    return hash_file(path)


def hash_folder(folder: Path) -> tuple[FileEntry, ...]:
    """Every file below ``folder``, sorted by path; a link to a file is read, one to a folder is not followed.

    Raises:
        OSError: a file or a folder cannot be read.
    """
    found: dict[str, str] = {}
    for parent, _, names in os.walk(folder, onerror=_raise):
        below = "" if parent == str(folder) else f"{parent[len(str(folder)) + 1 :]}/"
        # A Path for each of 10,000 files takes longer than reading them.
        found |= {f"{below}{name}": path for name in names if os.path.isfile(path := f"{parent}/{name}")}  # noqa: PTH113
    ordered = sorted(found)
    with ThreadPoolExecutor(HASHING) as pool:  # a share each and not a task a file, which costs more than a small file
        shares = pool.map(lambda start: [_hashed(found[relpath]) for relpath in ordered[start::HASHING]], range(HASHING))
        hashed = {
            relpath: made
            for start, share in enumerate(shares)
            for relpath, made in zip(ordered[start::HASHING], share, strict=True)
        }
    return tuple(FileEntry(path=relpath, bytes=hashed[relpath][0], sha256=hashed[relpath][1]) for relpath in ordered)


def _raise(error: OSError) -> None:
    raise error


def merkle_root(leaves: Iterable[bytes]) -> bytes:
    """RFC 6962 section 2.1 Merkle tree hash, in one pass and logarithmic memory."""
    stack: list[bytes] = []
    for count, leaf in enumerate(leaves, start=1):
        stack.append(hashlib.sha256(b"\x00" + leaf).digest())
        merge = count
        while merge % 2 == 0:
            right, left = stack.pop(), stack.pop()
            stack.append(hashlib.sha256(b"\x01" + left + right).digest())
            merge //= 2
    if not stack:
        return hashlib.sha256(b"").digest()
    root = stack.pop()
    while stack:
        root = hashlib.sha256(b"\x01" + stack.pop() + root).digest()
    return root


def tool_versions(names: Iterable[str]) -> dict[str, str]:
    """Installed versions of the named distributions, with Python's own."""
    versions = {name: importlib.metadata.version(name) for name in names}
    return {"python": platform.python_version(), **versions}
