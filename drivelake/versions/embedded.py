"""The version store of one machine, without a server. Belongs here: git and DVC's object database as one VersionStore.

Never here: git's or DVC's details; those are in ``graph`` and ``objects``.

    <root>/repo.git         bare; main holds, for each path, <asset>/<partition>/manifest.json and .../data.dvc
    <root>/files/md5/..     the bytes, in the layout of a DVC remote
    <root>/locks/           who publishes what just now; safe to delete when nothing runs

Stock tools read it: ``git clone <root>/repo.git lake && cd lake && dvc pull`` fills <asset>/<partition>/data/. The remote's
url is the place where the store was made; for a clone of a store that was moved since, say where it is now:
``dvc remote modify --local store url <root>``. The store itself reads no path from there and can be moved freely.
"""

from __future__ import annotations

import builtins
from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

from drivelake.errors import Conflict, NotFound, StoreError
from drivelake.versions.gitobjects import BLOB, TREE, Entry
from drivelake.versions.graph import HEADS, TAGS, Graph
from drivelake.versions.integrity import walk_verified
from drivelake.versions.layout import DVC_FILE, first_files, strangers
from drivelake.versions.locks import exclusive
from drivelake.versions.objects import DATA, Objects, Staged
from drivelake.versions.store import MAIN, VERSION_TRAILER, HistoryEntry, check_path
from drivelake.versions.trailers import join_message, split_message

__all__ = ["EmbeddedStore"]


class EmbeddedStore:
    """A VersionStore in a folder; any number of processes may open it at once.

    Args:
        root: the folder, see the module's docstring.

    Raises:
        NotFound: there is no store.
        StoreError: it cannot be opened.
    """

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        if not (self.root / "repo.git").is_dir():
            raise NotFound(
                f"There is no version store at {self.root}.", next_step="check the lake's path, or create the lake there"
            )
        self._locks = self.root / "locks"
        self._graph = Graph(self.root / "repo.git", self._locks)
        self._objects = Objects(self.root)
        self._staged: defaultdict[str, dict[str, Entry | None]] = defaultdict(dict)

    @classmethod
    def create(cls, root: Path) -> EmbeddedStore:
        """Make the store, or open the one that is there; several processes may do so at once."""
        root = root.resolve()
        (root / "files" / "md5").mkdir(parents=True, exist_ok=True)
        Graph.create(root / "repo.git", root / "locks", first_files(root))
        return cls(root)

    # --- branches

    def resolve(self, ref: str) -> str:
        """See VersionStore."""
        return self._graph.resolve(ref)

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
        while (head := self._graph.target(HEADS + name)) is not None:
            if self._graph.move(HEADS + name, head, None):
                return
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
        contents = {**small, DVC_FILE: self._objects.stage(folder).as_dvc()}
        tree = self._graph.graft(None, {name: (self._graph.objects.write_blob(data), BLOB) for name, data in contents.items()})
        self._staged[branch][path] = (tree, TREE)

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
        # A lost race means that another merge got through, so all together always get on.
        while True:
            ours = self._head(into)
            new = self._graph.merged(ours, theirs, into)
            if new == ours or self._graph.move(HEADS + into, ours, new):
                return new

    @contextmanager
    def hold(self, path: str) -> Iterator[None]:
        """See VersionStore."""
        with exclusive(self._locks / sha256(path.encode()).hexdigest()[:20]):
            yield

    def _head(self, branch: str) -> str:
        head = self._graph.target(HEADS + branch)
        if head is None:
            raise NotFound(f"There is no branch {branch!r}.", next_step="start it with branch()")
        return head

    # --- reading

    def list(self, ref: str, path: str = "") -> tuple[str, ...]:
        """See VersionStore."""
        root = self._graph.root(self._graph.resolve(ref))
        entry: Entry | None = self._graph.at(root, path) if path else (root, TREE)
        names = self._graph.children(entry[0]) if entry is not None and entry[1] == TREE else {}
        return tuple(sorted(name for name in names if not name.startswith(".") and name != DVC_FILE))

    def read(self, ref: str, path: str, file: str) -> bytes:
        """See VersionStore."""
        entry = self._graph.at(self._graph.root(self._graph.resolve(ref)), f"{check_path(path)}/{file}")
        if entry is None:
            there = ", ".join(self.list(ref, path)) or "nothing"
            raise NotFound(f"{path} at {ref} has no {file!r}; it holds {there}.", next_step="check the path and the ref")
        return self._graph.objects.blob(entry[0])

    def files(self, ref: str, path: str) -> Mapping[str, Path]:
        """See VersionStore; fails when an object is missing, and leaves comparing the bytes to the verifier."""
        return self._objects.files(Staged.parse(self.read(ref, path, DVC_FILE), f"{path}/{DVC_FILE} at {ref}"))

    def history(self, ref: str = MAIN, path: str | None = None) -> Iterator[HistoryEntry]:
        """See VersionStore."""
        start = self._graph.resolve(ref)
        for commit in self._graph.walk(start) if path is None else self._graph.walk_changes(start, path):
            message, metadata = split_message(commit.message)
            yield HistoryEntry(commit.id, datetime.fromtimestamp(commit.time_s, UTC), message, metadata)

    def find(self, path: str, version: str, ref: str = MAIN) -> str | None:
        """See VersionStore; reads commits only, no trees."""
        wanted = f"{path} {version}"
        return next((entry.commit for entry in self.history(ref) if entry.metadata.get(VERSION_TRAILER) == wanted), None)

    def diff(self, a: str, b: str) -> tuple[str, ...]:
        """See VersionStore."""
        roots = [self._graph.root(self._graph.resolve(ref)) for ref in (a, b)]
        return tuple(path for path in self._graph.changed(*roots) if "/" in path)

    def tag(self, name: str, ref: str, expected: str | None = None) -> None:
        """See VersionStore."""
        old = None if expected is None else self._graph.resolve(expected)
        new = self._graph.resolve(ref)
        if not self._graph.move(TAGS + name, old, new):
            stands = self._graph.target(TAGS + name)
            raise Conflict(
                f"Tag {name!r} is {f'at {stands[:12]}' if stands else 'not there'}, expected "
                f"{f'it at {old[:12]}' if old else 'none'}; it was to move to {new[:12]}.",
                next_step="look at what it names now, and pass that as expected to replace it",
            )

    # --- what only this backend can be asked

    def git_objects(self, ref: str = MAIN) -> Iterator[Path]:
        """The files that hold the commits, trees and small files reachable from ``ref``; each once it was found undamaged.

        Raises:
            StoreError: the bytes of one do not hash to its name; names that file.
        """
        return walk_verified(self._graph.objects, self.resolve(ref))

    def check_git(self, ref: str = MAIN) -> int:
        """Read and hash all of ``git_objects``; gives how many files there are. Raises as it does."""
        return sum(1 for _ in self.git_objects(ref))

    def strangers(self, ref: str = MAIN) -> builtins.list[str]:
        """What stands at ``ref`` that no published version and not this store brought, and refs that it does not make.

        Verifying versions one by one never meets these: a file beside a manifest, a folder that is no asset, a remote
        elsewhere, a branch of another history.

        Returns:
            Paths, sorted, each the topmost that does not belong or that lacks what it must hold; then full names of refs.
            Empty when there is nothing. Characters that do not print are escaped.
        """
        return strangers(self._graph, self.resolve(ref))


def _not_main(branch: str) -> None:
    if branch == MAIN:
        raise StoreError(f"{MAIN} is written by merge alone.", next_step="work on a branch of its own and merge it")
