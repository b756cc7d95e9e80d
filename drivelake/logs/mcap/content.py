"""The messages in one stretch of bytes, found many at a time.

Belongs here: message heads, and that records tile their bytes without gap. Never here: channels, files, what damage costs.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from mcap.opcode import Opcode
from numpy.typing import NDArray

from drivelake.logs.mcap.records import FRAME

__all__ = [
    "FIELDS_SIZE",
    "HEAD",
    "Content",
    "Index",
    "agreed",
    "by_index",
    "by_scan",
    "disagreeing",
    "groups",
    "of_messages",
    "sparse",
]

# Frame and fields of a message record; its data follows.
HEAD = np.dtype(
    [("opcode", "u1"), ("length", "<u8"), ("channel", "<u2"), ("sequence", "<u4"), ("log_ns", "<i8"), ("publish_ns", "<i8")]
)
# Bytes for each message from which on a chunk is scanned: a scan costs 0.3 us a message, the index 0.2 ms a chunk.
SPARSE_BYTES = 2048
# Offsets inside a buffer stay below this power of two, so that a channel id fits above them.
CHANNEL_SHIFT = 47
FIELDS_SIZE = HEAD.itemsize - FRAME.size


class Index(NamedTuple):
    """A message index: its channel, and (n, 2) log time in ns and offset of the record inside the chunk."""

    channel: int
    entries: NDArray[np.uint64]
    offset: int


class Content(NamedTuple):
    """What one stretch of bytes holds.

    Attributes:
        heads: (n,) :data:`HEAD`, of the messages: sorted by channel, then by place.
        offsets: (n,) int64, where each message record begins.
        others: every other record: opcode, begin and end of its body, in order.
        broken: where the first record begins that reaches beyond the bytes; nothing behind it is read. -1 if none does.
        short: offsets of messages that are too short for their own fields; they are left out.
    """

    heads: NDArray[np.void]
    offsets: NDArray[np.int64]
    others: tuple[tuple[int, int, int], ...] = ()
    broken: int = -1
    short: tuple[int, ...] = ()


def groups(channels: NDArray[np.uint16]) -> Iterator[tuple[int, slice]]:
    """Runs of one channel in a sorted column."""
    if not len(channels):
        return
    cuts = (np.flatnonzero(channels[1:] != channels[:-1]) + 1).tolist()
    for begin, end in zip([0, *cuts], [*cuts, len(channels)], strict=True):
        yield int(channels[begin]), slice(begin, end)


def sparse(buffer: NDArray[np.uint8], indexes: Sequence[Index]) -> bool:
    """Whether a chunk holds so few messages for its bytes that :func:`by_scan` costs less than :func:`by_index`."""
    return sum(len(index.entries) for index in indexes) * SPARSE_BYTES < len(buffer)


def disagreeing(content: Content, indexes: Sequence[Index]) -> Iterator[tuple[Index, int]]:
    """Message indexes that do not list exactly the messages that were found, each with how many of its channel were."""
    places = np.empty((len(content.offsets), 2), np.uint64)
    places[:, 0] = content.heads["log_ns"].view(np.uint64)
    places[:, 1] = content.offsets
    runs = dict(groups(content.heads["channel"]))
    if [index.channel for index in indexes] == list(runs) and b"".join(i.entries.data for i in indexes) == places.tobytes():
        return
    for index in indexes:
        found = places[runs.get(index.channel, slice(0, 0))]
        if sorted(index.entries.tolist()) != sorted(found.tolist()):
            yield index, len(found)


def agreed(content: Content, index: Index) -> NDArray[np.int64]:
    """(m,) rows of the messages that were found exactly where a message index lists them."""
    listed = set(map(tuple, index.entries.tolist()))
    own = np.flatnonzero(content.heads["channel"] == index.channel)
    stamps, offsets = content.heads["log_ns"][own].view(np.uint64).tolist(), content.offsets[own].tolist()
    rows: NDArray[np.int64] = own[np.array([place in listed for place in zip(stamps, offsets, strict=True)], bool)]
    return rows


def by_index(buffer: NDArray[np.uint8], indexes: Sequence[Index]) -> Content | None:
    """The content of a chunk as its message indexes (at least one) list it, or nothing where they and the bytes disagree.

    They agree if a message of the right channel and log time stands at every place they list, and if these messages
    together with records of other kinds tile the chunk without gap.
    """
    entries = np.concatenate([index.entries for index in indexes]) if indexes else np.empty((0, 2), np.uint64)
    channels = np.repeat(np.array([index.channel for index in indexes], np.uint16), [len(index.entries) for index in indexes])
    offsets = entries[:, 1].astype(np.int64)
    size = len(buffer)
    if len(offsets) and not 0 <= int(offsets.min()) <= int(offsets.max()) <= size - HEAD.itemsize:
        return None
    if not (np.diff((channels.astype(np.int64) << CHANNEL_SHIFT) + offsets) > 0).all():
        order = np.lexsort((offsets, channels))
        entries, channels, offsets = entries[order], channels[order], offsets[order]
    heads = _heads(buffer, offsets)
    lengths = heads["length"]
    if not (
        (heads["opcode"] == Opcode.MESSAGE).all()
        and (heads["channel"] == channels).all()
        and (heads["log_ns"].view(np.uint64) == entries[:, 0]).all()
        and FIELDS_SIZE <= int(lengths.min(initial=FIELDS_SIZE)) <= int(lengths.max(initial=0)) <= size
    ):
        return None
    ends = offsets + lengths.view(np.int64) + FRAME.size
    # each channel is sorted by itself, which a stable sort makes use of: ten times faster
    others = _between(buffer, np.sort(offsets, kind="stable"), np.sort(ends, kind="stable"))
    return None if others is None else Content(heads, offsets, others)


def by_scan(buffer: NDArray[np.uint8]) -> Content:
    """The content of a chunk, record by record."""
    offsets, others, broken = _scan(buffer.data, 0, len(buffer))
    return of_messages(buffer, np.array(offsets, np.int64), tuple(others), broken)


def of_messages(
    buffer: NDArray[np.uint8], offsets: NDArray[np.int64], others: tuple[tuple[int, int, int], ...] = (), broken: int = -1
) -> Content:
    """Messages whose records are known to begin at ``offsets`` and to end within the buffer."""
    short: list[int] = []
    while len(offsets) and offsets[-1] + HEAD.itemsize > len(buffer):
        short.append(int(offsets[-1]))
        offsets = offsets[:-1]
    heads = _heads(buffer, offsets)
    if (fits := heads["length"] >= FIELDS_SIZE).all():
        order = np.argsort(heads["channel"], kind="stable")
    else:
        short += offsets[~fits].tolist()
        order = np.flatnonzero(fits)
        order = order[np.argsort(heads["channel"][order], kind="stable")]
    return Content(heads[order], offsets[order], others, broken, tuple(sorted(short)))


def _heads(buffer: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.void]:
    """(n,) :data:`HEAD` at places that are known to lie within the buffer."""
    if not len(offsets):
        return np.empty(0, HEAD)
    rows: NDArray[np.void] = np.ndarray((len(buffer) - HEAD.itemsize + 1,), f"V{HEAD.itemsize}", buffer, strides=(1,))[offsets]
    return rows.view(HEAD)


def _between(
    buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[tuple[int, int, int], ...] | None:
    """Records of other kinds in the gaps between messages; nothing where messages overlap or a gap is not made of such."""
    edges = np.concatenate((starts, [len(buffer)])) - np.concatenate(([0], ends))
    if not edges.any():
        return ()
    if (edges < 0).any():
        return None
    found: list[tuple[int, int, int]] = []
    for place in np.flatnonzero(edges).tolist():
        begin = int(ends[place - 1]) if place else 0
        messages, others, broken = _scan(buffer.data, begin, begin + int(edges[place]))
        if messages or broken >= 0:
            return None
        found += others
    return tuple(found)


def _scan(data: memoryview, at: int, stop: int) -> tuple[list[int], list[tuple[int, int, int]], int]:
    """Offsets of messages, other records, and where a record begins that reaches beyond ``stop``, or -1."""
    unpack, frame, message = FRAME.unpack_from, FRAME.size, int(Opcode.MESSAGE)
    messages: list[int] = []
    others: list[tuple[int, int, int]] = []
    while at < stop:
        if at + frame > stop:
            return messages, others, at
        opcode, length = unpack(data, at)
        end = at + frame + length
        if end > stop:
            return messages, others, at
        if opcode == message:
            messages.append(at)
        else:
            others.append((opcode, at + frame, end))
        at = end
    return messages, others, -1
