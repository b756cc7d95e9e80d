"""Git's objects on a bucket, as git would keep them in a folder. Belongs here: their keys, sending and getting them.

Never here: what they hold, refs, what this machine keeps.

A commit is sent after everything below it. So a commit that is on the bucket has all it reaches there, and one look at it
tells. Nothing of git is ever removed from the bucket.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from drivelake.errors import NotFound, StoreError

if TYPE_CHECKING:
    from drivelake.versions.s3.bucket import Bucket

__all__ = ["FOLDER", "GitBucket", "loose"]

FOLDER = "repo.git"
AT_ONCE = 16
BATCH = 256
# What is known to be there is remembered so as not to send it twice; sending twice is only slow, so this may forget.
REMEMBERED = 200_000

Read = Callable[[str], tuple[str, bytes]]


class GitBucket:
    """The folder ``repo.git/objects`` of a bucket; safe between threads.

    Attributes:
        bucket: the bucket.
        fetched: how many objects came from there so far.
    """

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.fetched = 0
        self._there: set[str] = set()
        self._unsent: dict[str, str] = {}  # kind by id, in the order of writing: an object after those it points at

    @staticmethod
    def key(oid: str) -> str:
        """Where an object stands."""
        return f"{FOLDER}/objects/{oid[:2]}/{oid[2:]}"

    def get(self, oid: str) -> bytes:
        """An object as git keeps it, compressed, after its hash was compared with its name.

        Raises:
            StoreError: missing or damaged; names it.
        """
        try:
            raw = self.bucket.get(self.key(oid))
        except NotFound as error:
            raise _damaged(self.bucket.uri(self.key(oid)), "is missing") from error
        try:
            content = zlib.decompress(raw)
        except zlib.error as error:
            raise _damaged(self.bucket.uri(self.key(oid)), f"cannot be read: {error}") from error
        if hashlib.sha1(content, usedforsecurity=False).hexdigest() != oid:
            raise _damaged(self.bucket.uri(self.key(oid)), "does not hash to its name")
        self.fetched += 1
        return raw

    def get_each(self, oids: Sequence[str]) -> Iterator[tuple[str, bytes]]:
        """``get`` of many at once, in their order."""
        if len(oids) < 2:
            yield from ((oid, self.get(oid)) for oid in oids)
            return
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for start in range(0, len(oids), BATCH):
                some = oids[start : start + BATCH]
                yield from zip(some, pool.map(self.get, some), strict=True)

    def beginning(self, digits: str) -> list[str]:
        """Ids of objects here that begin so; of 7 digits or more."""
        folder = f"{FOLDER}/objects/{digits[:2]}"
        found = (digits[:2] + name for name in self.bucket.names(folder))
        return [oid for oid in found if oid.startswith(digits)]

    def note(self, oid: str, kind: str) -> None:
        """Remember that an object was written on this machine, and is to be sent."""
        if oid not in self._there:
            self._unsent[oid] = kind

    def send(self, read: Read) -> None:
        """Send what was noted: first what commits point at, many at once; then the commits, one after another."""
        # Taken off the list only when it is there: another thread that finds the list empty may rely on it.
        unsent = list(self._unsent.items())
        self.put_each([oid for oid, kind in unsent if kind != "commit"], read)
        for oid, kind in unsent:
            if kind == "commit":
                self.put_each([oid], read)

    def put_each(self, oids: Sequence[str], read: Read) -> None:
        """Send objects, many at once, whether they are there or not."""

        def put(oid: str) -> None:
            self.bucket.put(self.key(oid), loose(*read(oid)))
            self._unsent.pop(oid, None)
            self._remember(oid)

        if len(oids) < 2:
            for oid in oids:
                put(oid)
            return
        with ThreadPoolExecutor(AT_ONCE) as pool:
            for _ in pool.map(put, oids):
                pass

    def require(self, commit: str) -> None:
        """See that a commit is here, and so everything below it.

        Raises:
            StoreError: it is not.
        """
        if commit in self._there:
            return
        if self.bucket.head(self.key(commit)) is None:
            raise StoreError(
                f"Commit {commit[:12]} is on this machine alone: who made it was stopped before it was sent to "
                f"{self.bucket.url}.",
                next_step="publish again, or send it with push",
            )
        self._remember(commit)

    def sizes(self) -> dict[str, int]:
        """Size of every object that is here, compressed, by id; the whole folder is listed."""
        return {head.key[-41:].replace("/", ""): head.size for head in self.bucket.list(f"{FOLDER}/objects")}

    def _remember(self, oid: str) -> None:
        if len(self._there) >= REMEMBERED:
            self._there.clear()
        self._there.add(oid)


def loose(kind: str, content: bytes) -> bytes:
    """An object as git keeps it in a file of its own."""
    return zlib.compress(f"{kind} {len(content)}\0".encode() + content)


def _damaged(uri: str, what: str) -> StoreError:
    return StoreError(
        f"git object {uri} {what}.", next_step="push from a machine that has it, or restore that object from a copy"
    )
