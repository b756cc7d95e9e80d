"""ROS 2 messages as rows of a table. Belongs here: decoding, stamps, picture pointers.

Never here: where messages come from, which of them are wanted, definitions and column types (ros2_schema).

Encoding: CDR as ROS 2 writes it, OMG DDSI-RTPS 2.3 section 10 and XCDR version 1: four bytes of encapsulation header, then
values aligned to their size, counted from the fifth byte.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Callable
from operator import attrgetter
from types import SimpleNamespace
from typing import SupportsIndex, cast

import pyarrow as pa
from mcap.exceptions import McapError
from mcap.records import Channel, Schema
from mcap_ros2._vendor.rosidl_adapter.parser import MessageSpecification
from mcap_ros2.decoder import DecoderFactory

from drivelake.errors import LogDamaged, UnsupportedLog
from drivelake.logs.mcap.records import RESTORE
from drivelake.logs.mcap.walk import Message
from drivelake.logs.messages.ros2_schema import PRIMITIVES, Definitions, has_header, leaves, parse_definitions, short_name, with_builtins

__all__ = ["PictureRows", "Rows", "ValueRows", "open_rows", "unsupported_reason"]

CDR_BIG_ENDIAN, CDR_LITTLE_ENDIAN = 0, 1

# Messages that carry a picture as their last field, `data`: its other fields behind the header, and the column of each.
PICTURES: dict[str, tuple[tuple[str, str, str], ...]] = {
    "sensor_msgs/CompressedImage": (("format", "string", "format"),),
    "sensor_msgs/Image": (
        ("height", "uint32", "height"),
        ("width", "uint32", "width"),
        ("encoding", "string", "format"),
        ("is_bigendian", "uint8", "is_bigendian"),
        ("step", "uint32", "step"),
    ),
}

STAMP_FIELDS = (
    pa.field("t_ns", pa.int64(), nullable=False),
    pa.field("publish_ns", pa.int64(), nullable=False),
    pa.field("sensor_ns", pa.int64()),
)
POINTER_FIELDS = tuple(pa.field(f"payload_{part}", pa.int64(), nullable=False) for part in ("chunk", "offset", "bytes"))


def unsupported_reason(channel: Channel, schema: Schema | None) -> str:
    """Why the messages of a channel cannot become a table, or nothing."""
    if channel.message_encoding != "cdr":
        return f"its messages are encoded as {channel.message_encoding!r}, only 'cdr' is read"
    if schema is None:
        return "it has no schema"
    if schema.encoding != "ros2msg":
        return f"its schema {schema.name!r} is written in {schema.encoding!r}, only 'ros2msg' is read"
    return ""


def open_rows(channel: Channel, schema: Schema | None) -> PictureRows | ValueRows:
    """The rows of a channel, empty.

    Raises:
        UnsupportedLog: another encoding than CDR, a schema that cannot be parsed, or a field type without a column type.
    """
    if (reason := unsupported_reason(channel, schema)) or schema is None:
        raise UnsupportedLog(
            f"Channel {channel.topic!r} cannot be read: {reason}.", next_step="select the other channels by name"
        )
    schema = with_builtins(schema)
    definitions = parse_definitions(schema, channel.topic)
    short = short_name(schema.name)
    if short in PICTURES:
        return PictureRows(channel.topic, schema.name, definitions[short])
    try:
        return ValueRows(channel.topic, schema, definitions)
    except RecursionError:
        raise UnsupportedLog(
            f"The schema {schema.name!r} of channel {channel.topic!r} contains itself.", next_step="record the log again"
        ) from None


class Rows:
    """Messages of one channel on their way into a record batch."""

    def __init__(self, channel: str, kind: str, fields: tuple[pa.Field[pa.DataType], ...]) -> None:
        self.channel = channel
        self.type = kind
        self.schema = pa.schema(fields)
        self.bytes = 0
        self._rows: list[tuple[object, ...]] = []

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, message: Message) -> None:
        """One more message.

        Raises:
            LogDamaged: its bytes do not hold what its definition says.
            UnsupportedLog: an encapsulation other than plain CDR.
        """
        if len(message.data) < 4:
            raise self.damaged(message, f"{len(message.data)} bytes, the encapsulation header alone needs 4")
        if message.data[1] not in (CDR_BIG_ENDIAN, CDR_LITTLE_ENDIAN):
            raise UnsupportedLog(
                f"Channel {self.channel!r}: the message at {message.place} has CDR encapsulation"
                f" {message.data[1]}, expected 0 or 1.",
                next_step="select the other channels by name",
            )
        self._rows.append((message.log_ns, message.publish_ns, *self.values(message)))
        self.bytes += self.weight(message)

    def values(self, message: Message) -> tuple[object, ...]:
        """Everything behind the receive and publish stamp."""
        raise NotImplementedError

    def weight(self, message: Message) -> int:
        """Bytes of memory that a row of this message holds, roughly."""
        raise NotImplementedError

    def take(self) -> pa.RecordBatch:
        """The rows so far, which are forgotten here."""
        columns = list(zip(*self._rows, strict=True)) if self._rows else [()] * len(self.schema)
        self._rows, self.bytes = [], 0
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self.schema, strict=True)]
        return pa.RecordBatch.from_arrays(arrays, schema=self.schema)

    def damaged(self, message: Message, why: str) -> LogDamaged:
        """The error for a message that contradicts its definition."""
        return LogDamaged(
            f"Channel {self.channel!r}: the message at {message.place} is no {self.type}: {why}.", next_step=RESTORE
        )


class _Bounded(bytes):
    """The decoder slices strings and byte sequences; a slice beyond the end would silently be short."""

    def __getitem__(self, key: SupportsIndex | slice) -> bytes:  # type: ignore[override]  # only slices come here
        if isinstance(key, slice) and key.stop > len(self):
            raise IndexError(f"it ends after {len(self)} bytes, a field reaches to {key.stop}")
        return cast("bytes", super().__getitem__(key))


class ValueRows(Rows):
    """Messages whose values become columns, one a scalar, dotted by nesting; arrays become lists."""

    def __init__(self, channel: str, schema: Schema, definitions: Definitions) -> None:
        spec = definitions[short_name(schema.name)]
        self._stamped = has_header(spec)
        self._leaves = tuple(leaves(spec, definitions, channel))
        names = Counter(field.name for field in STAMP_FIELDS)
        decode = DecoderFactory().decoder_for("cdr", schema)
        if decode is None:
            raise UnsupportedLog(
                f"Channel {channel!r}: no decoder for {schema.name!r}.", next_step="select the other channels by name"
            )
        self._decode: Callable[[bytes], SimpleNamespace] = decode
        self._get = attrgetter(*(leaf.path for leaf in self._leaves)) if self._leaves else None
        fields = []
        for leaf in self._leaves:
            names[leaf.column] += 1
            name = leaf.column if names[leaf.column] == 1 else f"{leaf.column}#{names[leaf.column]}"
            fields.append(pa.field(name, leaf.type, nullable=False, metadata={"unit": leaf.unit, "source_unit": ""}))
        super().__init__(channel, schema.name, (*STAMP_FIELDS, *fields))

    def values(self, message: Message) -> tuple[object, ...]:
        """The sensor stamp and one value a leaf."""
        try:
            decoded = self._decode(_Bounded(message.data))
        except (struct.error, IndexError, ValueError, NotImplementedError, MemoryError, McapError) as error:
            raise self.damaged(message, f"{type(error).__name__}: {error}") from None
        found = self._get(decoded) if self._get else ()
        picked = found if len(self._leaves) != 1 else (found,)
        values = (leaf.convert(v) if leaf.convert else v for leaf, v in zip(self._leaves, picked, strict=True))
        return (_stamp_ns(decoded.header.stamp.sec, decoded.header.stamp.nanosec) if self._stamped else None, *values)

    def weight(self, message: Message) -> int:
        """A decoded value takes a Python object, about eight times its bytes."""
        return 8 * len(message.data)


class PictureRows(Rows):
    """Messages with a picture: what describes it, and a pointer to its bytes, which are never kept."""

    def __init__(self, channel: str, kind: str, spec: MessageSpecification) -> None:
        self._layout = PICTURES[short_name(kind)]
        expected = ["header", *(field for field, _, _ in self._layout), "data"]
        found = [field.name for field in spec.fields]
        if found != expected:
            raise UnsupportedLog(
                f"Channel {channel!r}: {kind} has the fields {', '.join(found)}; expected {', '.join(expected)}.",
                next_step="record the standard message",
            )
        described = (pa.field(column, PRIMITIVES[primitive], nullable=False) for _, primitive, column in self._layout)
        frame = pa.field("frame_id", pa.string(), nullable=False)
        super().__init__(channel, kind, (*STAMP_FIELDS, frame, *described, *POINTER_FIELDS))

    def values(self, message: Message) -> tuple[object, ...]:
        """Sensor stamp, frame, description, pointer."""
        cdr = _Cdr(message.data)
        try:
            stamp = _stamp_ns(cdr.integer("i"), cdr.integer("I"))
            frame = cdr.string()
            described = [cdr.read(primitive) for _, primitive, _ in self._layout]
            size = cdr.integer("I")
        except (struct.error, IndexError, UnicodeDecodeError) as error:
            raise self.damaged(message, f"{type(error).__name__}: {error}") from None
        if cdr.position + size > len(message.data):
            raise self.damaged(
                message, f"it ends after {len(message.data)} bytes, its picture would reach to {cdr.position + size}"
            )
        return (stamp, frame, *described, message.chunk, message.offset + cdr.position, size)

    def weight(self, message: Message) -> int:  # noqa: ARG002  (the picture is not kept, so its size does not count)
        """A row of a dozen small objects."""
        return 1024


class _Cdr:
    """Reads the values in front of a picture, in either byte order, without touching the picture."""

    def __init__(self, data: memoryview) -> None:
        self.position = 4
        self._data = data
        self._order = "<" if data[1] == CDR_LITTLE_ENDIAN else ">"

    def integer(self, code: str) -> int:
        size = struct.calcsize(code)
        start = self.position + -(self.position - 4) % size
        (value,) = struct.unpack_from(self._order + code, self._data, start)
        self.position = start + size
        return int(value)

    def string(self) -> str:
        """Length with the closing NUL; some serialisers write 0 for an empty one."""
        end = self.integer("I") + self.position
        if end > len(self._data):
            raise IndexError(f"it ends after {len(self._data)} bytes, a string reaches to {end}")
        text = bytes(self._data[self.position : end])
        self.position = end
        return text.removesuffix(b"\x00").decode("utf-8")

    def read(self, primitive: str) -> int | str:
        return self.string() if primitive == "string" else self.integer({"uint8": "B", "uint32": "I"}[primitive])


def _stamp_ns(seconds: int, nanoseconds: int) -> int | None:
    """Sensor stamp in ns; a stamp of zero means that nobody set it."""
    return seconds * 1_000_000_000 + nanoseconds or None
