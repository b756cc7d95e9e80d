"""Merging and reverting on a lakeFS server, by paths. Belongs here: what clashes, what agrees, and asking the server to move.

Never here: staging, committing.

lakeFS merges by objects; here a path ``asset/partition`` is the unit. Two versions of one path differ in their manifest, which
is one object, so the server refuses whenever both sides changed it. What a manifest does not tell (a path without one, or two
sides that changed different files under one manifest) is compared here before the server is asked; another who merges in the
moment between the two would not be noticed then. There is no fast-forward: every merge makes a commit, and it carries the
metadata of the commit that it merges, because the repository's hooks see that of the merge alone.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import NamedTuple

from lakefs_sdk.models.commit_overrides import CommitOverrides
from lakefs_sdk.models.find_merge_base_result import FindMergeBaseResult
from lakefs_sdk.models.merge import Merge
from lakefs_sdk.models.revert_creation import RevertCreation

from drivelake.errors import Conflict, NotFound, StoreError, Unavailable
from drivelake.versions.lakefs.errors import NoChanges
from drivelake.versions.lakefs.history import history
from drivelake.versions.lakefs.refs import Refs
from drivelake.versions.lakefs.restoring import Restoring
from drivelake.versions.lakefs.tree import DATA, Tree, path_of
from drivelake.versions.store import PUBLISH, refuse_to_revert

__all__ = ["Merging"]

ONE_BY_ONE = 64  # paths that are compared one at a time; more are compared by one listing of all that differs
ROUNDS = 8


class Sides(NamedTuple):
    """What two sides changed since they parted."""

    clashing: list[str]
    agreed: list[str]
    theirs: list[str]


class Merging:
    """Merges and reverts in one repository."""

    def __init__(self, refs: Refs, tree: Tree, restoring: Restoring) -> None:
        self._refs = refs
        self._tree = tree
        self._restoring = restoring
        self._server = refs.server

    def merge(self, theirs: str, into: str) -> str:
        """See ``VersionStore.merge``; ``theirs`` is a full commit id."""
        for _ in range(ROUNDS):
            base = self._base(theirs, into)
            ours = str(base.destination_commit_id)
            if base.base_commit_id == theirs or not any(True for _ in self._tree.changed(base.base_commit_id, theirs)):
                return ours
            sides = self._sides(base.base_commit_id, ours, theirs)
            if sides.clashing:
                raise self._conflict(sides.clashing, base.base_commit_id, ours, theirs, into)
            if sides.theirs and sides.theirs == sides.agreed and not self._beside(base.base_commit_id, theirs):
                return ours
            self._rely_on(theirs, (path for path in sides.theirs if path not in sides.agreed))
            try:
                return self._move(theirs, into, base.base_commit_id, agreed=bool(sides.agreed))
            except NoChanges:
                return self._head(into)
            except Conflict:
                # Another merged between the comparison and the server's own: compare again.
                if self._head(into) == ours:
                    raise
        raise Unavailable(f"{into} moved {ROUNDS} times while {theirs[:12]} was merged.", next_step="run again")

    def _move(self, theirs: str, into: str, base: str, *, agreed: bool) -> str:
        server = self._server
        commit = self._refs.commit(theirs)
        wanted = Merge(
            message=f"Merge {theirs[:12]} into {into}",
            metadata={key: value for key, value in (commit.metadata or {}).items() if not key.startswith(".")},
            # The same bytes, sent another way, are a conflict to the server (see lakefs.transfer): ours stand then.
            strategy="dest-wins" if agreed else None,
            force=False,
            allow_empty=False,
            squash_merge=False,
        )

        def lost() -> str | None:
            found = self._base(theirs, into)
            return str(found.destination_commit_id) if found.base_commit_id == theirs else None

        made = server.call(
            f"MERGE {theirs[:12]} into {into}",
            lambda: str(
                server.sdk.refs_api.merge_into_branch(server.repository, theirs, into, merge=wanted, **server.limits).reference
            ),
            lost=lost,
        )
        if agreed:  # one side was to win: see that nothing that differs was dropped in a race
            dropped = [path for path in self._tree.changed_paths(base, theirs) if self._differs(theirs, made, path)]
            if dropped:
                raise self._conflict(dropped, base, made, theirs, into)
        return made

    def revert(self, commit: str, into: str) -> str:
        """See ``VersionStore.revert``; ``commit`` is a full id."""
        parents = [str(parent) for parent in self._refs.commit(commit).parents]
        if not parents:
            raise StoreError(f"Commit {commit[:12]} is the first: nothing was there before.", next_step="revert a later one")
        before = parents[0]
        for _ in range(ROUNDS):
            ours = self._head(into)
            paths = self._tree.changed_paths(before, commit)
            refuse_to_revert(paths)
            left = [path for path in paths if self._differs(before, ours, path)]
            if not left:
                return ours
            again = [path for path in left if self._differs(commit, ours, path)]
            if again:
                raise self._changed_again(again, commit, ours, into)
            with self._kept(before):
                self._rely_on(before, left)
                self._ask_revert(commit, into, ours, left, parents)
        raise Unavailable(f"{into} moved {ROUNDS} times while {commit[:12]} was reverted.", next_step="run again")

    def _ask_revert(self, commit: str, into: str, ours: str, paths: list[str], parents: list[str]) -> None:
        server = self._server
        overrides = CommitOverrides(message=f"Revert {commit[:12]}", metadata={})
        number = 1 if len(parents) > 1 else 0
        wanted = RevertCreation(ref=commit, parent_number=number, commit_overrides=overrides, allow_empty=False)

        def once() -> bool:
            server.sdk.branches_api.revert_branch(server.repository, into, wanted, **server.limits)
            return True

        def lost() -> bool | None:
            # Asked twice, the server makes a second commit that changes nothing.
            head = self._head(into)
            return True if head != ours and not any(self._differs(parents[0], head, path) for path in paths) else None

        # Both mean that something else moved: the caller looks at what stands now.
        with suppress(NoChanges, Conflict):
            server.call(f"REVERT {commit[:12]} on {into}", once, lost=lost)

    @contextmanager
    def _kept(self, commit: str) -> Iterator[None]:
        """A branch at a commit that no other may name, so that garbage collection meets it."""
        name = f"{PUBLISH}revert-{secrets.token_hex(8)}"
        self._refs.create(name, commit)
        try:
            yield
        finally:
            self._refs.delete(name)

    def _rely_on(self, commit: str, paths: Iterable[str]) -> None:
        """Wait for a collection that is at work, and see that the files of versions are there."""
        self._restoring.wait()
        held = [one for path in paths for name, one in self._tree.version(commit, path).items() if name.startswith(f"{DATA}/")]
        self._restoring.restore(held, commit)

    # --- what differs

    def _base(self, theirs: str, into: str) -> FindMergeBaseResult:
        server = self._server
        try:
            return server.call(
                f"BASE of {theirs[:12]} and {into}",
                lambda: server.sdk.refs_api.find_merge_base(server.repository, theirs, into, **server.limits),
            )
        except NotFound as missing:
            raise NotFound(f"There is no branch {into!r}.", next_step="start it with branch()") from missing

    def _head(self, branch: str) -> str:
        found = self._refs.head(branch)
        if found is None:
            raise NotFound(f"There is no branch {branch!r}.", next_step="start it with branch()")
        return found

    def _sides(self, base: str, ours: str, theirs: str) -> Sides:
        changed = self._tree.changed_paths(base, theirs)
        if len(changed) <= ONE_BY_ONE:
            both = [path for path in changed if any(True for _ in self._tree.changed(base, ours, f"{path}/"))]
        else:
            on_ours = set(self._tree.changed_paths(base, ours))
            both = [path for path in changed if path in on_ours]
        clashing = [path for path in both if self._differs(theirs, ours, path)]
        return Sides(clashing, [path for path in both if path not in clashing], changed)

    def _differs(self, a: str, b: str, path: str) -> bool:
        if not any(True for _ in self._tree.changed(a, b, f"{path}/")):
            return False
        return self._tree.contents(a, path) != self._tree.contents(b, path)

    def _beside(self, base: str, theirs: str) -> bool:
        """Whether something changed that belongs to no path."""
        return any(path_of(name) is None for name in self._tree.changed(base, theirs))

    # --- messages

    def _newest(self, ref: str, path: str) -> str:
        found = next(history(self._server, ref, path), None)
        return (found.commit if found else ref)[:12]

    def _conflict(self, paths: list[str], base: str, ours: str, theirs: str, into: str) -> Conflict:
        named = [
            f"{path} by commit {self._newest(ours, path)} on {into} and by commit {self._newest(theirs, path)} to be merged"
            for path in paths[:5]
        ]
        more = f", and {len(paths) - 5} more" if len(paths) > 5 else ""
        return Conflict(
            f"{len(paths)} path(s) changed on both sides since commit {base[:12]}: {'; '.join(named)}{more}.",
            next_step=f"look at what stands on {into} now; run again to replace it",
        )

    def _changed_again(self, paths: list[str], commit: str, ours: str, into: str) -> Conflict:
        named = "; ".join(f"{path} by commit {self._newest(ours, path)} on {into}" for path in paths[:5])
        return Conflict(
            f"Commit {commit[:12]} cannot be reverted: {len(paths)} path(s) changed again since: {named}.",
            next_step="revert the later commit first, or publish what should stand there",
        )
