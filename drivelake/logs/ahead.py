"""Work done ahead of its use, in order. Belongs here: the bounded look-ahead over a pool of threads.

Never here: what the work is.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["in_order"]

AHEAD_BYTES = 64 << 20
# For each thread: a caller that takes several at a time before it works on them must not find the threads idle behind it.
AHEAD_JOBS = 3

Job = TypeVar("Job")
Done = TypeVar("Done")


def in_order(
    jobs: Iterable[Job], work: Callable[[Job], Done], *, weight: Callable[[Job], int], threads: int
) -> Iterator[tuple[Job, Done]]:
    """Each job with what became of it, in the order of the jobs.

    At most 3 jobs for each thread and, beyond the first, 64 MiB of results are ahead of the caller, so memory stays bounded.

    Args:
        jobs: asked for one by one.
        work: done by the threads, or by the caller when there is one.
        weight: bytes that the result of a job holds.
        threads: 1 does the work when it is asked for.
    """
    if threads <= 1:
        for job in jobs:
            yield job, work(job)
        return
    waiting: deque[tuple[Job, int, Future[Done]]] = deque()
    held = 0
    pool = ThreadPoolExecutor(threads)
    try:
        for job in jobs:
            size = weight(job)
            while waiting and (len(waiting) >= AHEAD_JOBS * threads or held + size > AHEAD_BYTES):
                first, freed, future = waiting.popleft()
                yield first, future.result()
                held -= freed
            waiting.append((job, size, pool.submit(work, job)))
            held += size
        while waiting:
            first, _, future = waiting.popleft()
            yield first, future.result()
    finally:
        pool.shutdown(cancel_futures=True)
