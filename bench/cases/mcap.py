"""MCAP to Arrow: telemetry, cameras, protobuf. Belongs here: those cases. Never here: other containers (bags)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from operator import attrgetter
from pathlib import Path
from typing import Any

from bench.case import Case, Counts, Target, Variant
from bench.limits import checked, decompress
from bench.mcap_files import TELEMETRY

__all__ = ["CASES", "drivelake", "rosbags_arrow", "rosbags_decode", "rosbags_raw"]

Inputs = Mapping[str, Path]


def _log(inputs: Inputs) -> Path:
    (path,) = inputs.values()
    return path


def drivelake(inputs: Inputs) -> Counts:
    """Every message: telemetry and protobuf as columns, pictures and clouds as pointers."""
    from drivelake.logs import read_log

    counts = {"messages": 0, "telemetry": 0}
    for found in read_log(_log(inputs)):
        counts["messages"] += found.batch.num_rows
        counts["telemetry"] += found.batch.num_rows if found.channel in TELEMETRY else 0
    return {kind: count for kind, count in counts.items() if count}


def mcap_raw(inputs: Inputs) -> Counts:
    """Every message as bytes, in the order of the file."""
    from mcap.reader import make_reader

    with _log(inputs).open("rb") as file:
        return {"messages": sum(1 for _ in make_reader(file).iter_messages(log_time_order=False))}


def mcap_ros2(inputs: Inputs) -> Counts:
    """The telemetry as Python objects."""
    from mcap.reader import make_reader
    from mcap_ros2.decoder import DecoderFactory

    with _log(inputs).open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        found = reader.iter_decoded_messages(topics=list(TELEMETRY), log_time_order=False)
        return {"telemetry": sum(1 for _ in found)}


def mcap_protobuf(inputs: Inputs) -> Counts:
    """Every message as a Python object."""
    from mcap.reader import make_reader
    from mcap_protobuf.decoder import DecoderFactory

    with _log(inputs).open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        return {"messages": sum(1 for _ in reader.iter_decoded_messages(log_time_order=False))}


def mcap_protobuf_columns(inputs: Inputs) -> Counts:
    """Ten fields of every message as columns."""
    from mcap.reader import make_reader
    from mcap_protobuf.decoder import DecoderFactory

    rows: list[tuple[object, ...]] = []
    with _log(inputs).open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        for _, _, message, fix in reader.iter_decoded_messages(log_time_order=False):
            stamp_ns = fix.timestamp.seconds * 10**9 + fix.timestamp.nanos
            velocity = fix.velocity
            position = (fix.latitude, fix.longitude, fix.altitude)
            rows.append((message.log_time, stamp_ns, fix.frame_id, *position, velocity.x, velocity.y, velocity.z, fix.satellites))
    return {"messages": _table(rows)}


def rosbags_raw(inputs: Inputs) -> Counts:
    """The telemetry as bytes."""
    return {"telemetry": _rosbags(_log(inputs), lambda *_: None, decode=False)}


def rosbags_decode(inputs: Inputs) -> Counts:
    """The telemetry as Python objects."""
    return {"telemetry": _rosbags(_log(inputs), lambda *_: None)}


def rosbags_arrow(inputs: Inputs) -> Counts:
    """The telemetry as columns: stamps and what moves, without frames and covariances."""
    rows: dict[str, list[tuple[object, ...]]] = {}

    def take(topic: str, kind: str, stamp_ns: int, message: object) -> None:
        seconds, nanoseconds, *values = FIELDS[kind](message)
        rows.setdefault(topic, []).append((stamp_ns, seconds * 10**9 + nanoseconds, *values))

    _rosbags(_log(inputs), take)
    return {"telemetry": sum(_table(found) for found in rows.values())}


def _table(rows: list[tuple[object, ...]]) -> int:
    import pyarrow as pa

    columns = [pa.array(column) for column in zip(*rows, strict=True)]
    return pa.table(columns, [str(place) for place in range(len(columns))]).num_rows


def _rosbags(path: Path, take: Callable[[str, str, int, object], None], *, decode: bool = True) -> int:
    from rosbags.highlevel import AnyReader

    count = 0
    with AnyReader([path]) as reader:
        wanted = [connection for connection in reader.connections if connection.topic in TELEMETRY]
        for connection, stamp_ns, data in reader.messages(connections=wanted):
            count += 1
            if decode:
                take(connection.topic, connection.msgtype, stamp_ns, reader.deserialize(data, connection.msgtype))
    return count


def _fields(*paths: str) -> Callable[[object], tuple[Any, ...]]:
    """Takes the stamp and the named fields of a message; a path that ends in ``.xyz`` names three of them."""
    names = ["header.stamp.sec", "header.stamp.nanosec"]
    for path in paths:
        stem, _, last = path.rpartition(".")
        names += [f"{stem}.{axis}" for axis in last] if last in ("xyz", "xyzw") else [path]
    return attrgetter(*names)


FIELDS = {
    "sensor_msgs/msg/Imu": _fields("linear_acceleration.xyz", "angular_velocity.xyz", "orientation.xyzw"),
    "nav_msgs/msg/Odometry": _fields(
        "pose.pose.position.xyz", "pose.pose.orientation.xyzw", "twist.twist.linear.xyz", "twist.twist.angular.xyz"
    ),
    "geometry_msgs/msg/TwistStamped": _fields("twist.linear.xyz", "twist.angular.xyz"),
    "sensor_msgs/msg/NavSatFix": _fields("latitude", "longitude", "altitude"),
}


def limit(inputs: Inputs) -> Counts:
    """What every reader has to do at least."""
    return decompress(_log(inputs))


def limit_checked(inputs: Inputs) -> Counts:
    """The same, and what a reader has to do that never gives a value it could have known to be wrong."""
    return checked(_log(inputs))


LIMITS = (Variant("decompression", "limit", limit), Variant("decompression and CRC-32", "limit", limit_checked))


def _camera(compression: str) -> Case:
    packed = compression != "none"
    return Case(
        f"camera_{compression}",
        f"MCAP with 6 cameras and a lidar ({compression}), telemetry to Arrow, pictures as pointers",
        (f"camera_{compression}.mcap",),
        (
            Variant("drivelake", "ours", drivelake),
            *(LIMITS if packed else LIMITS[1:]),
            Variant("mcap, bytes", "peer", mcap_raw),
            Variant("mcap-ros2-support", "peer", mcap_ros2),
            Variant("rosbags", "peer", rosbags_decode),
        ),
        (Target("drivelake", "cpu", "decompression", 1.3),) if packed else (),
    )


CASES = (
    Case(
        "telemetry",
        "MCAP telemetry (ROS 2, zstd) to Arrow",
        ("telemetry.mcap",),
        (
            Variant("drivelake", "ours", drivelake),
            *LIMITS,
            Variant("mcap, bytes", "peer", mcap_raw),
            Variant("mcap-ros2-support", "peer", mcap_ros2),
            Variant("rosbags, bytes", "peer", rosbags_raw),
            Variant("rosbags, objects", "peer", rosbags_decode),
            Variant("rosbags to Arrow", "peer", rosbags_arrow),
        ),
        (Target("drivelake", "rate", "messages", 1), Target("drivelake", "speed", "rosbags to Arrow", 19)),
    ),
    *(_camera(compression) for compression in ("zstd", "lz4", "none")),
    Case(
        "protobuf",
        "MCAP with protobuf (zstd) to Arrow",
        ("protobuf.mcap",),
        (
            Variant("drivelake", "ours", drivelake),
            *LIMITS,
            Variant("mcap-protobuf-support, objects", "peer", mcap_protobuf),
            Variant("mcap-protobuf-support to Arrow", "peer", mcap_protobuf_columns),
        ),
    ),
)
