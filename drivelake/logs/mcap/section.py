"""The data section of an MCAP file as bytes: its one checksum, and the memory behind the pass.

Belongs here: the CRC-32 over everything up to the end of the data section. Never here: records.
"""

from __future__ import annotations

import mmap
from pathlib import Path

import deflate

from drivelake.logs.mcap.framing import mapped

__all__ = ["DataSection"]

RELEASE_BYTES = 16 << 20


class DataSection:
    """A file that is read from its begin to its end, and its CRC-32 up to where that is.

    Args:
        path: the file.

    Attributes:
        view: the file, mapped.
    """

    def __init__(self, path: Path) -> None:
        self._map = mapped(path)
        self.view = memoryview(self._map or b"")
        self._crc = self._crc_end = self._released = 0

    def add(self, end: int) -> None:
        """Go on with the checksum up to ``end``."""
        self._crc, self._crc_end = deflate.crc32(self.view[self._crc_end : end], self._crc), end

    def crc(self, end: int) -> int:
        """CRC-32 of the first ``end`` bytes."""
        return self._crc if self._crc_end == end else self.crc_anew(end)

    def crc_anew(self, end: int) -> int:
        """The same, whatever was added; the bytes are let go of again."""
        crc = 0
        for begin in range(0, end, RELEASE_BYTES):
            size = min(RELEASE_BYTES, end - begin)
            crc = deflate.crc32(self.view[begin : begin + size], crc)
            if self._map:
                self._map.madvise(mmap.MADV_DONTNEED, begin, size)
        return crc

    def release(self, end: int) -> None:
        """Let go of the pages of the file behind the pass."""
        if self._map and end - self._released > 2 * RELEASE_BYTES:
            behind = (end - RELEASE_BYTES) & -mmap.PAGESIZE
            self._map.madvise(mmap.MADV_DONTNEED, self._released, behind - self._released)
            self._released = behind
