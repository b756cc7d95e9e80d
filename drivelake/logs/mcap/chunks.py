"""Chunks on their way from the file to the pass: opened by several threads, handed on many at a time.

Belongs here: what opens a chunk, how many wait for each other. Never here: what a chunk holds, telling damage.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivelake.errors import LogDamaged
from drivelake.logs.ahead import in_order
from drivelake.logs.mcap.content import Index
from drivelake.logs.mcap.framing import Broken, Chunked, Frame, Item, Stretch
from drivelake.logs.mcap.records import CHUNK_BYTES_MAX, U64, decompressed, parse_chunk, parse_indexes

__all__ = ["Opened", "opened"]

# Chunks whose messages are found together: what numpy does for one costs little more than what it does for several, as long
# as they hold few messages; many are better found while their chunk is in the processor's cache.
TOGETHER_BYTES, TOGETHER_CHUNKS, TOGETHER_MESSAGES = 8 << 20, 64, 1024


class Opened(NamedTuple):
    """A chunk and the message indexes behind it.

    Attributes:
        chunk: the record.
        indexes: those that follow it without another record and hold their own fields.
        complaints: of those that do not.
        asked: whether it was opened at all.
        crc: CRC-32 that the chunk declares.
        buffer: (bytes,) uint8, its content; empty where it was not opened, or not sound.
        damage: why it is not sound, or nothing.
    """

    chunk: Frame
    indexes: list[Index]
    complaints: tuple[str, ...]
    asked: bool
    crc: int = 0
    buffer: NDArray[np.uint8] = np.empty(0, np.uint8)
    damage: str = ""

    @property
    def listed(self) -> bool:
        """Whether it is open and all indexes behind it, at least one, are sound."""
        return bool(len(self.buffer) and self.indexes and not self.complaints)


def opened(
    view: memoryview, items: Iterable[tuple[Item, bool]], threads: int
) -> Iterator[list[Opened] | Frame | Stretch | Broken]:
    """The same items in the same order, chunks that follow each other in lists.

    Args:
        view: the file.
        items: each with whether it is a chunk to open.
        threads: with more than one, chunks are opened before they are asked for.

    Yields:
        Lists of about 8 MiB of content or a thousand messages; nothing here keeps a list that was handed over.
    """

    def work(job: tuple[Item, bool]) -> Opened | None:
        item, asked = job
        return _open(view, item, asked=asked) if isinstance(item, Chunked) else None

    def weight(job: tuple[Item, bool]) -> int:
        item, asked = job
        return _declared_size(view, item.chunk) if asked and isinstance(item, Chunked) else 0

    waiting: list[Opened] = []
    held = messages = 0
    for (item, _), chunk in in_order(items, work, weight=weight, threads=threads):
        if chunk is not None:
            waiting.append(chunk)
            held += len(chunk.buffer)
            messages += sum([index.listed for index in chunk.indexes])
            del chunk
        enough = held >= TOGETHER_BYTES or messages >= TOGETHER_MESSAGES or len(waiting) == TOGETHER_CHUNKS
        if waiting and (enough or not isinstance(item, Chunked)):
            full, waiting, held, messages = waiting, [], 0, 0
            yield full
            del full
        if not isinstance(item, Chunked):
            yield item
    if waiting:
        yield waiting


def _open(view: memoryview, item: Chunked, *, asked: bool) -> Opened:
    chunk = item.chunk
    parsed = list(parse_indexes(view, chunk.end, item.end))
    indexes = [Index(*index) for index in parsed if not isinstance(index, LogDamaged)]
    complaints = tuple(index.message for index in parsed if isinstance(index, LogDamaged))
    if not asked:
        return Opened(chunk, indexes, complaints, asked)
    try:
        record = parse_chunk(view[chunk.start : chunk.end], chunk.offset)
        return Opened(chunk, indexes, complaints, asked, record.uncompressed_crc, decompressed(record, chunk.offset))
    except LogDamaged as damage:
        return Opened(chunk, indexes, complaints, asked, damage=damage.message)


def _declared_size(view: memoryview, frame: Frame) -> int:
    """Bytes of content that a chunk asks for, as far as they are granted."""
    if frame.end - frame.start < 24:
        return 0
    return min(int(U64.unpack_from(view, frame.start + 16)[0]), CHUNK_BYTES_MAX)
