"""What a version store offers, and publishing on top of it. Belongs here: the interface, its laws, what holds for any backend.

Never here: git, DVC, lakeFS, or anything else that only one backend has.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from drivelake.errors import Conflict, NotFound, StoreError
from drivelake.manifest import check_partition

__all__ = ["MAIN", "MANIFEST", "VERSION_TRAILER", "HistoryEntry", "VersionStore", "check_path", "publish"]

MAIN = "main"
MANIFEST = "manifest.json"
VERSION_TRAILER = "Drivelake-Version"

ASSET = re.compile(r"[a-z][a-z0-9_]*")


class HistoryEntry(NamedTuple):
    """One commit, as it was made.

    Attributes:
        commit: its id.
        time: when it was made, UTC.
        message: without the metadata.
        metadata: as given to ``commit``.
    """

    commit: str
    time: datetime
    message: str
    metadata: Mapping[str, str]


class VersionStore(Protocol):
    """Immutable commits over paths ``asset/partition``; each path holds a folder of files and a few small files.

    Laws, for every backend:

    * A commit never changes. What ``ref`` resolved to once reads the same for ever.
    * Nothing that is put is visible on another branch before ``merge`` moved it, and ``merge`` moves all of it or nothing.
    * A path is the unit of merging: two sides that changed one path conflict unless both hold the same bytes.
    * ``main`` is written by ``merge`` alone.

    A *ref* is a branch, a tag or a commit id; a prefix of at least seven digits will do. 7 to 40 hex digits are only ever
    a commit id, and no name for a branch or a tag. Every method raises NotFound for a ref that resolves to nothing, and
    StoreError when the store's own bytes are damaged, naming the file.
    """

    def resolve(self, ref: str) -> str:
        """The commit that ``ref`` names now."""

    def branch(self, name: str, at: str = MAIN) -> None:
        """Start a branch at a ref. Raises Conflict when the branch is there already."""

    def delete_branch(self, name: str) -> None:
        """Remove a branch and what is staged on it; its commits stay readable where they were merged."""

    def put(self, branch: str, path: str, folder: Path, small: Mapping[str, bytes]) -> None:
        """Stage the files below ``folder``, and the ``small`` ones by name, as the whole new content of ``path``.

        Staged content is seen by this store object's next ``commit`` of the branch only.
        The folder is given away: its files may become the store's own and read-only; delete it, never write into it again.
        """

    def commit(self, branch: str, message: str, metadata: Mapping[str, str]) -> str:
        """Commit what is staged and give the branch's new head; the old head when nothing differs from it.

        Metadata keys are letters, digits and dashes, values one line; both come back from ``history`` as given.
        """

    def merge(self, source: str, into: str = MAIN) -> str:
        """Bring a ref's changes into a branch, atomically, and give the branch's head afterwards.

        Raises:
            Conflict: a path changed on both sides to different bytes; names the commits and the paths. Nothing moved.
        """

    def hold(self, path: str) -> AbstractContextManager[None]:
        """Wait for and keep the sole right to publish ``path``; it ends with the block, or with the process."""

    def list(self, ref: str, path: str = "") -> tuple[str, ...]:
        """Names below: assets, partitions of an asset, or small files of ``asset/partition``. Sorted; empty when none."""

    def read(self, ref: str, path: str, file: str) -> bytes:
        """A small file's bytes. Raises NotFound, naming those that are there."""

    def files(self, ref: str, path: str) -> Mapping[str, Path]:
        """Where each file can be read on this machine, by its path inside the folder that was put. Never write there."""

    def history(self, ref: str = MAIN, path: str | None = None) -> Iterator[HistoryEntry]:
        """Commits reachable from ``ref``, newest first; with a path, those that changed it."""

    def find(self, path: str, version: str, ref: str = MAIN) -> str | None:
        """The newest commit in ``history(ref)`` whose ``Drivelake-Version`` reads ``<path> <version>``."""

    def diff(self, a: str, b: str) -> tuple[str, ...]:
        """Paths whose content differs between two refs, sorted."""

    def tag(self, name: str, ref: str, expected: str | None = None) -> None:
        """Point a tag at ``ref``, if it points at the commit ``expected`` now; None: if there is no such tag.

        Raises:
            Conflict: it points elsewhere; names both commits.
        """


def check_path(path: str) -> str:
    """The path, if it is ``asset/partition``.

    Raises:
        StoreError: not two parts, or the first is no asset name.
        InputError: the second cannot be a partition key.
    """
    asset, slash, partition = path.partition("/")
    if not slash or not ASSET.fullmatch(asset):
        raise StoreError(
            f"{path!r} is no path in the store: expected asset/partition.", next_step="name it as in raw_logs/drive_01"
        )
    check_partition(partition)
    return path


def publish(
    store: VersionStore,
    path: str,
    folder: Path,
    manifest: bytes,
    *,
    message: str,
    metadata: Mapping[str, str],
    base: str | None = None,
    on_step: Callable[[str], None] = lambda _: None,
) -> str:
    """Make a version visible on main in one step, by way of a branch of its own.

    The same bytes again make no new commit. A kill at any moment leaves main at the old or at the new version, and
    running it again gives the same version; a branch that a killed run left is replaced. ``<folder>`` is given away, see
    ``VersionStore.put``. The trailer that ``find`` looks for is added.

    Args:
        store: where to.
        path: ``asset/partition``.
        folder: the version's files, and nothing else.
        manifest: exact bytes; their SHA-256 is the version.
        message: the commit's first line.
        metadata: trailers of the commit.
        base: the commit of main at which the inputs of this version were read; None: where main stands now.
        on_step: hears each step's name after it happened.

    Returns:
        The commit that made this version; main contains it.

    Raises:
        Conflict: somebody published other bytes at this path since ``base``; theirs stand.
        NotFound: ``base`` resolves to nothing.
        StoreError: ``base`` is no commit of main, so merging would bring along more than this version.
    """
    version = hashlib.sha256(manifest).hexdigest()
    trailers = {**metadata, VERSION_TRAILER: f"{path} {version}"}
    # Taken before waiting for the path: what others publish meanwhile is then a conflict, never silently replaced.
    base = store.resolve(MAIN) if base is None else _on_main(store, base)
    # Letters, digits and dashes are all that lakeFS allows in a branch name.
    branch = f"publish-{hashlib.sha256(path.encode()).hexdigest()[:20]}"
    with store.hold(path):
        with suppress(NotFound):
            store.delete_branch(branch)
        store.branch(branch, at=base)
        on_step("branched")
        try:
            store.put(branch, path, folder, {MANIFEST: manifest})
            on_step("objects staged")
            commit = store.commit(branch, message, trailers)
            on_step("committed on branch")
            seen_at = store.merge(commit) if commit != base else _unmoved(store, path, base)
            on_step("merged")
        finally:
            store.delete_branch(branch)
        on_step("branch deleted")
    # Not always `commit`: another may have published the same bytes first, now or long ago.
    return next(store.history(seen_at, path)).commit


def _on_main(store: VersionStore, base: str) -> str:
    commit = store.resolve(base)
    if all(entry.commit != commit for entry in store.history(MAIN)):
        raise StoreError(f"Base {commit[:12]} is no commit of {MAIN}.", next_step=f"read the inputs at {MAIN}, and run again")
    return commit


def _unmoved(store: VersionStore, path: str, base: str) -> str:
    """The base, if main still holds at the path what was found there: else that was replaced by something newer."""
    head = store.resolve(MAIN)
    if path in store.diff(base, head):
        made, newer = (next(store.history(ref, path)).commit for ref in (base, head))
        raise Conflict(
            f"{path} is made again as commit {made[:12]} had it, but commit {newer[:12]} replaced that since {base[:12]}.",
            next_step=f"look at what stands on {MAIN} now; run again to replace it",
        )
    return base
