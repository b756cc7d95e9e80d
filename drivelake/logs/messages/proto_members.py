"""Protobuf descriptors as members of messages. Belongs here: FileDescriptorSets, types of fields, presence, columns.

Never here: bytes of messages, values.

Schemas are serialised FileDescriptorSets, as MCAP keeps them. A nested message becomes dotted columns, which are null where it
is not set, and so is every field that knows presence (`optional`, `oneof`, proto2). ``google.protobuf.Timestamp`` and
``Duration`` become ns; an enum stays its number, with the names as JSON in the field's metadata ``values``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING

import pyarrow as pa

from drivelake.errors import UnsupportedLog
from drivelake.logs.arrow import AnyField
from drivelake.logs.messages.block import Channel
from drivelake.logs.messages.interfaces import UNITS, column_name
from drivelake.logs.messages.rows import COLUMNS_MAX, NESTED_MAX, unsupported

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor, FieldDescriptor

__all__ = ["Member", "compile_members", "fields_of", "read_descriptor", "struct_type"]

STAMPS = ("google.protobuf.Timestamp", "google.protobuf.Duration")
WELL_KNOWN = {
    f"google/protobuf/{name}.proto": f"google.protobuf.{name}_pb2"
    for name in ("any", "duration", "empty", "field_mask", "struct", "timestamp", "wrappers")
}
# CPPTYPE and TYPE of a field, https://protobuf.dev/reference/cpp/api-docs/google.protobuf.descriptor
CODES = {1: "i4", 2: "i8", 3: "u4", 4: "u8", 5: "f8", 6: "f4", 7: "?", 8: "i4"}
CPP_ENUM, CPP_STRING, CPP_MESSAGE = 8, 9, 10
TYPE_GROUP, TYPE_BYTES = 10, 12
FIXED, ZIGZAG = (1, 2, 6, 7, 15, 16), (17, 18)
TYPES: dict[str, pa.DataType] = {
    "text": pa.string(),
    "bytes": pa.binary(),
    "stamp": pa.int64(),
    "?": pa.bool_(),
    "i4": pa.int32(),
    "i8": pa.int64(),
    "u4": pa.uint32(),
    "u8": pa.uint64(),
    "f4": pa.float32(),
    "f8": pa.float64(),
}


@dataclass(frozen=True)
class Member:
    """One field of a message.

    Attributes:
        name: of the field.
        number: of the field.
        column: its name as a column.
        presence: whether it can be absent.
        shape: ``one`` value, ``several``, or a ``map``.
        code: of numbers, for numpy; ``text``, ``bytes``, ``stamp`` or ``group``.
        coding: of numbers on the wire: ``varint``, ``zigzag`` or ``fixed``.
        closed: the values that an enum of proto2 may have; others are not set. Empty where all may be.
        choice: name of the `oneof` that it is part of.
        plain: whether there are no maps, groups and required fields, down to the last nested message.
        group: the members of a nested message, or key and value of a map.
        leaves: values of which it consists, 1 for anything but a nested message.
        depth: messages inside of each other, itself included.
        metadata: of the column.
    """

    name: str
    number: int
    column: str
    presence: bool
    shape: str
    code: str
    coding: str
    closed: tuple[int, ...]
    choice: str
    plain: bool
    group: tuple[Member, ...]
    leaves: int
    depth: int
    metadata: dict[str, str]

    @property
    def type(self) -> pa.DataType:
        """Of its column, or of its place in a struct."""
        item = struct_type(self.group) if self.code == "group" else TYPES[self.code]
        return item if self.shape == "one" else pa.list_(item)

    @property
    def dotted(self) -> bool:
        """Whether it becomes columns of its own."""
        return (self.shape, self.code) == ("one", "group")


def read_descriptor(channel: Channel) -> Descriptor:
    """The descriptor of the channel's messages.

    Raises:
        UnsupportedLog: the schema is no set of files, or does not define them.
    """
    from google.protobuf.descriptor_pb2 import FileDescriptorSet
    from google.protobuf.descriptor_pool import DescriptorPool
    from google.protobuf.message import DecodeError

    pool = DescriptorPool()
    known: set[str] = set()

    def add(name: str) -> None:
        """A file behind those that it imports; some recorders leave the well-known ones out."""
        if name in known:
            return
        known.add(name)
        if name in files:
            for dependency in files[name].dependency:
                add(dependency)
            pool.AddSerializedFile(files[name].SerializeToString())
        elif name in WELL_KNOWN:
            pool.AddSerializedFile(import_module(WELL_KNOWN[name]).DESCRIPTOR.serialized_pb)

    try:
        files = {file.name: file for file in FileDescriptorSet.FromString(channel.schema).file}
        for name in files:
            add(name)
        return pool.FindMessageTypeByName(channel.schema_name)
    except (DecodeError, TypeError, KeyError, ValueError, RecursionError) as error:
        raise unsupported(
            channel.name, f"its schema {channel.schema_name!r} cannot be used ({type(error).__name__}: {error})"
        ) from None


def compile_members(channel: str, descriptor: Descriptor) -> tuple[Member, ...]:
    """The members of a message, in the order of their declaration.

    Raises:
        UnsupportedLog: it contains itself.
    """
    return _Compiler(channel).members(descriptor)


class _Compiler:
    """Descriptors as members, each message once."""

    def __init__(self, channel: str) -> None:
        self._channel = channel
        self._known: dict[tuple[str, str], tuple[Member, ...]] = {}

    def members(self, descriptor: Descriptor, unit: str = "", inside: tuple[str, ...] = ()) -> tuple[Member, ...]:
        if descriptor.full_name in inside:
            raise unsupported(self._channel, f"the message {descriptor.full_name} contains itself")
        if len(inside) > NESTED_MAX:
            raise self._large(descriptor.full_name)
        key = (descriptor.full_name, unit)
        if key not in self._known:
            inside = (*inside, descriptor.full_name)
            self._known[key] = tuple(self._member(descriptor, field, unit, inside) for field in descriptor.fields)
        return self._known[key]

    def _member(self, owner: Descriptor, field: FieldDescriptor, unit: str, inside: tuple[str, ...]) -> Member:
        metadata = {"unit": UNITS.get((owner.full_name, field.name), unit), "source_unit": ""}
        group: tuple[Member, ...] = ()
        closed: tuple[int, ...] = ()
        shape = "several" if field.is_repeated else "one"
        code = CODES.get(field.cpp_type, "bytes" if field.type == TYPE_BYTES else "text")
        if field.cpp_type == CPP_MESSAGE:
            is_map = field.message_type.GetOptions().map_entry
            shape = "map" if is_map else shape
            stamp = field.message_type.full_name in STAMPS and [f.name for f in field.message_type.fields] == ["seconds", "nanos"]
            code = "stamp" if stamp else "group"
            metadata["unit"] = "ns" if stamp else metadata["unit"]
            group = self.members(field.message_type, metadata["unit"], inside)
            # each message is compiled once, so that only their sums show how often and how deep it is used
            if _leaves(group) > COLUMNS_MAX or _depth(group) > NESTED_MAX:
                raise self._large(field.message_type.full_name)
        elif field.cpp_type == CPP_ENUM:
            numbers = {value.number: value.name for value in reversed(field.enum_type.values)}
            metadata["values"] = json.dumps(numbers)
            closed = tuple(sorted(numbers)) if field.enum_type.is_closed else ()
        return Member(
            name=field.name,
            number=field.number,
            column=field.name if len(inside) > 1 else column_name(owner.full_name, field.name),
            presence=bool(field.has_presence) and not field.is_required,
            shape=shape,
            code=code,
            coding="fixed" if field.type in FIXED else "zigzag" if field.type in ZIGZAG else "varint",
            closed=closed,
            choice=field.containing_oneof.name if field.containing_oneof else "",
            plain=shape != "map" and field.type != TYPE_GROUP and not field.is_required and all(member.plain for member in group),
            group=group,
            leaves=_leaves(group) or 1,
            depth=_depth(group) + 1,
            metadata=metadata,
        )

    def _large(self, message: str) -> UnsupportedLog:
        reason = f"the message {message} nests others more than {NESTED_MAX} deep, or has more than {COLUMNS_MAX} values"
        return unsupported(self._channel, reason)


def _leaves(members: tuple[Member, ...]) -> int:
    return sum(member.leaves for member in members)


def _depth(members: tuple[Member, ...]) -> int:
    return max((member.depth for member in members), default=0)


def struct_type(members: tuple[Member, ...]) -> pa.DataType:
    """Of a nested message inside of a list."""
    return pa.struct([pa.field(member.column, member.type) for member in members])


def fields_of(members: tuple[Member, ...], prefix: str, *, nullable: bool) -> Iterator[AnyField]:
    """The columns of a message, depth first."""
    for member in members:
        name = f"{prefix}{member.column}"
        if member.dotted:
            yield from fields_of(member.group, f"{name}.", nullable=nullable or member.presence)
        else:
            yield pa.field(name, member.type, nullable=nullable or member.presence, metadata=member.metadata)
