"""The sound records of an MDF 4 file, written as sorted streams. Belongs here: whole records and their values of varying length.

Never here: metadata (rewrite), packing (writing), which records are sound: they are those that the reader gives.

A record is read as one column of bytes beside its values of varying length, so it is kept if it is whole, has a possible
time, and its values are where it says. The values are written again in a stream of their own, and the record points there.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.errors import LogDamaged
from drivelake.logs.arrow import AnyArray, nulls, pick
from drivelake.logs.findings import RESTORE, Findings
from drivelake.logs.mdf.blocks import CYCLES_UNKNOWN, MdfFile
from drivelake.logs.mdf.cells import Bytes, cell_of, is_virtual, odd
from drivelake.logs.mdf.columns import Column, flat, master_of, unread
from drivelake.logs.mdf.decoding import GroupColumns
from drivelake.logs.mdf.model import Channel, DataGroup, Group, Mdf
from drivelake.logs.mdf.source import Source
from drivelake.logs.mdf.tables import Table
from drivelake.logs.mdf.writing import PIECE_BYTES, BlockWriter, StreamWriter

__all__ = ["Copied", "copy_records"]

VLSD_GROUP, VLSD, VIRTUAL_MASTER = 1, 1, 3  # cg_flags, cn_type
BYTE_ARRAY, FLOAT = 10, 4  # cn_data_type
LENGTH_BYTES = 4
# offsets of channels that are in no file
WHOLE, ANY_TIME = -1, -2
ALL_PIECES_BYTES = 64 << 20
# of values that are written, for each byte of the source
SWELL_MAX = 16


@dataclass(frozen=True)
class Copied:
    """A group whose records are written.

    Attributes:
        group: of the source.
        records: how many.
        data: link to its stream.
        values: links to values of varying length, by the offset of their channels in the source.
    """

    group: Group
    records: int
    data: int
    values: Mapping[int, int]


def copy_records(
    file: MdfFile, mdf: Mdf, data_group: DataGroup, names: Mapping[int, str], writer: BlockWriter, findings: Findings
) -> Iterator[Copied]:
    """Write the records of all groups of a data group.

    Args:
        file: the source.
        mdf: its metadata.
        data_group: whose groups.
        names: of tables, by index of the group.
        writer: of the new file.
        findings: takes what is wrong with the data.

    Yields:
        Its groups but those that only hold values of others, in file order.
    """
    groups = [group for group in data_group.groups if not group.flags & VLSD_GROUP]
    tables = [_table(mdf, data_group, group, names[group.index]) for group in groups]
    share = max(1 << 16, min(PIECE_BYTES, ALL_PIECES_BYTES // max(len(tables), 1)))
    most = ALL_PIECES_BYTES + SWELL_MAX * file.size
    copies = {table.group.index: _Copy(table, writer, mdf.version, share, most, findings) for table in tables}
    readable = [table for table in tables if table.record_bytes]
    with ExitStack() as stack:
        source = Source(file, findings, 1, stack)
        source.prepare(readable)
        for table, batch in source.found(readable, lambda raw: raw, None):
            if batch is not None:
                copies[table.group.index].take(batch)
    yield from (copy.finish() for copy in copies.values())


def _table(mdf: Mdf, data_group: DataGroup, group: Group, name: str) -> Table:
    """The records of a group as a table with a column of bytes."""
    master = master_of(group)
    if master is None or unread(master):
        # any time is as good as another
        master = _channel(ANY_TIME, kind=VIRTUAL_MASTER, data_type=FLOAT, bit_count=64)
    whole = _channel(WHOLE, kind=0, data_type=BYTE_ARRAY, bit_count=8 * (group.record_bytes + group.invalid_bytes))
    values = [replace(channel, data_type=BYTE_ARRAY, conversion=None) for channel in _varying(data_group, group)]
    columns = [Column("", whole, None), *(Column(str(channel.offset), channel, None) for channel in values)]
    records = None if mdf.unfinalised & CYCLES_UNKNOWN else group.cycles
    reader = GroupColumns(group, master, columns if whole.bit_count else [], mdf.start_ns, 0)
    return Table(name, "mdf.group", group, data_group, records, reader, "", frozenset())


def _channel(offset: int, *, kind: int, data_type: int, bit_count: int) -> Channel:
    return Channel(
        name="",
        kind=kind,
        sync=1,
        data_type=data_type,
        byte_offset=0,
        bit_offset=0,
        bit_count=bit_count,
        invalid_bit=None,
        conversion=None,
        unit="",
        data=0,
        shape=(),
        strides=(),
        members=(),
        offset=offset,
        unread="",
    )


def _varying(data_group: DataGroup, group: Group) -> Iterator[Channel]:
    """Channels whose values stand elsewhere, and where."""
    targets = {other.offset for other in data_group.groups if other.flags & VLSD_GROUP}
    for channel in flat(group.channels):
        if channel.kind == VLSD and not odd(channel) and channel.data and (not data_group.id_bytes or channel.data in targets):
            yield channel


class _Copy:
    """Writes what is found of one group."""

    def __init__(
        self, table: Table, writer: BlockWriter, version: int, piece_bytes: int, most_bytes: int, findings: Findings
    ) -> None:
        assert table.columns is not None
        self._table = table
        self._findings = findings
        self._data = StreamWriter(writer, "DT", version, row_bytes=max(table.record_bytes, 1), piece_bytes=piece_bytes)
        self._values = [
            _Values(channel, StreamWriter(writer, "SD", version, piece_bytes=piece_bytes), most_bytes)
            for channel in table.columns.streams
        ]
        self._records = 0
        self._numbered = any(is_virtual(channel) for channel in flat(table.group.channels))

    def take(self, batch: pa.RecordBatch) -> None:
        """More records."""
        name = self._table.name
        if self._numbered and name in self._findings.reasons:
            # behind a lost record the others would get other numbers, and with them other times
            self._findings.lose(name, batch.num_rows, "What follows is left out, since the group numbers its records.")
            return
        if not batch.num_rows:
            return
        data, starts, lengths = _parts(batch.column(1))
        rows = data[starts[0] : starts[-1] + lengths[-1]].reshape(batch.num_rows, -1).copy()
        for values, column in zip(self._values, batch.columns[2:], strict=True):
            values.place(rows, column)
        self._data.write(rows)
        self._records += len(rows)

    def finish(self) -> Copied:
        """Close the streams."""
        values = {one.channel.offset: one.finish() for one in self._values}
        return Copied(self._table.group, self._records, self._data.finish(), values)


class _Values:
    """The values of varying length of one channel, written in the order of their records, one for each.

    Readers of others rely on that order. Records that share a value get copies of it, so the size is limited.

    Attributes:
        channel: whose values.
    """

    def __init__(self, channel: Channel, stream: StreamWriter, most_bytes: int) -> None:
        self.channel = channel
        self._stream = stream
        self._most_bytes = most_bytes
        self._cell = cell_of(channel)

    def place(self, rows: Bytes, column: AnyArray) -> None:
        """Write the values of some records, and let the records point at them."""
        data, starts, lengths = _parts(column)
        if (invalid := nulls(column)) is not None:
            lengths[invalid] = 0
        places = self._write(pick(data, starts, lengths), lengths)
        cell, shift = self._cell, self.channel.bit_offset
        if self._stream.size > min(self._most_bytes, 1 << (8 * cell.width - shift)):
            raise LogDamaged(
                f"Values of channel {self.channel.name!r} are shared by so many records that they would take more than"
                f" {self._stream.size} bytes.",
                next_step=RESTORE,
            )
        offsets = (places << np.uint64(shift)).astype("<u8").view(np.uint8).reshape(-1, 8)
        rows[:, cell.offset : cell.offset + cell.width] = offsets[:, : cell.width]

    def finish(self) -> int:
        """Close the stream; the link to it."""
        return self._stream.finish()

    def _write(self, data: Bytes, lengths: NDArray[np.int64]) -> NDArray[np.uint64]:
        """Write values behind their lengths; where they stand."""
        starts = np.cumsum(lengths + LENGTH_BYTES) - lengths - LENGTH_BYTES
        out = np.empty(len(data) + LENGTH_BYTES * len(lengths), np.uint8)
        heads = (starts[:, None] + np.arange(LENGTH_BYTES)).ravel()
        out[heads] = lengths.astype("<u4").view(np.uint8)
        content = np.ones(len(out), np.bool_)
        content[heads] = False
        out[content] = data
        base = self._stream.size
        self._stream.write(out)
        return (starts + base).astype(np.uint64)


def _parts(column: AnyArray) -> tuple[Bytes, NDArray[np.int64], NDArray[np.int64]]:
    """The bytes of a column of bytes, and where each value begins in them and its length."""
    _, ends, data = column.buffers()
    assert ends is not None
    offsets = np.frombuffer(memoryview(ends), np.int32)[column.offset : column.offset + len(column) + 1].astype(np.int64)
    whole = np.frombuffer(memoryview(data), np.uint8) if data is not None and data.size else np.empty(0, np.uint8)
    return whole, offsets[:-1], np.diff(offsets)
