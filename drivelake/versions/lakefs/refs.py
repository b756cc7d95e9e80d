"""Names for commits on a lakeFS server: branches, commit ids, locks made of branches. Belongs here: resolving, making, locking.

Never here: tags that move (see lakefs.tags), what commits hold.

A lock is a branch ``lock-<what>``. The server makes a branch of a name once, so of many that want the lock one gets it. It
starts at an empty commit that only its taker made, on a branch of its own before: whose lock it is can be read at any time,
also by a taker whose answer was lost, and so can its age, by the server's own clock. Branches that begin so are never shown.
"""

from __future__ import annotations

import math
import re
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from lakefs_sdk.exceptions import ApiException
from lakefs_sdk.models.branch_creation import BranchCreation
from lakefs_sdk.models.commit import Commit
from lakefs_sdk.models.commit_creation import CommitCreation

from drivelake.errors import NotFound, StoreError, Unavailable
from drivelake.versions.lakefs.calls import Server
from drivelake.versions.store import MAIN

__all__ = [
    "COMMIT_ID",
    "GC_LEASE_S",
    "GC_LOCK",
    "GC_NOTE",
    "LOCK",
    "Lock",
    "LockLost",
    "Refs",
    "check_branch",
    "check_tag",
    "is_tag",
]

COMMIT_ID = re.compile(r"[0-9a-fA-F]{7,64}")
BRANCH = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]*")
# Narrower than lakeFS: nothing that it would read as an expression (main~1, main@), and nothing that git refuses.
TAG = re.compile(r"(?!.*(\.\.|//|\.lock$|[./]$))[A-Za-z0-9_][A-Za-z0-9_./-]{0,119}")
LOCK = "lock-"
GC_LOCK = f"{LOCK}gc"  # who collects garbage; publishers that rely on old bytes wait for it
GC_NOTE = f"{LOCK}gc-note"  # when the last collection began and ended; there since the first one
GC_LEASE_S = 600.0
ENDED = "Drivelake-Ended"
LOCKED, NONCE = "Drivelake-Lock", "Drivelake-Nonce"


class LockLost(Unavailable):
    """Another took a lock over while its holder was held up."""


@dataclass(frozen=True)
class Lock:
    """A lock as it stands now.

    Attributes:
        name: of its branch.
        head: the commit it points at.
        record: what its holder wrote into that commit.
        made_s: when that was, seconds since 1970 by the server's clock.
    """

    name: str
    head: str
    record: Mapping[str, str]
    made_s: int


class Refs:
    """Branches and commits of one repository."""

    def __init__(self, server: Server) -> None:
        self.server = server

    # --- commits

    def commit(self, ref: str) -> Commit:
        """The commit that an id, a prefix of one, or a branch names. Raises NotFound."""
        server = self.server
        return server.call(
            f"COMMIT {ref[:12]}", lambda: server.sdk.commits_api.get_commit(server.repository, ref, **server.limits)
        )

    def by_id(self, digits: str) -> str:
        """The full id for 7 to 64 hex digits. Raises NotFound for none and for several."""
        wanted = digits.lower()
        try:
            found = str(self.commit(wanted).id)
        except NotFound as missing:
            raise NotFound(
                f"No branch, tag or commit {digits!r} in {self.server.repository!r}, or several ids begin with it.",
                next_step="give more digits, or look at the repository's commits",
            ) from missing
        if not found.startswith(wanted):  # a branch that somebody named like a commit
            raise NotFound(f"No branch, tag or commit {digits!r} in {self.server.repository!r}.", next_step="look at its commits")
        return found

    def empty_commit(self, branch: str, message: str, record: Mapping[str, str]) -> str:
        """Commit nothing but a record on a branch, and give its id."""
        server, nonce = self.server, secrets.token_hex(16)
        wanted = CommitCreation(message=message, metadata={**record, NONCE: nonce}, allow_empty=True, date=None)

        def lost() -> str | None:
            head = self.head(branch)
            made = self.commit(head) if head else None
            return str(made.id) if made is not None and (made.metadata or {}).get(NONCE) == nonce else None

        return server.call(
            f"COMMIT on {branch}",
            lambda: str(server.sdk.commits_api.commit(server.repository, branch, wanted, **server.limits).id),
            lost=lost,
        )

    # --- branches

    def head(self, branch: str) -> str | None:
        """The commit of a branch; None when there is no such branch."""
        if not BRANCH.fullmatch(branch):
            return None
        server = self.server
        with suppress(NotFound):
            return server.call(
                f"BRANCH {branch}",
                lambda: str(server.sdk.branches_api.get_branch(server.repository, branch, **server.limits).commit_id),
            )
        return None

    def heads(self, prefix: str = "") -> dict[str, str]:
        """The commit of every branch whose name begins so, in the order of names."""
        api = self.server.sdk.branches_api

        found = self.server.pages(
            "BRANCHES", lambda **given: api.list_branches(self.server.repository, show_hidden=True, **given), prefix=prefix
        )
        return {str(ref.id): str(ref.commit_id) for ref in found}

    def create(self, name: str, commit: str) -> bool:
        """Make a branch at a full commit id; False when another has that name.

        After a lost answer one that stands at the same commit is taken for ours.
        """
        server = self.server
        wanted = BranchCreation(name=name, source=commit, hidden=name.startswith(LOCK))

        def once() -> bool:
            try:
                server.sdk.branches_api.create_branch(server.repository, wanted, **server.limits)
            except ApiException as error:
                if error.status == 409:
                    return False
                raise
            return True

        attempts = 0

        def counted() -> bool:
            nonlocal attempts
            attempts += 1
            return once()

        made = server.call(f"NEW BRANCH {name}", counted)
        return made or (attempts > 1 and self.head(name) == commit)

    def delete(self, name: str) -> bool:
        """Remove a branch and what is staged on it; False when there was none."""
        server, attempts = self.server, 0

        def once() -> bool:
            nonlocal attempts
            attempts += 1
            try:
                server.sdk.branches_api.delete_branch(server.repository, name, **server.limits)
            except ApiException as error:
                if error.status == 404:
                    return attempts > 1
                raise
            return True

        return server.call(f"DELETE BRANCH {name}", once)

    # --- locks

    def take(self, name: str, record: Mapping[str, str], at: str | None = None) -> Lock | None:
        """Take a lock, or give None when it is taken. ``name`` begins with ``LOCK``."""
        scratch = f"{name}-{secrets.token_hex(4)}"
        start = at if at is not None else self.head(MAIN)
        assert start is not None, "the repository was there when the store was opened"
        if not self.create(scratch, start):
            return None
        try:
            made = self.empty_commit(scratch, LOCKED, record)
            got = self.create(name, made) or self.head(name) == made
        finally:
            self.delete(scratch)
        return self.look(name, made) if got else None

    def look(self, name: str, head: str | None = None) -> Lock | None:
        """The lock as it stands now; None when nobody holds it."""
        found = head or self.head(name)
        if found is None:
            return None
        commit = self.commit(found)
        return Lock(name, found, dict(commit.metadata or {}), int(commit.creation_date))

    def write(self, lock: Lock, record: Mapping[str, str]) -> Lock:
        """Replace the lock's record, and with it its age.

        Raises:
            LockLost: another came between.
        """
        lost = LockLost(f"Lock {lock.name} was taken over by another.", next_step="run again")
        try:
            made = self.empty_commit(lock.name, LOCKED, record)
        except NotFound as gone:
            raise lost from gone
        if [str(parent) for parent in self.commit(made).parents] != [lock.head]:
            raise lost
        found = self.look(lock.name, made)
        assert found is not None, "it was named by its commit"
        return found

    def wait_until_free(self, name: str, lease_s: float) -> None:
        """Wait while somebody holds a lock. Raises Unavailable when that takes longer than the server's patience."""
        give_up_s = time.monotonic() + self.server.patience_s
        while (lock := self.look(name)) is not None and self.age_s(lock) <= lease_s:
            if time.monotonic() > give_up_s:
                raise Unavailable(f"{name} has been held for {self.server.patience_s:g} s.", next_step="run again later")
            time.sleep(min(1.0, self.server.patience_s / 10))

    def note_collection(self, *, ended: bool) -> None:
        """Leave word that a collection began, or ended."""
        if self.head(GC_NOTE) is None:
            start = self.head(MAIN)
            assert start is not None, "the repository was there when the store was opened"
            self.create(GC_NOTE, start)
        self.empty_commit(GC_NOTE, LOCKED, {ENDED: "yes" if ended else "no"})

    def collected_s(self) -> float | None:
        """Up to when bytes may have been collected, seconds since 1970 by the server's clock; None: never so far.

        Without end while a collection is at work, or was killed at it.
        """
        note = self.look(GC_NOTE)
        if note is None:
            return None
        return note.made_s + 1.0 if note.record.get(ENDED) == "yes" else math.inf

    def age_s(self, lock: Lock) -> float:
        """Seconds since the lock's record was written, by the server's clock."""
        return max(0.0, self.server.now().timestamp() - lock.made_s)


def check_branch(name: str) -> str:
    """The name, if a branch may have it.

    Raises:
        StoreError: it reads like a commit id, is kept for locks, or lakeFS does not take it.
    """
    _no_commit_id(name)
    if not BRANCH.fullmatch(name) or name.startswith(LOCK):
        raise StoreError(
            f"{name!r} cannot be a branch on lakeFS: expected letters, digits, _ and -, not beginning with {LOCK!r}.",
            next_step="use letters, digits and dashes",
        )
    return name


def is_tag(name: str) -> bool:
    """Whether a tag may have the name."""
    return TAG.fullmatch(name) is not None and COMMIT_ID.fullmatch(name) is None


def check_tag(name: str) -> str:
    """The name, if a tag may have it.

    Raises:
        StoreError: it reads like a commit id, or lakeFS or git would not take it.
    """
    _no_commit_id(name)
    if not is_tag(name):
        raise StoreError(
            f"{name!r} cannot be a tag: expected up to 120 letters, digits and . _ / -.",
            next_step="use letters, digits and dashes",
        )
    return name


def _no_commit_id(name: str) -> None:
    if COMMIT_ID.fullmatch(name):
        raise StoreError(
            f"{name!r} cannot be a branch or a tag: 7 to 64 hex digits read like a commit id.", next_step="choose another name"
        )
