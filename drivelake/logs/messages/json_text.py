"""JSON messages as tables. Belongs here: JSON Schema as columns, values against their schema.

Never here: where messages come from.

With a schema whose root is an object, its properties become columns, dotted by nesting and null where a message leaves them
out; a property whose type the schema leaves open becomes a column of JSON text. The column ``json`` holds the whole message
where it says more than the schema; without such a schema it is the only column.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.logs.arrow import AnyArray, AnyField, numbers, unit_field
from drivelake.logs.findings import Findings
from drivelake.logs.messages.block import Channel
from drivelake.logs.messages.interfaces import stamp_field
from drivelake.logs.messages.pending import Held
from drivelake.logs.messages.rows import Contradiction, Table, stamp_ns, unsupported
from drivelake.logs.messages.serial import Faulty
from drivelake.logs.messages.values import column_of

__all__ = ["JsonTable"]

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"

DEPTH_MAX = 32
SHAPES_MAX = 4096
SIMPLE: dict[str, pa.DataType] = {"number": pa.float64(), "integer": pa.int64(), "string": pa.string(), "boolean": pa.bool_()}
STAMP_PARTS = ("sec", "nsec")


@dataclass(frozen=True)
class Shape:
    """What a value is said to be: ``number``, ``integer``, ``string``, ``boolean``, ``array``, ``object``, or ``any``."""

    kind: str
    item: Shape | None = None
    parts: tuple[tuple[str, Shape], ...] = ()

    @property
    def type(self) -> pa.DataType:
        """Of its column."""
        if self.kind == "object":
            return pa.struct([pa.field(name, part.type) for name, part in self.parts])
        if self.kind == "array" and self.item is not None:
            return pa.list_(self.item.type)
        return SIMPLE[self.kind] if self.kind in SIMPLE else pa.string()


class JsonTable(Table):
    """Messages of JSON text.

    Args:
        channel: with encoding ``json``.
        findings: told every message that is no JSON, or not what its schema says.

    Raises:
        UnsupportedLog: the schema is no JSON.
    """

    def __init__(self, channel: Channel, findings: Findings) -> None:
        self._root = _root(channel)
        leaves = list(_leaves(self._root, ""))
        stamp = stamp_field(channel.schema_name)
        ends = [f"{stamp}.{part}" for part in STAMP_PARTS]
        places = [place for place, (name, shape) in enumerate(leaves) if name in ends and shape.kind == "integer"]
        self._stamp = places if stamp and len(places) == len(ends) else []
        self._kinds = [shape.type for _, shape in leaves]
        self._rounded = False
        fields: list[AnyField] = [
            unit_field(name, shape.type, "", "") for place, (name, shape) in enumerate(leaves) if place not in self._stamp
        ]
        super().__init__(channel, [*fields, unit_field("json", pa.string(), "", "")], findings)

    def _decode(self, held: Held, rows: NDArray[np.int64]) -> tuple[AnyArray, list[AnyArray]]:
        messages = held.messages()
        found: list[list[object]] = []
        wrong: dict[int, str] = {}
        for row in rows.tolist():
            try:
                found.append(self._values(messages[row]))
            except Contradiction as error:
                wrong[row] = str(error)
        if wrong:
            raise Faulty(np.array(list(wrong), np.int64), list(wrong.values()))
        if self._rounded:
            self._findings.note(f"Channel {self.channel!r}: whole numbers beyond 2^53 became the nearest float64.")
        *lists, stamps = list(zip(*found, strict=True)) if found else [()] * (len(self._kinds) + 2)
        columns = [column_of(values, kind) for values, kind in zip(lists, [*self._kinds, pa.string()], strict=True)]
        sensor = np.array(stamps, np.int64)
        return numbers(sensor, sensor == 0), [column for place, column in enumerate(columns) if place not in self._stamp]

    def _values(self, message: bytes) -> list[object]:
        """One a column, the whole text and the sensor stamp last."""
        try:
            text = message.decode("utf-8")
            value: Json = json.loads(text)
            text.encode()
            out: list[object] = []
            whole = self._root.kind == "object" and self._flatten(self._root, value, "", out)
        except (ValueError, RecursionError) as error:
            raise Contradiction(f"it is no JSON that can be read ({type(error).__name__}: {error})") from None
        stamp = stamp_ns(*(out[place] for place in self._stamp)) if self._stamp else 0
        return [*out, None if whole else text, stamp]

    def _flatten(self, shape: Shape, value: Json, name: str, out: list[object]) -> bool:
        """Append one value a leaf; whether every value has its column."""
        if value is None and name:
            out += [None] * sum(1 for _ in _leaves(shape, ""))
            return True
        if not isinstance(value, dict):
            raise Contradiction(f"{name or 'the message'} is {_told(value)}, its schema says object")
        names = {part for part, _ in shape.parts}
        whole = value.keys() <= names
        for part, inner in shape.parts:
            path = f"{name}.{part}" if name else part
            if inner.kind == "object":
                whole &= self._flatten(inner, value.get(part), path, out)
            else:
                plain, complete = self._value(inner, value.get(part), path)
                whole &= complete
                out.append(plain)
        return whole

    def _value(self, shape: Shape, value: Json, name: str) -> tuple[object, bool]:
        """What the column holds, and whether that is all of it."""
        plain: object = value
        complete = True
        match shape.kind, value:
            case _, None:
                pass
            case "any", _:
                plain = _checked(json.dumps(value, ensure_ascii=False, separators=(",", ":")), name)
            case "string", str():
                plain = _checked(value, name)
            case "boolean", bool():
                pass
            case "number" | "integer", int() | float() if not isinstance(value, bool):
                plain = self._number(shape.kind, value, name)
            case "array", list() if shape.item is not None:
                pairs = [self._value(shape.item, item, name) for item in value]
                plain, complete = [item for item, _ in pairs], all(whole for _, whole in pairs)
            case "object", dict():
                inner = {part: self._value(kind, value.get(part), f"{name}.{part}") for part, kind in shape.parts}
                plain = {part: pair[0] for part, pair in inner.items()}
                complete = all(whole for _, whole in inner.values()) and value.keys() <= inner.keys()
            case _:
                raise Contradiction(f"{name} is {_told(value)}, its schema says {shape.kind}")
        return plain, complete

    def _number(self, kind: str, value: float, name: str) -> float:
        if kind == "number":
            try:
                plain = float(value)
            except OverflowError:
                raise Contradiction(f"{name} is beyond the range of float64") from None
            self._rounded |= isinstance(value, int) and int(plain) != value
            return plain
        if isinstance(value, float) and not value.is_integer():
            raise Contradiction(f"{name} is {value}, its schema says integer")
        if not -(1 << 63) <= value < 1 << 63:
            raise Contradiction(f"{name} is beyond the range of int64")
        return int(value)


def _checked(text: str, name: str) -> str:
    """JSON can name halves of UTF-16 pairs, which are no text."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise Contradiction(f"{name} is no text: it holds half a surrogate pair") from None
    return text


def _told(value: Json) -> str:
    names = {dict: "object", list: "array", str: "string", bool: "boolean", int: "integer", float: "number"}
    return names.get(type(value), "null")


def _leaves(shape: Shape, prefix: str) -> Iterator[tuple[str, Shape]]:
    for name, part in shape.parts:
        if part.kind == "object":
            yield from _leaves(part, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", part


def _root(channel: Channel) -> Shape:
    """What the schema says of a message; ``any`` without a schema."""
    if not channel.schema_encoding:
        return Shape("any")
    try:
        schema: Json = json.loads(channel.schema.decode("utf-8") or "{}")
    except (ValueError, RecursionError) as error:
        raise unsupported(channel.name, f"its schema {channel.schema_name!r} is no JSON ({error})") from None
    return _Reader(schema).shape(schema, 0)


class _Reader:
    """What a schema says; what it leaves open or what is not understood here is ``any``."""

    def __init__(self, root: Json) -> None:
        self._root = root
        self._count = 0

    def shape(self, schema: Json, depth: int) -> Shape:
        self._count += 1
        # references may go round in circles
        if not isinstance(schema, dict) or depth > DEPTH_MAX or self._count > SHAPES_MAX:
            return Shape("any")
        if isinstance(reference := schema.get("$ref"), str):
            return self.shape(self._referred(reference), depth + 1)
        kinds = schema.get("type")
        named = {kind for kind in (kinds if isinstance(kinds, list) else [kinds]) if isinstance(kind, str)} - {"null"}
        if named == {"integer", "number"}:
            named = {"number"}
        kind = named.pop() if len(named) == 1 else "any"
        properties = schema.get("properties")
        if kind in SIMPLE:
            return Shape(kind)
        if kind == "array" and (item := self.shape(schema.get("items"), depth + 1)).kind != "any":
            return Shape("array", item)
        if kind == "object" and isinstance(properties, dict) and properties:
            return Shape("object", parts=tuple((name, self.shape(part, depth + 1)) for name, part in properties.items()))
        return Shape("any")

    def _referred(self, reference: str) -> Json:
        """A part of the same schema; nothing for other documents."""
        start, *keys = reference.split("/")
        if start != "#":
            return None
        part = self._root
        for key in keys:
            part = part.get(key.replace("~1", "/").replace("~0", "~")) if isinstance(part, dict) else None
        return part
