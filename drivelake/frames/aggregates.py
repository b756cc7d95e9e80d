"""Aggregates over the interval that ends at a tick. Belongs here: mean, least, greatest and last value, how many samples.

Never here: rules that take one sample or two (matching), files, clocks.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from drivelake.frames.matching import BEFORE, FOUND, GAP, NONE, OLD, STALE, Match, positions

__all__ = ["Aggregate", "Aggregated", "aggregate"]

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]
Aggregate = Literal["mean", "min", "max", "last"]

REDUCED = {"mean": np.add, "min": np.minimum, "max": np.maximum}


@dataclass(frozen=True)
class Aggregated:
    """What the intervals hold. T ticks.

    Attributes:
        match: its ``index`` and ``age_ns`` are those of the last sample of the interval.
        values: (T,) float64; of no meaning where there is none.
        counts: (T,) int32, samples that went in; 0 where there is no value.
    """

    match: Match
    values: FloatArray
    counts: NDArray[np.int32]


def aggregate(
    ticks_ns: IntArray,
    since_ns: IntArray,
    times_ns: IntArray,
    values: FloatArray,
    rule: Aggregate,
    tolerance_ns: int,
    *,
    max_gap_ns: int | None = None,
    stale: BoolArray | None = None,
) -> Aggregated:
    """Aggregate the samples in (since, tick] for every tick.

    Args:
        ticks_ns: (T,) int64, strictly increasing.
        since_ns: (T,) int64, the tick before each; ``since_ns[1:]`` is ``ticks_ns[:-1]``.
        times_ns: (N,) int64, strictly increasing.
        values: (N,) float64, finite.
        rule: what is made of them.
        tolerance_ns: the last sample of the interval is not older than this, inclusive.
        max_gap_ns: an interval that is longer has no value.
        stale: (N,) bool, samples of a frozen sensor, which do not go in.
    """
    if times_ns.size == 0:
        nothing = np.zeros(ticks_ns.size, dtype=np.int64)
        none = Match(nothing, nothing, nothing, np.full(ticks_ns.size, NONE, dtype=np.int8))
        return Aggregated(none, np.zeros(ticks_ns.size), nothing.astype(np.int32))
    end = positions(ticks_ns, times_ns, "right")
    start = np.concatenate((positions(since_ns[:1], times_ns, "right"), end[:-1]))
    if stale is not None:
        # rows among the samples that are not stale
        fresh = np.concatenate(([0], np.cumsum(~stale)))
        every, kept = end - start, np.flatnonzero(~stale)
        start, end = fresh[start], fresh[end]
    else:
        every, kept = end - start, None
    counts = end - start
    last = np.maximum(end - 1, 0)
    index = last if kept is None else (kept[last] if kept.size else np.zeros_like(last))
    age_ns = ticks_ns - times_ns[index]

    reason = np.full(ticks_ns.size, FOUND, dtype=np.int8)
    reason[counts == 0] = STALE
    if max_gap_ns is not None:
        reason[ticks_ns - since_ns > max_gap_ns] = GAP
    reason[(every == 0) | ((counts > 0) & (age_ns > tolerance_ns))] = OLD
    reason[(every == 0) & (ticks_ns < times_ns[0])] = BEFORE
    found = reason == FOUND
    chosen = values if kept is None else values[kept]
    made = chosen[last] if rule == "last" and chosen.size else _reduced(chosen, start, counts, rule)
    return Aggregated(Match(index, index, age_ns, reason), made, np.where(found, counts, 0).astype(np.int32))


def _reduced(values: FloatArray, start: IntArray, counts: IntArray, rule: Aggregate) -> FloatArray:
    """One value for each run of ``counts`` values from ``start``; 0 for an empty one."""
    made = np.zeros(start.size)
    filled = np.flatnonzero(counts)
    if filled.size == 0 or rule == "last":
        return made
    begin = int(start[filled[0]])
    stop = int(start[filled[-1]] + counts[filled[-1]])
    # the runs follow on one another, so each ends where the next begins
    part, at = values[begin:stop], start[filled] - begin
    with np.errstate(over="ignore"):
        reduced = REDUCED[rule].reduceat(part, at)
    if rule == "mean":
        reduced = reduced / counts[filled]
        if not np.all(np.isfinite(reduced)):
            # the sum of finite values left the range, their mean does not
            reduced = np.add.reduceat(part / np.repeat(counts[filled], counts[filled]), at)
    made[filled] = reduced
    return made
