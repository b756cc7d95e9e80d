"""Where a clock jumps. Belongs here: what the stamps themselves show (steps back, long gaps), and a step in lags over time.

Never here: correlating signals, models (``alignment``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Piece", "Step", "UnsteadyStamps", "find_step", "pieces", "runs"]

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# stamps that stay behind the latest one for this many samples are a step back, fewer are late ones
BEHIND_SAMPLES = 5
LATE_NS = 50_000_000
LATE_PERIODS = 5
# a pause is no jump for this long
GAP_NS = 2_000_000_000
GAP_PERIODS = 20
# bounds the time: a clock that jumps more often has no steady time
PIECES_MAX = 1000
BLOCK_MIN, BLOCK_MAX = 1 << 8, 1 << 16
# a step this many standard errors high is one, below it is noise; and nothing below this height counts
STEP_SIGMA = 6.0
STEP_MIN_S = 3e-3
STEP_WINDOWS = 2
PLACES = 5
ALONE_SIGMA = 6.0
# windows on each side that must agree
NEAR = 6


@dataclass(frozen=True)
class Piece:
    """A stretch in which the stamps alone show no jump.

    Attributes:
        run: which run it is of; runs begin with a step back.
        first_ns: least stamp of all observations.
        last_ns: greatest stamp.
        rows: for each observation (n,) int64, its rows, in order of time and without duplicated stamps.
    """

    run: int
    first_ns: int
    last_ns: int
    rows: tuple[IntArray, ...]


class UnsteadyStamps(Exception):
    """Stamps that jump more often than any clock that has steady time: the message says how often."""

    def __init__(self, found: int) -> None:
        super().__init__(f"the stamps jump {found - 1} times, at most {PIECES_MAX - 1} are looked at")


@dataclass(frozen=True)
class Step:
    """A step in lags.

    Attributes:
        at: index of the first window behind it.
        height_s: how much the lag rises.
        sigma_s: its standard error.
    """

    at: int
    height_s: float
    sigma_s: float


def runs(t_ns: IntArray) -> tuple[slice, ...]:
    """Split stamps, in the order written, where they step back for good.

    A late sample is no step back: one is where ``BEHIND_SAMPLES`` in a row stay behind the latest stamp by more than
    ``LATE_PERIODS`` periods and ``LATE_NS``.

    Args:
        t_ns: (N,) int64.
    """
    if t_ns.size < 2:
        return (slice(0, t_ns.size),) if t_ns.size else ()
    late_ns = max(LATE_NS, LATE_PERIODS * _period_ns(t_ns))
    found, start = [], 0
    while start < t_ns.size:
        stop = _step_back(t_ns, start, late_ns)
        found.append(slice(start, stop))
        start = stop
    return tuple(found)


def _step_back(t_ns: IntArray, start: int, late_ns: int) -> int:
    """The row that begins the next run; the number of rows where there is none. Block by block, so that many runs stay cheap."""
    latest, behind, first, size = int(t_ns[start]), 0, start, BLOCK_MIN
    while first < t_ns.size:
        block = t_ns[first : first + size]
        reached = np.maximum(np.maximum.accumulate(block), latest)
        is_behind = block < reached - late_ns
        rows = np.arange(1, block.size + 1)
        # length of the stretch behind that ends at each row
        since = rows - np.maximum.accumulate(np.where(is_behind, -behind, rows))
        long = np.flatnonzero(since >= BEHIND_SAMPLES)
        if long.size:
            return first + int(long[0]) - BEHIND_SAMPLES + 1
        latest, behind = int(reached[-1]), int(since[-1])
        first, size = first + size, min(2 * size, BLOCK_MAX)
    return t_ns.size


def _period_ns(t_ns: IntArray) -> int:
    dt = np.diff(t_ns)
    dt = dt[dt > 0]
    return int(np.median(dt)) if dt.size else 0


def _stray(t_ns: IntArray) -> BoolArray:
    """Stamps far from the median of the five around them: one or two wrong stamps in a row, not a jump."""
    stray = np.zeros(t_ns.size, dtype=np.bool_)
    if t_ns.size < 5:
        return stray
    late_ns = max(LATE_NS, LATE_PERIODS * _period_ns(t_ns))
    padded = np.pad(t_ns - t_ns[0], 2, mode="reflect")
    for first in range(0, t_ns.size, BLOCK_MAX):
        near = np.lib.stride_tricks.sliding_window_view(padded[first : first + BLOCK_MAX + 4], 5)
        stray[first : first + BLOCK_MAX] = np.abs(near[:, 2] - np.median(near, axis=1)) > late_ns
    return stray


def pieces(stamps: Sequence[IntArray]) -> tuple[Piece, ...]:
    """Split the stamps of one clock, seen by several observations, into pieces without a visible jump.

    A step back in the order written begins a new run. Inside of a run a piece ends where no observation has a stamp for
    longer than ``GAP_NS`` and ``GAP_PERIODS`` periods of the fastest.

    Args:
        stamps: for each observation (N,) int64 in the order written; the sequences may not be of equal length.

    Raises:
        UnsteadyStamps: more than ``PIECES_MAX`` pieces.
    """
    kept = [np.flatnonzero(~_stray(t_ns)) for t_ns in stamps]
    cut = [[rows[one] for one in runs(t_ns[rows])] for t_ns, rows in zip(stamps, kept, strict=True)]
    if max((len(rows) for rows in cut), default=0) > PIECES_MAX:
        raise UnsteadyStamps(max(len(rows) for rows in cut))
    assigned = _assigned([[(int(t[r].min()), int(t[r].max())) for r in rows] for t, rows in zip(stamps, cut, strict=True)])
    found: list[Piece] = []
    for run in range(max((len(rows) for rows in cut), default=0)):
        parts = []
        for t_ns, rows, numbers in zip(stamps, cut, assigned, strict=True):
            mine = [one for one, number in zip(rows, numbers, strict=True) if number == run]
            together = np.concatenate([*mine, np.empty(0, dtype=np.int64)])
            _, first = np.unique(t_ns[together], return_index=True)
            parts.append(together[first])
        found.extend(_split_at_gaps(run, stamps, parts))
    if len(found) > PIECES_MAX:
        raise UnsteadyStamps(len(found))
    return tuple(found)


def _split_at_gaps(run: int, stamps: Sequence[IntArray], parts: Sequence[IntArray]) -> list[Piece]:
    times = [t_ns[rows] for t_ns, rows in zip(stamps, parts, strict=True)]
    periods = [_period_ns(t) for t in times if t.size >= 2]
    every = np.unique(np.concatenate(times))
    ends = np.flatnonzero(np.diff(every) > max(GAP_NS, GAP_PERIODS * min(periods, default=0)))
    firsts, lasts = every[np.concatenate(([0], ends + 1))], every[np.concatenate((ends, [every.size - 1]))]
    return [
        Piece(
            run,
            int(first),
            int(last),
            tuple(
                rows[np.searchsorted(t, first) : np.searchsorted(t, last, side="right")]
                for t, rows in zip(times, parts, strict=True)
            ),
        )
        for first, last in zip(firsts.tolist(), lasts.tolist(), strict=True)
    ]


def _assigned(spans: Sequence[Sequence[tuple[int, int]]]) -> list[list[int]]:
    """For each run of each observation, which run of the clock it is.

    The observation with the most runs numbers them; those of the others are put where they overlap most, in order (a sensor
    that begins after the restart has fewer).
    """
    leader = max(spans, key=len, default=())
    numbers = []
    for own in spans:
        if len(own) == len(leader):
            numbers.append(list(range(len(own))))
            continue
        # best[j]: the greatest overlap with the runs so far in the leader's first j + 1 runs; came[i][j]: where run i lies then
        best, came = [0] * len(leader), []
        for low, high in own:
            here = [best[j] + max(0, min(high, leader[j][1]) - max(low, leader[j][0])) for j in range(len(leader))]
            row: list[int] = []
            best = []
            for j, value in enumerate(here):
                better = not best or value > best[-1]
                best.append(value if better else best[-1])
                row.append(j if better else row[-1])
            came.append(row)
        at, chosen = len(leader) - 1, []
        for row in reversed(came):
            at = row[at]
            chosen.append(at)
        numbers.append(chosen[::-1])
    return numbers


def find_step(t_s: FloatArray, lag_s: FloatArray, sigma_s: FloatArray) -> Step | None:
    """The clearest step in lags that otherwise lie on a line; None where there is none.

    Weighted least squares of a line and a step, at every place for it. Single windows that are wrong are left out, and the
    scatter is that of the middle half of the residuals, so they neither hide a step nor make one.

    Args:
        t_s: (W,) float64, increasing.
        lag_s: (W,) float64.
        sigma_s: (W,) float64, standard errors.
    """
    if t_s.size < 2 * STEP_WINDOWS + 1:
        return None
    x, weight = t_s - t_s.mean(), np.where(_alone(lag_s, sigma_s), 1e-9, 1.0) * sigma_s**-2
    height, information = _heights(x, lag_s, weight)
    statistic = height**2 * information
    inside = np.arange(STEP_WINDOWS, t_s.size - STEP_WINDOWS + 1)
    # a wrong window can hide the true place behind a better one beside itself, so the next ones are looked at, too
    for at in inside[np.argsort(-statistic[inside], kind="stable")[:PLACES]].tolist():
        behind = (np.arange(t_s.size) >= at).astype(np.float64)
        design = np.column_stack((np.ones_like(x), x, behind))
        root = np.sqrt(weight)
        solution = np.linalg.lstsq(design * root[:, None], lag_s * root, rcond=None)[0]
        residual = (lag_s - design @ solution) * root
        scatter = max(1.0, float(np.median(np.abs(residual))) / 0.6745) * np.sqrt(t_s.size / max(t_s.size - 4, 1))
        sigma = float(scatter / np.sqrt(information[at]))
        flat = lag_s - solution[1] * x
        if abs(height[at]) > max(STEP_SIGMA * sigma, STEP_MIN_S) and _clear(flat, at, float(height[at])):
            return Step(at, float(height[at]), sigma)
    return None


def _alone(lag_s: FloatArray, sigma_s: FloatArray) -> BoolArray:
    """Windows far from the median of three, themselves in the middle (at the ends, of the last three)."""
    middle = np.median(np.lib.stride_tricks.sliding_window_view(lag_s, 3), axis=1)
    middle = np.concatenate((middle[:1], middle, middle[-1:]))
    # from neighbours' mean, which has half the variance
    bend = np.abs(lag_s[1:-1] - (lag_s[2:] + lag_s[:-2]) / 2) / sigma_s[1:-1]
    scatter = max(1.0, float(np.median(bend)) / 0.6745 / float(np.sqrt(1.5)))
    return np.abs(lag_s - middle) > ALONE_SIGMA * scatter * sigma_s


def _clear(flat: FloatArray, at: int, height_s: float) -> bool:
    """Whether the windows near a step agree on both sides: one wrong window makes no step."""
    before, behind = flat[max(0, at - NEAR) : at], flat[at : at + NEAR]
    low, high = float(np.median(before)), float(np.median(behind))
    scatter = max(float(np.median(np.abs(before - low))), float(np.median(np.abs(behind - high))))
    return (high - low) / height_s > 0.5 and scatter < 0.25 * abs(height_s)


def _heights(x: FloatArray, y: FloatArray, weight: FloatArray) -> tuple[FloatArray, FloatArray]:
    """For a step before each row: its height beside a line, and the information on it (one over its variance)."""

    def after(values: FloatArray) -> FloatArray:
        return np.cumsum(values[::-1])[::-1]

    total, mean = float(weight.sum()), float(np.average(x, weights=weight))
    u = x - mean
    spread = float(np.sum(weight * u * u))
    flat = y - float(np.average(y, weights=weight)) - float(np.sum(weight * u * y)) / max(spread, 1e-300) * u
    information = after(weight) - after(weight) ** 2 / total - after(weight * u) ** 2 / max(spread, 1e-300)
    information = np.maximum(information, 1e-9 * float(weight.max()))
    return after(weight * flat) / information, information
