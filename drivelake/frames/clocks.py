"""Clock models. Belongs here: what a model is, and the exact mapping of stamps onto the reference clock.

Never here: estimating a model (alignment), and floating point on a stamp: at 1.7e18 ns a float64 rounds to 256 ns.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from drivelake.declaration import Clock
from drivelake.errors import DeclarationError

__all__ = ["DRIFT_LIMIT_PPM", "OFFSET_LIMIT_NS", "STAMP_LIMIT_NS", "AlignmentWindow", "ClockModel", "declared_clock"]

IntArray = NDArray[np.int64]

# Stamps lie in [0, 2**62) (year 2116) and offsets in +-2**60 (36 years): then no sum or difference leaves int64.
STAMP_LIMIT_NS = 1 << 62
OFFSET_LIMIT_NS = 1 << 60
# A quartz drifts by less than 100 ppm; at 1000 ppm the products in `to_reference` still fit into int64.
DRIFT_LIMIT_PPM = 1000.0

PPT_PER_PPM = 1_000_000
NS_PER_S = 1_000_000_000


class AlignmentWindow(BaseModel):
    """One window of the estimation."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    t_s: float = Field(description="centre of the window, native seconds since the model's epoch")
    lag_ms: float = Field(description="reference minus native time, as seen in this window")
    deviation_ms: float = Field(description="lag minus the model's offset and drift")
    correlation: float


class ClockModel(BaseModel):
    """reference = native + offset + drift * (native - epoch), in whole ns.

    ``same``: the domain is the reference clock. ``declared``: the offset stands in the declaration. ``estimated``: from
    two signals that observe the same motion. ``not observable``: the estimation was asked for and could not be made;
    stamps are then used as they are, and ``reason`` says NOT OBSERVABLE.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: Literal["same", "declared", "estimated", "not observable"]
    offset_ns: int = Field(default=0, ge=-OFFSET_LIMIT_NS, le=OFFSET_LIMIT_NS)
    drift_ppm: float = Field(default=0.0, ge=-DRIFT_LIMIT_PPM, le=DRIFT_LIMIT_PPM, description="used to 1e-6 ppm")
    epoch_ns: int = Field(default=0, ge=0, lt=STAMP_LIMIT_NS, description="native time at which offset_ns holds")
    residual_ms: float | None = Field(default=None, description="RMS of the windows' deviations; null: nothing was estimated")
    residual_p95_ms: float | None = Field(default=None, description="95th percentile of the windows' absolute deviations")
    correlation: float | None = Field(default=None, description="peak of the normalised correlation of the two signals")
    windows_tried: int = 0
    windows: tuple[AlignmentWindow, ...] = Field(default=(), description="windows in which the lag was observable")
    reason: str = ""

    def to_reference(self, native_ns: IntArray) -> IntArray:
        """Map native stamps onto the reference clock.

        The drift term is floor((native - epoch) * drift) with drift as a whole number of 1e-12: exact integers, and
        monotonic (an earlier stamp never maps to a later time).

        Args:
            native_ns: (N,) int64 in [0, STAMP_LIMIT_NS).

        Returns:
            (N,) int64 ns.
        """
        drift_ppt = round(self.drift_ppm * PPT_PER_PPM)
        shifted: IntArray = native_ns + np.int64(self.offset_ns)
        if drift_ppt == 0:
            return shifted
        # dt * drift_ppt overflows, so seconds and nanoseconds of dt are multiplied apart: |seconds| < 5e9, |ppt| <= 1e9
        seconds, nanoseconds = np.divmod(native_ns - np.int64(self.epoch_ns), NS_PER_S)
        whole, rest = np.divmod(seconds * drift_ppt, 1000)
        shifted += whole + (rest * NS_PER_S + nanoseconds * drift_ppt) // 10**12
        return shifted


def declared_clock(name: str, clock: Clock | None) -> ClockModel:
    """The model of a clock domain that is not estimated.

    Args:
        name: of the domain, for the message.
        clock: its declaration; None for the reference clock that nobody needs to declare.

    Raises:
        DeclarationError: an offset beyond 36 years, or the reference clock declared to differ from itself.
    """
    if name == "reference":
        if clock is not None and (clock.offset_ns or clock.align):
            raise DeclarationError(
                "Clock 'reference' has an offset or an alignment, but every other clock is mapped onto it.",
                next_step="remove them; declare a clock of its own for the sensors that differ",
            )
        return ClockModel(method="same")
    offset_ns = clock.offset_ns if clock else 0
    if abs(offset_ns) > OFFSET_LIMIT_NS:
        raise DeclarationError(
            f"Clock {name!r}: offset_ns is {offset_ns}, expected at most {OFFSET_LIMIT_NS} (36 years) either way.",
            next_step="give the offset in nanoseconds",
        )
    return ClockModel(method="declared", offset_ns=offset_ns)
