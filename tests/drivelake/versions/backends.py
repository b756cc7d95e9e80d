"""The four stores that the suite runs on, and how another process or machine comes to each. Belongs here: places, no laws.

Never here: what a store must do; that is in the tests.
"""

import contextlib
import itertools
import multiprocessing
import os
import signal
from dataclasses import dataclass, field
from pathlib import Path

from drivelake.errors import StoreError
from drivelake.storage import Store
from drivelake.versions import VersionStore
from drivelake.versions.opening import create_store, open_store
from tests.servers.faults import FaultProxy

KINDS = ("dvc-local", "dvc-s3", "lakefs-local", "lakefs-s3")
SHARED = KINDS[1:]  # those with a server behind them


@dataclass
class Site:
    """One store, empty when made, and a folder in which each machine that uses it has one of its own."""

    kind: str
    declared: Store
    folder: Path
    namespace: str | None = None
    behind: FaultProxy | None = None  # in front of what the server keeps its bytes in, where that can be had
    _machines: itertools.count = field(default_factory=itertools.count)

    @property
    def local(self) -> bool:
        """Whether a folder of one machine is all there is."""
        return self.kind == "dvc-local"

    @property
    def address(self) -> str | None:
        """Where its server listens: what a proxy is put in front of."""
        return self.declared.url or self.declared.s3_endpoint

    def create(self) -> VersionStore:
        return create_store(self.declared, self.machine(), storage_namespace=self.namespace)

    def machine(self) -> Path:
        """The folder of a new machine; where nothing is shared, every process is on the one there is."""
        return self.folder / "lake" / "store" if self.local else self.folder / f"machine_{next(self._machines)}" / "store"

    def another(self, machine: Path | None = None, address: str | None = None) -> VersionStore:
        """The store as another process sees it, on a machine of its own where it is shared.

        Args:
            machine: the folder of a machine that is there already.
            address: of a proxy in front of the server.
        """
        key = "url" if self.declared.kind == "lakefs" else "s3_endpoint"
        declared = self.declared if address is None else self.declared.model_copy(update={key: address})
        return open_store(declared, self.machine() if machine is None else machine)


def held(store):
    """What ``stored`` gives, as a list; None on a server that collects on its own and lets nobody else list or remove."""
    try:
        return list(store.stored())
    except StoreError as error:
        if "SKIPPED" not in str(error):
            raise
        return None


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def in_a_child(work) -> int:
    """Run ``work()`` in a forked process; gives its exit code, negative for a signal."""
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(60)
    assert process.exitcode is not None, "still running after a minute"
    return process.exitcode


def all_at_once(work, count, *, timeout_s=120):
    """Run work(n) in processes that start together; gives (n, "ok", what it returned) or (n, name, text of its error)."""
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(count), context.Queue()

    def child(n):
        start.wait(60)
        try:
            results.put((n, "ok", work(n)))
        except StoreError as error:
            results.put((n, type(error).__name__, str(error)))

    processes = [context.Process(target=child, args=(n,)) for n in range(count)]
    for process in processes:
        process.start()
    got = sorted(results.get(timeout=timeout_s) for _ in processes)
    for process in processes:
        process.join(20)
    assert [process.exitcode for process in processes] == [0] * count
    return got


@contextlib.contextmanager
def calling(owner, name, before=lambda n: None, after=lambda n: None):
    """Within the block, hear each call of ``owner.name`` by its number, from 1, before and after its work."""
    original, numbers = getattr(owner, name), itertools.count(1)

    def wrapped(*args, **kwargs):
        n = next(numbers)
        before(n)
        result = original(*args, **kwargs)
        after(n)
        return result

    setattr(owner, name, wrapped)
    try:
        yield
    finally:
        setattr(owner, name, original)
