"""Samples of a sensor in order of aligned time. Belongs here: reading its tables, its clock, the order, the span.

Never here: payload bytes, what a viewer shows, matching to ticks.

Memory: one sensor at a time (about 70 bytes a value sample, 300 a payload sample while they are put in order). Ordered samples
wait in files and are read back batch by batch, so that any number of sensors can be merged.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from drivelake.errors import InputError
from drivelake.frames.clocks import STAMP_LIMIT_NS, ClockModel
from drivelake.frames.sources import Source, SourceColumn
from drivelake.rig import Sensor

__all__ = ["POINTERS", "Span", "Track", "order_track"]

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]

STAMPS: dict[Literal["receive", "publish", "sensor"], str] = {"receive": "t_ns", "publish": "publish_ns", "sensor": "sensor_ns"}
POINTERS = ("payload_chunk", "payload_offset", "payload_bytes")
# what tables say of a payload beside its pointer, as far as it is needed to show it
DESCRIPTION = ("frame_id", "format", "width", "height", "step", "is_bigendian", "fields", "point_step", "row_step")
AGAIN = "materialize signals for this drive again"
BATCH_ROWS = 1 << 16
ORDERED_ROWS = 1 << 12
VALUE, ATTITUDE = ("value",), ("x", "y", "z", "w")
_EMPTY = pa.table({"native_ns": pa.array([], pa.int64())})


class Span(NamedTuple):
    """Aligned times that are shown: from ``first_ns`` to before ``end_ns``."""

    first_ns: int
    end_ns: int

    def holds(self, t_ns: IntArray) -> BoolArray:
        """(N,) bool of (N,) int64."""
        inside: BoolArray = (t_ns >= self.first_ns) & (t_ns < self.end_ns)
        return inside


@dataclass(frozen=True)
class Track:
    """The ordered samples of one sensor inside the span.

    Attributes:
        path: Arrow file: ``aligned_ns``, ``native_ns`` and the sensor's columns; of payloads also ``log``.
        columns: of a value its one column, ``value``; of an attitude ``x``, ``y``, ``z``, ``w``; of a payload its pointers.
        samples: how many it holds.
        outside: samples outside of the span.
        without_stamp: rows without a usable stamp.
        invalid: rows whose value is null, NaN or infinite.
    """

    path: Path
    columns: tuple[str, ...]
    samples: int
    outside: int
    without_stamp: int
    invalid: int

    def rows(self) -> Iterator[dict[str, object]]:
        """Row by row; one batch is held. The file is not mapped, since pages that are mapped count as memory in use."""
        with pa.OSFile(str(self.path), "rb") as opened, pa.ipc.open_file(opened) as file:
            for number in range(file.num_record_batches):
                yield from file.get_batch(number).to_pylist()


def order_track(signals: Path, sensor: Sensor, source: Source, clock: ClockModel, span: Span, path: Path) -> Track:
    """Put a sensor's samples in order of aligned time, those of one stamp in the order in which they were written.

    Args:
        signals: folder of the signals.
        sensor: its declaration.
        source: its tables.
        clock: maps its stamps, which it is given in the order in which they were written.
        span: what is kept.
        path: the file to write.

    Raises:
        InputError: a table is absent or unreadable, or has not the columns that the declaration asks for.
    """
    pieces, rows, without_stamp = list[pa.Table](), 0, 0
    for column in source.columns:
        for batch, stamped, whole in _batches(signals, sensor, column):
            rows += len(stamped)
            without_stamp += int(np.count_nonzero(~stamped))
            pieces.append(batch.take(np.flatnonzero(stamped & whole)))
    table = pa.concat_tables(pieces or [_EMPTY], promote_options="permissive")
    del pieces
    native_ns = table.column("native_ns").to_numpy()
    aligned_ns = clock.to_reference(native_ns)
    inside = np.flatnonzero(span.holds(aligned_ns))
    order = inside[np.argsort(aligned_ns[inside], kind="stable")]
    ordered = table.take(order).add_column(0, "aligned_ns", pa.array(aligned_ns[order]))
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, ordered.schema) as writer:
        writer.write_table(ordered.combine_chunks(), max_chunksize=ORDERED_ROWS)
    return Track(
        path=path,
        columns=_names(sensor),
        samples=order.size,
        outside=native_ns.size - order.size,
        without_stamp=without_stamp,
        invalid=rows - without_stamp - native_ns.size,
    )


def _names(sensor: Sensor) -> tuple[str, ...]:
    """What the columns of a sample are called, whatever they are called in its tables."""
    return {"payload": POINTERS, "attitude": ATTITUDE, "value": VALUE}[sensor.kind]


def _batches(signals: Path, sensor: Sensor, column: SourceColumn) -> Iterator[tuple[pa.Table, BoolArray, BoolArray]]:
    """Rows as ``native_ns`` and the sample's columns; which have a stamp, (N,) bool; which a whole sample, (N,) bool."""
    stamp, names = STAMPS[sensor.stamp], _names(sensor)
    wanted = column.columns or POINTERS
    try:
        with pq.ParquetFile(signals / column.table.table) as file:
            there = set(file.schema_arrow.names)
            if missing := sorted({stamp, *wanted} - there):
                raise InputError(f"{column.table.table} has no column {', '.join(missing)}.", next_step=AGAIN)
            described = [name for name in DESCRIPTION if name in there] if sensor.kind == "payload" else []
            for batch in file.iter_batches(batch_size=BATCH_ROWS, columns=[stamp, *wanted, *described]):
                whole = _whole(batch, wanted)
                columns = {"native_ns": batch.column(stamp)}
                # numbers of one sensor may have another type in each log
                kind = pa.int64() if sensor.kind == "payload" else pa.float64()
                columns |= {name: batch.column(source).cast(kind, safe=False) for name, source in zip(names, wanted, strict=True)}
                columns |= {name: batch.column(name) for name in described}
                if sensor.kind == "payload":
                    columns["log"] = pa.array([column.table.log] * batch.num_rows, pa.string())
                yield pa.table(columns), _stamped(batch.column(stamp), sensor), whole
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"{column.table.table} cannot be read: {error}.", next_step=AGAIN) from None


def _stamped(column: pa.Array[pa.Int64Scalar], sensor: Sensor) -> BoolArray:
    """(N,) bool: rows with a stamp; ROS leaves the sensor's own at zero where nobody set it."""
    t_ns = np.asarray(column.fill_null(-1).to_numpy(zero_copy_only=False), dtype=np.int64)
    stamped: BoolArray = (t_ns >= (1 if sensor.stamp == "sensor" else 0)) & (t_ns < STAMP_LIMIT_NS)
    return stamped


def _whole(batch: pa.RecordBatch, names: tuple[str, ...]) -> BoolArray:
    """(N,) bool: rows whose columns are all there, and finite."""
    valid = np.ones(batch.num_rows, dtype=bool)
    for name in names:
        column = batch.column(name)
        kind = column.type
        if not (pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)):
            raise InputError(f"Column {name!r} is {kind}, expected a number.", next_step="declare a numeric field or channel")
        valid &= column.is_valid().to_numpy(zero_copy_only=False)
        if pa.types.is_floating(kind):
            valid &= np.isfinite(column.fill_null(0).to_numpy(zero_copy_only=False))
    return valid
