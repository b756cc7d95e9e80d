"""Synchronisation: a drive's signals become frames. Belongs here: the order of the steps, what leaves a drive out, the
columns of ``frames.parquet``.

Never here: how a channel is found (sources), how a clock is modelled (clocks, alignment), how a sample is chosen (matching).

Memory: the ticks (8 bytes each), and of one sensor at a time its samples (16 bytes a value sample, 40 bytes a payload
sample, about three times that while they are sorted) and its matches (about 60 bytes a tick). An alignment holds two
value sensors and their 100 Hz rasters. Finished columns wait in files beside the result and are joined by row group.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from drivelake.declaration import Alignment, Rig, Sensor
from drivelake.errors import DeclarationError
from drivelake.frames.alignment import estimate_clock, not_observable
from drivelake.frames.clocks import ClockModel, declared_clock
from drivelake.frames.matching import Match, age_percentiles, interpolate, match, order_samples
from drivelake.frames.report import ReferenceReport, SensorReport, SourceEntry, SyncReport
from drivelake.frames.sources import Absent, Samples, Source, locate, read_index, read_samples

__all__ = ["ROW_GROUP_ROWS", "synchronise"]

IntArray = NDArray[np.int64]

ROW_GROUP_ROWS = 1 << 16
NS_PER_MS = 1_000_000
SAME = ClockModel(method="same")

Found = Mapping[str, Source | Absent]


@dataclass(frozen=True)
class Ordered:
    """Samples in order of strictly increasing time on the reference clock, and how many were dropped for that."""

    t_ns: IntArray
    samples: Samples
    duplicated: int


def synchronise(signals: Path, rig: Rig, out: Path) -> SyncReport:
    """Line the sensors of one drive up on the samples of its reference sensor.

    Writes ``frames.parquet`` (one row a tick: ``frame``, ``t_ns``, and for every sensor its value or payload pointer and
    its age) and ``sync.json`` (the report). The same signals and rig give the same bytes.

    A drive without reference samples, or in which a required sensor's log is absent, quarantined or without a usable
    sample, gets an empty ``frames.parquet`` of the full schema and a report that names the reason in ``excluded``.

    Args:
        signals: folder with ``index.json`` and its tables.
        rig: the declared sensors and clocks.
        out: folder to write into; made when absent.

    Returns:
        The report as ``sync.json`` holds it.

    Raises:
        MissingChannel: a required sensor's log is sound and has no such channel; names the nearest.
        InputError: the signals are unreadable, or a column cannot be what is declared.
        DeclarationError: a clock that no model can hold, or two sensors that would share a column.
    """
    schema = _schema(rig)
    index = read_index(signals)
    found = {name: locate(index, name, sensor) for name, sensor in rig.sensors.items()}
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".columns-", dir=out) as scratch:
        report = _fill(signals, rig, found, Path(scratch))
        _join(Path(scratch), schema, len(rig.sensors), report.frames, out / "frames.parquet")
    report.write(out / "sync.json")
    return report


def _fill(signals: Path, rig: Rig, found: Found, scratch: Path) -> SyncReport:
    """Match one sensor after the other into ``scratch``; stops at the first reason to leave the drive out."""
    sensors = {name: _described(rig.sensors[name], found[name]) for name in rig.sensors}
    for name, source in found.items():
        if isinstance(source, Absent) and (rig.sensors[name].required or name == rig.reference):
            return _excluded(source.reason, ReferenceReport(sensor=rig.reference), {}, sensors)

    reference, ticks_ns = _ticks(signals, rig, found)
    if ticks_ns.size == 0:
        return _excluded(f"reference sensor {rig.reference!r} has no samples", reference, {}, sensors)
    _spill(scratch / "ticks", _tick_columns(ticks_ns))

    clocks = _clocks(signals, rig, found)
    for at, (name, sensor) in enumerate(rig.sensors.items()):
        ordered = _ordered(signals, name, sensor, found[name], clocks[sensor.clock])
        result = match(ticks_ns, ordered.t_ns, sensor.rule, round(sensor.tolerance_ms * NS_PER_MS))
        sensors[name] = _counted(sensors[name], ordered, result)
        if sensor.required and ordered.t_ns.size == 0:
            dropped = f"{sensors[name].without_stamp} without stamp, {sensors[name].invalid} without value"
            reason = f"sensor {name!r} has no samples ({sensors[name].rows} rows, {dropped})"
            return _excluded(reason, reference, clocks, sensors)
        _spill(scratch / f"sensor-{at}", _sensor_columns(name, sensor, ticks_ns, ordered, result))
    return SyncReport(frames=int(ticks_ns.size), reference=reference, clocks=clocks, sensors=sensors)


def _excluded(
    reason: str, reference: ReferenceReport, clocks: dict[str, ClockModel], sensors: dict[str, SensorReport]
) -> SyncReport:
    return SyncReport(excluded=reason, frames=0, reference=reference, clocks=clocks, sensors=sensors)


def _ordered(signals: Path, name: str, sensor: Sensor, source: Source | Absent, clock: ClockModel) -> Ordered:
    """Read a sensor and put its samples in order on the reference clock; an absent sensor has none."""
    columns = Source((), ()) if isinstance(source, Absent) else source
    samples = read_samples(signals, name, sensor, columns)
    t_ns = clock.to_reference(samples.t_ns)
    rows, duplicated = order_samples(t_ns)
    return Ordered(t_ns[rows], samples.taken(rows), duplicated)


def _ticks(signals: Path, rig: Rig, found: Found) -> tuple[ReferenceReport, IntArray]:
    """(T,) int64 strictly increasing stamps of the reference sensor."""
    ordered = _ordered(signals, rig.reference, rig.sensors[rig.reference], found[rig.reference], SAME)
    ticks_ns = ordered.t_ns
    return ReferenceReport(
        sensor=rig.reference,
        ticks=int(ticks_ns.size),
        first_ns=int(ticks_ns[0]) if ticks_ns.size else None,
        last_ns=int(ticks_ns[-1]) if ticks_ns.size else None,
        duplicated_stamps=ordered.duplicated,
        backward_stamps=ordered.samples.backward_stamps,
    ), ticks_ns


def _clocks(signals: Path, rig: Rig, found: Found) -> dict[str, ClockModel]:
    """The model of every declared clock, the reference first."""
    models = {"reference": declared_clock("reference", rig.clocks.get("reference"))}
    for name, clock in rig.clocks.items():
        if clock.align is not None and name != "reference":
            models[name] = _aligned(signals, rig, found, clock.align)
        else:
            models[name] = declared_clock(name, clock)
    return models


def _aligned(signals: Path, rig: Rig, found: Found, align: Alignment) -> ClockModel:
    """Estimate a clock from its two declared sensors."""
    for name in (align.own, align.reference):
        source = found[name]
        if isinstance(source, Absent):
            return not_observable(source.reason)
    own = _ordered(signals, align.own, rig.sensors[align.own], found[align.own], SAME)
    reference = _ordered(signals, align.reference, rig.sensors[align.reference], found[align.reference], SAME)
    return estimate_clock(
        own.t_ns, own.samples.values.astype(np.float64), reference.t_ns, reference.samples.values.astype(np.float64), align
    )


def _described(sensor: Sensor, source: Source | Absent) -> SensorReport:
    """The part of a sensor's report that is known before its samples are read."""
    described = SensorReport(
        kind=sensor.kind,
        rule=sensor.rule,
        stamp=sensor.stamp,
        clock=sensor.clock,
        tolerance_ms=sensor.tolerance_ms,
        unit=sensor.unit,
        quarantined_logs=source.quarantined,
    )
    if isinstance(source, Absent):
        return described.model_copy(update={"missing": source.reason})
    entries = tuple(SourceEntry(log=c.table.log, channel=c.table.channel, column=c.column) for c in source.columns)
    units = sorted({c.unit for c in source.columns if c.unit})
    return described.model_copy(update={"sources": entries, "unit_found": ", ".join(units)})


def _counted(described: SensorReport, ordered: Ordered, result: Match) -> SensorReport:
    """The report with what reading and matching gave."""
    samples = ordered.samples
    counts = {
        "rows": samples.rows,
        "without_stamp": samples.without_stamp,
        "invalid": samples.invalid,
        "duplicated_stamps": ordered.duplicated,
        "backward_stamps": samples.backward_stamps,
        "samples": result.samples,
        "matched": result.matched,
        "unmatched": result.unmatched,
        "reused": result.reused,
        "unused": result.unused,
        "age_ms": age_percentiles(result),
    }
    return described.model_copy(update=counts)


def _tick_columns(ticks_ns: IntArray) -> Iterator[pa.RecordBatch]:
    for rows in _groups(ticks_ns.size):
        frames = np.arange(rows.start, rows.stop, dtype=np.int64)
        yield pa.record_batch([pa.array(frames), pa.array(ticks_ns[rows])], schema=_tick_schema())


def _sensor_columns(name: str, sensor: Sensor, ticks_ns: IntArray, ordered: Ordered, result: Match) -> Iterator[pa.RecordBatch]:
    """The columns of one sensor, in batches of a row group."""
    schema = _sensor_schema(name, sensor)
    if sensor.kind == "payload":
        for rows in _groups(ticks_ns.size):
            yield _pointer_batch(ordered.samples, result.index[rows], result.age_ns[rows], schema)
        return
    values = interpolate(ticks_ns, ordered.t_ns, ordered.samples.values.astype(np.float64, copy=False), result)
    for rows in _groups(ticks_ns.size):
        absent = ~result.found[rows]
        yield pa.record_batch([pa.array(values[rows], mask=absent), pa.array(result.age_ns[rows], mask=absent)], schema=schema)


def _pointer_batch(samples: Samples, index: IntArray, age_ns: IntArray, schema: pa.Schema) -> pa.RecordBatch:
    """Log, chunk, offset, bytes and age of the sample at each index; null where the index is -1."""
    absent = index < 0
    pointers = np.full((index.size, 4), -1, dtype=np.int64)
    pointers[~absent] = samples.values[index[~absent]]
    logs = pa.array([None if at < 0 else samples.logs[at] for at in pointers[:, 0].tolist()], type=pa.string())
    numbers = [pa.array(column, mask=absent) for column in (*pointers.T[1:], age_ns)]
    return pa.record_batch([logs, *numbers], schema=schema)


def _groups(ticks: int) -> Iterator[slice]:
    return (slice(start, min(start + ROW_GROUP_ROWS, ticks)) for start in range(0, ticks, ROW_GROUP_ROWS))


def _tick_schema() -> pa.Schema:
    return pa.schema([pa.field("frame", pa.int64(), nullable=False), pa.field("t_ns", pa.int64(), nullable=False)])


def _schema(rig: Rig) -> pa.Schema:
    """The fields of ``frames.parquet``: the tick, then the sensors in the order of the declaration."""
    schemas = [_tick_schema(), *(_sensor_schema(name, sensor) for name, sensor in rig.sensors.items())]
    names = [name for schema in schemas for name in schema.names]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise DeclarationError(f"Two sensors of the rig share the columns {', '.join(twice)}.", next_step="rename one of them")
    return pa.unify_schemas(schemas)


def _sensor_schema(name: str, sensor: Sensor) -> pa.Schema:
    """The fields of one sensor; values carry the declared unit."""
    age = pa.field(f"{name}_age_ns", pa.int64())
    if sensor.kind == "payload":
        pointers = [pa.field(f"{name}_{part}", pa.int64()) for part in ("chunk", "offset", "bytes")]
        return pa.schema([*pointers, age]).insert(0, pa.field(f"{name}_log", pa.string()))
    return pa.schema([pa.field(name, pa.float64(), metadata={"unit": sensor.unit})]).append(age)


def _spill(path: Path, batches: Iterator[pa.RecordBatch]) -> None:
    """Keep finished columns in a file until all sensors are matched."""
    first = next(batches)
    with pa.OSFile(str(path), "wb") as sink, pa.ipc.new_file(sink, first.schema) as writer:
        writer.write_batch(first)
        for batch in batches:
            writer.write_batch(batch)


def _join(scratch: Path, schema: pa.Schema, sensors: int, frames: int, path: Path) -> None:
    """Write the spilled columns side by side, one row group at a time; with no frames, the schema alone."""
    parts = ["ticks", *(f"sensor-{at}" for at in range(sensors))]
    with ExitStack() as stack:
        writer = stack.enter_context(pq.ParquetWriter(path, schema, version="2.6", compression="zstd"))
        if frames == 0:
            return
        maps = [stack.enter_context(pa.memory_map(str(scratch / part))) for part in parts]
        readers = [stack.enter_context(pa.ipc.open_file(m)) for m in maps]
        for group in range(readers[0].num_record_batches):
            columns = [column for reader in readers for column in reader.get_batch(group).columns]
            writer.write_batch(pa.record_batch(columns, schema=schema), row_group_size=ROW_GROUP_ROWS)
