"""Sources: where a declared sensor's samples stand among the signals, and reading them. Belongs here: the index of a
signals folder, the search of a channel in it, the checks on a column, the samples as arrays.

Never here: clocks, matching, or touching the payload bytes that a pointer names.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from pydantic import BaseModel, ValidationError

from drivelake.declaration import Sensor, matches
from drivelake.errors import InputError, MissingChannel
from drivelake.frames.clocks import STAMP_LIMIT_NS

__all__ = [
    "Absent",
    "Column",
    "Samples",
    "SignalIndex",
    "Source",
    "SourceColumn",
    "Table",
    "locate",
    "read_index",
    "read_samples",
]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

STAMPS: dict[Literal["receive", "publish", "sensor"], str] = {"receive": "t_ns", "publish": "publish_ns", "sensor": "sensor_ns"}
POINTERS = ("payload_chunk", "payload_offset", "payload_bytes")
# small enough that a batch is still in the cache when it is copied into place
BATCH_ROWS = 1 << 14
# shorter quaternions have no direction that rounding leaves alone
ATTITUDE_LENGTH_MIN = 1e-6


class Column(BaseModel):
    """A column of a signals table."""

    name: str
    unit: str | None = None


class Table(BaseModel):
    """A Parquet table of the signals: one topic or channel group of one log."""

    log: str
    channel: str
    table: str
    columns: tuple[Column, ...] = ()

    @property
    def values(self) -> list[str]:
        """Names of the columns that are not stamps."""
        return [c.name for c in self.columns if c.name not in STAMPS.values()]


class Quarantined(BaseModel):
    """A log that gave no signals, and why."""

    log: str
    reason: str


class SignalIndex(BaseModel):
    """``index.json`` of a signals folder, as far as synchronisation reads it."""

    tables: tuple[Table, ...]
    quarantined: tuple[Quarantined, ...] = ()
    silent: tuple[str, ...] = ()


@dataclass(frozen=True)
class SourceColumn:
    """One table to read, and its value columns: one, the four of an attitude, none of a payload."""

    table: Table
    columns: tuple[str, ...]
    unit: str

    @property
    def column(self) -> str:
        """The columns as one word."""
        return ", ".join(self.columns)


@dataclass(frozen=True)
class Source:
    """Where a sensor's samples stand: one table a log, in order of the logs' names, numbers in them by their value."""

    columns: tuple[SourceColumn, ...]
    quarantined: tuple[str, ...]


@dataclass(frozen=True)
class Absent:
    """A sensor that this drive has no source for."""

    reason: str
    quarantined: tuple[str, ...] = ()


@dataclass(frozen=True)
class Samples:
    """Samples of one sensor as written, without the rows that are none.

    Attributes:
        t_ns: (N,) int64, native stamps.
        values: (N,) float64, finite; of an attitude (N, 4) float64, unit quaternions x, y, z, w; of a payload (N, 4) int64:
            row in ``logs``, chunk, offset, bytes.
        logs: names of the logs that the samples came from.
        ends: for each column of the source, the number of samples when it was read: they lie one after the other.
        rows: rows read.
        without_stamp: rows dropped for their stamp.
        invalid: rows dropped for their value.
        backward_stamps: samples whose stamp is earlier than that of the sample before.
    """

    t_ns: IntArray
    values: FloatArray | IntArray
    logs: tuple[str, ...]
    ends: tuple[int, ...]
    rows: int
    without_stamp: int
    invalid: int
    backward_stamps: int

    def taken(self, rows: IntArray) -> Samples:
        """The samples at ``rows``, in that order; the counts stay those of the reading."""
        return replace(self, t_ns=self.t_ns[rows], values=self.values[rows])


def read_index(signals: Path) -> SignalIndex:
    """Read ``index.json``.

    Raises:
        InputError: there is none, or it is not the index of a signals folder.
    """
    path = signals / "index.json"
    try:
        return SignalIndex.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"There is no index.json in {signals}.", next_step="materialize signals for this drive") from None
    except ValidationError as error:
        first = error.errors()[0]
        raise InputError(
            f"{path} is not an index of signals: {'.'.join(map(str, first['loc']))}: {first['msg']}.",
            next_step="materialize signals for this drive again",
        ) from None


def locate(index: SignalIndex, name: str, sensor: Sensor) -> Source | Absent:
    """Find a declared sensor in the logs that its glob matches; several matching logs are read one after the other.

    Returns:
        The source; or why there is none: no log matches, the log is quarantined, or (for a sensor that is not
        required) the log has no such channel.

    Raises:
        MissingChannel: a required sensor's log is there and sound, and has no such channel; names the nearest.
        InputError: two tables of one log fit.
    """
    logs = _fits({t.log for t in index.tables}, sensor.log)
    tables = [t for t in index.tables if t.log in logs]
    lost = _fits({q.log for q in index.quarantined}, sensor.log)
    quarantined = {q.log: q.reason for q in index.quarantined if q.log in lost}
    columns = []
    for log in sorted({t.log for t in tables}, key=_natural):
        fitting = [c for t in tables if t.log == log for c in _fitting(t, sensor)]
        if len(fitting) > 1:
            places = ", ".join(f"{c.table.channel}.{c.column}" if c.columns else c.table.channel for c in fitting)
            raise InputError(
                f"Sensor {name!r}: {sensor.channel!r} stands {len(fitting)} times in {log}: {places}.",
                next_step="declare one of them, as Group.channel",
            )
        columns.extend(fitting)
    if columns:
        return Source(tuple(columns), tuple(sorted(quarantined)))
    if quarantined:
        reasons = "; ".join(f"{log} is quarantined: {quarantined[log]}" for log in sorted(quarantined))
        return Absent(f"sensor {name!r}: {reasons}", tuple(sorted(quarantined)))
    quiet = _fits(index.silent, sensor.log)
    silent = [log for log in index.silent if log in quiet]
    if silent:
        return Absent(f"sensor {name!r}: {', '.join(silent)} is sound and holds no message")
    if not tables:
        known = sorted({t.log for t in index.tables} | {q.log for q in index.quarantined})
        return Absent(f"sensor {name!r}: no log with signals matches {sensor.log!r}; there are: {', '.join(known) or 'none'}")
    message = _not_in_log(name, sensor, tables)
    if sensor.required:
        raise MissingChannel(f"{message}.", next_step="correct the sensor in the declaration, or declare required: false")
    return Absent(message)


def _fits(names: Iterable[str], glob: str) -> set[str]:
    """The logs that are a sensor's; a plain name is compared as it is, since a rig of many sensors asks a thousand times."""
    if any(sign in glob for sign in "*?[/"):
        return {name for name in names if matches(name, glob)}
    return {name for name in names if name == glob or name.endswith(f"/{glob}")}


def _natural(name: str) -> tuple[tuple[int, str], ...]:
    """A key that puts camera_2 before camera_10, as recorders count their files."""
    parts = re.split(r"([0-9]+)", name)
    return (*((int(part), "") if at % 2 else (0, part) for at, part in enumerate(parts)), (0, name))


def _fitting(table: Table, sensor: Sensor) -> list[SourceColumn]:
    """The columns of a table that a sensor's declaration names."""
    if sensor.kind == "payload":
        return [SourceColumn(table, (), "")] if table.channel == sensor.channel else []
    if sensor.fields is not None:
        whole = table.channel == sensor.channel and set(sensor.fields) <= set(table.values)
        return [SourceColumn(table, sensor.fields, "")] if whole else []
    units = {c.name: c.unit or "" for c in table.columns}
    if sensor.field is not None:
        names = [sensor.field] if table.channel == sensor.channel else []
    else:
        # an MDF4 channel by its name, or Message.Signal: either part may hold dots of its own
        names = [v for v in table.values if sensor.channel in (v, f"{table.channel}.{v}")]
    return [SourceColumn(table, (n,), units[n]) for n in names if n in table.values]


def _not_in_log(name: str, sensor: Sensor, tables: Sequence[Table]) -> str:
    """What was looked for, and the nearest that is there."""
    logs = ", ".join(sorted({t.log for t in tables}))
    topic = [t for t in tables if t.channel == sensor.channel]
    if sensor.fields is not None and topic:
        known = sorted({v for t in topic for v in t.values})
        absent = [field for field in sensor.fields if field not in known]
        return f"sensor {name!r}: {sensor.channel!r} in {logs} has no fields {', '.join(absent)}; {_nearest(absent[0], known)}"
    if sensor.kind == "value" and topic:
        fields = sorted({v for t in topic for v in t.values})
        if sensor.field is None:
            return f"sensor {name!r} names {sensor.channel!r} in {logs} without a field; {_nearest(sensor.channel, fields)}"
        return f"sensor {name!r}: {sensor.channel!r} in {logs} has no field {sensor.field!r}; {_nearest(sensor.field, fields)}"
    if sensor.kind != "value" or sensor.field is not None:
        known = sorted({t.channel for t in tables})
    else:
        known = sorted({v for t in tables for v in t.values} | {f"{t.channel}.{v}" for t in tables for v in t.values})
    return f"sensor {name!r}: {logs} has no channel {sensor.channel!r}; {_nearest(sensor.channel, known)}"


def _nearest(wrong: str, known: Iterable[str]) -> str:
    """A hint: the nearest known name whatever its case, or the first few."""
    names = {n.casefold(): n for n in sorted(known)}
    close = difflib.get_close_matches(wrong.casefold(), names, n=1, cutoff=0.4)
    if close:
        return f"the nearest there is {names[close[0]]!r}"
    return f"there are {len(names)}: {', '.join(sorted(names.values())[:8]) or 'none'}"


def read_samples(signals: Path, name: str, sensor: Sensor, source: Source) -> Samples:
    """Read a sensor's samples in batches into arrays of 16 bytes a value sample, 40 bytes a payload or attitude sample.

    Raises:
        InputError: a table is absent or unreadable, lacks the declared stamp, has a value column that is not numeric, or
            no payload pointers.
    """
    logs = tuple(dict.fromkeys(c.table.log for c in source.columns))
    read = [_read(signals, name, sensor, column, logs.index(column.table.log)) for column in source.columns]
    # one log is the rule, and then nothing is copied
    t_ns = read[0].t_ns if len(read) == 1 else np.concatenate([np.empty(0, dtype=np.int64), *(part.t_ns for part in read)])
    values = read[0].values if len(read) == 1 else np.concatenate([_room(sensor, 0), *(part.values for part in read)])
    return Samples(
        t_ns=t_ns,
        values=values,
        logs=logs,
        ends=tuple(accumulate(part.t_ns.size for part in read)),
        rows=sum(part.rows for part in read),
        without_stamp=sum(part.without_stamp for part in read),
        invalid=sum(part.invalid for part in read),
        backward_stamps=int(np.count_nonzero(t_ns[1:] < t_ns[:-1])),
    )


class _Part(NamedTuple):
    """What one table gave; fields as of :class:`Samples`."""

    t_ns: IntArray
    values: FloatArray | IntArray
    rows: int
    without_stamp: int
    invalid: int


def _read(signals: Path, name: str, sensor: Sensor, column: SourceColumn, log: int) -> _Part:
    """The samples of one table, read into arrays that are as long as the table."""
    kept = without_stamp = invalid = 0
    try:
        with pq.ParquetFile(signals / column.table.table, memory_map=True) as file:
            wanted = _checked_columns(name, sensor, column, file.schema_arrow)
            rows = file.metadata.num_rows
            stamps, values = np.empty(rows, dtype=np.int64), _room(sensor, rows)
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=wanted, use_threads=False):
                t_ns, stamped = _stamps(batch.column(wanted[0]), sensor)
                value, valid = _values(batch, wanted[1:], sensor, log)
                if stamped is not None or valid is not None:
                    stamped = np.ones(t_ns.size, dtype=bool) if stamped is None else stamped
                    valid = np.ones(t_ns.size, dtype=bool) if valid is None else valid
                    without_stamp += int(np.count_nonzero(~stamped))
                    invalid += int(np.count_nonzero(stamped & ~valid))
                    t_ns, value = t_ns[stamped & valid], value[stamped & valid]
                stamps[kept : kept + t_ns.size] = t_ns
                values[kept : kept + t_ns.size] = value
                kept += t_ns.size
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(
            f"{column.table.table} cannot be read: {error}.", next_step="materialize signals for this drive again"
        ) from None
    return _Part(stamps[:kept], values[:kept], rows, without_stamp, invalid)


def _room(sensor: Sensor, rows: int) -> FloatArray | IntArray:
    """An array for the values of so many rows."""
    if sensor.kind == "payload":
        return np.empty((rows, 4), dtype=np.int64)
    return np.empty((rows, 4)) if sensor.kind == "attitude" else np.empty(rows)


def _values(
    batch: pa.RecordBatch, columns: Sequence[str], sensor: Sensor, log: int
) -> tuple[FloatArray | IntArray, BoolArray | None]:
    """Values of a batch as in :class:`Samples`, and (N,) bool, whether each is one; None where all are."""
    if sensor.kind == "payload":
        return _pointers(batch, log)
    numbers = [_floats(batch.column(column)) for column in columns]
    if sensor.kind == "value":
        # a finite sum has finite terms, and costs less than to look at each
        with np.errstate(over="ignore", invalid="ignore"):
            whole = bool(np.isfinite(numbers[0].sum()))
        return numbers[0], None if whole else np.isfinite(numbers[0])
    attitude = np.stack(numbers, axis=1)
    with np.errstate(over="ignore"):
        length = np.linalg.norm(attitude, axis=1)
    valid = np.isfinite(length) & (length > ATTITUDE_LENGTH_MIN)
    attitude[valid] /= length[valid, None]
    return attitude, valid


def _floats(column: pa.Array[pa.Scalar[pa.DataType]]) -> FloatArray:
    """(N,) float64, NaN for null."""
    if not pa.types.is_float64(column.type):
        column = column.cast(pa.float64(), safe=False)
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.float64)


def _checked_columns(name: str, sensor: Sensor, column: SourceColumn, schema: pa.Schema) -> list[str]:
    """The columns to read, stamp first."""
    where = f"Sensor {name!r}: {column.table.channel!r} in {column.table.log}"
    stamp = STAMPS[sensor.stamp]
    if stamp not in schema.names:
        carried = [s for s, c in STAMPS.items() if c in schema.names]
        raise InputError(
            f"{where} carries no {sensor.stamp} stamp, only: {', '.join(carried)}.",
            next_step=f"declare stamp: {carried[0]}" if carried else "materialize signals for this drive again",
        )
    if sensor.kind == "payload":
        if not set(POINTERS) <= set(schema.names):
            raise InputError(
                f"{where} holds no payload (no columns {', '.join(POINTERS)}).", next_step="declare kind: value and a field"
            )
        return [stamp, *POINTERS]
    for wanted in column.columns:
        if wanted not in schema.names:
            raise InputError(
                f"{where}: the index lists column {wanted!r}, {column.table.table} has none.",
                next_step="materialize signals for this drive again",
            )
        kind = schema.field(wanted).type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise InputError(
                f"{where}: column {wanted!r} is {kind}, expected a number.", next_step="declare a numeric field or channel"
            )
    return [stamp, *column.columns]


def _stamps(column: pa.Array[pa.Int64Scalar], sensor: Sensor) -> tuple[IntArray, BoolArray | None]:
    """(N,) int64 stamps and (N,) bool, whether each is one; None where all are."""
    t_ns = _integers(column)
    # ROS leaves header.stamp zero where nobody set it
    first = 1 if sensor.stamp == "sensor" else 0
    if t_ns.size and int(t_ns.min()) >= first and int(t_ns.max()) < STAMP_LIMIT_NS:
        return t_ns, None
    return t_ns, (t_ns >= first) & (t_ns < STAMP_LIMIT_NS)


def _pointers(batch: pa.RecordBatch, log: int) -> tuple[IntArray, BoolArray]:
    """(N, 4) int64 log, chunk, offset, bytes; and (N,) bool, whether none of them is null."""
    value = np.full((batch.num_rows, 4), log, dtype=np.int64)
    valid = np.ones(batch.num_rows, dtype=bool)
    for at, pointer in enumerate(POINTERS, start=1):
        column = batch.column(pointer)
        value[:, at] = _integers(column)
        valid &= column.is_valid().to_numpy(zero_copy_only=False)
    return value, valid


def _integers(column: pa.Array[pa.Int64Scalar]) -> IntArray:
    """(N,) int64, -1 for null; a float on the way would round stamps."""
    whole = column.fill_null(-1) if column.null_count else column
    return np.asarray(whole.to_numpy(zero_copy_only=False), dtype=np.int64)
