"""The records of an MCAP file in order, and where reading goes on when their framing is lost.

Belongs here: opcodes, lengths, offsets. Never here: what a record says, except where that alone proves it a record.

Format: https://mcap.dev/spec.
"""

from __future__ import annotations

import mmap
from bisect import bisect_right
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from mcap.opcode import Opcode
from numpy.typing import NDArray

from drivelake.errors import LogDamaged
from drivelake.logs.mcap.records import FRAME, MAGIC, decompressed, name_of, parse_chunk

__all__ = ["Broken", "Chunked", "Frame", "Item", "Stretch", "frames", "mapped"]

CHUNK, FOOTER = int(Opcode.CHUNK), int(Opcode.FOOTER)
STRETCH_BYTES, STRETCH_MESSAGES = 8 << 20, 1 << 16
SEARCH_BYTES = 1 << 20
# Fields of a chunk record without compression and without content.
CHUNK_LEAST = 40


class Frame(NamedTuple):
    """One record: where it begins, and its body."""

    opcode: int
    offset: int
    start: int
    end: int


class Chunked(NamedTuple):
    """A chunk, and the message indexes that follow it without another record, up to ``end``; ``chunk.end`` if there are none."""

    chunk: Frame
    end: int


class Stretch(NamedTuple):
    """Messages outside of chunks that follow each other without another record: where it begins and ends, and each of them."""

    begin: int
    end: int
    offsets: NDArray[np.int64]


class Broken(NamedTuple):
    """A contradiction in the framing; bytes from ``offset`` to ``end`` are left out."""

    sentence: str
    offset: int
    end: int


Item = Frame | Chunked | Stretch | Broken


def mapped(path: Path) -> mmap.mmap | None:
    """A file as memory; None if it is empty."""
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else None


def frames(view: memoryview, known: Mapping[int, Frame]) -> Iterator[Item]:
    """Every record from the first to the footer; chunks with their indexes, messages outside of chunks as stretches.

    Args:
        view: the file.
        known: records by offset, from an index whose checksum is sound. They are believed where the file
            contradicts them, unless it is a chunk whose CRC-32 is right.

    Yields:
        What stands in the file, in order. Behind a :class:`Broken`, reading goes on with the next known record, or with the
        next chunk whose CRC-32 is right; where there is none, the pass ends.
    """
    if bytes(view[:8]) != MAGIC:
        yield Broken(_no_magic(view), 0, len(view))
        return
    walk = _Framing(view, known)
    yield from walk.run()


def _no_magic(view: memoryview) -> str:
    if len(view) < len(MAGIC):
        return f"The file ends at offset {len(view)}, {len(MAGIC) - len(view)} bytes into the magic are missing."
    return f"The file begins with {bytes(view[:8])!r}, expected the MCAP magic {MAGIC!r}."


class _Framing:
    def __init__(self, view: memoryview, known: Mapping[int, Frame]) -> None:
        self._view = view
        self._known = known
        self._starts = sorted(known)
        self._at = len(MAGIC)
        self._mended_at = -1

    def run(self) -> Iterator[Item]:
        """From the first record to the footer."""
        while True:
            begin, offsets = self._at, self._messages()
            if offsets:
                yield Stretch(begin, self._at, np.array(offsets, np.int64))
                continue
            found = self._frame()
            self._at = found.end
            if isinstance(found, Broken):
                yield found
                if found.end == len(self._view):
                    return
            elif found.opcode == CHUNK:
                yield Chunked(found, self._behind_indexes())
            else:
                yield found
                if found.opcode == FOOTER:
                    return

    def _limit(self, at: int) -> int:
        """Where a record that begins behind ``at`` surely does, or the end of the file."""
        place = bisect_right(self._starts, at)
        return self._starts[place] if place < len(self._starts) else len(self._view)

    def _messages(self) -> list[int]:
        """Pass over messages; the offset of each."""
        view, at, unpack, message = self._view, self._at, FRAME.unpack_from, int(Opcode.MESSAGE)
        if at >= len(view) or view[at] != message:
            return []
        limit = self._limit(at)
        stop = min(limit, at + STRETCH_BYTES) - FRAME.size
        offsets: list[int] = []
        while at <= stop and view[at] == message and len(offsets) < STRETCH_MESSAGES:
            end = at + FRAME.size + unpack(view, at)[1]
            if end > limit or at in self._known:
                break
            offsets.append(at)
            at = end
        self._at = at
        return offsets

    def _behind_indexes(self) -> int:
        """Pass over message indexes; where the last of them ends."""
        view, at, unpack, index = self._view, self._at, FRAME.unpack_from, int(Opcode.MESSAGE_INDEX)
        limit = self._limit(at)
        last = limit - FRAME.size
        while at <= last and view[at] == index and at not in self._known:
            end = at + FRAME.size + unpack(view, at)[1]
            if end > limit:
                break
            at = end
        self._at = at
        return at

    def _frame(self) -> Frame | Broken:
        at, size = self._at, len(self._view)
        if at == size:
            return Broken(f"The file ends at offset {at} without a footer: it was cut short.", at, at)
        if size - at < FRAME.size:
            return self._broken(
                f"The file ends at offset {size}, {at + FRAME.size - size} bytes into the record at offset {at} are missing.", at
            )
        opcode, length = FRAME.unpack_from(self._view, at)
        found = Frame(opcode, at, at + FRAME.size, at + FRAME.size + length)
        known = self._known.get(at)
        if known and known != found and not _is_chunk(self._view, at):
            return self._mended(found, known)
        why = self._contradiction(found)
        return self._broken(why, at) if why else found

    def _mended(self, found: Frame, known: Frame) -> Frame | Broken:
        """First what is wrong with the head of a known record, then the record as it is known."""
        if self._mended_at == found.offset:
            return known
        self._mended_at = found.offset
        return Broken(
            f"The record at offset {found.offset} is a {name_of(found.opcode)} of {found.end - found.start} bytes, the summary"
            f" knows it as a {name_of(known.opcode)} of {known.end - known.start} bytes and is believed.",
            found.offset,
            found.offset,
        )

    def _contradiction(self, found: Frame) -> str:
        """Why a record cannot be what its opcode and length say, or nothing."""
        opcode, length = found.opcode, found.end - found.start
        if found.end > len(self._view):
            return (
                f"The {name_of(opcode)} record at offset {found.offset} needs {length} bytes, the file ends"
                f" {len(self._view) - found.start} bytes into it: it was cut short or its length is wrong."
            )
        if opcode == 0:
            return f"The record at offset {found.offset} has opcode 0, which the format forbids."
        if found.end > (limit := self._limit(found.offset)) and not _is_chunk(self._view, found.offset):
            return (
                f"The {name_of(opcode)} record at offset {found.offset} needs {length} bytes, the summary knows a record"
                f" {limit - found.start} bytes into it."
            )
        return self._misfit(found) if opcode == CHUNK else ""

    def _misfit(self, frame: Frame) -> str:
        """Why the length of a chunk record cannot be right, or nothing: its fields know how long it must be."""
        try:
            parse_chunk(self._view[frame.start : frame.end], frame.offset)
        except LogDamaged as damage:
            return damage.message
        return ""

    def _broken(self, sentence: str, at: int) -> Broken:
        """With the place where reading goes on."""
        size = len(self._view)
        limit = self._limit(at)
        end = limit if limit < size else _next_chunk(self._view, at + 1)
        if end is None:
            return Broken(f"{sentence} Nothing behind it can be read: {size - at} bytes are lost.", at, size)
        return Broken(f"{sentence} Reading goes on at offset {end}, {end - at} bytes are left out.", at, end)


def _next_chunk(view: memoryview, at: int) -> int | None:
    """The first chunk from ``at`` on whose lengths agree and whose CRC-32 is there and right."""
    whole = np.frombuffer(view, np.uint8)
    last = len(view) - FRAME.size - CHUNK_LEAST
    while at <= last:
        places = np.flatnonzero(whole[at : min(at + SEARCH_BYTES, last + 1)] == CHUNK) + at
        lengths = np.ndarray((len(view) - 7,), "<u8", view, strides=(1,))[places + 1]
        fits = (lengths >= CHUNK_LEAST) & (lengths <= np.uint64(len(view)))
        for place in places[fits].tolist():
            if _is_chunk(view, place):
                return int(place)
        at += SEARCH_BYTES
    return None


def _is_chunk(view: memoryview, at: int) -> bool:
    """Whether a chunk stands here, proven by its CRC-32."""
    opcode, length = FRAME.unpack_from(view, at)
    start = at + FRAME.size
    if opcode != CHUNK or length > len(view) - start:
        return False
    try:
        chunk = parse_chunk(view[start : start + length], at)
        if chunk.uncompressed_crc:
            decompressed(chunk, at)
    except LogDamaged:
        return False
    return chunk.uncompressed_crc != 0
