"""Lags of windows: how far two signals stand apart in each of many short stretches, and how certain that is.

Belongs here: the raster of a window, the step towards its best lag, a robust line through the windows' lags. Never here: the
search over a whole drive, segments, stamps in nanoseconds (``alignment``).

Method: own(t) = gain * reference(t + lag) + bias in every window, gain and bias of its own. Where the line through all windows
gives the lag, one Gauss-Newton step says how far the window is from it; no window searches a peak of its own, so noise has
no peak to prefer. The step divides by the product of both signals' slopes: noise in one of them does not shrink it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from drivelake.frames.observers import STEPS_PER_SIGMA, Trace, raster, smoothed

__all__ = ["Fit", "Lags", "Line", "divide", "fit_line", "scan", "steps_of"]

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

# windows of one batch: bounds the memory whatever the length of the drive
BATCH = 128
CORRELATION_MIN = 0.6
# a window whose slopes are noise for more than half says nothing
RELIABLE_MIN = 0.5
# deviations beyond this many sigma count linearly
HUBER = 1.5
SIGMA_FLOOR_S = 1e-4
# the windows' own standard errors are too small by 10 to 20 % on generated drives of known truth: three parameters are
# fitted to correlated noise, and what is left of it correlates less
SIGMA_GROWS = 1.2


@dataclass(frozen=True)
class Line:
    """lag(t) = offset_s + drift * (t - epoch_s), reference minus own time."""

    offset_s: float
    drift: float
    epoch_s: float

    def at(self, t_s: FloatArray) -> FloatArray:
        """The lag at times, s."""
        return self.offset_s + self.drift * (t_s - self.epoch_s)


@dataclass(frozen=True)
class Lags:
    """What the windows say. W windows.

    Attributes:
        t_s: (W,) float64, centres.
        lag_s: (W,) float64; NaN where nothing was found.
        sigma_s: (W,) float64, standard error from the residual and its autocorrelation.
        correlation: (W,) float64.
        moving: (W,) bool, both signals are there and the own one moves.
        trace: (W,) int64, which of the traces.
    """

    t_s: FloatArray
    lag_s: FloatArray
    sigma_s: FloatArray
    correlation: FloatArray
    moving: BoolArray
    trace: IntArray

    def taken(self, rows: BoolArray | IntArray) -> Lags:
        """Some of the windows."""
        return Lags(
            self.t_s[rows], self.lag_s[rows], self.sigma_s[rows], self.correlation[rows], self.moving[rows], self.trace[rows]
        )

    @property
    def found(self) -> BoolArray:
        """(W,) bool, where a lag was found."""
        return np.isfinite(self.lag_s)

    @staticmethod
    def joined(parts: Sequence[Lags]) -> Lags:
        """The windows of several traces in order of time."""
        columns = [
            np.concatenate([getattr(part, name) for part in parts])
            for name in ("t_s", "lag_s", "sigma_s", "correlation", "moving", "trace")
        ]
        order = np.argsort(columns[0], kind="stable")
        return Lags(*(column[order] for column in columns))


def _centres(trace: Trace, span_s: tuple[float, float]) -> FloatArray:
    """Centres of windows side by side that fill a span."""
    length = span_s[1] - span_s[0]
    count = max(1, int(length / trace.window_s + 0.25))
    return span_s[0] + length * (np.arange(count) + 0.5) / count


def _grid(trace: Trace, centres_s: FloatArray, more: int) -> tuple[float, int, FloatArray]:
    """Step, half width of the kernel in steps, (W, n + 2 * (half + more)) own times."""
    step_s = trace.smooth_s / STEPS_PER_SIGMA
    half = 4 * STEPS_PER_SIGMA
    steps = max(8, round(trace.window_s / step_s))
    return step_s, half, centres_s[:, None] + step_s * (np.arange(-half - more, steps + half + more) - (steps - 1) / 2)


def _batches(centres_s: FloatArray) -> Iterator[FloatArray]:
    yield from (centres_s[first : first + BATCH] for first in range(0, centres_s.size, BATCH))


def scan(traces: Sequence[Trace], span_s: tuple[float, float], line: Line, reach_s: float) -> Lags:
    """Find in each window the lag that correlates most, within ``reach_s`` of a line; to a step of the raster.

    Returns:
        Windows without a clear peak inside of the reach have the lag NaN.
    """
    return Lags.joined(
        [
            _scanned(trace, at, centres_s, line, reach_s)
            for at, trace in enumerate(traces)
            for centres_s in _batches(_centres(trace, span_s))
        ]
    )


def _scanned(trace: Trace, at: int, centres_s: FloatArray, line: Line, reach_s: float) -> Lags:
    step_s, half, own_s = _grid(trace, centres_s, 0)
    stride = 2
    reach = stride * int(np.ceil(reach_s / step_s / stride))
    _, _, wide_s = _grid(trace, centres_s, reach)
    a, a_there = smoothed(trace.own, own_s, half)
    b, b_there = smoothed(trace.reference, wide_s + line.at(wide_s), half)
    scores = np.stack(
        [
            _pearson(a[:, ::stride], b[:, k : k + a.shape[1] : stride], (a_there & b_there[:, k : k + a.shape[1]])[:, ::stride])
            for k in range(0, 2 * reach + 1, stride)
        ],
        axis=1,
    )
    rows = np.arange(centres_s.size)
    best = np.argmax(scores, axis=1)
    inner = np.clip(best, 1, scores.shape[1] - 2)
    low, top, high = (scores[rows, inner + k] for k in (-1, 0, 1))
    bend = np.maximum(2 * top - low - high, 1e-9)
    lag_s = line.at(centres_s) + ((inner + np.clip((high - low) / 2 / bend, -1, 1)) * stride - reach) * step_s
    peak = scores[rows, best]
    # a peak on the border of the search is the flank of another one
    clear = (peak >= CORRELATION_MIN) & (best == inner)
    there = a_there & b_there[:, reach : reach + a.shape[1]]
    count = there.sum(axis=1)
    mean = np.where(there, a, 0.0).sum(axis=1) / np.maximum(count, 1)
    power = np.where(there, (a - mean[:, None]) ** 2, 0.0).sum(axis=1) / np.maximum(count, 1)
    moving = (2 * count >= a.shape[1]) & (power > _still(trace))
    return Lags(
        centres_s, np.where(clear, lag_s, np.nan), np.full(best.size, stride * step_s), peak, moving, np.full(best.size, at)
    )


def _still(trace: Trace) -> float:
    """Variance below which the own signal, smoothed, is noise or next to nothing; that of the whole is one."""
    own = trace.own
    return 0.03 + 4 * own.noise**2 * own.period_s / (2 * float(np.sqrt(np.pi)) * trace.smooth_s)


def _pearson(x: FloatArray, y: FloatArray, there: BoolArray) -> FloatArray:
    """Row by row; 0 where less than half is there, or one side does not move."""
    count = np.maximum(there.sum(axis=1), 1)
    x, y = np.where(there, x, 0.0), np.where(there, y, 0.0)
    mean_x, mean_y = x.sum(axis=1) / count, y.sum(axis=1) / count
    scale = np.sqrt(
        np.maximum((x * x).sum(axis=1) - count * mean_x**2, 0) * np.maximum((y * y).sum(axis=1) - count * mean_y**2, 0)
    )
    enough = (2 * count >= there.shape[1]) & (scale > 1e-6 * count)
    return np.where(enough, ((x * y).sum(axis=1) - count * mean_x * mean_y) / np.where(enough, scale, 1.0), 0.0)


def steps_of(traces: Sequence[Trace], span_s: tuple[float, float], line: Line) -> Lags:
    """One Gauss-Newton step of every window away from a line.

    Returns:
        The lag is the line's plus the step; NaN where the window does not tell.
    """
    parts = []
    for at, trace in enumerate(traces):
        batches = [_stepped(trace, centres_s, line) for centres_s in _batches(_centres(trace, span_s))]
        columns = [np.concatenate(column) for column in zip(*(batch[:-1] for batch in batches), strict=True)]
        centres_s, step_s, spread, sensitivity, variance, correlation, reliable, power = columns
        # the residual's autocorrelation against the slope's: how many samples of the raster are one independent sample
        auto = np.sum([batch[-1] for batch in batches], axis=0)
        together = auto[0] * auto[1] / max(auto[0][0] * auto[1][0], 1e-300)
        dependent = max(1.0, float(together[0] + 2 * np.sum(together[1:])))
        clear = (correlation >= CORRELATION_MIN) & (reliable >= RELIABLE_MIN)
        pooled = float(np.median(variance[clear])) if clear.any() else 0.0
        # half of it the window's own, half of all windows: a short window's own estimate is noisy
        noise = (variance + pooled) / 2
        sigma_s = np.sqrt(noise * dependent * spread) / np.maximum(sensitivity, 1e-12)
        clear &= (np.abs(step_s) < 2.5 * trace.smooth_s) & (sigma_s < trace.smooth_s)
        parts.append(
            Lags(
                centres_s,
                np.where(clear, line.at(centres_s) + step_s, np.nan),
                np.hypot(sigma_s * SIGMA_GROWS, SIGMA_FLOOR_S),
                correlation,
                power > _still(trace),
                np.full(centres_s.size, at),
            )
        )
    return Lags.joined(parts)


def _stepped(trace: Trace, centres_s: FloatArray, line: Line) -> tuple[FloatArray, ...]:
    """Centres, step, spread of the slope, sensitivity, variance, correlation, reliability, power of the own signal; (2, K) last.

    What comes last are the autocovariances of the residual and of the slope. The reliability is the part of the reference's
    slope that is motion, the rest being noise.
    """
    step_s, half, t_s = _grid(trace, centres_s, 1)
    a, a_there = smoothed(trace.own, t_s, half)
    b, b_there = smoothed(trace.reference, t_s + line.at(t_s), half)
    inner = slice(1, -1)
    there = (a_there & b_there)[:, inner]
    there &= (2 * there.sum(axis=1) >= there.shape[1])[:, None]
    count = there.sum(axis=1).astype(np.float64)

    def centred(x: FloatArray) -> FloatArray:
        mean = np.where(there, x, 0.0).sum(axis=1) / np.maximum(count, 1)
        return np.where(there, x - mean[:, None], 0.0)

    def dot(x: FloatArray, y: FloatArray) -> FloatArray:
        total: FloatArray = np.einsum("ij,ij->i", x, y)
        return total

    y, x = centred(a[:, inner]), centred(b[:, inner])
    own_slope = centred((a[:, 2:] - a[:, :-2]) / (2 * step_s))
    slope = centred((b[:, 2:] - b[:, :-2]) / (2 * step_s))
    xx, yy, xy = np.maximum(dot(x, x), 1e-12), np.maximum(dot(y, y), 1e-12), dot(x, y)
    gain = xy / xx
    slope = slope - (dot(slope, x) / xx)[:, None] * x
    spread = dot(slope, slope)
    sensitivity = dot(slope, own_slope - (dot(own_slope, x) / xx)[:, None] * x)
    residual = y - gain[:, None] * x
    step = dot(slope, residual) / np.maximum(sensitivity, 1e-12)
    residual -= (gain * step)[:, None] * slope
    # weighted by the slope: jitter of the stamps makes noise where the motion is fast
    freedom = count / np.maximum(count - 3, 1)
    variance = dot(residual * slope, residual * slope) / np.maximum(spread, 1e-12) * freedom
    correlation = xy / np.sqrt(xx * yy)
    lags = min(there.shape[1] // 4, 8 * STEPS_PER_SIGMA)
    clear = correlation >= CORRELATION_MIN
    rows = (residual[clear] / np.sqrt(np.maximum(variance[clear], 1e-12))[:, None], slope[clear])
    auto = np.array([[float(np.sum(r[:, k:] * r[:, : r.shape[1] - k])) for k in range(lags)] for r in rows])
    reliable = sensitivity / np.maximum(np.abs(gain) * spread, 1e-12)
    return centres_s, step, spread, sensitivity, variance, correlation, reliable, yy / np.maximum(count, 1), auto


@dataclass(frozen=True)
class Fit:
    """A line through windows.

    Attributes:
        line: the line.
        covariance: (2, 2) float64 of offset and drift, from the windows and the prior.
        drift_seen: without the prior.
        drift_sigma: its standard error; infinite where there are fewer than three windows.
        chi: scatter of the windows over what their standard errors say, at least 1.
        windows: how many carry it, outliers counted in part.
    """

    line: Line
    covariance: FloatArray
    drift_seen: float
    drift_sigma: float
    chi: float
    windows: float

    def sigma(self, t_s: FloatArray) -> FloatArray:
        """Standard uncertainty of the lag at times, s; that of few windows is widened as Student's t is against the normal."""
        x = t_s - self.line.epoch_s
        (offset, both), (_, drift) = self.covariance
        variance = offset + 2 * both * x + drift * x**2 + SIGMA_FLOOR_S**2
        return np.asarray(np.sqrt(np.maximum(variance, 0.0)) * _student(2 * self.windows - 2))


def _student(freedom: float) -> float:
    """97.5 % quantile of Student's t over that of the normal (Abramowitz and Stegun, 26.7.5)."""
    nu, z = max(freedom, 2.0), 1.959964
    return 1 + (z**2 + 1) / (4 * nu) + (5 * z**4 + 16 * z**2 + 3) / (96 * nu**2)


def fit_line(t_s: FloatArray, lag_s: FloatArray, sigma_s: FloatArray, drift_prior: float) -> Fit:
    """Fit a line that outliers do not move (Huber's weights), with a normal prior of mean zero on the drift.

    Over tens of seconds the windows alone may give hundreds of ppm of noise; over minutes they outweigh the prior.
    """
    epoch_s = float(np.average(t_s, weights=sigma_s**-2))
    x = t_s - epoch_s
    design = np.column_stack((np.ones_like(x), x))
    prior = np.diag([0.0, drift_prior**-2 if drift_prior > 0 else 1e30])
    solution, robust, chi = np.array([_weighted_median(lag_s, sigma_s**-2), 0.0]), np.ones_like(x), 1.0
    if t_s.size >= 4:
        solution = _theil_sen(x, lag_s)
    for _ in range(12):
        deviation = (lag_s - design @ solution) / sigma_s
        # half of the deviations are below 0.6745 sigma
        scale = max(1.0, float(np.median(np.abs(deviation))) / 0.6745) if t_s.size >= 4 else 1.0
        robust = np.minimum(1.0, HUBER / np.maximum(np.abs(deviation) / scale, 1e-9))
        weight = robust / sigma_s**2
        chi = max(1.0, float(np.sum(robust * deviation**2)) / max(float(robust.sum()) - 2, 1.0))
        information = (design * weight[:, None]).T @ design / chi
        solution = np.linalg.solve(information + prior, design.T @ (weight * lag_s) / chi)
    covariance = np.linalg.inv(information + prior)
    line = Line(float(solution[0]), float(solution[1]), epoch_s)
    if t_s.size < 3 or not information[1, 1] > 1e-9 * information[0, 0]:
        return Fit(line, covariance, 0.0, np.inf, chi, float(robust.sum()))
    free = np.linalg.inv(information)
    seen = float((free @ (design.T @ (weight * lag_s) / chi))[1])
    return Fit(line, covariance, seen, float(np.sqrt(free[1, 1])), chi, float(robust.sum()))


def _weighted_median(values: FloatArray, weights: FloatArray) -> float:
    order = np.argsort(values, kind="stable")
    total = np.cumsum(weights[order])
    return float(values[order][np.searchsorted(total, total[-1] / 2)])


def _theil_sen(x: FloatArray, y: FloatArray) -> FloatArray:
    """Offset and slope: the median of the slopes of all pairs; of a thousand windows at most, which keeps that at 8 MB."""
    some = np.linspace(0, x.size - 1, min(x.size, 1000)).astype(np.int64)
    first, second = np.triu_indices(some.size, 1)
    dx = x[some][second] - x[some][first]
    apart = dx > 1e-3
    slope = float(np.median((y[some][second] - y[some][first])[apart] / dx[apart])) if apart.any() else 0.0
    return np.array([float(np.median(y - slope * x)), slope])


def divide(traces: Sequence[Trace], span_s: tuple[float, float], left: Line, right: Line) -> float:
    """The time in a span before which one line fits best and after which the other does, s.

    The traces' squared residuals are summed; where nothing moves, any time fits, and the middle is taken.
    """
    step_s = min(trace.smooth_s for trace in traces) / STEPS_PER_SIGMA
    t_s = np.arange(span_s[0], span_s[1] + step_s, step_s)
    cost = np.zeros(t_s.size)
    for trace in traces:
        a, a_there = raster(trace.own, t_s)
        sides = [raster(trace.reference, t_s + line.at(t_s)) for line in (left, right)]
        there = a_there & sides[0][1] & sides[1][1]
        if there.sum() < 3:
            continue
        # a gain and a bias for both: those of the side that fits better, sample by sample
        x = np.where(np.abs(a - sides[0][0]) < np.abs(a - sides[1][0]), sides[0][0], sides[1][0])[there]
        gain, bias = np.linalg.lstsq(np.column_stack((x, np.ones_like(x))), a[there], rcond=None)[0]
        before, after = ((a - gain * side[0] - bias) ** 2 for side in sides)
        cost += np.concatenate(([0.0], np.cumsum(np.where(there, before - after, 0.0))[:-1]))
    low = np.flatnonzero(cost <= cost.min() + 0.02 * (cost.max() - cost.min()))
    return float(t_s[low[low.size // 2]])
