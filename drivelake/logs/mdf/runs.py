"""Pieces of a sorted data stream as records. Belongs here: which pieces are read together, untransposing, records cut by pieces.

Never here: channels, values, threads, what is told about damage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from drivelake.errors import LogDamaged
from drivelake.logs.mdf.blocks import MdfFile
from drivelake.logs.mdf.cells import Bytes
from drivelake.logs.mdf.model import Piece
from drivelake.logs.mdf.pieces import PLAIN, inflate

__all__ = ["Lost", "Rows", "Run", "read_run", "runs_of", "stream_bytes", "unpacked"]

RUN_BYTES = 4 << 20
TRANSPOSED = 1


class Run(NamedTuple):
    """Consecutive pieces that are read together.

    Attributes:
        pieces: neighbours, without gap.
        start: place of the first byte in the stream.
        end: place behind the last byte.
    """

    pieces: tuple[Piece, ...]
    start: int
    end: int


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


def runs_of(pieces: Sequence[Piece], record_bytes: int) -> Iterator[Run]:
    """Runs of about 4 MiB that hold a whole record each; long plain pieces are cut, packed ones are not."""
    enough = max(RUN_BYTES // record_bytes, 2) * record_bytes
    run: list[Piece] = []
    for piece in _cut(pieces, enough):
        run.append(piece)
        if piece.place + piece.size - run[0].place >= enough:
            yield _run(run)
            run = []
    if run:
        yield _run(run)


def _run(pieces: Sequence[Piece]) -> Run:
    return Run(tuple(pieces), pieces[0].place, pieces[-1].place + pieces[-1].size)


def _cut(pieces: Sequence[Piece], size: int) -> Iterator[Piece]:
    for piece in pieces:
        if piece.packing != PLAIN:
            yield piece
            continue
        for start in range(0, piece.size, size):
            part = min(size, piece.size - start)
            yield replace(piece, offset=piece.offset + start, stored=part, size=part, place=piece.place + start)


def read_run(
    file: MdfFile, run: Run, record_bytes: int, carried: Callable[[], bytes | None], pass_on: Callable[[bytes | None], None]
) -> Iterator[Rows | Lost]:
    """The whole records of a run, and the one that its start cuts.

    Args:
        file: the file.
        run: of the stream.
        record_bytes: of one record.
        carried: gives what the run before holds of the record that the border cuts, None where that is lost; asked for only
            if a record is cut.
        pass_on: takes the same for the border at the end of the run, before the last rows are given.
    """
    carry: bytes | None = b"" if run.start % record_bytes == 0 else carried()
    for piece in run.pieces:
        found: Sequence[Rows | Lost]
        try:
            data = np.frombuffer(inflate(file, piece), np.uint8)
        except LogDamaged as error:
            found, carry = [Lost(error.message, piece.place, piece.place + piece.size)], None
        else:
            found, carry = _records(piece, data, record_bytes, carry)
        if piece is run.pieces[-1]:
            pass_on(carry)
        yield from found
        if piece.packing == PLAIN:
            file.release(piece.offset, piece.stored)


def _records(piece: Piece, data: Bytes, size: int, carry: bytes | None) -> tuple[list[Rows], bytes | None]:
    """Whole records of a piece, and what it holds of the record that its end cuts."""
    number, inside = divmod(piece.place, size)
    if piece.packing == TRANSPOSED:
        if piece.columns == size and not inside:
            count = piece.size // size
            planes = data[: count * size].reshape(size, count)
            return ([Rows(number, planes.T)] if count else []), data[count * size :].tobytes()
        data = _untransposed(piece, data)
    head = size - inside if inside else 0
    if head > len(data):
        return [], None if carry is None else carry + data.tobytes()
    found = []
    if head:
        if carry is not None:
            found.append(Rows(number, np.frombuffer(carry + data[:head].tobytes(), np.uint8).reshape(1, size)))
        number += 1
    count = (len(data) - head) // size
    end = head + count * size
    if count:
        found.append(Rows(number, data[head:end].reshape(count, size)))
    return found, data[end:].tobytes()


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
