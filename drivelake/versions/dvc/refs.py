"""Refs: names that point at commits and move by compare and swap. Belongs here: reading, listing and moving them.

Never here: what a name may be, what a commit holds, when a ref may move.

On one machine they are those of the git repository. Beside a bucket the bucket's are the truth, objects as git writes its ref
files (40 hex digits and a newline) moved by conditional writes; the repository mirrors them, so that stock git reads it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import pygit2

from drivelake.errors import StoreError
from drivelake.versions.dvc.gitbucket import FOLDER
from drivelake.versions.locks import owning_lock_file
from drivelake.versions.store import MAIN, PUBLISH

if TYPE_CHECKING:
    from drivelake.versions.s3.bucket import Bucket

__all__ = ["HEADS", "TAGS", "BucketRefs", "LocalRefs", "Refs"]

HEADS, TAGS = "refs/heads/", "refs/tags/"
LOCK_WAIT_S = 5.0
AT_ONCE = 16
NOTHING = ""  # no value of a ref
VALUE = re.compile(rb"([0-9a-f]{40})\n")


class Refs(Protocol):
    """Refs by their full names."""

    def target(self, ref: str) -> str | None:
        """The commit that a ref points at; None when there is no such ref."""

    def names(self) -> list[str]:
        """Full names of all refs, sorted."""

    def below(self, under: str) -> Mapping[str, str]:
        """The commit of each ref whose name begins with ``under``, by the rest of its name, sorted. ``main`` is read last.

        So whoever merges into main and then deletes a branch is seen in one of the two.
        """

    def move(self, ref: str, old: str | None, new: str | None) -> bool:
        """Point ``ref`` at ``new`` if it points at ``old`` (None: no such ref). False when it points elsewhere."""

    def unheard(self, ref: str, new: str | None) -> bool:
        """Whether this object tried to point ``ref`` at ``new`` and never heard what came of it; forgets that it did."""


class LocalRefs:
    """The refs of a git repository.

    Args:
        path: the repository.
        locks: where the record of the lock in use is kept.
        peel: gives the commit behind an id: an annotated tag made with git points at one.
    """

    def __init__(self, path: Path, locks: Path, peel: Callable[[str], str]) -> None:
        self._path = path
        self._locks = locks
        self._peel = peel
        self._repository = pygit2.Repository(str(path))

    def target(self, ref: str) -> str | None:
        """See Refs."""
        try:
            found = self._repository.references.get(ref)
            oid = None if found is None else str(found.resolve().target)
        except pygit2.InvalidSpecError:
            return None
        except (pygit2.GitError, KeyError) as error:
            raise StoreError(
                f"git ref {self._path / ref} cannot be read: {error}.", next_step="set it with git update-ref"
            ) from error
        return None if oid is None else self._peel(oid)

    def names(self) -> list[str]:
        """See Refs."""
        try:
            return sorted(self._repository.references)
        except pygit2.GitError as error:
            raise StoreError(f"The refs of {self._path} cannot be listed: {error}.", next_step="look with git fsck") from error

    def below(self, under: str) -> Mapping[str, str]:
        """See Refs."""
        ours = [name for name in self.names() if name.startswith(under)]
        found = {name: self.target(name) for name in sorted(ours, key=lambda name: name == HEADS + MAIN)}
        return {name.removeprefix(under): oid for name, oid in sorted(found.items()) if oid is not None}

    def move(self, ref: str, old: str | None, new: str | None) -> bool:
        """See Refs.

        By libgit2's ref transaction rather than ``git update-ref NEW OLD``. Both take ``<ref>.lock``, so stock git may work
        in the repository at the same time, and both leave that file behind when killed in between, which
        ``owning_lock_file`` heals. But libgit2 also syncs the ref's folder, and starts no process.
        """
        return self._change(ref, new, lambda: self.target(ref) == old)

    def mirror(self, ref: str, new: str | None) -> None:
        """Point ``ref`` at ``new``, whatever it points at."""
        found = self._repository.references.get(ref)
        if (None if found is None else str(found.target)) != new:
            self._change(ref, new, lambda: True)

    def unheard(self, ref: str, new: str | None) -> bool:  # noqa: ARG002 - see Refs
        """See Refs; here every answer is heard."""
        return False

    def _change(self, ref: str, new: str | None, still: Callable[[], bool]) -> bool:
        lock_file = self._path / f"{ref}.lock"
        try:
            with owning_lock_file(self._locks / "refs", lock_file), self._repository.transaction() as change:
                _take(change, ref, lock_file)
                if not still():
                    return False
                if new is not None:
                    change.set_target(ref, new)
                elif self._repository.references.get(ref) is not None:
                    change.remove(ref)
        except (pygit2.GitError, OSError) as error:
            raise StoreError(
                f"git ref {self._path / ref} cannot be moved: {error}.", next_step="check the disk's space and rights"
            ) from error
        return True


class BucketRefs:
    """The refs on a bucket, mirrored by ``local``; branches of publishers come and go and are not mirrored."""

    def __init__(self, bucket: Bucket, local: LocalRefs) -> None:
        self._bucket = bucket
        self._local = local
        self._read: dict[str, tuple[str, str]] = {}  # ETag and value of each ref as last listed
        self._seen: dict[str, tuple[str | None, str | None]] = {}  # the same, as last asked for: what the next move expects
        self._unheard: dict[str, str | None] = {}  # None: it was to be removed

    def _key(self, ref: str) -> str:
        return f"{FOLDER}/{ref}"

    def _get(self, ref: str) -> tuple[str | None, str | None]:
        """Value and ETag, both None when there is no such ref."""
        found = self._bucket.get_with_etag(self._key(ref))
        if found is None:
            return None, None
        value = VALUE.fullmatch(found[0])
        if value is None:
            raise StoreError(
                f"git ref {self._bucket.uri(self._key(ref))} reads {found[0][:60]!r}, expected 40 hex digits and a newline.",
                next_step="restore it from the bucket's earlier versions, or from the repository of a machine that mirrored it",
            )
        return value[1].decode(), found[1]

    def _mirror(self, ref: str, value: str | None) -> None:
        if not ref.startswith(HEADS + PUBLISH):
            self._local.mirror(ref, value)

    def target(self, ref: str) -> str | None:
        """See Refs."""
        if not pygit2.reference_is_valid_name(ref):
            return None
        value, etag = self._get(ref)
        if value is not None:
            self._seen[ref] = value, etag
        self._mirror(ref, value)
        return value

    def names(self) -> list[str]:
        """See Refs."""
        return [head.key.removeprefix(f"{FOLDER}/") for head in self._bucket.list(f"{FOLDER}/refs")]

    def below(self, under: str) -> Mapping[str, str]:
        """See Refs; only what changed since the last time is read."""
        heads = {head.key.removeprefix(f"{FOLDER}/"): head.etag for head in self._bucket.list(f"{FOLDER}/{under}")}
        changed = [ref for ref, etag in heads.items() if self._read.get(ref, ("", ""))[0] != etag and ref != HEADS + MAIN]
        with ThreadPoolExecutor(AT_ONCE) as pool:
            read = dict(zip(changed, pool.map(self._get, changed), strict=True))
        if HEADS + MAIN in heads:  # listed with the others, read after them
            read[HEADS + MAIN] = self._get(HEADS + MAIN)
        for ref, (value, etag) in read.items():
            if value is not None and etag is not None:
                self._read[ref] = (etag, value)
            else:
                heads.pop(ref)  # deleted since it was listed
        for ref in heads:
            self._mirror(ref, self._read[ref][1])
        for ref in self._local.names():
            if ref.startswith(under) and ref not in heads:
                self._mirror(ref, None)
        return {ref.removeprefix(under): self._read[ref][1] for ref in sorted(heads)}

    def move(self, ref: str, old: str | None, new: str | None) -> bool:
        """See Refs. After an answer that never came the same move again finds what the lost one did."""
        lost = self.unheard(ref, new)
        value, etag = self._seen.pop(ref, (None, None))
        if value != old or (new is None and etag is None):
            value, etag = self._get(ref)
        while value == old:  # or came back to it since it was seen
            if self._write(ref, etag, new):
                self._mirror(ref, new)
                return True
            value, etag = self._get(ref)
        self._mirror(ref, value)
        return value == new and lost

    def _write(self, ref: str, etag: str | None, new: str | None) -> bool:
        self._unheard[ref] = new
        if new is not None:
            moved = self._bucket.put_if(self._key(ref), f"{new}\n".encode(), etag)
        else:
            moved = etag is None or self._bucket.delete_if(self._key(ref), etag)
        self._unheard.pop(ref, None)
        return moved

    def unheard(self, ref: str, new: str | None) -> bool:
        """See Refs."""
        return self._unheard.pop(ref, NOTHING) == new

    def sweep(self, older_than_s: float) -> None:
        """Remove branches of publishers that nobody moved for so long, by the bucket's own clock."""
        old = [head for head in self._bucket.list(f"{FOLDER}/{HEADS}") if head.key.startswith(f"{FOLDER}/{HEADS}{PUBLISH}")]
        now = self._bucket.now() if old else None
        for head in old:
            if now is not None and (now - head.modified).total_seconds() > older_than_s:
                self._bucket.delete_if(head.key, head.etag)


def _take(change: pygit2.ReferenceTransaction, ref: str, lock_file: Path) -> None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while True:
        try:
            change.lock_ref(ref)
        except pygit2.GitError as error:
            if time.monotonic() > deadline:
                raise StoreError(
                    f"{lock_file} could not be taken for {LOCK_WAIT_S:g} s: {error}.",
                    next_step="if no git command is at work in this repository, delete that file and run again",
                ) from error
            time.sleep(0.02)
        else:
            return
