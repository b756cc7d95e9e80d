"""Synchronisation: a drive's signals become frames. Belongs here: the order of the steps, and what leaves a drive out.

Never here: how a channel is found (sources), how a clock is modelled (clocks, domains), what ticks (ticks), how a sample is
chosen (matching, interpolation, aggregates), what the columns hold (columns).

Memory, whatever the length of the drive: the ticks (9 bytes each); of one sensor at a time its samples (24 bytes a value
sample, 48 bytes a payload or attitude sample, three times that where they have to be sorted) and its ages (4 or 8 bytes a
tick); one row group of matches; 128 MiB of finished columns, of which the rest waits in files beside the result. The
reference sensor's samples are held until it is matched. Estimating a clock holds what domains.py says; ego motion holds
the samples of all sensors that it is made from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.frames.clocks import ClockModel, OffsetRow
from drivelake.frames.columns import fill, frames_schema, quality_batch, tick_batch
from drivelake.frames.domains import Pictures, clock_models
from drivelake.frames.notes import notes_of
from drivelake.frames.ordered import Ordered, in_order
from drivelake.frames.parts import Parts, groups, write_frames
from drivelake.frames.poses import EgoMotion, Track, ego_batch, ego_motion
from drivelake.frames.report import EgoReport, Quality, ReferenceReport, SensorReport, SourceEntry, SyncReport
from drivelake.frames.sources import Absent, Source, locate, read_index
from drivelake.frames.tally import Tally
from drivelake.frames.ticks import TICKS_MAX, Ticks, changes, count_at, described, rate_ticks, ticks_of
from drivelake.rig import Events, Rate, Rig, Sensor

__all__ = ["synchronise"]

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
Found = Mapping[str, Source | Absent]

NS_PER_MS = 1_000_000
NS_PER_S = 1_000_000_000


class _LeftOut(Exception):
    """The drive gives no frames, for the reason that is the message: an outcome that ends the work on it."""


@dataclass
class _Work:
    """What is known of the drive so far; its report when the work ends early."""

    signals: Path
    rig: Rig
    found: Found
    clocks: dict[str, ClockModel]
    sensors: dict[str, SensorReport]
    reference: ReferenceReport
    ordered: dict[str, Ordered]
    notes: list[str]

    def read(self, name: str) -> Ordered:
        """A sensor's samples; those of the reference are read once."""
        if name in self.ordered:
            return self.ordered.pop(name)
        sensor = self.rig.sensors[name]
        return in_order(self.signals, name, sensor, self.found[name], self.clocks[sensor.clock])

    def report(self, frames: int, *, excluded: str | None = None, **rest: object) -> SyncReport:
        """The report."""
        notes = (*self.notes, *notes_of(self.reference, self.sensors))
        return SyncReport.model_validate(
            {
                "excluded": excluded,
                "notes": notes,
                "frames": frames,
                "reference": self.reference,
                "clocks": self.clocks,
                "sensors": self.sensors,
                **rest,
            }
        )


def synchronise(
    signals: Path,
    rig: Rig,
    out: Path,
    *,
    offsets: Mapping[str, tuple[OffsetRow, ...]] | None = None,
    pictures: Pictures | None = None,
) -> SyncReport:
    """Line the sensors of one drive up on the ticks of its reference: a sensor's samples, a fixed rate, or events.

    Writes ``frames.parquet`` (one row a tick: ``frame``, ``t_ns``; for every sensor its value or payload pointer, the native
    stamp and the age of the sample, and why there is none; ego motion; the quality of the synchronisation) and ``sync.json``
    (the report). The same signals and rig give the same bytes.

    A drive gets an empty ``frames.parquet`` of the full schema and a report that names the reason in ``excluded`` when the
    reference gives no ticks, or the logs of a required sensor are absent, quarantined, without a usable sample, or do not
    overlap the span of the ticks: two drives in one folder.

    Args:
        signals: folder with ``index.json`` and its tables.
        rig: the declared sensors and clocks.
        out: folder to write into; made when absent.
        offsets: declared offsets of this drive, by clock.
        pictures: native stamps and bytes of a payload sensor's pictures, for clocks that are aligned by optical flow.

    Returns:
        The report as ``sync.json`` holds it.

    Raises:
        MissingChannel: a required sensor's log is sound and has no such channel; names the nearest.
        InputError: the signals are unreadable, or a column cannot be what is declared.
        DeclarationError: a clock that no model can hold, or two sensors that would share a column.
    """
    schema = frames_schema(rig)
    index = read_index(signals)
    found = {name: locate(index, name, sensor) for name, sensor in rig.sensors.items()}
    out.mkdir(parents=True, exist_ok=True)
    work = _Work(signals, rig, found, {}, {n: _described(rig.sensors[n], found[n]) for n in rig.sensors}, _reference(rig), {}, [])
    with tempfile.TemporaryDirectory(prefix=".columns-", dir=out) as scratch:
        parts = Parts(Path(scratch))
        try:
            report = _fill(work, parts, offsets or {}, pictures)
        except _LeftOut as reason:
            report = work.report(0, excluded=str(reason))
        write_frames(out / "frames.parquet", schema, _joined(parts, schema, report))
    report.write(out / "sync.json")
    return report


def _fill(work: _Work, parts: Parts, offsets: Mapping[str, tuple[OffsetRow, ...]], pictures: Pictures | None) -> SyncReport:
    """Match one sensor after the other into ``parts``; stops at the first reason to leave the drive out."""
    rig = work.rig
    for name, source in work.found.items():
        if isinstance(source, Absent) and (rig.sensors[name].required or name == rig.ticking):
            raise _LeftOut(source.reason)
    work.clocks = clock_models(work.signals, rig, work.found, offsets, pictures=pictures)
    ticks = _ticks(work)
    whole = np.ones(ticks.t_ns.size, dtype=bool)
    tracks: dict[str, Track] = {}
    parts.add(tick_batch(ticks.t_ns, rows) for rows in groups(ticks.t_ns.size))
    for name, sensor in rig.sensors.items():
        ordered = work.read(name)
        _check_overlap(work, name, ordered)
        tally = Tally(ordered.t_ns.size)
        parts.add(_columns(name, sensor, ticks, ordered, tally, whole))
        work.sensors[name] = tally.reported(work.sensors[name], ordered)
        if rig.poses is not None and name in rig.poses.sensors and ordered.t_ns.size:
            tracks[name] = Track(ordered.t_ns, ordered.samples.values.astype(np.float64, copy=False))
        # before the next sensor is read, or two would be held
        del ordered
    ego = None
    if rig.poses is not None:
        ego = ego_motion(tracks, rig.poses)
        parts.add(_ego(rig, ego, ticks))
    return work.report(
        int(ticks.t_ns.size),
        quality=_quality(work.clocks, whole),
        ego=None if ego is None else EgoReport(method=ego.method, reason=ego.reason),
    )


def _reference(rig: Rig) -> ReferenceReport:
    if isinstance(rig.reference, Rate):
        return ReferenceReport(kind="rate", sensor="", rate_hz=rig.reference.rate_hz)
    if isinstance(rig.reference, Events):
        return ReferenceReport(kind="events", sensor=rig.reference.events)
    return ReferenceReport(kind="sensor", sensor=rig.reference)


def _ticks(work: _Work) -> Ticks:
    """The ticks, and what the report says of them."""
    if isinstance(work.rig.reference, Rate):
        t_ns = _at_rate(work, work.rig.reference)
    else:
        name = work.reference.sensor
        ordered = work.read(name)
        t_ns = changes(ordered) if work.reference.kind == "events" else ordered.t_ns
        work.reference = work.reference.model_copy(
            update={"duplicated_stamps": ordered.duplicated, "backward_stamps": ordered.samples.backward_stamps}
        )
        if t_ns.size == 0:
            work.sensors[name] = Tally(ordered.t_ns.size).reported(work.sensors[name], ordered)
            why = f"has {ordered.t_ns.size} samples and never changes" if ordered.t_ns.size else "has no samples"
            raise _LeftOut(f"reference sensor {name!r} {why}")
        work.ordered[name] = ordered
    work.reference = described(work.reference, t_ns)
    return ticks_of(t_ns)


def _at_rate(work: _Work, rate: Rate) -> IntArray:
    """Ticks from the first sample of any sensor to the last; every sensor is read once for that.

    With a sensor as reference, the logs of the others must overlap its ticks. Here the required sensors must overlap each
    other: one moment has to lie in all of their spans.
    """
    spans = {}
    for name in work.rig.sensors:
        ordered = work.read(name)
        if ordered.t_ns.size:
            spans[name] = (int(ordered.t_ns[0]), int(ordered.t_ns[-1]))
    if not spans:
        raise _LeftOut("no sensor has samples")
    required = {name: span for name, span in spans.items() if work.rig.sensors[name].required}
    if required:
        ends_first = min(required, key=lambda name: required[name][1])
        begins_last = max(required, key=lambda name: required[name][0])
        apart_ns = required[begins_last][0] - required[ends_first][1]
        if apart_ns > 0:
            raise _LeftOut(
                f"sensor {ends_first!r} ends {apart_ns / NS_PER_S:.3f} s before sensor {begins_last!r} begins: "
                "are these two drives in one folder?"
            )
    first_ns, last_ns = min(first for first, _ in spans.values()), max(last for _, last in spans.values())
    count = count_at(rate, first_ns, last_ns)
    if count > TICKS_MAX:
        raise _LeftOut(
            f"the sensors span {(last_ns - first_ns) / NS_PER_S:.0f} s, at {rate.rate_hz:g} Hz {count} ticks, "
            f"at most {TICKS_MAX} are made: one of them has stamps of another time"
        )
    if count == 0:
        raise _LeftOut(f"no tick of {rate.rate_hz:g} Hz lies between the first and the last sample")
    return rate_ticks(rate, first_ns, last_ns)


def _check_overlap(work: _Work, name: str, ordered: Ordered) -> None:
    """Say where each log of a sensor lies; a required sensor without samples near the ticks leaves the drive out."""
    sensor, first_ns, last_ns = work.rig.sensors[name], work.reference.first_ns, work.reference.last_ns
    report = work.sensors[name]
    reach_ns = round(sensor.tolerance_ms * NS_PER_MS)
    entries = []
    for entry, span in zip(report.sources, ordered.spans, strict=True):
        outside = span.first_ns is not None and span.last_ns is not None and first_ns is not None and last_ns is not None and (
            span.first_ns > last_ns + reach_ns or span.last_ns < first_ns - reach_ns
        )  # fmt: skip
        facts = {"samples": span.samples, "first_ns": span.first_ns, "last_ns": span.last_ns, "outside": outside}
        entries.append(entry.model_copy(update=facts))
    report = report.model_copy(update={"sources": tuple(entries)})
    work.sensors[name] = report
    if not sensor.required:
        return
    if ordered.t_ns.size == 0:
        work.sensors[name] = report = Tally(0).reported(report, ordered)
        dropped = f"{report.without_stamp} without stamp, {report.invalid} without value"
        raise _LeftOut(f"sensor {name!r} has no samples ({report.rows} rows, {dropped})")
    if all(entry.outside for entry in entries if entry.samples):
        work.sensors[name] = Tally(ordered.t_ns.size).reported(report, ordered)
        raise _LeftOut(
            f"the logs of sensor {name!r} ({', '.join(entry.log for entry in entries)}) span {_span(ordered.t_ns)}, the ticks "
            f"{first_ns} to {last_ns} ns: they do not overlap; are these two drives in one folder?"
        )


def _span(t_ns: IntArray) -> str:
    return f"{int(t_ns[0])} to {int(t_ns[-1])} ns"


def _columns(
    name: str, sensor: Sensor, ticks: Ticks, ordered: Ordered, tally: Tally, whole: BoolArray
) -> Iterator[pa.RecordBatch]:
    """The columns of one sensor, a batch a row group; counts them, and marks frames that lack a required sensor."""
    for rows in groups(ticks.t_ns.size):
        filled = fill(name, sensor, ticks.t_ns[rows], ticks.since(rows), ordered)
        tally.add(filled)
        if sensor.required:
            whole[rows] &= filled.match.found
        yield filled.batch


def _ego(rig: Rig, motion: EgoMotion, ticks: Ticks) -> Iterator[pa.RecordBatch]:
    assert rig.poses is not None
    for rows in groups(ticks.t_ns.size):
        yield ego_batch(motion, ticks.t_ns[rows], rig.poses)


def _quality(clocks: Mapping[str, ClockModel], whole: BoolArray) -> Quality:
    """The drive's constant columns.

    A clock that was not wholly estimated, though that was asked for, leaves its columns null: nobody may
    select a drive by the residual of its other clocks.
    """
    asked = [m for m in clocks.values() if m.method in ("estimated", "partly estimated", "not observable")]
    share = round(float(np.count_nonzero(whole)) / whole.size, 6) if whole.size else None
    if not asked or any(model.method != "estimated" for model in asked):
        return Quality(matched_share=share)
    residuals, sigmas = [model.worst("residual_p99_ms") for model in asked], [model.sigma_ms for model in asked]
    return Quality(residual_ms_p99=_greatest(residuals), sigma_ms_max=_greatest(sigmas), matched_share=share)


def _greatest(values: list[float | None]) -> float | None:
    """The greatest; None where one is not known."""
    known = [value for value in values if value is not None]
    return max(known) if len(known) == len(values) else None


def _joined(parts: Parts, schema: pa.Schema, report: SyncReport) -> Iterator[pa.RecordBatch]:
    """Whole row groups of frames; none of a drive that is left out."""
    if report.excluded is not None:
        return
    for columns in parts.joined():
        constants = quality_batch(report.quality, len(columns[0])).columns
        yield pa.record_batch([*columns, *constants], schema=schema)


def _described(sensor: Sensor, source: Source | Absent) -> SensorReport:
    """The part of a sensor's report that is known before its samples are read."""
    described = SensorReport(
        kind=sensor.kind,
        rule=sensor.rule,
        stamp=sensor.stamp,
        clock=sensor.clock,
        tolerance_ms=sensor.tolerance_ms,
        max_gap_ms=sensor.max_gap_ms,
        stale_ms=sensor.stale_ms,
        interval_exact=sensor.interval_exact,
        unit=sensor.unit,
        quarantined_logs=source.quarantined,
    )
    if isinstance(source, Absent):
        return described.model_copy(update={"missing": source.reason})
    entries = tuple(SourceEntry(log=c.table.log, channel=c.table.channel, column=c.column) for c in source.columns)
    units = sorted({c.unit for c in source.columns if c.unit})
    return described.model_copy(update={"sources": entries, "unit_found": ", ".join(units)})
