"""Columns of the frames. Belongs here: their names, types and units; a sensor's columns at some ticks.

Never here: the rules (matching, interpolation, aggregates), counting, files.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.errors import DeclarationError
from drivelake.frames.aggregates import Aggregate, aggregate
from drivelake.frames.interpolation import circular, linear, slerp
from drivelake.frames.matching import REASONS, Match, Selects, match
from drivelake.frames.ordered import Ordered
from drivelake.frames.poses import ego_schema
from drivelake.frames.report import Quality
from drivelake.logs.arrow import buffer_of
from drivelake.rig import Rig, Sensor

__all__ = ["AGGREGATES", "Filled", "fill", "frames_schema", "quality_batch", "sensor_schema", "tick_batch", "tick_schema"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

AGGREGATES = ("mean", "min", "max", "last")
SELECTS: dict[str, Selects] = {
    "nearest": "nearest",
    "previous": "previous",
    "next": "next",
    "linear": "between",
    "circular": "between",
    "slerp": "between",
}
REASON = pa.dictionary(pa.int8(), pa.string())
QUALITY = ("sync_residual_ms_p99", "sync_sigma_ms_max", "sync_matched_share")
NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class Filled:
    """A sensor's columns at some ticks, and what was matched.

    Attributes:
        batch: the columns.
        match: its rows count from ``first``.
        first: among all samples.
        taken: samples that went into aggregates; None for the other rules.
    """

    batch: pa.RecordBatch
    match: Match
    first: int
    taken: int | None


def frames_schema(rig: Rig) -> pa.Schema:
    """The fields of ``frames.parquet``: the tick, the sensors in the order of the declaration, ego motion, quality.

    Raises:
        DeclarationError: two of them share a name, or a sensor that cannot stand still is asked to be checked for it.
    """
    for name, sensor in rig.sensors.items():
        if sensor.kind == "payload" and sensor.stale_ms is not None:
            raise DeclarationError(
                f"Sensor {name!r} declares stale_ms, but a payload's value is not looked at.",
                next_step="remove it; the tolerance bounds a payload's age",
            )
    schemas = [tick_schema(), *(sensor_schema(name, sensor) for name, sensor in rig.sensors.items())]
    if rig.poses is not None:
        schemas.append(ego_schema(rig.poses))
    schemas.append(_quality_schema())
    names = [name for schema in schemas for name in schema.names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DeclarationError(f"Two sensors of the rig share the columns {', '.join(twice)}.", next_step="rename one of them")
    return pa.unify_schemas(schemas)


def tick_schema() -> pa.Schema:
    """Number and time of the frame."""
    return pa.schema([pa.field("frame", pa.int64(), nullable=False), pa.field("t_ns", pa.int64(), nullable=False)])


def tick_batch(ticks_ns: IntArray, rows: slice) -> pa.RecordBatch:
    """The columns of :func:`tick_schema` for some ticks."""
    frames = np.arange(rows.start, rows.stop, dtype=np.int64)
    return pa.record_batch([pa.array(frames), pa.array(ticks_ns[rows])], schema=tick_schema())


def sensor_schema(name: str, sensor: Sensor) -> pa.Schema:
    """The fields of one sensor; values carry the declared unit."""
    fields: list[pa.Field[pa.DataType]]
    if sensor.kind == "payload":
        fields = [pa.field(f"{name}_log", pa.string())]
        fields += [pa.field(f"{name}_{part}", pa.int64()) for part in ("chunk", "offset", "bytes")]
    elif sensor.kind == "attitude":
        fields = [pa.field(f"{name}_{part}", pa.float64()) for part in "xyzw"]
    else:
        fields = [pa.field(name, pa.float64(), metadata={"unit": sensor.unit})]
    fields += [
        pa.field(f"{name}_native_ns", pa.int64()),
        pa.field(f"{name}_age_ns", pa.int64()),
        pa.field(f"{name}_reason", REASON),
    ]
    if sensor.rule in AGGREGATES:
        fields.append(pa.field(f"{name}_count", pa.int32()))
    return pa.schema(fields)


def _quality_schema() -> pa.Schema:
    return pa.schema([pa.field(name, pa.float64()) for name in QUALITY])


def quality_batch(quality: Quality, rows: int) -> pa.RecordBatch:
    """The columns that are the same in every frame of a drive."""
    values = (quality.residual_ms_p99, quality.sigma_ms_max, quality.matched_share)
    constants = [pa.nulls(rows, pa.float64()) if v is None else pa.array(np.full(rows, v)) for v in values]
    return pa.record_batch(constants, schema=_quality_schema())


def fill(name: str, sensor: Sensor, ticks_ns: IntArray, since_ns: IntArray, ordered: Ordered) -> Filled:
    """A sensor's columns at some ticks.

    Args:
        name: of the sensor.
        sensor: its declaration.
        ticks_ns: (T,) int64, strictly increasing, at least one.
        since_ns: (T,) int64, the tick before each.
        ordered: all samples of the sensor.
    """
    near = _near(ordered.t_ns, int(since_ns[0]), int(ticks_ns[0]), int(ticks_ns[-1]))
    times_ns, values = ordered.t_ns[near], ordered.samples.values[near]
    stale = None if ordered.stale is None else ordered.stale[near]
    tolerance_ns = round(sensor.tolerance_ms * NS_PER_MS)
    max_gap_ns = None if sensor.max_gap_ms is None else round(sensor.max_gap_ms * NS_PER_MS)
    counts = None
    parts: list[FloatArray | IntArray]
    if sensor.rule in AGGREGATES:
        rule = cast("Aggregate", sensor.rule)
        made = aggregate(
            ticks_ns,
            since_ns,
            times_ns,
            values.astype(np.float64, copy=False),
            rule,
            tolerance_ns,
            max_gap_ns=max_gap_ns,
            stale=stale,
        )
        found, parts, counts = made.match, [made.values], made.counts
    else:
        found = match(
            ticks_ns, times_ns, SELECTS[sensor.rule], tolerance_ns,
            max_gap_ns=max_gap_ns, stale=stale, since_ns=since_ns if sensor.interval_exact else None,
        )  # fmt: skip
        parts = _taken(sensor, ticks_ns, times_ns, values, found)
    natives = ordered.samples.t_ns[near]
    native_ns = natives[found.index] if natives.size else np.zeros_like(ticks_ns)
    valid = _Valid(found)
    columns: list[pa.Array[pa.Scalar[pa.DataType]]] = []
    if sensor.kind == "payload":
        logs = pa.array(ordered.samples.logs, type=pa.string())
        which = cast("pa.Int64Array", valid.array(parts[0], pa.int64()))
        columns.append(logs.take(which) if len(logs) else pa.nulls(ticks_ns.size, pa.string()))
        parts = parts[1:]
    columns += [valid.array(part, pa.int64() if sensor.kind == "payload" else pa.float64()) for part in parts]
    columns += [valid.array(native_ns, pa.int64()), valid.array(found.age_ns, pa.int64()), _reasons(found)]
    if counts is not None:
        columns.append(valid.array(counts, pa.int32()))
    batch = pa.record_batch(columns, schema=sensor_schema(name, sensor))
    return Filled(batch, found, near.start, None if counts is None else int(counts.sum()))


def _near(times_ns: IntArray, since_ns: int, first_ns: int, last_ns: int) -> slice:
    """The samples that ticks between two times can hold, with one more on each side."""
    start = int(np.searchsorted(times_ns, min(since_ns, first_ns), side="left"))
    end = int(np.searchsorted(times_ns, last_ns, side="right"))
    return slice(max(start - 1, 0), min(end + 1, times_ns.size))


def _taken(
    sensor: Sensor, ticks_ns: IntArray, times_ns: IntArray, values: FloatArray | IntArray, found: Match
) -> list[FloatArray | IntArray]:
    """The columns of values: of the sample itself, or between two."""
    if times_ns.size == 0:
        return [np.zeros(ticks_ns.size)] if values.ndim == 1 else list(np.zeros((4, ticks_ns.size), dtype=values.dtype))
    if sensor.rule == "linear":
        return [linear(ticks_ns, times_ns, values.astype(np.float64, copy=False), found)]
    if sensor.rule == "circular":
        return [circular(ticks_ns, times_ns, values.astype(np.float64, copy=False), found, sensor.unit)]
    if sensor.rule == "slerp":
        return list(np.ascontiguousarray(slerp(ticks_ns, times_ns, values.astype(np.float64, copy=False), found).T))
    held = values[found.index]
    return [held] if held.ndim == 1 else list(np.ascontiguousarray(held.T))


class _Valid:
    """Which ticks hold a sample, as Arrow's bitmap: made once for all columns of the sensor."""

    def __init__(self, found: Match) -> None:
        self._nulls = 0 if found.every else int(found.found.size - np.count_nonzero(found.found))
        self._bitmap = None if found.every else buffer_of(np.packbits(found.found, bitorder="little"))

    def array(self, values: NDArray[np.generic], kind: pa.DataType) -> pa.Array[pa.Scalar[pa.DataType]]:
        """The values, null where no sample is held."""
        buffers = [self._bitmap, buffer_of(np.ascontiguousarray(values))]
        return pa.Array.from_buffers(kind, values.size, buffers, self._nulls)


def _reasons(found: Match) -> pa.Array[pa.Scalar[pa.DataType]]:
    """Why there is no sample; null where there is one."""
    # one dictionary in every batch, even where no reason is given: files of batches take no other
    if found.every:
        return pa.DictionaryArray.from_arrays(pa.nulls(found.reason.size, pa.int8()), pa.array(REASONS))
    there = found.found
    missing: list[pa.Buffer | None] = [buffer_of(np.packbits(~there, bitorder="little")), buffer_of(found.reason)]
    codes = pa.Int8Array.from_buffers(pa.int8(), there.size, missing, int(np.count_nonzero(there)))
    return pa.DictionaryArray.from_arrays(codes, pa.array(REASONS))
