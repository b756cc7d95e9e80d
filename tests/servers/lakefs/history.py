"""Commits of the lakeFS stand-in: their ids, refs, ancestry, merge bases, logs.

Never here: what changes a branch (model.py), HTTP.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from tests.servers.lakefs.trees import Failure, Tree, differences

EXPRESSION = re.compile(r"^(?P<base>[^~^@$]+)(?P<steps>([~^]\d*)*)(?P<state>[@$]?)$")
STEP = re.compile(r"([~^])(\d*)")
SHORTEST_PREFIX = 4  # assumed: lakeFS resolves any unambiguous prefix; nobody should rely on fewer digits


@dataclass(frozen=True)
class Commit:
    """An immutable commit. Its id follows from everything that is in it, the time in whole seconds included."""

    parents: tuple[str, ...]
    tree: Tree
    message: str
    committer: str
    creation_date: int
    generation: int
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def id(self) -> str:
        text = json.dumps(
            [
                self.committer,
                self.message,
                self.tree.id,
                self.creation_date,
                sorted(self.metadata.items()),
                self.parents,
            ]
        )
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Resolved:
    """What a ref expression names: a commit, the branch whose staged objects belong to it, and whether ``$`` asked for them."""

    commit: str
    staged_on: str | None
    asks_for_staged: bool


class History:
    """All commits of one repository."""

    def __init__(self) -> None:
        self.commits: dict[str, Commit] = {}

    def add(self, commit: Commit) -> str:
        self.commits[commit.id] = commit
        return commit.id

    def by_prefix(self, prefix: str) -> str | None:
        """The one commit whose id starts so; none when there is none or more than one (lakeFS says 404 for both)."""
        if prefix in self.commits:
            return prefix
        if len(prefix) < SHORTEST_PREFIX or not re.fullmatch(r"[0-9a-f]+", prefix):
            return None
        found = [commit for commit in self.commits if commit.startswith(prefix)]
        return found[0] if len(found) == 1 else None

    def resolve(self, ref: str, branches: Mapping[str, str], tags: Mapping[str, str]) -> Resolved:
        """Branch, tag or commit, then ``~n`` and ``^n``; ``@`` means committed only, ``$`` staged only."""
        match = EXPRESSION.match(ref)
        if match is None:
            raise Failure(400, "ref: invalid value: validation error")
        base, state = match["base"], match["state"]
        commit = branches.get(base) or tags.get(base) or self.by_prefix(base)
        if commit is None:
            raise Failure(404, "not found")
        if state and (base not in branches or (state == "$" and match["steps"])):
            raise Failure(400, "ref: invalid value: validation error")
        for operator, number in STEP.findall(match["steps"]):
            commit = self._step(commit, operator, int(number) if number else 1)
        on_branch = base in branches and not match["steps"] and state != "@"
        return Resolved(commit, base if on_branch else None, state == "$")

    def _step(self, commit: str, operator: str, number: int) -> str:
        if operator == "^":
            parents = self.commits[commit].parents
            if number == 0:
                return commit
            if number > len(parents):
                raise Failure(404, "commit not found")
            return parents[number - 1]
        for _ in range(number):
            parents = self.commits[commit].parents
            if not parents:
                raise Failure(404, "commit not found")
            commit = parents[0]
        return commit

    def ancestors(self, commit: str) -> set[str]:
        seen: set[str] = set()
        waiting = [commit]
        while waiting:
            one = waiting.pop()
            if one not in seen:
                seen.add(one)
                waiting += self.commits[one].parents
        return seen

    def merge_base(self, one: str, other: str) -> str:
        """The common ancestor of the greatest generation."""
        common = self.ancestors(one) & self.ancestors(other)
        if not common:
            raise Failure(400, "no merge base")
        return max(common, key=lambda commit: (self.commits[commit].generation, commit))

    def log(self, start: str, *, first_parent: bool) -> Iterator[str]:
        """Newest first by time; within a second, assumed, children before their parents."""
        waiting = [self._rank(start)]
        seen = {start}
        while waiting:
            commit = heapq.heappop(waiting)[-1]
            yield commit
            parents = self.commits[commit].parents
            for parent in parents[:1] if first_parent else parents:
                if parent not in seen:
                    seen.add(parent)
                    heapq.heappush(waiting, self._rank(parent))

    def _rank(self, commit: str) -> tuple[int, int, str]:
        known = self.commits[commit]
        return -known.creation_date, -known.generation, commit

    def touching(self, objects: Sequence[str], prefixes: Sequence[str]) -> Callable[[str], bool]:
        """Whether a commit changed one of the paths. Merge commits and the first commit never count, as in lakeFS."""

        def touches(commit: str) -> bool:
            known = self.commits[commit]
            if len(known.parents) != 1:
                return False
            before = self.commits[known.parents[0]].tree
            if before.id == known.tree.id:
                return False
            return any(
                change.path in objects or change.path.startswith(tuple(prefixes)) for change in differences(before, known.tree)
            )

        return touches if objects or prefixes else lambda _: True
