"""Everything of a ref, to the bucket and from it. Belongs here: comparing whole stores, repairing what a bucket lost.

Never here: what a publisher sends or a reader fetches as it goes.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from drivelake.errors import StoreError
from drivelake.versions.dvc.gitbucket import loose
from drivelake.versions.dvc.graph import Graph, tree_of
from drivelake.versions.dvc.integrity import reachable
from drivelake.versions.dvc.layout import DVC_FILE
from drivelake.versions.dvc.objects import Objects, Staged
from drivelake.versions.dvc.paths import standing

__all__ = ["Moved", "pull", "push", "staged_at"]

BATCH = 256


class Moved(NamedTuple):
    """What a push or a pull looked at, and what it moved.

    Attributes:
        git_objects: commits, trees and small files of the whole history, all read and compared with their hashes.
        git_objects_moved: of these, how many the other side did not have.
        versions: how many stand at the ref.
        files: of these versions; all are there now.
    """

    git_objects: int
    git_objects_moved: int
    versions: int
    files: int


def push(graph: Graph, objects: Objects, commit: str, leave: frozenset[str] = frozenset()) -> Moved:
    """See ``EmbeddedStore.push``."""
    if graph.remote is None:
        raise StoreError(f"{graph.path.parent} is no cache of a bucket.", next_step="declare store.bucket, and migrate")
    there = graph.remote.sizes()
    looked = moved = 0
    commits: list[str] = []
    waiting: list[str] = []
    for oid in reachable(graph.objects, commit):
        looked += 1
        kind, content = graph.objects.read(oid)
        if there.get(oid) == len(loose(kind, content)):
            continue
        moved += 1
        (commits if kind == "commit" else waiting).append(oid)
        if len(waiting) >= BATCH:
            graph.remote.put_each(waiting, graph.objects.read)
            waiting = []
    graph.remote.put_each(waiting, graph.objects.read)
    # A commit that is there says that all below it is, so the oldest goes first and the newest last.
    for oid in sorted(commits, key=lambda oid: graph.objects.commit(oid).order):
        graph.remote.put_each([oid], graph.objects.read)
    versions = files = 0
    for staged in staged_at(graph, commit, leave=leave):
        objects.ensure(staged)
        versions, files = versions + 1, files + staged.nfiles
    return Moved(looked, moved, versions, files)


def pull(graph: Graph, objects: Objects, commit: str, leave: frozenset[str] = frozenset()) -> Moved:
    """See ``EmbeddedStore.pull``."""
    if graph.remote is None:
        raise StoreError(f"{graph.path.parent} is no cache of a bucket.", next_step="declare store.bucket, and migrate")
    before = graph.remote.fetched
    looked = sum(1 for _ in reachable(graph.objects, commit))
    moved = graph.remote.fetched - before
    versions = files = 0
    for staged in staged_at(graph, commit, leave=leave):
        versions, files = versions + 1, files + len(objects.files(staged))
    return Moved(looked, moved, versions, files)


def staged_at(graph: Graph, commit: str, since: str | None = None, leave: frozenset[str] = frozenset()) -> Iterator[Staged]:
    """What each version at a commit keeps its files in; with ``since``, only versions that stand otherwise there.

    Paths in ``leave`` are passed over.
    """
    root, old = graph.root(commit), None if since is None else graph.root(since)
    places = [place for place in graph.changed(old, root) if (path := standing(place)) and path not in leave]
    for start in range(0, len(places), BATCH):
        some = places[start : start + BATCH]
        trees = [tree for place in some if (tree := tree_of(graph.at(root, place))) is not None]
        graph.objects.fetch(trees)
        named = [entry[0] for tree in trees if (entry := graph.objects.read_tree(tree).get(DVC_FILE)) is not None]
        graph.objects.fetch(named)
        for oid in named:
            yield Staged.parse(graph.objects.blob(oid), f"{DVC_FILE} {oid[:12]} at {commit[:12]}")
