"""MDF logs: their report, and their channel groups and CAN messages as tables.

Belongs here: groups and their names, reading in windows. Never here: block structure (mdf_blocks), calls of asammdf
(mdf_access), columns (mdf_columns), CAN frames (can).

Memory: one window of a group, at most 8 MiB of records (one record always fits). asammdf finds a window again in its
compressed block for every channel, which costs time, not memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.errors import LogDamaged
from drivelake.logs.buses.can import CanFrames, CanTables
from drivelake.logs.findings import RESTORE
from drivelake.logs.mdf.asammdf_access import Group, check_record, groups_of, opened, read_stamps_ns, start_ns
from drivelake.logs.mdf.check import check_blocks
from drivelake.logs.mdf.asammdf_columns import GroupColumns
from drivelake.logs.report import ChannelReport, Leftovers, LogBatch, Stamps

if TYPE_CHECKING:
    from asammdf import MDF

__all__ = ["inspect_mdf", "read_mdf"]

WINDOW_BYTES = 8 << 20
WINDOW_ROWS_MAX = 1 << 18
VLSD_GROUP = 1  # cg_flags: records of a VLSD channel in another group, no channels of its own
BUS_EVENT = 2  # cg_flags: bus logging
VLSD_CHANNEL = 1  # cn_type
TIME = 1  # cn_sync_type


@dataclass(frozen=True)
class _Table:
    """A channel group as a table.

    Attributes:
        index: of the group in the file.
        name: of the table.
        records: as the file promises.
        window: records read at a time.
        is_can: whether its records are CAN data frames.
    """

    index: int
    name: str
    records: int
    window: int
    is_can: bool

    @property
    def type(self) -> str:
        """As in :class:`~drivelake.logs.report.LogBatch`."""
        return "can.frames" if self.is_can else "mdf.group"


def inspect_mdf(path: Path, damaged: Callable[[str], None]) -> tuple[str, tuple[ChannelReport, ...], tuple[str, ...]]:
    """Format, channels and notes of an MDF file; contradictions go to ``damaged``."""
    form, notes, walkable = _form(path), list[str](), True
    if form == "mdf4":
        blocks = check_blocks(path)
        walkable = blocks.sound
        for sentence in blocks.damage:
            damaged(sentence)
        notes.append(
            f"{blocks.compressed} compressed data blocks carry a checksum, all verified; {blocks.plain} data blocks carry none."
        )
    reports: list[ChannelReport] = []
    if walkable:
        try:
            with opened(path) as mdf:
                start = start_ns(mdf, notes)
                reports.extend(_inspect_table(mdf, table, start, damaged) for table in _tables(mdf, path, notes))
        except LogDamaged as error:
            damaged(error.message)
    return form, tuple(sorted(reports, key=lambda report: report.name)), tuple(notes)


def _inspect_table(mdf: MDF, table: _Table, start: int, damaged: Callable[[str], None]) -> ChannelReport:
    stamps = Stamps()
    try:
        for _, t_ns in _windows(mdf, table, start):
            stamps.extend(t_ns)
    except LogDamaged as error:
        damaged(error.message)
    return stamps.report(table.name, table.type)


def read_mdf(
    path: Path, *, wanted: Callable[[str], bool], databases: Sequence[Path], batch_rows: int, leftovers: Leftovers | None
) -> Iterator[LogBatch]:
    """The tables of an MDF file; a group without records gives one empty batch.

    Args:
        path: the file.
        wanted: asked for every table of the file whether it is to be read.
        databases: DBC files; with them CAN frames become one table a message, without them one table of frames.
        batch_rows: the most rows of a batch.
        leftovers: takes what no table holds.

    Raises:
        LogDamaged: at the first contradiction, of the blocks or in asammdf.
        InputError: a database that cannot be read, or two that disagree.
    """
    if _form(path) == "mdf4" and (damage := check_blocks(path).damage):
        raise LogDamaged(damage[0], next_step=RESTORE)
    with opened(path) as mdf:
        start = start_ns(mdf, [])
        tables = _tables(mdf, path, [], leftovers)
        can = [table for table in tables if table.is_can] if databases else []
        for table in tables:
            if table not in can and wanted(table.name):
                yield from _group_batches(mdf, table, start, batch_rows)
        if can:
            taken = {table.name for table in tables if table not in can}
            yield from _message_batches(mdf, can, start, batch_rows, databases, taken, wanted, leftovers)


def _group_batches(mdf: MDF, table: _Table, start: int, batch_rows: int) -> Iterator[LogBatch]:
    columns = CanFrames(mdf, table.index) if table.is_can else GroupColumns(mdf, table.index)
    schema: pa.Schema | None = None
    done = 0
    for offset, t_ns in _windows(mdf, table, start):
        batch = columns.read(offset, t_ns)
        if schema is not None and batch.schema != schema:
            raise LogDamaged(
                f"Group {table.index} ({table.name!r}) changes its columns at record {offset}: {batch.schema} after {schema}.",
                next_step=RESTORE,
            )
        schema = batch.schema
        for first in range(0, max(len(batch), 1), batch_rows):
            part = batch.slice(first, batch_rows)
            done += len(part)
            yield LogBatch(table.name, table.type, part, last=done == table.records)


def _message_batches(
    mdf: MDF,
    groups: Sequence[_Table],
    start: int,
    batch_rows: int,
    databases: Sequence[Path],
    taken: set[str],
    wanted: Callable[[str], bool],
    leftovers: Leftovers | None,
) -> Iterator[LogBatch]:
    """CAN frames of all groups, decoded. A first pass learns which message comes on which bus."""
    sources = [(group, CanFrames(mdf, group.index)) for group in groups]
    ids: Counter[tuple[int, int, bool]] = Counter()
    for group, frames in sources:
        for offset, t_ns in _windows(mdf, group, start):
            ids.update(frames.ids(offset, len(t_ns)))
    tables = CanTables(databases, ids, taken, wanted)
    for group, frames in sources:
        for offset, t_ns in _windows(mdf, group, start):
            yield from tables.add(frames.read(offset, t_ns), batch_rows)
    yield from tables.rest()
    if leftovers is not None:
        leftovers.frames.update(tables.undecoded)


def _form(path: Path) -> str:
    """``mdf4`` or ``mdf3`` from the version in the identification block; versions below 4 have another layout."""
    with path.open("rb") as file:
        major = file.read(12)[8:9]
    return "mdf3" if major in (b"2", b"3") else "mdf4"


def _tables(mdf: MDF, path: Path, notes: list[str], leftovers: Leftovers | None = None) -> list[_Table]:
    """The groups that become tables, named by acquisition where that is unique, else ``group_<index>``."""
    groups = groups_of(mdf)
    acquired = [getattr(group.channel_group, "acq_name", None) or "" for group in groups]
    uses = Counter(acquired)
    tables = []
    for index, group in enumerate(groups):
        flags = getattr(group.channel_group, "flags", 0)
        if flags & VLSD_GROUP or not group.channels:
            continue
        name = acquired[index] if acquired[index] and uses[acquired[index]] == 1 else f"group_{index}"
        if reason := _without_time(mdf, group, index):
            notes.append(f"Group {index} ({name!r}) has no table: {reason}.")
            if leftovers is not None:
                leftovers.unsupported[name] = reason
            continue
        check_record(group, index)
        records = int(group.channel_group.cycles_nr)
        is_can = bool(flags & BUS_EVENT) and CanFrames.matches(group.channels)
        tables.append(_Table(index, name, records, _window(group, records, path.stat().st_size), is_can))
    return tables


def _without_time(mdf: MDF, group: Group, index: int) -> str:
    """Why the records of a group have no time, or nothing."""
    if (master := mdf.masters_db.get(index)) is None:
        return "it has no master channel, so its records have no time"
    sync = getattr(group.channels[master], "sync_type", TIME)
    return "" if sync == TIME else f"its master is of synchronisation type {sync}, only time ({TIME}) is read"


def _window(group: Group, records: int, file_bytes: int) -> int:
    """Records to read at a time. A VLSD value has no fixed size: the file's share of a record stands for its mean."""
    size = group.channel_group.samples_byte_nr
    if any(channel.channel_type == VLSD_CHANNEL for channel in group.channels):
        size += file_bytes // max(records, 1)
    return max(1, min(WINDOW_BYTES // max(size, 1), WINDOW_ROWS_MAX))


def _windows(mdf: MDF, table: _Table, start: int) -> Iterator[tuple[int, NDArray[np.int64]]]:
    """Record offset and receive stamps, window by window; one empty window for a group without records.

    Raises:
        LogDamaged: fewer records than promised, or a time that cannot be.
    """
    offset = 0
    while offset < table.records:
        t_ns = read_stamps_ns(mdf, table.index, start, offset, min(table.window, table.records - offset))
        if not len(t_ns):
            raise LogDamaged(
                f"Group {table.index} ({table.name!r}) promises {table.records} records, {offset} can be read.", next_step=RESTORE
            )
        yield offset, t_ns
        offset += len(t_ns)
    if not table.records:
        yield 0, np.empty(0, np.int64)
