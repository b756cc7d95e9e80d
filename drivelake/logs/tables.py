"""One log as Parquet tables. Belongs here: their names, their encoding, the size of their row groups, what was not read.

Never here: formats of logs, the folder of a whole drive (signals), which logs are good enough.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from drivelake.logs.arrow import values_of
from drivelake.logs.findings import Findings
from drivelake.logs.opening import read_log
from drivelake.logs.report import Leftovers, recoveries

__all__ = ["ChannelRecovery", "ColumnEntry", "FramesEntry", "LogTables", "TableEntry", "UnsupportedEntry", "write_tables"]

SLUG_CHARACTERS_MAX = 80
BATCH_ROWS = 1 << 14
# of a column that the writer encodes at a time; its own 1,024 cost a tenth more time, for the same bytes
WRITE_ROWS = 1 << 16
# A row group of few rows costs more metadata than data; one of many must fit in memory, beside those of other tables.
GROUP_ROWS = 1 << 17
GROUP_BYTES = 32 << 20
PENDING_BYTES = 64 << 20


class ColumnEntry(TypedDict):
    """A column of a table; ``unit`` holds for the values, ``source_unit`` is what the log said."""

    name: str
    dtype: str
    unit: str
    source_unit: str


class TableEntry(TypedDict):
    """A table: ``rows`` of ``channel`` in ``log``, stamped ``first_ns`` to ``last_ns`` (UTC ns; None without rows)."""

    log: str
    channel: str
    table: str
    type: str
    rows: int
    first_ns: int | None
    last_ns: int | None
    columns: list[ColumnEntry]


class UnsupportedEntry(TypedDict):
    """A channel that gave no table."""

    log: str
    channel: str
    reason: str


class FramesEntry(TypedDict):
    """CAN frames that no database decodes."""

    log: str
    bus: int
    id: str
    reason: str
    frames: int


class ChannelRecovery(TypedDict):
    """What of a channel was read; as :class:`~drivelake.logs.report.Recovery`."""

    channel: str
    expected: int | None
    recovered: int
    lost: int | None
    why: list[str]


class LogTables(TypedDict):
    """What one log gave, and what of it could not be read."""

    tables: list[TableEntry]
    unsupported: list[UnsupportedEntry]
    undecoded_frames: list[FramesEntry]
    damage: list[str]
    channels: list[ChannelRecovery]


def write_tables(log: str, path: Path, out: Path, *, databases: Sequence[Path] = (), threads: int = 1) -> LogTables:
    """Write one Parquet file a channel, with everything of the log that is sound; the same log gives the same bytes.

    Integers are stored as differences, floats split by byte, both compressed with LZ4: over recorded and generated logs 0.3 to
    0.6 of the time of dictionaries with zstd, and 0.8 to 0.9 of the space. DuckDB reads no integers that are split by byte.

    Args:
        log: name of the log inside its drive; the tables stand in a folder of that name.
        path: the log.
        out: the folder that this folder is made in.
        databases: CAN databases of the drive.
        threads: decompress and decode with this many.

    Raises:
        UnsupportedLog: no reader for this file.
        InputError: a database that cannot be read.
    """
    leftovers, findings = Leftovers(), Findings()
    files: set[str] = set()
    still_open: dict[str, _Table] = {}
    written: dict[str, TableEntry] = {}
    batches = read_log(path, databases=databases, batch_rows=BATCH_ROWS, leftovers=leftovers, findings=findings, threads=threads)
    try:
        for channel, kind, found, last in batches:
            if channel not in still_open:
                file = f"{log}/{_slug(channel, files)}.parquet"
                still_open[channel] = _Table(log, channel, kind, file, out, found.schema, leftovers)
            still_open[channel].add(found)
            if last:
                # a log of a thousand groups would hold as many open files
                written[channel] = still_open.pop(channel).close()
            elif sum(table.bytes for table in still_open.values()) > PENDING_BYTES:
                max(still_open.values(), key=lambda table: table.bytes).flush()
        for channel in list(still_open):
            written[channel] = still_open.pop(channel).close()
    finally:
        for table in still_open.values():
            table.close()
    return {
        "tables": [written[channel] for channel in sorted(written)],
        "unsupported": [{"log": log, "channel": c, "reason": r} for c, r in sorted(leftovers.unsupported.items())],
        "undecoded_frames": [
            {"log": log, "bus": bus, "id": number, "reason": reason, "frames": frames}
            for (bus, number, reason), frames in sorted(leftovers.frames.items())
        ],
        "damage": list(findings.sentences),
        "channels": _recovered(findings, leftovers, written, decoded=bool(databases)),
    }


def _recovered(
    findings: Findings, leftovers: Leftovers, written: Mapping[str, TableEntry], *, decoded: bool
) -> list[ChannelRecovery]:
    """What was read of each channel.

    One that no table can hold, or whose frames became tables of their own, counts as read but for what is told to be lost.
    """
    rows = {channel: entry["rows"] for channel, entry in written.items()}
    for channel, promised in findings.expected.items():
        if channel in leftovers.unsupported or decoded:
            rows.setdefault(channel, max(0, promised - findings.lost.get(channel, 0)))
    return [
        {"channel": r.channel, "expected": r.expected, "recovered": r.recovered, "lost": r.lost, "why": list(r.why)}
        for r in recoveries(findings, rows)
    ]


def _is_bare(kind: pa.DataType) -> bool:
    """Whether a struct without members stands anywhere in a type."""
    inner = [kind.field(place).type for place in range(kind.num_fields)]
    return (pa.types.is_struct(kind) and not inner) or any(_is_bare(part) for part in inner)


def _slug(channel: str, taken: set[str]) -> str:
    """A file name for a channel: letters, digits, ``. _ -``; with a digest where two would meet or nothing is left.

    File names are kept apart without regard to case, so that the folder survives a file system that ignores it.
    """
    slug = re.sub(r"[^A-Za-z0-9._-]+", "_", channel).strip("._")[:SLUG_CHARACTERS_MAX]
    if not slug or slug.lower() in taken:
        slug = f"{slug or 'channel'}-{hashlib.sha256(channel.encode()).hexdigest()[:8]}"
    taken.add(slug.lower())
    return slug


class _Table:
    """One Parquet file while it is written; opened with its first row group."""

    def __init__(self, log: str, channel: str, kind: str, table: str, out: Path, schema: pa.Schema, leftovers: Leftovers) -> None:
        self.bytes = 0
        self._rows = 0
        self._pending: list[pa.RecordBatch] = []
        self._bare = [field.name for field in schema if _is_bare(field.type)]
        for name in self._bare:
            leftovers.unsupported[f"{channel}.{name}"] = "Its values hold no members, which Parquet cannot store."
        self._schema = pa.schema([field for field in schema if field.name not in self._bare])
        self._file = out / table
        self._writer: pq.ParquetWriter | None = None
        self._entry: TableEntry = {
            "log": log,
            "channel": channel,
            "table": table,
            "type": kind,
            "rows": 0,
            "first_ns": None,
            "last_ns": None,
            "columns": [_describe(field) for field in self._schema],
        }

    def add(self, batch: pa.RecordBatch) -> None:
        """Take rows; whole row groups are written."""
        if not len(batch):
            return
        if self._bare:
            batch = batch.drop_columns(self._bare)
        self._pending.append(batch)
        self._rows += len(batch)
        self.bytes += batch.nbytes
        stamps = values_of(batch.column("t_ns"))
        first, last, entry = int(stamps.min()), int(stamps.max()), self._entry
        entry["rows"] += len(batch)
        entry["first_ns"] = first if entry["first_ns"] is None else min(entry["first_ns"], first)
        entry["last_ns"] = last if entry["last_ns"] is None else max(entry["last_ns"], last)
        if self._rows >= GROUP_ROWS or self.bytes >= GROUP_BYTES:
            self.flush()

    def flush(self) -> None:
        """Write what waits as one row group."""
        if self._pending:
            table = pa.Table.from_batches(self._pending, self._schema)
            self._opened().write_table(table, row_group_size=self._rows)
            self._pending.clear()
            self._rows = self.bytes = 0

    def close(self) -> TableEntry:
        """Finish the file; its entry in the index."""
        self.flush()
        self._opened().close()
        return self._entry

    def _opened(self) -> pq.ParquetWriter:
        if self._writer is None:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            paths = dict(_leaf(field) for field in self._schema)
            # lists keep Arrow's name for their items, so that the types read are the types in the index
            self._writer = pq.ParquetWriter(
                self._file,
                self._schema,
                compression="lz4",
                use_dictionary=[path for path, kind in paths.items() if pa.types.is_string(kind)],  # type: ignore[arg-type]  # the stubs know only a bool
                column_encoding={path: how for path, kind in paths.items() if (how := _encoding(kind))},
                version="2.6",
                data_page_version="1.0",
                write_batch_size=WRITE_ROWS,
                use_compliant_nested_type=False,
            )
        return self._writer


def _leaf(field: pa.Field[pa.DataType]) -> tuple[str, pa.DataType]:
    """Path and type of the values of a column."""
    path, kind = field.name, field.type
    while pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        path, kind = f"{path}.list.{kind.value_field.name}", kind.value_type
    return path, kind


def _encoding(kind: pa.DataType) -> str:
    """How Parquet stores the values of a type; empty where it may choose."""
    if pa.types.is_integer(kind):
        return "DELTA_BINARY_PACKED"
    return "BYTE_STREAM_SPLIT" if pa.types.is_float32(kind) or pa.types.is_float64(kind) else ""


def _describe(field: pa.Field[pa.DataType]) -> ColumnEntry:
    metadata = field.metadata or {}
    return {
        "name": field.name,
        "dtype": str(field.type),
        "unit": metadata.get(b"unit", b"").decode(),
        "source_unit": metadata.get(b"source_unit", b"").decode(),
    }
