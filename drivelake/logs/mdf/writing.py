"""Writing MDF 4 blocks. Belongs here: blocks one behind the other, links set later, data streams packed piece by piece.

Never here: what blocks mean, reading, publishing a file.

Format: ASAM MDF 4.1. Same calls, same bytes. Memory: what a stream holds back until it fills a piece.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import BinaryIO

import numpy as np
from numpy.typing import NDArray

__all__ = ["PIECE_BYTES", "BlockWriter", "StreamWriter"]

PIECE_BYTES = 4 << 20
LEVEL = 6  # zlib's own default
ALIGNMENT = 8
HEAD = struct.Struct("<4sIQQ")
DZ_HEAD = struct.Struct("<2sBBIQQ")
DEFLATED, TRANSPOSED = 0, 1
PACKED_SINCE = 410  # DZ and HL blocks came with 4.10


class BlockWriter:
    """Appends blocks to a file.

    Args:
        file: where to write, from its start.
        identification: the first 64 bytes.
    """

    def __init__(self, file: BinaryIO, identification: bytes) -> None:
        self._file = file
        self._end = 0
        self._append(identification)

    def block(self, kind: str, links: Sequence[int], content: bytes) -> int:
        """A block at the next multiple of 8; its offset."""
        self._append(b"\0" * (-self._end % ALIGNMENT))
        offset = self._end
        head = HEAD.pack(b"##" + kind.encode(), 0, HEAD.size + 8 * len(links) + len(content), len(links))
        self._append(head + struct.pack(f"<{len(links)}Q", *links) + content)
        return offset

    def link(self, block: int, number: int, target: int) -> None:
        """Set one link of a block that is written."""
        self._file.seek(block + HEAD.size + 8 * number)
        self._file.write(struct.pack("<Q", target))

    def finish(self) -> None:
        """Pad the last block."""
        self._append(b"\0" * (-self._end % ALIGNMENT))

    def _append(self, data: bytes) -> None:
        self._file.seek(self._end)
        self._file.write(data)
        self._end += len(data)


class StreamWriter:
    """One data stream: packed pieces of about 4 MiB and their list. Before version 4.10 the pieces are plain.

    Args:
        writer: of the file.
        kind: ``DT`` for records, ``SD`` for values of varying length.
        version: of the file, such as 411.
        row_bytes: of a record; pieces end with one, and are packed byte plane by byte plane. 1 for values.
        piece_bytes: how much is held back, roughly.

    Attributes:
        size: bytes written so far.
    """

    def __init__(
        self, writer: BlockWriter, kind: str, version: int, *, row_bytes: int = 1, piece_bytes: int = PIECE_BYTES
    ) -> None:
        self.size = 0
        self._writer = writer
        self._kind = kind
        self._packs = version >= PACKED_SINCE
        self._row_bytes = row_bytes
        self._piece_bytes = max(1, piece_bytes // row_bytes) * row_bytes
        self._waiting = bytearray()
        self._blocks: list[int] = []
        self._places: list[int] = []
        self._placed = 0

    def write(self, data: NDArray[np.uint8]) -> None:
        """More of the stream."""
        self._waiting += np.ascontiguousarray(data).data.cast("B") if data.size else b""
        self.size += data.size
        while len(self._waiting) >= self._piece_bytes:
            self._piece(self._waiting[: self._piece_bytes])
            del self._waiting[: self._piece_bytes]

    def finish(self) -> int:
        """Write what is left; the link to the stream, 0 if it is empty."""
        if self._waiting:
            self._piece(self._waiting)
            self._waiting.clear()
        if not self._blocks:
            return 0
        content = struct.pack("<B3sI", 0, b"", len(self._blocks)) + np.array(self._places, "<u8").tobytes()
        listed = self._writer.block("DL", [0, *self._blocks], content)
        if not self._packs:
            return listed
        return self._writer.block("HL", [listed], struct.pack("<HB5s", 0, self._packing, b""))

    @property
    def _packing(self) -> int:
        return TRANSPOSED if self._row_bytes > 1 else DEFLATED

    def _piece(self, data: bytearray) -> None:
        self._places.append(self._placed)
        self._placed += len(data)
        self._blocks.append(self._packed(data) if self._packs else self._writer.block(self._kind, [], bytes(data)))

    def _packed(self, data: bytearray) -> int:
        import deflate

        size, columns = len(data), self._row_bytes if self._packing == TRANSPOSED else 0
        if columns:
            data = bytearray(np.frombuffer(data, np.uint8).reshape(-1, columns).T.tobytes())
        packed = deflate.zlib_compress(data, LEVEL)
        head = DZ_HEAD.pack(self._kind.encode(), self._packing, 0, columns, size, len(packed))
        return self._writer.block("DZ", [], head + bytes(packed))
