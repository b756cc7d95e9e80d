"""How a ROS message lies in its bytes. Belongs here: types as a tree, the steps that read it, sizes and alignment.

Never here: bytes, names of columns, definitions as text.

CDR aligns every value to its own size, counted from the byte behind the encapsulation header (OMG DDSI-RTPS 2.3 section 10,
XCDR version 1); ROS 1 aligns nothing. Consecutive values of fixed size become one :class:`Run`, which is read at once.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import pyarrow as pa

from drivelake.logs.arrow import AnyField

__all__ = ["Array", "List", "Node", "Order", "Payload", "Run", "Scalar", "Sequence", "Step", "Struct", "Text", "compile_steps"]


Order = Literal["<", ">"]


@dataclass(frozen=True)
class Scalar:
    """One number or truth value; ``code`` is numpy's, without byte order."""

    code: str

    @property
    def type(self) -> pa.DataType:
        """Of the column."""
        return pa.bool_() if self.code == "?" else pa.from_numpy_dtype(np.dtype(self.code))

    @property
    def size(self) -> int:
        """In bytes, which is also its alignment in CDR."""
        return np.dtype(self.code).itemsize


@dataclass(frozen=True)
class Text:
    """A string: UTF-8, or with ``wide`` UTF-16 units in 4 bytes each, as ROS 2 writes them."""

    wide: bool = False

    @property
    def type(self) -> pa.DataType:
        """Of the column."""
        return pa.string()


@dataclass(frozen=True)
class Payload:
    """The length of a picture, cloud or video packet; all but the last ``length % 8`` of its bytes were cut out."""


@dataclass(frozen=True)
class Struct:
    """Fields one behind the other."""

    names: tuple[str, ...]
    nodes: tuple[Node, ...]

    @property
    def type(self) -> pa.DataType:
        """Of the column."""
        return pa.struct(self.fields)

    @property
    def fields(self) -> list[AnyField]:
        """Of the column."""
        return [pa.field(name, node.type) for name, node in zip(self.names, self.nodes, strict=True)]


@dataclass(frozen=True)
class Array:
    """A fixed number of items."""

    item: Scalar | Text | Struct
    count: int

    @property
    def type(self) -> pa.DataType:
        """Of the column."""
        return pa.list_(self.item.type, self.count)


@dataclass(frozen=True)
class Sequence:
    """Items with their number in front, at most ``bound`` of them."""

    item: Scalar | Text | Struct
    bound: int | None = None

    @property
    def type(self) -> pa.DataType:
        """Of the column."""
        return pa.list_(self.item.type)


Node: TypeAlias = Scalar | Text | Struct | Array | Sequence


@dataclass(frozen=True)
class Slot:
    """A value of a run: ``count`` 0 for one number, else an array of them; hidden ones give no column."""

    code: str
    count: int = 0
    hidden: bool = False


@dataclass(frozen=True)
class Run:
    """Consecutive values of fixed size, at least one."""

    slots: tuple[Slot, ...]
    aligned: bool
    _layouts: dict[tuple[int, Order], np.dtype[np.void]] = field(default_factory=dict, compare=False)

    @property
    def alignment(self) -> int:
        """Places that differ by a multiple of this have the same layout."""
        return max(np.dtype(slot.code).itemsize for slot in self.slots) if self.aligned else 1

    @property
    def first(self) -> int:
        """Alignment of the first value."""
        return np.dtype(self.slots[0].code).itemsize if self.aligned else 1

    def layout(self, phase: int, order: Order) -> np.dtype[np.void]:
        """One structured type for the whole run where it begins at a multiple of 8 plus ``phase``; fields ``0``, ``1``, ..."""
        key = (phase % self.alignment, order)
        if key not in self._layouts:
            position, formats, offsets = key[0], [], []
            for slot in self.slots:
                code = np.dtype("u1" if slot.code == "?" else slot.code).newbyteorder(order)
                if self.aligned:
                    position += -position % code.itemsize
                formats.append(np.dtype((code, (slot.count,))) if slot.count else code)
                offsets.append(position - key[0])
                position += code.itemsize * (slot.count or 1)
            names = [str(place) for place in range(len(formats))]
            self._layouts[key] = np.dtype({"names": names, "formats": formats, "offsets": offsets, "itemsize": position - key[0]})
        return self._layouts[key]


@dataclass(frozen=True)
class List:
    """Items that are read by steps of their own, or numbers.

    Attributes:
        item: what they are.
        steps: that read one item; none for numbers.
        count: of an array; None for a sequence, whose count stands in front.
        bound: the most items of a sequence.
        bytes_min: of one item, without alignment.
        fixed: whether all items have the same layout, so that their places can be computed.
    """

    item: Scalar | Text | Struct
    steps: tuple[Step, ...]
    count: int | None
    bound: int | None
    bytes_min: int
    fixed: bool

    @property
    def type(self) -> pa.DataType:
        """Of the column."""
        return pa.list_(self.item.type) if self.count is None else pa.list_(self.item.type, self.count)


Step: TypeAlias = Run | Text | List | Payload


def compile_steps(nodes: tuple[Node | Payload, ...], *, aligned: bool) -> tuple[Step, ...]:
    """The steps that read ``nodes`` one behind the other; each gives the columns of :func:`leaves`, depth first.

    Args:
        nodes: what a message, or an item of a list, consists of.
        aligned: CDR; otherwise ROS 1.
    """
    steps: list[Step] = []
    slots: list[Slot] = []

    def close() -> None:
        if slots:
            steps.append(Run(tuple(slots), aligned))
            slots.clear()

    def visit(node: Node | Payload) -> None:
        match node:
            case Scalar(code):
                slots.append(Slot(code))
            case Array(Scalar(code), count):
                slots.append(Slot(code, count))
            case Struct(_, inner):
                # CDR writes one octet for a message without fields
                if not inner and aligned:
                    slots.append(Slot("u1", hidden=True))
                for child in inner:
                    visit(child)
            case Array(item, count):
                close()
                steps.append(_list(item, count, None, aligned=aligned))
            case Sequence(item, bound):
                close()
                steps.append(_list(item, None, bound, aligned=aligned))
            case Text() | Payload():
                close()
                steps.append(node)

    for node in nodes:
        visit(node)
    close()
    return tuple(steps)


def _list(item: Scalar | Text | Struct, count: int | None, bound: int | None, *, aligned: bool) -> List:
    steps = () if isinstance(item, Scalar) else compile_steps((item,), aligned=aligned)
    return List(item, steps, count, bound, bytes_min(item, aligned=aligned), all(_fixed(step) for step in steps))


def _fixed(step: Step) -> bool:
    return isinstance(step, Run) or (isinstance(step, List) and step.count is not None and step.fixed)


def bytes_min(node: Node, *, aligned: bool) -> int:
    """Bytes that a value takes at least, without alignment."""
    match node:
        case Scalar():
            return node.size
        case Array(item, count):
            return count * bytes_min(item, aligned=aligned)
        case Struct(_, inner):
            return sum(bytes_min(child, aligned=aligned) for child in inner) or int(aligned)
        case _:
            return 4


def span(steps: tuple[Step, ...], phase: int) -> int:
    """Bytes from a multiple of 8 plus ``phase`` to the end of fixed steps."""
    position = phase
    for step in steps:
        if isinstance(step, Run):
            position += step.layout(position, "<").itemsize
        elif isinstance(step, List) and step.count is not None:
            position += list_span(step, step.count, position)
    return position - phase


def list_span(step: List, count: int, phase: int) -> int:
    """Bytes of ``count`` fixed items from a multiple of 8 plus ``phase`` on."""
    first, following = strides(step, phase)
    return first + (count - 1) * following if count else 0


def strides(step: List, phase: int) -> tuple[int, int]:
    """Bytes of the first item that begins at ``phase``, and of every further one.

    Behind its most aligned value an item's place is known up to that alignment, whatever it was in front of it, so all items
    but the first have the same layout.
    """
    first = span(step.steps, phase % 8)
    return first, span(step.steps, (phase + first) % 8)
