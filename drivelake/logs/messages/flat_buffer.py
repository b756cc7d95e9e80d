"""Flatbuffers read table by table. Belongs here: offsets, vtables, vectors, strings, each checked against the bytes.

Never here: schemas, columns.

Format: https://flatbuffers.dev/internals. The library's own reader trusts every offset.
"""

from __future__ import annotations

import struct

from drivelake.logs.messages.rows import Contradiction

__all__ = ["FlatBuffer"]

SHARED_MAX = 64
UINT, SINT, USHORT = struct.Struct("<I"), struct.Struct("<i"), struct.Struct("<H")


class FlatBuffer:
    """One buffer, whose payload may have been cut out.

    Args:
        data: the bytes that are left.
        gap_at: where the payload began.
        gap_bytes: bytes that were cut out there.
    """

    def __init__(self, data: bytes | memoryview, gap_at: int = 0, gap_bytes: int = 0) -> None:
        self._data = data
        self._gap = (gap_at, gap_at + gap_bytes)
        self.size = len(data) + gap_bytes
        # every table, vector and text is referred to by 4 bytes of its own, so that no sound buffer has more of them;
        # they may be shared, but not so that little becomes a lot
        self._budget = self.size
        self._bytes = SHARED_MAX * self.size

    def place(self, position: int, size: int) -> int:
        """Where ``size`` bytes at ``position`` stand in what is left.

        Raises:
            Contradiction: they are not all inside of the buffer.
        """
        begin, end = self._gap
        if position < 0 or position + size > self.size or (position < end and position + size > begin):
            raise Contradiction(f"an offset leads to bytes {position} to {position + size} of {self.size}")
        return position if position + size <= begin else position - (end - begin)

    def number(self, kind: struct.Struct, position: int) -> int | float | bool:
        """One number or truth value."""
        value: int | float | bool = kind.unpack_from(self._data, self.place(position, kind.size))[0]
        return value

    def numbers(self, code: str, size: int, position: int, count: int) -> list[int] | list[float] | list[bool]:
        """Numbers one behind the other."""
        place = self.place(position, size * count)
        self._spend(size * count)
        return list(struct.unpack_from(f"<{count}{code}", self._data, place))

    def root(self) -> int:
        """Place of the root table."""
        place = self.refer(0)
        if place < UINT.size:
            raise Contradiction(f"its root table begins at byte {place}, inside of the reference to it")
        return place

    def refer(self, position: int) -> int:
        """The place that the reference at ``position`` leads to."""
        self._budget -= 1
        if self._budget < 0:
            raise Contradiction("its tables refer to each other more often than its bytes allow")
        return position + self._unsigned(position)

    def field(self, table: int, slot: int) -> int:
        """Where a field of a table stands; 0 where it is not set."""
        (back,) = SINT.unpack_from(self._data, self.place(table, 4))
        vtable = table - back
        (size,) = USHORT.unpack_from(self._data, self.place(vtable, 2))
        entry = 4 + 2 * slot
        if entry + 2 > size:
            return 0
        (offset,) = USHORT.unpack_from(self._data, self.place(vtable + entry, 2))
        return table + offset if offset else 0

    def vector(self, position: int) -> tuple[int, int]:
        """First item and number of items of the vector that ``position`` refers to."""
        start = self.refer(position)
        return start + 4, self._unsigned(start)

    def text(self, position: int) -> str:
        """The text that ``position`` refers to."""
        start, count = self.vector(position)
        place = self.place(start, count)
        self._spend(count)
        try:
            return bytes(self._data[place : place + count]).decode("utf-8")
        except UnicodeDecodeError:
            raise Contradiction("a text is not UTF-8") from None

    def _spend(self, size: int) -> None:
        self._bytes -= size
        if self._bytes < 0:
            raise Contradiction(f"its texts and vectors hold more than {SHARED_MAX} times its bytes")

    def _unsigned(self, position: int) -> int:
        value: int = UINT.unpack_from(self._data, self.place(position, 4))[0]
        return value
