"""What every table of messages does, whatever their encoding. Belongs here: stamps, columns, rows that are left out.

Never here: an encoding.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.errors import UnsupportedLog
from drivelake.logs.arrow import AnyArray, AnyField, numbers
from drivelake.logs.findings import Findings
from drivelake.logs.messages.block import Channel, MessageBlock, MessageRun
from drivelake.logs.messages.pending import Cut, Held, Pending, place
from drivelake.logs.messages.serial import Faulty

__all__ = ["Contradiction", "Table", "unsupported"]

# Decoded at once: enough that numpy works and Python does not, little enough that lists of small items stay small
PART_BYTES = 4 << 20
PART_ROWS = 1 << 15
COLUMNS_MAX = 4096
# Of messages inside of messages, and of seconds whose nanoseconds fit into int64 with any fraction of 32 bits
NESTED_MAX = 64
SECONDS_MAX = (1 << 63) // 1_000_000_000 - 8

STAMP_FIELDS = (
    pa.field("t_ns", pa.int64(), nullable=False),
    pa.field("publish_ns", pa.int64(), nullable=False),
    pa.field("sensor_ns", pa.int64()),
)
POINTER_FIELDS = tuple(pa.field(f"payload_{part}", pa.int64(), nullable=False) for part in ("chunk", "offset", "bytes"))


class Contradiction(Exception):
    """One message does not hold what its definition says; the text says why. Never leaves these modules."""


def unsupported(channel: str, reason: str) -> UnsupportedLog:
    """The error for a channel that cannot become a table."""
    return UnsupportedLog(f"Channel {channel!r} cannot be read: {reason}.", next_step="select the other channels by name")


class Table:
    """Messages of one channel on their way into record batches.

    Messages are copied on :meth:`add` and :meth:`extend`, and decoded together on :meth:`take`. One that contradicts its
    definition is told to the findings, and its row is left out.

    Args:
        channel: whose messages.
        columns: behind the stamps, in order.
        findings: told every message that is no message of this type.
        cut: takes the payload out of one message and leaves a pointer; raises :class:`Contradiction`.

    Attributes:
        channel: name of the table.
        type: of its messages.
        schema: of every batch: ``t_ns`` (receive), ``publish_ns``, ``sensor_ns`` (null where nobody set it), the columns, and
            for payloads ``payload_chunk``, ``payload_offset``, ``payload_bytes``.
    """

    def __init__(
        self,
        channel: Channel,
        columns: Sequence[AnyField],
        findings: Findings,
        cut: Callable[[memoryview], Cut] | None = None,
    ) -> None:
        if len(columns) > COLUMNS_MAX:
            raise unsupported(channel.name, f"it would have {len(columns)} columns, at most {COLUMNS_MAX} are read")
        self.channel = channel.name
        self.type = channel.schema_name
        self.schema = pa.schema((*STAMP_FIELDS, *_distinct(columns), *(POINTER_FIELDS if cut else ())))
        self._findings = findings
        self._pending = Pending()
        self._cut = cut

    @property
    def rows(self) -> int:
        """Pending messages."""
        return self._pending.rows

    @property
    def bytes(self) -> int:
        """Memory that they hold, roughly."""
        return self._pending.bytes

    def add(self, block: MessageBlock) -> None:
        """More messages; as :meth:`extend`."""
        self.extend(block.run())

    def extend(self, run: MessageRun) -> None:
        """More messages; the run's buffers are not needed any more afterwards.

        Raises:
            LogDamaged: the findings are strict, and a message does not even show where its payload stands.
        """
        if self._cut is None:
            self._pending.add(run)
        else:
            self._extend_cut(run, self._cut)

    def _extend_cut(self, run: MessageRun, cut: Callable[[memoryview], Cut]) -> None:
        """Cut the payload out of each message."""
        pieces, starts, lengths, log_ns, publish_ns = run
        begins, ends = starts.tolist(), (starts + lengths).tolist()
        cuts: list[Cut] = []
        places: list[tuple[int, int]] = []
        kept: list[int] = []
        first = 0
        for (buffer, chunk, origin), count in pieces:
            data = buffer.data
            for row in range(first, first + count):
                start = begins[row]
                try:
                    cuts.append(cut(data[start : ends[row]]))
                except Contradiction as error:
                    self._tell(chunk, origin + start, str(error))
                else:
                    places.append((chunk, origin + start))
                    kept.append(row)
            first += count
        if cuts:
            self._pending.add_cuts(cuts, np.array((log_ns[kept], publish_ns[kept], *zip(*places, strict=True)), np.int64))

    def take(self) -> pa.RecordBatch:
        """All pending messages as rows, in the order in which they came.

        Raises:
            LogDamaged: the findings are strict, and a message contradicts its definition.
        """
        held = self._pending.take()
        batches = [self._batch(part) for part in held.parts(PART_BYTES, PART_ROWS)]
        if not batches:
            return pa.RecordBatch.from_arrays([pa.array([], field.type) for field in self.schema], schema=self.schema)
        return batches[0] if len(batches) == 1 else pa.concat_batches(batches)  # type: ignore[attr-defined]  # not in the stubs

    def _batch(self, held: Held) -> pa.RecordBatch:
        """Decode, and again without the rows that are found to be damaged, until none is."""
        sound = np.arange(len(held.starts))
        lost: dict[int, str] = {}
        while True:
            try:
                sensor, columns = self._decode(held, sound)
                break
            except Faulty as faulty:
                lost.update(zip(faulty.rows.tolist(), faulty.why, strict=True))
                sound = np.setdiff1d(sound, faulty.rows)
        for row in sorted(lost):
            self._tell(int(held.chunks[row]), int(held.offsets[row]), lost[row])
        stamps = [numbers(held.log_ns[sound]), numbers(held.publish_ns[sound]), sensor]
        pointers: list[AnyArray] = []
        if self._cut:
            at = held.offsets[sound] + held.payload_at[sound]
            pointers = [numbers(held.chunks[sound]), numbers(at), numbers(held.payload_bytes[sound])]
        return pa.RecordBatch.from_arrays([*stamps, *columns, *pointers], schema=self.schema)

    def _decode(self, held: Held, rows: NDArray[np.int64]) -> tuple[AnyArray, list[AnyArray]]:
        """The sensor stamp and the columns of some messages.

        Raises:
            Faulty: for rows that contradict their definition.
        """
        raise NotImplementedError

    def _tell(self, chunk: int, offset: int, why: str) -> None:
        self._findings.damaged(
            f"Channel {self.channel!r}: the message at {place(chunk, offset)} is no {self.type}: {why}.",
            channel=self.channel,
            lost=1,
        )


def sensor_stamps(seconds: AnyArray, nanoseconds: AnyArray) -> AnyArray:
    """Sensor stamps in ns from whole columns of 32 bits; a stamp of zero means that nobody set it."""
    stamps = int64_values(seconds) * 1_000_000_000 + int64_values(nanoseconds)
    return numbers(stamps, stamps == 0)


def stamp_ns(seconds: object, nanoseconds: object) -> int:
    """A sensor stamp in ns from one message; a part that is not set counts as 0.

    Raises:
        Contradiction: it is beyond what fits.
    """
    whole, part = (value if isinstance(value, int) else 0 for value in (seconds, nanoseconds))
    stamp = whole * 1_000_000_000 + part
    if abs(stamp) >= 1 << 63:
        raise Contradiction(f"its stamp has {whole} seconds and {part} ns, which is beyond int64")
    return stamp


def int64_values(column: AnyArray) -> NDArray[np.int64]:
    """(n,) int64, the numbers of a whole column of 32 or 64 bits without nulls; `to_numpy` would import pandas."""
    buffer = column.buffers()[1]
    if not len(column) or buffer is None:
        return np.empty(0, np.int64)
    return np.frombuffer(memoryview(buffer), column.type.to_pandas_dtype(), len(column)).astype(np.int64, copy=False)


def no_stamps(rows: int) -> AnyArray:
    """The sensor stamps of messages that carry none."""
    return pa.nulls(rows, pa.int64())


def _distinct(columns: Sequence[AnyField]) -> list[AnyField]:
    """A name that comes again gets ``#2``, ``#3``."""
    seen = Counter(field.name for field in STAMP_FIELDS)
    found = []
    for field in columns:
        seen[field.name] += 1
        found.append(field if seen[field.name] == 1 else field.with_name(f"{field.name}#{seen[field.name]}"))
    return found
