"""Alignment: a clock model from two signals that observe the same motion. Belongs here: the coarse search, the lag of
each window, the robust line through them, the decision whether the offset is observable at all.

Never here: files, correlating arrays (correlation), applying the model (clocks). Stamps become float seconds only
after a near base was subtracted.

Method: (1) both signals on a 100 Hz raster, smoothed alike; masked normalised cross-correlation over all lags within the
declared offset; (2) in overlapping windows the lag by Gauss-Newton on own = gain * reference(t + lag) + bias; (3) Theil-Sen,
then weighted least squares over the windows that it explains, the declared bound on the drift as a prior.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from drivelake.declaration import Alignment
from drivelake.errors import DeclarationError
from drivelake.frames.clocks import DRIFT_LIMIT_PPM, AlignmentWindow, ClockModel
from drivelake.frames.correlation import masked_correlation, pearson, second_peak

__all__ = ["estimate_clock", "not_observable"]

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

RASTER_S = 0.01
# Gaussian sigma of the smoothing: vehicles turn and brake below 2 Hz, sensor noise goes up to half the sample rate
SMOOTH_S = 0.05
SMOOTH_PERIODS = 0.75
WINDOW_S = 8.0
HOP_S = 4.0
# Theil-Sen compares all pairs of windows: a thousand keep that at 8 MB
WINDOWS_MAX = 1000
# the coarse search takes at most this much: at 200 ppm the lag moves by 12 ms in half of it
COARSE_S = 120.0
OVERLAP_MIN_S = 4.0
CORRELATION_MIN = 0.5
# a second peak this near to the first cannot be told from it: a periodic motion
AMBIGUITY = 0.97
# how far a window's lag may lie from the coarse one, before drift
REACH_S = 0.05
# a window whose lag is less certain than this says nothing
WINDOW_SIGMA_MAX_S = 0.02
# what least squares does not see: the interpolation between samples
SIGMA_FLOOR_S = 2e-4
# a line through fewer windows, or a shorter base, gives a drift that is noise
DRIFT_WINDOWS_MIN = 4
MS_PER_S = 1e3
PPM = 1e6


@dataclass(frozen=True)
class Pair:
    """Both signals on one raster, smoothed alike, about zero mean and unit variance.

    Attributes:
        start_s: time of the first own value, seconds since the base.
        a: (N,) float64, own signal.
        a_there: (N,) bool, false outside of the recording and in its gaps.
        b: (N + 2 * margin,) float64, reference signal; ``b[i + margin]`` has the stamp of ``a[i]``.
        b_there: (N + 2 * margin,) bool.
        margin: in raster steps; no lag that is looked at is larger.
    """

    start_s: float
    a: FloatArray
    a_there: BoolArray
    b: FloatArray
    b_there: BoolArray
    margin: int


@dataclass(frozen=True)
class Lags:
    """Lags of the windows in which one was found. W windows.

    Attributes:
        t_s: (W,) float64, centres.
        lag_s: (W,) float64, reference minus own time.
        sigma_s: (W,) float64, standard error.
        correlation: (W,) float64.
        tried: number of windows looked at.
    """

    t_s: FloatArray
    lag_s: FloatArray
    sigma_s: FloatArray
    correlation: FloatArray
    tried: int


@dataclass(frozen=True)
class Line:
    """lag(t) = offset_s + drift * t; ``drift_seen`` is the magnitude before the prior, with its standard error."""

    offset_s: float
    drift: float
    drift_seen: float
    drift_sigma: float


def not_observable(reason: str, *, correlation: float | None = None, windows_tried: int = 0) -> ClockModel:
    """A model that maps every stamp to itself and says why nothing better is known."""
    return ClockModel(
        method="not observable",
        correlation=None if correlation is None else round(correlation, 4),
        windows_tried=windows_tried,
        reason=f"NOT OBSERVABLE: {reason}",
    )


def estimate_clock(
    own_ns: IntArray, own: FloatArray, reference_ns: IntArray, reference: FloatArray, declared: Alignment
) -> ClockModel:
    """Estimate offset and drift of a clock domain against the reference clock.

    Args:
        own_ns: (N,) int64, native stamps, strictly increasing.
        own: (N,) float64, finite, the motion as observed on this clock.
        reference_ns: (M,) int64, stamps on the reference clock, strictly increasing.
        reference: (M,) float64, finite, the same quantity with the same sign; gain and bias may differ.
        declared: bounds of the search.

    Returns:
        ``estimated``, or ``not observable`` with the reason; never a silent zero.

    Raises:
        DeclarationError: ``max_drift_ppm`` beyond what a clock model holds.
    """
    if declared.max_drift_ppm > DRIFT_LIMIT_PPM:
        raise DeclarationError(
            f"align.max_drift_ppm is {declared.max_drift_ppm:g}, expected at most {DRIFT_LIMIT_PPM:g}.",
            next_step="a quartz drifts by less than 100 ppm; lower it",
        )
    reach_s = declared.max_offset_ms / MS_PER_S
    if min(own_ns.size, reference_ns.size) < 2:
        return not_observable(f"{own_ns.size} own and {reference_ns.size} reference samples, at least 2 of each are needed")
    base_ns = int(own_ns[0])
    a_s, b_s = (own_ns - base_ns) / 1e9, (reference_ns - base_ns) / 1e9
    start_s, end_s = max(a_s[0], b_s[0] - reach_s), min(a_s[-1], b_s[-1] + reach_s)
    if end_s - start_s < OVERLAP_MIN_S:
        return not_observable(
            f"the two signals overlap for {max(end_s - start_s, 0):.1f} s, at least {OVERLAP_MIN_S:g} s are needed"
        )
    pair = _pair((a_s, own), (b_s, reference), (float(start_s), float(end_s)), declared)
    if pair is None:
        return not_observable("a signal is constant: no motion to align by")
    return _search(pair, base_ns, declared)


def _search(pair: Pair, base_ns: int, declared: Alignment) -> ClockModel:
    """Find the coarse lag, then the windows', then the line."""
    # a step more than declared, so that an offset of just that much is not at the border
    centre_s, correlation = _coarse(pair, int(np.ceil(declared.max_offset_ms / MS_PER_S / RASTER_S)) + 1)
    at, lowest = int(np.argmax(correlation)), float(correlation.min())
    peak, lag_steps, second = float(correlation[at]), at - correlation.size // 2, second_peak(correlation, at)
    if peak < CORRELATION_MIN:
        reason = f"peak correlation {peak:.2f}, at least {CORRELATION_MIN:g} is needed"
        reversed_sign = f"; with the sign of one signal reversed it is {-lowest:.2f}" if -lowest >= CORRELATION_MIN else ""
        return not_observable(reason + reversed_sign, correlation=peak)
    if at in (0, correlation.size - 1):
        return not_observable(
            f"the correlation still rises at the border of the search, max_offset_ms {declared.max_offset_ms:g}", correlation=peak
        )
    if second > AMBIGUITY * peak:
        return not_observable(f"the motion repeats: two lags correlate with {peak:.3f} and {second:.3f}", correlation=peak)
    lags = _window_lags(pair, centre_s, lag_steps, declared.max_drift_ppm / PPM)
    if lags.t_s.size == 0:
        return not_observable(
            f"in none of {lags.tried} windows the lag could be found", correlation=peak, windows_tried=lags.tried
        )
    return _model(lags, base_ns, peak, declared)


def _pair(
    own: tuple[FloatArray, FloatArray], reference: tuple[FloatArray, FloatArray], span_s: tuple[float, float], declared: Alignment
) -> Pair | None:
    """Bring stamps and values of both onto one raster; None when one of them is constant.

    Both sides get the same symmetric kernel, which moves neither in time. Without it the fit prefers lags at which the
    interpolation of noisy samples happens to average them, and is wrong by up to half a sample period.
    """
    if any(not np.std(v) > 1e-12 * max(1.0, float(np.max(np.abs(v)))) for _, v in (own, reference)):
        return None
    smooth_s = max(SMOOTH_S, *(SMOOTH_PERIODS * float(np.median(np.diff(t_s))) for t_s, _ in (own, reference)))
    steps = round((span_s[1] - span_s[0]) / RASTER_S) + 1
    largest_s = declared.max_offset_ms / MS_PER_S + REACH_S + declared.max_drift_ppm / PPM * (span_s[1] - span_s[0])
    margin = int(np.ceil(largest_s / RASTER_S)) + 4
    a, a_there = _smoothed(*own, span_s[0], np.arange(steps), smooth_s)
    b, b_there = _smoothed(*reference, span_s[0], np.arange(-margin, steps + margin), smooth_s)
    return Pair(span_s[0], a, a_there, b, b_there, margin)


def _smoothed(
    t_s: FloatArray, values: FloatArray, start_s: float, steps: IntArray, smooth_s: float
) -> tuple[FloatArray, BoolArray]:
    """Values at the raster's steps, and where there are any."""
    raster = start_s + RASTER_S * steps
    right = np.clip(np.searchsorted(t_s, raster), 1, t_s.size - 1)
    # a pause of many periods is not interpolated
    gap_s = max(5.0 * float(np.median(np.diff(t_s))), 0.1)
    there = (raster >= t_s[0]) & (raster <= t_s[-1]) & (t_s[right] - t_s[right - 1] <= gap_s)
    scaled = np.where(there, (np.interp(raster, t_s, values) - np.mean(values)) / np.std(values), 0.0)
    half = int(np.ceil(4 * smooth_s / RASTER_S))
    kernel = np.exp(-0.5 * (np.arange(-half, half + 1) * RASTER_S / smooth_s) ** 2)
    weight = np.convolve(there.astype(np.float64), kernel)[half:-half]
    # at the borders the kernel sees one side only and would move the signal
    return np.convolve(scaled, kernel)[half:-half] / kernel.sum(), there & (weight > 0.98 * kernel.sum())


def _coarse(pair: Pair, lag_max: int) -> tuple[float, FloatArray]:
    """Correlate over the most moving stretch of at most COARSE_S.

    Returns:
        Centre of the stretch (own seconds); (2 * lag_max + 1,) correlation at the lags -lag_max to lag_max raster steps.
    """
    pieces = int(np.ceil(pair.a.size * RASTER_S / COARSE_S))
    edges = np.linspace(0, pair.a.size, pieces + 1).astype(np.int64)
    own, reference = np.where(pair.a_there, pair.a, 0.0), np.where(pair.b_there, pair.b, 0.0)[pair.margin :]
    best = int(np.argmax([np.std(own[lo:hi]) * np.std(reference[lo:hi]) for lo, hi in itertools.pairwise(edges)]))
    lo, hi = int(edges[best]), int(edges[best + 1])
    near = slice(lo + pair.margin - lag_max, hi + pair.margin + lag_max)
    a, a_there = np.pad(pair.a[lo:hi], lag_max), np.pad(pair.a_there[lo:hi], lag_max)
    correlation = masked_correlation(a, a_there, pair.b[near], pair.b_there[near], lag_max)
    return pair.start_s + (lo + hi) / 2 * RASTER_S, correlation


def _window_lags(pair: Pair, centre_s: float, lag_steps: int, drift_max: float) -> Lags:
    """Find the lag in each window, near the coarse lag plus what drift can add since its centre."""
    length = min(round(WINDOW_S / RASTER_S), pair.a.size)
    tried = min(WINDOWS_MAX, 1 + int((pair.a.size - length) * RASTER_S / HOP_S))
    rows = []
    for first in np.linspace(0, pair.a.size - length, tried).astype(np.int64).tolist():
        t_s = pair.start_s + (first + length / 2) * RASTER_S
        reach = int(np.ceil((REACH_S + drift_max * abs(t_s - centre_s)) / RASTER_S))
        found = _lag(pair, slice(first, first + length), lag_steps, reach)
        if found is not None:
            rows.append((t_s, *found))
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return Lags(table[:, 0], table[:, 1], table[:, 2], table[:, 3], tried)


def _lag(pair: Pair, window: slice, around: int, reach: int) -> tuple[float, float, float] | None:
    """Find the lag at which the reference fits the window best, within ``reach`` steps around a lag.

    Returns:
        Lag in s, its standard error in s, the correlation; None where the window does not tell.
    """
    near = slice(window.start + pair.margin + around - reach, window.stop + pair.margin + around + reach)
    size = window.stop - window.start
    scores = pearson(
        pair.a[window],
        sliding_window_view(pair.b[near], size),
        pair.a_there[window] & sliding_window_view(pair.b_there[near], size),
    )
    best = int(np.argmax(scores))
    # a peak on the border of the search is the flank of another one
    if scores[best] < CORRELATION_MIN or best in (0, scores.size - 1):
        return None
    start_s = (around - reach + best) * RASTER_S
    lag_s, sigma_s = start_s, np.inf
    for _ in range(6):
        step_s, sigma_s = _gauss_newton(pair, window, lag_s)
        lag_s = float(np.clip(lag_s + step_s, start_s - 2 * RASTER_S, start_s + 2 * RASTER_S))
        if abs(step_s) < 1e-6:
            break
    if not sigma_s < WINDOW_SIGMA_MAX_S or abs(lag_s - start_s) > 1.5 * RASTER_S:
        return None
    return lag_s, sigma_s, float(scores[best])


def _gauss_newton(pair: Pair, window: slice, lag_s: float) -> tuple[float, float]:
    """One step on a = gain * b(t + lag) + bias; returns the step of the lag and its standard error, in s."""
    whole, part = divmod(lag_s / RASTER_S, 1.0)
    first, size = window.start + pair.margin + int(whole), window.stop - window.start

    def shifted(steps: int) -> FloatArray:
        at = first + steps
        return (1 - part) * pair.b[at : at + size] + part * pair.b[at + 1 : at + 1 + size]

    there = pair.a_there[window] & pair.b_there[first : first + size] & pair.b_there[first + 1 : first + 1 + size]
    x, y, slope = shifted(0)[there], pair.a[window][there], (shifted(1) - shifted(-1))[there] / (2 * RASTER_S)
    if x.size <= 3:
        return 0.0, np.inf
    gain, bias = np.polyfit(x, y, 1)
    residual = y - gain * x - bias
    jacobian = np.column_stack((gain * slope, x, np.ones_like(x)))
    solution, _, rank, _ = np.linalg.lstsq(jacobian, residual, rcond=None)
    if rank < 3:
        return 0.0, np.inf
    # smoothing by a Gaussian makes the noise of 2 sqrt(pi) sigma neighbouring samples one
    variance = float(np.sum((residual - jacobian @ solution) ** 2)) / (x.size - 3) * 2 * np.sqrt(np.pi) * SMOOTH_S / RASTER_S
    return float(solution[0]), float(np.sqrt(variance * np.linalg.inv(jacobian.T @ jacobian)[0, 0]))


def _model(lags: Lags, base_ns: int, peak: float, declared: Alignment) -> ClockModel:
    """Fit the line lag(t) = offset + drift * (t - epoch) and turn it into whole nanoseconds."""
    epoch_s = float(np.mean(lags.t_s))
    limit = declared.max_drift_ppm / PPM
    line = _line(lags.t_s - epoch_s, lags.lag_s, lags.sigma_s, limit / 2)
    if line.drift_seen > limit + 3 * line.drift_sigma:
        return not_observable(
            f"the windows drift by {line.drift_seen * PPM:.0f} +- {line.drift_sigma * PPM:.0f} ppm, "
            f"declared are at most {declared.max_drift_ppm:g}",
            correlation=peak,
            windows_tried=lags.tried,
        )
    deviation_ms = (lags.lag_s - line.offset_s - line.drift * (lags.t_s - epoch_s)) * MS_PER_S
    rows = zip(lags.t_s - epoch_s, lags.lag_s * MS_PER_S, deviation_ms, lags.correlation, strict=True)
    return ClockModel(
        method="estimated",
        # whole microseconds and 1e-3 ppm: finer digits are rounding, and would differ between processors
        offset_ns=round(line.offset_s * 1e6) * 1000,
        drift_ppm=round(line.drift * PPM, 3),
        epoch_ns=base_ns + round(epoch_s * 1e9),
        residual_ms=round(float(np.sqrt(np.mean(deviation_ms**2))), 4),
        residual_p95_ms=round(float(np.percentile(np.abs(deviation_ms), 95)), 4),
        correlation=round(peak, 4),
        windows_tried=lags.tried,
        windows=tuple(
            AlignmentWindow(
                t_s=round(float(t), 3),
                lag_ms=round(float(lag), 4),
                deviation_ms=round(float(deviation), 4),
                correlation=round(float(correlation), 4),
            )
            for t, lag, deviation, correlation in rows
        ),
        reason=""
        if lags.t_s.size >= DRIFT_WINDOWS_MIN
        else f"drift NOT SHOWN: {lags.t_s.size} windows, {DRIFT_WINDOWS_MIN} are needed",
    )


def _line(t_s: FloatArray, lag_s: FloatArray, sigma_s: FloatArray, drift_prior: float) -> Line:
    """Fit a line that outliers do not move; drift 0 where too few windows carry one.

    The declared bound on the drift enters as a normal prior of two sigma: over tens of seconds the windows alone would
    give hundreds of ppm of noise, over minutes they outweigh it.
    """
    if t_s.size < DRIFT_WINDOWS_MIN:
        return Line(float(np.median(lag_s)), 0.0, 0.0, np.inf)
    first, second = np.triu_indices(t_s.size, 1)
    drift = float(np.median((lag_s[second] - lag_s[first]) / (t_s[second] - t_s[first])))
    deviation = np.abs(lag_s - drift * t_s - np.median(lag_s - drift * t_s))
    # 1.4826 * median |deviation| estimates a normal sigma; below 1 ms nothing is an outlier. At least half stays inside.
    inside = deviation <= max(3 * 1.4826 * float(np.median(deviation)), 1e-3)
    t, lag, weight = t_s[inside], lag_s[inside], 1 / (sigma_s[inside] ** 2 + SIGMA_FLOOR_S**2)
    mean_t, mean_lag = float(np.average(t, weights=weight)), float(np.average(lag, weights=weight))
    spread = float(np.sum(weight * (t - mean_t) ** 2))
    seen = float(np.sum(weight * (t - mean_t) * lag)) / spread
    chi = float(np.sum(weight * (lag - mean_lag - seen * (t - mean_t)) ** 2)) / max(t.size - 2, 1)
    precision = spread / max(chi, 1.0)
    drift = seen * precision / (precision + drift_prior**-2) if drift_prior > 0 else 0.0
    return Line(mean_lag - drift * mean_t, drift, abs(seen), float(precision**-0.5))
