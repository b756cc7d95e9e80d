"""Which segment of a clock each stamp belongs to. Belongs here: the walk over segments that may overlap in native time.

Never here: finding segments (segments), mapping a stamp (clocks).

Where a clock jumps forward, stamps between two segments belong to the nearer. Where it jumps back, two segments hold the same
native times, and only the order of writing tells them apart: the stamps step back once. Stamps are disordered for other
reasons too (late or corrupt ones), so single steps prove little. The walk therefore costs whole assignments, and takes the
cheapest of those in which the segment's number never decreases:

    a stamp outside of its segment        its distance, at most COST_MAX_NS
    a step back within a segment          its size, at most COST_MAX_NS
    going on where the clock jumped back  a quarter of how far the stamps before and after lie from the segments' ends,
                                          each at most COST_MAX_NS

All in whole ns, by dynamic programming over N stamps and K segments: time O(N K), memory 110 N + N K / 4 bytes. Among equals
the segment that was written first wins. A sensor whose stamps all lie where two segments overlap, without a step back, can
only be put into the first.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

__all__ = ["COST_MAX_NS", "SLACK_NS", "Span", "walk"]

IntArray = NDArray[np.int64]
BoolArray = NDArray[np.bool_]
Span = tuple[int | None, int | None]

COST_MAX_NS = 1_000_000_000
# Segments end where one sensor's samples do; another one may have samples a little beyond where the clock jumped back.
SLACK_NS = 250_000_000
UNREACHABLE_NS = 1 << 61
INT64 = np.iinfo(np.int64)


def walk(utc_ns: IntArray, spans: Sequence[Span]) -> NDArray[np.intp]:
    """Assign every stamp to a segment.

    Args:
        utc_ns: (N,) int64, in the order in which they were written.
        spans: first and last stamp of each of the K segments, in that order too; None: whatever comes.

    Returns:
        (N,) intp in [0, K), never decreasing.
    """
    own = np.zeros(utc_ns.size, dtype=np.intp)
    if len(spans) < 2 or utc_ns.size == 0:
        return own
    disorder = _disorder(utc_ns)
    # cheapest way to begin a run of the next segment at each stamp, all before it being assigned already
    reach = np.full(utc_ns.size, UNREACHABLE_NS)
    reach[0] = 0
    began, direct, ends = [], [], []
    for enter, outside, leave in _costs(utc_ns, spans):
        within = np.cumsum(outside + disorder)
        start = reach + enter + outside - within
        cheapest = np.minimum.accumulate(start)
        began.append(np.packbits(np.concatenate(([True], start[1:] < cheapest[:-1]))))
        total = cheapest + within
        ends.append(int(total[-1]))
        onward = np.concatenate(([UNREACHABLE_NS], (total + leave)[:-1]))
        direct.append(np.packbits(onward < reach))
        reach = np.minimum(reach, onward)
    segment, stop = int(np.argmin(ends)), utc_ns.size
    while True:
        first = int(np.flatnonzero(np.unpackbits(began[segment], count=stop))[-1])
        own[first:stop] = segment
        if first == 0:
            return own
        segment = next(at for at in range(segment - 1, -1, -1) if direct[at][first >> 3] >> (7 - (first & 7)) & 1)
        stop = first


def _costs(utc_ns: IntArray, spans: Sequence[Span]) -> Iterator[tuple[IntArray, IntArray, IntArray]]:
    """Of each segment (N,) int64: what it costs to come to it, to lie outside of it, to go on from it."""
    back = [False, *(_jumps_back(before, after) for before, after in itertools.pairwise(spans)), False]
    for at, ((first, last), (low, high)) in enumerate(zip(spans, _bounds(spans), strict=True)):
        enter = _quarter(utc_ns, first if back[at] else None)
        # nobody comes to a segment with the very first stamp
        enter[0] = 0
        outside = np.minimum(np.abs(utc_ns - np.clip(utc_ns, low, high)), COST_MAX_NS)
        yield enter, outside, _quarter(utc_ns, last if back[at + 1] else None)


def _bounds(spans: Sequence[Span]) -> list[tuple[int, int]]:
    """From where to where stamps belong to each segment at no cost."""
    lows, highs = [int(INT64.min)], []
    for before, after in itertools.pairwise(spans):
        last, first = before[1], after[0]
        if last is not None and first is not None and last < first:
            highs.append(last + (first - last) // 2)
            lows.append(highs[-1] + 1)
        else:
            highs.append(int(INT64.max) if last is None else last + SLACK_NS)
            lows.append(int(INT64.min) if first is None else first - SLACK_NS)
    return list(zip(lows, [*highs, int(INT64.max)], strict=True))


def _jumps_back(before: Span, after: Span) -> bool:
    return before[1] is None or after[0] is None or after[0] <= before[1]


def _disorder(utc_ns: IntArray) -> IntArray:
    steps = utc_ns[:-1] - utc_ns[1:]
    return np.concatenate((np.zeros(1, dtype=np.int64), np.clip(steps, 0, COST_MAX_NS)))


def _quarter(utc_ns: IntArray, end_ns: int | None) -> IntArray:
    if end_ns is None:
        return np.zeros_like(utc_ns)
    quarter: IntArray = np.minimum(np.abs(utc_ns - end_ns), COST_MAX_NS) // 4
    return quarter
