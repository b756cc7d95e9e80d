"""Publishers and garbage collection, kept apart. Belongs here: who waits for whom, on one machine and on a bucket.

Never here: what is garbage, removing it, what a publisher writes.

On one machine publishers share a lock, and a collector holds it alone. A collector that waits for publishers to finish keeps
new ones from starting, else it could wait for ever.

On a bucket a collector holds ``gc.lock`` and renews it. A publisher commits on a branch first, where a collector that comes
later sees it, and then reads ``gc.lock``: while it is held and young it waits. Afterwards it looks whether all objects are still
there. So whatever was committed before the lock is marked, and whatever came after is looked at again.

The file stays when a collector lets go, with other bytes each time. So a publisher who finds it as it was before he sent his
objects knows that nobody collected since, and need not ask for each of them again.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from drivelake.errors import Conflict, StoreError, Unavailable
from drivelake.versions.locks import exclusive, shared

if TYPE_CHECKING:
    from drivelake.versions.s3.bucket import Bucket, Head

__all__ = ["Collection"]

KEY = "gc.lock"
HELD, FREE = b"held ", b"free "
NEVER = "never"
# A lock that nobody renewed for a lease is a dead collector's. A live one begins to remove nothing more at half of it: the
# other half is longer than a call that began is tried again (s3.calls.PATIENCE_S and one answer of READ_S).
LEASE_S, RENEW_S, POLL_S = 240.0, 20.0, 2.0


class Collection:
    """The locks of one store, as one object of it sees them; one collection at a time.

    Args:
        locks: a folder of this machine.
        bucket: what the store is kept on; None: this machine.
    """

    def __init__(self, locks: Path, bucket: Bucket | None) -> None:
        self._locks = locks
        self._bucket = bucket
        self._inside = threading.local()  # a publisher holds the lock once, however its calls are nested
        self._renewed_s = 0.0
        self._collecting = False

    @contextmanager
    def relying(self) -> Iterator[None]:
        """Within the block nobody on this machine collects."""
        if getattr(self._inside, "held", False):
            yield
            return
        with ExitStack() as stack:
            with shared(self._locks / "gc-door"):
                stack.enter_context(shared(self._locks / "gc"))
            self._inside.held, self._inside.epoch = True, secrets.token_hex(16)
            try:
                yield
            finally:
                self._inside.held, self._inside.epoch = False, None

    def epoch(self) -> str | None:
        """What is the same at two moments only if nobody collected in between; None where that cannot be told.

        On a bucket that is while somebody collects; on one machine outside of ``relying``.
        """
        if self._bucket is None:
            epoch: str | None = getattr(self._inside, "epoch", None)
            return epoch
        found = self._bucket.get_with_etag(KEY)
        if found is None:
            return NEVER
        return found[1] if found[0].startswith(FREE) else None

    def wait(self) -> str | None:
        """Return once nobody collects on the bucket; what is committed on a visible branch before is safe from then on.

        Returns:
            The epoch; None where a collector died, or this object collects itself.
        """
        if self._collecting:
            return None
        if self._bucket is None:
            return self.epoch()
        while (epoch := self.epoch()) is None:
            head = self._bucket.head(KEY)
            if head is not None and _age_s(self._bucket, head) > LEASE_S:
                return None
            time.sleep(POLL_S)
        return epoch

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """See VersionStore."""
        with ExitStack() as stack:
            try:
                stack.enter_context(exclusive(self._locks / "collector", wait=False))
            except BlockingIOError as error:
                raise _another("on this machine") from error
            stack.enter_context(exclusive(self._locks / "gc-door"))
            stack.enter_context(exclusive(self._locks / "gc"))
            if self._bucket is not None:
                stack.enter_context(self._leased(self._bucket))
            self._collecting = self._inside.held = True  # a collector that publishes need not wait for itself
            try:
                yield
            finally:
                self._collecting = self._inside.held = False

    def require(self) -> None:
        """See that this object collects, and that publishers elsewhere still know.

        Raises:
            StoreError: it does not, or the lease ran out.
        """
        if not self._collecting:
            raise StoreError("Nothing may be removed now: nobody keeps publishers waiting.", next_step="call it in collecting()")
        if self._bucket is not None and self._lapsed():
            raise StoreError(
                f"{self._bucket.uri(KEY)} was not renewed for {LEASE_S / 2:g} s; publishers may be at work again.",
                next_step="collect again when the bucket answers",
            )

    @contextmanager
    def _leased(self, bucket: Bucket) -> Iterator[None]:
        held = HELD + secrets.token_hex(16).encode()
        self._take(bucket, held)
        done = threading.Event()

        def renew() -> None:
            # One that lapsed while this process or machine slept stays lapsed: publishers may rely on its end by now.
            while not done.wait(RENEW_S) and not self._lapsed():
                began_s = _now_s()
                with suppress(Unavailable):  # tried again soon; require() decides whether too much time went by
                    if not _replace(bucket, held, held):
                        return  # another took it over, and require() will see that it is not renewed
                    self._renewed_s = began_s

        thread = threading.Thread(target=renew, name=KEY, daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            with suppress(Unavailable):  # then publishers wait until the lease ran out
                _replace(bucket, held, FREE + secrets.token_hex(16).encode())

    def _lapsed(self) -> bool:
        return _now_s() - self._renewed_s > LEASE_S / 2

    def _take(self, bucket: Bucket, held: bytes) -> None:
        found = bucket.get_with_etag(KEY)
        head = bucket.head(KEY) if found is not None and found[0].startswith(HELD) else None
        if head is not None and (age_s := _age_s(bucket, head)) <= LEASE_S:
            raise _another(f"on {bucket.url}: {KEY} was renewed {age_s:.0f} s ago")
        self._renewed_s = _now_s()
        if not bucket.put_if(KEY, held, None if found is None else found[1]):
            raise _another(f"on {bucket.url}")


def _replace(bucket: Bucket, held: bytes, new: bytes) -> bool:
    """Write the lock, if it still reads ``held``. A bucket that encrypts may give the same bytes another ETag each time."""
    found = bucket.get_with_etag(KEY)
    return found is not None and found[0] == held and bucket.put_if(KEY, new, found[1])


def _now_s() -> float:
    """Seconds that go on while the machine sleeps, as the bucket's do; where the system has no such clock, those awake."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def _age_s(bucket: Bucket, head: Head) -> float:
    return (bucket.now() - head.modified).total_seconds()


def _another(where: str) -> Conflict:
    return Conflict(f"Another collection is at work {where}.", next_step="run again when it is over")
