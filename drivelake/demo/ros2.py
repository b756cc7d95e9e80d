"""ROS 2 messages of the generated drives. Belongs here: their definitions as ``ros2msg`` text and their CDR encoding.

Never here: topics, stamps, the container file, any message that the demo does not send.

Definitions: common_interfaces and rcl_interfaces of ROS 2, comments left out. Encoding: OMG DDS-XTypes 1.3, 7.4.3,
plain CDR little endian, where a primitive is aligned to its own size from the start of the body.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = ["compressed_image_heads", "definition", "imu", "nav_sat_fix", "odometry"]

Fields = list[tuple[str, str]]
Columns = Mapping[str, ArrayLike]

CDR_LITTLE_ENDIAN = b"\x00\x01\x00\x00"
NS_PER_S = 1_000_000_000

DEFINITIONS = {
    "builtin_interfaces/Time": "int32 sec\nuint32 nanosec\n",
    "std_msgs/Header": "builtin_interfaces/Time stamp\nstring frame_id\n",
    "geometry_msgs/Point": "float64 x\nfloat64 y\nfloat64 z\n",
    "geometry_msgs/Vector3": "float64 x\nfloat64 y\nfloat64 z\n",
    "geometry_msgs/Quaternion": "float64 x\nfloat64 y\nfloat64 z\nfloat64 w\n",
    "geometry_msgs/Pose": "geometry_msgs/Point position\ngeometry_msgs/Quaternion orientation\n",
    "geometry_msgs/Twist": "geometry_msgs/Vector3 linear\ngeometry_msgs/Vector3 angular\n",
    "geometry_msgs/PoseWithCovariance": "geometry_msgs/Pose pose\nfloat64[36] covariance\n",
    "geometry_msgs/TwistWithCovariance": "geometry_msgs/Twist twist\nfloat64[36] covariance\n",
    "sensor_msgs/NavSatStatus": (
        "int8 STATUS_NO_FIX=-1\nint8 STATUS_FIX=0\nint8 STATUS_SBAS_FIX=1\nint8 STATUS_GBAS_FIX=2\n"
        "uint16 SERVICE_GPS=1\nuint16 SERVICE_GLONASS=2\nuint16 SERVICE_COMPASS=4\nuint16 SERVICE_GALILEO=8\n"
        "int8 status\nuint16 service\n"
    ),
    "sensor_msgs/CompressedImage": "std_msgs/Header header\nstring format\nuint8[] data\n",
    "sensor_msgs/Imu": (
        "std_msgs/Header header\ngeometry_msgs/Quaternion orientation\nfloat64[9] orientation_covariance\n"
        "geometry_msgs/Vector3 angular_velocity\nfloat64[9] angular_velocity_covariance\n"
        "geometry_msgs/Vector3 linear_acceleration\nfloat64[9] linear_acceleration_covariance\n"
    ),
    "sensor_msgs/NavSatFix": (
        "uint8 COVARIANCE_TYPE_UNKNOWN=0\nuint8 COVARIANCE_TYPE_APPROXIMATED=1\n"
        "uint8 COVARIANCE_TYPE_DIAGONAL_KNOWN=2\nuint8 COVARIANCE_TYPE_KNOWN=3\n"
        "std_msgs/Header header\nsensor_msgs/NavSatStatus status\nfloat64 latitude\nfloat64 longitude\nfloat64 altitude\n"
        "float64[9] position_covariance\nuint8 position_covariance_type\n"
    ),
    "nav_msgs/Odometry": (
        "std_msgs/Header header\nstring child_frame_id\n"
        "geometry_msgs/PoseWithCovariance pose\ngeometry_msgs/TwistWithCovariance twist\n"
    ),
}
SEPARATOR = "=" * 80


def definition(message: str) -> str:
    """Definition of ``package/Message`` followed by those of all messages inside it, as MCAP's ``ros2msg`` wants it."""
    found = [message]
    for name in found:
        words = (line.split()[0].split("[")[0] for line in DEFINITIONS[name].splitlines())
        found += [inner for inner in dict.fromkeys(words) if inner in DEFINITIONS and inner not in found]
    return DEFINITIONS[message] + "".join(f"{SEPARATOR}\nMSG: {name}\n{DEFINITIONS[name]}" for name in found[1:])


def imu(stamp_ns: NDArray[np.int64], frame_id: str, columns: Columns) -> list[bytes]:
    """sensor_msgs/Imu, one CDR message a stamp; rad/s and m/s2 in ``frame_id``; fields that are not given are 0."""
    fields = [
        *_xyz("orientation", "xyzw"),
        ("orientation_covariance", "(9,)<f8"),
        *_xyz("angular_velocity"),
        ("angular_velocity_covariance", "(9,)<f8"),
        *_xyz("linear_acceleration"),
        ("linear_acceleration_covariance", "(9,)<f8"),
    ]
    return _encode(stamp_ns, frame_id, fields, columns)


def nav_sat_fix(stamp_ns: NDArray[np.int64], frame_id: str, columns: Columns) -> list[bytes]:
    """sensor_msgs/NavSatFix, one CDR message a stamp; degrees WGS 84 and metres above the ellipsoid."""
    fields = [
        ("status.status", "<i1"),
        ("status.service", "<u2"),
        ("latitude", "<f8"),
        ("longitude", "<f8"),
        ("altitude", "<f8"),
        ("position_covariance", "(9,)<f8"),
        ("position_covariance_type", "<u1"),
    ]
    return _encode(stamp_ns, frame_id, fields, columns)


def odometry(stamp_ns: NDArray[np.int64], frame_id: str, child_frame_id: str, columns: Columns) -> list[bytes]:
    """nav_msgs/Odometry, one CDR message a stamp; pose in ``frame_id``, twist in ``child_frame_id``; m, m/s, rad/s."""
    child, child_columns = _string("child_frame_id", child_frame_id)
    fields = [
        *child,
        *_xyz("pose.position"),
        *_xyz("pose.orientation", "xyzw"),
        ("pose.covariance", "(36,)<f8"),
        *_xyz("twist.linear"),
        *_xyz("twist.angular"),
        ("twist.covariance", "(36,)<f8"),
    ]
    return _encode(stamp_ns, frame_id, fields, {**child_columns, **columns})


def compressed_image_heads(stamp_ns: NDArray[np.int64], frame_id: str) -> list[bytes]:
    """sensor_msgs/CompressedImage up to the length of ``data``: append its uint32 count and the bytes of the picture."""
    fields, columns = _string("format", "jpeg")
    heads = _encode(stamp_ns, frame_id, fields, columns)
    return [head + b"\x00" * (-(len(head) - len(CDR_LITTLE_ENDIAN)) % 4) for head in heads]


def _xyz(name: str, axes: str = "xyz") -> Fields:
    return [(f"{name}.{axis}", "<f8") for axis in axes]


def _string(name: str, text: str) -> tuple[Fields, dict[str, ArrayLike]]:
    """Lay out a string whose length is the same in every message: its count with the closing zero, then its bytes."""
    raw = text.encode() + b"\x00"
    fields = [(f"{name}.length", "<u4"), (name, f"({len(raw)},)u1")]
    return fields, {f"{name}.length": len(raw), name: np.frombuffer(raw, np.uint8)}


def _encode(stamp_ns: NDArray[np.int64], frame_id: str, fields: Fields, columns: Columns) -> list[bytes]:
    """All messages at once: on flat primitives numpy's C alignment is CDR's, but for the padding after the last field."""
    frame, frame_columns = _string("header.frame_id", frame_id)
    layout = np.dtype([("header.stamp.sec", "<i4"), ("header.stamp.nanosec", "<u4"), *frame, *fields], align=True)
    rows = np.zeros(len(stamp_ns), layout)
    rows["header.stamp.sec"], rows["header.stamp.nanosec"] = np.divmod(stamp_ns, NS_PER_S)
    for name, values in {**frame_columns, **columns}.items():
        rows[name] = values
    last = fields[-1][0]
    assert layout.fields is not None
    kind, start = layout.fields[last][:2]
    end = start + kind.itemsize
    return [CDR_LITTLE_ENDIAN + row.tobytes()[:end] for row in rows]
