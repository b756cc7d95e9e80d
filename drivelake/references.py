"""Logs that stay where they are: in the inbox, or in a bucket. Belongs here: registering, bringing and rehashing them.

Never here: which files of a drive are registered (the stage raw_logs decides), a second copy in the store.

An object on S3 is registered with its size, SHA-256, ETag and, where its bucket keeps versions, version id. It is read by
version id and ETag: in a bucket with versions a replaced object still reads as it was registered, in one without it is refused.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from contextlib import closing
from functools import partial
from pathlib import Path

from drivelake.errors import Conflict, InputError, LogDamaged, NotFound, StoreError
from drivelake.hashing import hash_files, read_ahead
from drivelake.manifest import Reference, hash_file
from drivelake.versions.s3.bucket import Bucket, Head

__all__ = ["INBOX", "bring", "register", "rehash", "stands_at"]

INBOX, S3 = "inbox:", "s3://"
PART_BYTES = 8 << 20
THREADS = 8  # ranges at once: one connection to S3 gives 50-90 MB/s; with two parts more in memory 80 MiB


def stands_at(reference: Reference, inbox: Path) -> Path | str:
    """The path of a log in the inbox, or the URI of one in a bucket."""
    return reference.uri if reference.uri.startswith(S3) else inbox / reference.uri.removeprefix(INBOX)


def register(uri: str, endpoint: str | None, path: str, target: Path) -> Reference:
    """Read an object once, into ``target`` for the readers, and say what it is. Nothing is written to any bucket.

    Args:
        uri: ``s3://bucket/key``.
        endpoint: address of an S3 other than that of AWS.
        path: the log's name in the version.
        target: a fresh file in scratch.

    Raises:
        InputError: there is no such object, or it was replaced while it was read.
        Denied, Unavailable: the server refuses, or does not answer.
    """
    bucket, key = _at(uri, endpoint)
    head = bucket.head(key)
    if head is None:
        raise InputError(f"{uri} is not there.", next_step="correct `logs` in drive.yaml, or put the log there")
    try:
        size, sha256 = _stream(bucket, head, target)
    except (Conflict, NotFound):
        raise InputError(f"{uri} was replaced or removed while it was read.", next_step="run again once it stays") from None
    return Reference(path=path, bytes=size, sha256=sha256, uri=uri, version_id=head.version_id, etag=head.etag)


def rehash(reference: Reference, inbox: Path, endpoint: str | None) -> tuple[int, str]:
    """Size and SHA-256 of a registered log as it stands now; one in a bucket is streamed, not kept.

    Raises:
        OSError: a log in the inbox cannot be read.
        LogDamaged: the object that was registered is not there any more.
        Denied, Unavailable: the server refuses, or does not answer.
    """
    place = stands_at(reference, inbox)
    if isinstance(place, Path):
        return hash_file(place)
    return _read(reference, endpoint, None)


def bring(references: Iterable[Reference], inbox: Path, endpoint: str | None, folder: Path) -> dict[str, Path]:
    """A readable path of each registered log, by its path in the version; each byte is compared first.

    Logs in the inbox are read there; those in a bucket are fetched into ``folder``, which needs room for all of them.

    Raises:
        LogDamaged: a log is gone, was replaced, or has other bytes than when it was registered.
        InputError: a log in the inbox cannot be read, or changes meanwhile.
        Denied, Unavailable: the server refuses, or does not answer.
    """
    paths: dict[str, Path] = {}
    here: dict[str, tuple[Reference, Path]] = {}
    for reference in references:
        place = stands_at(reference, inbox)
        if isinstance(place, Path):
            here[reference.path] = (reference, place)
            paths[reference.path] = place
        else:
            paths[reference.path] = _fetch(reference, endpoint, folder / reference.path)
    found = hash_files({name: path for name, (_, path) in here.items() if path.is_file()})
    for name, (reference, path) in here.items():
        _compare(reference, str(path), found.get(name, (0, "nothing")))
    return paths


def _fetch(reference: Reference, endpoint: str | None, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    _compare(reference, reference.uri, _read(reference, endpoint, target))
    return target


def _compare(reference: Reference, where: str, found: tuple[int, str]) -> None:
    if found != (reference.bytes, reference.sha256):
        raise _damaged(reference, where, f"{found[0]} bytes, {found[1][:12]}")


def _damaged(reference: Reference, where: str, found: str) -> LogDamaged:
    return LogDamaged(
        f"{where} was registered with {reference.bytes} bytes, SHA-256 {reference.sha256[:12]}; found {found}.",
        next_step="put the recorded file back, or ingest the drive again",
    )


def _at(uri: str, endpoint: str | None) -> tuple[Bucket, str]:
    name, _, key = uri.removeprefix(S3).partition("/")
    return Bucket(f"{S3}{name}", endpoint), key


def _read(reference: Reference, endpoint: str | None, target: Path | None) -> tuple[int, str]:
    """Size and SHA-256 of the object that was registered, if the server still has that one."""
    bucket, key = _at(reference.uri, endpoint)
    head = bucket.head(key, reference.version_id)
    version = f" in version {reference.version_id}" if reference.version_id else ""
    if head is None:
        raise _damaged(reference, reference.uri, f"nothing{version}")
    if (head.size, head.etag) != (reference.bytes, reference.etag):
        raise _damaged(reference, reference.uri, f"{head.size} bytes, ETag {head.etag} where it was {reference.etag}")
    try:
        return _stream(bucket, head, target)
    except (Conflict, NotFound) as error:
        raise _damaged(reference, reference.uri, f"that it was replaced or removed{version} while it was read") from error


def _stream(bucket: Bucket, head: Head, target: Path | None) -> tuple[int, str]:
    """Size and SHA-256 of exactly this object, read once in parallel ranges and written to ``target``, if one is given."""
    sha256, size = hashlib.sha256(), 0
    with closing(read_ahead(partial(bucket.range, head), head.size, PART_BYTES, threads=THREADS)) as parts:
        if target is None:
            for part in parts:
                sha256.update(part)
                size += len(part)
        else:
            try:
                with target.open("xb") as file:
                    for part in parts:
                        sha256.update(part)
                        size += file.write(part)
            except OSError as error:
                raise StoreError(
                    f"{target} cannot be written: {error.strerror}.", next_step="check the disk of the lake's scratch folder"
                ) from None
    return size, sha256.hexdigest()
