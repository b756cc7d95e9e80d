"""Clock models. Belongs here: what a model is, and the exact mapping of stamps onto the reference clock.

Never here: time scales (scales), which segment a stamp belongs to (walking), estimating a model (alignment), and floating
point on a stamp: at 1.7e18 ns a float64 rounds to 256 ns.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from drivelake.errors import DeclarationError
from drivelake.frames.scales import to_utc
from drivelake.frames.walking import walk
from drivelake.rig import Clock, Scale

__all__ = [
    "DRIFT_LIMIT_PPM",
    "OFFSET_LIMIT_NS",
    "STAMP_LIMIT_NS",
    "AlignmentWindow",
    "ClockModel",
    "Comparison",
    "OffsetRow",
    "Segment",
    "declared_clock",
]

IntArray = NDArray[np.int64]

# Stamps lie in [0, 2**62) (year 2116) and offsets in +-2**60 (36 years): then no sum or difference leaves int64.
STAMP_LIMIT_NS = 1 << 62
OFFSET_LIMIT_NS = 1 << 60
# A quartz drifts by less than 100 ppm; at 1000 ppm the products in `to_reference` still fit into int64.
DRIFT_LIMIT_PPM = 1000.0

LEAP_LIMIT_S = 1000

PPT_PER_PPM = 1_000_000
NS_PER_S = 1_000_000_000


class AlignmentWindow(BaseModel):
    """One window of the estimation."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    t_s: float = Field(description="centre of the window, native seconds since the segment's epoch")
    lag_ms: float = Field(description="reference minus native time, as seen in this window")
    deviation_ms: float = Field(description="lag minus the segment's offset and drift")
    sigma_ms: float | None = Field(default=None, description="standard error of the lag")
    correlation: float
    pair: str = Field(default="", description="own~reference, the sensors that were compared")


class Segment(BaseModel):
    """A stretch of native time in which the clock ran steadily: reference = native + offset + drift * (native - epoch).

    All stamps are on UTC already, whatever the clock's scale. A jump or a restart of the clock begins a new segment; where a
    clock jumps back, segments overlap in native time, so they stand in the order in which their samples were written.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: Literal["same", "declared", "estimated", "not observable"]
    first_ns: int | None = Field(default=None, description="native stamp that begins it; null: whatever comes")
    last_ns: int | None = Field(default=None, description="native stamp that ends it, inclusive; null: whatever comes")
    offset_ns: int = Field(default=0, ge=-OFFSET_LIMIT_NS, le=OFFSET_LIMIT_NS)
    drift_ppm: float = Field(default=0.0, ge=-DRIFT_LIMIT_PPM, le=DRIFT_LIMIT_PPM, description="used to 1e-6 ppm")
    epoch_ns: int = Field(default=0, ge=0, lt=STAMP_LIMIT_NS, description="native time at which offset_ns holds")
    sigma_ms: float | None = Field(
        default=None, description="standard uncertainty of the mapped time, the greatest in the segment; null: not estimated"
    )
    drift_sigma_ppm: float | None = Field(default=None, description="standard uncertainty of the drift; null: none was shown")
    residual_ms: float | None = Field(default=None, description="RMS of the windows' deviations; null: nothing was estimated")
    residual_p95_ms: float | None = Field(default=None, description="95th percentile of the windows' absolute deviations")
    residual_p99_ms: float | None = Field(default=None, description="99th percentile of them")
    correlation: float | None = Field(default=None, description="peak of the normalised correlation of the two signals")
    windows_tried: int = 0
    windows: tuple[AlignmentWindow, ...] = Field(default=(), description="windows in which the lag was observable")
    reason: str = ""

    def shift(self, utc_ns: IntArray) -> IntArray:
        """Map stamps of this segment onto the reference clock.

        The drift term is floor((native - epoch) * drift) with drift as a whole number of 1e-12: exact integers, and
        monotonic (an earlier stamp never maps to a later time). A segment that is not observable maps every stamp to itself.

        Args:
            utc_ns: (N,) int64 in [0, STAMP_LIMIT_NS).

        Returns:
            (N,) int64 ns.
        """
        if self.method == "not observable":
            return utc_ns.copy()
        drift_ppt = round(self.drift_ppm * PPT_PER_PPM)
        shifted: IntArray = utc_ns + np.int64(self.offset_ns)
        if drift_ppt == 0:
            return shifted
        # dt * drift_ppt overflows, so seconds and nanoseconds of dt are multiplied apart: |seconds| < 5e9, |ppt| <= 1e9
        seconds, nanoseconds = np.divmod(utc_ns - np.int64(self.epoch_ns), NS_PER_S)
        whole, rest = np.divmod(seconds * drift_ppt, 1000)
        shifted += whole + (rest * NS_PER_S + nanoseconds * drift_ppt) // 10**12
        return shifted


class Comparison(BaseModel):
    """A declared offset beside what the signals say; the declared one is used."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    largest_ms: float | None = Field(description="largest difference over the drive, either way; null: no estimate")
    sigma_ms: float | None = Field(default=None, description="standard uncertainty of the estimate")
    reason: str = Field(default="", description="why there is no estimate to compare with")


class ClockModel(BaseModel):
    """How stamps of one clock become times of the reference clock, in whole ns.

    ``same``: the domain is the reference clock. ``declared``: the offset stands in the declaration. ``estimated``: from
    signals that observe the same motion, in every segment. ``partly estimated``: in some of them. ``not observable``: the
    estimation was asked for and could not be made; stamps are then used as they are, and ``reason`` says NOT OBSERVABLE.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)
    method: Literal["same", "declared", "estimated", "partly estimated", "not observable"]
    scale: Scale = "utc"
    leap_s: int | None = Field(default=None, description="TAI - UTC as declared; null: from the table")
    segments: tuple[Segment, ...] = Field(min_length=1, description="in the order in which their samples were written")
    compared: Comparison | None = None
    reason: str = ""

    @property
    def windows(self) -> tuple[AlignmentWindow, ...]:
        """The windows of all segments."""
        return tuple(window for segment in self.segments for window in segment.windows)

    @property
    def sigma_ms(self) -> float | None:
        """The greatest standard uncertainty of all segments; None where one has none."""
        sigmas = [segment.sigma_ms for segment in self.segments]
        return max((sigma for sigma in sigmas if sigma is not None), default=None) if None not in sigmas else None

    def worst(self, residual: Literal["residual_ms", "residual_p95_ms", "residual_p99_ms"]) -> float | None:
        """The greatest of a residual over the segments; None where nothing was estimated."""
        return max((value for s in self.segments if (value := getattr(s, residual)) is not None), default=None)

    def to_reference(self, native_ns: IntArray) -> IntArray:
        """Map native stamps onto the reference clock.

        Each stamp is put onto UTC, then mapped by its segment (see ``segment_of``). In a segment that is NOT OBSERVABLE it
        stays what it is on UTC: the model of a neighbour is not used for it, and ``reason`` says so.

        Args:
            native_ns: (N,) int64 in [0, STAMP_LIMIT_NS), all of one sensor, in the order in which they were written.

        Returns:
            (N,) int64 ns.
        """
        utc_ns = self.to_utc(native_ns)
        if len(self.segments) == 1:
            return self.segments[0].shift(utc_ns)
        own = self.segment_of(native_ns)
        mapped = np.empty_like(utc_ns)
        for at, segment in enumerate(self.segments):
            mapped[own == at] = segment.shift(utc_ns[own == at])
        return mapped

    def to_utc(self, native_ns: IntArray) -> IntArray:
        """Put native stamps onto UTC: the time scale alone, see ``scales``.

        Args:
            native_ns: (N,) int64 in [0, STAMP_LIMIT_NS).

        Returns:
            (N,) int64 ns.
        """
        return to_utc(native_ns, self.scale, self.leap_s)

    def segment_of(self, native_ns: IntArray) -> NDArray[np.intp]:
        """Which segment each stamp belongs to, see ``walking``.

        Args:
            native_ns: (N,) int64 in [0, STAMP_LIMIT_NS), all of one sensor, in the order in which they were written.

        Returns:
            (N,) intp, rows of ``segments``, never decreasing.
        """
        return walk(self.to_utc(native_ns), [(segment.first_ns, segment.last_ns) for segment in self.segments])


class OffsetRow(NamedTuple):
    """An offset that somebody declared for one drive.

    Attributes:
        from_ns: native stamp from which it holds; None: from the beginning.
        offset_ns: reference minus native time on UTC, at ``from_ns``.
        drift_ppm: how much the offset grows.
    """

    from_ns: int | None
    offset_ns: int
    drift_ppm: float


def declared_clock(name: str, clock: Clock | None, rows: Sequence[OffsetRow] = ()) -> ClockModel:
    """The model of a clock domain that is not estimated.

    Args:
        name: of the domain, for the message.
        clock: its declaration; None for the reference clock that nobody needs to declare.
        rows: of the clock's table of offsets, in the order in which their samples were written. The first holds for what
            comes before it too. A row that begins earlier than the one before it is that of a clock that jumped back.

    Raises:
        DeclarationError: an offset beyond 36 years, TAI - UTC that cannot be, or the reference clock declared to differ from
            itself.
    """
    scale, leap_s = (clock.scale, clock.leap_s) if clock else ("utc", None)
    if leap_s is not None and (scale == "utc" or not 0 <= leap_s <= LEAP_LIMIT_S):
        raise DeclarationError(
            f"Clock {name!r}: leap_s is {leap_s} on the scale {scale}, expected 0 to {LEAP_LIMIT_S} on tai or gps.",
            next_step="give TAI - UTC in s, 37 since 2017, or remove it: the table of leap seconds knows",
        )
    if name == "reference":
        if clock is not None and (clock.offset_ns or clock.offsets or clock.align):
            raise DeclarationError(
                "Clock 'reference' has an offset or an alignment, but every other clock is mapped onto it.",
                next_step="remove them; declare a clock of its own for the sensors that differ",
            )
        return ClockModel(method="same", scale=scale, leap_s=leap_s, segments=(Segment(method="same"),))
    offset_ns = (clock.offset_ns or 0) if clock else 0
    if abs(offset_ns) > OFFSET_LIMIT_NS:
        raise DeclarationError(
            f"Clock {name!r}: offset_ns is {offset_ns}, expected at most {OFFSET_LIMIT_NS} (36 years) either way.",
            next_step="give the offset in nanoseconds",
        )
    segments = _declared_segments(rows or (OffsetRow(None, offset_ns, 0.0),), scale, leap_s)
    return ClockModel(method="declared", scale=scale, leap_s=leap_s, segments=segments)


def _declared_segments(rows: Sequence[OffsetRow], scale: Scale, leap_s: int | None) -> tuple[Segment, ...]:
    """A segment a row; it ends where the next one begins, unless the clock jumped back there."""
    native_ns = np.array([row.from_ns or 0 for row in rows], dtype=np.int64)
    utc_ns = to_utc(native_ns, scale, leap_s).tolist()
    ends_ns = [after - 1 if after > before else None for before, after in itertools.pairwise(utc_ns)]
    return tuple(
        Segment(
            method="declared",
            first_ns=from_ns if row.from_ns is not None else None,
            last_ns=last_ns,
            offset_ns=row.offset_ns,
            drift_ppm=row.drift_ppm,
            epoch_ns=from_ns,
        )
        for row, from_ns, last_ns in zip(rows, utc_ns, [*ends_ns, None], strict=True)
    )
