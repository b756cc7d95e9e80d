"""The messages in one stretch of bytes, found many at a time.

Belongs here: message heads, and that records tile their bytes without gap. Never here: channels, files, what damage costs.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from mcap.opcode import Opcode
from numpy.typing import NDArray

from drivelake.logs.mcap.records import FRAME

__all__ = [
    "ENTRY",
    "FIELDS_SIZE",
    "HEAD",
    "RAW_HEAD",
    "Content",
    "Index",
    "agreed",
    "by_scan",
    "columns_of",
    "disagreeing",
    "heads_at",
    "of_messages",
    "runs_of",
    "scan",
]

# Frame and fields of a message record; its data follows.
HEAD = np.dtype(
    [("opcode", "u1"), ("length", "<u8"), ("channel", "<u2"), ("sequence", "<u4"), ("log_ns", "<i8"), ("publish_ns", "<i8")]
)
FIELDS_SIZE = HEAD.itemsize - FRAME.size
RAW_HEAD = np.dtype(f"V{HEAD.itemsize}")
# Of a message index: log time in ns, offset of the record inside the chunk.
ENTRY = struct.Struct("<QQ")


class Index(NamedTuple):
    """A message index: its channel, its entries (log time in ns and offset into the chunk, 8 bytes each), its own offset."""

    channel: int
    entries: memoryview
    offset: int

    @property
    def listed(self) -> int:
        """Messages that it lists."""
        return len(self.entries) // ENTRY.size

    @property
    def places(self) -> list[tuple[int, int]]:
        """Log time in ns and offset of each message."""
        return list(ENTRY.iter_unpack(self.entries))


class Content(NamedTuple):
    """What one stretch of bytes holds. Messages are sorted by channel, then by place.

    Attributes:
        heads: (n,) :data:`HEAD`.
        offsets: (n,) int64, where each message record begins.
        lengths: (n,) int64, bytes of the data that follows each head.
        log_ns: (n,) int64; negative where the stamp is beyond int64.
        publish_ns: (n,) int64; likewise.
        runs: channels and their rows.
        others: every other record: opcode, begin and end of its body, in order.
        broken: where the first record begins that reaches beyond the bytes; nothing behind it is read. -1 if none does.
        short: offsets of messages that are too short for their own fields; they are left out.
    """

    heads: NDArray[np.void]
    offsets: NDArray[np.int64]
    lengths: NDArray[np.int64]
    log_ns: NDArray[np.int64]
    publish_ns: NDArray[np.int64]
    runs: tuple[tuple[int, slice], ...]
    others: tuple[tuple[int, int, int], ...] = ()
    broken: int = -1
    short: tuple[int, ...] = ()

    def rows(self, which: NDArray[np.int64] | NDArray[np.bool_]) -> Content:
        """Some of the messages, in the same order."""
        kept = _content(self.heads[which], self.offsets[which])
        return kept._replace(others=self.others, broken=self.broken, short=self.short)


def _content(heads: NDArray[np.void], offsets: NDArray[np.int64]) -> Content:
    return Content(heads, offsets, *columns_of(heads), runs_of(heads["channel"]))


def columns_of(heads: NDArray[np.void]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Bytes of data, log time and publish time."""
    return heads["length"].view(np.int64) - FIELDS_SIZE, heads["log_ns"].copy(), heads["publish_ns"].copy()


def runs_of(channels: NDArray[np.uint16] | NDArray[np.int64]) -> tuple[tuple[int, slice], ...]:
    """The rows of each number in a sorted column."""
    if not len(channels):
        return ()
    cuts = ((channels[1:] != channels[:-1]).nonzero()[0] + 1).tolist()
    begins = [0, *cuts]
    return tuple(zip(channels[begins].tolist(), map(slice, begins, [*cuts, len(channels)]), strict=True))


def disagreeing(content: Content, indexes: Sequence[Index]) -> Iterator[tuple[Index, int]]:
    """Message indexes that do not list exactly the messages that were found, each with how many of its channel were."""
    places = np.empty((len(content.offsets), 2), "<i8")
    places[:, 0] = content.log_ns
    places[:, 1] = content.offsets
    listing = sorted((index for index in indexes if index.entries), key=itemgetter(0))
    alike = [index.channel for index in listing] == [number for number, _ in content.runs]
    if alike and b"".join([index.entries for index in listing]) == places.tobytes():
        return
    runs = dict(content.runs)
    for index in indexes:
        found = places[runs.get(index.channel, slice(0, 0))]
        if sorted(index.places) != sorted(ENTRY.iter_unpack(found.tobytes())):
            yield index, len(found)


def agreed(content: Content, index: Index) -> NDArray[np.int64]:
    """(m,) rows of the messages that were found exactly where a message index lists them."""
    listed = set(index.places)
    own = np.flatnonzero(content.heads["channel"] == index.channel)
    stamps, offsets = content.log_ns[own].view(np.uint64).tolist(), content.offsets[own].tolist()
    rows: NDArray[np.int64] = own[np.array([place in listed for place in zip(stamps, offsets, strict=True)], bool)]
    return rows


def by_scan(buffer: NDArray[np.uint8]) -> Content:
    """The content of a chunk, record by record."""
    offsets, others, broken = scan(buffer.data, 0, len(buffer))
    return of_messages(buffer, np.array(offsets, np.int64), tuple(others), broken)


def of_messages(
    buffer: NDArray[np.uint8], offsets: NDArray[np.int64], others: tuple[tuple[int, int, int], ...] = (), broken: int = -1
) -> Content:
    """Messages whose records are known to begin at ``offsets`` and to end within the buffer."""
    short: list[int] = []
    while len(offsets) and offsets[-1] + HEAD.itemsize > len(buffer):
        short.append(int(offsets[-1]))
        offsets = offsets[:-1]
    heads = heads_at(buffer, offsets).view(HEAD)
    if int(heads["length"].min(initial=FIELDS_SIZE)) < FIELDS_SIZE:
        fits = heads["length"] >= FIELDS_SIZE
        short += offsets[~fits].tolist()
        heads, offsets = heads[fits], offsets[fits]
    order = heads["channel"].argsort(kind="stable")
    return _content(heads[order], offsets[order])._replace(others=others, broken=broken, short=tuple(sorted(short)))


def heads_at(buffer: NDArray[np.uint8], offsets: NDArray[np.int64]) -> NDArray[np.void]:
    """(n,) heads of messages in a buffer that is known to hold them, to be viewed as :data:`HEAD`."""
    if not len(offsets):
        return np.empty(0, RAW_HEAD)
    everywhere = np.ndarray((len(buffer) - HEAD.itemsize + 1,), RAW_HEAD, buffer, 0, (1,))
    found: NDArray[np.void] = everywhere[offsets]
    return found


def scan(data: memoryview, at: int, stop: int) -> tuple[list[int], list[tuple[int, int, int]], int]:
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
