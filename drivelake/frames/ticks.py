"""The ticks that frames stand on. Belongs here: a sensor's samples, a fixed rate, events; what the report says of them.

Never here: matching samples to them, clocks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from drivelake.errors import DeclarationError
from drivelake.frames.ordered import Ordered
from drivelake.frames.report import ReferenceReport
from drivelake.rig import Rate

__all__ = ["TICKS_MAX", "Ticks", "changes", "count_at", "described", "rate_ticks", "ticks_of"]

IntArray = NDArray[np.int64]

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
# 0.4 GB of stamps; 138 hours at 100 Hz
TICKS_MAX = 50_000_000
# a rate is taken as a fraction with at most this denominator: 29.97 is 2997/100
DENOMINATOR_MAX = 1_000_000
# products with a remainder below 1e10 stay far inside int64
BLOCK_TICKS = 1 << 16
GAP_STEPS = 5
# before every stamp, and no difference to one leaves int64
LONG_AGO_NS = -(1 << 61)


@dataclass(frozen=True)
class Ticks:
    """Ticks in order of time.

    Attributes:
        t_ns: (T,) int64, strictly increasing, on the reference clock.
        before_ns: begin of the first tick's interval: it is as long as the second one's.
    """

    t_ns: IntArray
    before_ns: int | None

    def since(self, rows: slice) -> IntArray:
        """(len(rows),) int64, the tick before each; a lone tick has its interval from the beginning of time."""
        if rows.start:
            earlier: IntArray = self.t_ns[rows.start - 1 : rows.stop - 1]
            return earlier
        first = LONG_AGO_NS if self.before_ns is None else self.before_ns
        return np.concatenate((np.array([first], dtype=np.int64), self.t_ns[: max(rows.stop - 1, 0)]))


def ticks_of(t_ns: IntArray) -> Ticks:
    """Ticks at strictly increasing times (T,) int64."""
    return Ticks(t_ns, int(2 * t_ns[0] - t_ns[1]) if t_ns.size > 1 else None)


def changes(ordered: Ordered) -> IntArray:
    """(T,) int64 times at which a value differs from that of the sample before; the first sample is no change."""
    values = ordered.samples.values
    changed: IntArray = ordered.t_ns[1:][values[1:] != values[:-1]]
    return changed


def _rate(declared: Rate) -> Fraction:
    rate = Fraction(repr(declared.rate_hz)).limit_denominator(DENOMINATOR_MAX)
    if not rate:
        raise DeclarationError(
            f"reference.rate_hz is {declared.rate_hz:g}, expected at least {1 / DENOMINATOR_MAX:g}.", next_step="raise it"
        )
    return rate


def _bounds(declared: Rate, first_ns: int, last_ns: int) -> tuple[int, int]:
    """The numbers of the first tick at or after a time and of the last at or before another."""
    rate = _rate(declared)
    # tick k stands at floor(k * period), so it is at or after t when k * period >= t, and at or before when it is < t + 1
    lowest = -((-first_ns * rate.numerator) // (NS_PER_S * rate.denominator))
    highest = -((-(last_ns + 1) * rate.numerator) // (NS_PER_S * rate.denominator)) - 1
    return lowest, highest


def count_at(declared: Rate, first_ns: int, last_ns: int) -> int:
    """How many ticks a rate gives between two times, both inclusive."""
    lowest, highest = _bounds(declared, first_ns, last_ns)
    return max(highest - lowest + 1, 0)


def rate_ticks(declared: Rate, first_ns: int, last_ns: int) -> IntArray:
    """Ticks at the whole multiples of the period since 1970 that lie between two times, both inclusive.

    Returns:
        (T,) int64; tick k is floor(k * 1e9 / rate), without any float.

    Raises:
        DeclarationError: a rate below a millionth of a Hz.
    """
    rate = _rate(declared)
    lowest, highest = _bounds(declared, first_ns, last_ns)
    return np.concatenate([np.empty(0, dtype=np.int64), *_blocks(rate, lowest, highest)])


def _blocks(rate: Fraction, lowest: int, highest: int) -> Iterator[IntArray]:
    period = NS_PER_S * rate.denominator
    whole, rest = divmod(period, rate.numerator)
    for start in range(lowest, highest + 1, BLOCK_TICKS):
        base, over = divmod(start * period, rate.numerator)
        steps = np.arange(min(BLOCK_TICKS, highest + 1 - start), dtype=np.int64)
        yield base + steps * whole + (over + steps * rest) // rate.numerator


def described(report: ReferenceReport, t_ns: IntArray) -> ReferenceReport:
    """The report with what the ticks say about themselves."""
    if t_ns.size == 0:
        return report
    found = {"ticks": int(t_ns.size), "first_ns": int(t_ns[0]), "last_ns": int(t_ns[-1])}
    if t_ns.size == 1:
        return report.model_copy(update=found)
    steps = np.diff(t_ns)
    gaps = 0 if report.kind == "events" else int(np.count_nonzero(steps > GAP_STEPS * int(np.median(steps))))
    return report.model_copy(update={**found, "gaps": gaps, "longest_step_ms": round(int(steps.max()) / NS_PER_MS, 6)})
