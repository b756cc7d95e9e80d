"""Protobuf messages as google.protobuf parses them, column by column. Belongs here: what the other way leaves to the library.

Never here: descriptors, bytes. Every value costs a Python object: proto_bytes.py reads most messages without.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from operator import attrgetter
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.logs.arrow import AnyArray, binaries, numbers
from drivelake.logs.messages.proto_members import Member, struct_type
from drivelake.logs.messages.rows import SECONDS_MAX
from drivelake.logs.messages.serial import Faulty, is_utf8

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["columns_of_messages"]

Rows = NDArray[np.int64]
Absent = NDArray[np.bool_] | None


def columns_of_messages(members: tuple[Member, ...], messages: list[Message], rows: Rows, absent: Absent) -> Iterator[AnyArray]:
    """As :func:`~drivelake.logs.messages.proto_members.fields_of`.

    Args:
        members: of the messages.
        messages: (n,) of one type.
        rows: (n,) int64, the row each stands in.
        absent: (n,) bool, where there is no message; None where all are.

    Raises:
        Faulty: for rows with text that is not UTF-8, or stamps beyond the range of ns.
    """
    for member in members:
        if member.dotted:
            inner = list(map(attrgetter(member.name), messages))
            yield from columns_of_messages(member.group, inner, rows, _absent(member, messages, absent))
        else:
            yield _column(member, messages, rows, absent)


def _absent(member: Member, messages: list[Message], absent: Absent) -> Absent:
    """Where a field is not set, or what it belongs to is not."""
    if not member.presence:
        return absent
    missing = ~np.fromiter((message.HasField(member.name) for message in messages), np.bool_, len(messages))
    return missing if absent is None else missing | absent


def _column(member: Member, messages: list[Message], rows: Rows, absent: Absent) -> AnyArray:
    """Of one member of ``messages``, which stand in ``rows``."""
    found = map(attrgetter(member.name), messages)
    if member.shape == "one":
        return _values(member, found, rows, _absent(member, messages, absent))
    several = list(found)
    counts = np.fromiter(map(len, several), np.int64, len(several))
    inner = np.repeat(rows, counts)
    if member.shape == "several":
        items = _values(member, chain.from_iterable(several), inner, None)
    else:
        # a map has no order of its own
        pairs = [(key, entries[key]) for entries in several for key in sorted(entries)]
        parts = [
            _values(part, values, inner, None)
            for part, values in zip(member.group, zip(*pairs, strict=True) if pairs else ((), ()), strict=True)
        ]
        items = pa.Array.from_buffers(struct_type(member.group), len(pairs), [None], children=parts)
    offsets = np.zeros(len(counts) + 1, np.int32)
    np.cumsum(counts, out=offsets[1:])
    validity, _ = numbers(offsets[1:], absent).buffers()
    return pa.Array.from_buffers(member.type, len(counts), [validity, numbers(offsets).buffers()[1]], children=[items])


def _values(member: Member, values: Iterable[object], rows: Rows, absent: Absent) -> AnyArray:
    """One value in each of ``rows``."""
    if member.code == "stamp":
        return _stamps(list(values), rows, absent)
    if member.code == "group":
        messages = list(values)
        children = [_column(inner, messages, rows, None) for inner in member.group]
        validity, _ = numbers(rows, absent).buffers()
        return pa.Array.from_buffers(struct_type(member.group), len(rows), [validity], children=children)
    if member.code in ("text", "bytes"):
        # the library gives text of proto2 that is not UTF-8 as bytes
        encoded = [value if isinstance(value, bytes) else str(value).encode() for value in values]
        lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
        raw = binaries(np.frombuffer(b"".join(encoded), np.uint8), lengths, absent)
        if member.code == "bytes":
            return raw
        try:
            return raw.cast(pa.string())
        except pa.ArrowInvalid:
            which = np.unique(rows[[not is_utf8(value) for value in encoded]])
            raise Faulty(which, ["a text is not UTF-8"] * len(which)) from None
    return numbers(np.fromiter(values, np.dtype(member.code), len(rows)), absent)


def _stamps(messages: list[Message], rows: Rows, absent: Absent) -> AnyArray:
    """Timestamps and durations in ns."""
    seconds = np.fromiter(map(attrgetter("seconds"), messages), np.int64, len(messages))
    nanoseconds = np.fromiter(map(attrgetter("nanos"), messages), np.int64, len(messages))
    beyond = (seconds > SECONDS_MAX) | (seconds < -SECONDS_MAX)
    if beyond.any():
        which, first = np.unique(rows[beyond], return_index=True)
        raise Faulty(which, [f"a stamp has {n} seconds" for n in seconds[beyond][first].tolist()])
    return numbers(seconds * 1_000_000_000 + nanoseconds, absent)
