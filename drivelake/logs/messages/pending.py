"""Messages that wait for their record batch. Belongs here: copying them out of their block, where each came from.

Never here: what a message says.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivelake.logs.messages.block import MessageRun
from drivelake.logs.messages.serial import gather

__all__ = ["CUT_BYTES", "Cut", "Held", "Pending", "place"]

# A row's stamps and places
ROW_BYTES = 64
# The same as Python objects, and no whole message needs more beside its bytes
CUT_BYTES = 320


class Cut(NamedTuple):
    """One message without its payload.

    Attributes:
        kept: what is left of it.
        payload_at: where the payload begins in the message.
        payload_bytes: its length.
    """

    kept: bytes
    payload_at: int
    payload_bytes: int


class Held(NamedTuple):
    """Messages one behind the other in memory of their own, in the order in which they came.

    Attributes:
        data: (bytes,) uint8.
        starts: (n,) int64, where each begins in ``data``.
        lengths: (n,) int64.
        log_ns: (n,) int64, receive stamps.
        publish_ns: (n,) int64, publish stamps.
        chunks: (n,) int64, file offset of the chunk each came from, -1 for the file itself.
        offsets: (n,) int64, where each stood in there.
        payload_at: (n,) int64, where its payload begins in the whole message; empty where nothing was cut out.
        payload_bytes: (n,) int64, bytes of its payload; empty where nothing was cut out.
    """

    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    log_ns: NDArray[np.int64]
    publish_ns: NDArray[np.int64]
    chunks: NDArray[np.int64]
    offsets: NDArray[np.int64]
    payload_at: NDArray[np.int64]
    payload_bytes: NDArray[np.int64]

    def parts(self, size: int, rows: int) -> Iterator[Held]:
        """Consecutive messages of about ``size`` bytes together, at least one and at most ``rows``."""
        first, total = 0, len(self.starts)
        while first < total:
            last = int(np.searchsorted(self.starts, self.starts[first] + size))
            last = min(max(last, first + 1), first + rows, total)
            yield Held(self.data, *(column[first:last] for column in self[1:]))
            first = last

    def messages(self) -> list[bytes]:
        """Each of them."""
        if not len(self.starts):
            return []
        first = int(self.starts[0])
        whole = self.data[first : int(self.starts[-1] + self.lengths[-1])].tobytes()
        starts = self.starts - first
        return [whole[start:end] for start, end in zip(starts.tolist(), (starts + self.lengths).tolist(), strict=True)]


def place(chunk: int, offset: int) -> str:
    """Where a message stands, for sentences."""
    return f"byte {offset}" + (f" of the chunk at offset {chunk}" if chunk >= 0 else "")


class Pending:
    """Messages of one channel, copied run by run; nothing is looked at before they are taken.

    Attributes:
        rows: how many.
        bytes: memory that they hold, roughly.
    """

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self.rows = 0
        self.bytes = 0
        self._data: list[NDArray[np.uint8]] = []
        self._columns: list[NDArray[np.int64]] = []
        self._origins: list[tuple[int, int, int]] = []
        self._cuts: list[Cut] = []

    def add(self, run: MessageRun) -> None:
        """All messages of a run, whole."""
        pieces, starts, lengths, log_ns, publish_ns = run
        rows = len(starts)
        if not rows:
            return
        low = int(lengths.min())
        sizes: int | NDArray[np.int64] = low if low == int(lengths.max()) else lengths
        first = 0
        for (buffer, chunk, origin), count in pieces:
            last = first + count
            self._data.append(gather(buffer, starts[first:last], sizes if isinstance(sizes, int) else sizes[first:last]))
            self._origins.append((count, chunk, origin))
            first = last
        # a copy: a view would keep the columns of all channels of its block
        self._columns.append(np.array((starts, lengths, log_ns, publish_ns)))
        self.rows += rows
        self.bytes += int(lengths.sum()) + ROW_BYTES * rows

    def add_cuts(self, cuts: list[Cut], columns: NDArray[np.int64]) -> None:
        """Messages without their payloads. A table holds messages of one kind: whole ones or cut ones.

        Args:
            cuts: (n,) what is left of each.
            columns: (4, n) int64, receive stamps, publish stamps, ``chunks`` and ``offsets`` as in :class:`Held`; kept.
        """
        self._cuts += cuts
        self._columns.append(columns)
        self.rows += len(cuts)
        self.bytes += sum([len(cut.kept) for cut in cuts]) + CUT_BYTES * len(cuts)

    def take(self) -> Held:
        """All of them; they are forgotten here."""
        none = np.empty(0, np.int64)
        if self._cuts:
            held = _cuts(self._cuts, np.concatenate(self._columns, 1))
        elif self._data:
            data = np.concatenate(self._data)
            starts, lengths, log_ns, publish_ns = np.concatenate(self._columns, 1)
            rows, chunks, origins = np.array(self._origins, np.int64).T
            offsets, places = starts + np.repeat(origins, rows), np.cumsum(lengths) - lengths
            held = Held(data, places, lengths, log_ns, publish_ns, np.repeat(chunks, rows), offsets, none, none)
        else:
            held = Held(np.empty(0, np.uint8), *[none] * 8)
        self._begin()
        return held


def _cuts(cuts: list[Cut], columns: NDArray[np.int64]) -> Held:
    data = np.frombuffer(b"".join([cut.kept for cut in cuts]), np.uint8)
    numbers = np.array([(len(kept), payload_at, size) for kept, payload_at, size in cuts], np.int64)
    lengths, *payloads = np.ascontiguousarray(numbers.T)
    return Held(data, np.cumsum(lengths) - lengths, lengths, *columns, *payloads)
