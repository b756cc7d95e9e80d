"""MDF groups that asammdf reads: all of MDF 3, and what our own reader of MDF 4 leaves to it.

Belongs here: groups and their names, reading in windows. Never here: calls of asammdf (asammdf_access), columns
(asammdf_columns), frames.

Memory: one window of a group, at most 8 MiB of records (one record always fits). asammdf finds a window again in its
compressed block for every channel, which costs time, not memory.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from drivelake.errors import LogDamaged
from drivelake.logs.findings import Findings
from drivelake.logs.mdf.asammdf_access import Group, check_record, formula_of, groups_of, read_seconds, start_ns
from drivelake.logs.mdf.asammdf_columns import AsammdfColumns
from drivelake.logs.mdf.conversions import readable
from drivelake.logs.mdf.decoding import Decoded, wrong_times
from drivelake.logs.mdf.model import Conversion
from drivelake.logs.mdf.naming import table_names
from drivelake.logs.mdf.stamps import impossible, stamps_ns
from drivelake.logs.report import Leftovers

if TYPE_CHECKING:
    from asammdf import MDF

__all__ = ["AsammdfTable", "group_batches", "tables3"]

WINDOW_BYTES = 8 << 20
WINDOW_ROWS_MAX = 1 << 18
VLSD_CHANNEL = 1  # cn_type
FORMULA = 3  # cc_type of MDF 4


@dataclass(frozen=True)
class AsammdfTable:
    """A group of an MDF 3 file as a table.

    Attributes:
        name: of the table.
        type: ``mdf.group``.
        index: of the group in the file.
        records: as the file promises.
    """

    name: str
    type: str
    index: int
    records: int


def tables3(mdf: MDF, findings: Findings, leftovers: Leftovers | None) -> list[AsammdfTable]:
    """The groups of an MDF 3 file that become tables."""
    groups = groups_of(mdf)
    tables = []
    for index, (group, name) in enumerate(zip(groups, table_names([""] * len(groups)), strict=True)):
        if not group.channels:
            continue
        if reason := _no_time(mdf, index):
            findings.note(f"Group {index} ({name!r}) has no table: {reason}.")
            if leftovers is not None:
                leftovers.unsupported[name] = reason
            continue
        tables.append(AsammdfTable(name, "mdf.group", index, int(group.channel_group.cycles_nr)))
    return tables


def _no_time(mdf: MDF, index: int) -> str:
    """Why the records of a group have no time, or nothing."""
    master = mdf.masters_db.get(index)
    if master is None:
        return "it has no master channel, so its records have no time"
    text = formula_of(mdf, groups_of(mdf)[index].channels[master])
    unknown = readable(Conversion(FORMULA, (), (text,), "")) if text else ""
    return f"its time has {unknown}" if unknown else ""


def group_batches(
    mdf: MDF,
    path: Path,
    index: int,
    findings: Findings,
    *,
    columns: Collection[str] | None,
    left_out: Collection[str] = (),
) -> Iterator[Decoded]:
    """The records of a group, window by window, physical; an empty batch for a group without records.

    Args:
        mdf: the file, open.
        path: the file.
        index: of the group.
        findings: takes notes on channels that nobody reads.
        columns: names of columns; all of them if None.
        left_out: names of columns that are not to be read.

    Raises:
        LogDamaged: fewer records than promised, or asammdf cannot read them.
    """
    group = groups_of(mdf)[index]
    check_record(group, index)
    found = AsammdfColumns(mdf, index, findings, columns, left_out)
    start, records, schema = start_ns(mdf, findings), int(group.channel_group.cycles_nr), None
    window = _window(group, records, path.stat().st_size)
    for offset in range(0, max(records, 1), window):
        wanted = min(window, records - offset)
        seconds = read_seconds(mdf, index, offset, wanted) if wanted else np.empty(0)
        if len(seconds) != wanted:
            raise LogDamaged(f"Group {index} promises {records} records, {offset + len(seconds)} can be read.")
        out = impossible(seconds)
        told = () if out is None else (wrong_times(index, seconds, out, offset),)
        batch = found.read(offset, stamps_ns(start, seconds if out is None else np.where(out, 0.0, seconds)))
        if schema is not None and batch.schema != schema:
            raise LogDamaged(f"Group {index} changes its columns at record {offset}: {batch.schema} after {schema}.")
        schema = batch.schema
        yield Decoded(batch if out is None else batch.filter(~out), told)


def _window(group: Group, records: int, file_bytes: int) -> int:
    """Records to read at a time. A VLSD value has no fixed size: the file's share of a record stands for its mean."""
    size = group.channel_group.samples_byte_nr
    if any(channel.channel_type == VLSD_CHANNEL for channel in group.channels):
        size += file_bytes // max(records, 1)
    return max(1, min(WINDOW_BYTES // max(size, 1), WINDOW_ROWS_MAX))
