"""MDF logs: their report, and their channel groups and bus messages as tables.

Belongs here: the two entries, batches of rows, frames on their way to databases. Never here: blocks, records, columns.

A sorted table is read piece by piece (streams.py), an unsorted data group all at once (demux.py), and what neither can read by
asammdf (asammdf_log.py); their batches come in one form. Memory: a few pieces of about 4 MiB and a window of columns; one
packed piece always fits, which pieces.py limits.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa

from drivelake.errors import LogDamaged
from drivelake.logs.arrow import T_NS, values_of
from drivelake.logs.buses.tables import frames_batch
from drivelake.logs.findings import Findings
from drivelake.logs.mdf.blocks import MdfFile
from drivelake.logs.mdf.bus import BusMessages, sound_frames
from drivelake.logs.mdf.check import check_blocks
from drivelake.logs.mdf.parse import parse
from drivelake.logs.mdf.physical import to_physical
from drivelake.logs.mdf.source import Batches, Source
from drivelake.logs.mdf.tables import Table, plan
from drivelake.logs.report import ChannelReport, Leftovers, LogBatch
from drivelake.logs.stamps import Stamps

if TYPE_CHECKING:
    from drivelake.logs.mdf.asammdf_log import AsammdfTable

__all__ = ["inspect_mdf", "read_mdf", "to_physical"]


def inspect_mdf(path: Path, findings: Findings) -> tuple[str, tuple[ChannelReport, ...]]:
    """Every byte read, every checksum verified, and the stamps of every table.

    Args:
        path: an MDF 3 or MDF 4 file.
        findings: takes what contradicts the format, what is promised, and notes.

    Returns:
        ``mdf4`` or ``mdf3``, and the tables by name.

    Raises:
        LogDamaged: nothing of the file can be read; or from strict findings.
    """
    if _form(path) == "mdf3":
        return "mdf3", _reports(_batches3(path, lambda _: True, findings, None, ()))
    with MdfFile(path) as file, ExitStack() as stack:
        tables = plan(parse(file, findings), findings, None, stamps_only=True)
        for table in tables:
            _promise(table, findings)
        source = Source(file, findings, 1, stack)
        source.prepare(tables)
        blocks = check_blocks(file, findings, verified=source.verified)
        findings.note(
            f"{blocks.compressed} compressed data blocks carry a checksum, all verified; {blocks.plain} data blocks carry none."
        )
        return "mdf4", _reports(source.found(tables, _same, ()))


def read_mdf(
    path: Path,
    *,
    wanted: Callable[[str], bool],
    batch_rows: int,
    leftovers: Leftovers | None,
    findings: Findings,
    threads: int = 1,
    databases: Sequence[Path] = (),
    physical: bool = True,
    columns: Collection[str] | None = None,
) -> Iterator[LogBatch]:
    """The tables of an MDF file; a group without records gives one empty batch.

    Data of tables that are not wanted are not inflated, if they stand in a stream of their own.

    Args:
        path: an MDF 3 or MDF 4 file.
        wanted: asked for every table whether it is to be read.
        batch_rows: the most rows of a batch.
        leftovers: takes what no table holds.
        findings: takes what is wrong; records that are damaged are left out.
        threads: inflate with this many. The batches do not depend on it.
        databases: of buses; with them frames become one table a message, without them one table of frames.
        physical: values in SI units. Without, raw values with the ``conversion`` in the metadata of the field, as JSON, and
            :func:`to_physical` for later; tables that asammdf reads and messages of buses are always physical.
        columns: columns to read beside the stamps; all of them if None.

    Raises:
        LogDamaged: nothing of the file can be read; or from strict findings, at the first contradiction.
        InputError: a database that cannot be read, or two that disagree.
    """
    if _form(path) == "mdf3":
        yield from _outputs(_batches3(path, wanted, findings, leftovers, columns), batch_rows)
        return
    with MdfFile(path) as file, ExitStack() as stack:
        tables = plan(parse(file, findings), findings, leftovers, columns=columns)

        def source(told: Findings, chosen: Sequence[Table]) -> Source:
            made = Source(file, told, threads, stack)
            made.prepare(chosen)
            return made

        messages = BusMessages(source, databases, findings) if databases else None
        decoded = [table for table in tables if messages and messages.decodes(table)]
        plain = [table for table in tables if table not in decoded and wanted(table.name)]
        for table in plain:
            _promise(table, findings)
        found = source(findings, plain).found(plain, to_physical if physical else _same, columns)
        yield from _outputs(_with_frames(found, findings, columns), batch_rows)
        if messages and decoded:
            taken = {table.name for table in tables if table not in decoded}
            yield from messages.read(decoded, taken, wanted, batch_rows, leftovers, columns)


def _form(path: Path) -> str:
    """``mdf4`` or ``mdf3`` from the version in the identification block; versions below 4 have another layout."""
    with path.open("rb") as file:
        major = file.read(12)[8:9]
    return "mdf3" if major in (b"2", b"3") else "mdf4"


def _same(batch: pa.RecordBatch) -> pa.RecordBatch:
    return batch


def _chosen(batch: pa.RecordBatch, columns: Collection[str] | None) -> pa.RecordBatch:
    """The stamps and the columns that were asked for."""
    if columns is None:
        return batch
    return batch.select([name for name in batch.schema.names if name == T_NS.name or name in columns])


def _promise(table: Table | AsammdfTable, findings: Findings) -> None:
    if table.records is not None:
        findings.promise(table.name, table.records)


def _with_frames(found: Batches, findings: Findings, columns: Collection[str] | None) -> Batches:
    """The batches of all tables, those of bus logging as frames."""
    for table, batch in found:
        if batch is None or not table.is_bus:
            yield table, batch
        else:
            yield table, _chosen(frames_batch(sound_frames(table, batch, findings)), columns)


def _outputs(found: Iterable[tuple[Table | AsammdfTable, pa.RecordBatch | None]], batch_rows: int) -> Iterator[LogBatch]:
    """Batches of at most ``batch_rows`` rows; each waits until it is known whether it is the last of its table."""
    waiting: dict[str, LogBatch] = {}
    for table, batch in found:
        before = waiting.pop(table.name, None)
        if batch is None:
            if before is not None:
                yield before._replace(last=True)
            continue
        for first in range(0, len(batch), batch_rows):
            if before is not None and len(before.batch):
                yield before
            before = LogBatch(table.name, table.type, batch.slice(first, batch_rows))
        # a table without rows gives its columns all the same
        waiting[table.name] = before or LogBatch(table.name, table.type, batch)


def _reports(found: Iterable[tuple[Table | AsammdfTable, pa.RecordBatch | None]]) -> tuple[ChannelReport, ...]:
    """The tables by name; what was not read of them is missing from their messages."""
    stamps: dict[str, tuple[str, Stamps]] = {}
    for table, batch in found:
        _, seen = stamps.setdefault(table.name, (table.type, Stamps()))
        if batch is not None:
            seen.extend(values_of(batch.column(0)).astype(np.int64, copy=False))
    return tuple(seen.report(name, kind) for name, (kind, seen) in sorted(stamps.items()))


def _batches3(
    path: Path,
    wanted: Callable[[str], bool],
    findings: Findings,
    leftovers: Leftovers | None,
    columns: Collection[str] | None,
) -> Iterator[tuple[AsammdfTable, pa.RecordBatch | None]]:
    """The tables of an MDF 3 file."""
    from drivelake.logs.mdf.asammdf_access import opened
    from drivelake.logs.mdf.asammdf_log import group_batches, tables3

    with opened(path) as mdf:
        for table in tables3(mdf, findings, leftovers):
            if not wanted(table.name):
                continue
            _promise(table, findings)
            try:
                for found in group_batches(mdf, path, table.index, findings, columns=columns):
                    for sentence, number in found.wrong:
                        findings.damaged(sentence, channel=table.name, lost=number)
                    yield table, found.batch
            except LogDamaged as error:
                findings.damaged(error.message, channel=table.name)
            yield table, None
