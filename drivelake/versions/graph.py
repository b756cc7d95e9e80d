"""The commit graph: a bare git repository, without a working tree. Belongs here: refs, paths in trees, walking, merging.

Never here: where a version's files are kept, how a version is published, what its bytes mean.

What is durable when: objects are synced as they are written, and a ref's file and folder before a move returns.
A ref is moved only to a commit whose objects are all written, so a power cut shows the old ref or the new one, with
everything below it.
"""

from __future__ import annotations

import heapq
import re
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pygit2

from drivelake.errors import Conflict, NotFound, StoreError
from drivelake.versions.durable import sync
from drivelake.versions.gitobjects import BLOB, TREE, Commit, Entry, GitObjects
from drivelake.versions.locks import exclusive, owning_lock_file

__all__ = ["COMMIT_ID", "HEADS", "TAGS", "Graph"]

HEADS, TAGS = "refs/heads/", "refs/tags/"
COMMIT_ID = re.compile(r"[0-9a-fA-F]{7,40}")
LOCK_WAIT_S = 5.0


class Graph:
    """The repository at ``path``; ids are 40 hex digits. Every object read is verified, see ``gitobjects``."""

    def __init__(self, path: Path, locks: Path) -> None:
        self.path = path
        self._locks = locks
        try:
            self._repository = pygit2.Repository(str(path))
            self.objects = GitObjects(path)
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
            root = graph.graft(None, {name: (graph.objects.write_blob(data), BLOB) for name, data in files.items()})
            graph.move(f"{HEADS}main", None, graph.write_commit(root, [], "The store begins"))
            sync(draft.rglob("*"))
            draft.rename(path)
            sync([path.parent])

    # --- refs

    def target(self, ref: str) -> str | None:
        """The commit at a full ref name; None when there is no such ref."""
        try:
            found = self._repository.references.get(ref)
            oid = None if found is None else str(found.resolve().target)
        except pygit2.InvalidSpecError:
            return None
        except (pygit2.GitError, KeyError) as error:
            raise StoreError(
                f"git ref {self.path / ref} cannot be read: {error}.", next_step="set it with git update-ref"
            ) from error
        return None if oid is None else self.objects.tagged(oid)

    def resolve(self, ref: str) -> str:
        """The commit that a branch, a tag or a commit id (or its beginning) names.

        What reads like a commit id is looked up as one alone: else a branch of that name, made with git, would put
        another history in the commit's place.

        Raises:
            NotFound: none does, or several ids begin so.
        """
        if COMMIT_ID.fullmatch(ref):
            oid = self._expand(ref)
            if oid is not None and self.objects.read(oid)[0] == "commit":
                return oid
        else:
            for kind in (HEADS, TAGS):
                found = self.target(kind + ref)
                if found is not None:
                    return found
        raise NotFound(f"No branch, tag or commit {ref!r} in {self.path}.", next_step="look at its branches and tags with git")

    def _expand(self, digits: str) -> str | None:
        try:
            oid = str(self._repository.expand_id(digits))
        except pygit2.AmbiguousError:
            raise NotFound(f"Several ids begin with {digits!r}.", next_step="give more digits") from None
        except pygit2.NotFoundError:
            return None
        return oid if oid in self._repository else None

    def refs(self) -> list[str]:
        """Full names of all refs, sorted."""
        try:
            return sorted(self._repository.references)
        except pygit2.GitError as error:
            raise StoreError(f"The refs of {self.path} cannot be listed: {error}.", next_step="look with git fsck") from error

    def move(self, ref: str, old: str | None, new: str | None) -> bool:
        """Compare and swap: point ``ref`` at ``new`` if it is at ``old`` (None: no such ref). False when it is elsewhere.

        By libgit2's ref transaction rather than ``git update-ref NEW OLD``. Both take ``<ref>.lock``, so stock git may work
        in the repository at the same time, and both leave that file behind when killed in between, which
        ``owning_lock_file`` heals. But libgit2 also syncs the ref's folder, and starts no process.
        """
        name = ref.split("/", 2)[-1]
        if not pygit2.reference_is_valid_name(ref):
            raise StoreError(f"{name!r} cannot be a branch or a tag in git.", next_step="use letters, digits and dashes")
        if new is not None and COMMIT_ID.fullmatch(name):
            raise StoreError(
                f"{name!r} cannot be a branch or a tag: 7 to 40 hex digits read like a commit id.",
                next_step="put a word in front, as in release-20260101",
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

    # --- paths in trees

    def root(self, commit: str) -> str:
        """The tree of a commit."""
        return self.objects.commit(commit).tree

    def children(self, tree: str | None) -> Mapping[str, Entry]:
        """What a tree holds, by name; nothing for None."""
        return {} if tree is None else self.objects.tree(tree)

    def at(self, tree: str | None, path: str) -> Entry | None:
        """What stands at a path below a tree; None when nothing does."""
        name, _, rest = path.partition("/")
        entry = self.children(tree).get(name)
        return self.at(_tree(entry), rest) if rest else entry

    def same(self, a: str | None, b: str | None, path: str) -> bool:
        """Whether two trees hold the same at a path; reads no deeper than the first equal level."""
        name, _, rest = path.partition("/")
        if a == b:
            return True
        left, right = self.children(a).get(name), self.children(b).get(name)
        return self.same(_tree(left), _tree(right), rest) if rest and left != right else left == right

    def changed(self, a: str, b: str) -> list[str]:
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

    def graft(self, tree: str | None, changes: Mapping[str, Entry | None]) -> str:
        """A tree with other content at some paths (None: without them); writes only the trees on the way there."""
        entries = dict(self.children(tree))
        below: defaultdict[str, dict[str, Entry | None]] = defaultdict(dict)
        for path, entry in changes.items():
            name, _, rest = path.partition("/")
            if rest:
                below[name][rest] = entry
            elif entry is None:
                entries.pop(name, None)
            else:
                entries[name] = entry
        for name, inner in below.items():
            entries[name] = (self.graft(_tree(entries.get(name)), inner), TREE)
        return self.objects.write_tree(entries)

    # --- commits

    def write_commit(self, tree: str, parents: list[str], message: str) -> str:
        """Store a commit made now; no ref moves."""
        return self.objects.write_commit(tree, parents, message, int(time.time()))

    def walk(self, start: str) -> Iterator[Commit]:
        """Every commit reachable from ``start`` once, newest first, never one before it was reached from a child."""
        first = self.objects.commit(start)
        waiting = [(-first.time_s, 0, first)]
        seen = {start}
        while waiting:
            _, _, commit = heapq.heappop(waiting)
            yield commit
            for oid in commit.parents:
                if oid not in seen:
                    seen.add(oid)
                    parent = self.objects.commit(oid)
                    heapq.heappush(waiting, (-parent.time_s, len(seen), parent))

    def walk_changes(self, start: str, path: str) -> Iterator[Commit]:
        """Commits that hold something else at ``path`` than each of their parents; so no merge that only carried it over."""
        for commit in self.walk(start):
            parents: list[str | None] = [self.root(oid) for oid in commit.parents]
            if all(not self.same(commit.tree, parent, path) for parent in parents or [None]):
                yield commit

    def merge_base(self, a: str, b: str) -> str | None:
        """A commit that both have among their ancestors, the newest by its time; None when they share none.

        Where clocks disagreed it may be an older one than need be: a merge from there can find a conflict too many,
        but never misses one.
        """
        reached: defaultdict[str, set[str]] = defaultdict(set)
        waiting: list[tuple[int, str]] = []

        def reach(oid: str, sides: set[str]) -> None:
            if not sides <= reached[oid]:
                reached[oid] |= sides
                heapq.heappush(waiting, (-self.objects.commit(oid).time_s, oid))

        reach(a, {a})
        reach(b, {b})
        while waiting:
            _, oid = heapq.heappop(waiting)
            if reached[oid] == {a, b}:
                return oid
            for parent in self.objects.commit(oid).parents:
                reach(parent, reached[oid])
        return None

    def merged(self, ours: str, theirs: str, into: str) -> str:
        """The commit that holds both sides: one of the two where that suffices, else a new one with both as parents.

        Three-way by whole paths, never by lines: half of one version beside half of another is no version.

        Raises:
            Conflict: both sides changed a path since their last common commit, to different content.
        """
        base = self.merge_base(ours, theirs)
        if base is None:
            raise StoreError(f"{theirs[:12]} and {into} share no commit.", next_step="branch from main")
        if base in (ours, theirs):
            return theirs if base == ours else ours
        old, our_root, their_root = self.root(base), self.root(ours), self.root(theirs)
        incoming = self.changed(old, their_root)
        both = set(incoming) & set(self.changed(old, our_root))
        clashing = sorted(path for path in both if not self.same(our_root, their_root, path))
        if clashing:
            raise self._conflict(clashing, base, ours, theirs, into)
        root = self.graft(our_root, {path: self.at(their_root, path) for path in incoming})
        return ours if root == our_root else self.write_commit(root, [ours, theirs], f"Merge {theirs[:12]} into {into}")

    def _conflict(self, paths: list[str], base: str, ours: str, theirs: str, into: str) -> Conflict:
        named = []
        for path in paths[:5]:
            on_ours, on_theirs = (next(self.walk_changes(side, path)).id[:12] for side in (ours, theirs))
            named.append(f"{path} by commit {on_ours} on {into} and by commit {on_theirs} to be merged")
        more = f", and {len(paths) - 5} more" if len(paths) > 5 else ""
        return Conflict(
            f"{len(paths)} path(s) changed on both sides since commit {base[:12]}: {'; '.join(named)}{more}.",
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


def _tree(entry: Entry | None) -> str | None:
    return entry[0] if entry is not None and entry[1] == TREE else None


def _differing(left: Mapping[str, Entry], right: Mapping[str, Entry]) -> list[str]:
    return [name for name in {*left, *right} if left.get(name) != right.get(name)]
