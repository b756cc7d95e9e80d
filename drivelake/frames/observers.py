"""Observers of a motion made ready to be compared. Belongs here: samples without wrong ones, in comparable units, the smoothing
and the length of the windows that suit a motion.

Never here: lags, clocks, files. Times are float64 seconds since a base near the drive: there 1e-7 s is resolved.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from drivelake.frames.correlation import averaged, smooth

__all__ = ["STEPS_PER_SIGMA", "Signal", "Trace", "observer", "raster", "smoothed", "trace_of"]

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# five steps of the raster in a sigma of the smoothing: finer ones cost time and tell nothing
STEPS_PER_SIGMA = 5
# Gaussian sigma of the smoothing: vehicles turn and brake below 2 Hz, sensor noise goes up to half the sample rate
SMOOTH_MIN_S, SMOOTH_MAX_S = 0.05, 1.5
SMOOTH_PERIODS = 0.75
# at most this part of a slope's variance may be noise
NOISE_IN_SLOPE = 0.15
WINDOWS_S = (8.0, 16.0, 32.0, 64.0)
# a window that gives this part of what the longest one gives is long enough
INFORMATION = 0.75
# samples nearer than this are averaged: nothing faster than the smoothing is looked at
DENSE_S = 0.005
GAP_PERIODS, GAP_MIN_S = 5.0, 0.1
OUTLIER_SIGMA = 5.0
NEIGHBOURS = 9
OUTLIER_ROUNDS = 6
PARABOLA_SIGMA = 4.0
DENSE_FOR_PARABOLA_S = 0.03
VALUE_LIMIT = 1e100
NEAREST_S, SPARSE_S = 1e-6, 10.0
BLOCK = 1 << 16


@dataclass(frozen=True)
class Signal:
    """One observer of the motion. N samples.

    Attributes:
        t_s: (N,) float64, seconds since a common base, strictly increasing.
        values: (N,) float64, about zero mean and unit variance.
        gap_s: samples further apart have nothing between them.
        period_s: median distance.
        noise: standard deviation of what the samples do not share with their neighbours.
    """

    t_s: FloatArray
    values: FloatArray
    gap_s: float
    period_s: float
    noise: float


@dataclass(frozen=True)
class Trace:
    """Two signals of the same motion, ready to be compared.

    Attributes:
        name: own~reference.
        own: on the clock that is aligned, turned so that both count the same way.
        reference: on the reference clock.
        smooth_s: sigma of the Gaussian that both get: alike, so that it moves neither against the other.
        window_s: length of a window.
        turned: the own signal counts the other way and was turned here.
    """

    name: str
    own: Signal
    reference: Signal
    smooth_s: float
    window_s: float
    turned: bool = False


def raster(signal: Signal, t_s: FloatArray) -> tuple[FloatArray, BoolArray]:
    """The line through the samples at times, and where there is one."""
    right = np.clip(np.searchsorted(signal.t_s, t_s.ravel()).reshape(t_s.shape), 1, signal.t_s.size - 1)
    left_s, right_s = signal.t_s[right - 1], signal.t_s[right]
    there = (t_s >= signal.t_s[0]) & (t_s <= signal.t_s[-1]) & (right_s - left_s <= signal.gap_s)
    low = signal.values[right - 1]
    return low + (signal.values[right] - low) * (t_s - left_s) / (right_s - left_s), there


def smoothed(signal: Signal, t_s: FloatArray, half: int) -> tuple[FloatArray, BoolArray]:
    """Both on a raster with ``half`` steps more on each side than comes back."""
    values, there = raster(signal, t_s)
    values, seen = smooth(values, there, STEPS_PER_SIGMA)
    kept = slice(half, t_s.shape[1] - half)
    # at a border the kernel sees one side only and would move the signal
    return values[:, kept], seen[:, kept] > 0.98


def observer(t_s: FloatArray, values: FloatArray) -> Signal | None:
    """Leave out what is not finite and single samples that stand out.

    None where fewer than two are left, none differ, or they are further apart than any motion of a vehicle lasts.

    Args:
        t_s: (N,) float64, strictly increasing.
        values: (N,) float64, any unit; NaN and infinite ones are left out.
    """
    # squares of larger ones overflow, and no quantity of a vehicle is that large
    finite = np.isfinite(values) & (np.abs(values) < VALUE_LIMIT)
    t_s, values = t_s[finite], values[finite]
    apart = np.diff(t_s, prepend=-np.inf) > NEAREST_S
    t_s, values = t_s[apart], values[apart]
    if t_s.size < 2 or not np.ptp(values) > 1e-12 * max(1.0, float(np.max(np.abs(values)))):
        return None
    period_s = float(np.median(np.diff(t_s)))
    if period_s > SPARSE_S:
        return None
    noise = _noise(values)
    kept = ~_outliers(values, noise, period_s)
    t_s, values = t_s[kept], values[kept]
    gap_s = max(GAP_PERIODS * period_s, GAP_MIN_S)
    together = int(1.01 * DENSE_S / period_s)
    if together > 1:
        t_s, values = _thinned(t_s, values, together, gap_s)
        period_s, noise = period_s * together, noise / np.sqrt(together)
    spread = float(values.std()) if t_s.size >= 2 else 0.0
    if not spread > 1e-12 * max(1.0, float(np.max(np.abs(values), initial=0.0))):
        return None
    # noise is known only where the motion is slow against the samples
    known = noise / spread if period_s <= 0.2 else 0.0
    return Signal(t_s, (values - values.mean()) / spread, gap_s, period_s, known)


def _noise(values: FloatArray) -> float:
    """Standard deviation of what a sample does not share with its two neighbours (second differences, robust)."""
    if values.size < 3:
        return 0.0
    middle = np.abs(values[1:-1] - (values[2:] + values[:-2]) / 2)
    return float(1.4826 * np.median(middle) / np.sqrt(1.5))


def _outliers(values: FloatArray, noise: float, period_s: float) -> BoolArray:
    """Samples far from their neighbours.

    First against the median of the neighbours (Hampel), then, where samples are dense against the motion, against a parabola
    through them (Savitzky and Golay, Anal. Chem. 36(8), 1964), worst ones first, with those found so far replaced.
    """
    found = np.zeros(values.size, dtype=np.bool_)
    if values.size < 2 * NEIGHBOURS:
        return found
    half = NEIGHBOURS // 2
    padded = np.pad(values, half, mode="reflect")
    filled = values.copy()
    for first in range(0, values.size, BLOCK):
        near = sliding_window_view(padded[first : first + BLOCK + 2 * half], NEIGHBOURS)
        middle = np.median(near, axis=1)
        scatter = 1.4826 * np.median(np.abs(near - middle[:, None]), axis=1)
        away = np.abs(near[:, half] - middle) > OUTLIER_SIGMA * np.maximum(scatter, noise) + 1e-12
        found[first : first + BLOCK] = away
        filled[first : first + BLOCK][away] = middle[away]
    if period_s > DENSE_FOR_PARABOLA_S:
        return found
    for _ in range(OUTLIER_ROUNDS):
        predicted = np.convolve(np.pad(filled, half, mode="reflect"), PARABOLA, "valid")
        away = np.abs(filled - predicted)
        # stretches of a thousand samples have a scatter of their own: a rough road is no outlier
        whole = max(1, -(-away.size // 1024))
        parts = np.array_split(away, whole)
        scatter = np.concatenate([np.full(part.size, np.median(part)) for part in parts])
        limit = PARABOLA_SIGMA * 1.4826 * np.maximum(scatter, float(np.median(away))) + 1e-12
        highest = sliding_window_view(np.pad(away, half), NEIGHBOURS).max(axis=1)
        new = (away > limit) & (away >= highest)
        if not new.any():
            break
        filled[new] = predicted[new]
        found |= new
    return found


def _parabola_without_centre() -> FloatArray:
    """Weights that predict a sample from its neighbours by a parabola."""
    at = np.arange(NEIGHBOURS) - NEIGHBOURS // 2
    neighbours = at[at != 0]
    weights = np.linalg.pinv(np.vander(neighbours.astype(np.float64), 3))[2]
    return np.insert(weights, NEIGHBOURS // 2, 0.0)


def _thinned(t_s: FloatArray, values: FloatArray, together: int, gap_s: float) -> tuple[FloatArray, FloatArray]:
    """Averages of so many samples; none over a gap."""
    count = t_s.size // together
    if count < 2:
        return t_s, values
    times, blocks = t_s[: count * together].reshape(count, together), values[: count * together].reshape(count, together)
    whole = times[:, -1] - times[:, 0] <= gap_s
    if whole.sum() < 2:
        return t_s, values
    return times[whole].mean(axis=1), blocks[whole].mean(axis=1)


def trace_of(name: str, own: Signal, reference: Signal, span_s: tuple[float, float]) -> Trace:
    """Choose smoothing and windows for a pair of observers.

    Slow motion in noise needs more smoothing (else slopes are noise) and longer windows (a slow bend in a short window looks
    like a bias). Windows stay as short as they can: a jump of the clock is seen from window to window.

    Args:
        name: own~reference.
        own: on the clock that is aligned.
        reference: on the reference clock.
        span_s: own time that is looked at.
    """
    smooth_s = max(SMOOTH_MIN_S, SMOOTH_PERIODS * max(own.period_s, reference.period_s))
    while smooth_s < SMOOTH_MAX_S and any(_noisy(signal, smooth_s) for signal in (own, reference)):
        smooth_s *= 1.4
    return Trace(name, own, reference, smooth_s, _window_s(own, span_s, smooth_s))


def _noisy(signal: Signal, smooth_s: float) -> bool:
    """Whether too much of the slope is noise: white noise of density N has slopes of variance N / (4 sqrt(pi) sigma**3)."""
    if signal.noise == 0:
        return False
    length_s = min(60.0, signal.t_s[-1] - signal.t_s[0])
    step_s = smooth_s / STEPS_PER_SIGMA
    places = np.linspace(signal.t_s[0], signal.t_s[-1] - length_s, 6 if length_s == 60.0 else 1)
    t_s = places[:, None] + step_s * np.arange(max(8 * STEPS_PER_SIGMA + 4, int(length_s / step_s)))
    values, there = smoothed(signal, t_s, 4 * STEPS_PER_SIGMA)
    slope = (np.diff(values, axis=1) / step_s)[there[:, 1:] & there[:, :-1]]
    if slope.size < 2:
        return False
    noise = signal.noise**2 * signal.period_s / (4 * np.sqrt(np.pi) * smooth_s**3)
    return bool(noise > NOISE_IN_SLOPE * slope.var())


def _window_s(own: Signal, span_s: tuple[float, float], smooth_s: float) -> float:
    """The shortest window in which the motion tells about as much on the lag as in the longest."""
    length_s = span_s[1] - span_s[0]
    step_s = max(0.1, smooth_s)
    values, there = averaged(own.t_s, own.values, own.gap_s, span_s[0], step_s, max(2, int(length_s / step_s)))
    values, _ = smooth(values, there, 1.0)
    allowed = [w for w in WINDOWS_S if w >= 24 * smooth_s and (w <= length_s / 4)] or [max(WINDOWS_S[0], 24 * smooth_s)]
    told = [_information(values, there, max(4, round(w / step_s)), step_s) for w in allowed]
    enough = [w for w, one in zip(allowed, told, strict=True) if one >= INFORMATION * max(told)]
    return min(enough[0], length_s)


def _information(values: FloatArray, there: BoolArray, size: int, step_s: float) -> float:
    """Squared slope that neither a gain nor a bias of each window explains, summed."""
    count = values.size // size
    if count == 0:
        return 0.0
    slope = np.gradient(values, step_s) if values.size > 1 else np.zeros_like(values)
    x, dx, mask = (v[: count * size].reshape(count, size) for v in (values, slope, there))
    n = np.maximum(mask.sum(axis=1), 1)[:, None]
    x = np.where(mask, x - np.where(mask, x, 0.0).sum(axis=1, keepdims=True) / n, 0.0)
    dx = np.where(mask, dx - np.where(mask, dx, 0.0).sum(axis=1, keepdims=True) / n, 0.0)
    xx = np.maximum((x * x).sum(axis=1), 1e-12)
    return float(np.sum((dx * dx).sum(axis=1) - (x * dx).sum(axis=1) ** 2 / xx))


PARABOLA = _parabola_without_centre()
