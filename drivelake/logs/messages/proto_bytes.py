"""Many protobuf messages decoded at once. Belongs here: the wire format with one cursor a message, columns from bytes.

Never here: descriptors, single messages.

Format: https://protobuf.dev/programming-guides/encoding. All first fields are read at once, then all second ones; nested
messages of one field are then read like messages of their own. What is rare (a nested message in two parts, two choices of
a `oneof`, numbers that are cut off, more than 256 fields) is left to google.protobuf: those messages come back as odd.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.logs.arrow import AnyArray, binaries, numbers
from drivelake.logs.messages.proto_members import Member, struct_type
from drivelake.logs.messages.rows import SECONDS_MAX
from drivelake.logs.messages.serial import gather, is_utf8

__all__ = ["Odd", "Spans", "columns_of_bytes"]

Int64 = NDArray[np.int64]
Uint64 = NDArray[np.uint64]
Absent = NDArray[np.bool_] | None

STEPS_MAX = 256
SIZE_MAX = 1 << 31
VARINT_BYTES_MAX = 10
VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5


class Odd(Exception):
    """Messages that are left to google.protobuf; ``rows`` (n,) int64 says which."""

    def __init__(self, rows: Int64) -> None:
        super().__init__(f"{len(rows)} messages")
        self.rows = rows


@dataclass(frozen=True)
class Spans:
    """Messages in one buffer.

    Attributes:
        data: (bytes,) uint8.
        starts: (n,) int64, where each begins.
        ends: (n,) int64, where each ends.
        rows: (n,) int64, the row each stands in.
    """

    data: NDArray[np.uint8]
    starts: Int64
    ends: Int64
    rows: Int64

    def __len__(self) -> int:
        return len(self.starts)

    def refuse(self, which: NDArray[np.bool_]) -> None:
        """Leave some messages to google.protobuf, if there are any.

        Raises:
            Odd: there are.
        """
        if which.any():
            raise Odd(np.unique(self.rows[which]))


@dataclass
class Found:
    """Occurrences of one field, in the order of the wire for each message.

    Attributes:
        which: which messages.
        values: their numbers, or where their bytes begin.
        sizes: of their bytes; empty for numbers of varying length.
    """

    which: list[Int64] = field(default_factory=list)
    values: list[Uint64] = field(default_factory=list)
    sizes: list[Int64] = field(default_factory=list)


def columns_of_bytes(members: tuple[Member, ...], spans: Spans, absent: Absent = None) -> Iterator[AnyArray]:
    """As :func:`~drivelake.logs.messages.proto_members.fields_of`.

    Args:
        members: of the messages, all of them plain.
        spans: (n,) the messages.
        absent: (n,) bool, where there is no message; None where all are.

    Raises:
        Odd: for messages that google.protobuf has to read.
    """
    found = _scan(members, spans)
    for member in members:
        if member.dotted:
            inner, missing = _nested(member, found[member.number], spans, absent)
            yield from columns_of_bytes(member.group, inner, missing)
        else:
            yield _column(member, found, spans, absent)


def _wires(member: Member) -> tuple[int, ...]:
    """The wire types that a field may have; with another one it counts as unknown."""
    own = LENGTH
    if member.code not in ("text", "bytes", "stamp", "group"):
        own = VARINT if member.coding != "fixed" else FIXED64 if member.code[1] == "8" else FIXED32
    return (own, LENGTH) if member.shape == "several" and own != LENGTH else (own,)


def _scan(members: tuple[Member, ...], spans: Spans) -> dict[int, Found]:
    """The fields of all messages, by number; packed numbers under the negative number."""
    found = {member.number: Found() for member in members} | {-member.number: Found() for member in members}
    wanted = {
        member.number << 3 | wire: found[-member.number if wire == LENGTH and _wires(member)[0] != LENGTH else member.number]
        for member in members
        for wire in _wires(member)
    }
    cursors = spans.starts.copy()
    active = np.flatnonzero(cursors < spans.ends)
    for _ in range(STEPS_MAX):
        if not len(active):
            break
        tags, at = _varints(spans.data, cursors[active])
        if (tags == tags[0]).all():
            tag = int(tags[0])
            cursors[active] = _step(tag, active, at, spans, wanted.get(tag))
        else:
            for tag in np.unique(tags).tolist():
                same = np.flatnonzero(tags == tag)
                cursors[active[same]] = _step(tag, active[same], at[same], spans, wanted.get(tag))
        spans.refuse(cursors > spans.ends)
        active = active[cursors[active] < spans.ends[active]]
    if len(active):
        raise Odd(np.unique(spans.rows[active]))
    _check(members, found, spans)
    return found


def _step(tag: int, which: Int64, at: Int64, spans: Spans, found: Found | None) -> Int64:
    """Pass one field of the messages ``which``, whose value begins at ``at``; where the next one begins."""
    wire = tag & 7
    if tag >> 3 == 0 or tag >= 1 << 32 or wire not in (VARINT, FIXED64, LENGTH, FIXED32):
        raise Odd(np.unique(spans.rows[which]))
    sizes = np.empty(0, np.int64)
    values: Uint64 = at.view(np.uint64)
    if wire == VARINT:
        values, after = _varints(spans.data, at)
    elif wire == LENGTH:
        lengths, start = _varints(spans.data, at)
        if lengths.max() >= SIZE_MAX:
            raise Odd(np.unique(spans.rows[which[lengths >= SIZE_MAX]]))
        sizes, values = lengths.view(np.int64), start.view(np.uint64)
        after = start + sizes
    else:
        after = at + (8 if wire == FIXED64 else 4)
    if found is not None:
        found.which.append(which)
        found.values.append(values)
        found.sizes.append(sizes)
    return after


def _varints(data: NDArray[np.uint8], at: Int64) -> tuple[Uint64, Int64]:
    """Numbers of 7 bits a byte, and the places behind them; beyond ``data`` the last byte is read again and again."""
    last = len(data) - 1
    first = data[np.minimum(at, last)]
    values = first.astype(np.uint64)
    after = at + 1
    more = np.flatnonzero(first >= 0x80)
    values[more] &= np.uint64(0x7F)
    for place in range(1, VARINT_BYTES_MAX):
        if not len(more):
            return values, after
        byte = data[np.minimum(after[more], last)].astype(np.uint64)
        values[more] |= (byte & np.uint64(0x7F)) << np.uint64(7 * place)
        after[more] += 1
        more = more[byte >= 0x80]
    # no number is that long: a place beyond every end
    after[more] = np.iinfo(np.int64).max >> 1
    return values, after


def _check(members: tuple[Member, ...], found: dict[int, Found], spans: Spans) -> None:
    """What google.protobuf would do something special about."""
    choices: dict[str, Int64] = {}
    for member in members:
        counts = _count(found[member.number], len(spans))
        if member.shape == "one" and member.code in ("group", "stamp"):
            spans.refuse(counts > 1)
        if member.shape == "several" and found[-member.number].which:
            spans.refuse(counts > 0)
        if member.choice:
            choices[member.choice] = choices.get(member.choice, 0) + (counts > 0)
    for count in choices.values():
        spans.refuse(count > 1)


def _count(found: Found, rows: int) -> Int64:
    counts = np.zeros(rows, np.int64)
    for which in found.which:
        counts[which] += 1
    return counts


def _last(found: Found, rows: int) -> tuple[Uint64, Int64, NDArray[np.bool_]]:
    """Of singular fields: the value, the size, and whether there is one; the last occurrence holds."""
    values, sizes, present = np.zeros(rows, np.uint64), np.zeros(rows, np.int64), np.zeros(rows, np.bool_)
    for which, value, size in zip(found.which, found.values, found.sizes, strict=True):
        values[which] = value
        present[which] = True
        if len(size):
            sizes[which] = size
    return values, sizes, present


def _missing(member: Member, present: NDArray[np.bool_], absent: Absent) -> Absent:
    if not member.presence:
        return absent
    return ~present if absent is None else ~present | absent


def _nested(member: Member, found: Found, spans: Spans, absent: Absent) -> tuple[Spans, Absent]:
    """The messages of a singular field; empty where it is not set."""
    values, sizes, present = _last(found, len(spans))
    starts = values.view(np.int64)
    return Spans(spans.data, starts, starts + sizes, spans.rows), _missing(member, present, absent)


def _column(member: Member, found: dict[int, Found], spans: Spans, absent: Absent) -> AnyArray:
    if member.shape == "several":
        if (packed := found[-member.number]).which:
            return _packed(member, packed, spans, absent)
        return _several(member, found[member.number], spans, absent)
    if member.code in ("group", "stamp"):
        return _messages(member, *_nested(member, found[member.number], spans, absent))
    values, sizes, present = _last(found[member.number], len(spans))
    return _values(member, values, sizes, present, spans, _missing(member, present, absent))


def _messages(member: Member, inner: Spans, absent: Absent) -> AnyArray:
    """Nested messages as stamps or structs."""
    found = _scan(member.group, inner)
    if member.code == "group":
        children = [_column(part, found, inner, None) for part in member.group]
        validity, _ = numbers(inner.rows, absent).buffers()
        return pa.Array.from_buffers(struct_type(member.group), len(inner), [validity], children=children)
    parts = [_last(found[part.number], len(inner))[0].view(np.int64) for part in member.group]
    seconds, nanoseconds = parts[0], parts[1].astype(np.int32)
    inner.refuse((seconds > SECONDS_MAX) | (seconds < -SECONDS_MAX))
    return numbers(seconds * 1_000_000_000 + nanoseconds, absent)


def _values(member: Member, values: Uint64, sizes: Int64, present: NDArray[np.bool_], spans: Spans, absent: Absent) -> AnyArray:
    """Numbers, texts and bytes; zero and empty where they are not present."""
    if member.code in ("text", "bytes"):
        raw = binaries(gather(spans.data, values.view(np.int64), sizes), sizes, absent)
        if member.code == "bytes":
            return raw
        try:
            return raw.cast(pa.string())
        except pa.ArrowInvalid:
            spans.refuse(np.array([not is_utf8(value.as_py() or b"") for value in raw], np.bool_))
            raise
    if member.coding == "fixed":
        width = int(member.code[1])
        starts = values.view(np.int64)
        if present.all():
            return numbers(gather(spans.data, starts, width).view(f"<{member.code}"), absent)
        plain = np.zeros(len(values), f"<{member.code}")
        plain[present] = gather(spans.data, starts[present], width).view(f"<{member.code}")
        return numbers(plain, absent)
    return numbers(_integers(member, values, present, spans), absent)


def _integers(member: Member, values: Uint64, present: NDArray[np.bool_], spans: Spans) -> NDArray[np.generic]:
    """Numbers of varying length in the type of their field, which takes the lowest bits."""
    plain: NDArray[np.generic] = values != 0
    if member.code == "?":
        return plain
    if member.coding == "zigzag":
        if member.code == "i4":
            values = values & np.uint64(0xFFFFFFFF)
        values = values >> np.uint64(1) ^ (~(values & np.uint64(1)) + np.uint64(1))
    plain = values.astype(f"<{member.code}")
    if member.closed:
        spans.refuse(present & ~np.isin(plain, member.closed))
    return plain


def _several(member: Member, found: Found, spans: Spans, absent: Absent) -> AnyArray:
    """Lists; what belongs to one message stands together, in the order of the wire."""
    which = np.concatenate([np.empty(0, np.int64), *found.which])
    values = np.concatenate([np.empty(0, np.uint64), *found.values])
    sizes = np.concatenate([np.empty(0, np.int64), *found.sizes])
    order = np.argsort(which, kind="stable")
    which, values, sizes = which[order], values[order], sizes[order] if len(sizes) else sizes
    counts = np.bincount(which, minlength=len(spans))
    starts = values.view(np.int64)
    inner = Spans(spans.data, starts, starts + sizes if len(sizes) else starts, spans.rows[which])
    if member.code in ("group", "stamp"):
        items = _messages(member, inner, None)
    else:
        items = _values(member, values, sizes, np.ones(len(values), np.bool_), inner, None)
    return _listed(member, counts, items, absent)


def _packed(member: Member, found: Found, spans: Spans, absent: Absent) -> AnyArray:
    """Lists of numbers that stand one behind the other in one field, or in several."""
    which, sizes = np.concatenate(found.which), np.concatenate(found.sizes)
    order = np.argsort(which, kind="stable")
    starts = np.concatenate(found.values).view(np.int64)[order]
    which, sizes = which[order], sizes[order]
    whole = Spans(spans.data, starts, starts + sizes, spans.rows[which])
    data = gather(spans.data, starts, sizes)
    if member.coding == "fixed":
        width = int(member.code[1])
        whole.refuse(sizes % width != 0)
        counts = sizes // width
        items = numbers(data.view(f"<{member.code}"))
    else:
        ends = data < 0x80
        behind = np.cumsum(sizes)
        whole.refuse((sizes > 0) & ~ends[behind - 1])
        total = np.concatenate([np.zeros(1, np.int64), np.cumsum(ends)])
        counts = total[behind] - total[behind - sizes]
        places = np.flatnonzero(ends)
        inner = Spans(
            data, np.concatenate([np.zeros(1, np.int64), places[:-1] + 1])[: len(places)], places, np.repeat(whole.rows, counts)
        )
        values, after = _varints(data, inner.starts)
        inner.refuse(after != places + 1)
        items = numbers(_integers(member, values, np.ones(len(values), np.bool_), inner))
    each = np.zeros(len(spans), np.int64)
    np.add.at(each, which, counts)
    return _listed(member, each, items, absent)


def _listed(member: Member, counts: Int64, items: AnyArray, absent: Absent) -> AnyArray:
    offsets = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    validity, _ = numbers(offsets[1:], absent).buffers()
    return pa.Array.from_buffers(member.type, len(counts), [validity, numbers(offsets).buffers()[1]], children=[items])
