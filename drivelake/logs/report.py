"""What a log is found to hold, and what passes out of the readers. Belongs here: the types, the statistics of stamps.

Never here: a format, a library that reads one, a file that is opened.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import JsonValue, TypeAdapter

__all__ = ["ChannelReport", "Leftovers", "LogBatch", "LogReport", "Stamps"]

FOLD_AT = 4096
GAPS_MAX = 1 << 16


@dataclass(frozen=True)
class ChannelReport:
    """One topic or channel group, its messages in the order they were logged.

    Attributes:
        name: topic, or name of the channel group.
        type: schema of the message, ``mdf.group`` or ``can.frames``.
        messages: readable ones.
        first_ns: the earliest receive stamp, UTC ns; None without messages.
        last_ns: the latest receive stamp, UTC ns.
        rate_hz: one over the median gap between neighbours as logged, backward steps left out; None below two messages.
        gap_ms_max: the largest forward step between neighbours as logged.
        backward_steps: how many stamps run backwards.
    """

    name: str
    type: str
    messages: int
    first_ns: int | None
    last_ns: int | None
    rate_hz: float | None
    gap_ms_max: float | None
    backward_steps: int


@dataclass(frozen=True)
class LogReport:
    """What one log holds and what is wrong with it.

    Attributes:
        name: path of the log inside its drive.
        format: ``mcap``, ``mdf4``, ``mdf3``, or ``unknown`` when the first bytes are neither.
        bytes: size of the file.
        channels: sorted by name; for a damaged log what can be read of them.
        damage: one sentence for each contradiction, with offsets and numbers.
        notes: what limits the use of a sound log, or the reach of its checks.
    """

    name: str
    format: str
    bytes: int
    channels: tuple[ChannelReport, ...]
    damage: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def readable(self) -> bool:
        """Whether nothing contradicts the format."""
        return not self.damage

    def as_dict(self) -> dict[str, JsonValue]:
        """The report as JSON values, ``readable`` included."""
        return TypeAdapter(dict[str, JsonValue]).validate_python(
            {
                **asdict(self),
                "channels": [asdict(channel) for channel in self.channels],
                "damage": list(self.damage),
                "notes": list(self.notes),
                "readable": self.readable,
            }
        )


class LogBatch(NamedTuple):
    """Consecutive rows of one channel.

    Attributes:
        channel: topic, name of a channel group, or name of a CAN message.
        type: as in :class:`ChannelReport`, or ``can.message``.
        batch: the rows; the schema is the same in every batch of a channel.
        last: no batch of this channel follows; False where the reader cannot know.
    """

    channel: str
    type: str
    batch: pa.RecordBatch
    last: bool = False


@dataclass
class Leftovers:
    """What a log holds and no table does, so that nothing is dropped in silence.

    Attributes:
        unsupported: reason by channel.
        frames: CAN frames that no database decodes, by (bus, ``0x`` id, reason).
    """

    unsupported: dict[str, str] = field(default_factory=dict)
    frames: Counter[tuple[int, str, str]] = field(default_factory=Counter)


class Stamps:
    """Running statistics of the stamps of one channel, in memory that does not grow with the log.

    The median gap is exact while a channel has at most 65,536 different gaps; beyond, gaps are rounded to the
    smallest power of two of nanoseconds that keeps their number below that.
    """

    def __init__(self) -> None:
        self._pending: list[int] = []
        self._previous: int | None = None
        self._first: int | None = None
        self._last: int | None = None
        self._count = 0
        self._backward = 0
        self._gap_max: int | None = None
        self._shift = 0
        self._gaps: NDArray[np.int64] = np.empty(0, np.int64)
        self._gap_counts: NDArray[np.int64] = np.empty(0, np.int64)

    def add(self, stamp_ns: int) -> None:
        """One more message."""
        self._pending.append(stamp_ns)
        if len(self._pending) >= FOLD_AT:
            self._fold()

    def extend(self, stamps_ns: NDArray[np.int64]) -> None:
        """More messages, in the order they were logged."""
        self._fold()
        self._take(stamps_ns)

    def report(self, name: str, kind: str) -> ChannelReport:
        """What was seen so far."""
        self._fold()
        median = self._median()
        return ChannelReport(
            name=name,
            type=kind,
            messages=self._count,
            first_ns=self._first,
            last_ns=self._last,
            rate_hz=None if not median else 1e9 / median,
            gap_ms_max=None if self._gap_max is None else self._gap_max / 1e6,
            backward_steps=self._backward,
        )

    def _fold(self) -> None:
        self._take(np.array(self._pending, np.int64))
        self._pending.clear()

    def _take(self, stamps: NDArray[np.int64]) -> None:
        if not len(stamps):
            return
        low, high = int(stamps.min()), int(stamps.max())
        self._first = low if self._first is None else min(self._first, low)
        self._last = high if self._last is None else max(self._last, high)
        self._count += len(stamps)
        gaps = np.diff(stamps) if self._previous is None else np.diff(stamps, prepend=np.int64(self._previous))
        self._previous = int(stamps[-1])
        self._backward += int((gaps < 0).sum())
        forward = gaps[gaps >= 0]
        if len(forward):
            self._gap_max = max(self._gap_max or 0, int(forward.max()))
            self._count_gaps(forward >> self._shift, np.ones(len(forward), np.int64))

    def _count_gaps(self, gaps: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        """Merge counted gaps, and coarsen all of them while they are too many."""
        gaps, counts = np.concatenate((self._gaps, gaps)), np.concatenate((self._gap_counts, counts))
        while True:
            self._gaps, place = np.unique(gaps, return_inverse=True)
            self._gap_counts = np.zeros(len(self._gaps), np.int64)
            np.add.at(self._gap_counts, place, counts)
            if len(self._gaps) <= GAPS_MAX:
                return
            self._shift += 1
            gaps, counts = self._gaps >> 1, self._gap_counts

    def _median(self) -> float | None:
        """Mean of the two middle gaps, ns."""
        total = int(self._gap_counts.sum())
        if not total:
            return None
        ends = np.cumsum(self._gap_counts)
        low, high = (int(self._gaps[np.searchsorted(ends, rank, side="right")]) for rank in ((total - 1) // 2, total // 2))
        return (low + high) / 2 * (1 << self._shift)
