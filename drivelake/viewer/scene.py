"""What a viewer can be shown. Belongs here: pictures, clouds, signals and poses as plain values, and what takes them.

Never here: where they come from, a file format.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, Protocol

__all__ = [
    "LOCAL_FRAME",
    "VEHICLE_FRAME",
    "Cloud",
    "CloudField",
    "EgoPose",
    "Fix",
    "Mount",
    "Number",
    "Path2D",
    "Payload",
    "Picture",
    "Pixels",
    "Sink",
    "Stamp",
    "Video",
]

# Of the ego motion: east, north, up with its origin where the drive begins; and the axes of the vehicle.
LOCAL_FRAME = "local_enu"
VEHICLE_FRAME = "vehicle"

Number = Literal["UINT8", "INT8", "UINT16", "INT16", "UINT32", "INT32", "FLOAT32", "FLOAT64"]


class Stamp(NamedTuple):
    """When something was seen: on the aligned clock, and as its own recorder stamped it; both in ns."""

    aligned_ns: int
    native_ns: int


class Picture(NamedTuple):
    """An encoded picture (``jpeg``, ``png`` or ``webp``)."""

    data: bytes
    format: str
    frame_id: str


class Pixels(NamedTuple):
    """A picture as rows of ``step`` bytes; ``encoding`` as ROS names it, little endian."""

    data: bytes
    encoding: str
    width: int
    height: int
    step: int
    frame_id: str


class Video(NamedTuple):
    """One picture of a video stream (``h264``, ``h265``, ``vp9`` or ``av1``)."""

    data: bytes
    format: str
    frame_id: str


class CloudField(NamedTuple):
    """A member of every point, ``offset`` bytes behind the point's begin."""

    name: str
    offset: int
    type: Number


class Cloud(NamedTuple):
    """Points of ``stride`` bytes each, little endian, positions in m."""

    data: bytes
    stride: int
    fields: tuple[CloudField, ...]
    frame_id: str


class EgoPose(NamedTuple):
    """Where the vehicle is in ``LOCAL_FRAME``: m, and rad counter-clockwise from east."""

    x_m: float
    y_m: float
    z_m: float
    yaw_rad: float


class Fix(NamedTuple):
    """A position on WGS 84, deg."""

    latitude: float
    longitude: float


class Mount(NamedTuple):
    """A frame of the calibration: where its origin stands in its parent, m, and what turns its axes into the parent's."""

    frame: str
    parent: str
    translation_m: tuple[float, float, float]
    rotation_xyzw: tuple[float, float, float, float]


Path2D = tuple[EgoPose, ...]
Payload = Picture | Pixels | Video | Cloud


class Sink(Protocol):
    """A file that is being written; times come in rising order."""

    def signal(self, sensor: str, unit: str, at: Stamp, values: tuple[float, ...]) -> None:
        """One value, or x, y, z and w of an attitude."""

    def payload(self, sensor: str, at: Stamp, shown: Payload) -> str:
        """Take a picture, cloud or picture of a video; or say why this kind of file cannot show it."""

    def mounts(self, at: Stamp, mounts: tuple[Mount, ...]) -> None:
        """The frames of the calibration, parents first; before any payload."""

    def path(self, at: Stamp, poses: Path2D) -> None:
        """Where the vehicle drives, all of it, thinned out."""

    def ego(self, at: Stamp, pose: EgoPose) -> None:
        """Where the vehicle is."""

    def fix(self, at: Stamp, fix: Fix) -> None:
        """Where a satellite receiver is."""

    def finish(self) -> bytes:
        """Write what is still to be written; a layout for a file beside this one, empty where it holds its own."""
