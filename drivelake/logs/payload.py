"""The bytes behind a payload pointer. Belongs here: reading them from the log, verified, with a few chunks kept.

Never here: what the bytes are, where pointers come from.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from pathlib import Path
from types import TracebackType
from typing import Self

from mcap.opcode import Opcode
from mcap.records import Chunk

from drivelake.errors import LogDamaged
from drivelake.logs.mcap.records import FRAME, RESTORE, open_chunk, parse

__all__ = ["PayloadReader"]

CACHE_CHUNKS = 4
CACHE_BYTES = 64 << 20


class PayloadReader:
    """Reads the bytes behind the payload pointers of one MCAP file; a context manager.

    Keeps the last decompressed chunks, at most 4 and 64 MiB (one chunk always fits), so reading in file order
    decompresses each chunk once. Not for several threads at a time.

    Args:
        path: the file that the pointers were made from.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file = path.open("rb")
        self._chunks: OrderedDict[int, bytes] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and forget the chunks."""
        self._file.close()
        self._chunks.clear()

    def read(self, chunk: int, offset: int, size: int) -> bytes:
        """The payload.

        Args:
            chunk: ``payload_chunk``, or -1 for a message outside of chunks.
            offset: ``payload_offset``.
            size: ``payload_bytes``.

        Raises:
            LogDamaged: no chunk there, its CRC is wrong, or the pointer reaches beyond its bytes.
        """
        if chunk < 0:
            self._file.seek(offset)
            data = self._file.read(size)
        else:
            data = self._chunk(chunk)[offset : offset + size]
        if len(data) != size:
            where = f"chunk {chunk}" if chunk >= 0 else "the file"
            raise LogDamaged(
                f"{self._path.name}: a payload of {size} bytes at byte {offset} of {where} ends after {len(data)} bytes.",
                next_step="make the signals of this drive again",
            )
        return data

    def _chunk(self, offset: int) -> bytes:
        if offset in self._chunks:
            self._chunks.move_to_end(offset)
            return self._chunks[offset]
        try:
            data = self._open(offset)
        except LogDamaged as damage:
            raise LogDamaged(f"{self._path.name}: {damage.message}", next_step=damage.next_step) from None
        self._chunks[offset] = data
        while len(self._chunks) > 1 and (
            len(self._chunks) > CACHE_CHUNKS or sum(len(held) for held in self._chunks.values()) > CACHE_BYTES
        ):
            self._chunks.popitem(last=False)
        return data

    def _open(self, offset: int) -> bytes:
        self._file.seek(offset)
        head = self._file.read(FRAME.size)
        try:
            opcode, length = FRAME.unpack(head)
        except struct.error:
            raise LogDamaged(f"The file ends before the chunk at offset {offset}.", next_step=RESTORE) from None
        left = self._path.stat().st_size - offset - FRAME.size
        if opcode != Opcode.CHUNK or length > left:
            raise LogDamaged(
                f"At offset {offset} stands a record 0x{opcode:02x} of {length} bytes, expected a chunk of at most {left}.",
                next_step=RESTORE,
            )
        return open_chunk(parse(Chunk, self._file.read(length), offset), offset)
