"""MCAP files for the bench. Belongs here: ROS 2 telemetry, a camera and lidar log, protobuf messages.

Never here: reading, timing; MDF (mdf_files). Same arguments, same bytes.
"""

from __future__ import annotations

import functools
import heapq
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from mcap.writer import CompressionType, Writer

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["TELEMETRY", "telemetry_messages", "write_camera", "write_protobuf", "write_telemetry"]

START_NS = 1_700_000_000_000_000_000
LATENCY_NS = 2_000_000  # between publishing and logging
CHUNK_BYTES = 2 << 20
COMPRESSION = {"zstd": CompressionType.ZSTD, "lz4": CompressionType.LZ4, "none": CompressionType.NONE}
CAMERAS_HZ = (10, 10, 10, 15, 15, 30)
PICTURES = 24
POINTS = 65_536

TELEMETRY = {
    "/imu/data": "sensor_msgs/msg/Imu",
    "/vehicle/odom": "nav_msgs/msg/Odometry",
    "/vehicle/twist": "geometry_msgs/msg/TwistStamped",
    "/gps/fix": "sensor_msgs/msg/NavSatFix",
}
RATES_HZ = {"/imu/data": 400, "/vehicle/odom": 100, "/vehicle/twist": 100, "/gps/fix": 10}


class Cdr:
    """One message in ROS 2's encoding, little endian: every number aligned to its own size behind the 4 byte head."""

    def __init__(self) -> None:
        self.data = bytearray(b"\x00\x01\x00\x00")

    def pack(self, code: str, *values: float) -> Cdr:
        """Numbers of one type, a struct code."""
        self.data += b"\0" * (-(len(self.data) - 4) % struct.calcsize(code))
        self.data += struct.pack(f"<{len(values)}{code}", *values)
        return self

    def text(self, text: str) -> Cdr:
        """A string with its length and closing NUL."""
        data = text.encode() + b"\0"
        self.pack("I", len(data)).data.extend(data)
        return self

    def blob(self, data: bytes) -> Cdr:
        """A sequence of bytes."""
        self.pack("I", len(data)).data.extend(data)
        return self

    def header(self, stamp_ns: int, frame: str) -> Cdr:
        """std_msgs/Header."""
        seconds, nanoseconds = divmod(stamp_ns, 10**9)
        return self.pack("i", seconds).pack("I", nanoseconds).text(frame)


Encode = Callable[[np.random.Generator, int, int], bytearray]


def _imu(rng: np.random.Generator, stamp_ns: int, _: int) -> bytearray:
    message = Cdr().header(stamp_ns, "imu_link").pack("d", 0.0, 0.0, 0.1, 0.99, *[0.01] * 9)
    message.pack("d", *rng.normal(size=3), *[0.01] * 9).pack("d", *rng.normal(size=3), *[0.01] * 9)
    return message.data


def _odometry(rng: np.random.Generator, stamp_ns: int, number: int) -> bytearray:
    message = Cdr().header(stamp_ns, "odom").text("base_link")
    message.pack("d", number * 0.1, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, *[0.1] * 36)
    return message.pack("d", *rng.normal(size=6), *[0.1] * 36).data


def _twist(rng: np.random.Generator, stamp_ns: int, _: int) -> bytearray:
    return Cdr().header(stamp_ns, "base_link").pack("d", *rng.normal(size=6)).data


def _fix(_: np.random.Generator, stamp_ns: int, number: int) -> bytearray:
    message = Cdr().header(stamp_ns, "gps").pack("b", 0).pack("H", 1)
    return message.pack("d", 48.1 + number * 1e-6, 11.5, 500.0, *[1.0] * 9).pack("B", 2).data


def _cloud(rng: np.random.Generator, stamp_ns: int, _: int) -> bytearray:
    message = Cdr().header(stamp_ns, "lidar").pack("I", 1, POINTS, 4)
    for place, name in enumerate(("x", "y", "z", "intensity")):
        message.text(name).pack("I", 4 * place).pack("B", 7).pack("I", 1)
    message.pack("B", 0).pack("I", 16, 16 * POINTS)
    points = np.empty((POINTS, 4), "<f4")
    points[:, :3] = np.round(rng.normal(0, 20, (POINTS, 3)), 3)  # a lidar resolves millimetres
    points[:, 3] = rng.integers(0, 256, POINTS)
    return message.blob(points.tobytes()).pack("B", 1).data


class Topic(NamedTuple):
    """What is published on a topic."""

    name: str
    type: str
    rate_hz: float
    encode: Encode


def _telemetry() -> list[Topic]:
    encoders = (_imu, _odometry, _twist, _fix)
    return [Topic(name, kind, RATES_HZ[name], encode) for (name, kind), encode in zip(TELEMETRY.items(), encoders, strict=True)]


@functools.cache
def _pictures() -> list[bytes]:
    """JPEG pictures of 1280 x 720 with noise, 60 to 130 kB each."""
    import simplejpeg

    rng = np.random.default_rng(6)
    y, x = np.mgrid[0:720, 0:1280]
    pictures = []
    for number in range(PICTURES):
        scene = 127 + 60 * np.sin(x / (20 + number % 37)) + 50 * np.cos(y / (15 + number % 23))
        scene += (x // 80 + y // 80 + number) % 2 * 30
        noisy = np.stack([scene + rng.normal(0, 11, scene.shape) + shift for shift in (0, 10, -10)], -1)
        picture = np.ascontiguousarray(np.clip(noisy, 0, 255).astype(np.uint8))
        pictures.append(simplejpeg.encode_jpeg(picture, quality=int(rng.integers(55, 72)), colorsubsampling="420"))
    return pictures


def _camera(place: int, pictures: list[bytes]) -> Encode:
    def encode(_: np.random.Generator, stamp_ns: int, number: int) -> bytearray:
        picture = pictures[(number * 7 + place * 41) % len(pictures)]
        return Cdr().header(stamp_ns, f"cam{place}").text("jpeg").blob(picture).data

    return encode


def write_telemetry(path: Path, compression: str, seconds: float) -> None:
    """Small ROS 2 messages: 610 a second on four topics."""
    _write_ros2(path, compression, seconds, _telemetry())


def write_camera(path: Path, compression: str, seconds: float) -> None:
    """Six cameras (JPEG), a lidar and the telemetry, about 20 MB a second."""
    pictures = _pictures()
    topics = [
        Topic(f"/cam{place}/image/compressed", "sensor_msgs/msg/CompressedImage", rate, _camera(place, pictures))
        for place, rate in enumerate(CAMERAS_HZ)
    ]
    lidar = Topic("/lidar/points", "sensor_msgs/msg/PointCloud2", 10, _cloud)
    _write_ros2(path, compression, seconds, [*_telemetry(), *topics, lidar])


def _write_ros2(path: Path, compression: str, seconds: float, topics: list[Topic]) -> None:
    from rosbags.typesys import Stores, get_typestore

    types = get_typestore(Stores.ROS2_HUMBLE)
    with path.open("wb") as file:
        writer = Writer(file, chunk_size=CHUNK_BYTES, compression=COMPRESSION[compression], enable_data_crcs=True)
        writer.start(profile="ros2", library="bench")
        channels = []
        for topic in topics:
            definition, _ = types.generate_msgdef(topic.type, ros_version=2)
            schema = writer.register_schema(name=topic.type, encoding="ros2msg", data=definition.encode())
            channels.append(writer.register_channel(topic=topic.name, message_encoding="cdr", schema_id=schema))
        for place, stamp_ns, number, data in _messages(topics, seconds):
            writer.add_message(
                channel_id=channels[place],
                log_time=stamp_ns + LATENCY_NS,
                data=data,
                publish_time=stamp_ns,
                sequence=number,
            )
        writer.finish()


def _messages(topics: list[Topic], seconds: float) -> Iterator[tuple[int, int, int, bytes]]:
    """Place of the topic, publish stamp, number and bytes, in the order of the stamps, with some jitter."""
    rng = np.random.default_rng(5)
    due = [(int(rng.integers(0, 10**7)), place, 0) for place in range(len(topics))]
    heapq.heapify(due)
    while due:
        after_ns, place, number = heapq.heappop(due)
        if after_ns <= seconds * 1e9:
            yield place, START_NS + after_ns, number, bytes(topics[place].encode(rng, START_NS + after_ns, number))
            following = int((number + 1) * 1e9 / topics[place].rate_hz) + int(rng.integers(0, 10**6))
            heapq.heappush(due, (following, place, number + 1))


def telemetry_messages(seconds: float) -> Iterator[tuple[str, str, int, int, bytes]]:
    """Topic, type, publish stamp, number and CDR bytes of the telemetry."""
    topics = _telemetry()
    for place, stamp_ns, number, data in _messages(topics, seconds):
        yield topics[place].name, topics[place].type, stamp_ns, number, data


def _location_fix() -> type[Message]:
    """A message class like foxglove.LocationFix, with a stamp and a nested position; made without a compiler."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2

    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="bench.proto", package="bench", syntax="proto3")
    file.dependency.append(timestamp_pb2.DESCRIPTOR.name)
    vector = file.message_type.add(name="Vector3")
    for number, name in enumerate(("x", "y", "z"), 1):
        vector.field.add(name=name, number=number, type=kinds.TYPE_DOUBLE, label=kinds.LABEL_OPTIONAL)
    fix = file.message_type.add(name="Fix")
    optional = kinds.LABEL_OPTIONAL
    fix.field.add(name="timestamp", number=1, type=kinds.TYPE_MESSAGE, label=optional, type_name=".google.protobuf.Timestamp")
    fix.field.add(name="frame_id", number=2, type=kinds.TYPE_STRING, label=optional)
    for number, name in enumerate(("latitude", "longitude", "altitude"), 3):
        fix.field.add(name=name, number=number, type=kinds.TYPE_DOUBLE, label=optional)
    fix.field.add(name="velocity", number=6, type=kinds.TYPE_MESSAGE, label=optional, type_name=".bench.Vector3")
    fix.field.add(name="satellites", number=7, type=kinds.TYPE_UINT32, label=optional)
    fix.field.add(name="covariance", number=8, type=kinds.TYPE_DOUBLE, label=kinds.LABEL_REPEATED)
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(timestamp_pb2.DESCRIPTOR.serialized_pb)
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("bench.Fix"))


def write_protobuf(path: Path, count: int) -> None:
    """``count`` protobuf messages on one topic, zstd."""
    from mcap_protobuf.writer import Writer as ProtobufWriter

    message_type = _location_fix()
    rng = np.random.default_rng(0)
    with path.open("wb") as file, ProtobufWriter(file, compression=CompressionType.ZSTD) as writer:
        for number, velocity in enumerate(rng.normal(size=(count, 3)).tolist()):
            stamp_ns = START_NS + number * 10_000_000
            message = message_type(frame_id="gps", latitude=48.1 + number * 1e-6, longitude=11.5, altitude=500.0)
            message.timestamp.FromNanoseconds(stamp_ns)
            message.velocity.x, message.velocity.y, message.velocity.z = velocity
            message.satellites = number % 14
            message.covariance.extend([1.0] * 9)
            writer.write_message("/fix", message, stamp_ns, stamp_ns, number)
