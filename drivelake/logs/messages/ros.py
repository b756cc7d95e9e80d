"""ROS 1 and ROS 2 messages as tables. Belongs here: which columns a definition gives, stamps, byte order.

Never here: definitions as text, gathering of values, what interfaces mean.

Encodings: ``cdr`` as ROS 2 writes it (OMG DDSI-RTPS 2.3 section 10, XCDR version 1, both byte orders) and ``ros1``
(https://wiki.ros.org/msg, little endian, nothing aligned). A message must hold what its definition says, and nothing behind
it but the padding of CDR to a multiple of 4.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.logs.arrow import AnyArray, AnyField, numbers, unit_field
from drivelake.logs.findings import Findings
from drivelake.logs.messages.block import Channel
from drivelake.logs.messages.definitions import Definitions, Dialect, Field, FieldType, parse_definitions, short_name
from drivelake.logs.messages.interfaces import UNITS, column_name, payload_field, stamp_field
from drivelake.logs.messages.layout import (
    Array,
    Node,
    Order,
    Payload,
    Scalar,
    Sequence,
    Step,
    Struct,
    Text,
    bytes_min,
    compile_steps,
)
from drivelake.logs.messages.pending import Held
from drivelake.logs.messages.ros_cut import CDR_HEAD_BYTES, ORDERS, OTHER_ENCAPSULATIONS, RosCut, other_encapsulation
from drivelake.logs.messages.rows import NESTED_MAX, Table, no_stamps, sensor_stamps, unsupported
from drivelake.logs.messages.serial import Cursors, Faulty, decode

__all__ = ["RosTable"]

MESSAGE_BYTES_MAX = 1 << 30
NODES_MAX = 1 << 16
CDR_PADDING_MAX = 3

SCALARS = {
    "bool": Scalar("?"),
    "int8": Scalar("i1"),
    "uint8": Scalar("u1"),
    "int16": Scalar("i2"),
    "uint16": Scalar("u2"),
    "int32": Scalar("i4"),
    "uint32": Scalar("u4"),
    "int64": Scalar("i8"),
    "uint64": Scalar("u8"),
    "float32": Scalar("f4"),
    "float64": Scalar("f8"),
}
STAMP_PARTS = (FieldType("int32"), FieldType("uint32"))
TEXTS = ("string", "wstring")


class Leaf(NamedTuple):
    """One value of a message that is no message itself; ``stamp`` 1 and 2 are the seconds and nanoseconds of the sensor."""

    column: str
    node: Node
    unit: str
    stamp: int = 0


class RosTable(Table):
    """Messages whose values become columns, one a scalar, dotted by nesting; arrays become lists.

    Args:
        channel: with encoding ``cdr`` or ``ros1``.
        findings: told every message that is no message of this type.

    Raises:
        UnsupportedLog: the schema cannot be parsed, contains itself, or has a field type without a column type.
    """

    def __init__(self, channel: Channel, findings: Findings) -> None:
        self._aligned = channel.encoding == "cdr"
        shape = _Shape(channel)
        self._leaves = shape.leaves
        self._nodes = tuple(leaf.node for leaf in self._leaves)
        self._steps = shape.steps
        cut = None
        if Payload() in self._steps:
            cut = RosCut(channel.name, self._steps, aligned=self._aligned, strict=findings.strict)
        columns = [_column(leaf, described=cut is None) for leaf in self._leaves if not leaf.stamp]
        super().__init__(channel, columns, findings, cut)

    def _decode(self, held: Held, rows: NDArray[np.int64]) -> tuple[AnyArray, list[AnyArray]]:
        if not self._aligned:
            return self._split(self._values(held, rows, "<"), len(rows))
        short = held.lengths[rows] < CDR_HEAD_BYTES
        if short.any():
            raise Faulty(rows[short], [f"it has {n} bytes, its head alone needs 4" for n in held.lengths[rows][short].tolist()])
        starts = held.starts[rows]
        kinds = held.data[starts].astype(np.int64) << 8 | held.data[starts + 1]
        # sorting them takes as long as decoding a column
        alike = len(kinds) > 0 and bool((kinds == kinds[0]).all())
        present = [int(kinds[0])] if alike else np.unique(kinds).tolist()
        if len(present) == 1 and present[0] in ORDERS:
            return self._split(self._values(held, rows, ORDERS[present[0]]), len(rows))
        if self._findings.strict and (others := [kind for kind in present if kind in OTHER_ENCAPSULATIONS]):
            raise other_encapsulation(self.channel, others[0])
        if not set(present) <= set(ORDERS):
            wrong = ~np.isin(kinds, list(ORDERS))
            raise Faulty(rows[wrong], [f"it has CDR encapsulation {kind}, expected 0 or 1" for kind in kinds[wrong].tolist()])
        if not present:
            return self._split([pa.array([], node.type) for node in self._nodes], 0)
        parts = [np.flatnonzero(kinds == kind) for kind in present]
        decoded = [self._values(held, rows[part], ORDERS[kind]) for part, kind in zip(parts, present, strict=True)]
        order = cast("pa.Int64Array", numbers(np.argsort(np.concatenate(parts), kind="stable")))
        columns = [pa.concat_arrays(list(pieces)).take(order) for pieces in zip(*decoded, strict=True)]
        return self._split(columns, len(rows))

    def _values(self, held: Held, rows: NDArray[np.int64], order: Order) -> list[AnyArray]:
        """One column a leaf, from messages of one byte order."""
        head = CDR_HEAD_BYTES if self._aligned else 0
        cursors = Cursors(
            held.data, held.starts[rows] + head, held.lengths[rows] - head, rows, order=order, aligned=self._aligned
        )
        columns = decode(self._nodes, self._steps, cursors)
        left = cursors.lengths - cursors.places()
        behind = left > (CDR_PADDING_MAX if self._aligned else 0)
        cursors.refuse(behind, lambda i: f"{left[behind][i]} bytes follow its last field")
        return columns

    def _split(self, columns: list[AnyArray], rows: int) -> tuple[AnyArray, list[AnyArray]]:
        """The sensor stamp, and the other columns."""
        stamp = {leaf.stamp: column for leaf, column in zip(self._leaves, columns, strict=True) if leaf.stamp}
        rest = [column for leaf, column in zip(self._leaves, columns, strict=True) if not leaf.stamp]
        return sensor_stamps(stamp[1], stamp[2]) if stamp else no_stamps(rows), rest


def _column(leaf: Leaf, *, described: bool) -> AnyField:
    """The tables of payloads have no units: what stands beside a payload describes its bytes."""
    field = unit_field(leaf.column, leaf.node.type, leaf.unit, "").with_nullable(False)  # noqa: FBT003  (pyarrow's signature)
    return field if described else field.remove_metadata()


class _Shape:
    """What a definition says about its messages: the leaves in the order of their bytes, and the steps that read them."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel.name
        self._root = short_name(channel.schema_name)
        self._aligned = channel.encoding == "cdr"
        self._count = 0
        self._parts: list[Node | Payload] = []
        try:
            text = channel.schema.decode("utf-8")
        except UnicodeDecodeError:
            raise unsupported(self._channel, f"its schema {channel.schema_name!r} is no text") from None
        self._definitions: Definitions = parse_definitions(text, channel.schema_name, cast("Dialect", channel.schema_encoding))
        self.leaves = tuple(self._leaves_of(self._root, "", "", ()))
        if not self._parts:
            self._parts.append(Struct((), ()))
        if sum(bytes_min(leaf.node, aligned=self._aligned) for leaf in self.leaves) > MESSAGE_BYTES_MAX:
            raise unsupported(self._channel, f"a message would have more than {MESSAGE_BYTES_MAX} bytes")
        self.steps: tuple[Step, ...] = compile_steps(tuple(self._parts), aligned=self._aligned)

    def _fields(self, name: str, inside: tuple[str, ...]) -> tuple[Field, ...]:
        if name not in self._definitions:
            raise unsupported(self._channel, f"its schema uses {name}, which it does not define")
        if name in inside:
            raise unsupported(self._channel, f"the message {name} contains itself")
        self._count += 1
        if len(inside) > NESTED_MAX or self._count > NODES_MAX:
            reason = f"its schema nests messages more than {NESTED_MAX} deep, or more than {NODES_MAX} of them"
            raise unsupported(self._channel, reason)
        return self._definitions[name]

    def _leaves_of(self, message: str, prefix: str, unit: str, inside: tuple[str, ...]) -> Iterator[Leaf]:
        """Depth first, in the order of the fields."""
        fields = self._fields(message, inside)
        if not fields:
            self._parts.append(Struct((), ()))
        for field in fields:
            if not inside and self._is_payload(field):
                self._parts.append(Payload())
            elif not inside and self._is_header(field):
                yield from map(_header_leaf, self._leaves_of(field.type.base, "header.", "", (message,)))
            elif not inside and field.name == stamp_field(message) and self._is_stamp(field.type):
                yield from map(_stamp_leaf, self._leaves_of(field.type.base, "", "", (message,)))
            else:
                yield from self._field_leaves(message, field, prefix, unit, inside)

    def _field_leaves(self, message: str, field: Field, prefix: str, unit: str, inside: tuple[str, ...]) -> Iterator[Leaf]:
        own = UNITS.get((message, field.name), unit)
        if field.type.shape == "one" and field.type.base not in SCALARS and field.type.base not in TEXTS:
            yield from self._leaves_of(field.type.base, f"{prefix}{field.name}.", own, (*inside, message))
            return
        node = self._node(field.type, (*inside, message))
        self._parts.append(node)
        name = field.name if inside else column_name(message, field.name)
        yield Leaf(f"{prefix}{name}", node, own)

    def _node(self, kind: FieldType, inside: tuple[str, ...]) -> Node:
        item: Scalar | Text | Struct
        if kind.base in SCALARS:
            item = SCALARS[kind.base]
        elif kind.base in TEXTS:
            item = Text(wide=kind.base == "wstring")
        else:
            fields = self._fields(kind.base, inside)
            nodes = tuple(self._node(field.type, (*inside, kind.base)) for field in fields)
            item = Struct(tuple(field.name for field in fields), nodes)
        if kind.shape == "one":
            return item
        if not bytes_min(item, aligned=self._aligned):
            raise unsupported(self._channel, f"it has a list of {kind.base}, which takes no bytes")
        return Array(item, kind.size or 0) if kind.shape == "array" else Sequence(item, kind.size)

    def _is_payload(self, field: Field) -> bool:
        return field.name == payload_field(self._root) and field.type == FieldType("uint8", "sequence")

    def _is_header(self, field: Field) -> bool:
        """Whether a field is the standard header, whose stamp is the sensor's."""
        if field.name != "header" or field.type != FieldType("std_msgs/Header"):
            return False
        parts = {part.name: part.type for part in self._definitions.get("std_msgs/Header", ())}
        return parts.get("frame_id") == FieldType("string") and self._is_stamp(parts.get("stamp"))

    def _is_stamp(self, kind: FieldType | None) -> bool:
        if kind is None or kind.shape != "one":
            return False
        parts = self._definitions.get(kind.base, ())
        return [part.name for part in parts] == ["sec", "nanosec"] and all(part.type in STAMP_PARTS for part in parts)


def _header_leaf(leaf: Leaf) -> Leaf:
    if leaf.column.startswith("header.stamp."):
        return _stamp_leaf(leaf)
    return leaf._replace(column="frame_id") if leaf.column == "header.frame_id" else leaf


def _stamp_leaf(leaf: Leaf) -> Leaf:
    return leaf._replace(stamp=1 if leaf.column.rsplit(".", 1)[-1] == "sec" else 2)
