"""Sorted groups: their streams as decoded record batches. Belongs here: pieces in order, windows of records.

Never here: what batches become, findings, unsorted streams.

Threads inflate ahead and do nothing else. Decoding asks numpy for many short things, and threads that pass the interpreter's
lock to and fro between them take longer than one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.errors import LogDamaged
from drivelake.logs.ahead import in_order
from drivelake.logs.mdf.blocks import MdfFile
from drivelake.logs.mdf.cells import Bytes
from drivelake.logs.mdf.decoding import Decoded, GroupColumns, Values, Window
from drivelake.logs.mdf.model import Piece
from drivelake.logs.mdf.pieces import PLAIN, inflate
from drivelake.logs.mdf.rows import Cutter, Lost, Rows, parts_of
from drivelake.logs.mdf.tables import Table

__all__ = ["Found", "Stream", "decoded", "read_sorted"]

Found: TypeAlias = "Decoded | Lost"

# memory of the columns that one window takes, roughly: smaller ones cost more calls, larger ones leave the cache
WINDOW_BYTES = 8 << 20


@dataclass(frozen=True, eq=False)
class Stream:
    """The records of one sorted table.

    Attributes:
        table: whose records.
        pieces: of the stream.
        records: of the table; what stands behind them is not read.
        values: those of varying length, by the offset of their channels.
        finish: what is done to each batch.
    """

    table: Table
    pieces: Sequence[Piece]
    records: int
    values: Mapping[int, Values]
    finish: Callable[[pa.RecordBatch], pa.RecordBatch]


def read_sorted(file: MdfFile, streams: Iterable[Stream], threads: int) -> Iterator[tuple[Table, Found]]:
    """Batches of consecutive records, and what is lost between them, in the order of the streams.

    Args:
        file: the file.
        streams: asked for one by one.
        threads: that inflate ahead; 1 inflates when it is asked for.
    """
    parts = ((stream, part) for stream in streams for part in parts_of(stream.pieces, stream.table.record_bytes))
    opened = in_order(parts, partial(_opened, file), weight=lambda job: job[1].size, threads=threads)
    for stream, of_one in groupby(opened, key=lambda found: found[0][0]):
        assert stream.table.columns is not None
        parts_of_one = ((part, data) for (_, part), data in of_one)
        for item in decoded(stream.table.columns, _records(file, stream.table, parts_of_one), stream.records, stream.values):
            yield stream.table, item if isinstance(item, Lost) else Decoded(stream.finish(item.batch), item.wrong)


def _opened(file: MdfFile, job: tuple[Stream, Piece]) -> Bytes | LogDamaged:
    try:
        return np.frombuffer(inflate(file, job[1]), np.uint8)
    except LogDamaged as error:
        return error


def _records(file: MdfFile, table: Table, parts: Iterable[tuple[Piece, Bytes | LogDamaged]]) -> Iterator[Rows | Lost]:
    cutter = Cutter(table.record_bytes)
    for part, data in parts:
        if isinstance(data, LogDamaged):
            cutter.lost()
            yield Lost(data.message, part.place, part.place + part.size)
            continue
        yield from cutter.records(part, data)
        if part.packing == PLAIN:
            file.release(part.offset, part.stored)


def decoded(columns: GroupColumns, found: Iterable[Rows | Lost], end: int, streams: Mapping[int, Values]) -> Iterator[Found]:
    """Records gathered into windows and decoded.

    Args:
        columns: of the group.
        found: records in rising order, and what is lost between them.
        end: number of records of the group; what stands behind is left out.
        streams: values of varying length, by the offset of their channels.
    """
    most = max(1, WINDOW_BYTES // columns.row_bytes)
    cells: list[NDArray[np.generic]] = []
    first = filled = 0
    for item in found:
        if isinstance(item, Lost):
            yield from _flushed(columns, Window(cells, first, filled), streams)
            filled = 0
            yield item
            continue
        at, rows = item.first, item.rows[: max(0, end - item.first)]
        while len(rows):
            if filled and (at != first + filled or filled == most):
                yield from _flushed(columns, Window(cells, first, filled), streams)
                filled = 0
            if not filled:
                first, cells = at, columns.empty(min(most, end - at))
            part = rows[: min(most, end - first) - filled]
            columns.gather(part, cells, filled)
            filled += len(part)
            at += len(part)
            rows = rows[len(part) :]
    yield from _flushed(columns, Window(cells, first, filled), streams)


def _flushed(columns: GroupColumns, window: Window, streams: Mapping[int, Values]) -> Iterator[Decoded]:
    """What was gathered, which may be less than there is place for."""
    if window.count:
        for part in columns.parts(window.part(0, window.count)):
            yield columns.decode(part, streams)
