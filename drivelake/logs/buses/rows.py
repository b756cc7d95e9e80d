"""Frames of one sender on their way into record batches. Belongs here: what is pending, full batches, refused frames.

Never here: which frames belong to the sender, how bits become numbers.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.logs.buses.bits import Payloads
from drivelake.logs.buses.database import BusMessage
from drivelake.logs.buses.decode import MessageDecoder, words_of
from drivelake.logs.buses.frames import Frames

__all__ = ["MessageRows", "PayloadRows"]

BATCH_BYTES = 16 << 20
ROOM_ROWS = 1 << 13


class PayloadRows(NamedTuple):
    """Payloads of one message.

    Attributes:
        t_ns: (n,) int64, receive stamps.
        id: (n,) uint32, identifiers of the frames.
        length: (n,) uint16, bytes of the payloads, at most those of the message.
        words: (n, k) uint64, payload bytes in their order, zeros behind the last.
    """

    t_ns: NDArray[np.int64]
    id: NDArray[np.uint32]
    length: NDArray[np.uint16]
    words: NDArray[np.uint64]

    def part(self, rows: slice | NDArray[np.intp]) -> PayloadRows:
        """Some of them."""
        return PayloadRows(self.t_ns[rows], self.id[rows], self.length[rows], self.words[rows])

    def fill(self, others: PayloadRows) -> None:
        """Take the place of as many others; what is the same for all stays."""
        self.t_ns[:] = others.t_ns
        self.words[:] = others.words
        if self.id.flags.writeable:
            self.id[:] = others.id
            self.length[:] = others.length

    @staticmethod
    def none(length: int) -> PayloadRows:
        """No payload of a message of ``length`` bytes."""
        return PayloadRows(
            np.empty(0, np.int64), np.empty(0, np.uint32), np.empty(0, np.uint16), np.empty((0, words_of(length)), np.uint64)
        )

    @staticmethod
    def room(rows: int, message: BusMessage) -> PayloadRows:
        """Place for payloads. What is the same for all of a message that only single frames carry is there, and no memory."""
        t_ns, words = np.empty(rows, np.int64), np.empty((rows, words_of(message.length)), np.uint64)
        if message.j1939:
            return PayloadRows(t_ns, np.empty(rows, np.uint32), np.empty(rows, np.uint16), words)
        identifier = np.ndarray(rows, np.uint32, message.id.to_bytes(4, sys.byteorder), strides=(0,))
        length = np.ndarray(rows, np.uint16, message.length.to_bytes(2, sys.byteorder), strides=(0,))
        return PayloadRows(t_ns, identifier, length, words)

    @staticmethod
    def joined(parts: list[PayloadRows]) -> PayloadRows:
        """One behind the other."""
        if len(parts) == 1:
            return parts[0]
        return PayloadRows(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


class MessageRows:
    """Rows of one table.

    Args:
        name: of the table.
        bus: that its frames come on.
        message: that they are.
        decoder: of the message.

    Attributes:
        refused: frames that could not be decoded, by (bus, ``0x`` id, reason).
        bytes: memory of what is pending.
    """

    def __init__(self, name: str, bus: int, message: BusMessage, decoder: MessageDecoder) -> None:
        self.name = name
        self.message = message
        self.refused: Counter[tuple[int, str, str]] = Counter()
        self.bytes = 0
        self._bus = bus
        self._decoder = decoder
        self._most = BATCH_BYTES // (8 * len(decoder.schema))
        self._row_bytes = sum(column.itemsize * column[:1].size for column in PayloadRows.room(1, message))
        self._pending = PayloadRows.none(message.length)
        self._rows = 0
        self._given = False

    def add(self, payloads: PayloadRows) -> None:
        """More payloads, behind those that are pending."""
        here = self._next(len(payloads.t_ns))
        self._pending.part(here).fill(payloads)

    def add_frames(self, frames: Frames, words: NDArray[np.uint64], rows: NDArray[np.intp]) -> None:
        """More frames, behind those that are pending.

        Args:
            frames: some frames.
            words: (n, 1 or 8) their payloads.
            rows: which frames; all of them hold the bytes of the message.
        """
        here = self._next(len(rows))
        pending = self._pending
        frames.t_ns.take(rows, out=pending.t_ns[here], mode="clip")
        if words.shape[1] == pending.words.shape[1] == 1:
            # by far the most frequent case, and twice as fast as rows of words
            words[:, 0].take(rows, out=pending.words[here, 0], mode="clip")
        elif len(rows):
            pending.words[here] = words[:, : pending.words.shape[1]].take(rows, axis=0)
        if self.message.j1939:
            frames.id.take(rows, out=pending.id[here], mode="clip")
            pending.length[here] = self.message.length

    def _next(self, count: int) -> slice:
        """Place for more rows."""
        first, self._rows = self._rows, self._rows + count
        self.bytes += count * self._row_bytes
        if self._rows > len(self._pending.t_ns):
            before = self._pending.part(slice(first))
            self._pending = PayloadRows.room(
                2 * self._rows if first else max(self._rows, min(self._most, ROOM_ROWS)), self.message
            )
            self._pending.part(slice(first)).fill(before)
        return slice(first, self._rows)

    def _taken(self) -> PayloadRows:
        """What is pending, which nothing is any more."""
        pending = self._pending.part(slice(self._rows))
        self._pending, self._rows, self.bytes = PayloadRows.none(self.message.length), 0, 0
        return pending

    def refuse(self, identifier: int, reason: str, frames: int) -> None:
        """Frames that are no row."""
        self.refused[self._bus, f"0x{identifier:x}", f"{self.name}: {reason}"] += frames

    def full(self, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Batches of ``batch_rows`` frames, fewer where one would take more than 16 MiB; less the refused ones."""
        rows = max(1, min(batch_rows, self._most))
        if self._rows < rows:
            return
        whole, pending = self._rows - self._rows % rows, self._taken()
        for start in range(0, whole, rows):
            if len(batch := self._decode(pending.part(slice(start, start + rows)))):
                yield batch
        if whole < len(pending.t_ns):
            # a copy, so that what was given does not stay in memory
            self.add(pending.part(slice(whole, None)))

    def rest(self, *, closing: bool) -> Iterator[pa.RecordBatch]:
        """What is pending; when ``closing``, at least one batch in all, without rows if no frame could be decoded."""
        batch = self._decode(self._taken())
        if len(batch) or (closing and not self._given):
            self._given = True
            yield batch

    def _decode(self, payloads: PayloadRows) -> pa.RecordBatch:
        batch, refused = self._decoder.decode(payloads.t_ns, Payloads(payloads.words, payloads.length))
        for rows, reason in refused:
            for identifier, frames in zip(
                *(column.tolist() for column in np.unique(payloads.id[rows], return_counts=True)), strict=True
            ):
                self.refuse(identifier, reason, frames)
        self._given |= len(batch) > 0
        return batch
