"""Moving files to and from an S3, many at once and large ones in parts. Belongs here: parts, ranges, the pool.

Never here: what a call's errors mean (see s3_calls), which files go where.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from botocore.exceptions import ClientError  # type: ignore[import-untyped]  # it has no types

from drivelake.errors import StoreError, Unavailable
from drivelake.versions.s3.calls import THREADS, S3Calls, code_of

__all__ = ["PART_BYTES", "Place", "fetch_all", "send_all"]

T = TypeVar("T")
U = TypeVar("U")

PART_BYTES = 8 << 20  # THREADS of them are in memory at most
MOST_PARTS = 10_000  # of one object on S3; larger parts are taken for what would need more
ATTEMPTS = 3  # of a whole upload whose parts the server forgot
TOTAL = re.compile(r"bytes (\d+)-(\d+)/(\d+)")


@dataclass(frozen=True)
class Place:
    """One object, or one version of it.

    Attributes:
        calls: to its server.
        at: the arguments ``Bucket`` and ``Key``, and ``VersionId`` for an older version to be read.
        uri: for messages.
        part_bytes: what is larger moves in parts.
    """

    calls: S3Calls
    at: Mapping[str, object]
    uri: str
    part_bytes: int = PART_BYTES

    def range(self, start: int, stop: int, etag: str | None = None) -> tuple[bytes, int, str]:
        """Bytes ``start`` to ``stop`` (less where the object ends before), the object's size, and its ETag.

        Raises:
            Conflict: the object is no longer the one with this ETag.
        """
        condition = {"IfMatch": etag} if etag else {}

        def once() -> tuple[bytes, int, str]:
            try:
                answer = self.calls.client.get_object(**self.at, **condition, Range=f"bytes={start}-{stop - 1}")
            except ClientError as error:
                if code_of(error)[1] != 416 or start > 0:
                    raise
                answer = self.calls.client.get_object(**self.at, **condition)  # only what is empty has no first byte
            found = TOTAL.fullmatch(answer.get("ContentRange", ""))
            size = int(found[3]) if found else answer["ContentLength"]
            return answer["Body"].read(), size, answer["ETag"]

        data, size, found_etag = self.calls.call("GET", self.uri, once)
        if len(data) != min(stop, size) - start:
            raise StoreError(
                f"GET of {self.uri} gave {len(data)} bytes from {start}; expected {min(stop, size) - start} of {size}.",
                next_step="the server does not serve ranges as S3 does; use another",
            )
        return data, size, found_etag


def parts_of(size: int, part_bytes: int) -> Iterator[tuple[int, int]]:
    """Start and stop of each part, at most ``MOST_PARTS`` of them."""
    step = max(part_bytes, -(-size // MOST_PARTS))
    return ((start, min(start + step, size)) for start in range(0, size, step))


def each(pool: ThreadPoolExecutor, work: Callable[[T], U], items: Iterable[T]) -> list[U]:
    """The results, in order; the first error ends it, and what has not begun is not begun any more."""
    waiting = [pool.submit(work, item) for item in items]
    try:
        return [one.result() for one in waiting]
    finally:
        for one in waiting:
            one.cancel()


# --- up


def send_all(files: Mapping[Path, Place]) -> None:
    """Write each file to its place."""
    with ThreadPoolExecutor(THREADS) as pool:
        sized = [(path, place, _size(path)) for path, place in files.items()]
        each(pool, _send, [(path, place) for path, place, size in sized if size <= place.part_bytes])
        for path, place, size in sized:
            if size > place.part_bytes:
                _send_in_parts(pool, path, place, size)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise _unusable(path, "read", error) from None


def _send(pair: tuple[Path, Place]) -> None:
    path, place = pair
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _unusable(path, "read", error) from None
    place.calls.call("PUT", place.uri, lambda: place.calls.client.put_object(**place.at, Body=data))


def _slice(path: Path, start: int, stop: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(start)
            data = file.read(stop - start)
    except OSError as error:
        raise _unusable(path, "read", error) from None
    if len(data) != stop - start:
        raise StoreError(f"{path} became shorter than {stop} bytes while it was sent.", next_step="run again once it is whole")
    return data


def _send_in_parts(pool: ThreadPoolExecutor, path: Path, place: Place, size: int) -> None:
    for _ in range(ATTEMPTS):
        if _one_upload(pool, path, place, size):
            return
    raise StoreError(f"{place.uri}: the server forgot {ATTEMPTS} uploads.", next_step="look at what aborts uploads there")


def _one_upload(pool: ThreadPoolExecutor, path: Path, place: Place, size: int) -> bool:
    """False when the server does not know the upload any more."""
    client, call = place.calls.client, place.calls.call
    this = {**place.at, "UploadId": call("POST", place.uri, lambda: client.create_multipart_upload(**place.at))["UploadId"]}

    def one(part: tuple[int, tuple[int, int]]) -> dict[str, object]:
        number, (start, stop) = part
        data = _slice(path, start, stop)
        answer = call("PUT", place.uri, lambda: client.upload_part(**this, PartNumber=number, Body=data))
        return {"PartNumber": number, "ETag": answer["ETag"]}

    try:
        parts = each(pool, one, enumerate(parts_of(size, place.part_bytes), start=1))
        return call("POST", place.uri, lambda: _complete(place, this, parts))
    except BaseException as error:
        # its parts cost money until a rule of the bucket removes them; a server that is away cannot be told
        if not isinstance(error, Unavailable):
            call("DELETE", place.uri, lambda: client.abort_multipart_upload(**this))
        raise


def _complete(place: Place, this: Mapping[str, object], parts: list[dict[str, object]]) -> bool:
    """False when the upload is unknown: it was completed and the answer lost, or somebody aborted it. Which, is not asked."""
    try:
        place.calls.client.complete_multipart_upload(**this, MultipartUpload={"Parts": parts})
    except ClientError as error:
        if code_of(error)[0] == "NoSuchUpload":
            return False
        raise
    return True


# --- down


@dataclass
class _Fetch:
    """One file on its way down: written beside its path, and renamed when it is whole."""

    path: Path
    place: Place
    fresh: Path
    size: int = 0
    etag: str = ""
    begun: bool = False

    def first(self) -> None:
        """The first part, which tells how many more there are."""
        data, self.size, self.etag = self.place.range(0, self.place.part_bytes)
        self.write(data, 0)
        if len(data) == self.size:
            self.whole()

    def rest(self, part: tuple[int, int]) -> None:
        """Another part of the same object."""
        self.write(self.place.range(*part, etag=self.etag)[0], part[0])

    def parts(self) -> list[tuple[int, int]]:
        """What is still to be fetched after the first part."""
        step = self.place.part_bytes
        return [(start, min(start + step, self.size)) for start in range(step, self.size, step)]

    def write(self, data: bytes, at: int) -> None:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.fresh, os.O_WRONLY | os.O_CREAT, 0o644)
            self.begun = True
            try:
                done = 0
                while done < len(data):
                    done += os.pwrite(descriptor, memoryview(data)[done:], at + done)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise _unusable(self.fresh, "written", error) from None

    def whole(self) -> None:
        try:
            found = self.fresh.stat().st_size
            if found != self.size:
                raise StoreError(
                    f"{self.fresh} has {found} bytes of the {self.size} of {self.place.uri}.", next_step="check the disk"
                )
            self.fresh.replace(self.path)
        except OSError as error:
            raise _unusable(self.path, "written", error) from None


def fetch_all(files: Mapping[Path, Place]) -> None:
    """Fetch each place to its file."""
    fetches = [_Fetch(path, place, path.with_name(f".{secrets.token_hex(8)}.part")) for path, place in files.items()]
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            each(pool, _Fetch.first, fetches)
            for fetch in fetches:
                if parts := fetch.parts():
                    each(pool, fetch.rest, parts)
                    fetch.whole()
    finally:
        for fetch in fetches:
            if fetch.begun:
                fetch.fresh.unlink(missing_ok=True)


def _unusable(path: Path, done: str, error: OSError) -> StoreError:
    return StoreError(f"{path} cannot be {done}: {error.strerror}.", next_step="check its rights and the disk")
