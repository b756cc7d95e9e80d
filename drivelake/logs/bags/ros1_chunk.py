"""One chunk of a ROS 1 bag. Belongs here: opening it, finding the messages in it, its index against its content.

Never here: the order of chunks, what messages say.

Messages are found through the index records behind the chunk, all at once: each entry must lead to a message record with the
connection and the stamp of the entry, and the records must fill the chunk from its first byte to its last. Where there is no
index, or a stretch between two entries, records are followed one by one.
"""

from __future__ import annotations

import bz2
import struct
from collections.abc import Callable, Sequence
from itertools import permutations
from typing import NamedTuple

import lz4.frame
import numpy as np
from numpy.lib.stride_tricks import as_strided
from numpy.typing import NDArray

from drivelake.errors import LogDamaged
from drivelake.logs.bags.ros1_records import (
    CONNECTION,
    MESSAGE,
    NS,
    Connection,
    IndexRecord,
    Record,
    RecordBroken,
    connection,
    message_head,
    read_record,
)
from drivelake.logs.findings import RESTORE

__all__ = ["ChunkRecord", "Messages", "content_is_checked", "find_messages", "open_chunk"]

# A compressed chunk may open to this many bytes; uncompressed ones are read where they stand, whatever their size.
CHUNK_BYTES_MAX = 256 << 20
HEAD_BYTES = 46
CONNECTIONS_MAX = 64  # that stand in front of one message
# Bytes 4 and 5 of an LZ4 frame: bit 2 of the flags says that a checksum of the content follows.
LZ4_CHECKSUM = 0x04

_U32 = struct.Struct("<I")


class ChunkRecord(NamedTuple):
    """A chunk as it stands in the file.

    Attributes:
        offset: of the record; payload pointers call the chunk by it.
        compression: ``none``, ``bz2`` or ``lz4``.
        size: bytes once decompressed.
        start: file offset of its bytes.
        end: file offset behind them.
        listing: its index records.
        whole: False where the file ends, or the recorder stopped, before the chunk did.
    """

    offset: int
    compression: str
    size: int
    start: int
    end: int
    listing: tuple[IndexRecord, ...]
    whole: bool = True


class Messages(NamedTuple):
    """Messages of one chunk, in the order they stand; all arrays (n,) int64.

    Attributes:
        offsets: where each record begins in the chunk.
        starts: where the encoded message begins.
        lengths: its bytes.
        stamps_ns: UTC ns.
        connections: ids.
    """

    offsets: NDArray[np.int64]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    stamps_ns: NDArray[np.int64]
    connections: NDArray[np.int64]

    def rows(self, chosen: NDArray[np.bool_] | NDArray[np.intp]) -> Messages:
        """Some of them."""
        return Messages(*(column[chosen] for column in self))

    @property
    def ends(self) -> NDArray[np.int64]:
        """Where the next record begins."""
        return self.starts + self.lengths


class _Layout(NamedTuple):
    """Message headers whose fields stand in one order: what is constant in them, and a view of what is not."""

    constant: NDArray[np.uint16]
    mask: NDArray[np.uint16]
    fields: np.dtype[np.void]


def _layout(order: Sequence[tuple[bytes, int]]) -> _Layout:
    constant, mask = bytearray((38).to_bytes(4, "little")), bytearray(b"\xff" * 4)
    places = {}
    for name, size in order:
        head = (len(name) + 1 + size).to_bytes(4, "little") + name + b"="
        places[name] = len(constant) + len(head)
        constant += head + (bytes([MESSAGE]) if name == b"op" else bytes(size))
        mask += b"\xff" * len(head) + (b"\xff" if name == b"op" else bytes(size))
    where = [places[b"conn"], places[b"time"], places[b"time"] + 4, len(constant)]
    fields = np.dtype(
        {
            "names": ["connection", "sec", "nsec", "length"],
            "formats": ["<u4"] * 4,
            "offsets": where,
            "itemsize": HEAD_BYTES,
        }
    )
    return _Layout(np.frombuffer(constant + bytes(4), np.uint16), np.frombuffer(mask + bytes(4), np.uint16), fields)


LAYOUTS = tuple(_layout(order) for order in permutations(((b"op", 1), (b"conn", 4), (b"time", 8))))


def open_chunk(file: memoryview, chunk: ChunkRecord) -> NDArray[np.uint8]:
    """The records of a chunk; bytes of the file itself where it is not compressed.

    Raises:
        LogDamaged: it does not decompress, a checksum inside it is wrong, or its size is not the declared one.
    """
    stored = file[chunk.start : chunk.end]
    if chunk.compression == "none":
        if chunk.whole and len(stored) != chunk.size:
            raise _damaged(chunk, f"holds {len(stored)} bytes, it declares {chunk.size}")
        return np.frombuffer(stored, np.uint8)
    if chunk.compression not in {"bz2", "lz4"}:
        raise _damaged(chunk, f"is compressed as {chunk.compression!r}; known are bz2, lz4 and none")
    if not chunk.whole:
        raise _damaged(chunk, f"is cut off after {len(stored)} compressed bytes")
    if chunk.size > CHUNK_BYTES_MAX:
        raise _damaged(chunk, f"declares {chunk.size} bytes, at most {CHUNK_BYTES_MAX} are decompressed")
    opener = bz2.BZ2Decompressor() if chunk.compression == "bz2" else lz4.frame.LZ4FrameDecompressor()
    try:
        data: bytes = opener.decompress(stored, max_length=chunk.size + 1)
    except (OSError, RuntimeError, ValueError, EOFError) as error:
        raise _damaged(chunk, f"does not decompress: {error}") from None
    if not opener.eof or len(data) != chunk.size:
        raise _damaged(chunk, f"opens to {len(data)} bytes{'' if opener.eof else ' or more'}, it declares {chunk.size}")
    if behind := len(opener.unused_data or b""):
        raise _damaged(chunk, f"has {behind} bytes behind its compressed content")
    return np.frombuffer(data, np.uint8)


def content_is_checked(file: memoryview, chunk: ChunkRecord) -> bool:
    """Whether a checksum covers the content of a chunk: always with bz2, by a flag of its frame with lz4."""
    return chunk.compression == "bz2" or (
        chunk.compression == "lz4" and chunk.end - chunk.start > 4 and bool(file[chunk.start + 4] & LZ4_CHECKSUM)
    )


def find_messages(
    data: NDArray[np.uint8],
    chunk: ChunkRecord,
    tell: Callable[[str, int | None], None],
    declare: Callable[[Connection], None],
) -> Messages:
    """The messages of an opened chunk that nothing contradicts.

    Args:
        data: (bytes,) uint8, the opened chunk.
        chunk: its record.
        tell: takes one contradiction, and the connection that it costs a message; None where it costs none, -1 where that one
            cannot be known.
        declare: takes the connections that stand in the chunk.
    """
    finder = _Finder(data, tell, declare)
    listed = finder.listed(_entries(chunk.listing, len(data), tell))
    listed, unlisted = finder.between(listed)
    if chunk.listing and len(unlisted.offsets):
        tell(f"its index does not list {len(unlisted.offsets)} of its messages", None)
    return _joined([listed, unlisted])


def _joined(parts: Sequence[Messages]) -> Messages:
    found = Messages(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
    return found.rows(np.argsort(found.offsets, kind="stable"))


def _entries(index: Sequence[IndexRecord], size: int, tell: Callable[[str, int | None], None]) -> Messages:
    """What the index lists, by offset; starts and lengths are not known yet."""
    if not index:
        return _NONE
    offsets = np.concatenate([record.offsets for record in index])
    stamps = np.concatenate([record.stamps_ns for record in index])
    connections = np.concatenate([np.full(len(record.offsets), record.connection, np.int64) for record in index])
    order = np.argsort(offsets, kind="stable")
    entries = Messages(offsets, offsets, np.zeros_like(offsets), stamps, connections).rows(order)
    twice = np.zeros(len(offsets), bool)
    twice[1:] = entries.offsets[1:] == entries.offsets[:-1]
    beyond = entries.offsets >= size
    if wrong := int((twice | beyond).sum()):
        tell(f"{wrong} of {len(offsets)} entries of its index lie beyond its {size} bytes, or where another does", None)
    return entries.rows(~twice & ~beyond)


class _Finder:
    """Finds records in one opened chunk."""

    def __init__(
        self,
        data: NDArray[np.uint8],
        tell: Callable[[str, int | None], None],
        declare: Callable[[Connection], None],
    ) -> None:
        self._data, self._view = data, data.data
        self._tell, self._declare = tell, declare
        self._broken: set[int] = set()

    def listed(self, entries: Messages) -> Messages:
        """The messages that the index lists, without those that contradict their entry or reach into the next."""
        found, is_message = self._heads(entries.offsets)
        for row in np.flatnonzero(~is_message).tolist():
            offset = int(entries.offsets[row])
            try:
                message = self._follow_to_message(offset)
            except RecordBroken as broken:
                self._broken.add(offset)
                self._tell(f"at byte {offset}, where its index lists a message, stands {broken}", int(entries.connections[row]))
                continue
            for column, value in zip(found, message, strict=True):
                column[row] = value
            is_message[row] = True
        agrees = (found.connections == entries.connections) & (found.stamps_ns == entries.stamps_ns)
        reach = np.append(found.offsets[is_message][1:], len(self._data))
        fits = np.ones(len(agrees), bool)
        fits[is_message] = found.ends[is_message] <= reach
        for row in np.flatnonzero(is_message & ~(agrees & fits)).tolist():
            self._tell(self._contradiction(found, entries, row), int(entries.connections[row]))
            self._broken.add(int(found.offsets[row]))
        return found.rows(is_message & agrees & fits)

    def _contradiction(self, found: Messages, entries: Messages, row: int) -> str:
        here = f"the message at byte {found.offsets[row]}"
        stands = found.connections[row], found.stamps_ns[row]
        listed = entries.connections[row], entries.stamps_ns[row]
        if stands != listed:
            return f"{here} is of connection {stands[0]} at {stands[1]} ns, its index says {listed[0]} at {listed[1]} ns"
        return f"{here} says that it has {found.lengths[row]} bytes and reaches into the next"

    def between(self, listed: Messages) -> tuple[Messages, Messages]:
        """The listed messages whose end is no contradiction, and the messages that no entry leads to.

        Every stretch between listed messages is followed record by record.
        """
        begins = np.concatenate((np.zeros(1, np.int64), listed.ends))
        ends = np.append(listed.offsets, len(self._data))
        parts, keep = [_NONE], np.ones(len(listed.offsets), bool)
        for row in np.flatnonzero(begins < ends).tolist():
            found, previous_ends = self._stretch(int(begins[row]), int(ends[row]))
            parts.append(found)
            if row and not previous_ends:
                self._tell(f"no record follows the message at byte {listed.offsets[row - 1]}", int(listed.connections[row - 1]))
                keep[row - 1] = False
        return listed.rows(keep), _joined(parts)

    def _stretch(self, begin: int, end: int) -> tuple[Messages, bool]:
        """Messages from ``begin`` on, as far as records follow each other, and whether any record stands at ``begin``.

        A message counts only if something that begins like a record follows it: else its length is in doubt.
        """
        offsets, stop = self._chain(begin, end)
        found, is_message = self._heads(np.array(offsets, np.int64))
        for row in np.flatnonzero(~is_message).tolist():
            try:
                record = read_record(self._view, offsets[row], end)
                if record.op == CONNECTION:
                    self._declare(connection(self._view, record))
                    continue
                message = self._message(record)
            except RecordBroken:
                stop = offsets[row]
                break
            for column, value in zip(found, message, strict=True):
                column[row] = value
            is_message[row] = True
        inside = found.rows(is_message & (found.offsets < stop))
        if stop == end or stop in self._broken:
            return inside.rows(np.array([offset not in self._broken for offset in inside.offsets.tolist()], bool)), True
        number = self._begun(stop, end)
        self._tell(f"at byte {stop} stands no whole record; {end - stop} bytes from there on are left out", number)
        if number is None and len(inside.offsets):
            self._tell(f"no record follows the message at byte {inside.offsets[-1]}", int(inside.connections[-1]))
            inside = inside.rows(inside.offsets < inside.offsets[-1])
        return inside, number is not None or stop != begin

    def _begun(self, position: int, end: int) -> int | None:
        """The connection of the message whose header stands at a position; -1 where too little is left to tell."""
        raw = self._data[position : min(position + HEAD_BYTES, end)]
        for layout in LAYOUTS:
            mask, constant = (part.view(np.uint8)[: len(raw)] for part in (layout.mask, layout.constant))
            if ((raw & mask) == constant).all():
                return int(raw.view(layout.fields)["connection"][0]) if len(raw) == HEAD_BYTES else -1
        return None

    def _chain(self, begin: int, end: int) -> tuple[list[int], int]:
        """Where records begin, by their lengths alone, and where the last one ends."""
        offsets = []
        position, unpack, view = begin, _U32.unpack_from, self._view
        while position + 8 <= end:
            data = position + 4 + unpack(view, position)[0]
            if data + 4 > end or (after := data + 4 + unpack(view, data)[0]) > end:
                break
            offsets.append(position)
            position = after
        return offsets, position

    def _heads(self, offsets: NDArray[np.int64]) -> tuple[Messages, NDArray[np.bool_]]:
        """Message records at these offsets, and which of them are some whose header has one of the usual layouts."""
        found = Messages(*(offsets.copy() for _ in Messages._fields))
        is_message = np.zeros(len(offsets), bool)
        room = len(self._data) - HEAD_BYTES + 1
        if room <= 0:
            return found, is_message
        every = as_strided(self._data[:HEAD_BYTES].view(f"V{HEAD_BYTES}"), (room,), (1,), writeable=False)
        left = np.flatnonzero(offsets < room)
        for layout in LAYOUTS:
            if not len(left):
                break
            raw = every[offsets[left]]
            match = ((raw.view(np.uint16).reshape(len(left), -1) & layout.mask) == layout.constant).all(axis=1)
            heads = raw[match].view(layout.fields)
            rows = left[match]
            found.starts[rows] = offsets[rows] + HEAD_BYTES
            found.lengths[rows] = heads["length"]
            found.stamps_ns[rows] = heads["sec"].astype(np.int64) * NS + heads["nsec"]
            found.connections[rows] = heads["connection"]
            is_message[rows] = (heads["nsec"] < NS) & (found.ends[rows] <= len(self._data))
            left = left[~match]
        return found, is_message

    def _follow_to_message(self, offset: int) -> tuple[int, int, int, int, int]:
        """Some recorders let an entry lead to the connection record in front of its message; it is declared with the stretch."""
        record = read_record(self._view, offset, len(self._data))
        passed = 0
        while record.op == CONNECTION and passed < CONNECTIONS_MAX:
            record = read_record(self._view, record.end, len(self._data))
            passed += 1
        return self._message(record)

    def _message(self, record: Record) -> tuple[int, int, int, int, int]:
        if record.op != MESSAGE:
            raise RecordBroken(f"a record of op {record.op}, expected a message")
        number, stamp = message_head(record)
        return record.offset, record.start, record.end - record.start, stamp, number


def _damaged(chunk: ChunkRecord, what: str) -> LogDamaged:
    return LogDamaged(f"The chunk at offset {chunk.offset} {what}.", next_step=RESTORE)


_NONE = Messages(*(np.empty(0, np.int64) for _ in Messages._fields))
