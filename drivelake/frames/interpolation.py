"""Values between two samples. Belongs here: straight lines, angles and attitudes, the shortest way round.

Never here: which samples (matching), stamps as floats: shares are taken of differences in whole nanoseconds.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from drivelake.frames.matching import Match

__all__ = ["circular", "linear", "slerp"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

FULL_TURN = {"rad": 2 * np.pi, "deg": 360.0}
# from here on the sine of the angle between two attitudes is too small to divide by, and the chord is as good
NEARLY_EQUAL = 0.9995


def _neighbours(ticks_ns: IntArray, times_ns: IntArray, found: Match) -> tuple[IntArray, IntArray, FloatArray]:
    """Rows of the earlier and the later sample, and how far between them the tick is, 0 to 1."""
    first, second = np.minimum(found.index, found.other), np.maximum(found.index, found.other)
    span = (times_ns[second] - times_ns[first]).astype(np.float64)
    share = (ticks_ns - times_ns[first]).astype(np.float64) / np.where(span == 0, 1.0, span)
    return first, second, np.where(span == 0, 0.0, share)


def linear(ticks_ns: IntArray, times_ns: IntArray, values: FloatArray, found: Match) -> FloatArray:
    """Values on the straight line between two samples.

    Args:
        ticks_ns: (T,) int64.
        times_ns: (N,) int64, as given to :func:`~drivelake.frames.matching.match`.
        values: (N,) float64, finite.
        found: a match between neighbours over the same ticks and times.

    Returns:
        (T,) float64; of no meaning where nothing was found.
    """
    first, second, share = _neighbours(ticks_ns, times_ns, found)
    # a weighted sum, since the difference of two values can overflow where both are finite
    return values[first] * (1.0 - share) + values[second] * share


def circular(ticks_ns: IntArray, times_ns: IntArray, values: FloatArray, found: Match, unit: str) -> FloatArray:
    """Angles on the shorter arc between two samples; of two equally long ones the one that turns backwards.

    Args:
        ticks_ns: (T,) int64.
        times_ns: (N,) int64.
        values: (N,) float64, finite, any number of turns.
        found: a match between neighbours.
        unit: of the values, rad or deg.

    Returns:
        (T,) float64 in [-half a turn, half a turn), of exact hits too; of no meaning where nothing was found.
    """
    turn = FULL_TURN[unit]
    first, second, share = _neighbours(ticks_ns, times_ns, found)
    start = np.remainder(values[first], turn)
    arc = np.remainder(np.remainder(values[second], turn) - start + turn / 2, turn) - turn / 2
    angle = np.remainder(start + share * arc + turn / 2, turn) - turn / 2
    # the remainder of a tiny negative number rounds to a full turn
    return np.where(angle >= turn / 2, -turn / 2, angle)


def slerp(ticks_ns: IntArray, times_ns: IntArray, values: FloatArray, found: Match) -> FloatArray:
    """Attitudes on the shorter great arc between two unit quaternions, at constant angular speed.

    K. Shoemake, Animating rotation with quaternion curves, SIGGRAPH 1985. q and -q are one attitude: the result has the
    sign of the earlier sample.

    Args:
        ticks_ns: (T,) int64.
        times_ns: (N,) int64.
        values: (N, 4) float64, unit quaternions x, y, z, w.
        found: a match between neighbours.

    Returns:
        (T, 4) float64 unit quaternions; of no meaning where nothing was found.
    """
    first, second, share = _neighbours(ticks_ns, times_ns, found)
    start, end = values[first], values[second]
    cosine = np.einsum("ij,ij->i", start, end)
    end = np.where(cosine[:, None] < 0, -end, end)
    angle = np.arccos(np.minimum(np.abs(cosine), 1.0))
    chord = np.abs(cosine) > NEARLY_EQUAL
    sine = np.where(chord, 1.0, np.sin(angle))
    before = np.where(chord, 1.0 - share, np.sin((1.0 - share) * angle) / sine)
    after = np.where(chord, share, np.sin(share * angle) / sine)
    result: FloatArray = before[:, None] * start + after[:, None] * end
    result /= np.linalg.norm(result, axis=1, keepdims=True)
    return result
