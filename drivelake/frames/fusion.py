"""GNSS fixes and dead reckoning together. Belongs here: the Kalman filter and smoother over both, and its noise levels.

Never here: tracks, declarations, geodesy.

Dead reckoning gives displacements d in its own axes; the world's are c d, where c = scale * exp(i heading) hardly changes.
Position and c (four numbers) are then a linear system, so an ordinary Kalman filter and the smoother of Rauch, Tung and
Striebel (1965) are exact for it: no first guess of the heading, nothing to diverge. Both are filterpy's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from drivelake.frames.reckoning import NS_PER_S, Reckoning, seconds

__all__ = ["Fixes", "Fused", "fuse"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

# Nodes of the filter: at most 10 a second, at most this many a drive, at least one a second.
NODES_MAX = 72_000
NODE_NS = 100_000_000
FILL_NS = NS_PER_S
SMOOTHED_AT_ONCE = 4096
# Noise levels are chosen by their likelihood over this many nodes.
JUDGED_NODES = 400
FIX_SIGMAS_M = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8)
FINER = (0.71, 0.84, 1.0, 1.19, 1.41)
TURN_SIGMAS = (1e-4, 5e-4, 2e-3, 8e-3)  # of c, a root second
# What a displacement is off: slip and quantisation a root metre, and an antenna that stands off the axle in a bend.
SLIP_M = 0.03
LEVER_M = 0.3
# What the fixes of one receiver wander by within a drive, all of them together, which no filter over them can see.
WANDER_M = 0.3
GAP_TURN = 0.3  # of c a second that nothing was observed
GAP_M = 3.0  # the same of a displacement
# A fix whose distances to its neighbours are off by so many times what is usual is not used.
NEIGHBOURS = 5  # on either side
UNUSUAL = 6.0
# A fix further off than 1 in 1000 (chi square, two degrees) is not used; after this long without any the filter gives in.
GATE = 13.8
PATIENCE_S = 10.0
BIAS_WINDOW_S = 600.0
YAW_SIGMA_MAX_RAD = 0.5  # beyond it a heading is none


@dataclass(frozen=True)
class Fixes:
    """Positions in the world. ``t_ns``: (N,) int64, strictly increasing; ``position_m``: (N,) complex128, x + iy."""

    t_ns: IntArray
    position_m: ComplexArray


@dataclass(frozen=True)
class Fused:
    """The motion at the knots of the reckoning. ``yaw_rad`` is continuous, NaN where it is not determined."""

    position_m: ComplexArray
    yaw_rad: FloatArray
    sigma_m: FloatArray
    rejected: int


@dataclass(frozen=True)
class Nodes:
    """What the filter sees. ``t_s``: (N,) s since the first knot; ``fix_m``: (N,) complex128, NaN where there is none."""

    t_s: FloatArray
    fix_m: ComplexArray


@dataclass(frozen=True)
class Levels:
    """The noise that was found most likely: of a fix, m a component, and of c, a root second."""

    fix_m: float
    turn: float


@dataclass(frozen=True)
class Smoothed:
    """States (N, 4, 1) at the nodes: x, y and c's two parts; their covariances (N, 4, 4); what a jump of the fixes added to
    the noise of a step (N,); fixes that were not used.
    """

    states: FloatArray
    covariances: FloatArray
    jumped_m2: FloatArray
    rejected: int

    @property
    def position_m(self) -> ComplexArray:
        """(N,) complex128."""
        return self.states[:, 0, 0] + 1j * self.states[:, 1, 0]

    @property
    def turn(self) -> ComplexArray:
        """(N,) complex128, c."""
        return self.states[:, 2, 0] + 1j * self.states[:, 3, 0]

    @property
    def turn_sigma_rad(self) -> FloatArray:
        """(N,) float64, standard uncertainty of c's angle, or more."""
        return np.sqrt(_greatest(self.covariances[:, 2:, 2:])) / np.maximum(np.abs(self.turn), 1e-9)


@dataclass(frozen=True)
class Steps:
    """From each node to the one after it; the first is none. ``moved``: (N,) complex128; variances: (N,) float64."""

    moved: ComplexArray
    variance_m2: FloatArray
    apart_s: FloatArray
    gap_s: FloatArray

    def models(self, rows: range, levels: Levels) -> Iterator[tuple[FloatArray, FloatArray]]:
        """The transition (4, 4) into each node, and its noise (4, 4)."""
        turn = levels.turn**2 * self.apart_s + (GAP_TURN * self.gap_s) ** 2
        for row in rows:
            transition, x, y = np.eye(4), self.moved[row].real, self.moved[row].imag
            transition[0, 2:], transition[1, 2:] = (x, -y), (y, x)
            yield transition, np.diag([self.variance_m2[row], self.variance_m2[row], turn[row], turn[row]])


def fuse(reckoning: Reckoning, fixes: Fixes) -> Fused:
    """Smooth twice: what the heading drifts by in the first pass is the yaw rate's bias, and is taken out for the second.

    The noise of the fixes and of the heading are those of a small grid that make the fixes likeliest.

    Args:
        reckoning: of the whole drive.
        fixes: two or more, inside the reckoning's time.
    """
    sound = _sound(reckoning, fixes)
    nodes = _nodes(reckoning, Fixes(fixes.t_ns[sound], fixes.position_m[sound]))
    unbiased = reckoning.turned(*_missed(nodes, _smoothed(reckoning, nodes)))
    fused = _at_knots(unbiased, nodes, _smoothed(unbiased, nodes))
    return replace(fused, rejected=fused.rejected + int(np.count_nonzero(~sound)))


def _sound(reckoning: Reckoning, fixes: Fixes) -> NDArray[np.bool_]:
    """(N,) whether a fix is as far from its neighbours as the reckoning says, which needs no heading to compare."""
    moved = np.interp(seconds(fixes.t_ns, int(reckoning.t_ns[0])), reckoning.t_s, reckoning.positions())
    contradicts = np.full((2 * NEIGHBOURS, fixes.t_ns.size), np.nan)
    for apart in range(1, min(NEIGHBOURS, fixes.t_ns.size - 1) + 1):
        between = np.abs(fixes.position_m[apart:] - fixes.position_m[:-apart])
        off = np.abs(between - np.abs(moved[apart:] - moved[:-apart]))
        contradicts[2 * apart - 2, apart:], contradicts[2 * apart - 1, :-apart] = off, off
    typical: FloatArray = np.nanmedian(contradicts, axis=0)
    return typical <= UNUSUAL * np.median(typical) + SLIP_M


def _nodes(reckoning: Reckoning, fixes: Fixes) -> Nodes:
    """The first fix of each interval, and a node a second where there is none."""
    end_ns = int(reckoning.t_ns[-1] - reckoning.t_ns[0])
    interval_ns = max(NODE_NS, end_ns // NODES_MAX)
    since_ns = fixes.t_ns - reckoning.t_ns[0]
    _, first = np.unique(since_ns // interval_ns, return_index=True)
    kept_ns = since_ns[first]
    node_ns = np.union1d(kept_ns, np.append(np.arange(0, end_ns, max(FILL_NS, interval_ns), dtype=np.int64), end_ns))
    fix_m = np.full(node_ns.size, complex(np.nan, np.nan))
    fix_m[np.searchsorted(node_ns, kept_ns)] = fixes.position_m[first]
    return Nodes(node_ns / NS_PER_S, fix_m)


def _smoothed(reckoning: Reckoning, nodes: Nodes) -> Smoothed:
    """One pass over the drive, with the noise levels that suit it."""
    steps = _steps(reckoning, nodes)
    levels = _likeliest(nodes, steps)
    found, _ = _forward(nodes, steps, levels, range(nodes.t_s.size))
    _backward(found, replace(steps, variance_m2=steps.variance_m2 + found.jumped_m2), levels)
    return found


def _steps(reckoning: Reckoning, nodes: Nodes) -> Steps:
    t_s = reckoning.t_s
    moved = np.diff(np.interp(nodes.t_s, t_s, reckoning.positions()), prepend=0)
    turned = np.diff(np.interp(nodes.t_s, t_s, reckoning.yaw()), prepend=0)
    gap_s = np.diff(np.interp(nodes.t_s, t_s, reckoning.unobserved_s), prepend=0)
    variance = SLIP_M**2 * np.abs(moved) + (LEVER_M * turned) ** 2 + (GAP_M * gap_s) ** 2 + 1e-8
    return Steps(moved, variance, np.diff(nodes.t_s, prepend=0), gap_s)


def _likeliest(nodes: Nodes, steps: Steps) -> Levels:
    """The levels under which the fixes are likeliest, one after the other, over the stretch in which most way is made."""
    way = np.cumsum(np.where(np.isfinite(nodes.fix_m), np.abs(steps.moved), 0.0))
    reach = max(way.size - JUDGED_NODES, 1)
    start = int(np.argmax(way[-reach:] - way[:reach]))
    rows = range(start, min(start + JUDGED_NODES, way.size))

    def unlikely(levels: Levels) -> float:
        return -_forward(nodes, steps, levels, rows)[1]

    levels = min((Levels(sigma, TURN_SIGMAS[2]) for sigma in FIX_SIGMAS_M), key=unlikely)
    levels = min((Levels(levels.fix_m, turn) for turn in TURN_SIGMAS), key=unlikely)
    return min((Levels(levels.fix_m * factor, levels.turn) for factor in FINER), key=unlikely)


def _forward(nodes: Nodes, steps: Steps, levels: Levels, rows: range) -> tuple[Smoothed, float]:
    """Filter from the first node to the last; gives the states, and the logarithm of the likelihood of the fixes."""
    from filterpy.kalman import KalmanFilter  # scipy behind it takes a second to import

    known = np.flatnonzero(np.isfinite(nodes.fix_m[rows.start : rows.stop])) + rows.start
    model = KalmanFilter(dim_x=4, dim_z=2)
    model.H, model.R = np.eye(2, 4), np.eye(2) * levels.fix_m**2
    # nothing is known of heading and scale, nor of the position but that it is near the first fix
    model.P = np.diag([1e6, 1e6, 1.0, 1.0])
    if known.size:
        model.x[:2, 0] = _pair(nodes.fix_m[known[0]])
    states, covariances = np.empty((len(rows), 4, 1)), np.empty((len(rows), 4, 4))
    jumped_m2 = np.zeros(len(rows))
    likelihood, rejected, trusted_s = 0.0, 0, -np.inf
    for row, (transition, noise) in zip(rows, steps.models(rows, levels), strict=True):
        if row > rows.start:
            model.predict(F=transition, Q=noise)
        if np.isfinite(nodes.fix_m[row]):
            off = _pair(nodes.fix_m[row]) - model.x[:2, 0]
            spread = model.P[:2, :2] + model.R
            distance = float(off @ np.linalg.solve(spread, off))
            likelihood -= (min(distance, GATE) + np.log(np.linalg.det(spread))) / 2
            patient = nodes.t_s[row] - trusted_s < PATIENCE_S
            if distance > GATE and patient:
                rejected += 1
            else:
                if distance > GATE:  # the world has jumped: the smoother must know of it too
                    jumped_m2[row - rows.start] = off @ off
                    model.P[:2, :2] += np.eye(2) * (off @ off)
                model.update(_pair(nodes.fix_m[row]))
                trusted_s = nodes.t_s[row]
        states[row - rows.start], covariances[row - rows.start] = model.x, model.P
    return Smoothed(states, covariances, jumped_m2, rejected), float(likelihood)


def _backward(found: Smoothed, steps: Steps, levels: Levels) -> None:
    """Smooth in place, a stretch at a time from the end; a stretch ends with the first node of the one after it."""
    from filterpy.kalman import KalmanFilter

    model = KalmanFilter(dim_x=4, dim_z=2)
    for stop in range(len(found.states), 1, -SMOOTHED_AT_ONCE):
        rows = range(max(stop - SMOOTHED_AT_ONCE - 1, 0), stop)
        transitions, noises = zip(*steps.models(rows, levels), strict=True)
        here = slice(rows.start, rows.stop)
        found.states[here], found.covariances[here], _, _ = model.rts_smoother(
            found.states[here], found.covariances[here], Fs=transitions, Qs=noises
        )


def _missed(nodes: Nodes, found: Smoothed) -> tuple[FloatArray, FloatArray]:
    """Times and the angle that the yaw rate has missed by then: the slope of the heading, one a window, joined by lines."""
    sure = found.turn_sigma_rad < YAW_SIGMA_MAX_RAD
    t_s, drift = nodes.t_s[sure], np.unwrap(np.angle(found.turn[sure]))
    weight = 1 / found.turn_sigma_rad[sure]
    windows = max(round(nodes.t_s[-1] / BIAS_WINDOW_S), 1)
    edges = np.linspace(0.0, nodes.t_s[-1], windows + 1)
    slopes = np.zeros(windows)
    for window in range(windows):
        inside = (t_s >= edges[window]) & (t_s <= edges[window + 1])
        if np.count_nonzero(inside) > 2:
            slopes[window] = np.polyfit(t_s[inside], drift[inside], 1, w=weight[inside])[0]
    return edges, np.concatenate(([0.0], np.cumsum(slopes * np.diff(edges))))


def _at_knots(reckoning: Reckoning, nodes: Nodes, found: Smoothed) -> Fused:
    """Between two nodes: the way from the earlier, and back from the later, each weighted by its nearness in time."""
    t_s, moved = reckoning.t_s, reckoning.positions()
    at_nodes = np.interp(nodes.t_s, t_s, moved)
    left = np.clip(np.searchsorted(nodes.t_s, t_s, side="right") - 1, 0, nodes.t_s.size - 2)
    share = (t_s - nodes.t_s[left]) / (nodes.t_s[left + 1] - nodes.t_s[left])
    onward = found.position_m[left] + found.turn[left] * (moved - at_nodes[left])
    back = found.position_m[left + 1] + found.turn[left + 1] * (moved - at_nodes[left + 1])
    variance = _greatest(found.covariances[:, :2, :2])
    heading = np.unwrap(np.angle(found.turn))
    sure = found.turn_sigma_rad < YAW_SIGMA_MAX_RAD
    yaw = reckoning.yaw() + heading[left] * (1 - share) + heading[left + 1] * share
    return Fused(
        position_m=onward * (1 - share) + back * share,
        yaw_rad=np.where(sure[left] & sure[left + 1], yaw, np.nan),
        sigma_m=np.sqrt(variance[left] * (1 - share) + variance[left + 1] * share + WANDER_M**2),
        rejected=found.rejected,
    )


def _greatest(covariance: FloatArray) -> FloatArray:
    """(N,) the greater eigenvalue of (N, 2, 2)."""
    xx, yy, xy = covariance[:, 0, 0], covariance[:, 1, 1], covariance[:, 0, 1]
    greatest: FloatArray = (xx + yy) / 2 + np.sqrt(((xx - yy) / 2) ** 2 + xy**2)
    return greatest


def _pair(value: complex) -> FloatArray:
    return np.array([value.real, value.imag])
