"""Foxglove's schemas, as far as they are written. Belongs here: their fields, and values as messages of them.

Never here: files, what is shown.

Source: https://docs.foxglove.dev/docs/sdk/schemas. Names and types are Foxglove's; readers find fields by the descriptor that
every file carries.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from functools import cache
from typing import NamedTuple

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, timestamp_pb2
from google.protobuf.message import Message

from drivelake.viewer.scene import (
    LOCAL_FRAME,
    VEHICLE_FRAME,
    Cloud,
    EgoPose,
    Fix,
    Mount,
    Path2D,
    Payload,
    Picture,
    Pixels,
    Video,
)

__all__ = ["descriptors", "ego_messages", "fix_message", "mounts_message", "path_message", "payload_message", "signal_schema"]

PACKAGE = "foxglove"
TIME = "google.protobuf.Timestamp"
NUMERIC = ("UNKNOWN", "UINT8", "INT8", "UINT16", "INT16", "UINT32", "INT32", "FLOAT32", "FLOAT64")
NS_PER_S = 1_000_000_000
# what Foxglove's RawImage takes; of ROS' further names these mean the same
ENCODINGS = {name: name for name in (
    "8UC1", "8UC3", "16UC1", "32FC1", "mono8", "mono16", "rgb8", "rgba8", "bgr8", "bgra8", "bayer_rggb8", "bayer_bggr8",
    "bayer_gbrg8", "bayer_grbg8", "uyvy", "yuyv", "yuv422", "yuv422_yuy2",
)}  # fmt: skip


class Member(NamedTuple):
    """A field: its number, and its type or the message it holds."""

    name: str
    number: int
    kind: str
    repeated: bool = False


MESSAGES: Mapping[str, tuple[Member, ...]] = {
    "Vector3": tuple(Member(axis, number, "double") for number, axis in enumerate("xyz", start=1)),
    "Quaternion": tuple(Member(axis, number, "double") for number, axis in enumerate("xyzw", start=1)),
    "Pose": (Member("position", 1, "Vector3"), Member("orientation", 2, "Quaternion")),
    "PackedElementField": (
        Member("name", 1, "string"),
        Member("offset", 2, "fixed32"),
        Member("type", 3, "PackedElementField.NumericType"),
    ),
    "CompressedImage": (
        Member("timestamp", 1, TIME),
        Member("frame_id", 4, "string"),
        Member("data", 2, "bytes"),
        Member("format", 3, "string"),
    ),
    "RawImage": (
        Member("timestamp", 1, TIME),
        Member("frame_id", 7, "string"),
        Member("width", 2, "fixed32"),
        Member("height", 3, "fixed32"),
        Member("encoding", 4, "string"),
        Member("step", 5, "fixed32"),
        Member("data", 6, "bytes"),
    ),
    "CompressedVideo": (
        Member("timestamp", 1, TIME),
        Member("frame_id", 2, "string"),
        Member("data", 3, "bytes"),
        Member("format", 4, "string"),
    ),
    "PointCloud": (
        Member("timestamp", 1, TIME),
        Member("frame_id", 2, "string"),
        Member("pose", 3, "Pose"),
        Member("point_stride", 4, "fixed32"),
        Member("fields", 5, "PackedElementField", repeated=True),
        Member("data", 6, "bytes"),
    ),
    "PoseInFrame": (Member("timestamp", 1, TIME), Member("frame_id", 2, "string"), Member("pose", 3, "Pose")),
    "PosesInFrame": (
        Member("timestamp", 1, TIME),
        Member("frame_id", 2, "string"),
        Member("poses", 3, "Pose", repeated=True),
    ),
    "FrameTransform": (
        Member("timestamp", 1, TIME),
        Member("parent_frame_id", 2, "string"),
        Member("child_frame_id", 3, "string"),
        Member("translation", 4, "Vector3"),
        Member("rotation", 5, "Quaternion"),
    ),
    "FrameTransforms": (Member("transforms", 1, "FrameTransform", repeated=True),),
    "LocationFix": (
        Member("latitude", 1, "double"),
        Member("longitude", 2, "double"),
        Member("altitude", 3, "double"),
        Member("position_covariance", 4, "double", repeated=True),
        Member("position_covariance_type", 5, "LocationFix.PositionCovarianceType"),
        Member("timestamp", 6, TIME),
        Member("frame_id", 7, "string"),
    ),
}
ENUMS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "PackedElementField": ("NumericType", NUMERIC),
    "LocationFix": ("PositionCovarianceType", ("UNKNOWN", "APPROXIMATED", "DIAGONAL_KNOWN", "KNOWN")),
}
SCALARS = {
    "double": descriptor_pb2.FieldDescriptorProto.TYPE_DOUBLE,
    "fixed32": descriptor_pb2.FieldDescriptorProto.TYPE_FIXED32,
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
}


@cache
def descriptors() -> bytes:
    """All messages written, and what they use, as the ``FileDescriptorSet`` that an MCAP schema holds."""
    return bytes(descriptor_pb2.FileDescriptorSet(file=_files()).SerializeToString(deterministic=True))


def _files() -> list[descriptor_pb2.FileDescriptorProto]:
    """Google's timestamp, and Foxglove's messages."""
    time = descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(time)
    file = descriptor_pb2.FileDescriptorProto(
        name="foxglove/schemas.proto", package=PACKAGE, syntax="proto3", dependency=[time.name]
    )
    for name, members in MESSAGES.items():
        described = file.message_type.add(name=name)
        if name in ENUMS:
            enumeration, values = ENUMS[name]
            numbered = described.enum_type.add(name=enumeration)
            for number, value in enumerate(values):
                numbered.value.add(name=value, number=number)
        for member in members:
            _add(described, member)
    return [time, file]


def _add(described: descriptor_pb2.DescriptorProto, member: Member) -> None:
    proto = descriptor_pb2.FieldDescriptorProto
    label = proto.LABEL_REPEATED if member.repeated else proto.LABEL_OPTIONAL
    field = described.field.add(name=member.name, number=member.number, label=label)
    if member.kind in SCALARS:
        field.type = SCALARS[member.kind]
        return
    field.type = proto.TYPE_ENUM if member.kind.split(".")[0] in ENUMS and "." in member.kind else proto.TYPE_MESSAGE
    field.type_name = f".{member.kind}" if member.kind == TIME else f".{PACKAGE}.{member.kind}"


@cache
def _class(name: str) -> type[Message]:
    found: type[Message] = message_factory.GetMessageClass(_pool().FindMessageTypeByName(f"{PACKAGE}.{name}"))
    return found


@cache
def _pool() -> descriptor_pool.DescriptorPool:
    pool = descriptor_pool.DescriptorPool()  # of its own: the default pool belongs to every library of the process
    for file in _files():
        pool.Add(file)
    return pool


def _bytes(name: str, t_ns: int, **fields: object) -> tuple[str, bytes]:
    """Name of the schema, and the message."""
    message = _class(name)(timestamp=_time(t_ns), **fields)
    return f"{PACKAGE}.{name}", bytes(message.SerializeToString(deterministic=True))


def _time(t_ns: int) -> dict[str, int]:
    seconds, nanos = divmod(t_ns, NS_PER_S)
    return {"seconds": seconds, "nanos": nanos}


def payload_message(t_ns: int, shown: Payload) -> tuple[str, bytes] | str:
    """Schema and message of a picture, cloud or picture of a video; or why there is none."""
    if isinstance(shown, Picture):
        return _bytes("CompressedImage", t_ns, frame_id=shown.frame_id, data=shown.data, format=shown.format)
    if isinstance(shown, Video):
        return _bytes("CompressedVideo", t_ns, frame_id=shown.frame_id, data=shown.data, format=shown.format)
    if isinstance(shown, Pixels):
        encoding = ENCODINGS.get(shown.encoding)
        if encoding is None:
            return f"its encoding {shown.encoding!r} is none that Foxglove shows"
        size = {"width": shown.width, "height": shown.height, "step": shown.step}
        return _bytes("RawImage", t_ns, frame_id=shown.frame_id, encoding=encoding, data=shown.data, **size)
    return _cloud(t_ns, shown)


def _cloud(t_ns: int, cloud: Cloud) -> tuple[str, bytes]:
    fields = [{"name": f.name, "offset": f.offset, "type": NUMERIC.index(f.type)} for f in cloud.fields]
    here = {"position": {}, "orientation": {"w": 1.0}}
    return _bytes(
        "PointCloud", t_ns, frame_id=cloud.frame_id, pose=here, point_stride=cloud.stride, fields=fields, data=cloud.data
    )


def _pose(pose: EgoPose) -> dict[str, dict[str, float]]:
    return {"position": _position(pose), "orientation": _rotation(pose)}


def _position(pose: EgoPose) -> dict[str, float]:
    return {"x": pose.x_m, "y": pose.y_m, "z": pose.z_m}


def _rotation(pose: EgoPose) -> dict[str, float]:
    return {"z": math.sin(pose.yaw_rad / 2), "w": math.cos(pose.yaw_rad / 2)}


def ego_messages(t_ns: int, pose: EgoPose) -> tuple[tuple[str, bytes], tuple[str, bytes]]:
    """The pose, and the transform from ``LOCAL_FRAME`` to the vehicle that 3D views follow."""
    return (
        _bytes("PoseInFrame", t_ns, frame_id=LOCAL_FRAME, pose=_pose(pose)),
        _bytes(
            "FrameTransform",
            t_ns,
            parent_frame_id=LOCAL_FRAME,
            child_frame_id=VEHICLE_FRAME,
            translation=_position(pose),
            rotation=_rotation(pose),
        ),
    )


def mounts_message(t_ns: int, mounts: tuple[Mount, ...]) -> tuple[str, bytes]:
    """The frames of a calibration in one message."""
    transforms = [
        {
            "timestamp": _time(t_ns),
            "parent_frame_id": mount.parent,
            "child_frame_id": mount.frame,
            "translation": dict(zip("xyz", mount.translation_m, strict=True)),
            "rotation": dict(zip("xyzw", mount.rotation_xyzw, strict=True)),
        }
        for mount in mounts
    ]
    message = _class("FrameTransforms")(transforms=transforms)
    return f"{PACKAGE}.FrameTransforms", bytes(message.SerializeToString(deterministic=True))


def path_message(t_ns: int, poses: Path2D) -> tuple[str, bytes]:
    """The whole trajectory."""
    return _bytes("PosesInFrame", t_ns, frame_id=LOCAL_FRAME, poses=[_pose(pose) for pose in poses])


def fix_message(t_ns: int, fix: Fix) -> tuple[str, bytes]:
    """A position for maps."""
    return _bytes("LocationFix", t_ns, latitude=fix.latitude, longitude=fix.longitude, frame_id=VEHICLE_FRAME)


def signal_schema(sensor: str, unit: str, members: tuple[str, ...]) -> bytes:
    """JSON Schema of a signal's messages, with its unit."""
    described = {member: {"type": "number", "description": unit or "unit not declared"} for member in members}
    schema = {"title": sensor, "type": "object", "properties": described, "required": list(members)}
    return json.dumps(schema, sort_keys=True).encode()
