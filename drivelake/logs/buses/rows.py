"""Frames of one sender on their way into record batches. Belongs here: what is pending, full batches, refused frames.

Never here: which frames belong to the sender, how bits become numbers.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.logs.buses.bits import Payloads
from drivelake.logs.buses.database import BusMessage
from drivelake.logs.buses.decode import MessageDecoder, words_of

__all__ = ["MessageRows", "PayloadRows"]

BATCH_BYTES = 16 << 20


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

    @staticmethod
    def none(length: int) -> PayloadRows:
        """No payload of a message of ``length`` bytes."""
        return PayloadRows(
            np.empty(0, np.int64), np.empty(0, np.uint32), np.empty(0, np.uint16), np.empty((0, words_of(length)), np.uint64)
        )

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
        self._pending: list[PayloadRows] = []
        self._rows = 0
        self._given = False

    def add(self, payloads: PayloadRows) -> None:
        """More frames, behind those that are pending."""
        self._pending.append(payloads)
        self._rows += len(payloads.t_ns)
        self.bytes += sum(column.nbytes for column in payloads)

    def refuse(self, identifier: int, reason: str, frames: int) -> None:
        """Frames that are no row."""
        self.refused[self._bus, f"0x{identifier:x}", f"{self.name}: {reason}"] += frames

    def full(self, batch_rows: int) -> Iterator[pa.RecordBatch]:
        """Batches of ``batch_rows`` frames, fewer where one would take more than 16 MiB; less the refused ones."""
        rows = max(1, min(batch_rows, BATCH_BYTES // (8 * len(self._decoder.schema))))
        if self._rows < rows:
            return
        pending = PayloadRows.joined(self._pending)
        whole = self._rows - self._rows % rows
        for start in range(0, whole, rows):
            if len(batch := self._decode(pending.part(slice(start, start + rows)))):
                yield batch
        self._pending, self._rows, self.bytes = [], 0, 0
        if whole < len(pending.t_ns):
            # a copy, so that what was given does not stay in memory
            self.add(pending.part(np.arange(whole, len(pending.t_ns))))

    def rest(self, *, closing: bool) -> Iterator[pa.RecordBatch]:
        """What is pending; when ``closing``, at least one batch in all, without rows if no frame could be decoded."""
        batch = self._decode(PayloadRows.joined(self._pending or [PayloadRows.none(self.message.length)]))
        self._pending, self._rows, self.bytes = [], 0, 0
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
