"""What a version store offers, and publishing on top of it. Belongs here: the interface, its laws, what holds for any backend.

Never here: git, DVC, lakeFS, or anything else that only one backend has.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from datetime import datetime
from pathlib import Path
from typing import NamedTuple, Protocol

from drivelake.errors import Conflict, NotFound, StoreError, Unavailable
from drivelake.manifest import check_partition

__all__ = [
    "CODE_TRAILER",
    "MAIN",
    "MANIFEST",
    "PUBLISH",
    "RUN_TRAILER",
    "TOMBSTONE",
    "VERSION_TRAILER",
    "WITHDRAWALS",
    "Address",
    "HistoryEntry",
    "Stored",
    "VersionStore",
    "check_path",
    "publish",
    "publish_branch",
    "publish_prefix",
    "refuse_to_revert",
]

MAIN = "main"
MANIFEST = "manifest.json"
VERSION_TRAILER = "Drivelake-Version"
RUN_TRAILER, CODE_TRAILER = "Drivelake-Run", "Drivelake-Code"
PUBLISH = "publish-"  # how the branches of publishers begin
# withdrawals/<drive>/tombstone.json stands where an asset's partition would: no version, and no bytes but itself
WITHDRAWALS, TOMBSTONE = "withdrawals", "tombstone.json"

ASSET = re.compile(r"[a-z][a-z0-9_]*")


class HistoryEntry(NamedTuple):
    """One commit, as it was made.

    Attributes:
        commit: its id.
        time: when it was made, UTC.
        message: without the metadata.
        metadata: as given to ``commit``.
        parents: ids of the commits it was made from, where the backend tells; then an index can grow instead of starting over.
    """

    commit: str
    time: datetime
    message: str
    metadata: Mapping[str, str]
    parents: tuple[str, ...] | None = None


def refuse_to_revert(paths: Iterable[str]) -> None:
    """Raise StoreError for a revert that would take a tombstone away: bytes that were withdrawn do not come back."""
    withdrawal = next((path for path in paths if path.startswith(f"{WITHDRAWALS}/")), None)
    if withdrawal is not None:
        raise StoreError(
            f"The commit wrote {withdrawal}; a withdrawal is not reverted.",
            next_step="ask the authority that it names",
        )


class Address(NamedTuple):
    """Where a file's bytes can be read in place, without a copy on this machine.

    Attributes:
        uri: an absolute path, ``s3://...``, or ``http(s)://...`` (signed, good for minutes: ask again rather than keep it).
        size: in bytes; None where the store does not know it without asking.
    """

    uri: str
    size: int | None


class Stored(NamedTuple):
    """One thing that holds bytes of versions, as garbage collection sees it.

    Attributes:
        id: what ``objects`` and ``discard`` call it; opaque.
        size: in bytes.
        age_s: since it was written, by the clock of whoever keeps it; None where that is not known.
    """

    id: str
    size: int
    age_s: float | None


class VersionStore(Protocol):
    """Immutable commits over paths ``asset/partition``; each path holds a folder of files and a few small files.

    Laws, for every backend:

    * A commit never changes. What ``ref`` resolved to once reads the same for ever.
    * Nothing that is put is visible on another branch before ``merge`` moved it, and ``merge`` moves all of it or nothing.
    * A path is the unit of merging: two sides that changed one path conflict unless both hold the same bytes.
    * ``main`` is written by ``merge`` and ``revert`` alone.
    * Every call may be repeated after Unavailable: it then finds what the lost call did and gives the same answer.

    A *ref* is a branch, a tag or a commit id; a prefix of at least seven digits will do. 7 to 64 hex digits are only ever
    a commit id, and no name for a branch or a tag. Every method raises NotFound for a ref that resolves to nothing,
    StoreError when the store's own bytes are damaged, naming the file, and Unavailable or Denied where a server or the
    network refuse. Several processes, and several machines where the store is shared, may work at once.
    """

    # --- branches

    def resolve(self, ref: str) -> str:
        """The commit that ``ref`` names now."""

    def branches(self) -> Mapping[str, str]:
        """The commit of every branch, by name, sorted; locks and other devices of a backend are none."""

    def branch(self, name: str, at: str = MAIN) -> None:
        """Start a branch at a ref. Raises Conflict when the branch is there already."""

    def delete_branch(self, name: str) -> None:
        """Remove a branch and what is staged on it; its commits stay readable where they were merged."""

    def put(self, branch: str, path: str, folder: Path, small: Mapping[str, bytes]) -> None:
        """Stage the files below ``folder``, and the ``small`` ones by name, as the whole new content of ``path``.

        Staged content is seen by this store object's next ``commit`` of the branch only. What the store holds already is
        not moved again.
        The folder is given away: its files may become the store's own and read-only; delete it, never write into it again.
        """

    def remove(self, branch: str, path: str) -> None:
        """Stage the absence of ``path``. Raises NotFound when the branch does not hold it."""

    def commit(self, branch: str, message: str, metadata: Mapping[str, str]) -> str:
        """Commit what is staged and give the branch's new head; the old head when nothing differs from it.

        Metadata keys are letters, digits and dashes, values one line; both come back from ``history`` as given.
        """

    def merge(self, source: str, into: str = MAIN) -> str:
        """Bring a ref's changes into a branch, atomically, and give the branch's head afterwards.

        Raises:
            Conflict: a path changed on both sides to different bytes; names the commits and the paths. Nothing moved. (On
                lakeFS, where others merge in between, a merge of several paths may have moved some of them already.)
        """

    def revert(self, commit: str, into: str = MAIN) -> str:
        """Give every path that ``commit`` changed the content that it had before, and give the branch's new head.

        The reverted commit stays in the history. Paths are compared with the commit's first parent.

        Raises:
            Conflict: a path was changed again since; names the commits. Nothing moved.
            StoreError: the commit wrote a withdrawal, or the bytes that stood there before are gone.
        """

    def hold(self, path: str) -> AbstractContextManager[None]:
        """Wait for and keep the right to publish ``path``; it ends with the block, or with the process.

        The sole right on this machine. Publishers on other machines are told apart by ``merge``. What is put within the
        block is not taken for garbage by a collection that runs meanwhile.
        """

    # --- reading

    def list(self, ref: str, path: str = "") -> tuple[str, ...]:
        """Names below: assets, partitions of an asset, or small files of ``asset/partition``. Sorted; empty when none."""

    def read(self, ref: str, path: str, file: str) -> bytes:
        """A small file's bytes. Raises NotFound, naming those that are there."""

    def read_each(self, ref: str, asset: str, file: str) -> Iterator[tuple[str, bytes]]:
        """A small file of every partition of an asset, by partition, sorted; read ahead where reading has to wait."""

    def files(self, ref: str, path: str) -> Mapping[str, Path]:
        """Where each file can be read on this machine, by its path inside the folder that was put. Never write there.

        What is not on this machine is fetched first and compared with what was put.

        Raises:
            StoreError: an object is missing, or came back with other bytes.
        """

    def addresses(self, ref: str, path: str) -> Mapping[str, Address]:
        """Where each file can be read in place, by its path inside the folder; fetches nothing. Raises as ``files``."""

    def history(self, ref: str = MAIN, path: str | None = None) -> Iterator[HistoryEntry]:
        """Commits reachable from ``ref``, newest first; with a path, those that changed it."""

    def find(self, path: str, version: str, ref: str = MAIN) -> str | None:
        """The newest commit in ``history(ref)`` whose ``Drivelake-Version`` reads ``<path> <version>``."""

    def diff(self, a: str, b: str) -> tuple[str, ...]:
        """Paths whose content differs between two refs, sorted."""

    def link(self, commit: str) -> str:
        """Where a person can look at a commit: the address of a page, or a command to run."""

    # --- tags

    def tags(self) -> Mapping[str, str]:
        """The commit of every tag, by name, sorted."""

    def tag(self, name: str, ref: str, expected: str | None = None) -> None:
        """Point a tag at ``ref``, if it points at the commit ``expected`` now; None: if there is no such tag.

        Raises:
            Conflict: it points elsewhere; names both commits.
        """

    def untag(self, name: str, expected: str) -> None:
        """Remove a tag, if it points at ``expected`` now. Raises Conflict when it points elsewhere, NotFound when it is gone."""

    # --- what the bytes are kept in (see drivelake.versions.retention)

    def objects(self, ref: str, path: str) -> frozenset[str]:
        """Ids of what holds the bytes of a version; what only describes it (manifest, commit) is never among them.

        Given also where the bytes are gone already.
        """

    def stored(self) -> Iterator[Stored]:
        """Everything that holds bytes of versions now, whether anything names it or not."""

    def collecting(self) -> AbstractContextManager[None]:
        """Keep publishers waiting where they could come to rely on what is about to go. Raises Conflict when another collects."""

    def discard(self, ids: Iterable[str]) -> None:
        """Remove what ``stored`` gave, within ``collecting``; what is gone already is no error."""

    # --- looking after itself

    def check(self, ref: str = MAIN) -> int:
        """Read and compare everything below ``ref`` that describes versions (not their files); gives how many things.

        Raises:
            StoreError: one does not hold what its name says; names it.
        """

    def strangers(self, ref: str = MAIN) -> Sequence[str]:
        """What stands at ``ref`` that no published version and not this store brought, and refs that it does not make."""


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

    The same bytes again make no new commit. A kill at any moment, a lost network or a full disk leaves main at the old or
    at the new version, and running it again gives the same version. ``<folder>`` is given away, see ``VersionStore.put``.
    The trailer that ``find`` looks for is added.

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
    branch = publish_branch(path, metadata.get(RUN_TRAILER, ""))
    with store.hold(path):
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
            # A branch that cannot be deleted now is swept later; it must not hide why the publishing failed.
            with suppress(Unavailable, NotFound):
                store.delete_branch(branch)
        on_step("branch deleted")
    # Not always `commit`: another may have published the same bytes first, now or long ago, also without saying so.
    return store.find(path, version, seen_at) or next(store.history(seen_at, path)).commit


def publish_branch(path: str, run_id: str) -> str:
    """A name that no other attempt has: the path's mark (whose holder may sweep what the dead left), the run, and a die.

    Letters, digits and dashes are all that lakeFS allows in a branch name.
    """
    run = re.sub(r"[^A-Za-z0-9]+", "", run_id)[:36] or "run"
    return f"{publish_prefix(path)}{run}-{secrets.token_hex(4)}"


def publish_prefix(path: str) -> str:
    """What the names of all branches begin with that attempts to publish ``path`` make."""
    return f"{PUBLISH}{hashlib.sha256(path.encode()).hexdigest()[:20]}-"


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
