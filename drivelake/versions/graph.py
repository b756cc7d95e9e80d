"""The commit graph: a bare git repository, without a working tree. Belongs here: trees, commits, refs, merging, walking.

Never here: where a version's files are kept, how a version is published, what its bytes mean.

What is durable when: with libgit2's fsync option an object's file and its folder are synced before its id is returned,
and a ref's file and folder before a move returns. A ref is moved only to a commit whose objects are all written, so a
power cut shows the old ref or the new one, with everything below it.
"""

from __future__ import annotations

import heapq
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TypeVar

import pygit2
from pygit2.enums import FileMode

from drivelake.errors import Conflict, NotFound, StoreError
from drivelake.versions.durable import sync
from drivelake.versions.locks import exclusive, owning_lock_file

__all__ = ["BLOB", "HEADS", "TAGS", "TREE", "Entry", "Graph", "damaged"]

Entry = tuple[pygit2.Oid, int]  # what a tree holds under a name: an object and its file mode
Kind = TypeVar("Kind", pygit2.Commit, pygit2.Tree, pygit2.Blob)

BLOB = int(FileMode.BLOB)
TREE = int(FileMode.TREE)
HEADS, TAGS = "refs/heads/", "refs/tags/"
COMMIT_ID = re.compile(r"[0-9a-f]{7,40}")
LOCK_WAIT_S = 5.0


def damaged(file: Path, what: str) -> StoreError:
    """The error for a git object whose file does not hold what its name says."""
    return StoreError(
        f"git object {file} {what}.",
        next_step="restore that file from a copy of the store, or the object from a clone with git",
    )


class Graph:
    """The repository at ``path``. Every object read is hashed again, and a mismatch names its file."""

    def __init__(self, path: Path, locks: Path) -> None:
        pygit2.settings.enable_fsync_gitdir()
        self.path = path
        self._locks = locks
        try:
            self._repository = pygit2.Repository(str(path))
        except pygit2.GitError as error:
            raise StoreError(
                f"{path} cannot be opened as a git repository: {error}.", next_step="check its owner and files"
            ) from error

    @classmethod
    def create(cls, path: Path, locks: Path, files: Mapping[str, bytes]) -> None:
        """Make the repository with ``files`` on main, unless it is there: built beside it, renamed in one step."""
        with exclusive(locks / "create"):
            if path.exists():
                return
            draft = path.with_name(f"{path.name}.new")
            if draft.exists():
                shutil.rmtree(draft)  # its maker was killed: the lock says that nobody is at work on it
            pygit2.init_repository(str(draft), bare=True, initial_head="main")
            graph = cls(draft, locks)
            root = graph.graft(None, {name: (graph.write_blob(data), BLOB) for name, data in files.items()})
            graph.move(f"{HEADS}main", None, graph.write_commit(root, [], "The store begins"))
            sync(draft.rglob("*"))
            draft.rename(path)
            sync([path.parent])

    # --- refs

    def target(self, ref: str) -> pygit2.Oid | None:
        """The commit at a full ref name; None when there is no such ref."""
        try:
            found = self._repository.references.get(ref)
            oid = None if found is None else found.resolve().target
        except pygit2.InvalidSpecError:
            return None
        except (pygit2.GitError, KeyError) as error:
            raise StoreError(
                f"git ref {self.path / ref} cannot be read: {error}.", next_step="set it with git update-ref"
            ) from error
        if oid is None:
            return None
        named = self._load(oid)
        return named.target if isinstance(named, pygit2.Tag) else oid

    def resolve(self, ref: str) -> pygit2.Oid:
        """The commit that a branch, a tag or a commit id (or its beginning) names.

        Raises:
            NotFound: none does, or several ids begin so.
        """
        for kind in (HEADS, TAGS):
            found = self.target(kind + ref)
            if found is not None:
                return found
        if COMMIT_ID.fullmatch(ref):
            try:
                oid = self._repository.expand_id(ref)
            except pygit2.AmbiguousError:
                raise NotFound(f"Several ids begin with {ref!r}.", next_step="give more digits") from None
            except pygit2.NotFoundError:
                oid = None
            if oid is not None and isinstance(self._load(oid), pygit2.Commit):
                return oid
        raise NotFound(f"No branch, tag or commit {ref!r} in {self.path}.", next_step="look at its branches and tags with git")

    def move(self, ref: str, old: pygit2.Oid | None, new: pygit2.Oid | None) -> bool:
        """Compare and swap: point ``ref`` at ``new`` if it is at ``old`` (None: no such ref). False when it is elsewhere.

        By libgit2's ref transaction rather than ``git update-ref NEW OLD``. Both take ``<ref>.lock``, so stock git may work in
        the repository at the same time, and both leave that file behind when killed in between, which
        ``owning_lock_file`` heals. But libgit2 also syncs the ref's folder, and starts no process.
        """
        if not pygit2.reference_is_valid_name(ref):
            raise StoreError(
                f"{ref.split('/', 2)[-1]!r} cannot be a branch or a tag in git.", next_step="use letters, digits and dashes"
            )
        lock_file = self.path / f"{ref}.lock"
        try:
            with owning_lock_file(self._locks / "refs", lock_file), self._repository.transaction() as change:
                _take(change, ref, lock_file)
                if self.target(ref) != old:
                    return False
                if new is None:
                    change.remove(ref)
                else:
                    change.set_target(ref, new)
        except pygit2.GitError as error:
            raise StoreError(
                f"git ref {self.path / ref} cannot be moved: {error}.", next_step="check the disk's space and rights"
            ) from error
        return True

    # --- reading objects

    def object_file(self, oid: pygit2.Oid) -> Path:
        """The file of an object that stands alone; of a packed one, the folder of packs."""
        digits = str(oid)
        loose = self.path / "objects" / digits[:2] / digits[2:]
        packs = self.path / "objects" / "pack"
        return loose if loose.exists() or not any(packs.glob("*.pack")) else packs

    def _load(self, oid: pygit2.Oid) -> pygit2.Object:
        try:
            return self._repository[oid]
        except KeyError:
            raise damaged(self.object_file(oid), f"({oid}) is missing") from None
        except pygit2.GitError as error:
            raise damaged(self.object_file(oid), f"does not hold what its name says: {error}") from error

    def _read(self, oid: pygit2.Oid, kind: type[Kind]) -> Kind:
        found = self._load(oid)
        if not isinstance(found, kind):
            raise damaged(self.object_file(oid), f"is a {found.type_str}, expected a {kind.__name__.lower()}")
        return found

    def commit(self, oid: pygit2.Oid) -> pygit2.Commit:
        """A commit by its id."""
        return self._read(oid, pygit2.Commit)

    def root(self, commit: pygit2.Oid) -> pygit2.Oid:
        """The tree of a commit."""
        return self.commit(commit).tree_id

    def blob(self, oid: pygit2.Oid) -> bytes:
        """The bytes of a file in the tree."""
        return self._read(oid, pygit2.Blob).data

    def children(self, tree: pygit2.Oid | None) -> dict[str, Entry]:
        """What a tree holds, by name; nothing for None."""
        if tree is None:
            return {}
        return {str(child.name): (child.id, int(child.filemode)) for child in self._read(tree, pygit2.Tree)}

    def at(self, tree: pygit2.Oid | None, path: str) -> Entry | None:
        """What stands at a path below a tree; None when nothing does."""
        entry: Entry | None = None if tree is None else (tree, TREE)
        for name in path.split("/"):
            if entry is None or entry[1] != TREE:
                return None
            below = self._read(entry[0], pygit2.Tree)
            entry = (below[name].id, int(below[name].filemode)) if name in below else None
        return entry

    def same(self, a: pygit2.Oid | None, b: pygit2.Oid | None, path: str) -> bool:
        """Whether two trees hold the same at a path; reads no deeper than the first equal level."""
        if a == b:
            return True
        name, _, rest = path.partition("/")
        left, right = self.at(a, name), self.at(b, name)
        if not rest or left == right:
            return left == right
        return self.same(_tree(left), _tree(right), rest)

    def changed(self, a: pygit2.Oid, b: pygit2.Oid) -> list[str]:
        """Paths ``asset/partition`` that differ between two trees, sorted; a top-level file or dot folder counts as one."""
        left, right = self.children(a), self.children(b)
        paths: list[str] = []
        for name in _differing(left, right):
            sides = (left.get(name), right.get(name))
            if name.startswith(".") or any(side is not None and side[1] != TREE for side in sides):
                paths.append(name)
            else:
                below = [self.children(_tree(side)) for side in sides]
                paths += [f"{name}/{inner}" for inner in _differing(*below)]
        return sorted(paths)

    def walk(self, start: pygit2.Oid) -> Iterator[pygit2.Commit]:
        """Every commit reachable from ``start`` once, newest first, never one before it was reached from a child."""
        first = self.commit(start)
        waiting = [(-first.commit_time, 0, first)]
        seen = {start}
        while waiting:
            _, _, commit = heapq.heappop(waiting)
            yield commit
            for oid in commit.parent_ids:
                if oid not in seen:
                    seen.add(oid)
                    parent = self.commit(oid)
                    heapq.heappush(waiting, (-parent.commit_time, len(seen), parent))

    def walk_changes(self, start: pygit2.Oid, path: str) -> Iterator[pygit2.Commit]:
        """Commits that hold something else at ``path`` than each of their parents; so no merge that only carried it over."""
        for commit in self.walk(start):
            parents: list[pygit2.Oid | None] = [self.root(oid) for oid in commit.parent_ids]
            if all(not self.same(commit.tree_id, parent, path) for parent in parents or [None]):
                yield commit

    # --- writing objects

    def write_blob(self, data: bytes) -> pygit2.Oid:
        """Store the bytes of a file."""
        return self._repository.create_blob(data)

    def graft(self, tree: pygit2.Oid | None, changes: Mapping[str, Entry | None]) -> pygit2.Oid:
        """A tree with other content at some paths (None: without it); writes only the trees on the way there."""
        builder = self._repository.TreeBuilder() if tree is None else self._repository.TreeBuilder(self._read(tree, pygit2.Tree))
        below: defaultdict[str, dict[str, Entry | None]] = defaultdict(dict)
        for path, entry in changes.items():
            name, _, rest = path.partition("/")
            if rest:
                below[name][rest] = entry
            elif entry is None:
                builder.remove(name)
            else:
                builder.insert(name, *entry)
        for name, inner in below.items():
            builder.insert(name, self.graft(_tree(self.at(tree, name)), inner), TREE)
        return builder.write()

    def write_commit(self, tree: pygit2.Oid, parents: list[pygit2.Oid], message: str) -> pygit2.Oid:
        """Store a commit; no ref moves."""
        author = pygit2.Signature("drivelake", "store@drivelake.invalid")
        return self._repository.create_commit(None, author, author, message, tree, parents)

    def merged(self, ours: pygit2.Oid, theirs: pygit2.Oid, into: str) -> pygit2.Oid:
        """The commit that holds both sides: one of the two where that suffices, else a new one with both as parents.

        Three-way by whole paths, never by lines: half of one version beside half of another is no version.

        Raises:
            Conflict: both sides changed a path since their last common commit, to different content.
        """
        base = self._repository.merge_base(ours, theirs)
        if base is None:
            raise StoreError(f"{_short(theirs)} and {into} share no commit.", next_step="branch from main")
        if base in (ours, theirs):
            return theirs if base == ours else ours
        old, our_root, their_root = self.root(base), self.root(ours), self.root(theirs)
        incoming = self.changed(old, their_root)
        both = set(incoming) & set(self.changed(old, our_root))
        clashing = sorted(path for path in both if not self.same(our_root, their_root, path))
        if clashing:
            raise self._conflict(clashing, base, ours, theirs, into)
        root = self.graft(our_root, {path: self.at(their_root, path) for path in incoming})
        if root == our_root:
            return ours
        return self.write_commit(root, [ours, theirs], f"Merge {_short(theirs)} into {into}")

    def _conflict(self, paths: list[str], base: pygit2.Oid, ours: pygit2.Oid, theirs: pygit2.Oid, into: str) -> Conflict:
        named = []
        for path in paths[:5]:
            on_ours, on_theirs = (next(self.walk_changes(side, path)).id for side in (ours, theirs))
            named.append(f"{path} by commit {_short(on_ours)} on {into} and by commit {_short(on_theirs)} to be merged")
        more = f", and {len(paths) - 5} more" if len(paths) > 5 else ""
        return Conflict(
            f"{len(paths)} path(s) changed on both sides since {_short(base)}: {'; '.join(named)}{more}.",
            next_step=f"look at what stands on {into} now; run again to replace it",
        )


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


def _tree(entry: Entry | None) -> pygit2.Oid | None:
    return entry[0] if entry is not None and entry[1] == TREE else None


def _differing(left: Mapping[str, Entry], right: Mapping[str, Entry]) -> list[str]:
    return [name for name in {*left, *right} if left.get(name) != right.get(name)]


def _short(oid: pygit2.Oid) -> str:
    return str(oid)[:12]
