"""When sensors sample and which samples arrive. Belongs here: sample times, losses, the clock of a recorder.

Never here: what is sampled, file formats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["LOSS_SHARE", "Clock", "Samples", "take_samples"]

LOSS_SHARE = 0.01
NS_PER_S = 1_000_000_000


@dataclass(frozen=True)
class Clock:
    """How a recorder's native clock relates to the reference clock::

    reference_ns = native_ns + offset_ns + drift_ppm * 1e-6 * (native_ns - native_zero_ns)
    """

    native_zero_ns: int
    offset_ns: int
    drift_ppm: float

    def native_s(self, reference_ns: NDArray[np.int64]) -> NDArray[np.float64]:
        """Seconds since ``native_zero_ns`` that the native clock shows at these reference times."""
        elapsed_ns = reference_ns - (self.native_zero_ns + self.offset_ns)
        return elapsed_ns / NS_PER_S / (1 + self.drift_ppm * 1e-6)


@dataclass(frozen=True)
class Samples:
    """The samples of one channel that arrived; arrays of shape (N,)."""

    t_s: NDArray[np.float64]  # when sampled, since the start of the drive
    sequence: NDArray[np.int64]  # counts every sample sent, so that losses leave holes
    sent: int

    def counts(self) -> dict[str, int]:
        """How many were sent, recorded and dropped."""
        return {"sent": self.sent, "recorded": len(self.t_s), "dropped": self.sent - len(self.t_s)}


def take_samples(
    rng: np.random.Generator, rate_hz: float, seconds: float, *, gap_s: tuple[float, float] | None = None
) -> Samples:
    """Sample at ``rate_hz`` with a random phase; lose one in a hundred at random and all in ``gap_s`` (from, to)."""
    t_s = np.arange(rng.random() / rate_hz, seconds, 1 / rate_hz)
    arrived = rng.random(len(t_s)) >= LOSS_SHARE
    if gap_s is not None:
        arrived &= (t_s < gap_s[0]) | (t_s >= gap_s[1])
    return Samples(t_s[arrived], np.flatnonzero(arrived), len(t_s))
