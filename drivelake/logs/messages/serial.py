"""Many ROS messages decoded at once. Belongs here: cursors, bounds, gathering, Arrow columns from bytes.

Never here: definitions, which columns a table has, where messages come from.

There is one cursor for all messages while their fields stand at the same places, and one each behind the first field whose
size differs. Fixed fields of one kind are then gathered for all messages in one numpy call; in CDR, cursors fall into at
most 8 classes by what they leave modulo 8, because only that decides on the padding. Lists of items whose size differs are
read item by item: all first items at once, then all second ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.logs.arrow import AnyArray, binaries, fixed_lists, numbers, pick, texts
from drivelake.logs.messages.layout import List, Node, Order, Payload, Run, Scalar, Step, Struct, Text, strides

__all__ = ["Cursors", "Faulty", "decode", "gather", "is_utf8"]

Int64: TypeAlias = NDArray[np.int64]
Place: TypeAlias = "int | Int64"

# Below this mean length, stretches are gathered by an index of bytes; above, slice by slice.
INDEXED_BYTES_MAX = 48
ASCII_END = 0x80


class Faulty(Exception):
    """Rows that contradict their definition.

    Attributes:
        rows: (n,) int64, which.
        why: for each, what was found and what was expected.
    """

    def __init__(self, rows: Int64, why: list[str]) -> None:
        super().__init__(f"{len(rows)} rows")
        self.rows = rows
        self.why = why


class Cursors:
    """Where the next value of each message stands.

    Args:
        data: (bytes,) uint8, all messages.
        origins: (n,) int64, the bytes from which alignment counts.
        lengths: (n,) int64, from there to the end of each message.
        rows: (n,) int64, which row each message is.
        order: byte order.
        aligned: CDR; otherwise ROS 1.
        place: behind the origin; one for all messages, or (n,) int64.
    """

    def __init__(
        self,
        data: NDArray[np.uint8],
        origins: Int64,
        lengths: Int64,
        rows: Int64,
        *,
        order: Order,
        aligned: bool,
        place: Place = 0,
    ) -> None:
        self.data = data
        self.origins = origins
        self.lengths = lengths
        self.rows = rows
        self.order: Order = order
        self.aligned = aligned
        self.place: Place = place
        self._shortest = int(lengths.min()) if len(lengths) else 0
        self._stride = _stride(origins)

    def __len__(self) -> int:
        return len(self.origins)

    def subset(self, which: Int64, place: Int64) -> Cursors:
        """Some of the messages, or some of them several times."""
        return Cursors(
            self.data,
            self.origins[which],
            self.lengths[which],
            self.rows[which],
            order=self.order,
            aligned=self.aligned,
            place=place,
        )

    def places(self) -> Int64:
        """(n,) int64, the cursor of every message."""
        return np.full(len(self), self.place, np.int64) if isinstance(self.place, int) else self.place

    def align(self, size: int) -> None:
        """Pass the padding, and fall back to one cursor where all agree again."""
        if self.aligned and size > 1:
            self.place += -self.place % size
        if not isinstance(self.place, int) and len(self.place):
            low = int(self.place.min())
            if low == int(self.place.max()):
                self.place = low

    def require(self, size: Place) -> None:
        """That ``size`` more bytes are there.

        Raises:
            Faulty: for the messages where they are not.
        """
        end = self.place + size
        if isinstance(end, int) and end <= self._shortest:
            return
        short = end > self.lengths
        if short.any():
            ends = np.broadcast_to(end, short.shape)[short].tolist()
            self.refuse(
                short,
                lambda i: f"it ends after {self.lengths[short][i]} bytes of values, a field reaches to {ends[i]}",
            )

    def refuse(self, which: NDArray[np.bool_], why: Callable[[int], str]) -> None:
        """Give up the messages of a mask, if there are any; ``why`` of the first, the second, ... of them.

        Raises:
            Faulty: there are.
        """
        rows = self.rows[which]
        if len(rows):
            raise Faulty(rows, [why(i) for i in range(len(rows))])

    def records(self, dtype: np.dtype[np.void]) -> NDArray[np.void]:
        """(n,) of ``dtype`` at the cursors; all of them fit."""
        size = dtype.itemsize
        if self._stride and isinstance(self.place, int):
            first = int(self.origins[0]) + self.place
            return np.ndarray((len(self),), dtype, self.data, first, (self._stride,))
        everywhere = np.ndarray((len(self.data) - size + 1,), f"V{size}", self.data, 0, (1,))
        found: NDArray[np.void] = everywhere[self.origins + self.place].view(dtype)
        return found


def _stride(origins: Int64) -> int:
    """The distance of all neighbours, or 0."""
    if len(origins) < 2:
        return len(origins)
    stride = int(origins[1]) - int(origins[0])
    return stride if stride > 0 and bool((np.diff(origins) == stride).all()) else 0


def gather(data: NDArray[np.uint8], starts: Int64, lengths: Place) -> NDArray[np.uint8]:
    """The stretches of ``data`` one behind the other; all of them inside ``data``.

    Args:
        data: (bytes,) uint8.
        starts: (n,) int64.
        lengths: one for all, or (n,) int64.
    """
    if not isinstance(lengths, int) and len(lengths) and bool((lengths == lengths[0]).all()):
        lengths = int(lengths[0])
    if isinstance(lengths, int):
        if not lengths or not len(starts):
            return np.empty(0, np.uint8)
        everywhere = np.ndarray((len(data) - lengths + 1,), f"V{lengths}", data, 0, (1,))
        return everywhere[starts].view(np.uint8)
    if not len(lengths):
        return np.empty(0, np.uint8)
    if int(lengths.sum()) <= INDEXED_BYTES_MAX * len(lengths):
        return pick(data, starts, lengths)
    return np.concatenate([data[start:end] for start, end in zip(starts.tolist(), (starts + lengths).tolist(), strict=True)])


def decode(nodes: tuple[Node, ...], steps: tuple[Step, ...], cursors: Cursors) -> list[AnyArray]:
    """The columns of ``nodes``, (n,) each, from messages or items; the cursors move behind them.

    Raises:
        Faulty: for messages that are too short, or that hold text that is none.
    """
    if not len(cursors):
        return [pa.array([], node.type) for node in nodes]
    columns = iter(list(_columns(steps, cursors)))
    return [_assemble(node, columns, len(cursors)) for node in nodes]


def _assemble(node: Node, columns: Iterator[AnyArray], rows: int) -> AnyArray:
    if not isinstance(node, Struct):
        return next(columns)
    children = [_assemble(child, columns, rows) for child in node.nodes]
    return pa.Array.from_buffers(node.type, rows, [None], children=children)


def _columns(steps: tuple[Step, ...], cursors: Cursors) -> Iterator[AnyArray]:
    for step in steps:
        match step:
            case Run():
                yield from _run(step, cursors)
            case Text():
                yield _wide_text(cursors) if step.wide else _text(cursors)
            case List():
                yield _list(step, cursors)
            case Payload():
                # pointers are made where messages are cut, see ros.py
                size = _counts(cursors)
                cursors.place += size & 7
                cursors.require(0)


def _run(run: Run, cursors: Cursors) -> Iterator[AnyArray]:
    cursors.align(run.first)
    place = cursors.place
    if isinstance(place, int):
        layout = run.layout(place % 8, cursors.order)
        cursors.require(layout.itemsize)
        fields = _fields(run, cursors.records(layout))
        cursors.place += layout.itemsize
    else:
        phases = place % run.alignment
        present = np.flatnonzero(np.bincount(phases)).tolist()
        layouts = {phase: run.layout(phase, cursors.order) for phase in present}
        sizes = np.zeros(8, np.int64)
        sizes[present] = [layout.itemsize for layout in layouts.values()]
        step = sizes[phases]
        cursors.require(step)
        fields = _scattered(run, cursors, phases, layouts)
        cursors.place = place + step
    for slot, values in zip(run.slots, fields, strict=True):
        if not slot.hidden:
            plain = values != 0 if slot.code == "?" else values
            yield fixed_lists(plain) if slot.count else numbers(plain)


def _fields(run: Run, records: NDArray[np.void]) -> list[NDArray[np.generic]]:
    return [records[str(place)] for place in range(len(run.slots))]


def _scattered(run: Run, cursors: Cursors, phases: Int64, layouts: dict[int, np.dtype[np.void]]) -> list[NDArray[np.generic]]:
    """The fields of a run whose padding differs between messages: class by class."""
    found: list[NDArray[np.generic]] = []
    for phase, layout in layouts.items():
        which = np.flatnonzero(phases == phase)
        part = cursors.subset(which, cursors.places()[which])
        fields = _fields(run, part.records(layout))
        if len(which) == len(cursors):
            return fields
        found = found or [np.empty((len(cursors), *field.shape[1:]), field.dtype) for field in fields]
        for column, field in zip(found, fields, strict=True):
            column[which] = field
    return found


def _counts(cursors: Cursors) -> Place:
    """Lengths in front of texts and sequences, u32; one where all agree."""
    cursors.align(4)
    cursors.require(4)
    dtype = np.dtype([("0", f"{cursors.order}u4")])
    counts = cursors.records(dtype)["0"].astype(np.int64)
    cursors.place += 4
    if not len(counts):
        return 0
    low = int(counts.min())
    return low if low == int(counts.max()) else counts


def _text(cursors: Cursors) -> AnyArray:
    counts = _counts(cursors)
    cursors.require(counts)
    starts = cursors.origins + cursors.place
    cursors.place += counts
    if cursors.aligned:
        ends = starts + counts
        # some serialisers write 0 for an empty text instead of 1 and its NUL
        open_ended = (cursors.data[ends - 1] != 0) & (np.asarray(counts) > 0)
        cursors.refuse(open_ended, lambda _: "a text does not end with NUL")
        counts = max(counts - 1, 0) if isinstance(counts, int) else np.maximum(counts - 1, 0)
    found, sizes = gather(cursors.data, starts, counts), np.broadcast_to(counts, (len(cursors),))
    if not len(found) or int(found.max()) < ASCII_END:
        return texts(found, sizes, "utf-8")
    raw = binaries(found, sizes)
    try:
        return raw.cast(pa.string())
    except pa.ArrowInvalid:
        wrong = np.array([not is_utf8(value.as_py()) for value in raw], np.bool_)
        cursors.refuse(wrong, lambda _: "a text is not UTF-8")
        raise


def is_utf8(value: bytes) -> bool:
    """Whether bytes are text."""
    try:
        value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _wide_text(cursors: Cursors) -> AnyArray:
    counts = _counts(cursors)
    cursors.require(counts * 4)
    units = gather(cursors.data, cursors.origins + cursors.place, counts * 4).view(f"{cursors.order}u4").astype(np.uint32)
    cursors.place += counts * 4
    ends = np.cumsum(np.broadcast_to(counts, (len(cursors),)))
    texts = [_utf16(units[start:end]) for start, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=True)]
    cursors.refuse(np.array([text is None for text in texts], np.bool_), lambda _: "a wide text is not UTF-16")
    return pa.array(texts, pa.string())


def _utf16(units: NDArray[np.uint32]) -> str | None:
    if not (units <= 0xFFFF).all():
        return None
    try:
        return units.astype("<u2").tobytes().decode("utf-16-le")
    except UnicodeDecodeError:
        return None


def _list(step: List, cursors: Cursors) -> AnyArray:
    counts: Place = _counts(cursors) if step.count is None else step.count
    if step.bound is not None:
        many = np.broadcast_to(counts > step.bound, (len(cursors),))
        cursors.refuse(many, lambda i: f"a sequence has {np.broadcast_to(counts, many.shape)[many][i]} of {step.bound} values")
    cursors.require(counts * step.bytes_min)
    each = np.broadcast_to(counts, (len(cursors),))
    if isinstance(step.item, Scalar):
        items = _scalars(step.item, counts, cursors)
    elif step.fixed:
        items = _fixed_items(step, each, cursors)
    else:
        items = _items(step, each, cursors)
    if step.count is not None:
        return pa.Array.from_buffers(step.type, len(cursors), [None], children=[items])
    offsets = np.zeros(len(cursors) + 1, np.int32)
    np.cumsum(each, out=offsets[1:])
    return pa.Array.from_buffers(step.type, len(cursors), [None, numbers(offsets).buffers()[1]], children=[items])


def _scalars(item: Scalar, counts: Place, cursors: Cursors) -> AnyArray:
    """Numbers one behind the other, aligned once; an empty sequence has no padding."""
    if isinstance(counts, int):
        if counts:
            cursors.align(item.size)
    elif cursors.aligned:
        cursors.place = cursors.place + (-cursors.place % item.size) * (counts > 0)
    sizes = counts * item.size
    cursors.require(sizes)
    raw = gather(cursors.data, cursors.origins + cursors.place, sizes)
    cursors.place += sizes
    if item.code == "?":
        return numbers(raw != 0)
    return numbers(raw.view(np.dtype(item.code).newbyteorder(cursors.order)))


def _fixed_items(step: List, counts: Int64, cursors: Cursors) -> AnyArray:
    """Items whose places can be computed: the first of each list by its padding, then one like the other."""
    places = cursors.places()
    phases = places % 8
    firsts, rests = np.zeros(8, np.int64), np.zeros(8, np.int64)
    for phase in np.flatnonzero(np.bincount(phases)).tolist():
        firsts[phase], rests[phase] = strides(step, phase)
    first, following = firsts[phases], rests[phases]
    cursors.place = places + np.where(counts > 0, first + (counts - 1) * following, 0)
    cursors.require(0)
    which = np.repeat(np.arange(len(cursors)), counts)
    number = np.arange(len(which)) - np.repeat(np.cumsum(counts) - counts, counts)
    steps = np.where(number > 0, first[which] + (number - 1) * following[which], 0)
    (items,) = decode((step.item,), step.steps, cursors.subset(which, places[which] + steps))
    return items


def _items(step: List, counts: Int64, cursors: Cursors) -> AnyArray:
    """Items whose size differs: all first ones at once, then all second ones, put into the order of the messages."""
    places = cursors.places().copy()
    offsets = np.cumsum(counts) - counts
    pieces: list[AnyArray] = []
    targets: list[Int64] = []
    active = np.flatnonzero(counts > 0)
    while len(active):
        part = cursors.subset(active, places[active])
        pieces += decode((step.item,), step.steps, part)
        places[active] = part.places()
        targets.append(offsets[active] + len(targets))
        active = active[counts[active] > len(targets)]
    cursors.place = places
    if len(pieces) < 2:
        return pieces[0] if pieces else pa.array([], step.item.type)
    order = np.empty(int(counts.sum()), np.int64)
    order[np.concatenate(targets)] = np.arange(len(order))
    return pa.concat_arrays(pieces).take(cast("pa.Int64Array", numbers(order)))
