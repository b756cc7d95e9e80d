"""Ego motion of a drive. Belongs here: what it is made from, what is said of it, its columns on the ticks.

Never here: reading sensors, clocks, the filter over GNSS fixes (fusion).

Axes as ISO 8855 has them: the vehicle's x forward, y left, z up; yaw counter-clockwise from the world's x axis. The motion
is that of the point whose position is measured (the odometry's origin, the GNSS antenna) or, by dead reckoning, of the
point whose speed is; it is planar.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.errors import DeclarationError
from drivelake.frames.fusion import Fixes, Fused, fuse
from drivelake.frames.reckoning import KNOT_NS, NS_PER_S, Reckoning, seconds, unobserved
from drivelake.frames.wgs84 import to_enu
from drivelake.rig import Poses

__all__ = ["EgoMotion", "Track", "ego_batch", "ego_motion", "ego_schema", "horizon_suffix"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Method = Literal["odometry", "gnss", "dead reckoning", "none"]

# an odometry's own drift, a share of the distance, and what it is off at once
ODOMETRY_DRIFT = 0.01
ODOMETRY_SIGMA_M = 0.05
# how far a vehicle may get from a line between two samples further apart than GAP_S
GAP_SPEED_MPS = 3.0
NOWHERE = complex(np.nan, np.nan)
UNITS = {"x": "m", "y": "m", "yaw": "rad"}


@dataclass(frozen=True)
class Track:
    """Samples of one sensor on the reference clock.

    Attributes:
        t_ns: (N,) int64, strictly increasing.
        values: (N,) float64; of an attitude (N, 4): x, y, z, w of a quaternion that turns the vehicle's axes into the world's.
    """

    t_ns: IntArray
    values: FloatArray


@dataclass(frozen=True)
class EgoMotion:
    """The motion of one drive, at knots 50 ms apart. The world is ENU about ``origin_deg`` where there is one.

    Attributes:
        method: what it was made from. ``odometry``: in the odometry's own axes, from its first position. ``gnss``: ENU from
            the first fix. ``dead reckoning``: x is where the vehicle points at first. ``none``: there is no motion.
        reason: why nothing better was used; empty when the best that is declared was.
        origin_deg: latitude and longitude of the origin; None where it is not known.
        rejected: GNSS fixes that contradicted the others and were not used.
        last_ns: where it ends, at or before the last knot.
        t_ns: (K,) int64.
        position_m: (K,) complex128, x + iy.
        yaw_rad: (K,) float64, continuous: a full turn adds 2 pi; NaN where it is not determined, as before a vehicle moves.
        speed_mps: (K,) float64, along the vehicle's x axis.
        sigma_m: (K,) float64, standard uncertainty of the position along its least certain direction; 95 % of the positions
            lie within 2.45 of it. Errors that all fixes share, as of the atmosphere, are not in it.
    """

    method: Method
    reason: str
    origin_deg: tuple[float, float] | None
    rejected: int
    last_ns: int
    t_ns: IntArray
    position_m: NDArray[np.complex128]
    yaw_rad: FloatArray
    speed_mps: FloatArray
    sigma_m: FloatArray


def ego_motion(tracks: Mapping[str, Track], declared: Poses) -> EgoMotion:
    """Find the motion: from the odometry if there is one, else from GNSS, speed and yaw rate, else from the last two.

    What is declared and not there is passed over, and ``reason`` says so. Gaps are bridged and the uncertainty grows in them.
    A drive of 10 hours takes about 400 MB and, with GNSS, some 20 seconds of one core.

    Args:
        tracks: by name of the sensor; one that the drive lacks may be absent or empty.
        declared: which sensor has which role.
    """
    role = _roles(tracks, declared)
    missing: list[str] = []
    if declared.odometry_position is not None and declared.odometry_attitude is not None:
        x, y = (role(name) for name in declared.odometry_position)
        attitude = role(declared.odometry_attitude)
        if x and y and attitude and np.intersect1d(x.t_ns, y.t_ns).size > 1:
            return _from_odometry(x, y, attitude, role(declared.speed))
        missing.append("the odometry has too few samples")
    speed, yaw_rate = role(declared.speed), role(declared.yaw_rate)
    if speed is None or yaw_rate is None or min(speed.t_ns[-1], yaw_rate.t_ns[-1]) - max(speed.t_ns[0], yaw_rate.t_ns[0]) < 1:
        missing.append("speed and yaw rate have no time in common")
        return _none("; ".join(missing))
    reckoning = Reckoning.of((speed.t_ns, speed.values), (yaw_rate.t_ns, yaw_rate.values))
    if declared.latitude is not None:
        latitude, longitude = role(declared.latitude), role(declared.longitude)
        fixes, origin = _fixes(latitude, longitude, reckoning)
        if fixes is not None:
            fused = fuse(reckoning, fixes)
            return _from_gnss(reckoning, fused, origin, "; ".join(missing))
        missing.append("fewer than two GNSS fixes lie in the time of speed and yaw rate")
    sigma_m = reckoning.sigma_m()
    moved = reckoning.positions()
    return EgoMotion(
        "dead reckoning",
        "; ".join(missing),
        None,
        0,
        reckoning.last_ns,
        reckoning.t_ns,
        moved,
        reckoning.yaw(),
        reckoning.speed(),
        sigma_m,
    )


def horizon_suffix(horizon_s: float) -> str:
    """How a horizon stands in the name of a column: ``1s``, ``0_5s``."""
    return f"{horizon_s:g}s".replace(".", "_").replace("-", "m")


def ego_schema(declared: Poses) -> pa.Schema:
    """The columns of :func:`ego_batch`.

    Raises:
        DeclarationError: two horizons would share a column.
    """
    suffixes = [horizon_suffix(horizon) for horizon in declared.horizons_s]
    if len(set(suffixes)) < len(suffixes):
        raise DeclarationError(
            f"poses.horizons_s names a horizon twice: {', '.join(suffixes)}.", next_step="leave the second out"
        )
    now = {"ego_x_m": "m", "ego_y_m": "m", "ego_yaw_rad": "rad", "ego_speed_mps": "m/s", "ego_sigma_m": "m"}
    later = {f"ego_{part}_{unit}_{suffix}": unit for suffix in suffixes for part, unit in UNITS.items()}
    return pa.schema([pa.field(name, pa.float64(), metadata={"unit": unit}) for name, unit in {**now, **later}.items()])


def ego_batch(motion: EgoMotion, ticks_ns: IntArray, declared: Poses) -> pa.RecordBatch:
    """The motion on ticks, and for each horizon where the vehicle will be, in its own axes at the tick.

    Args:
        motion: of the drive.
        ticks_ns: (T,) int64 on the reference clock.
        declared: gives the horizons.

    Returns:
        Columns of :func:`ego_schema`; null outside of the motion's time, where the yaw is not determined, and for a horizon
        that lies behind the end of the motion.
    """
    schema = ego_schema(declared)
    position, yaw = _position(motion, ticks_ns), _at(motion, motion.yaw_rad, ticks_ns)
    columns = [
        position.real,
        position.imag,
        yaw,
        _at(motion, motion.speed_mps, ticks_ns),
        _at(motion, motion.sigma_m, ticks_ns),
    ]
    for horizon in declared.horizons_s:
        then_ns = ticks_ns + np.int64(round(horizon * NS_PER_S))
        ahead = (_position(motion, then_ns) - position) * np.exp(-1j * yaw)
        columns += [ahead.real, ahead.imag, _at(motion, motion.yaw_rad, then_ns) - yaw]
    return pa.record_batch([pa.array(column, mask=~np.isfinite(column)) for column in columns], schema=schema)


def _roles(tracks: Mapping[str, Track], declared: Poses) -> Callable[[str | None], Track | None]:
    """A sensor's finite samples; None where it has fewer than two."""

    def role(name: str | None) -> Track | None:
        track = tracks.get(name) if name is not None else None
        if track is None:
            return None
        finite = np.isfinite(track.values if track.values.ndim == 1 else track.values.sum(axis=1))
        if name == declared.odometry_attitude:
            finite &= np.abs(track.values).max(axis=1) > 0  # a quaternion of zeros is an attitude that nobody measured
        return Track(track.t_ns[finite], track.values[finite]) if np.count_nonzero(finite) > 1 else None

    return role


def _from_odometry(x: Track, y: Track, attitude: Track, speed: Track | None) -> EgoMotion:
    at_ns, in_x, in_y = np.intersect1d(x.t_ns, y.t_ns, assume_unique=True, return_indices=True)
    native: NDArray[np.complex128] = x.values[in_x] + 1j * y.values[in_y]
    t_ns = _knots(int(max(at_ns[0], attitude.t_ns[0])), int(min(at_ns[-1], attitude.t_ns[-1])))
    if t_ns.size < 2:
        return _none("positions and attitudes of the odometry have no time in common")
    begin = int(t_ns[0])
    t_s = seconds(t_ns, begin)
    position = np.interp(t_s, seconds(at_ns, begin), native)
    position -= position[0]
    qx, qy, qz, qw = attitude.values.T
    # the angle of the vehicle's x axis in the plane, whatever the length of the quaternion
    heading = np.unwrap(np.arctan2(2 * (qw * qz + qx * qy), qw**2 + qx**2 - qy**2 - qz**2))
    yaw = np.interp(t_s, seconds(attitude.t_ns, begin), heading)
    if speed is not None and speed.t_ns[0] <= t_ns[-1] and speed.t_ns[-1] >= t_ns[0]:
        speed_mps = np.interp(t_s, seconds(speed.t_ns, begin), speed.values)
    else:
        speed_mps = (np.gradient(position, t_s) * np.exp(-1j * yaw)).real
    distance = np.concatenate(([0.0], np.cumsum(np.abs(np.diff(position)))))
    beyond = np.maximum(unobserved(at_ns, t_ns), unobserved(attitude.t_ns, t_ns))
    sigma_m = ODOMETRY_SIGMA_M + ODOMETRY_DRIFT * distance + GAP_SPEED_MPS * beyond
    return EgoMotion("odometry", "", None, 0, int(t_ns[-1]), t_ns, position, yaw, speed_mps, sigma_m)


def _fixes(
    latitude: Track | None, longitude: Track | None, reckoning: Reckoning
) -> tuple[Fixes | None, tuple[float, float] | None]:
    """GNSS fixes as metres from the first, where the reckoning is; a fix at 0, 0 is a receiver's word for none."""
    if latitude is None or longitude is None:
        return None, None
    at_ns, in_latitude, in_longitude = np.intersect1d(latitude.t_ns, longitude.t_ns, assume_unique=True, return_indices=True)
    north, east = latitude.values[in_latitude], longitude.values[in_longitude]
    kept = (np.abs(north) <= 90) & (np.abs(east) <= 360) & ~((north == 0) & (east == 0))
    kept &= (at_ns >= reckoning.t_ns[0]) & (at_ns <= reckoning.last_ns)
    if np.count_nonzero(kept) < 2:
        return None, None
    at_ns, north, east = at_ns[kept], north[kept], east[kept]
    origin = (float(north[0]), float(east[0]))
    x_m, y_m = to_enu(north, east, origin)
    return Fixes(at_ns, x_m + 1j * y_m), origin


def _from_gnss(reckoning: Reckoning, fused: Fused, origin: tuple[float, float] | None, reason: str) -> EgoMotion:
    return EgoMotion(
        "gnss",
        reason,
        origin,
        fused.rejected,
        reckoning.last_ns,
        reckoning.t_ns,
        fused.position_m,
        fused.yaw_rad,
        reckoning.speed(),
        fused.sigma_m,
    )


def _none(reason: str) -> EgoMotion:
    nothing, nowhere = np.empty(0), np.empty(0, dtype=np.complex128)
    return EgoMotion("none", reason, None, 0, 0, np.empty(0, dtype=np.int64), nowhere, nothing, nothing, nothing)


def _knots(first_ns: int, last_ns: int) -> IntArray:
    return np.arange(first_ns, last_ns + 1, KNOT_NS, dtype=np.int64)


def _inside(motion: EgoMotion, at_ns: IntArray) -> tuple[IntArray, FloatArray, NDArray[np.bool_]]:
    """For each time its knot, the share of the way to the next, and whether it lies in the motion at all."""
    since = at_ns - motion.t_ns[0]
    inside = (since >= 0) & (at_ns <= motion.last_ns)
    knot = np.clip(since // KNOT_NS, 0, motion.t_ns.size - 2)
    share = (since - knot * KNOT_NS) / KNOT_NS
    return knot, share, inside


def _at(motion: EgoMotion, values: FloatArray, at_ns: IntArray) -> FloatArray:
    """(T,) float64 between the knots, NaN outside of them. Yaw is continuous, so this is the short way for it too."""
    if motion.t_ns.size < 2:
        return np.full(at_ns.size, np.nan)
    knot, share, inside = _inside(motion, at_ns)
    return np.where(inside, values[knot] * (1 - share) + values[knot + 1] * share, np.nan)


def _position(motion: EgoMotion, at_ns: IntArray) -> NDArray[np.complex128]:
    """(T,) complex128 on a cubic through the knots (Catmull and Rom, 1974): a line would cut a bend short by millimetres."""
    if motion.t_ns.size < 2:
        return np.full(at_ns.size, NOWHERE)
    knot, share, inside = _inside(motion, at_ns)
    last = motion.t_ns.size - 1
    p0, p1 = motion.position_m[knot], motion.position_m[knot + 1]
    before = np.where(knot > 0, motion.position_m[np.maximum(knot - 1, 0)], 2 * p0 - p1)
    behind = np.where(knot + 2 <= last, motion.position_m[np.minimum(knot + 2, last)], 2 * p1 - p0)
    m0, m1 = (p1 - before) / 2, (behind - p0) / 2
    cubic = p0 + share * (m0 + share * (3 * (p1 - p0) - 2 * m0 - m1 + share * (m0 + m1 - 2 * (p1 - p0))))
    return np.where(inside, cubic, NOWHERE)
