"""A bucket of an S3, below a prefix. Belongs here: reading, writing, conditional writes, listing, transfers of many files.

Never here: what the keys mean, retries and errors (see s3_calls), git, DVC, lakeFS.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from botocore.exceptions import ClientError  # type: ignore[import-untyped]  # it has no types

from drivelake.errors import Denied, NotFound, StoreError, Unavailable
from drivelake.versions.s3.calls import DENIED_CODES, Answer, S3Calls, code_of
from drivelake.versions.s3.transfer import PART_BYTES, Place, fetch_all, send_all

__all__ = ["Bucket", "Head"]

DELETE_AT_ONCE = 1000  # DeleteObjects takes no more


class Head(NamedTuple):
    """One object as the server describes it.

    Attributes:
        key: relative to the bucket's prefix.
        size: in bytes.
        etag: as the server writes it, with its quotes; what conditional writes compare.
        version_id: None where the bucket keeps no versions, and in listings.
        modified: when it was written, by the server's clock.
    """

    key: str
    size: int
    etag: str
    version_id: str | None
    modified: datetime


class Bucket:
    """Objects below ``s3://bucket/prefix``; keys are given and returned relative to the prefix.

    Safe between threads and after fork. Every method raises Denied, Unavailable or StoreError as ``S3Calls.call`` says, and
    may be called again after Unavailable.
    """

    def __init__(
        self, url: str, endpoint: str | None = None, *, patience_s: float | None = None, part_bytes: int = PART_BYTES
    ) -> None:
        """Open nothing yet: the first call does.

        Args:
            url: ``s3://bucket`` or ``s3://bucket/prefix``.
            endpoint: address of an S3 other than that of AWS.
            patience_s: how long a call is tried again; None: ``s3_calls.PATIENCE_S``.
            part_bytes: what is larger moves in parts of this size, at once. AWS takes none below 5 MiB on the way up.

        Raises:
            StoreError: ``url`` is none of S3.
        """
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc:
            raise StoreError(f"{url!r} is no address on S3: expected s3://bucket/prefix.", next_step="correct store.bucket")
        self.url = url.rstrip("/")
        self.endpoint = endpoint
        self.name = parts.netloc
        self.prefix = parts.path.strip("/")
        self.part_bytes = part_bytes
        self._calls = S3Calls(endpoint, patience_s)

    def uri(self, key: str) -> str:
        """``s3://bucket/prefix/key``."""
        return f"s3://{self.name}/{self._full(key)}"

    def _full(self, key: str) -> str:
        return f"{self.prefix}/{key}" if self.prefix else key

    def _at(self, key: str) -> dict[str, object]:
        return {"Bucket": self.name, "Key": self._full(key)}

    def _place(self, key: str) -> Place:
        return Place(self._calls, self._at(key), self.uri(key), self.part_bytes)

    # --- reading

    def get(self, key: str) -> bytes:
        """An object's bytes. Raises NotFound when it is not there."""
        return self._read(key)[0]

    def get_with_etag(self, key: str) -> tuple[bytes, str] | None:
        """An object's bytes and ETag, of one moment; None when it is not there."""
        try:
            return self._read(key)
        except NotFound as missing:
            if code_of(missing.__cause__)[0] == "NoSuchBucket":
                raise
            return None

    def _read(self, key: str) -> tuple[bytes, str]:
        def once() -> tuple[bytes, str]:
            answer = self._calls.client.get_object(**self._at(key))
            return answer["Body"].read(), answer["ETag"]

        return self._calls.call("GET", self.uri(key), once)

    def head(self, key: str, version_id: str | None = None) -> Head | None:
        """What the server says about an object, or about one version of it; None when it is not there.

        Without the right to list the bucket AWS answers 403 for what is not there: that is Denied.
        """
        pinned = {"VersionId": version_id} if version_id else {}
        try:
            answer = self._calls.call("HEAD", self.uri(key), lambda: self._calls.client.head_object(**self._at(key), **pinned))
        except NotFound:
            return None
        return Head(key, answer["ContentLength"], answer["ETag"], answer.get("VersionId"), answer["LastModified"])

    def range(self, head: Head, start: int, stop: int) -> bytes:
        """Bytes of exactly the object that ``head`` described: by its ETag, and by its version where there are versions.

        Args:
            head: as ``head`` gave it, now or long ago.
            start: first byte.
            stop: one after the last byte, at most the object's size.

        Raises:
            NotFound: the object, or this version of it, is gone.
            Conflict: another object stands there now.
        """
        pinned = {"VersionId": head.version_id} if head.version_id else {}
        place = Place(self._calls, {**self._at(head.key), **pinned}, self.uri(head.key))
        return place.range(start, stop, head.etag)[0]

    def now(self) -> datetime:
        """The server's clock, to a second."""
        answer = self._calls.call("HEAD", self.url, lambda: self._calls.client.head_bucket(Bucket=self.name))
        return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])

    # --- writing

    def put(self, key: str, data: bytes) -> None:
        """Write an object, whatever stood there; for keys that name their content."""
        self._calls.call("PUT", self.uri(key), lambda: self._calls.client.put_object(**self._at(key), Body=data))

    def put_if(self, key: str, data: bytes, expected: str | None) -> bool:
        """Write an object if it is as expected. Of any number of callers that expect the same, one is told True.

        Args:
            key: where.
            data: what; different callers' bytes should differ where it matters who wrote them (a lock names its holder).
            expected: the ETag that stands there now; None: nothing stands there.

        Returns:
            False when it was otherwise, and nothing was written. When an answer was lost and the second attempt is refused,
            what stands there decides: True if it is ``data``. If another writer replaced it in between, that is False.
        """
        condition = {"IfNoneMatch": "*"} if expected is None else {"IfMatch": expected}
        attempts = 0

        def once() -> bool:
            nonlocal attempts
            attempts += 1
            try:
                self._calls.client.put_object(**self._at(key), Body=data, **condition)
            except ClientError as error:
                if _otherwise(error, expected):
                    return False
                raise
            return True

        written = self._calls.call("PUT", self.uri(key), once)
        if written or attempts == 1:
            return written
        found = self.get_with_etag(key)
        return found is not None and found[0] == data

    def delete_if(self, key: str, etag: str) -> bool:
        """Remove an object if it is as expected; False when another stands there, True when none does any more.

        The condition is sent and the ETag compared before. A server without conditional deletion (AWS has it since
        September 2025) ignores the condition: then an object that is replaced between the two calls is lost, so use it on
        such a server only for keys that nobody but the holder writes.
        """
        found = self.head(key)
        if found is None:
            return True
        if found.etag != etag:
            return False

        def once() -> bool:
            try:
                self._calls.client.delete_object(**self._at(key), IfMatch=etag)
            except ClientError as error:
                if code_of(error)[1] == 404:
                    return True
                if _otherwise(error, etag):
                    return False
                raise
            return True

        return self._calls.call("DELETE", self.uri(key), once)

    def delete(self, keys: Iterable[str]) -> None:
        """Remove objects; what is gone already is no error.

        Raises:
            StoreError: the server kept one; names the first, and how many. What went before it is gone.
        """
        every = [{"Key": self._full(key)} for key in keys]
        for start in range(0, len(every), DELETE_AT_ONCE):
            self._delete(every[start : start + DELETE_AT_ONCE])

    def _delete(self, some: Sequence[Mapping[str, str]]) -> None:
        asked = {"Bucket": self.name, "Delete": {"Objects": some, "Quiet": True}}
        answer = self._calls.call("DELETE", self.url, lambda: self._calls.client.delete_objects(**asked))
        if errors := answer.get("Errors"):
            first = errors[0]
            kinds = {**dict.fromkeys(DENIED_CODES, Denied), "InternalError": Unavailable}
            raise kinds.get(first["Code"], StoreError)(
                f"{len(errors)} of {len(some)} objects were not removed, first s3://{self.name}/{first['Key']}: "
                f"{first['Code']} {first.get('Message', '')}.",
                next_step="check the rights to delete, and run again",
            )

    def require_conditions(self) -> None:
        """Write a key twice as if it were new, and see that the server refuses the second time.

        Some servers ignore the conditions of a write without a word, and two writers would both win.

        Raises:
            StoreError: this server is one of them.
        """
        key = f"condition-{secrets.token_hex(8)}"
        first = self.put_if(key, b"first", None)
        try:
            second = self.put_if(key, b"second", None)
        finally:
            self.delete([key])
        if not first or second:
            raise StoreError(
                f"{self.endpoint or 'S3'} ignores If-None-Match: two writers could both move {self.url}.",
                next_step="use an S3 with conditional writes (AWS, MinIO, Ceph from 2024 on)",
            )

    # --- listing

    def list(self, under: str = "") -> Iterator[Head]:
        """Every object below the folder ``under``, in the order of keys; pages of 1000 are asked for as they are read."""
        for page in self._pages(under):
            for entry in page.get("Contents", ()):
                key = entry["Key"].removeprefix(f"{self.prefix}/" if self.prefix else "")
                yield Head(key, entry["Size"], entry["ETag"], None, entry["LastModified"])

    def names(self, under: str) -> tuple[str, ...]:
        """What stands directly in the folder ``under``, objects and folders alike, sorted, without slashes."""
        folder = self._folder(under)
        found = set()
        for page in self._pages(under, Delimiter="/"):
            found |= {entry["Prefix"].removeprefix(folder).rstrip("/") for entry in page.get("CommonPrefixes", ())}
            found |= {entry["Key"].removeprefix(folder) for entry in page.get("Contents", ())}
        return tuple(sorted(found - {""}))  # the empty one is a folder's own marker, as consoles write it

    def _folder(self, under: str) -> str:
        full = self._full(under.strip("/")).strip("/")
        return f"{full}/" if full else ""

    def _pages(self, under: str, **more: str) -> Iterator[Answer]:
        asked: dict[str, object] = {"Bucket": self.name, "Prefix": self._folder(under), **more}
        where = f"s3://{self.name}/{self._folder(under)}"
        while True:
            page = self._calls.call("LIST", where, lambda: self._calls.client.list_objects_v2(**asked))
            yield page
            if "NextContinuationToken" not in page:
                return
            asked["ContinuationToken"] = page["NextContinuationToken"]

    # --- many files

    def upload(self, files: Mapping[str, Path]) -> None:
        """Write each file to its key, many at once, large ones in parts. An object is there whole or not at all.

        Raises:
            StoreError: a file cannot be read, or the server refused; some of the other objects may be there.
        """
        send_all({path: self._place(key) for key, path in files.items()})

    def download(self, files: Mapping[str, Path]) -> None:
        """Fetch each key to its file, many at once, large ones in ranges. A file is there whole or not at all.

        Sizes are compared, content is the caller's to compare; the files are not synced to the disk.

        Raises:
            NotFound: a key is not there; some of the other files may be.
            Conflict: an object was replaced while it was read.
            StoreError: a file cannot be written.
        """
        fetch_all({path: self._place(key) for key, path in files.items()})


def _otherwise(error: ClientError, expected: str | None) -> bool:
    """Whether the server says that the condition does not hold; a match with what is not there is 404 on AWS."""
    code, status = code_of(error)
    return status == 412 or (status == 404 and code != "NoSuchBucket" and expected is not None)
