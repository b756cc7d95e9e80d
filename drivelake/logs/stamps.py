"""Running statistics of the stamps of a channel. Belongs here: what is counted of them, and how it stays small.

Never here: a format, how stamps are read, what a report says besides (report).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivelake.logs.report import ChannelReport

__all__ = ["Stamps"]

FOLD_AT = 1 << 14
SLICE = 1 << 18
GAPS_MAX = 1 << 14
GAP_MEDIANS = 5
GAP_NS_MIN = 50_000_000
JUMP_NS_MIN = 128_000_000
# gaps that lie within so many times their number are counted in a table of that length, which is cheaper than sorting
TABLE_MAX = 8


class Stamps:
    """Running statistics of the stamps of one channel, in memory that does not grow with the log.

    Median and number of gaps are exact while a channel has at most 16,384 different gaps; beyond, gaps are rounded to the
    smallest power of two of nanoseconds that keeps their number below that.
    """

    def __init__(self) -> None:
        self._parts: list[NDArray[np.int64]] = []
        self._singles: list[int] = []
        self._pending = 0
        self._previous: int | None = None
        self._first: int | None = None
        self._last: int | None = None
        self._count = 0
        self._backward = 0
        self._backward_max = 0
        self._jumps = 0
        self._gap_max: int | None = None
        self._shift = 0
        self._gaps: NDArray[np.int64] = np.empty(0, np.int64)
        self._gap_counts: NDArray[np.int64] = np.empty(0, np.int64)

    def add(self, stamp_ns: int) -> None:
        """One more message."""
        self._singles.append(stamp_ns)
        self._pending += 1
        if self._pending >= FOLD_AT:
            self._fold()

    def extend(self, stamps_ns: NDArray[np.int64]) -> None:
        """More messages, in the order they were logged."""
        self._close_singles()
        self._pending += len(stamps_ns)
        whole = self._pending >= FOLD_AT
        # what waits is copied: readers use their buffers again
        self._parts.append(stamps_ns if whole else stamps_ns.copy())
        if whole:
            self._fold()

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
            gaps=0 if median is None else self._longer_than(max(GAP_MEDIANS * median, GAP_NS_MIN)),
            backward_ms_max=self._backward_max / 1e6 if self._backward else None,
            backward_jumps=self._jumps,
            mean_hz=self._mean_hz(),
        )

    def _close_singles(self) -> None:
        if self._singles:
            self._parts.append(np.array(self._singles, np.int64))
            self._singles.clear()

    def _fold(self) -> None:
        self._close_singles()
        # a huge part is taken in slices: to count its gaps needs a few times their memory
        for part in [np.concatenate(self._parts)] if len(self._parts) > 1 else self._parts:
            for start in range(0, len(part), SLICE):
                self._take(part[start : start + SLICE])
        self._parts.clear()
        self._pending = 0

    def _take(self, stamps: NDArray[np.int64]) -> None:
        low, high = int(stamps.min()), int(stamps.max())
        self._first = low if self._first is None else min(self._first, low)
        self._last = high if self._last is None else max(self._last, high)
        self._count += len(stamps)
        steps = np.diff(stamps) if self._previous is None else np.diff(stamps, prepend=np.int64(self._previous))
        self._previous = int(stamps[-1])
        if not len(steps):
            return
        if int(steps.min()) < 0:
            backward = steps[steps < 0]
            self._backward += len(backward)
            self._backward_max = max(self._backward_max, -int(backward.min()))
            self._jumps += int((backward <= -JUMP_NS_MIN).sum())
            steps = steps[steps >= 0]
        if len(steps):
            self._gap_max = max(self._gap_max or 0, int(steps.max()))
            self._count_gaps(*_counted(steps >> self._shift))

    def _count_gaps(self, gaps: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        """Merge counted gaps, and coarsen all of them while they are too many."""
        if len(self._gaps):
            gaps, counts = np.concatenate((self._gaps, gaps)), np.concatenate((self._gap_counts, counts))
            order = np.argsort(gaps, kind="stable")  # two runs that rise: one merge
            gaps, counts = gaps[order], counts[order]
        coarser = 0
        while np.count_nonzero(np.diff(gaps >> coarser)) >= GAPS_MAX:
            coarser += 1
        gaps = gaps >> coarser
        starts = np.flatnonzero(np.diff(gaps, prepend=gaps[0] - 1))
        self._shift += coarser
        self._gaps, self._gap_counts = gaps[starts], np.add.reduceat(counts, starts)

    def _median(self) -> float | None:
        """Mean of the two middle gaps, ns."""
        total = int(self._gap_counts.sum())
        if not total:
            return None
        ends = np.cumsum(self._gap_counts)
        low, high = (int(self._gaps[np.searchsorted(ends, rank, side="right")]) for rank in ((total - 1) // 2, total // 2))
        return (low + high) / 2 * (1 << self._shift)

    def _mean_hz(self) -> float | None:
        """Steps over the time that they take, whatever their order."""
        span = (self._last or 0) - (self._first or 0)
        return (self._count - 1) * 1e9 / span if span else None

    def _longer_than(self, bound_ns: float) -> int:
        """How many gaps exceed a bound."""
        return int(self._gap_counts[self._gaps * float(1 << self._shift) > bound_ns].sum())


def _counted(gaps: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The different gaps, rising, and how many there are of each."""
    low, high = int(gaps.min()), int(gaps.max())
    if high - low > TABLE_MAX * len(gaps):
        return np.unique_counts(gaps)
    counts = np.bincount(gaps - low)
    found = np.flatnonzero(counts)
    return found + low, counts[found]
