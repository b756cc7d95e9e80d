"""Binary flatbuffer schemas (bfbs). Belongs here: their objects and enums as data.

Never here: messages, columns.

Source: reflection.fbs of flatbuffers 25.12; a slot is the place of a field in its declaration.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

from drivelake.logs.messages.flat_buffer import FlatBuffer
from drivelake.logs.messages.rows import Contradiction

__all__ = ["SCALARS", "FlatField", "FlatObject", "FlatSchema", "FlatType", "read_schema"]

IDENTIFIER = b"BFBS"
DEPRECATED = 6
STRING, VECTOR, OBJECT, UNION, ARRAY = 13, 14, 15, 16, 17
# BaseType of numbers: struct's code
SCALARS = {1: "B", 2: "?", 3: "b", 4: "B", 5: "h", 6: "H", 7: "i", 8: "I", 9: "q", 10: "Q", 11: "f", 12: "d"}
BYTE, USHORT, INT, LONG, DOUBLE, TRUTH = (struct.Struct(f"<{code}") for code in "bHiqd?")


class FlatType(NamedTuple):
    """``base`` and ``element`` are BaseType numbers, ``target`` leads to objects or enums, ``length`` is of arrays."""

    base: int
    element: int
    target: int
    length: int


class FlatField(NamedTuple):
    """A field; ``slot`` in the vtable, ``offset`` in a struct, ``default`` where it is not set (None if it may be missing)."""

    name: str
    type: FlatType
    slot: int
    offset: int
    default: int | float | bool | None


class FlatObject(NamedTuple):
    """A table or a struct of ``size`` bytes; fields in the order of their slots."""

    name: str
    fields: tuple[FlatField, ...]
    is_struct: bool
    size: int


class FlatSchema(NamedTuple):
    """Objects and the names of the values of enums, by index."""

    objects: tuple[FlatObject, ...]
    enums: tuple[dict[int, str], ...]


def read_schema(data: bytes) -> FlatSchema:
    """The schema.

    Raises:
        Contradiction: the bytes are no binary schema.
    """
    if data[4:8] != IDENTIFIER:
        raise Contradiction(f"bytes 4 to 8 are {data[4:8]!r}, expected {IDENTIFIER!r}")
    buffer = FlatBuffer(data)
    root = buffer.root()
    objects = tuple(_object(buffer, table) for table in _tables(buffer, root, 0))
    return FlatSchema(objects, tuple(_enum(buffer, table) for table in _tables(buffer, root, 1)))


def _tables(buffer: FlatBuffer, table: int, slot: int) -> list[int]:
    place = buffer.field(table, slot)
    if not place:
        return []
    start, count = buffer.vector(place)
    buffer.place(start, 4 * count)
    return [buffer.refer(start + 4 * number) for number in range(count)]


def _number(buffer: FlatBuffer, table: int, slot: int, kind: struct.Struct, default: int) -> int:
    place = buffer.field(table, slot)
    return int(buffer.number(kind, place)) if place else default


def _text(buffer: FlatBuffer, table: int, slot: int) -> str:
    place = buffer.field(table, slot)
    return buffer.text(place) if place else ""


def _enum(buffer: FlatBuffer, table: int) -> dict[int, str]:
    return {_number(buffer, value, 1, LONG, 0): _text(buffer, value, 0) for value in _tables(buffer, table, 1)}


def _object(buffer: FlatBuffer, table: int) -> FlatObject:
    tables = [field for field in _tables(buffer, table, 1) if not _number(buffer, field, DEPRECATED, TRUTH, 0)]
    numbered = [(_number(buffer, field, 2, USHORT, 0), _field(buffer, field)) for field in tables]
    fields = tuple(field for _, field in sorted(numbered, key=lambda pair: pair[0]))
    return FlatObject(
        _text(buffer, table, 0), fields, bool(_number(buffer, table, 2, TRUTH, 0)), _number(buffer, table, 4, INT, 0)
    )


def _field(buffer: FlatBuffer, table: int) -> FlatField:
    place = buffer.field(table, 1)
    if not place:
        raise Contradiction("a field has no type")
    inner = buffer.refer(place)
    kind = FlatType(
        _number(buffer, inner, 0, BYTE, 0),
        _number(buffer, inner, 1, BYTE, 0),
        _number(buffer, inner, 2, INT, -1),
        _number(buffer, inner, 3, USHORT, 0),
    )
    default: float | bool | None = None
    if not _number(buffer, table, 11, TRUTH, 0) and kind.base in SCALARS:
        real = buffer.field(table, 5)
        default = _number(buffer, table, 4, LONG, 0)
        if SCALARS[kind.base] in "fd":
            default = buffer.number(DOUBLE, real) if real else 0.0
        elif SCALARS[kind.base] == "?":
            default = bool(default)
    return FlatField(
        _text(buffer, table, 0), kind, _number(buffer, table, 2, USHORT, 0), _number(buffer, table, 3, USHORT, 0), default
    )
