"""The Rerun recording. Belongs here: entities, timelines and the blueprint of what is shown.

Never here: what is shown. The extra ``viewer`` is imported here and nowhere else. Rerun numbers its rows by the time of writing,
so two recordings of one scene hold the same data in different bytes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import rerun as rr
import rerun.blueprint as rrb

from drivelake.viewer.scene import VEHICLE_FRAME, Cloud, EgoPose, Fix, Mount, Path2D, Payload, Picture, Pixels, Stamp, Video

__all__ = ["RerunSink"]

ALIGNED, NATIVE = "aligned", "native"
VEHICLE = "ego/vehicle"
SIGNAL_ROWS = 4096
MEDIA = {"jpeg": "image/jpeg", "png": "image/png", "webp": "image/webp"}
CODECS = {
    "h264": rr.VideoCodec.H264,
    "h265": rr.VideoCodec.H265,
    "vp9": rr.VideoCodec.VP9,
    "av1": rr.VideoCodec.AV1,
}
# colour model, number type and numbers a pixel of ROS' encodings
PIXELS = {
    "rgb8": (rr.ColorModel.RGB, "u1", 3),
    "rgba8": (rr.ColorModel.RGBA, "u1", 4),
    "bgr8": (rr.ColorModel.BGR, "u1", 3),
    "bgra8": (rr.ColorModel.BGRA, "u1", 4),
    "8UC3": (rr.ColorModel.BGR, "u1", 3),
    "mono8": (rr.ColorModel.L, "u1", 1),
    "8UC1": (rr.ColorModel.L, "u1", 1),
    "mono16": (rr.ColorModel.L, "<u2", 1),
    "16UC1": (rr.ColorModel.L, "<u2", 1),
    "32FC1": (rr.ColorModel.L, "<f4", 1),
}
NUMBERS = {
    "UINT8": "u1",
    "INT8": "i1",
    "UINT16": "<u2",
    "INT16": "<i2",
    "UINT32": "<u4",
    "INT32": "<i4",
    "FLOAT32": "<f4",
    "FLOAT64": "<f8",
}


class RerunSink:
    """Writes one ``.rrd`` file; see :class:`~drivelake.viewer.scene.Sink`.

    Args:
        path: the file.
        about: what it is made from; a document of the recording.
    """

    def __init__(self, path: Path, about: Mapping[str, str]) -> None:
        self._recording = rr.RecordingStream("drivelake", recording_id=about["sensor_frames"], send_properties=False)
        self._recording.save(path)
        text = "\n".join(f"{name}: {value}" for name, value in sorted(about.items()))
        self._recording.log("about", rr.TextDocument(text), static=True)
        self._signals: defaultdict[str, list[tuple[Stamp, tuple[float, ...]]]] = defaultdict(list)
        self._plots: dict[str, list[str]] = {}
        self._pictures: dict[str, None] = {}
        self._clouds: dict[str, None] = {}
        self._mounts = {VEHICLE_FRAME: VEHICLE}
        self._ego = self._map = False

    def signal(self, sensor: str, unit: str, at: Stamp, values: tuple[float, ...]) -> None:
        """Values wait until there are enough for a column."""
        entity = f"signals/{sensor}"
        if entity not in self._signals:
            self._plots.setdefault(unit, []).append(entity)
            self._recording.log(entity, rr.SeriesLines(names=_names(sensor, unit, len(values))), static=True)
        self._signals[entity].append((at, values))
        if len(self._signals[entity]) >= SIGNAL_ROWS:
            self._send(entity)

    def payload(self, sensor: str, at: Stamp, shown: Payload) -> str:
        """A picture, cloud or picture of a video; of a cloud the positions, on the vehicle where its frame is known."""
        mounted = isinstance(shown, Cloud) and shown.frame_id in self._mounts
        entity = f"{self._mounts[shown.frame_id]}/{sensor}" if mounted else f"sensors/{sensor}"
        made = _made(shown)
        if isinstance(made, str):
            return made
        (self._clouds if isinstance(shown, Cloud) else self._pictures)[entity] = None
        self._log(entity, at, made)
        return ""

    def mounts(self, at: Stamp, mounts: tuple[Mount, ...]) -> None:  # noqa: ARG002 - they hold at any time
        """Frames stand below their parents."""
        for mount in mounts:
            entity = self._mounts[mount.frame] = f"{self._mounts[mount.parent]}/{mount.frame}"
            turn = rr.Quaternion(xyzw=mount.rotation_xyzw)
            self._recording.log(entity, rr.Transform3D(translation=mount.translation_m, rotation=turn), static=True)

    def path(self, at: Stamp, poses: Path2D) -> None:
        """A line strip that is there from the first pose on."""
        self._ego = True
        self._log("ego/path", at, rr.LineStrips3D([[(pose.x_m, pose.y_m, pose.z_m) for pose in poses]]))

    def ego(self, at: Stamp, pose: EgoPose) -> None:
        """The vehicle's axes."""
        turn = rr.RotationAxisAngle(axis=(0, 0, 1), radians=pose.yaw_rad)
        self._log(VEHICLE, at, rr.Transform3D(translation=(pose.x_m, pose.y_m, pose.z_m), rotation=turn), rr.TransformAxes3D(2.0))

    def fix(self, at: Stamp, fix: Fix) -> None:
        """A point on the map."""
        self._map = True
        self._log("gnss", at, rr.GeoPoints(lat_lon=[(fix.latitude, fix.longitude)]))

    def finish(self) -> bytes:
        """The columns that wait, and what the viewer opens."""
        for entity in self._signals:
            self._send(entity)
        views: list[rrb.View] = [rrb.Spatial2DView(origin=entity, name=entity) for entity in self._pictures]
        views += [rrb.Spatial3DView(origin=entity, name=entity) for entity in self._clouds]
        views += [rrb.Spatial3DView(origin="ego", name="trajectory")] if self._ego else []
        views += [rrb.MapView(origin="gnss", name="map")] if self._map else []
        plots = [
            rrb.TimeSeriesView(name=unit or "no unit", origin="signals", contents=entities)
            for unit, entities in self._plots.items()
        ]
        columns = [rrb.Vertical(*parts) for parts in (views, plots) if parts]
        # without a timeline the viewer takes the one that has most entities, which may be that of the native stamps
        time = rrb.TimePanel(timeline=ALIGNED, state="collapsed")
        self._recording.send_blueprint(rrb.Blueprint(rrb.Horizontal(*columns), time, collapse_panels=True))
        return b""

    def close(self) -> None:
        """Write everything out and let go of the file."""
        self._recording.flush()
        self._recording.disconnect()

    def _log(self, entity: str, at: Stamp, *shown: rr.AsComponents) -> None:
        for name, t_ns in ((ALIGNED, at.aligned_ns), (NATIVE, at.native_ns)):
            self._recording.set_time(name, timestamp=np.datetime64(t_ns, "ns"))
        self._recording.log(entity, *shown)

    def _send(self, entity: str) -> None:
        waiting = self._signals[entity]
        if not waiting:
            return
        stamps = np.array([at for at, _ in waiting], dtype=np.int64)
        values = np.array([row for _, row in waiting])
        columns = rr.Scalars.columns(scalars=values.ravel())
        times = [
            rr.TimeColumn(name, timestamp=stamps[:, at].astype("datetime64[ns]")) for at, name in enumerate((ALIGNED, NATIVE))
        ]
        if values.shape[1] > 1:
            columns = columns.partition([values.shape[1]] * len(values))
        self._recording.send_columns(entity, times, columns)
        waiting.clear()


def _names(sensor: str, unit: str, count: int) -> list[str]:
    """What the legend says: four lines of an attitude, else one."""
    lines = [f"{sensor}.{member}" for member in "xyzw"] if count > 1 else [sensor]
    return [f"{line} [{unit}]" if unit else line for line in lines]


def _made(shown: Payload) -> rr.AsComponents | str:
    """What Rerun calls a picture, cloud or picture of a video; or why it shows none."""
    if isinstance(shown, Picture):
        return rr.EncodedImage(contents=shown.data, media_type=MEDIA[shown.format])
    if isinstance(shown, Video):
        return rr.VideoStream(CODECS[shown.format], sample=shown.data)
    if isinstance(shown, Pixels):
        return _pixels(shown)
    return _cloud(shown)


def _pixels(shown: Pixels) -> rr.AsComponents | str:
    if shown.encoding not in PIXELS:
        return f"its encoding {shown.encoding!r} is none that is written for Rerun"
    model, number, count = PIXELS[shown.encoding]
    row_bytes = shown.width * count * np.dtype(number).itemsize
    if shown.step < row_bytes:
        return f"its rows have {shown.step} bytes, {shown.width} pixels of {shown.encoding} need {row_bytes}"
    rows = np.frombuffer(shown.data, np.uint8, shown.height * shown.step).reshape(shown.height, shown.step)
    pixels = np.ascontiguousarray(rows[:, :row_bytes]).view(number).reshape(shown.height, shown.width, count)
    return rr.Image(pixels if count > 1 else pixels[:, :, 0], color_model=model)


def _cloud(shown: Cloud) -> rr.AsComponents:
    """Positions in m; a cloud without z lies in its plane."""
    axes = [f for f in shown.fields if f.name in ("x", "y", "z")]
    named = [f.name for f in axes]
    kind = np.dtype(
        {
            "names": named,
            "formats": [NUMBERS[f.type] for f in axes],
            "offsets": [f.offset for f in axes],
            "itemsize": shown.stride,
        }
    )
    points = np.frombuffer(shown.data, kind)
    places = np.zeros((len(points), 3), np.float32)
    for at, axis in enumerate("xyz"):
        if axis in named:
            places[:, at] = points[axis]
    return rr.Points3D(places[np.isfinite(places).all(axis=1)])
