"""Correlation of sampled signals with gaps. Belongs here: a raster of averages, all lags at once, how clear a peak is.

Never here: clocks, segments, thresholds that decide (``alignment``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["averaged", "correlation_length", "masked_correlation", "second_peak", "smooth"]

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


def averaged(
    t_s: FloatArray, values: FloatArray, gap_s: float, start_s: float, step_s: float, count: int
) -> tuple[FloatArray, BoolArray]:
    """Averages of the line through the samples over the cells of a raster.

    An average keeps what lies above the raster's rate from folding down, whatever the rate of the samples.

    Args:
        t_s: (N,) float64, strictly increasing, N >= 2.
        values: (N,) float64.
        gap_s: between samples further apart there is nothing.
        start_s: left edge of the first cell.
        step_s: width of a cell.
        count: number of cells, C.

    Returns:
        (C,) float64 averages, 0 where there is nothing, and (C,) bool: at least 99 % of the cell lies between samples.
    """
    edges = start_s + step_s * np.arange(count + 1)
    dt = np.diff(t_s)
    kept = np.where(dt <= gap_s, dt, 0.0)
    at = np.clip(np.searchsorted(t_s, edges, side="right") - 1, 0, t_s.size - 2)
    part = np.clip(edges - t_s[at], 0.0, dt[at]) * (kept[at] > 0)
    slope = (values[at + 1] - values[at]) / dt[at]
    covered = np.concatenate(([0.0], np.cumsum(kept)))[at] + part
    area = np.concatenate(([0.0], np.cumsum(kept * (values[1:] + values[:-1]) / 2)))[at] + part * (values[at] + slope * part / 2)
    there = np.diff(covered) >= 0.99 * step_s
    return np.where(there, np.diff(area) / step_s, 0.0), there


def smooth(values: FloatArray, there: BoolArray, sigma: float) -> tuple[FloatArray, FloatArray]:
    """Gaussian average over what is there.

    Args:
        values: (..., N) float64, of about zero mean; rows are smoothed one after the other, so their ends bleed into each other.
        there: (..., N) bool.
        sigma: in steps.

    Returns:
        (..., N) float64, values averaged, 0 where nothing is near, and (..., N) float64, the part of the kernel that saw any.
    """
    half = int(np.ceil(4 * sigma))
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) / sigma) ** 2)
    kernel /= kernel.sum()
    padded = np.pad(np.where(there, values, 0.0).ravel(), half)
    total = np.convolve(padded, kernel, "valid").reshape(values.shape)
    seen = np.convolve(np.pad(there.astype(np.float64).ravel(), half), kernel, "valid").reshape(values.shape)
    return total / np.maximum(seen, 1e-9), seen


def masked_correlation(a: FloatArray, a_there: BoolArray, b: FloatArray, b_there: BoolArray) -> FloatArray:
    """Pearson correlation of a[i] with b[i + lag] where both are there, by Fourier transforms.

    D. Padfield, Masked object registration in the Fourier domain, IEEE TIP 21(5), 2012.

    Args:
        a: (N,) float64, of about unit variance; values that are not there are ignored.
        a_there: (N,) bool.
        b: (N + L,) float64, as ``a``.
        b_there: (N + L,) bool.

    Returns:
        (L + 1,) float64 for lags 0 to L; 0 where less than half of the largest overlap is left.
    """
    lags = b.size - a.size + 1
    length = _fast_length(b.size)
    mask_a, mask_b = a_there.astype(np.float64), b_there.astype(np.float64)
    a, b = a * mask_a, b * mask_b

    def spectrum(x: FloatArray) -> NDArray[np.complex128]:
        return np.fft.rfft(x, length)

    def correlate(x: NDArray[np.complex128], y: NDArray[np.complex128]) -> FloatArray:
        return np.fft.irfft(np.conj(x) * y, length)[:lags]

    fa, fb, fma, fmb = spectrum(a), spectrum(b), spectrum(mask_a), spectrum(mask_b)
    count = np.maximum(correlate(fma, fmb), 1.0)
    sum_a, sum_b = correlate(fa, fmb), correlate(fma, fb)
    covariance = correlate(fa, fb) - sum_a * sum_b / count
    spread_a = correlate(spectrum(a * a), fmb) - sum_a**2 / count
    spread_b = correlate(fma, spectrum(b * b)) - sum_b**2 / count
    # the signals have unit variance: less than 1e-6 of that in an overlap is rounding, not motion
    enough = (count >= max(0.5 * count.max(), 2.0)) & (np.minimum(spread_a, spread_b) > 1e-6 * count)
    scale = np.sqrt(np.where(enough, spread_a * spread_b, 1.0))
    return np.where(enough, covariance / scale, 0.0)


def _fast_length(size: int) -> int:
    """The least 2**k, 3 * 2**k or 5 * 2**k that is not smaller: other lengths transform many times slower."""
    return min(factor << max(0, int(np.ceil(np.log2(max(size, 1) / factor)))) for factor in (1, 3, 5))


def correlation_length(a: FloatArray, b: FloatArray) -> float:
    """How many samples of two independent signals make one independent pair: the sum of rho_a(k) * rho_b(k) over all lags.

    M. S. Bartlett, Some aspects of the time-correlation problem in regard to tests of significance, JRSS 98(3), 1935.

    Args:
        a: (N,) float64 of zero mean.
        b: (M,) float64 of zero mean.
    """
    length = _fast_length(2 * max(a.size, b.size))
    power_a, power_b = np.abs(np.fft.rfft(a, length)) ** 2, np.abs(np.fft.rfft(b, length)) ** 2
    rho_a, rho_b = np.fft.irfft(power_a, length), np.fft.irfft(power_b, length)
    if not rho_a[0] * rho_b[0] > 0:
        return float(min(a.size, b.size))
    # beyond a quarter of the length the sums are noise of their own
    last = max(1, min(a.size, b.size) // 4)
    return max(1.0, float(1 + 2 * np.sum(rho_a[1:last] * rho_b[1:last]) / (rho_a[0] * rho_b[0])))


def second_peak(correlation: FloatArray, at: int) -> float:
    """The highest value beyond where the peak has fallen by a tenth on both sides; -1 when it never does.

    A tenth, because noise leaves small valleys on the flanks of a peak.
    """
    low = correlation < 0.9 * correlation[at]
    right, left = np.flatnonzero(low[at:]), np.flatnonzero(low[:at])
    beyond = [np.empty(0)]
    if right.size:
        beyond.append(correlation[at + right[0] :])
    if left.size:
        beyond.append(correlation[: left[-1] + 1])
    rest = np.concatenate(beyond)
    return float(rest.max()) if rest.size else -1.0
