"""Versions as plain files in a folder of one's own. Belongs here: copying, comparing, and the moment when it is there.

Never here: the store's own files as links: whoever writes into a checkout must not write into the store.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from drivelake.errors import InputError, NotFound, StoreError
from drivelake.lake import Lake, Version
from drivelake.manifest import ASSETS, CHUNK_BYTES
from drivelake.versions import MANIFEST
from drivelake.versions.durable import sync

__all__ = ["Checkout", "checkout"]

FICLONE = 0x40049409  # linux/fs.h: share the blocks until one side is written


@dataclass(frozen=True)
class Checkout:
    """What was written.

    Attributes:
        commit: what was read.
        folder: where it stands.
        versions: ``asset/partition`` and digest of each version.
        files: how many files, manifests not counted.
        bytes: their sizes, summed.
        references: ``asset/partition/path`` of logs registered where they are, which were not copied, with their URI.
        absent: ``asset/partition`` of versions whose bytes were withdrawn, and what stands instead of them; their manifests
            are written.
    """

    commit: str
    folder: Path
    versions: dict[str, str]
    files: int
    bytes: int
    references: dict[str, str]
    absent: dict[str, str]


def checkout(lake: Lake, ref: str, folder: Path, wanted: Sequence[str] = ()) -> Checkout:
    """Write versions as ``<folder>/<asset>/<partition>/<file>`` with their ``manifest.json``, every byte compared.

    All of it appears at once, when it is whole; a run that is killed leaves a folder ``.<name>.<digits>.partial`` beside.

    Args:
        lake: which lake.
        ref: what to read.
        folder: not there yet, or empty.
        wanted: assets, or ``asset/partition``; none for all.

    Raises:
        InputError: the folder holds something, or a version has a file named as its manifest.
        NotFound: the ref, an asset or a partition is not there.
        StoreError: a file has other bytes than its manifest says.
    """
    commit = lake.store.resolve(ref)
    versions = _wanted(lake, commit, wanted)
    folder = folder.absolute()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is there already and is no empty folder.", next_step="name another folder")
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f".{folder.name}.{secrets.token_hex(4)}.partial"
    partial.mkdir()
    absent = {
        version.name: said
        for version in versions
        if (said := lake.withdrawals.of(version.manifest.asset, version.manifest.partition, version.digest)) is not None
    }
    try:
        for version in versions:
            _write(version, partial / version.name, absent.get(version.name))
        sync([*partial.rglob("*"), partial])
        partial.rename(folder)  # an empty folder is replaced
    except OSError:
        if folder.is_dir() and any(folder.iterdir()):
            raise InputError(f"{folder} was filled meanwhile.", next_step="name another folder") from None
        raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    entries = [(v.name, entry) for v in versions if v.name not in absent for entry in v.manifest.files]
    references = {f"{v.name}/{entry.path}": entry.uri for v in versions for entry in v.manifest.references}
    digests = {version.name: version.digest for version in versions}
    return Checkout(commit, folder, digests, len(entries), sum(entry.bytes for _, entry in entries), references, absent)


def _wanted(lake: Lake, commit: str, wanted: Sequence[str]) -> list[Version]:
    there = [asset for asset in ASSETS if asset in lake.store.list(commit)]
    found: dict[str, Version] = {}
    for name in wanted or there:
        asset, slash, partition = name.strip("/").partition("/")
        if asset not in there:
            raise NotFound(
                f"There is no asset {asset!r} at {commit[:12]}.", next_step=f"name one of {', '.join(there) or 'none'}"
            )
        for version in [lake.head(asset, partition, commit)] if slash else lake.heads(asset, commit):
            found[version.name] = version
    return list(found.values())


def _write(version: Version, folder: Path, absent: str | None) -> None:
    folder.mkdir(parents=True)
    (folder / MANIFEST).write_bytes(version.manifest.canonical())
    if absent is not None:
        (folder / "ABSENT-AUTHORISED").write_text(f"{absent}\n", encoding="utf-8")
        return
    for entry in version.manifest.files:
        if entry.path.split("/")[0] == MANIFEST:
            raise InputError(f"{version.name} has a file named {entry.path}.", next_step="leave it out")
        target = folder / entry.path
        target.parent.mkdir(parents=True, exist_ok=True)
        found = _copy(version.path(entry.path), target)
        if found != (entry.bytes, entry.sha256):
            raise StoreError(
                f"{version.name}/{entry.path} holds {found[0]} bytes with SHA-256 {found[1][:16]}; expected {entry.bytes} bytes "
                f"with {entry.sha256[:16]}.",
                next_step="drivelake verify --all, then restore what it names from a copy",
            )


def _copy(source: Path, target: Path) -> tuple[int, str]:
    """Copy, without a second copy of the blocks where the file system can; gives size and SHA-256 of what was copied."""
    digest, size = hashlib.sha256(), 0
    with source.open("rb") as read, target.open("xb") as written:
        shared = _share(read.fileno(), written.fileno())
        while block := read.read(CHUNK_BYTES):
            digest.update(block)
            size += len(block)
            if not shared:
                written.write(block)
    return size, digest.hexdigest()


def _share(source: int, target: int) -> bool:
    try:
        fcntl.ioctl(target, FICLONE, source)
    except OSError:
        return False  # another file system, or one without shared blocks: then the bytes are copied
    return os.fstat(target).st_size == os.fstat(source).st_size
