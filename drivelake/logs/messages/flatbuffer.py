"""Flatbuffer messages as tables. Belongs here: objects of a schema as columns, payloads.

Never here: offsets (flat_buffer.py), the schema's own format (flat_schema.py).

Nested tables and structs become dotted columns, null where they are not set; vectors become lists. Unions have no column type.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.logs.arrow import AnyArray, AnyField, numbers
from drivelake.logs.findings import Findings
from drivelake.logs.messages.block import Channel
from drivelake.logs.messages.flat_buffer import FlatBuffer
from drivelake.logs.messages.flat_schema import (
    ARRAY,
    OBJECT,
    SCALARS,
    STRING,
    VECTOR,
    FlatField,
    FlatObject,
    FlatSchema,
    FlatType,
    read_schema,
)
from drivelake.logs.messages.interfaces import UNITS, column_name, payload_field, stamp_field
from drivelake.logs.messages.pending import Cut, Held
from drivelake.logs.messages.rows import COLUMNS_MAX, NESTED_MAX, Contradiction, Table, stamp_ns, unsupported
from drivelake.logs.messages.serial import Faulty
from drivelake.logs.messages.values import column_of

__all__ = ["FlatbufferTable"]

UBYTES = FlatType(VECTOR, 4, -1, 0)
TYPES: dict[str, pa.DataType] = {
    "?": pa.bool_(),
    "b": pa.int8(),
    "B": pa.uint8(),
    "h": pa.int16(),
    "H": pa.uint16(),
    "i": pa.int32(),
    "I": pa.uint32(),
    "q": pa.int64(),
    "Q": pa.uint64(),
    "f": pa.float32(),
    "d": pa.float64(),
}


class Leaf(NamedTuple):
    """A column: the fields that lead to it from the root, and what it is called."""

    path: tuple[tuple[FlatObject, FlatField], ...]
    field: AnyField


class FlatbufferTable(Table):
    """Messages that are flatbuffers of one root table.

    Args:
        channel: with encoding ``flatbuffer``; its schema is a binary one.
        findings: told every message whose offsets lead out of it.

    Raises:
        UnsupportedLog: the schema is none, the table contains itself, or it has a union.
    """

    def __init__(self, channel: Channel, findings: Findings) -> None:
        try:
            self._types = read_schema(channel.schema)
        except Contradiction as error:
            raise unsupported(channel.name, f"its schema {channel.schema_name!r} is no binary schema: {error}") from None
        named = [kind for kind in self._types.objects if kind.name == channel.schema_name]
        if not named:
            raise unsupported(channel.name, f"its schema does not define {channel.schema_name!r}")
        root = named[0]
        shapes = _Shapes(channel.name, self._types)
        stamp, payload = stamp_field(root.name), payload_field(root.name)
        leaves = list(shapes.leaves(root, (), "", "", nullable=False))
        self._stamp = [leaf for leaf in leaves if stamp and leaf.field.name in (f"{stamp}.sec", f"{stamp}.nsec")]
        self._payload = next((field for field in root.fields if payload == field.name and _same(field.type, UBYTES)), None)
        self._leaves = [leaf for leaf in leaves if leaf not in self._stamp and leaf.path[0][1] is not self._payload]
        super().__init__(channel, [leaf.field for leaf in self._leaves], findings, self._out if self._payload else None)

    def _out(self, message: memoryview) -> Cut:
        """The message without its payload."""
        buffer = FlatBuffer(message)
        field = self._payload
        place = buffer.field(buffer.root(), field.slot) if field else 0
        if not place:
            return Cut(bytes(message), 0, 0)
        start, count = buffer.vector(place)
        buffer.place(start, count)
        return Cut(bytes(message[:start]) + bytes(message[start + count :]), start, count)

    def _decode(self, held: Held, rows: NDArray[np.int64]) -> tuple[AnyArray, list[AnyArray]]:
        messages = held.messages()
        found: list[list[object]] = []
        stamps: list[int] = []
        wrong: dict[int, str] = {}
        for row in rows.tolist():
            gap = (int(held.payload_at[row]), int(held.payload_bytes[row])) if self._payload else (0, 0)
            try:
                values = self._values(FlatBuffer(messages[row], *gap))
                stamps.append(stamp_ns(*values[-2:]) if len(self._stamp) == 2 else 0)
                found.append(values)
            except Contradiction as error:
                wrong[row] = str(error)
        if wrong:
            raise Faulty(np.array(list(wrong), np.int64), list(wrong.values()))
        leaves = [*self._leaves, *self._stamp]
        lists = list(zip(*found, strict=True)) if found else [()] * len(leaves)
        columns = [column_of(values, leaf.field.type) for values, leaf in zip(lists, leaves, strict=True)]
        sensor = np.array(stamps, np.int64)
        return numbers(sensor, sensor == 0), columns[: len(self._leaves)]

    def _values(self, buffer: FlatBuffer) -> list[object]:
        """One a leaf, stamps last; objects on the way are found once."""
        places: dict[tuple[FlatField, ...], int] = {(): buffer.root()}
        out: list[object] = []
        for leaf in (*self._leaves, *self._stamp):
            way: tuple[FlatField, ...] = ()
            for owner, field in leaf.path[:-1]:
                if (*way, field) not in places:
                    at = _place(buffer, owner, field, places[way])
                    kind = self._types.objects[field.type.target]
                    places[*way, field] = buffer.refer(at) if at and not kind.is_struct else at
                way = (*way, field)
                if not places[way]:
                    break
            owner, field = leaf.path[-1]
            out.append(self._value(buffer, owner, field, places[way]) if places[way] else None)
        return out

    def _value(self, buffer: FlatBuffer, owner: FlatObject, field: FlatField, table: int) -> object:
        at = _place(buffer, owner, field, table)
        kind = field.type
        if not at:
            return field.default
        if kind.base in SCALARS:
            return buffer.number(struct.Struct(f"<{SCALARS[kind.base]}"), at)
        if kind.base == STRING:
            return buffer.text(at)
        if kind.base == OBJECT:
            inner = self._types.objects[kind.target]
            return self._object(buffer, inner, at if inner.is_struct else buffer.refer(at))
        start, count = (at, kind.length) if kind.base == ARRAY else buffer.vector(at)
        return self._items(buffer, kind, start, count)

    def _object(self, buffer: FlatBuffer, kind: FlatObject, place: int) -> dict[str, object]:
        return {field.name: self._value(buffer, kind, field, place) for field in kind.fields}

    def _items(self, buffer: FlatBuffer, kind: FlatType, start: int, count: int) -> list[object]:
        if kind.element in SCALARS:
            code = SCALARS[kind.element]
            return [*buffer.numbers(code, struct.calcsize(f"<{code}"), start, count)]
        if kind.element == STRING:
            buffer.place(start, 4 * count)
            return [buffer.text(start + 4 * number) for number in range(count)]
        inner = self._types.objects[kind.target]
        size = inner.size if inner.is_struct else 4
        buffer.place(start, size * count)
        places = range(start, start + size * count, size)
        return [self._object(buffer, inner, place if inner.is_struct else buffer.refer(place)) for place in places]


def _place(buffer: FlatBuffer, owner: FlatObject, field: FlatField, table: int) -> int:
    return table + field.offset if owner.is_struct else buffer.field(table, field.slot)


def _same(kind: FlatType, other: FlatType) -> bool:
    return (kind.base, kind.element) == (other.base, other.element)


class _Shapes:
    """Objects of a schema as columns."""

    def __init__(self, channel: str, types: FlatSchema) -> None:
        self._channel = channel
        self._types = types
        self._count = 0

    def leaves(
        self, kind: FlatObject, path: tuple[tuple[FlatObject, FlatField], ...], prefix: str, unit: str, *, nullable: bool
    ) -> Iterator[Leaf]:
        self._enter(kind, tuple(owner for owner, _ in path))
        for field in kind.fields:
            own = UNITS.get((kind.name, field.name), unit)
            way = (*path, (kind, field))
            if field.type.base == OBJECT:
                name = f"{prefix}{field.name}."
                yield from self.leaves(self._at(field.type.target), way, name, own, nullable=nullable or not kind.is_struct)
            else:
                name = field.name if path else column_name(kind.name, field.name)
                metadata = {"unit": own, "source_unit": ""}
                if field.type.base in SCALARS and 0 <= field.type.target < len(self._types.enums):
                    metadata["values"] = json.dumps(self._types.enums[field.type.target])
                missing = nullable or (not kind.is_struct and field.default is None)
                arrow = self._type(field.type, tuple(owner for owner, _ in way))
                yield Leaf(way, pa.field(f"{prefix}{name}", arrow, nullable=missing, metadata=metadata))

    def _type(self, kind: FlatType, inside: tuple[FlatObject, ...]) -> pa.DataType:
        if kind.base in (VECTOR, ARRAY):
            item = self._type(FlatType(kind.element, 0, kind.target, 0), inside)
            return pa.list_(item, kind.length) if kind.base == ARRAY else pa.list_(item)
        if kind.base in SCALARS:
            return TYPES[SCALARS[kind.base]]
        if kind.base == STRING:
            return pa.string()
        if kind.base == OBJECT:
            inner = self._at(kind.target)
            self._enter(inner, inside)
            return pa.struct([pa.field(field.name, self._type(field.type, (*inside, inner))) for field in inner.fields])
        raise unsupported(self._channel, f"its schema uses type {kind.base} (16 is a union), which has no column type")

    def _at(self, index: int) -> FlatObject:
        if not 0 <= index < len(self._types.objects):
            raise unsupported(self._channel, f"its schema refers to object {index} of {len(self._types.objects)}")
        return self._types.objects[index]

    def _enter(self, kind: FlatObject, inside: tuple[FlatObject, ...]) -> None:
        if kind in inside:
            raise unsupported(self._channel, f"the table {kind.name} contains itself")
        self._count += 1
        if len(inside) > NESTED_MAX or self._count > COLUMNS_MAX:
            raise unsupported(self._channel, f"it nests more than {NESTED_MAX} tables, or has more than {COLUMNS_MAX} of them")
        if kind.is_struct and kind.size < 1:
            raise unsupported(self._channel, f"the struct {kind.name} has {kind.size} bytes")
