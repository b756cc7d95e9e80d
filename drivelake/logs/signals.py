"""The signals folder of a drive: its logs as Parquet tables, and their index.

Belongs here: names of the tables, writing them, ``index.json``. Never here: formats of logs, which logs are good enough.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict

import pyarrow as pa
import pyarrow.parquet as pq

from drivelake.errors import LogDamaged, UnsupportedLog
from drivelake.logs.opening import read_log
from drivelake.logs.report import Leftovers

__all__ = ["ColumnEntry", "SignalsIndex", "TableEntry", "write_signals"]

INDEX = "index.json"
SLUG_CHARACTERS_MAX = 80
BATCH_ROWS = 8192


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


class QuarantinedEntry(TypedDict):
    """A log that gave no table."""

    log: str
    reason: str


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


class SignalsIndex(TypedDict):
    """``index.json``."""

    tables: list[TableEntry]
    quarantined: list[QuarantinedEntry]
    unsupported: list[UnsupportedEntry]
    undecoded_frames: list[FramesEntry]
    silent: list[str]  # sound logs that hold no channel at all


def write_signals(
    logs: Mapping[str, Path], out: Path, *, databases: Sequence[Path] = (), quarantined: Mapping[str, str]
) -> SignalsIndex:
    """Write one Parquet table a channel, and ``index.json``; the same logs give the same bytes.

    A log that turns out damaged while it is read leaves no table: it joins the quarantined ones, with the reason.

    Args:
        logs: path of each log, by its name inside the drive.
        out: the folder to write; made if it is not there.
        databases: CAN databases (DBC) of the drive.
        quarantined: reason by name of the logs that are not to be read.

    Returns:
        What ``index.json`` holds.

    Raises:
        InputError: a database that cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    tables: list[TableEntry] = []
    reasons = dict(quarantined)
    unsupported: list[UnsupportedEntry] = []
    undecoded: list[FramesEntry] = []
    silent: list[str] = []
    for log, path in sorted(logs.items()):
        if log in reasons:
            continue
        leftovers = Leftovers()
        try:
            written = _write_log(log, path, out, databases, leftovers)
        except (LogDamaged, UnsupportedLog) as error:
            if (out / log).exists():
                shutil.rmtree(out / log)
            reasons[log] = error.message
            continue
        tables.extend(written)
        if not written and not leftovers.unsupported and not leftovers.frames:
            silent.append(log)
        unsupported.extend({"log": log, "channel": c, "reason": r} for c, r in sorted(leftovers.unsupported.items()))
        undecoded.extend(
            {"log": log, "bus": bus, "id": number, "reason": reason, "frames": frames}
            for (bus, number, reason), frames in sorted(leftovers.frames.items())
        )
    index: SignalsIndex = {
        "tables": tables,
        "quarantined": [{"log": log, "reason": reason} for log, reason in sorted(reasons.items())],
        "unsupported": unsupported,
        "undecoded_frames": undecoded,
        "silent": silent,
    }
    (out / INDEX).write_text(json.dumps(index, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    return index


def _write_log(log: str, path: Path, out: Path, databases: Sequence[Path], leftovers: Leftovers) -> list[TableEntry]:
    """The tables of one log; their entries in the index, in the order of their channels."""
    open_tables: dict[str, _Table] = {}
    written: dict[str, TableEntry] = {}
    files: set[str] = set()
    try:
        for channel, kind, batch, last in read_log(path, databases=databases, batch_rows=BATCH_ROWS, leftovers=leftovers):
            if channel not in open_tables:
                open_tables[channel] = _Table(log, channel, kind, f"{log}/{_slug(channel, files)}.parquet", out, batch.schema)
            open_tables[channel].write(batch)
            if last:
                # a log of a thousand groups would hold as many open files
                written[channel] = open_tables.pop(channel).close()
    finally:
        for channel, table in open_tables.items():
            written[channel] = table.close()
    return [written[channel] for channel in sorted(written)]


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
    """One Parquet file while it is written: one row group a batch."""

    def __init__(self, log: str, channel: str, kind: str, table: str, out: Path, schema: pa.Schema) -> None:
        self._entry: TableEntry = {
            "log": log,
            "channel": channel,
            "table": table,
            "type": kind,
            "rows": 0,
            "first_ns": None,
            "last_ns": None,
            "columns": [_describe(field) for field in schema],
        }
        file = out / table
        file.parent.mkdir(parents=True, exist_ok=True)
        # lists keep Arrow's name for their items, so that the types read are the types in the index
        self._writer = pq.ParquetWriter(
            file, schema, compression="zstd", version="2.6", data_page_version="1.0", use_compliant_nested_type=False
        )

    def write(self, batch: pa.RecordBatch) -> None:
        if not len(batch):
            return
        self._writer.write_batch(batch)
        stamps = batch.column("t_ns").to_numpy()
        first, last, entry = int(stamps.min()), int(stamps.max()), self._entry
        entry["rows"] += len(batch)
        entry["first_ns"] = first if entry["first_ns"] is None else min(entry["first_ns"], first)
        entry["last_ns"] = last if entry["last_ns"] is None else max(entry["last_ns"], last)

    def close(self) -> TableEntry:
        """Finish the file; its entry in the index."""
        self._writer.close()
        return self._entry


def _describe(field: pa.Field[pa.DataType]) -> ColumnEntry:
    metadata = field.metadata or {}
    return {
        "name": field.name,
        "dtype": str(field.type),
        "unit": metadata.get(b"unit", b"").decode(),
        "source_unit": metadata.get(b"source_unit", b"").decode(),
    }
