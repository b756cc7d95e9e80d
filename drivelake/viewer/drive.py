"""A drive of a lake as a file for a viewer. Belongs here: which versions are read, the merge, the report of what is shown.

Never here: formats of viewers, how samples are put in order.

Every sensor is shown at its own rate, not only at the ticks of the frames, its stamps mapped by the clock models of the frames.
Memory is bounded by the samples of one sensor (see tracks), a trajectory of 2,000 poses, and a few chunks of eight logs.
"""

from __future__ import annotations

import heapq
import json
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, Self, cast

from pydantic import ValidationError

from drivelake.errors import InputError, NotFound
from drivelake.frames.calibration import FILE
from drivelake.frames.clocks import STAMP_LIMIT_NS
from drivelake.frames.report import SyncReport
from drivelake.frames.sources import Absent, locate, read_index
from drivelake.frames.transforms import ROOT, parse_calibration
from drivelake.lake import Lake, Version
from drivelake.logs import PayloadReader
from drivelake.logs.salvage import publish
from drivelake.logs.stages import log_paths
from drivelake.rig import Rig, Sensor
from drivelake.viewer.ego import Ego, open_ego
from drivelake.viewer.files import check_suffix, open_sink
from drivelake.viewer.payloads import describe
from drivelake.viewer.scene import Mount, Sink, Stamp
from drivelake.viewer.tracks import POINTERS, Span, Track, order_track

__all__ = ["LookReport", "SensorShown", "look"]

NS_PER_S = 1_000_000_000
READERS_MAX = 8

Row = Mapping[str, object]
Event = tuple[int, Callable[[], None]]
Seconds = tuple[float | None, float | None]


@dataclass(frozen=True)
class SensorShown:
    """What of one sensor is shown, and what not."""

    sensor: str
    kind: str
    shown: int = 0
    outside: int = 0
    without_stamp: int = 0
    invalid: int = 0
    not_shown: Mapping[str, int] = field(default_factory=dict)
    missing: str = ""

    @property
    def hidden(self) -> int:
        """Payloads that this kind of file cannot show."""
        return sum(self.not_shown.values())


@dataclass(frozen=True)
class LookReport:
    """A file for a viewer: what it holds, from when to when on the aligned clock."""

    drive: str
    file: str
    layout: str | None
    bytes: int
    first_ns: int
    last_ns: int
    sensors: tuple[SensorShown, ...]
    poses: int
    fixes: int
    notes: tuple[str, ...]


class Frames(NamedTuple):
    """A version of the frames, the rig that it was made by, and what was found."""

    version: Version
    rig: Rig
    report: SyncReport


def look(lake: Lake, drive: str, out: Path, *, seconds: Seconds = (None, None)) -> LookReport:
    """Write a drive as an MCAP file with a Foxglove layout beside it, or as a Rerun recording; the suffix of ``out`` decides.

    Nothing that is there is overwritten. The same versions and span give the same bytes of an MCAP file.

    Args:
        lake: where the drive's frames stand.
        drive: its name.
        out: the file; the layout is ``NAME.layout.json``.
        seconds: from and to before, s since the first tick; None for whatever there is.

    Raises:
        DeclarationError: a suffix of no viewer.
        ToolMissing: a Rerun recording without its extra.
        NotFound: the drive has no frames, or there is no folder to write into.
        InputError: the drive was left out, its frames are of an older make, nothing lies in the span, or the file is there.
        LogDamaged: a payload cannot be read any more.
    """
    check_suffix(out)
    layout = out.with_name(f"{out.name}.layout.json")
    if not out.parent.is_dir():
        raise NotFound(f"There is no folder {out.parent}.", next_step="make it, or name another with --out")
    for path in (out, layout):
        if path.exists():
            raise InputError(f"{path.name} is there already.", next_step="name another file with --out")
    frames = _frames(lake, drive)
    signals = lake.version(frames.version.manifest.input("signals"))
    raw = lake.version(signals.manifest.input("raw_logs"))
    about = {"drive": drive, "sensor_frames": frames.version.digest, "signals": signals.digest, **_clocks(frames.report)}
    span = _span(frames.report, seconds)
    with ExitStack() as stack:
        scratch = stack.enter_context(lake.scratch("look"))
        beside = Path(stack.enter_context(TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.")))
        tracks, sensors = _tracks(signals.view(scratch / "signals"), frames, span, scratch)
        ego = open_ego(frames.version.path("frames.parquet"), frames.rig.poses, span)
        with open_sink(beside / out.name, about) as sink:
            payloads = stack.enter_context(_Payloads(log_paths(lake, raw, scratch / "logs")))
            show = _Show(sink, frames.rig, payloads)
            show.all(tracks, ego, _mounts(lake, frames.version))
            made_layout = sink.finish()
        if show.first_ns is None:
            raise InputError(f"Nothing of {drive} lies in the seconds asked for.", next_step="ask for other --seconds")
        size = (beside / out.name).stat().st_size
        publish(beside / out.name, out)
        if made_layout:
            (beside / layout.name).write_bytes(made_layout)
            publish(beside / layout.name, layout)
    return LookReport(
        drive=drive,
        file=str(out),
        layout=str(layout) if made_layout else None,
        bytes=size,
        first_ns=show.first_ns,
        last_ns=show.last_ns,
        sensors=tuple(show.told(sensor) for sensor in sensors),
        poses=show.shown["ego"],
        fixes=show.shown["fix"],
        notes=(*_unaligned(frames.report), *frames.report.notes, *ego.notes),
    )


def _frames(lake: Lake, drive: str) -> Frames:
    """The drive's frames at main; what is declared now may be another rig already."""
    version = lake.head("sensor_frames", drive)
    declared = {key: value for key, value in version.manifest.parameters.items() if key in Rig.model_fields}
    try:
        rig = Rig.model_validate(declared)
        report = SyncReport.model_validate_json(version.path("sync.json").read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise InputError(
            f"{version.name} was made by another version of the stage: {where}: {first['msg']}.",
            next_step=f"drivelake ingest {drive}, then look again",
        ) from None
    if report.excluded:
        raise InputError(f"{drive} has no frames: {report.excluded}.", next_step=f"drivelake inspect {drive}")
    return Frames(version, rig, report)


def _span(report: SyncReport, seconds: Seconds) -> Span:
    """Aligned times from seconds since the first tick; without them, of all logs that the frames were made from.

    A log of another drive that lies in the same folder would stretch the file over both.
    """
    used = [s for sensor in report.sensors.values() for s in sensor.sources if not s.outside]
    firsts = [report.reference.first_ns, *(s.first_ns for s in used)]
    lasts = [report.reference.last_ns, *(s.last_ns for s in used)]
    zero_ns = report.reference.first_ns or 0
    first_s, end_s = seconds
    first_ns = min(t for t in firsts if t is not None) if first_s is None else zero_ns + round(first_s * NS_PER_S)
    end_ns = max(t for t in lasts if t is not None) + 1 if end_s is None else zero_ns + round(end_s * NS_PER_S)
    return Span(max(first_ns, 0), min(end_ns, STAMP_LIMIT_NS))


def _clocks(report: SyncReport) -> dict[str, str]:
    """Every clock model without its windows, a line each."""
    return {
        f"clock.{name}": json.dumps(model.model_dump(mode="json", exclude={"segments": {"__all__": {"windows"}}}), sort_keys=True)
        for name, model in report.clocks.items()
    }


def _unaligned(report: SyncReport) -> tuple[str, ...]:
    """Clocks whose stamps are shown as they were recorded, in whole or in part."""
    return tuple(
        f"Clock {name!r} is {model.method}: {model.reason}"
        for name, model in report.clocks.items()
        if model.method in ("not observable", "partly estimated")
    )


def _mounts(lake: Lake, frames: Version) -> tuple[Mount, ...]:
    """The frames of the calibration that the drive's frames were made with, parents first; none without one."""
    named = next((i for i in frames.manifest.inputs if i.asset == "calibrations"), None)
    if named is None:
        return ()
    version = lake.version(named)
    found = parse_calibration(version.path(FILE).read_text(encoding="utf-8"), where=version.name).frames
    ordered = [ROOT]
    for parent in ordered:  # grows while it is walked
        ordered += [name for name, frame in found.items() if frame.parent == parent]
    return tuple(
        Mount(name, frame.parent, frame.translation_m, frame.rotation_xyzw)
        for name in ordered
        if (frame := found[name]).parent is not None
    )


def _tracks(signals: Path, frames: Frames, span: Span, scratch: Path) -> tuple[dict[str, Track], list[SensorShown]]:
    """The samples of every sensor in order, in files; one sensor after the other."""
    index = read_index(signals)
    tracks, sensors = dict[str, Track](), []
    for at, (name, sensor) in enumerate(frames.rig.sensors.items()):
        source = locate(index, name, sensor)
        told = SensorShown(sensor=name, kind=sensor.kind)
        if isinstance(source, Absent):
            sensors.append(replace(told, missing=source.reason))
            continue
        clock = frames.report.clocks[sensor.clock]
        track = tracks[name] = order_track(signals, sensor, source, clock, span, scratch / f"track-{at}")
        sensors.append(replace(told, outside=track.outside, without_stamp=track.without_stamp, invalid=track.invalid))
    return tracks, sensors


class _Payloads:
    """Readers of a drive's logs, of which the last used stay open: each keeps chunks, and a drive may be cut into many logs."""

    def __init__(self, logs: Mapping[str, Path]) -> None:
        self._logs = logs
        self._readers: OrderedDict[str, PayloadReader] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for reader in self._readers.values():
            reader.close()

    def reader(self, log: str) -> PayloadReader:
        """That of a log."""
        if log not in self._readers:
            if len(self._readers) == READERS_MAX:
                self._readers.popitem(last=False)[1].close()
            self._readers[log] = PayloadReader(self._logs[log])
        self._readers.move_to_end(log)
        return self._readers[log]


class _Show:
    """Hands everything to a sink in order of time, and counts it."""

    def __init__(self, sink: Sink, rig: Rig, payloads: _Payloads) -> None:
        self.shown: Counter[str] = Counter()
        self.first_ns: int | None = None
        self.last_ns = 0
        self._not_shown: dict[str, Counter[str]] = {name: Counter() for name in rig.sensors}
        self._sink, self._rig, self._payloads = sink, rig, payloads

    def all(self, tracks: Mapping[str, Track], ego: Ego, mounts: tuple[Mount, ...]) -> None:
        """Everything, merged; what has the same time comes in the order of the declaration, the ego motion first."""
        streams = [self._ego(ego), *(self._sensor(name, self._rig.sensors[name], track) for name, track in tracks.items())]
        for t_ns, show in heapq.merge(*streams, key=itemgetter(0)):
            if self.first_ns is None:
                self.first_ns = t_ns
                if mounts:
                    self._sink.mounts(Stamp(t_ns, t_ns), mounts)
            self.last_ns = t_ns
            show()

    def told(self, sensor: SensorShown) -> SensorShown:
        """The report of a sensor with what was shown of it."""
        not_shown = dict(sorted(self._not_shown[sensor.sensor].items()))
        return replace(sensor, shown=self.shown[f"sensor {sensor.sensor}"], not_shown=not_shown)

    def _ego(self, ego: Ego) -> Iterator[Event]:
        path = ego.path()
        if path:
            yield path[0], partial(self._sink.path, Stamp(path[0], path[0]), path[1])
        poses = ((t_ns, partial(self._count, "ego", self._sink.ego, Stamp(t_ns, t_ns), pose)) for t_ns, pose in ego.poses())
        fixes = ((t_ns, partial(self._count, "fix", self._sink.fix, Stamp(t_ns, t_ns), fix)) for t_ns, fix in ego.fixes())
        yield from heapq.merge(poses, fixes, key=itemgetter(0))

    def _sensor(self, name: str, sensor: Sensor, track: Track) -> Iterator[Event]:
        if sensor.kind == "payload":
            for row in track.rows():
                yield cast("int", row["aligned_ns"]), partial(self._payload, name, row)
            return
        for row in track.rows():
            stamp = Stamp(cast("int", row["aligned_ns"]), cast("int", row["native_ns"]))
            values = tuple(float(cast("float", row[column])) for column in track.columns)
            yield (
                stamp.aligned_ns,
                partial(self._count, f"sensor {name}", self._sink.signal, name, sensor.unit, stamp, values),
            )

    def _count(self, what: str, show: Callable[..., None], *shown: object) -> None:
        show(*shown)
        self.shown[what] += 1

    def _payload(self, name: str, row: Row) -> None:
        chunk, offset, size = (cast("int", row[pointer]) for pointer in POINTERS)
        described = describe(row, self._payloads.reader(str(row["log"])).read(chunk, offset, size))
        frame = self._rig.sensors[name].frame
        if frame is not None and not isinstance(described, str):
            described = described._replace(frame_id=frame)  # of the calibration; a header's frame may be called otherwise
        stamp = Stamp(cast("int", row["aligned_ns"]), cast("int", row["native_ns"]))
        reason = described if isinstance(described, str) else self._sink.payload(name, stamp, described)
        if reason:
            self._not_shown[name][reason] += 1
        else:
            self.shown[f"sensor {name}"] += 1
