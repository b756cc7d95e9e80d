"""Chunks decompressed ahead of the pass by other threads.

Belongs here: what opens a chunk, order, how far ahead. Never here: what a chunk holds, telling damage.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivelake.logs.mcap.framing import Broken, Chunked, Frame, Stretch
from drivelake.logs.mcap.framing import Item as Framed
from drivelake.logs.mcap.records import CHUNK_BYTES_MAX, U64, decompressed, parse_chunk

__all__ = ["Group", "ahead", "grouped"]

AHEAD_CHUNKS, AHEAD_BYTES = 2, 64 << 20

Opener = Callable[[], tuple[int, NDArray[np.uint8]]]


class Group(NamedTuple):
    """A chunk and the message indexes behind it.

    Attributes:
        chunk: the record.
        indexes: those that follow it without another record.
        open: the CRC-32 that the chunk declares and its content; raises LogDamaged where they contradict each other. None if
            the content is not asked for.
    """

    chunk: Frame
    indexes: tuple[Frame, ...]
    open: Opener | None


Item = Group | Frame | Stretch | Broken


def grouped(view: memoryview, items: Iterator[Framed], wanted: Callable[[Frame], bool]) -> Iterator[Item]:
    """Chunks get what opens them; everything else passes."""
    for item in items:
        if isinstance(item, Chunked):
            yield Group(item.chunk, item.indexes, partial(_open, view, item.chunk) if wanted(item.chunk) else None)
        else:
            yield item


def ahead(view: memoryview, items: Iterator[Item], threads: int) -> Iterator[Item]:
    """The same items in the same order; with more than one thread, chunks are opened by them before they are asked for.

    They stay at most two chunks a thread ahead, and at most 64 MiB of content, one chunk in any case.
    """
    if threads == 1:
        yield from items
        return
    queue: deque[tuple[Item, int, Future[tuple[int, NDArray[np.uint8]]] | None]] = deque()
    held = 0
    with ThreadPoolExecutor(threads, thread_name_prefix="mcap-chunk") as pool:
        try:
            for item in items:
                size = 0
                if isinstance(item, Group) and item.open:
                    size, future = _declared_size(view, item.chunk), pool.submit(item.open)
                    queue.append((item._replace(open=future.result), size, future))
                else:
                    queue.append((item, size, None))
                held += size
                while held > AHEAD_BYTES or len(queue) > AHEAD_CHUNKS * threads:
                    ready, size, _ = queue.popleft()
                    held -= size
                    yield ready
            while queue:
                yield queue.popleft()[0]
        finally:
            for _, _, unasked in queue:
                if unasked:
                    unasked.cancel()


def _open(view: memoryview, frame: Frame) -> tuple[int, NDArray[np.uint8]]:
    chunk = parse_chunk(view[frame.start : frame.end], frame.offset)
    return chunk.uncompressed_crc, decompressed(chunk, frame.offset)


def _declared_size(view: memoryview, frame: Frame) -> int:
    """Bytes of content that a chunk asks for, as far as they are granted."""
    if frame.end - frame.start < 24:
        return 0
    return min(int(U64.unpack_from(view, frame.start + 16)[0]), CHUNK_BYTES_MAX)
