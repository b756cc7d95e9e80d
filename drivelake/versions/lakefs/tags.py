"""Tags that move only from where they are expected, on a server that cannot do so. Belongs here: moving, healing, reading them.

Never here: branches, other locks.

lakeFS makes a tag (once, if there is none) and deletes it; it neither moves one nor compares. So a mover

1. takes the lock ``lock-tag-<name in hex>``, a branch that the server gives to one;
2. compares the tag with what is expected; nobody else changes it now;
3. writes where it goes from and to into the lock (a commit): from here on the move is decided;
4. deletes the tag, makes it anew, and lets go of the lock.

Killed before 3, it left a lock that says nothing: whoever wants the tag next removes it. Killed after 3, the next mover does
what is missing of 4. A lock counts as left behind once its last record is older than the lease, by the server's clock. A
reader that finds no tag but a decided lock answers with where the tag goes to, so a tag that moves is never lost from sight.

Assumed of the server: of many that make one branch or one tag, one succeeds; what it answered is what everyone reads from
then on; and no request takes effect later than the lease after it was sent. A mover that was asleep for longer than half of
the lease gives up before it changes anything.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from contextlib import suppress

from lakefs_sdk.exceptions import ApiException
from lakefs_sdk.models.tag_creation import TagCreation

from drivelake.errors import Conflict, DrivelakeError, NotFound, Unavailable
from drivelake.versions.lakefs.refs import LOCK, Lock, LockLost, Refs

__all__ = ["LEASE_S", "TAG_LOCK", "Tags"]

LEASE_S = 30.0
TAG_LOCK = f"{LOCK}tag-"
TAG, FROM, TO = "Drivelake-Tag", "Drivelake-From", "Drivelake-To"
NONE = "none"


class Tags:
    """The tags of one repository."""

    def __init__(self, refs: Refs, *, lease_s: float = LEASE_S, on_step: Callable[[str], None] = lambda _: None) -> None:
        self._refs = refs
        self._server = refs.server
        self.lease_s = lease_s
        self._on_step = on_step  # hears each step of a move after it happened; tests stop there

    # --- reading

    def target(self, name: str) -> str | None:
        """The commit of a tag; None when there is none."""
        found = self._plain(name)
        if found is not None:
            return found
        lock = self._refs.look(_lock_name(name))
        # It may have been made anew between the two questions.
        found = self._plain(name)
        return found if found is not None or lock is None else _decided_target(lock)

    def targets(self) -> dict[str, str]:
        """The commit of every tag, by name, sorted."""
        before = self._listed()
        moving = {_tag_of(name) for name in self._refs.heads(TAG_LOCK)} - {None}
        after = self._listed()
        # What stands in both lists stands; the rest was made, deleted or on its way meanwhile.
        unsure = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)} | moving
        asked = {name: self.target(name) for name in unsure if name is not None}
        found = {**after, **asked}
        return {name: commit for name, commit in sorted(found.items()) if commit is not None}

    def _listed(self) -> dict[str, str]:
        api = self._server.sdk.tags_api
        found = self._server.pages("TAGS", lambda **given: api.list_tags(self._server.repository, **given))
        return {str(ref.id): str(ref.commit_id) for ref in found}

    def _plain(self, name: str) -> str | None:
        server = self._server
        with suppress(NotFound):
            return server.call(
                f"TAG {name}", lambda: str(server.sdk.tags_api.get_tag(server.repository, name, **server.limits).commit_id)
            )
        return None

    # --- moving

    def move(self, name: str, new: str | None, expected: str | None) -> None:
        """Make, move or remove (``new`` None) a tag if it is at ``expected`` (None: if there is none).

        A tag that is at ``new`` already was moved by a call whose answer was lost, or by one who wanted the same.

        Raises:
            NotFound: it was to be removed, and there is none.
            Conflict: it is elsewhere.
            Unavailable: somebody else held it for too long.
        """
        anchor = new or expected
        assert anchor is not None, "a tag is made, moved or removed"
        lock = self._take(name, anchor)
        began_s = time.monotonic()
        mine = True
        try:
            self._on_step("locked")
            stands = self._plain(name)
            if new is not None and stands == new:
                return
            if stands != expected:
                raise _elsewhere(name, stands, expected, new)
            self._in_time(began_s)
            try:
                lock = self._refs.write(lock, {TAG: name, FROM: expected or NONE, TO: new or NONE})
            except LockLost:
                mine = False
                raise
            mine = False  # the move's own now, and no longer to be let go of before it is whole: else the next one finishes it
            self._on_step("decided")
            self._in_time(began_s)
            self._finish(name, lock)
        finally:
            if mine:
                self._refs.delete(lock.name)

    def _take(self, name: str, anchor: str) -> Lock:
        lock_name = _lock_name(name)
        give_up_s = time.monotonic() + 4 * self.lease_s
        while True:
            lock = self._refs.take(lock_name, {TAG: name}, anchor) if self._refs.head(lock_name) is None else None
            if lock is not None:
                return lock
            self.heal(lock_name)
            if time.monotonic() > give_up_s:
                raise Unavailable(
                    f"Tag {name!r} was being moved by others for {4 * self.lease_s:g} s.", next_step="run again later"
                )
            time.sleep(random.uniform(0.02, 0.1) * min(self.lease_s, 3.0))  # noqa: S311 - spreads waiters, guards nothing

    def heal(self, lock_name: str, older_than_s: float | None = None) -> None:
        """Finish or undo what a dead mover left; a lock that is younger than the lease is left alone."""
        lock = self._refs.look(lock_name)
        if lock is None or self._refs.age_s(lock) <= (self.lease_s if older_than_s is None else older_than_s):
            return
        try:  # of several who heal one goes on; to the others the lock is young again
            lock = self._refs.write(lock, lock.record)
        except LockLost:
            return
        name = _tag_of(lock_name)
        if name is not None and FROM in lock.record:
            self._finish(name, lock)
        else:
            self._refs.delete(lock_name)

    def _finish(self, name: str, lock: Lock) -> None:
        """The rest of a decided move, from wherever it stopped."""
        source, target = lock.record[FROM], lock.record[TO]
        stands = self._plain(name)
        if stands is not None and stands == source != target:
            self._delete(name)
            self._on_step("deleted")
            stands = None
        if stands is None and target != NONE:
            try:
                self._create(name, target)
            except Unavailable:
                raise
            except DrivelakeError:
                if source == NONE:  # the server takes no tag of this name: nothing moved, and nothing is left to finish
                    self._refs.delete(lock.name)
                raise
            self._on_step("made")
        self._refs.delete(lock.name)
        self._on_step("unlocked")

    def _in_time(self, began_s: float) -> None:
        if time.monotonic() - began_s > self.lease_s / 2:
            raise Unavailable("This process was held up while it moved a tag.", next_step="run again")

    def _delete(self, name: str) -> None:
        server = self._server
        with suppress(NotFound):
            server.call(f"DELETE TAG {name}", lambda: server.sdk.tags_api.delete_tag(server.repository, name, **server.limits))

    def _create(self, name: str, commit: str) -> None:
        server = self._server
        wanted = TagCreation(id=name, ref=commit)

        def once() -> None:
            try:
                server.sdk.tags_api.create_tag(server.repository, wanted, **server.limits)
            except ApiException as error:
                # Another finished the same move; or a branch has the name, and then there is no tag.
                if error.status != 409 or self._plain(name) is None:
                    raise

        server.call(f"NEW TAG {name}", once)


def _elsewhere(name: str, stands: str | None, expected: str | None, new: str | None) -> Conflict | NotFound:
    if stands is None and new is None:
        return NotFound(f"There is no tag {name!r}.", next_step="drivelake tag lists the tags")
    to = f"it was to move to {new[:12]}" if new else "it was to be removed"
    return Conflict(
        f"Tag {name!r} is {f'at {stands[:12]}' if stands else 'not there'}, expected "
        f"{f'it at {expected[:12]}' if expected else 'none'}; {to}.",
        next_step="look at what it names now; drivelake tag NAME REF --move-from COMMIT replaces it",
    )


def _decided_target(lock: Lock) -> str | None:
    target = lock.record.get(TO, NONE)
    return None if target == NONE else target


def _lock_name(name: str) -> str:
    return f"{TAG_LOCK}{name.encode().hex()}"


def _tag_of(lock_name: str) -> str | None:
    digits = lock_name.removeprefix(TAG_LOCK)
    try:
        return bytes.fromhex(digits).decode() if digits.isalnum() else None
    except ValueError:
        return None
