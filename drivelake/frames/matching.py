"""Matching samples to ticks. Belongs here: the three rules, interpolation, and the counts that follow from a match.

Never here: files, clocks, declarations. Times are int64 ns on one clock, and differences are taken before any float.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from drivelake.frames.report import Ages, Unmatched

__all__ = ["Match", "Rule", "age_percentiles", "interpolate", "match", "order_samples"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Rule = Literal["nearest", "previous", "linear"]

# farther than any sample can be; stands for "there is none on this side"
NONE_NS = np.iinfo(np.int64).max
NS_PER_MS = 1_000_000


@dataclass(frozen=True)
class Match:
    """Which sample each tick holds. T ticks.

    Attributes:
        index: (T,) int64, row of the sample; for linear, of the nearer neighbour; -1 where there is none.
        other: (T,) int64, row of the farther neighbour for linear; equal to ``index`` for the other rules and on an exact hit.
        age_ns: (T,) int64, tick minus time of ``index``, negative when the sample is later; 0 where there is none.
        unmatched: ticks without a sample, by reason.
        samples: number of samples there were to choose from.
    """

    index: IntArray
    other: IntArray
    age_ns: IntArray
    unmatched: Unmatched
    samples: int

    @property
    def found(self) -> NDArray[np.bool_]:
        """(T,) bool, whether the tick holds a sample."""
        return self.index >= 0

    @property
    def matched(self) -> int:
        """Ticks that hold a sample."""
        return int(np.count_nonzero(self.found))

    @property
    def reused(self) -> int:
        """Matched ticks whose sample (for linear, whose nearer neighbour) an earlier tick holds already."""
        return self.matched - self._distinct(self.index)

    @property
    def unused(self) -> int:
        """Samples that no tick holds; for linear both neighbours are held."""
        return self.samples - self._distinct(self.index, self.other)

    def _distinct(self, *rows: IntArray) -> int:
        held = np.zeros(self.samples, dtype=bool)
        for index in rows:
            held[index[index >= 0]] = True
        return int(np.count_nonzero(held))


def order_samples(times_ns: IntArray) -> tuple[IntArray, int]:
    """Order by time, stably, and keep one sample a stamp: the last written, which is the state from then on.

    Args:
        times_ns: (N,) int64 as written.

    Returns:
        (M,) int64 rows to keep, in order of strictly increasing time, and the number dropped, N - M.
    """
    order = np.argsort(times_ns, kind="stable")
    sorted_ns = times_ns[order]
    keep = np.append(sorted_ns[1:] != sorted_ns[:-1], np.ones(min(1, order.size), dtype=bool))
    return order[keep], int(order.size - np.count_nonzero(keep))


def match(ticks_ns: IntArray, times_ns: IntArray, rule: Rule, tolerance_ns: int) -> Match:
    """Find for every tick the sample that the rule takes.

    nearest: the sample of least |age|, the earlier of two equally near, |age| <= tolerance.
    previous: the latest sample with 0 <= age, age <= tolerance.
    linear: the two samples around the tick, of which the nearer is within the tolerance; an exact hit needs no second.

    Args:
        ticks_ns: (T,) int64.
        times_ns: (N,) int64, strictly increasing, on the clock of the ticks.
        rule: as above.
        tolerance_ns: inclusive.
    """
    count = times_ns.size
    if count == 0:
        none = np.full(ticks_ns.size, -1, dtype=np.int64)
        return Match(none, none, np.zeros_like(ticks_ns), Unmatched(no_samples=int(ticks_ns.size)), 0)
    right = np.searchsorted(times_ns, ticks_ns, side="left").astype(np.int64)
    right_ns = times_ns[np.minimum(right, count - 1)]
    left = np.where((right < count) & (right_ns == ticks_ns), right, right - 1)
    left_gap = np.where(left >= 0, ticks_ns - times_ns[np.maximum(left, 0)], NONE_NS)
    right_gap = np.where(right < count, right_ns - ticks_ns, NONE_NS)

    before, after = left < 0, right >= count
    if rule == "previous":
        index, other, gap = left, left, left_gap
        after = np.zeros_like(after)
    else:
        earlier = left_gap <= right_gap
        index, gap = np.where(earlier, left, right), np.minimum(left_gap, right_gap)
        other = np.where(earlier, right, left) if rule == "linear" else index
    found = gap <= min(tolerance_ns, NONE_NS - 1)
    if rule == "linear":
        found &= ~before & ~after
    index, other = np.where(found, index, -1), np.where(found, other, -1)
    return Match(
        index=index,
        other=other,
        age_ns=np.where(found, ticks_ns - times_ns[np.maximum(index, 0)], 0),
        unmatched=Unmatched(
            before_first=int(np.count_nonzero(before & ~found)),
            after_last=int(np.count_nonzero(after & ~found)),
            too_old=int(np.count_nonzero(~found & ~before & ~after)),
        ),
        samples=int(count),
    )


def interpolate(ticks_ns: IntArray, times_ns: IntArray, values: FloatArray, found: Match) -> FloatArray:
    """Values at the ticks: between the two neighbours of a linear match, else the sample itself.

    Args:
        ticks_ns: (T,) int64.
        times_ns: (N,) int64, as given to :func:`match`.
        values: (N,) float64, finite.
        found: result of :func:`match` over the same ticks and times.

    Returns:
        (T,) float64, NaN where there is no match.
    """
    result = np.full(ticks_ns.size, np.nan)
    rows = np.flatnonzero(found.found)
    near, far = found.index[rows], found.other[rows]
    span = (times_ns[far] - times_ns[near]).astype(np.float64)
    share = (ticks_ns[rows] - times_ns[near]).astype(np.float64) / np.where(span == 0, 1.0, span)
    # a weighted sum, since values[far] - values[near] can overflow where both are finite
    result[rows] = values[near] * (1.0 - share) + values[far] * share
    return result


def age_percentiles(found: Match) -> Ages | None:
    """Percentiles of |age| over the matched ticks, nearest rank; None when nothing matched."""
    ages = np.sort(np.abs(found.age_ns[found.found]))
    if ages.size == 0:
        return None

    def at(percent: int) -> float:
        # nearest rank: the least age that at least `percent` % of the frames do not exceed
        return round(int(ages[-(-percent * ages.size // 100) - 1]) / NS_PER_MS, 6)

    return Ages(p50=at(50), p95=at(95), p99=at(99), max=at(100))
