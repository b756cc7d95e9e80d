"""What matching came to. Belongs here: counts and percentiles over all ticks of a sensor, taken a row group at a time.

Never here: matching, the sentences made of the counts (notes).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivelake.frames.columns import Filled
from drivelake.frames.matching import AFTER, BEFORE, GAP, NONE, OLD, REASONS, STALE
from drivelake.frames.ordered import Ordered
from drivelake.frames.report import Ages, SensorReport, Unmatched

__all__ = ["Tally", "age_percentiles"]

IntArray = NDArray[np.int64]

NS_PER_MS = 1_000_000
# an age below this is kept in half the memory
SHORT_NS = np.iinfo(np.int32).max


class Tally:
    """Counts of one sensor; ``add`` in the order of the ticks."""

    def __init__(self, samples: int) -> None:
        self._samples = samples
        # which samples are held; of one sample a tick it is enough to count how often it changes
        self._both: NDArray[np.bool_] | None = None
        self._used = 0
        self._ages: list[NDArray[np.int32] | IntArray] = []
        self._reasons = np.zeros(len(REASONS), dtype=np.int64)
        self._matched = self._reused = 0
        self._last = -1

    def add(self, filled: Filled) -> None:
        """Count some ticks."""
        found = filled.match
        index, other, age_ns = found.index, found.other, found.age_ns
        if not found.every:
            there = found.found
            self._reasons += np.bincount(found.reason[~there], minlength=len(REASONS))
            one = other is index
            index, age_ns = index[there], age_ns[there]
            other = index if one else other[there]
        if index.size == 0:
            return
        self._matched += index.size
        ages = np.abs(age_ns)
        self._ages.append(ages.astype(np.int32) if int(ages.max()) <= SHORT_NS else ages)
        if filled.taken is not None:
            self._used += filled.taken
            return
        # samples are held in their order, so one that is held again was held by the tick before
        again = int(np.count_nonzero(index[1:] == index[:-1])) + int(int(index[0]) + filled.first == self._last)
        self._last = int(index[-1]) + filled.first
        self._reused += again
        if other is index:
            self._used += index.size - again
            return
        if self._both is None:
            self._both = np.zeros(self._samples, dtype=bool)
        self._both[index + filled.first] = True
        self._both[other + filled.first] = True

    def reported(self, described: SensorReport, ordered: Ordered) -> SensorReport:
        """The report with what reading and matching gave."""
        samples = ordered.samples
        used = self._used if self._both is None else int(np.count_nonzero(self._both))
        counts = {
            "rows": samples.rows,
            "without_stamp": samples.without_stamp,
            "invalid": samples.invalid,
            "duplicated_stamps": ordered.duplicated,
            "backward_stamps": samples.backward_stamps,
            "samples": self._samples,
            "constant": ordered.constant,
            "longest_unchanged_ms": ordered.longest_unchanged_ms,
            "matched": self._matched,
            "unmatched": self._unmatched(),
            "reused": self._reused,
            "unused": self._samples - used,
            "age_ms": age_percentiles(self._ages),
        }
        return described.model_copy(update=counts)

    def _unmatched(self) -> Unmatched:
        by = [int(count) for count in self._reasons]
        return Unmatched(
            no_samples=by[NONE], before_first=by[BEFORE], after_last=by[AFTER], too_old=by[OLD], gap=by[GAP], stale=by[STALE]
        )


def age_percentiles(ages: list[NDArray[np.int32] | IntArray]) -> Ages | None:
    """Percentiles of ages (each (T,) ns, not negative), nearest rank; None when there are none."""
    if not ages:
        return None
    every = np.concatenate(ages)
    # nearest rank: the least age that at least `percent` % of the frames do not exceed
    ranks = [-(-percent * every.size // 100) - 1 for percent in (50, 95, 99, 100)]
    every.partition(ranks)
    p50, p95, p99, largest = (round(int(every[rank]) / NS_PER_MS, 6) for rank in ranks)
    return Ages(p50=p50, p95=p95, p99=p99, max=largest)
