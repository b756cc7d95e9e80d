"""Correlation of sampled signals with gaps. Belongs here: over all lags at once, with many windows, and how clear a peak is.

Never here: clocks, rasters in seconds, thresholds that decide (``alignment``).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["masked_correlation", "pearson", "second_peak"]

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]


def masked_correlation(a: FloatArray, a_there: BoolArray, b: FloatArray, b_there: BoolArray, lag_max: int) -> FloatArray:
    """Pearson correlation of a[i] with b[i + lag] where both are there, by Fourier transforms.

    D. Padfield, Masked object registration in the Fourier domain, IEEE TIP 21(5), 2012.

    Args:
        a: (N,) float64, of about unit variance; values that are not there are ignored.
        a_there: (N,) bool.
        b: (N,) float64, as ``a``.
        b_there: (N,) bool.
        lag_max: in samples, the largest lag to either side.

    Returns:
        (2 * lag_max + 1,) float64 for lags -lag_max to lag_max; 0 where less than half of the largest overlap is left.
    """
    length = a.size + lag_max
    mask_a, mask_b = a_there.astype(np.float64), b_there.astype(np.float64)
    a, b = a * mask_a, b * mask_b

    def spectrum(x: FloatArray) -> NDArray[np.complex128]:
        return np.fft.rfft(x, length)

    def correlate(x: NDArray[np.complex128], y: NDArray[np.complex128]) -> FloatArray:
        circular = np.fft.irfft(np.conj(x) * y, length)
        return np.concatenate((circular[length - lag_max :], circular[: lag_max + 1]))

    fa, fb, fma, fmb = spectrum(a), spectrum(b), spectrum(mask_a), spectrum(mask_b)
    count = np.maximum(correlate(fma, fmb), 1.0)
    sum_a, sum_b = correlate(fa, fmb), correlate(fma, fb)
    covariance = correlate(fa, fb) - sum_a * sum_b / count
    spread_a = correlate(spectrum(a * a), fmb) - sum_a**2 / count
    spread_b = correlate(fma, spectrum(b * b)) - sum_b**2 / count
    # the signals have unit variance: less than 1e-6 of that in an overlap is rounding, not motion
    enough = (count >= 0.5 * count.max()) & (np.minimum(spread_a, spread_b) > 1e-6 * count)
    scale = np.sqrt(np.where(enough, spread_a * spread_b, 1.0))
    return np.where(enough, covariance / scale, 0.0)


def second_peak(correlation: FloatArray, at: int) -> float:
    """The highest value beyond the valleys on both sides of the peak; -1 when the slope never turns."""
    falls_right = np.flatnonzero(correlation[at + 1 :] > correlation[at:-1])
    falls_left = np.flatnonzero(correlation[:at] > correlation[1 : at + 1])
    beyond = [np.empty(0)]
    if falls_right.size:
        beyond.append(correlation[at + 1 + falls_right[0] :])
    if falls_left.size:
        beyond.append(correlation[: falls_left[-1] + 1])
    rest = np.concatenate(beyond)
    return float(rest.max()) if rest.size else -1.0


def pearson(x: FloatArray, y: FloatArray, there: BoolArray) -> FloatArray:
    """Correlation of x (N,) with every row of y (L, N) where ``there`` (L, N).

    Returns:
        (L,) float64; 0 where less than half is there, or one side does not move.
    """
    count = np.maximum(there.sum(axis=1), 1)
    x, y = np.where(there, x, 0.0), np.where(there, y, 0.0)
    x = np.where(there, x - (x.sum(axis=1) / count)[:, None], 0.0)
    y = np.where(there, y - (y.sum(axis=1) / count)[:, None], 0.0)
    scale = np.sqrt((x * x).sum(axis=1) * (y * y).sum(axis=1))
    enough = (2 * count >= there.shape[1]) & (scale > 1e-6 * count)
    return np.where(enough, (x * y).sum(axis=1) / np.where(enough, scale, 1.0), 0.0)
