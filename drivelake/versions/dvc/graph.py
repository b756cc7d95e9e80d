"""The commit graph: a bare git repository, without a working tree. Belongs here: naming commits, and paths in their trees.

Never here: how a ref moves (``refs``), the order of commits and merging (``merging``), where a version's files are kept, how a
version is published, what its bytes mean.

What is durable when: objects are synced as they are written, and a ref's file and folder before a move returns.
A ref is moved only to a commit whose objects are all written, so a power cut shows the old ref or the new one, with
everything below it. Beside a bucket the same holds there: objects are sent before the ref that reaches them moves.
"""

from __future__ import annotations

import re
import shutil
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pygit2

from drivelake.errors import NotFound, StoreError
from drivelake.versions.durable import sync
from drivelake.versions.dvc.gitbucket import GitBucket
from drivelake.versions.dvc.gitobjects import BLOB, TREE, Entry, GitObjects
from drivelake.versions.dvc.paths import shard
from drivelake.versions.dvc.refs import HEADS, TAGS, BucketRefs, LocalRefs, Refs
from drivelake.versions.locks import exclusive

if TYPE_CHECKING:
    from drivelake.versions.s3.bucket import Bucket

__all__ = ["BOUND", "COMMIT_ID", "Graph", "tree_of"]

COMMIT_ID = re.compile(r"[0-9a-fA-F]{7,40}")
WHOLE_ID = 40
NO_REF = re.compile(r"[0-9a-fA-F]{7,64}")  # other backends' commits are named by 64 digits: one law for all
BOUND = "drivelake-bucket"  # a file in a repository that caches a bucket: the bucket's url


class Graph:
    """The repository at ``path``; ids are 40 hex digits. Every object read is verified, see ``gitobjects``.

    Args:
        path: the bare repository.
        locks: a folder for locks between processes of this machine.
        bucket: what the repository is this machine's cache of; None: it is the store itself.
    """

    def __init__(self, path: Path, locks: Path, bucket: Bucket | None = None) -> None:
        self.path = path
        self.remote = None if bucket is None else GitBucket(bucket)
        try:
            self._repository = pygit2.Repository(str(path))
            self.objects = GitObjects(path, self.remote)
            local = LocalRefs(path, locks, self.objects.tagged)
        except pygit2.GitError as error:
            raise StoreError(
                f"{path} cannot be opened as a git repository: {error}.", next_step="check its owner and files"
            ) from error
        self.refs: Refs = local if bucket is None else BucketRefs(bucket, local)

    @classmethod
    def create(cls, path: Path, locks: Path, files: Mapping[str, bytes]) -> None:
        """Make the repository with ``files`` on main, unless it is there: built beside it, renamed in one step."""
        with _draft(path, locks) as draft:
            if draft is not None:
                cls(draft, locks).begin(files)

    @classmethod
    def cache(cls, path: Path, locks: Path, url: str) -> None:
        """Make an empty repository that caches a bucket, unless there is a repository."""
        with _draft(path, locks) as draft:
            if draft is not None:
                (draft / BOUND).write_text(f"{url}\n")

    def begin(self, files: Mapping[str, bytes]) -> bool:
        """Make main, with ``files`` in its first commit; False when another made it first."""
        root = self.graft(None, {name: (self.objects.write_blob(data), BLOB) for name, data in files.items()})
        return self.move(f"{HEADS}main", None, self.write_commit(root, [], "The store begins"))

    # --- refs

    def resolve(self, ref: str) -> str:
        """The commit that a branch, a tag or a commit id (or its beginning) names.

        What reads like a commit id is looked up as one alone: else a branch of that name, made with git, would put
        another history in the commit's place.

        Raises:
            NotFound: none does, or several ids begin so.
        """
        if COMMIT_ID.fullmatch(ref):
            oid = self._expand(ref.lower())
            if oid is not None and self.objects.read(oid)[0] == "commit":
                return oid
        else:
            for kind in (HEADS, TAGS):
                found = self.refs.target(kind + ref)
                if found is not None:
                    return found
        where = self.path if self.remote is None else self.remote.bucket.url
        raise NotFound(f"No branch, tag or commit {ref!r} in {where}.", next_step="look at its branches and tags with git")

    def _expand(self, digits: str) -> str | None:
        if self.remote is not None:
            return self._expand_remote(digits)
        try:
            oid = str(self._repository.expand_id(digits))
        except pygit2.AmbiguousError:
            raise NotFound(f"Several ids begin with {digits!r}.", next_step="give more digits") from None
        except pygit2.NotFoundError:
            return None
        return oid if oid in self._repository else None

    def _expand_remote(self, digits: str) -> str | None:
        assert self.remote is not None, "asked by _expand alone"
        if len(digits) == WHOLE_ID and self.objects.held(digits):
            return digits
        found = self.remote.beginning(digits)
        if len(found) > 1:
            raise NotFound(f"Several ids begin with {digits!r}.", next_step="give more digits")
        return found[0] if found else None

    def move(self, ref: str, old: str | None, new: str | None) -> bool:
        """Compare and swap: point ``ref`` at ``new`` if it is at ``old`` (None: no such ref). False when it is elsewhere.

        Everything below ``new`` is durable before, on the bucket if there is one.
        """
        name = ref.split("/", 2)[-1]
        if not pygit2.reference_is_valid_name(ref):
            raise StoreError(f"{name!r} cannot be a branch or a tag in git.", next_step="use letters, digits and dashes")
        if new is not None:
            if NO_REF.fullmatch(name):
                raise StoreError(
                    f"{name!r} cannot be a branch or a tag: 7 to 64 hex digits read like a commit id.",
                    next_step="put a word in front, as in release-20260101",
                )
            self.objects.send(new)
        return self.refs.move(ref, old, new)

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
        return self.at(tree_of(entry), rest) if rest else entry

    def same(self, a: str | None, b: str | None, path: str) -> bool:
        """Whether two trees hold the same at a path; reads no deeper than the first equal level."""
        name, _, rest = path.partition("/")
        if a == b:
            return True
        left, right = self.children(a).get(name), self.children(b).get(name)
        return self.same(tree_of(left), tree_of(right), rest) if rest and left != right else left == right

    def changed(self, a: str | None, b: str | None, depth: int = 3) -> list[str]:
        """Places that differ between two trees, sorted: ``asset/shard/partition``, see ``paths``.

        A file further up counts as one, and a dot folder does.
        """
        left, right = self.children(a), self.children(b)
        places: list[str] = []
        for name in {*left, *right}:
            sides = (left.get(name), right.get(name))
            if sides[0] == sides[1]:
                continue
            if depth == 1 or name.startswith(".") or any(side is not None and side[1] != TREE for side in sides):
                places.append(name)
            else:
                places += [f"{name}/{below}" for below in self.changed(tree_of(sides[0]), tree_of(sides[1]), depth - 1)]
        return sorted(places)

    def partitions(self, asset: str | None) -> dict[str, Entry]:
        """What stands in the shards of an asset's tree, by partition, sorted; what stands in a wrong one is left out."""
        shards = {name: oid for name, (oid, mode) in self.children(asset).items() if mode == TREE}
        self.objects.fetch(shards.values())
        found = {
            partition: entry
            for name, oid in shards.items()
            for partition, entry in self.objects.read_tree(oid).items()
            if shard(partition) == name
        }
        return dict(sorted(found.items()))

    def graft(self, tree: str | None, changes: Mapping[str, Entry | None]) -> str:
        """A tree with other content at some places (None: without them); writes only the trees on the way there.

        A folder that nothing is left in goes too, so that taking away what was added gives the same tree again.
        """
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
            grafted = self.graft(tree_of(entries.get(name)), inner)
            if self.children(grafted):
                entries[name] = (grafted, TREE)
            else:
                entries.pop(name, None)
        return self.objects.write_tree(entries)

    def write_commit(self, tree: str, parents: Sequence[str], message: str) -> str:
        """Store a commit made now; no ref moves. Its times follow those of its parents, also when a clock was set back."""
        before = [self.objects.commit(oid) for oid in parents]
        now_s = int(time.time())
        time_s = max([now_s, *(commit.time_s for commit in before)])
        order = max([now_s, *(commit.order + 1 for commit in before)])
        return self.objects.write_commit(tree, parents, message, time_s, order)


def tree_of(entry: Entry | None) -> str | None:
    """The id of a folder; None for anything else."""
    return entry[0] if entry is not None and entry[1] == TREE else None


@contextmanager
def _draft(path: Path, locks: Path) -> Iterator[Path | None]:
    """An empty bare repository beside ``path``, renamed to it when the block ends; None when something stands there."""
    with exclusive(locks / "create"):
        if path.exists():
            yield None
            return
        draft = path.with_name(f"{path.name}.new")
        if draft.exists():
            shutil.rmtree(draft)  # its maker was killed: the lock says that nobody is at work on it
        pygit2.init_repository(str(draft), bare=True, initial_head="main")
        yield draft
        sync(draft.rglob("*"))
        draft.rename(path)
        sync([path.parent])
