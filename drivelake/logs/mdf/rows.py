"""Pieces of a sorted data stream as records. Belongs here: parts of long pieces, untransposing, records cut by pieces.

Never here: channels, values, threads, what is told about damage.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from drivelake.logs.mdf.blocks import MdfFile
from drivelake.logs.mdf.cells import Bytes
from drivelake.logs.mdf.model import Piece
from drivelake.logs.mdf.pieces import PLAIN, TRANSPOSED, inflate

__all__ = ["Cutter", "Lost", "Rows", "parts_of", "stream_bytes", "unpacked"]

PART_BYTES = 4 << 20


class Rows(NamedTuple):
    """Consecutive records.

    Attributes:
        first: number of the first one in its stream.
        rows: (n, record bytes), in memory row by row or column by column.
    """

    first: int
    rows: Bytes


class Lost(NamedTuple):
    """A stretch of a stream that cannot be read: why, and its first byte and the byte behind its last."""

    sentence: str
    start: int
    end: int


def stream_bytes(pieces: Sequence[Piece]) -> int:
    """Size of a whole stream."""
    return pieces[-1].place + pieces[-1].size if pieces else 0


def parts_of(pieces: Sequence[Piece], record_bytes: int) -> Iterator[Piece]:
    """The pieces of a stream, long plain ones cut to whole records of about 4 MiB together."""
    enough = max(PART_BYTES // record_bytes, 2) * record_bytes
    for piece in pieces:
        if piece.packing != PLAIN:
            yield piece
            continue
        for start in range(0, piece.size, enough):
            part = min(enough, piece.size - start)
            yield replace(piece, offset=piece.offset + start, stored=part, size=part, place=piece.place + start)


class Cutter:
    """Consecutive pieces of one stream, cut into records.

    Args:
        record_bytes: of one record.
    """

    def __init__(self, record_bytes: int) -> None:
        self._size = record_bytes
        # what the last piece holds of the record that its end cuts; None where that is lost
        self._begun: bytes | None = b""

    def lost(self) -> None:
        """The next piece cannot be read."""
        self._begun = None

    def records(self, piece: Piece, data: Bytes) -> Iterator[Rows]:
        """The whole records of the next piece, and the one that its start cuts.

        Args:
            piece: of the stream.
            data: its bytes, as :func:`~drivelake.logs.mdf.pieces.inflate` gives them.
        """
        size = self._size
        number, inside = divmod(piece.place, size)
        if piece.packing == TRANSPOSED:
            if piece.columns == size and not inside:
                count = piece.size // size
                self._begun = data[count * size :].tobytes()
                if count:
                    yield Rows(number, data[: count * size].reshape(size, count).T)
                return
            data = _untransposed(piece, data)
        head = size - inside if inside else 0
        if head > len(data):
            self._begun = None if self._begun is None else self._begun + data.tobytes()
            return
        count = (len(data) - head) // size
        end = head + count * size
        begun, self._begun = self._begun, data[end:].tobytes()
        if head:
            if begun is not None:
                yield Rows(number, np.frombuffer(begun + data[:head].tobytes(), np.uint8).reshape(1, size))
            number += 1
        if count:
            yield Rows(number, data[head:end].reshape(count, size))


def unpacked(file: MdfFile, piece: Piece) -> Bytes:
    """The bytes of a piece in the order of the stream.

    Raises:
        LogDamaged: it cannot be read.
    """
    data = np.frombuffer(inflate(file, piece), np.uint8)
    return _untransposed(piece, data) if piece.packing == TRANSPOSED else data


def _untransposed(piece: Piece, data: Bytes) -> Bytes:
    """Rows of ``piece.columns`` bytes; what is left of the last one stands behind the matrix as it is."""
    count = piece.size // piece.columns
    whole = count * piece.columns
    out = np.empty(piece.size, np.uint8)
    out[:whole].reshape(count, piece.columns)[...] = data[:whole].reshape(piece.columns, count).T
    out[whole:] = data[whole:]
    return out
