"""Seconds of a master channel as receive stamps. Belongs here: rounding to the nanosecond, times that cannot be.

Never here: where the seconds come from.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["impossible", "stamps_ns"]

NS_PER_S = 1_000_000_000
# half of int64, so that the sum with the start time fits as well
SECONDS_MAX = (1 << 62) / NS_PER_S
# the steps below go through the cache tile by tile
TILE_ROWS = 1 << 13


def impossible(seconds: NDArray[np.float64]) -> NDArray[np.bool_] | None:
    """Which times are no number or do not fit into int64 nanoseconds; None where all are sound."""
    if not len(seconds) or max(abs(float(seconds.min())), abs(float(seconds.max()))) < SECONDS_MAX:
        return None
    return ~(np.abs(seconds) < SECONDS_MAX)


def stamps_ns(start_ns: int, seconds: NDArray[np.float64], *, overwrite: bool = False) -> NDArray[np.int64]:
    """Receive stamps, UTC ns: start of the measurement plus (n,) seconds, each of them possible.

    Args:
        start_ns: of the measurement.
        seconds: contiguous.
        overwrite: whether the stamps may take their memory.
    """
    stamps = seconds.view(np.int64) if overwrite else np.empty(len(seconds), np.int64)
    size = min(TILE_ROWS, len(seconds))
    wholes, fractions, nanoseconds = np.empty(size), np.empty(size), np.empty(size, np.int64)
    for first in range(0, len(seconds), TILE_ROWS):
        part, out = seconds[first : first + TILE_ROWS], stamps[first : first + TILE_ROWS]
        whole, fraction, rest = wholes[: len(part)], fractions[: len(part)], nanoseconds[: len(part)]
        # whole seconds apart, so that the product stays small enough to round to the nanosecond
        np.floor(part, out=whole)
        np.subtract(part, whole, out=fraction)
        fraction *= NS_PER_S
        np.rint(fraction, out=fraction)
        np.copyto(rest, fraction, casting="unsafe")
        np.copyto(out, whole, casting="unsafe")
        out *= NS_PER_S
        out += rest
        out += start_ns
    return stamps
