"""The version store without a server. Belongs here: git and DVC's object database as one VersionStore, on disk or a bucket.

Never here: git's or DVC's details; those are in ``graph``, ``merging`` and ``objects``.

    <root>/repo.git         bare; main holds, for each path, <asset>/<shard>/<partition>/manifest.json and .../data.dvc
    <root>/files/md5/..     the bytes, in the layout of a DVC remote
    <root>/locks/           who publishes what just now; safe to delete when nothing runs

Stock tools read it: ``git clone <root>/repo.git lake && cd lake && dvc pull`` fills .../data/. The remote's url is the place
where the store was made; for a clone of a store that was moved since, say where it is now:
``dvc remote modify --local store url <root>``. The store itself reads no path from there and can be moved freely.

With a bucket the same two rooms stand there and are the truth, and any number of machines share them; ``<root>`` is what this
machine has of them, and may be deleted when nothing runs. Git's objects come as they are needed: ``pull`` before ``git clone``.
"""

from __future__ import annotations

import builtins
import hashlib
import shlex
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from drivelake.errors import Conflict, NotFound, StoreError, Unavailable
from drivelake.versions.dvc.collection import Collection
from drivelake.versions.dvc.gitobjects import BLOB, TREE, Entry
from drivelake.versions.dvc.graph import Graph, tree_of
from drivelake.versions.dvc.integrity import walk_verified
from drivelake.versions.dvc.layout import DVC_FILE, require_layout, strangers
from drivelake.versions.dvc.merging import History
from drivelake.versions.dvc.objects import DATA, Objects, Staged
from drivelake.versions.dvc.paths import place, standing
from drivelake.versions.dvc.refs import HEADS, TAGS, BucketRefs
from drivelake.versions.dvc.rooms import LOCKS, REPOSITORY, make_store, open_room
from drivelake.versions.dvc.transfer import Moved, pull, push, staged_at
from drivelake.versions.locks import exclusive
from drivelake.versions.store import (
    MAIN,
    VERSION_TRAILER,
    Address,
    HistoryEntry,
    Stored,
    check_path,
    publish_branch,
    publish_prefix,
    refuse_to_revert,
)
from drivelake.versions.trailers import join_message, split_message

if TYPE_CHECKING:
    from drivelake.versions.s3.bucket import Bucket

__all__ = ["EmbeddedStore"]

READ_AT_ONCE = 512
ABANDONED_S = 24 * 3600.0  # a branch of a publisher on a bucket that nobody moved for so long has no publisher any more
REMEMBERED = 10_000
REMOVED_AT_ONCE = 1000


class EmbeddedStore:
    """A VersionStore in a folder or on a bucket; any number of processes may open it at once.

    Args:
        root: the folder, see the module's docstring; made when there is a bucket.
        bucket: where the store is shared.

    Raises:
        NotFound: there is no store.
        StoreError: it cannot be opened, is of another layout, or ``root`` belongs to another store.
    """

    def __init__(self, root: Path, bucket: Bucket | None = None) -> None:
        self.root = root.resolve()
        open_room(self.root, bucket)
        repository, self._locks = self.root / REPOSITORY, self.root / LOCKS
        self._bucket = bucket
        self._graph = Graph(repository, self._locks, bucket)
        self._history = History(self._graph)
        self._objects = Objects(self.root, bucket)
        self._collection = Collection(self._locks, bucket)
        self._staged: defaultdict[str, dict[str, Entry | None]] = defaultdict(dict)
        self._sent: dict[str, str] = {}  # the epoch in which a staged folder was taken in, and sent
        require_layout(self._graph, self._graph.resolve(MAIN))

    @classmethod
    def create(cls, root: Path, bucket: Bucket | None = None) -> EmbeddedStore:
        """Make the store, or open the one that is there; any number of processes and machines may do so at once."""
        make_store(root.resolve(), bucket)
        return cls(root, bucket)

    # --- branches

    def resolve(self, ref: str) -> str:
        """See VersionStore."""
        return self._graph.resolve(ref)

    def branches(self) -> Mapping[str, str]:
        """See VersionStore."""
        return self._graph.refs.below(HEADS)

    def branch(self, name: str, at: str = MAIN) -> None:
        """See VersionStore."""
        if not self._graph.move(HEADS + name, None, self._graph.resolve(at)):
            raise Conflict(
                f"Branch {name!r} is there already, at {self.resolve(name)[:12]}.", next_step="delete it, or choose another name"
            )

    def delete_branch(self, name: str) -> None:
        """See VersionStore; main stays."""
        _not_main(name)
        self._staged.pop(name, None)
        while (head := self._graph.refs.target(HEADS + name)) is not None:
            if self._graph.move(HEADS + name, head, None):
                return
        if not self._graph.refs.unheard(HEADS + name, None):
            raise NotFound(f"There is no branch {name!r}.", next_step="look at the store's branches with git")

    def put(self, branch: str, path: str, folder: Path, small: Mapping[str, bytes]) -> None:
        """See VersionStore; the folder's files are hard-linked where it stands on the store's own file system."""
        _not_main(branch)
        self._head(branch)
        check_path(path)
        bad = [name for name in small if "/" in name or name in {"", ".", "..", ".git", DATA, DVC_FILE}]
        if bad:
            raise StoreError(
                f"{bad[0]!r} cannot name a small file.", next_step=f"use a plain file name other than {DATA} and {DVC_FILE}"
            )
        staged = self._send(folder)
        contents = {**small, DVC_FILE: staged.as_dvc()}
        tree = self._graph.graft(None, {name: (self._graph.objects.write_blob(data), BLOB) for name, data in contents.items()})
        self._staged[branch][place(path)] = (tree, TREE)

    def _send(self, folder: Path) -> Staged:
        epoch = self._collection.epoch()
        staged = self._objects.stage(folder)
        if self._bucket is not None:
            self._objects.ensure(staged)
        if epoch is not None:
            if len(self._sent) >= REMEMBERED:
                self._sent.clear()  # what is forgotten is asked for once more
            self._sent[staged.md5] = epoch
        return staged

    def remove(self, branch: str, path: str) -> None:
        """See VersionStore."""
        _not_main(branch)
        at = place(check_path(path))
        if self._graph.at(self._graph.root(self._head(branch)), at) is None:
            raise NotFound(f"Branch {branch!r} holds no {path}.", next_step="list() says what it holds")
        self._staged[branch][at] = None

    def commit(self, branch: str, message: str, metadata: Mapping[str, str]) -> str:
        """See VersionStore."""
        _not_main(branch)
        head = self._head(branch)
        root = self._graph.root(head)
        tree = self._graph.graft(root, self._staged[branch])
        if tree != root:
            new = self._graph.write_commit(tree, [head], join_message(message, metadata))
            if not self._graph.move(HEADS + branch, head, new):
                raise Conflict(
                    f"Branch {branch!r} left commit {head[:12]} while {new[:12]} was made on it.", next_step="run again"
                )
            head = new
        del self._staged[branch]
        return head

    def merge(self, source: str, into: str = MAIN) -> str:
        """See VersionStore; no merge commit where ``into`` did not move since the branch began."""
        theirs = self._graph.resolve(source)
        self._graph.objects.send(theirs)  # it becomes a parent, and another process may have died before it was sent
        with self._collection.relying():
            seen = False
            # A lost race means that another merge got through, so all together always get on.
            while True:
                ours = self._head(into)
                new = self._history.merged(ours, theirs, into)
                if new == ours:
                    return new
                if not seen:
                    self._rely_on(new, ours)
                    seen = True
                if self._graph.move(HEADS + into, ours, new):
                    return new

    def revert(self, commit: str, into: str = MAIN) -> str:
        """See VersionStore; refused where the files that stood there before are gone."""
        undone = self._graph.objects.commit(self._graph.resolve(commit))
        refuse_to_revert(self.diff(undone.parents[0], undone.id) if undone.parents else ())
        with self._collection.relying():
            while True:
                ours = self._head(into)
                new = self._history.reverted(ours, undone, into)
                if new == ours:
                    return new
                with self._visible(new, f"revert {undone.id}"):
                    self._rely_on(new, ours)
                    if self._graph.move(HEADS + into, ours, new):
                        return new

    @contextmanager
    def _visible(self, commit: str, purpose: str) -> Iterator[None]:
        """Keep a commit on a branch, where a collector on another machine sees it."""
        if self._bucket is None:
            yield
            return
        name = publish_branch(purpose, "")
        self.branch(name, at=commit)
        try:
            yield
        finally:
            with suppress(Unavailable, NotFound):  # swept later; it must not hide what came of the rest
                self.delete_branch(name)

    def _rely_on(self, new: str, ours: str) -> None:
        """See that all files of what ``new`` holds, otherwise than ``ours``, are where every reader finds them."""
        epoch = self._collection.wait()
        for staged in staged_at(self._graph, new, since=ours):
            if epoch is None or self._sent.get(staged.md5) != epoch:
                self._objects.ensure(staged)

    @contextmanager
    def hold(self, path: str) -> Iterator[None]:
        """See VersionStore; branches that killed publishers left are swept: on one machine those of the path, else old ones."""
        with exclusive(self._locks / hashlib.sha256(path.encode()).hexdigest()[:20]), self._collection.relying():
            refs = self._graph.refs
            if isinstance(refs, BucketRefs):
                refs.sweep(ABANDONED_S)
            else:
                for ref in [ref for ref in refs.names() if ref.startswith(HEADS + publish_prefix(path))]:
                    self._graph.move(ref, refs.target(ref), None)
            yield

    def _head(self, branch: str) -> str:
        head = self._graph.refs.target(HEADS + branch)
        if head is None:
            raise NotFound(f"There is no branch {branch!r}.", next_step="start it with branch()")
        return head

    # --- reading

    def _root(self, ref: str) -> str:
        return self._graph.root(self._graph.resolve(ref))

    def list(self, ref: str, path: str = "") -> tuple[str, ...]:
        """See VersionStore."""
        root = self._root(ref)
        if not path:
            return tuple(
                sorted(name for name, entry in self._graph.children(root).items() if entry[1] == TREE and name[0] != ".")
            )
        if "/" not in path:
            return tuple(self._graph.partitions(tree_of(self._graph.at(root, path))))
        version = tree_of(self._graph.at(root, place(path)))
        return tuple(sorted(name for name in self._graph.children(version) if not name.startswith(".") and name != DVC_FILE))

    def read(self, ref: str, path: str, file: str) -> bytes:
        """See VersionStore."""
        entry = self._graph.at(self._root(ref), f"{place(check_path(path))}/{file}")
        if entry is None:
            there = ", ".join(self.list(ref, path)) or "nothing"
            raise NotFound(f"{path} at {ref} has no {file!r}; it holds {there}.", next_step="check the path and the ref")
        return self._graph.objects.blob(entry[0])

    def read_each(self, ref: str, asset: str, file: str) -> Iterator[tuple[str, bytes]]:
        """See VersionStore."""
        objects = self._graph.objects
        partitions = builtins.list(self._graph.partitions(tree_of(self._graph.at(self._root(ref), asset))).items())
        for start in range(0, len(partitions), READ_AT_ONCE):
            some = partitions[start : start + READ_AT_ONCE]
            objects.fetch(oid for _, (oid, mode) in some if mode == TREE)
            blobs = {name: objects.read_tree(oid).get(file) if mode == TREE else None for name, (oid, mode) in some}
            objects.fetch(entry[0] for entry in blobs.values() if entry is not None)
            for name, entry in blobs.items():
                if entry is None:
                    raise NotFound(f"{asset}/{name} at {ref} has no {file!r}.", next_step="check the asset and the ref")
                yield name, objects.blob(entry[0])

    def _kept(self, ref: str, path: str) -> Staged:
        return Staged.parse(self.read(ref, path, DVC_FILE), f"{path}/{DVC_FILE} at {ref}")

    def files(self, ref: str, path: str) -> Mapping[str, Path]:
        """See VersionStore; fails when an object is missing, and leaves comparing the bytes that are here to the verifier."""
        return self._objects.files(self._kept(ref, path))

    def addresses(self, ref: str, path: str) -> Mapping[str, Address]:
        """See VersionStore."""
        return self._objects.addresses(self._kept(ref, path))

    def history(self, ref: str = MAIN, path: str | None = None) -> Iterator[HistoryEntry]:
        """See VersionStore."""
        start = self._graph.resolve(ref)
        for commit in self._history.walk(start) if path is None else self._history.walk_changes(start, place(check_path(path))):
            message, metadata = split_message(commit.message)
            yield HistoryEntry(commit.id, datetime.fromtimestamp(commit.time_s, UTC), message, metadata, commit.parents)

    def find(self, path: str, version: str, ref: str = MAIN) -> str | None:
        """See VersionStore; reads commits only, no trees."""
        wanted = f"{path} {version}"
        return next((entry.commit for entry in self.history(ref) if entry.metadata.get(VERSION_TRAILER) == wanted), None)

    def diff(self, a: str, b: str) -> tuple[str, ...]:
        """See VersionStore."""
        return tuple(sorted(path for at in self._graph.changed(self._root(a), self._root(b)) if (path := standing(at))))

    def link(self, commit: str) -> str:
        """See VersionStore; a command."""
        return shlex.join(["git", "--git-dir", str(self._graph.path), "show", self.resolve(commit)[:12]])

    # --- tags

    def tags(self) -> Mapping[str, str]:
        """See VersionStore."""
        return self._graph.refs.below(TAGS)

    def tag(self, name: str, ref: str, expected: str | None = None) -> None:
        """See VersionStore; refused where files of the commit are gone. What stands at main is not asked for: it is kept."""
        old = None if expected is None else self._graph.resolve(expected)
        new = self._graph.resolve(ref)
        with self._collection.relying():
            epoch = self._collection.wait()
            self._rely_on(new, self._head(MAIN))
            if not self._graph.move(TAGS + name, old, new) and (stands := self._graph.refs.target(TAGS + name)) != new:
                raise _tag_elsewhere(name, stands, old, f"it was to move to {new[:12]}")
            if epoch is None or self._collection.epoch() != epoch:
                self._rely_on(new, self._head(MAIN))  # somebody began to collect, and may have looked at the tags before

    def untag(self, name: str, expected: str) -> None:
        """See VersionStore."""
        old = self._graph.resolve(expected)
        if not self._graph.move(TAGS + name, old, None):
            stands = self._graph.refs.target(TAGS + name)
            if stands is None:
                raise NotFound(f"There is no tag {name!r}.", next_step="tags() says which there are")
            raise _tag_elsewhere(name, stands, old, "it was to be removed")

    # --- what the bytes are kept in

    def objects(self, ref: str, path: str) -> frozenset[str]:
        """See VersionStore."""
        return self._objects.ids(self._kept(ref, path))

    def stored(self) -> Iterator[Stored]:
        """See VersionStore."""
        return self._objects.stored()

    def collecting(self) -> AbstractContextManager[None]:
        """See VersionStore."""
        return self._collection.collecting()

    def discard(self, ids: Iterable[str]) -> None:
        """See VersionStore."""
        wanted = builtins.list(ids)
        for start in range(0, len(wanted), REMOVED_AT_ONCE):
            self._collection.require()
            self._objects.discard(wanted[start : start + REMOVED_AT_ONCE])

    # --- looking after itself

    def check(self, ref: str = MAIN) -> int:
        """See VersionStore; what is not on this machine is fetched."""
        return sum(1 for _ in self.git_objects(ref))

    def git_objects(self, ref: str = MAIN) -> Iterator[Path]:
        """The files that hold the commits, trees and small files reachable from ``ref``; each once it was found undamaged.

        Raises:
            StoreError: the bytes of one do not hash to its name; names that file.
        """
        return walk_verified(self._graph.objects, self.resolve(ref))

    def strangers(self, ref: str = MAIN) -> builtins.list[str]:
        """What stands at ``ref`` that no published version and not this store brought, and refs that it does not make.

        Verifying versions one by one never meets these: a file beside a manifest, a folder that is no asset, a remote
        elsewhere, a branch of another history.

        Returns:
            Places in the tree, sorted, each the topmost that does not belong or that lacks what it must hold; then full
            names of refs. Empty when there is nothing. Characters that do not print are escaped.
        """
        return strangers(self._graph, self.resolve(ref))

    # --- what only a bucket can be asked

    def push(self, ref: str = MAIN, leave: frozenset[str] = frozenset()) -> Moved:
        """See that all that ``ref`` reaches is on the bucket, and send what is missing there from this machine.

        That is git's objects of its whole history, and the files of the versions that stand at ``ref``; those of older ones
        may have been collected, and those of paths in ``leave`` withdrawn. What is sent is compared with its name before.

        Raises:
            StoreError: something is neither there nor here; names it.
        """
        return push(self._graph, self._objects, self.resolve(ref), leave)

    def pull(self, ref: str = MAIN, leave: frozenset[str] = frozenset()) -> Moved:
        """Bring all that ``push`` looks after to this machine, compared with its name; ``git clone`` needs no bucket then.

        Raises:
            StoreError: something is missing or damaged; names it.
        """
        return pull(self._graph, self._objects, self.resolve(ref), leave)


def _not_main(branch: str) -> None:
    if branch == MAIN:
        raise StoreError(f"{MAIN} is written by merge alone.", next_step="work on a branch of its own and merge it")


def _tag_elsewhere(name: str, stands: str | None, expected: str | None, purpose: str) -> Conflict:
    return Conflict(
        f"Tag {name!r} is {f'at {stands[:12]}' if stands else 'not there'}, expected "
        f"{f'it at {expected[:12]}' if expected else 'none'}; {purpose}.",
        next_step="look at what it names now, and pass that as expected to replace it",
    )
