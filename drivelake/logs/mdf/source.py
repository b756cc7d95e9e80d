"""Batches of the tables of an MDF 4 file, whoever reads them. Belongs here: which way a table is read, promises against data.

Never here: what batches become, threads' jobs (streams.py), the walk through unsorted data (demux.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from itertools import groupby
from typing import TYPE_CHECKING, TypeAlias

import pyarrow as pa

from drivelake.errors import LogDamaged
from drivelake.logs.findings import Findings
from drivelake.logs.mdf.blocks import LAST_DT_OPEN, MdfFile
from drivelake.logs.mdf.check import check_blocks
from drivelake.logs.mdf.decoding import Values
from drivelake.logs.mdf.demux import Demux
from drivelake.logs.mdf.model import Piece
from drivelake.logs.mdf.physical import to_physical
from drivelake.logs.mdf.pieces import TRANSPOSED, pieces_of
from drivelake.logs.mdf.rows import Lost, stream_bytes
from drivelake.logs.mdf.streams import Stream, read_sorted
from drivelake.logs.mdf.tables import Table
from drivelake.logs.mdf.values import SignalData

if TYPE_CHECKING:
    from asammdf import MDF

__all__ = ["Batches", "Finish", "Source"]

Finish: TypeAlias = Callable[[pa.RecordBatch], pa.RecordBatch]
Batches: TypeAlias = Iterator["tuple[Table, pa.RecordBatch | None]"]

SORTED, UNSORTED, FOREIGN = "sorted", "unsorted", "foreign"


class Source:
    """The records of one MDF 4 file.

    Args:
        file: the file.
        findings: takes what is promised and what contradicts it.
        threads: that inflate ahead.
        stack: closes what is opened here.
    """

    def __init__(self, file: MdfFile, findings: Findings, threads: int, stack: ExitStack) -> None:
        self._file, self._findings, self._threads, self._stack = file, findings, threads, stack
        self._pieces: dict[int, tuple[Piece, ...]] = {0: ()}
        self._whole: set[int] = set()
        self._foreign: MDF | None = None

    def prepare(self, tables: Sequence[Table]) -> None:
        """Find the pieces of all streams, and hold sorted ones against what their groups promise."""
        for table in tables:
            if table.columns is None:
                continue
            self._find(table.data_group.data, f"group {table.group.index}")
            self._whole.add(table.data_group.data)
            if table.data_group.id_bytes:
                continue
            for channel in table.columns.streams:
                self._find(channel.data, f"channel {channel.name!r} of group {table.group.index}")
            self._compare(table)
            self._doubt_rows(table)

    @property
    def verified(self) -> frozenset[int]:
        """Where the bytes of pieces begin of records that are inflated here, all of them."""
        return frozenset(piece.offset for link in self._whole for piece in self._pieces[link])

    def found(self, tables: Sequence[Table], finish: Finish, columns: Collection[str] | None) -> Batches:
        """Batches of all tables, an empty one for a table without rows; behind the last one of each table comes None.

        Args:
            tables: as they were prepared, in file order.
            finish: what is done to raw batches; frames are always physical.
            columns: names of columns, for tables that asammdf reads; all of them if None.
        """
        given: set[str] = set()
        for table, batch in self._found(tables, finish, columns):
            if batch is None and table.columns is not None and table.name not in given:
                yield table, (to_physical if table.is_bus else finish)(table.columns.nothing)
            given.add(table.name)
            yield table, batch

    def _found(self, tables: Sequence[Table], finish: Finish, columns: Collection[str] | None) -> Batches:
        for (way, _), group in groupby(tables, key=_way):
            part = list(group)
            if way == SORTED:
                yield from self._sorted(part, finish)
            elif way == UNSORTED:
                yield from self._unsorted(part, finish)
            else:
                for table in part:
                    yield from self._by_asammdf(table, columns)

    def _find(self, link: int, what: str) -> None:
        if link not in self._pieces:
            self._pieces[link] = pieces_of(self._file, link, self._findings, what)

    def _compare(self, table: Table) -> None:
        """Records that are promised and bytes that are there."""
        held, size = stream_bytes(self._pieces[table.data_group.data]), table.record_bytes
        there, torn = divmod(held, size)
        if table.records is None:
            if torn:
                self._torn(table, torn)
        elif held != table.records * size:
            self._findings.damaged(
                f"Group {table.group.index} ({table.name!r}) promises {table.records} records of {size} bytes,"
                f" its data hold {held} bytes.",
                channel=table.name,
                lost=max(0, table.records - there),
            )

    def _doubt_rows(self, table: Table) -> None:
        """A row length that is not the records' may be meant or be a flipped bit: no checksum covers it."""
        lengths = {piece.columns for piece in self._pieces[table.data_group.data] if piece.packing == TRANSPOSED}
        for other in sorted(lengths - {table.record_bytes}):
            self._findings.note(
                f"Group {table.group.index} ({table.name!r}): blocks are transposed by rows of {other} bytes, its records have"
                f" {table.record_bytes}. Nothing in the file confirms {other}."
            )

    def _torn(self, table: Table, left: int) -> None:
        sentence = (
            f"The data of group {table.group.index} end inside a record: {left} of its {table.record_bytes} bytes are there."
        )
        if self._file.unfinalised & LAST_DT_OPEN:
            self._findings.note(sentence)
            self._findings.lose(table.name, 1, sentence)
        else:
            self._findings.damaged(sentence, channel=table.name, lost=1)

    def _sorted(self, tables: Sequence[Table], finish: Finish) -> Batches:
        waiting, behind = deque(tables), 0
        for table, found in read_sorted(self._file, self._streams(tables, finish), self._threads):
            while waiting[0] is not table:
                yield waiting.popleft(), None
                behind = 0
            if isinstance(found, Lost):
                behind = self._lose(table, found, behind)
                continue
            self._tell(table, found.wrong)
            yield table, found.batch
        for table in waiting:
            yield table, None

    def _streams(self, tables: Sequence[Table], finish: Finish) -> Iterator[Stream]:
        for table in tables:
            assert table.columns is not None
            pieces = self._pieces[table.data_group.data]
            there = stream_bytes(pieces) // table.record_bytes
            values: dict[int, Values] = {
                channel.offset: SignalData(self._file, self._pieces[channel.data], self._findings, f"channel {channel.name!r}")
                for channel in table.columns.streams
            }
            records = there if table.records is None else min(there, table.records)
            yield Stream(table, pieces, records, values, to_physical if table.is_bus else finish)

    def _lose(self, table: Table, lost: Lost, behind: int) -> int:
        """Tell what a lost stretch costs; the records that it touches, those told before left out."""
        records = stream_bytes(self._pieces[table.data_group.data]) // table.record_bytes
        if table.records is not None:
            records = min(records, table.records)
        first, last = max(behind, lost.start // table.record_bytes), min(records, -(-lost.end // table.record_bytes))
        self._findings.damaged(f"Group {table.group.index}: {lost.sentence}", channel=table.name, lost=max(0, last - first))
        return max(behind, last)

    def _tell(self, table: Table, wrong: Sequence[tuple[str, int]]) -> None:
        for sentence, number in wrong:
            self._findings.damaged(sentence, channel=table.name, lost=number)

    def _unsorted(self, tables: Sequence[Table], finish: Finish) -> Batches:
        pieces = self._pieces[tables[0].data_group.data]
        demux = Demux(self._file, tables[0].data_group, pieces, tables, self._findings, self._threads)
        try:
            for table, found in demux.results():
                assert not isinstance(found, Lost)
                self._tell(table, found.wrong)
                yield table, (to_physical if table.is_bus else finish)(found.batch)
        except LogDamaged as error:
            self._give_up(tables, error)
        for table in tables:
            seen = demux.counted[table.group.index]
            if table.records is not None and seen != table.records:
                self._findings.damaged(
                    f"Group {table.group.index} ({table.name!r}) promises {table.records} records, {seen} are there.",
                    channel=table.name,
                    lost=max(0, table.records - seen),
                )
            yield table, None

    def _by_asammdf(self, table: Table, columns: Collection[str] | None) -> Batches:
        from drivelake.logs.mdf.asammdf_log import group_batches

        self._findings.note(f"Group {table.group.index} ({table.name!r}) was read by asammdf: {table.fallback}.")
        try:
            mdf = self._asammdf()
            for found in group_batches(
                mdf,
                self._file.path,
                table.group.index,
                self._findings,
                columns=None if table.is_bus else columns,
                left_out=table.left_out,
            ):
                self._tell(table, found.wrong)
                yield table, found.batch
        except LogDamaged as error:
            self._give_up([table], error)
        yield table, None

    def _asammdf(self) -> MDF:
        """The file, opened by asammdf; only if every block is whole, since it trusts them."""
        from drivelake.logs.mdf.asammdf_access import opened

        if self._foreign is None:
            check_blocks(self._file, Findings(strict=True))
            self._foreign = self._stack.enter_context(opened(self._file.path))
        return self._foreign

    def _give_up(self, tables: Sequence[Table], error: LogDamaged) -> None:
        """Nothing more of these tables can be read."""
        self._findings.damaged(error.message, channel=tables[0].name)
        for table in tables[1:]:
            self._findings.lose(table.name, 0, error.message)


def _way(table: Table) -> tuple[str, int]:
    """How a table is read, and what it has to be read with."""
    if table.columns is None:
        return FOREIGN, 0
    return (UNSORTED, table.data_group.offset) if table.data_group.id_bytes else (SORTED, 0)
