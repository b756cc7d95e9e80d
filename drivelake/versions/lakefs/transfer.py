"""Bytes to and from a lakeFS repository, many files at once. Belongs here: hashing, sending, fetching, comparing what arrived.

Never here: which files a version has, commits, what the cache keeps.

Where the server signs addresses the bytes go straight to its storage: a file of up to one part in one request, a larger one in
parts at once. Else, and for what is too small to be worth three requests, they go through the server. Each object carries the
SHA-256 of its bytes as user metadata: what comes back is compared with it, and what stands there already is not sent again.

lakeFS takes two objects for the same if size, ETag, user metadata and content type agree, and the ETag of a file sent in parts
depends on their size. So parts have one size (``PART_BYTES``), for everyone who writes to a repository.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar

import urllib3
from lakefs_sdk.models.complete_presign_multipart_upload import CompletePresignMultipartUpload
from lakefs_sdk.models.object_stats import ObjectStats
from lakefs_sdk.models.presign_multipart_upload import PresignMultipartUpload
from lakefs_sdk.models.staging_location import StagingLocation
from lakefs_sdk.models.staging_metadata import StagingMetadata
from lakefs_sdk.models.upload_part import UploadPart

from drivelake.errors import Denied, NotFound, StoreError
from drivelake.versions.durable import sync_one
from drivelake.versions.lakefs.calls import THREADS, Server

__all__ = ["DIRECT_BYTES", "PART_BYTES", "SHA256", "Fetch", "Hashed", "Transfer"]

T = TypeVar("T")

PART_BYTES = 16 << 20
PARTS_AT_ONCE = 8  # of one file; they are in memory then
DIRECT_BYTES = 64 << 10
CHUNK_BYTES = 1 << 20
SHA256 = "sha256"  # the key in an object's user metadata
CONTENT_TYPE = "application/octet-stream"
WELL_KNOWN_MD5 = 32
MISSING = "restore it from a copy of the store, or publish the same version again"


@dataclass(frozen=True)
class Hashed:
    """Bytes to be sent: a file, or a few bytes in memory, with what they hash to."""

    source: Path | bytes
    size: int
    sha256: str
    md5: str

    @classmethod
    def of(cls, source: Path | bytes) -> Hashed:
        """Read and hash. Raises OSError when the file cannot be read."""
        sha256, md5, size = hashlib.sha256(), hashlib.md5(usedforsecurity=False), 0
        for block in _blocks(source):
            sha256.update(block)
            md5.update(block)
            size += len(block)
        return cls(source, size, sha256.hexdigest(), md5.hexdigest())

    @contextmanager
    def opened(self) -> Iterator[bytes | IO[bytes]]:
        """The whole as the body of a request."""
        if isinstance(self.source, bytes):
            yield self.source
            return
        with self.source.open("rb") as file:
            yield file

    def part(self, start: int, size: int) -> bytes:
        """Some of the bytes."""
        if isinstance(self.source, bytes):
            return self.source[start : start + size]
        with self.source.open("rb") as file:
            file.seek(start)
            return file.read(size)


@dataclass(frozen=True)
class Fetch:
    """An object to be fetched: its name for messages, size, expected digest, and where its bytes may come from."""

    path: str
    commit: str
    size: int
    sha256: str | None
    checksum: str
    target: Path


class Transfer:
    """Sends to branches of one repository, and fetches from its commits.

    Args:
        server: whose repository.
        part_bytes: what is larger moves in parts of this size.
        direct_bytes: what is no larger goes through the server in any case.
    """

    def __init__(self, server: Server, *, part_bytes: int = PART_BYTES, direct_bytes: int = DIRECT_BYTES) -> None:
        self._server = server
        self._part_bytes = part_bytes
        self._direct_bytes = direct_bytes

    # --- sending

    def send(self, branch: str, objects: Mapping[str, Hashed]) -> None:
        """Stage objects on a branch by path, many at once; each is there whole or not at all.

        Raises:
            StoreError: the server refused, or stored other bytes; some of the other objects may be staged.
        """
        storage = self._server.storage
        large = {
            path
            for path, what in objects.items()
            if storage.pre_sign_support and storage.pre_sign_multipart_upload and what.size > self._part_bytes
        }
        with _pool(THREADS) as pool:
            _all(pool.submit(self._send_one, branch, path, what) for path, what in objects.items() if path not in large)
        for path in sorted(large):  # one after the other: the parts of each fill the line, and the memory
            self._retried(self._in_parts, branch, path, objects[path])

    def _send_one(self, branch: str, path: str, what: Hashed) -> None:
        if what.size <= self._direct_bytes or not self._server.storage.pre_sign_support:
            self._through_server(branch, path, what)
        else:
            self._retried(self._signed, branch, path, what)

    def _retried(self, send: Callable[[str, str, Hashed], None], branch: str, path: str, what: Hashed) -> None:
        try:
            send(branch, path, what)
        except Denied:
            # The signature ran out while the file waited for its turn, or for the network: once more with a new one.
            send(branch, path, what)

    def _through_server(self, branch: str, path: str, what: Hashed) -> None:
        server, url = self._server, self._server.object_url("branches", branch, path)
        headers = {
            **server.authority,
            "Content-Type": CONTENT_TYPE,
            "Content-Length": str(what.size),
            f"X-Lakefs-Meta-{SHA256}": what.sha256,
        }

        def once() -> ObjectStats:
            with what.opened() as body:
                return ObjectStats.from_json(server.request("POST", url, body=body, headers=headers).data.decode())

        self._compare(path, server.call(f"UPLOAD {path}", once), what, what.md5)

    def _signed(self, branch: str, path: str, what: Hashed) -> None:
        server = self._server
        place: StagingLocation = server.call(
            f"ADDRESS for {path}",
            lambda: server.sdk.staging_api.get_physical_address(server.repository, branch, path, presign=True, **server.limits),
        )
        etag = self._put(path, str(place.presigned_url), what, {"Content-Type": CONTENT_TYPE})
        wanted = StagingMetadata(
            staging=place,
            checksum=etag,
            size_bytes=what.size,
            user_metadata={SHA256: what.sha256},
            content_type=CONTENT_TYPE,
            mtime=None,
        )
        made = server.call(
            f"LINK {path}",
            lambda: server.sdk.staging_api.link_physical_address(server.repository, branch, path, wanted, **server.limits),
            lost=lambda: self._staged(branch, path, what),
        )
        self._compare(path, made, what, etag)

    def _in_parts(self, branch: str, path: str, what: Hashed) -> None:
        server, api = self._server, self._server.sdk.experimental_api
        starts = range(0, what.size, self._part_bytes)
        upload: PresignMultipartUpload = server.call(
            f"PARTS for {path}",
            lambda: api.create_presign_multipart_upload(server.repository, branch, path, parts=len(starts), **server.limits),
        )
        urls = upload.presigned_urls or []
        if len(urls) != len(starts):
            raise StoreError(f"{server.url} signed {len(urls)} addresses for {len(starts)} parts.", next_step="update the server")

        def one(number: int) -> UploadPart:
            part = Hashed.of(what.part(starts[number], self._part_bytes))
            return UploadPart(part_number=number + 1, etag=self._put(f"{path}, part {number + 1}", str(urls[number]), part, {}))

        with _pool(PARTS_AT_ONCE) as pool:
            parts = _all(pool.submit(one, number) for number in range(len(starts)))
        wanted = CompletePresignMultipartUpload(
            physical_address=upload.physical_address,
            parts=parts,
            user_metadata={SHA256: what.sha256},
            content_type=CONTENT_TYPE,
        )
        made = server.call(
            f"COMPLETE {path}",
            lambda: api.complete_presign_multipart_upload(
                server.repository, branch, upload.upload_id, path, wanted, **server.limits
            ),
            lost=lambda: self._staged(branch, path, what),
        )
        self._compare(path, made, what, None)

    def _put(self, name: str, url: str, what: Hashed, headers: Mapping[str, str]) -> str:
        """Send bytes to a signed address and give the ETag that the storage made of them."""
        kind = {"x-ms-blob-type": "BlockBlob"} if self._server.storage.blockstore_type == "azure" else {}
        every = {**headers, **kind, "Content-Length": str(what.size)}

        def once() -> urllib3.BaseHTTPResponse:
            with what.opened() as body:
                return self._server.request("PUT", url, body=body, headers=every)

        answer = self._server.call(f"PUT {name}", once, whom=f"the storage behind {self._server.url}")
        etag = answer.headers.get("ETag", "").strip('"')
        if _is_md5(etag) and not _encrypted(answer) and etag != what.md5:
            raise StoreError(f"{name} arrived with MD5 {etag}, expected {what.md5}.", next_step="run again; check the network")
        return etag

    def _staged(self, branch: str, path: str, what: Hashed) -> ObjectStats | None:
        """What the branch holds at a path, if it is these bytes."""
        server = self._server
        with suppress(NotFound):
            found = server.call(
                f"STAT {path}",
                lambda: server.sdk.objects_api.stat_object(server.repository, branch, path, user_metadata=True, **server.limits),
            )
            if found.size_bytes == what.size and (found.metadata or {}).get(SHA256) == what.sha256:
                return found
        return None

    def _compare(self, path: str, made: ObjectStats, what: Hashed, etag: str | None) -> None:
        checksum = str(made.checksum).strip('"')
        other = etag is not None and _is_md5(etag) and _is_md5(checksum) and checksum != etag
        if made.size_bytes != what.size or other:
            raise StoreError(
                f"{path} was stored with {made.size_bytes} bytes and checksum {checksum}, expected {what.size} and {etag}.",
                next_step="run again; check that nobody writes into the folder that was given away",
            )

    # --- fetching

    def fetch(self, wanted: Iterable[Fetch]) -> None:
        """Fetch objects to files, many at once, large ones in ranges. A file is there whole, compared and read-only, or not.

        Raises:
            StoreError: an object is missing or came back with other bytes, or the disk refused.
        """
        small: list[Fetch] = []
        large: list[Fetch] = []
        for one in wanted:
            (large if one.size > self._part_bytes else small).append(one)
        with _pool(THREADS) as pool:
            _all(pool.submit(self._fetch_one, one) for one in small)
        for one in large:
            self._fetch_one(one)

    def _fetch_one(self, one: Fetch) -> None:
        try:
            one.target.parent.mkdir(parents=True, exist_ok=True)
            self._fetch_to(one, one.target.with_name(f".{secrets.token_hex(8)}.tmp"))
        except NotFound as gone:
            raise StoreError(f"Object {one.path} at {one.commit[:12]} is missing: {gone.message}", next_step=MISSING) from gone
        except OSError as error:
            raise StoreError(
                f"{one.target} could not be written: {error}.", next_step="free disk space or set the rights"
            ) from error

    def _fetch_to(self, one: Fetch, fresh: Path) -> None:
        try:
            with fresh.open("xb") as file:
                self._write_ranges(one, file.fileno())
            self._compare_file(one, fresh)
            fresh.chmod(0o444)
            sync_one(fresh)  # a name in the cache is relied on after a power cut
            fresh.replace(one.target)
        finally:
            fresh.unlink(missing_ok=True)

    def _write_ranges(self, one: Fetch, descriptor: int) -> None:
        starts = range(0, one.size, self._part_bytes)
        if len(starts) == 1:
            _write_all(descriptor, self._get(one, 0, one.size), 0)
            return
        with _pool(PARTS_AT_ONCE) as pool:

            def get(start: int) -> None:
                _write_all(descriptor, self._get(one, start, min(start + self._part_bytes, one.size)), start)

            _all(pool.submit(get, start) for start in starts)

    def _get(self, one: Fetch, start: int, end: int) -> bytes:
        """Some bytes of an object, from the storage where the server signs, else through the server."""
        server = self._server
        signed = server.storage.pre_sign_support
        part = {"Range": f"bytes={start}-{end - 1}"} if end - start < one.size else {}

        def once() -> bytes:
            if signed:  # anew for each: a signature is good for minutes, and asking costs less than a part
                return server.request("GET", self.signed_address(one.commit, one.path), headers=part).data
            url = server.object_url("refs", one.commit, one.path)
            return server.request("GET", url, headers={**part, **server.authority}).data

        data = server.call(f"GET {one.path}", once, whom=f"the storage behind {server.url}" if signed else "")
        if len(data) != end - start:
            raise StoreError(
                f"{one.path} at {one.commit[:12]} gave {len(data)} bytes from {start} on, expected {end - start}.",
                next_step=MISSING,
            )
        return data

    def signed_address(self, commit: str, path: str) -> str:
        """Where the object's bytes can be read without credentials, for minutes."""
        server = self._server
        found = server.call(
            f"STAT {path}",
            lambda: server.sdk.objects_api.stat_object(server.repository, commit, path, presign=True, **server.limits),
        )
        return str(found.physical_address)

    def _compare_file(self, one: Fetch, file: Path) -> None:
        found = Hashed.of(file)
        wanted, got = (one.sha256, found.sha256) if one.sha256 else (one.checksum, found.md5)
        # An object that this store did not write may have no SHA-256, and an ETag that is no MD5: then the size has to do.
        if wanted != got and (one.sha256 or _is_md5(one.checksum)):
            raise StoreError(
                f"Object {one.path} at {one.commit[:12]} came back with digest {got}, expected {wanted}.", next_step=MISSING
            )

    def read(self, commit: str, path: str) -> bytes:
        """A small object's bytes, through the server, compared with their checksum. Raises NotFound."""
        server = self._server
        url = server.object_url("refs", commit, path)
        answer = server.call(f"READ {path}", lambda: server.request("GET", url, headers=server.authority))
        etag, found = answer.headers.get("ETag", "").strip('"'), hashlib.md5(answer.data, usedforsecurity=False).hexdigest()
        if _is_md5(etag) and etag != found:
            raise StoreError(f"{path} at {commit[:12]} came back with MD5 {found}, expected {etag}.", next_step=MISSING)
        return bytes(answer.data)


def _blocks(source: Path | bytes) -> Iterator[bytes]:
    if isinstance(source, bytes):
        yield source
        return
    with source.open("rb") as file:
        while block := file.read(CHUNK_BYTES):
            yield block


def _is_md5(etag: str) -> bool:
    return len(etag) == WELL_KNOWN_MD5 and all(digit in "0123456789abcdef" for digit in etag)


def _encrypted(answer: urllib3.BaseHTTPResponse) -> bool:
    """Whether the storage encrypts with a key of its own service: the ETag is no MD5 then."""
    return "kms" in answer.headers.get("x-amz-server-side-encryption", "")


def _write_all(descriptor: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view, offset = view[written:], offset + written


@contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor]:
    """A pool that drops what it has not begun when something fails."""
    pool = ThreadPoolExecutor(threads)
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def _all(futures: Iterable[Future[T]]) -> list[T]:
    return [future.result() for future in list(futures)]
