"""The order of commits, and bringing two of them together. Belongs here: walking the history, common ancestors, merge, revert.

Never here: refs, when a branch moves, what a version means.

Commits are ordered by ``Commit.order``, which grows from parent to child whatever the clocks of their makers said. Only commits
made with stock git may break that: a merge over those can find a conflict too many, but never misses one.
"""

from __future__ import annotations

import heapq
from collections import defaultdict
from collections.abc import Callable, Iterator

from drivelake.errors import Conflict, StoreError
from drivelake.versions.dvc.gitobjects import Commit
from drivelake.versions.dvc.graph import Graph
from drivelake.versions.dvc.paths import standing

__all__ = ["History"]

NAMED = 5  # of many paths, in a message


class History:
    """The commits of a graph, in order."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph

    def walk(self, start: str) -> Iterator[Commit]:
        """Every commit reachable from ``start`` once, newest first, never one before it was reached from a child."""
        first = self._graph.objects.commit(start)
        waiting = [(-first.order, 0, first)]
        seen = {start}
        while waiting:
            _, _, commit = heapq.heappop(waiting)
            yield commit
            for oid in commit.parents:
                if oid not in seen:
                    seen.add(oid)
                    parent = self._graph.objects.commit(oid)
                    heapq.heappush(waiting, (-parent.order, len(seen), parent))

    def walk_changes(self, start: str, place: str) -> Iterator[Commit]:
        """Commits that hold something else at ``place`` than each of their parents; so no merge that only carried it over."""
        for commit in self.walk(start):
            parents: list[str | None] = [self._graph.root(oid) for oid in commit.parents]
            if all(not self._graph.same(commit.tree, parent, place) for parent in parents or [None]):
                yield commit

    def merge_base(self, a: str, b: str) -> str | None:
        """The newest commit that both have among their ancestors; None when they share none."""
        reached: defaultdict[str, set[str]] = defaultdict(set)
        waiting: list[tuple[int, str]] = []

        def reach(oid: str, sides: set[str]) -> None:
            if not sides <= reached[oid]:
                reached[oid] |= sides
                heapq.heappush(waiting, (-self._graph.objects.commit(oid).order, oid))

        reach(a, {a})
        reach(b, {b})
        while waiting:
            _, oid = heapq.heappop(waiting)
            if reached[oid] == {a, b}:
                return oid
            for parent in self._graph.objects.commit(oid).parents:
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
        old, our_root, their_root = self._graph.root(base), self._graph.root(ours), self._graph.root(theirs)
        incoming = self._graph.changed(old, their_root)
        both = set(incoming) & set(self._graph.changed(old, our_root))
        clashing = sorted(path for path in both if not self._graph.same(our_root, their_root, path))
        if clashing:
            raise self._conflict(clashing, base, ours, theirs, into)
        root = self._graph.graft(our_root, {path: self._graph.at(their_root, path) for path in incoming})
        return ours if root == our_root else self._graph.write_commit(root, [ours, theirs], f"Merge {theirs[:12]} into {into}")

    def reverted(self, ours: str, undone: Commit, into: str) -> str:
        """A commit on ``ours`` in which every place that ``undone`` changed holds what it held before; ``ours`` if it does.

        Raises:
            Conflict: a place holds neither what ``undone`` brought nor what was there before.
        """
        if not undone.parents:
            raise StoreError(f"{undone.id[:12]} began the store.", next_step="name a commit that published something")
        before, our_root = self._graph.root(undone.parents[0]), self._graph.root(ours)
        changed = self._graph.changed(before, undone.tree)
        waiting = [place for place in changed if not self._graph.same(our_root, before, place)]
        if again := [place for place in waiting if not self._graph.same(our_root, undone.tree, place)]:
            raise Conflict(
                f"{len(again)} path(s) that commit {undone.id[:12]} changed were changed again on {into}: "
                f"{self._list(again, lambda place: f'{_named(place)} by commit {self._last(ours, place)}')}.",
                next_step="revert the later commit first, or publish what should stand there",
            )
        root = self._graph.graft(our_root, {place: self._graph.at(before, place) for place in waiting})
        return ours if root == our_root else self._graph.write_commit(root, [ours], f"Revert {undone.id[:12]}")

    def _conflict(self, places: list[str], base: str, ours: str, theirs: str, into: str) -> Conflict:
        def both(place: str) -> str:
            on_ours, on_theirs = (self._last(side, place) for side in (ours, theirs))
            return f"{_named(place)} by commit {on_ours} on {into} and by commit {on_theirs} to be merged"

        return Conflict(
            f"{len(places)} path(s) changed on both sides since commit {base[:12]}: {self._list(places, both)}.",
            next_step=f"look at what stands on {into} now; run again to replace it",
        )

    def _last(self, commit: str, place: str) -> str:
        return next(self.walk_changes(commit, place)).id[:12]

    @staticmethod
    def _list(places: list[str], say: Callable[[str], str]) -> str:
        more = f", and {len(places) - NAMED} more" if len(places) > NAMED else ""
        return "; ".join(map(say, places[:NAMED])) + more


def _named(place: str) -> str:
    return standing(place) or place
