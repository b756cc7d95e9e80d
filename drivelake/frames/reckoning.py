"""Dead reckoning: where speed and yaw rate lead. Belongs here: the integrals, exact for samples joined by lines, and how
fast the result gets uncertain.

Never here: fixes of any kind, declarations.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

__all__ = ["GAP_S", "KNOT_NS", "NS_PER_S", "Reckoning", "gathered", "seconds", "unobserved"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
ComplexArray = NDArray[np.complex128]

KNOT_NS = 50_000_000
NS_PER_S = 1_000_000_000
CHUNK_KNOTS = 1 << 16
# samples further apart than this leave the motion between them unobserved
GAP_S = 0.5
# what speed and yaw rate of a production car are off, one standard deviation: a scale, a bias, a random walk of the angle
SPEED_SCALE = 0.01
YAW_BIAS_RADPS = 0.002
YAW_WALK_RAD_PER_ROOT_S = 0.002
# how far they may get from the line between two samples while nothing is observed
GAP_SPEED_MPS = 3.0
GAP_YAW_RADPS = 0.2
# Gauss and Legendre's three points on [0, 1]: exact for the motion between two samples to the fifth order
NODES = 0.5 + np.sqrt(0.15) * np.array([-1.0, 0.0, 1.0])
WEIGHTS = np.array([5.0, 8.0, 5.0]) / 18.0


@dataclass(frozen=True)
class Reckoning:
    """Motion from speed and yaw rate, at knots 50 ms apart while both are there; heading 0 and position 0 at first.

    Attributes:
        t_ns: (K,) int64; the last may lie up to 50 ms behind the end, with speed and yaw rate held.
        last_ns: the end.
        speed_at: s since the first knot, and m/s, of the native samples.
        yaw_rate_at: the same with rad/s.
        bias_at: s since the first knot, and rad, an angle that the yaw rate has missed, on lines.
        unobserved_s: (K,) float64, how long neither speed nor yaw rate was observed until then.
    """

    t_ns: IntArray
    last_ns: int
    speed_at: tuple[FloatArray, FloatArray]
    yaw_rate_at: tuple[FloatArray, FloatArray]
    bias_at: tuple[FloatArray, FloatArray]
    unobserved_s: FloatArray

    @classmethod
    def of(cls, speed: tuple[IntArray, FloatArray], yaw_rate: tuple[IntArray, FloatArray]) -> Reckoning:
        """Take two tracks of finite samples that overlap in time by 1 ns or more."""
        first, last = max(int(speed[0][0]), int(yaw_rate[0][0])), min(int(speed[0][-1]), int(yaw_rate[0][-1]))
        t_ns = np.arange(first, last + KNOT_NS, KNOT_NS, dtype=np.int64)
        nothing = np.zeros(1)
        gaps = (gathered(track[0], t_ns) for track in (speed, yaw_rate))
        return cls(
            t_ns,
            last,
            (seconds(speed[0], first), speed[1]),
            (seconds(yaw_rate[0], first), yaw_rate[1]),
            (nothing, nothing),
            np.maximum(*gaps),
        )

    def turned(self, t_s: FloatArray, missing_rad: FloatArray) -> Reckoning:
        """The same with an angle added that the yaw rate has missed, on lines between (N,) times."""
        return replace(self, bias_at=(t_s, missing_rad))

    @property
    def t_s(self) -> FloatArray:
        """(K,) float64 s since the first knot."""
        return seconds(self.t_ns, int(self.t_ns[0]))

    def speed(self) -> FloatArray:
        """(K,) float64 m/s."""
        return np.interp(self.t_s, *self.speed_at)

    def yaw(self) -> FloatArray:
        """(K,) float64 rad, continuous."""
        return self._yaw(self.t_s, self._angles())

    def positions(self) -> ComplexArray:
        """(K,) complex128 m: the sum over the knots of speed along the heading, integrated by Gauss and Legendre."""
        t_s, angles = self.t_s, self._angles()
        moved = np.zeros(t_s.size, dtype=np.complex128)
        for start in range(0, t_s.size - 1, CHUNK_KNOTS):  # three points a knot, for a chunk at a time
            begin = t_s[start : min(start + CHUNK_KNOTS, t_s.size - 1)]
            for node, weight in zip(NODES, WEIGHTS, strict=True):
                at = begin + node * KNOT_NS / NS_PER_S
                step = np.interp(at, *self.speed_at) * np.exp(1j * self._yaw(at, angles))
                moved[start + 1 : start + 1 + begin.size] += weight * KNOT_NS / NS_PER_S * step
        return np.cumsum(moved)

    def sigma_m(self) -> FloatArray:
        """(K,) float64 m, standard uncertainty: what the scale, the bias, the walk and the gaps have gathered by then."""
        t_s = self.t_s
        steps_m = np.diff(t_s, prepend=0.0) * np.abs(self.speed())
        angle = np.sqrt((YAW_BIAS_RADPS * t_s) ** 2 + YAW_WALK_RAD_PER_ROOT_S**2 * t_s) + GAP_YAW_RADPS * self.unobserved_s
        along, across = SPEED_SCALE * np.cumsum(steps_m), np.cumsum(steps_m * angle)
        return np.sqrt(along**2 + across**2) + GAP_SPEED_MPS * self.unobserved_s

    def _angles(self) -> FloatArray:
        """(N,) float64 rad turned until each sample of the yaw rate: trapezoids, which are exact for lines."""
        t_s, rate = self.yaw_rate_at
        return np.concatenate(([0.0], np.cumsum(np.diff(t_s) * (rate[1:] + rate[:-1]) / 2)))

    def _yaw(self, at_s: FloatArray, angles: FloatArray) -> FloatArray:
        t_s, rate = self.yaw_rate_at
        raw = _quadratic(at_s, t_s, rate, angles) - _quadratic(np.zeros(1), t_s, rate, angles)
        return raw + np.interp(at_s, *self.bias_at)


def seconds(t_ns: IntArray, origin_ns: int) -> FloatArray:
    """(N,) float64 s since an origin; the difference is taken in whole ns."""
    return (t_ns - np.int64(origin_ns)) / NS_PER_S


def gathered(t_ns: IntArray, at_ns: IntArray) -> FloatArray:
    """(T,) float64 s, how much of the time until then lies between samples further apart than ``GAP_S``."""
    apart = np.diff(t_ns) / NS_PER_S
    total = np.concatenate(([0.0], np.cumsum(np.where(apart > GAP_S, apart, 0.0))))
    begin = int(at_ns[0])
    until: FloatArray = np.interp(seconds(at_ns, begin), seconds(t_ns, begin), total)
    until -= until[0]
    return until


def unobserved(t_ns: IntArray, at_ns: IntArray) -> FloatArray:
    """(T,) float64 s to the nearer of the two samples around, 0 where these are no further apart than ``GAP_S``."""
    right = np.clip(np.searchsorted(t_ns, at_ns), 1, t_ns.size - 1)
    before, behind = at_ns - t_ns[right - 1], t_ns[right] - at_ns
    return np.where(before + behind > GAP_S * NS_PER_S, np.maximum(np.minimum(before, behind), 0) / NS_PER_S, 0.0)


def _quadratic(at_s: FloatArray, t_s: FloatArray, rate: FloatArray, angles: FloatArray) -> FloatArray:
    """The integral of a rate that is a line between samples: a parabola from each."""
    left = np.clip(np.searchsorted(t_s, at_s, side="right") - 1, 0, t_s.size - 2)
    since = at_s - t_s[left]
    slope = (rate[left + 1] - rate[left]) / (t_s[left + 1] - t_s[left])
    turned: FloatArray = angles[left] + since * (rate[left] + since * slope / 2)
    return turned
