"""ROS 2 message definitions as Arrow columns. Belongs here: parsing definitions, flattening, column types, units.

Never here: bytes of messages, where they come from.

Definitions: https://docs.ros.org, "Interfaces"; units: REP 103.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import cast

import numpy as np
import pyarrow as pa
from mcap.records import Schema
from mcap_ros2._vendor.rosidl_adapter.parser import (
    InvalidSpecification,
    InvalidValue,
    MessageSpecification,
    Type,
    parse_message_string,
)

from drivelake.errors import UnsupportedLog

__all__ = ["PRIMITIVES", "Definitions", "Leaf", "has_header", "leaves", "parse_definitions", "short_name", "with_builtins"]

Definitions = dict[str, MessageSpecification]

SECTION = re.compile(r"^={3,}$", re.MULTILINE)
BUILTIN = rb"^MSG:\s+builtin_interfaces/(?:msg/)?%s$"
SECTION_NAME = re.compile(r"\A\s*MSG:\s+(\S+)$", re.MULTILINE)

PRIMITIVES: dict[str, pa.DataType] = {
    "bool": pa.bool_(),
    "byte": pa.uint8(),
    "uint8": pa.uint8(),
    "int8": pa.int8(),
    "uint16": pa.uint16(),
    "int16": pa.int16(),
    "uint32": pa.uint32(),
    "int32": pa.int32(),
    "uint64": pa.uint64(),
    "int64": pa.int64(),
    "float32": pa.float32(),
    "float64": pa.float64(),
    "string": pa.string(),
}

# Units of the standard interfaces, by message and field; a unit holds for everything below its field. ROS 2 messages carry
# no units, so this is the documentation of the interfaces as a table. Values are never converted: latitudes stay degrees.
UNITS = {
    ("sensor_msgs/Imu", "angular_velocity"): "rad/s",
    ("sensor_msgs/Imu", "linear_acceleration"): "m/s^2",
    ("sensor_msgs/Imu", "orientation"): "1",
    ("sensor_msgs/NavSatFix", "latitude"): "deg",
    ("sensor_msgs/NavSatFix", "longitude"): "deg",
    ("sensor_msgs/NavSatFix", "altitude"): "m",
    ("sensor_msgs/NavSatFix", "position_covariance"): "m^2",
    ("sensor_msgs/MagneticField", "magnetic_field"): "T",
    ("sensor_msgs/FluidPressure", "fluid_pressure"): "Pa",
    ("sensor_msgs/Temperature", "temperature"): "degC",
    ("geometry_msgs/Twist", "linear"): "m/s",
    ("geometry_msgs/Twist", "angular"): "rad/s",
    ("geometry_msgs/Accel", "linear"): "m/s^2",
    ("geometry_msgs/Accel", "angular"): "rad/s^2",
    ("geometry_msgs/Pose", "position"): "m",
    ("geometry_msgs/Pose", "orientation"): "1",
    ("geometry_msgs/PointStamped", "point"): "m",
    ("geometry_msgs/Transform", "translation"): "m",
    ("geometry_msgs/Transform", "rotation"): "1",
    ("geometry_msgs/Wrench", "force"): "N",
    ("geometry_msgs/Wrench", "torque"): "N.m",
}


@dataclass(frozen=True)
class Leaf:
    """A column: where its value stands in the decoded message, and its type."""

    path: str
    column: str
    type: pa.DataType
    unit: str
    convert: Callable[[object], object] | None


def short_name(name: str) -> str:
    """``sensor_msgs/msg/Imu`` -> ``sensor_msgs/Imu``, as definitions refer to each other."""
    parts = name.split("/")
    return f"{parts[0]}/{parts[-1]}"


def with_builtins(schema: Schema) -> Schema:
    """The schema with the two definitions that recorders leave out; without them the decoder reads seconds as unsigned."""
    missing = [name for name in (b"Time", b"Duration") if not re.search(BUILTIN % name, schema.data, re.MULTILINE)]
    sections = (b"\n===\nMSG: builtin_interfaces/%s\nint32 sec\nuint32 nanosec\n" % name for name in missing)
    return Schema(id=schema.id, data=schema.data + b"".join(sections), encoding=schema.encoding, name=schema.name)


def parse_definitions(schema: Schema, channel: str) -> Definitions:
    """Every message definition of a schema, by short name.

    Raises:
        UnsupportedLog: the text is no list of ROS 2 definitions.
    """
    try:
        return dict(_sections(schema))
    except (InvalidSpecification, InvalidValue, NameError, ValueError, IndexError, TypeError) as error:
        raise UnsupportedLog(
            f"The schema {schema.name!r} of channel {channel!r} cannot be parsed: {type(error).__name__}: {error}.",
            next_step="record the log again with a ros2msg schema",
        ) from None


def _sections(schema: Schema) -> Iterator[tuple[str, MessageSpecification]]:
    """The first section is the message itself, the others name theirs."""
    for place, section in enumerate(SECTION.split(schema.data.decode("utf-8"))):
        match = SECTION_NAME.match(section)
        if place and not match:
            raise ValueError(f"section {place + 1} does not name its message")
        short = short_name(match.group(1) if match else schema.name)
        package, name = short.split("/")
        yield short, parse_message_string(package, name, SECTION_NAME.sub("", section).strip())


def has_header(spec: MessageSpecification) -> bool:
    """Whether a message has the standard header, whose stamp is the sensor's."""
    return any(
        f.name == "header" and not f.type.is_array and (f.type.pkg_name, f.type.type) == ("std_msgs", "Header")
        for f in spec.fields
    )


def leaves(
    spec: MessageSpecification, definitions: Definitions, channel: str, prefix: str = "", inherited: str = ""
) -> Iterator[Leaf]:
    """The columns of a definition, depth first, in the order of its fields."""
    for field in spec.fields:
        path = f"{prefix}{field.name}"
        if path == "header" and has_header(spec):
            yield Leaf("header.frame_id", "frame_id", pa.string(), "", None)
            continue
        unit = UNITS.get((f"{spec.base_type.pkg_name}/{spec.msg_name}", field.name), inherited)
        if _is_nested(field.type) and not field.type.is_array:
            yield from leaves(_definition(field.type, definitions, channel), definitions, channel, f"{path}.", unit)
        else:
            yield Leaf(path, path, _arrow_type(field.type, definitions, channel), unit, _converter(field.type))


def _is_nested(kind: Type) -> bool:
    return kind.pkg_name is not None


def _definition(kind: Type, definitions: Definitions, channel: str) -> MessageSpecification:
    name = f"{kind.pkg_name}/{kind.type}"
    if name not in definitions:
        raise UnsupportedLog(
            f"The schema of channel {channel!r} uses {name}, which it does not define.", next_step="record the log again"
        )
    return definitions[name]


def _arrow_type(kind: Type, definitions: Definitions, channel: str) -> pa.DataType:
    if _is_nested(kind):
        spec = _definition(kind, definitions, channel)
        item: pa.DataType = pa.struct([pa.field(f.name, _arrow_type(f.type, definitions, channel)) for f in spec.fields])
    elif kind.type in PRIMITIVES:
        item = PRIMITIVES[kind.type]
    else:
        # mcap_ros2 reads `char` as signed, ROS 2 defines it as unsigned; it does not read wide strings at all
        raise UnsupportedLog(
            f"Channel {channel!r} has a field of type {kind.type!r}, which cannot be read.", next_step="leave it out"
        )
    if not kind.is_array:
        return item
    return pa.list_(item) if kind.array_size is None or kind.is_upper_bound else pa.list_(item, kind.array_size)


def _converter(kind: Type) -> Callable[[object], object] | None:
    """What stands between the decoder's value and Arrow's; none for most."""
    if _is_nested(kind):
        return _plain
    if kind.is_array and kind.type in ("uint8", "byte"):
        return lambda value: np.frombuffer(cast("bytes", value), np.uint8)
    return None


def _plain(value: object) -> object:
    """Nested messages as dicts, byte sequences as lists."""
    if isinstance(value, list):
        return [_plain(item) for item in value]
    if isinstance(value, bytes):
        return list(value)
    if isinstance(value, SimpleNamespace):
        return {name: _plain(getattr(value, name)) for name in value.__slots__}
    return value
