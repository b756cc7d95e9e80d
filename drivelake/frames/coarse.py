"""The coarse search: which lag, of all that are declared, two signals share. Belongs here: the raster of a whole drive, the
correlation of its chunks over all lags, whether a peak is more than chance, and whether it is the only one.

Never here: lags finer than the raster (``lags``), jumps (``alignment``).

Method: averages over 0.1 s; masked correlation of each chunk over all lags by Fourier transforms; the chunks' correlations
added along a few drifts. Each observation is looked at as it is and with slow parts taken away; the most significant counts
(Fisher's z over the samples that are independent, by Bartlett).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivelake.frames.correlation import averaged, correlation_length, masked_correlation, second_peak, smooth
from drivelake.frames.lags import Line
from drivelake.frames.observers import Signal

__all__ = ["RASTER_S", "Coarse", "coarse_search"]

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]

RASTER_S = 0.1
# slow parts are taken away by a Gaussian of this sigma; 0 leaves them
SLOW_S = (0.0, 6.0, 1.5)
CHUNK_MIN_S, CHUNK_MAX_S = 20.0, 60.0
# the most moving chunks of a long drive: bounds time and memory
CHUNKS_MAX = 48
CORRELATION_MIN = 0.5
# the largest of ten thousand normal values is about four
SIGNIFICANT = 5.0
# a second peak this near to the first cannot be told from it: a periodic motion
AMBIGUITY = 0.97


@dataclass(frozen=True)
class Coarse:
    """What the coarse search says.

    Attributes:
        line: lag over time, to about the raster; None where there is none, with the reason.
        correlation: at the peak, the mean of the chunks.
        turned: for each observation, whether its sign is turned.
        used: for each observation, whether it shares the lag.
        reason: why there is no line.
    """

    line: Line | None
    correlation: float
    turned: tuple[bool, ...] = ()
    used: tuple[bool, ...] = ()
    reason: str = ""


@dataclass(frozen=True)
class Stack:
    """Correlations of one observation's chunks. K chunks, L lags."""

    chunks: FloatArray
    weights: FloatArray
    centres_s: FloatArray
    independent: float
    either: bool

    def along(self, drift: float, middle_s: float) -> FloatArray:
        """(L,) mean of the chunks, each moved by what the drift adds since the middle."""
        total = np.zeros(self.chunks.shape[1])
        for row, weight, centre_s in zip(self.chunks, self.weights, self.centres_s, strict=True):
            total += weight * _moved(row, round(drift * (centre_s - middle_s) / RASTER_S))
        mean = total / max(float(self.weights.sum()), 1e-300)
        return np.abs(mean) if self.either else mean

    def z(self, correlation: FloatArray) -> FloatArray:
        """Fisher's z in standard errors."""
        z: FloatArray = np.arctanh(np.clip(correlation, -0.9999, 0.9999)) * np.sqrt(max(self.independent - 3, 0.0))
        return z


def _moved(row: FloatArray, steps: int) -> FloatArray:
    """row[lag + steps]; 0 beyond its ends."""
    if steps == 0:
        return row
    moved = np.zeros_like(row)
    if steps > 0:
        moved[:-steps] = row[steps:]
    else:
        moved[-steps:] = row[:steps]
    return moved


def coarse_search(
    pairs: Sequence[tuple[Signal, Signal]], either: Sequence[bool], span_s: tuple[float, float], reach_s: float, drift_max: float
) -> Coarse:
    """Search the lag of all observations together.

    Args:
        pairs: own and reference of each observation.
        either: of each, whether its sign may be turned.
        span_s: own time that is looked at.
        reach_s: largest lag, either way.
        drift_max: s/s.
    """
    reach = max(2, int(np.ceil(reach_s / RASTER_S)))
    middle_s, length_s = (span_s[0] + span_s[1]) / 2, span_s[1] - span_s[0]
    half = int(np.ceil(drift_max * length_s / 2 / RASTER_S))
    drifts = np.linspace(-drift_max, drift_max, 2 * half + 1) if half else np.zeros(1)
    stacks = [_best_stack(*pair, span_s, reach, drifts, either=one) for pair, one in zip(pairs, either, strict=True)]
    there = [stack for stack in stacks if stack is not None]
    if not there:
        return Coarse(None, 0.0, reason="a signal is constant, or nothing of the two overlaps: no motion to align by")
    maps = np.stack([sum(stack.z(stack.along(drift, middle_s)) for stack in there) for drift in drifts])
    drift_at, at = divmod(int(np.argmax(maps)), maps.shape[1])
    drift = float(drifts[drift_at])
    peaks = [None if stack is None else stack.along(drift, middle_s)[max(0, at - 2) : at + 3].max() for stack in stacks]
    used = tuple(
        peak is not None and stack is not None and _counts(stack, float(peak)) for stack, peak in zip(stacks, peaks, strict=True)
    )
    best = max(float(peak) for peak in peaks if peak is not None)
    if not any(used):
        return Coarse(None, best, reason=_nothing(there, best, drift, middle_s))
    carrying = [stack for stack, one in zip(stacks, used, strict=True) if one and stack is not None]
    if all(_repeats(stack, drift, middle_s, at) for stack in carrying):
        second = max(_second(stack, drift, middle_s, at) for stack in carrying)
        return Coarse(None, best, reason=f"the motion repeats: two lags correlate with {best:.3f} and {second * best:.3f}")
    turned = tuple(stack is not None and stack.either and _sum_at(stack, drift, middle_s, at) < 0 for stack in stacks)
    row = maps[drift_at]
    part = 0.0
    if 0 < at < row.size - 1:
        low, top, high = row[at - 1], row[at], row[at + 1]
        part = float(np.clip((high - low) / 2 / max(2 * top - low - high, 1e-9), -0.5, 0.5))
    return Coarse(Line((at + part - reach) * RASTER_S, drift, middle_s), best, turned, used)


def _counts(stack: Stack, peak: float) -> bool:
    return peak >= CORRELATION_MIN and float(stack.z(np.array([peak]))[0]) >= SIGNIFICANT


def _nothing(stacks: Sequence[Stack], best: float, drift: float, middle_s: float) -> str:
    """Why no observation shares a lag."""
    lowest = min(float(stack.along(drift, middle_s).min()) for stack in stacks)
    if -lowest > best and any(_counts(stack, -lowest) for stack in stacks):
        return f"the signals correlate with {lowest:.3f}: is the sign of one signal reversed? (sign: opposite, or either)"
    independent = max(stack.independent for stack in stacks)
    if best >= CORRELATION_MIN:
        return (
            f"the correlation of {best:.3f} may be chance: the motion is so slow or the drive so short that there are only "
            f"{independent:.0f} independent samples"
        )
    return f"the greatest correlation over all lags is {best:.3f}, expected at least {CORRELATION_MIN:g}"


def _supporting(stack: Stack, drift: float, middle_s: float, at: int) -> FloatArray:
    """(L,) mean of the chunks that carry the peak: behind a jump others carry another one, which is no repetition."""
    rows = [
        np.abs(moved) if stack.either else moved
        for row, centre_s in zip(stack.chunks, stack.centres_s, strict=True)
        for moved in (_moved(row, round(drift * (centre_s - middle_s) / RASTER_S)),)
    ]
    kept = [(row, weight) for row, weight in zip(rows, stack.weights, strict=True) if row[at] >= 0.7 * row.max() and row[at] > 0]
    if not kept:
        return np.abs(stack.along(drift, middle_s))
    return np.asarray(np.average([row for row, _ in kept], axis=0, weights=[weight for _, weight in kept]))


def _second(stack: Stack, drift: float, middle_s: float, at: int) -> float:
    row = _supporting(stack, drift, middle_s, at)
    near = max(0, at - 2) + int(np.argmax(row[max(0, at - 2) : at + 3]))
    return second_peak(row, near) / max(float(row[near]), 1e-9)


def _repeats(stack: Stack, drift: float, middle_s: float, at: int) -> bool:
    return _second(stack, drift, middle_s, at) > AMBIGUITY


def _sum_at(stack: Stack, drift: float, middle_s: float, at: int) -> float:
    """The signed correlation at a lag."""
    steps = np.round(drift * (stack.centres_s - middle_s) / RASTER_S).astype(np.int64)
    moved = [_moved(row, int(by))[at] for row, by in zip(stack.chunks, steps, strict=True)]
    return float(np.dot(stack.weights, moved))


def _best_stack(
    own: Signal, reference: Signal, span_s: tuple[float, float], reach: int, drifts: FloatArray, *, either: bool
) -> Stack | None:
    """The stack of one observation, as it is or with slow parts taken away, whichever is most significant."""
    count = int((span_s[1] - span_s[0]) / RASTER_S)
    if count < 2 or own.t_s.size < 2 or reference.t_s.size < 2:
        return None
    a, a_there = averaged(own.t_s, own.values, own.gap_s, span_s[0], RASTER_S, count)
    start_s = span_s[0] - reach * RASTER_S
    b, b_there = averaged(reference.t_s, reference.values, reference.gap_s, start_s, RASTER_S, count + 2 * reach)
    middle_s = (span_s[0] + span_s[1]) / 2
    best, most = None, -np.inf
    for slow_s in SLOW_S:
        stack = _stack(*_quick(a, a_there, slow_s), *_quick(b, b_there, slow_s), span_s, reach, either=either)
        if stack is not None:
            found = max(float(stack.z(stack.along(drift, middle_s)).max()) for drift in drifts[:: max(1, drifts.size // 5)])
            if found > most:
                best, most = stack, found
    return best


def _quick(values: FloatArray, there: BoolArray, slow_s: float) -> tuple[FloatArray, BoolArray]:
    """About zero mean and unit variance, without what is slower than ``slow_s``."""
    if not there.any():
        return values, there
    values = np.where(there, values - values[there].mean(), 0.0)
    if slow_s:
        slow, _ = smooth(values, there, slow_s / RASTER_S)
        values = np.where(there, values - slow, 0.0)
    spread = float(values[there].std())
    return values / max(spread, 1e-9), there


def _stack(
    a: FloatArray, a_there: BoolArray, b: FloatArray, b_there: BoolArray, span_s: tuple[float, float], reach: int, *, either: bool
) -> Stack | None:
    """Correlate chunk by chunk; None where nothing moves."""
    if a_there.sum() < 2 or b_there.sum() < 2 or not (a.std() > 1e-6 and b.std() > 1e-6):
        return None
    length_s = span_s[1] - span_s[0]
    chunks = max(1, int(length_s / np.clip(length_s / 4, CHUNK_MIN_S, CHUNK_MAX_S)))
    edges = np.linspace(0, a.size, chunks + 1).astype(np.int64)
    energy = np.array([float(np.sum(a[lo:hi] ** 2)) for lo, hi in itertools.pairwise(edges.tolist())])
    chosen = np.sort(np.argsort(-energy, kind="stable")[:CHUNKS_MAX])
    rows = [
        masked_correlation(a[lo:hi], a_there[lo:hi], b[lo : hi + 2 * reach], b_there[lo : hi + 2 * reach])
        for lo, hi in zip(edges[chosen], edges[chosen + 1], strict=True)
    ]
    independent = float(a_there.sum()) * len(chosen) / chunks / correlation_length(a, b)
    centres_s = span_s[0] + (edges[chosen] + edges[chosen + 1]) / 2 * RASTER_S
    return Stack(np.stack(rows), np.sqrt(energy[chosen]), centres_s, independent, either)
