"""Time scales: TAI and GPS stamps become UTC. Belongs here: the epochs and the table of leap seconds, in whole ns.

Never here: offsets and drifts of a clock (clocks).

UTC is counted as POSIX does: ns since 1970-01-01 without leap seconds. The mapping never runs backwards. Inside an inserted
leap second it stands still: every stamp of 23:59:60 becomes 00:00:00 of the day that begins, and whoever sorts the samples
sees duplicated stamps. Before 1972 there is no whole offset between TAI and UTC; a stamp of that time is one of a clock that
was never set, and is taken as it is (those within 10 s of 1972 fall on its first instant).
"""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache

import numpy as np
from numpy.typing import NDArray

from drivelake.rig import Scale

__all__ = ["GPS_EPOCH_TAI_NS", "LEAP_SECONDS", "to_utc"]

IntArray = NDArray[np.int64]
NS_PER_S = 1_000_000_000

# TAI - UTC in s from 0 h UTC of each day on; IERS Bulletin C, as listed in leap-seconds.list. None was inserted after 2017.
LEAP_SECONDS: tuple[tuple[str, int], ...] = (
    ("1972-01-01", 10),
    ("1972-07-01", 11),
    ("1973-01-01", 12),
    ("1974-01-01", 13),
    ("1975-01-01", 14),
    ("1976-01-01", 15),
    ("1977-01-01", 16),
    ("1978-01-01", 17),
    ("1979-01-01", 18),
    ("1980-01-01", 19),
    ("1981-07-01", 20),
    ("1982-07-01", 21),
    ("1983-07-01", 22),
    ("1985-07-01", 23),
    ("1988-01-01", 24),
    ("1990-01-01", 25),
    ("1991-01-01", 26),
    ("1992-07-01", 27),
    ("1993-07-01", 28),
    ("1994-07-01", 29),
    ("1996-01-01", 30),
    ("1997-07-01", 31),
    ("1999-01-01", 32),
    ("2006-01-01", 33),
    ("2009-01-01", 34),
    ("2012-07-01", 35),
    ("2015-07-01", 36),
    ("2017-01-01", 37),
)
# 1980-01-06 00:00:00 UTC, when TAI was 19 s ahead; GPS time is TAI - 19 s ever since (IS-GPS-200, 3.3.4).
GPS_EPOCH_TAI_NS = (315_964_800 + 19) * NS_PER_S


def to_utc(native_ns: IntArray, scale: Scale, leap_s: int | None = None) -> IntArray:
    """Put stamps of a scale onto UTC.

    Args:
        native_ns: (N,) int64 in [0, 2**62); utc and tai: since 1970-01-01 of that scale, gps: since 1980-01-06 UTC.
        scale: that they are counted on.
        leap_s: TAI - UTC that holds for all of them; None: what the table says at each stamp.

    Returns:
        (N,) int64 ns since 1970-01-01 UTC, not negative; never decreasing where ``native_ns`` does not decrease.
    """
    if scale == "utc":
        return native_ns
    tai_ns = native_ns + np.int64(GPS_EPOCH_TAI_NS) if scale == "gps" else native_ns
    starts_ns, ahead_ns, begins_ns = _table(leap_s)
    row = np.searchsorted(begins_ns, tai_ns, side="right") - 1
    utc_ns: IntArray = np.maximum(tai_ns - ahead_ns[row], starts_ns[row])
    return utc_ns


@cache
def _table(leap_s: int | None) -> tuple[IntArray, IntArray, IntArray]:
    """(R,) int64 each: UTC at which a row begins, TAI - UTC in it, and the TAI at which the second before it is inserted."""
    rows = ((day, leap_s) for day, _ in LEAP_SECONDS[:1]) if leap_s is not None else LEAP_SECONDS
    days, ahead = zip(*rows, strict=True)
    posix_s = [round(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) for day in days]
    starts_ns = np.array([0, *posix_s], dtype=np.int64) * NS_PER_S
    ahead_ns = np.array([0, *ahead], dtype=np.int64) * NS_PER_S
    begins_ns = starts_ns + np.concatenate(([0], ahead_ns[:-1]))
    return starts_ns, ahead_ns, begins_ns
