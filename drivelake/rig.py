"""A rig as it is declared: sensors, clocks, what ticks, how ego motion is found. Belongs here: keys, and what contradicts itself.

Never here: reading a drive, estimating anything, other parts of the declaration.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, model_validator

from drivelake.strict import Strict, nearest

__all__ = ["Alignment", "Clock", "Events", "Observed", "Pair", "Poses", "Rate", "Rig", "Rule", "Scale", "Sensor"]

Rule = Literal["nearest", "previous", "next", "linear", "circular", "slerp", "mean", "min", "max", "last"]
Scale = Literal["utc", "tai", "gps"]
Observed = Literal["value", "derivative", "optical_flow"]


class Pair(Strict):
    """Two sensors that observe the same motion, one on each clock; gain and bias may differ."""

    own: str = Field(description="a sensor on the clock that is aligned")
    reference: str = Field(description="a sensor on the clock 'reference'")
    own_as: Observed = Field(
        default="value",
        description="what of it is compared: its value, the derivative over time, or the sideways shift of its pictures",
    )
    reference_as: Observed = Field(default="value", description="the same of the reference")
    sign: Literal["same", "opposite", "either"] = Field(default="same", description="whether both count the same way")


class Alignment(Strict):
    """How a clock domain finds the reference clock: sensors that observe the same motion.

    Either one pair (``own`` and ``reference``) or ``pairs``; without both, pairs are found from units and names.
    """

    own: str | None = Field(default=None, description="a value sensor on this clock")
    reference: str | None = Field(default=None, description="a value sensor on the reference clock, same quantity and unit")
    pairs: tuple[Pair, ...] = Field(default=(), description="several pairs; all of them are used")
    max_offset_ms: float = Field(default=2000.0, gt=0, le=3_600_000, description="the largest offset searched, either way")
    max_drift_ppm: float = Field(default=200.0, ge=0, description="the largest drift accepted, either way")

    @model_validator(mode="after")
    def _one_form(self) -> Alignment:
        if (self.own is None) != (self.reference is None):
            raise ValueError("align needs both own and reference, or pairs, or none of them")
        if self.own is not None and self.pairs:
            raise ValueError("align takes own and reference, or pairs, not both")
        return self

    @property
    def declared_pairs(self) -> tuple[Pair, ...]:
        """The pairs that are declared, in either form; empty where they are to be found."""
        if self.own is not None and self.reference is not None:
            return (Pair(own=self.own, reference=self.reference),)
        return self.pairs


class Clock(Strict):
    """One clock domain of a rig.

    Its stamps are read on their time scale and mapped onto UTC, then ``offset_ns`` or the drive's row of ``offsets`` is added;
    without either, the estimate of ``align``. A declared offset overrides an estimate and is compared with it.
    """

    scale: Scale = Field(
        default="utc",
        description="utc: since 1970-01-01 UTC without leap seconds; tai: since 1970-01-01 TAI, as PTP counts; "
        "gps: since 1980-01-06 UTC with leap seconds",
    )
    leap_s: int | None = Field(default=None, description="TAI - UTC in s; without it, from the table of leap seconds")
    offset_ns: int | None = Field(default=None, description="reference time = native time + offset")
    offsets: str | None = Field(
        default=None,
        description="CSV beside the lake's declaration: drive, from_ns (native, may be empty), offset_ns, drift_ppm",
    )
    align: Alignment | None = None

    @model_validator(mode="after")
    def _one_way(self) -> Clock:
        if self.offset_ns is not None and self.offsets is not None:
            raise ValueError("offset_ns and offsets exclude each other: one offset for all drives, or a table of them")
        return self


class Sensor(Strict):
    """One sensor of the frames: where its samples stand and how they meet the reference tick."""

    log: str = Field(description="glob of the log's file name inside the drive, e.g. camera*.mcap")
    channel: str = Field(description="topic of an MCAP file or a bag, MDF channel, or Message.Signal of a CAN database")
    field: str | None = Field(default=None, description="field of the message, dotted; values of MCAP files and bags only")
    fields: tuple[str, str, str, str] | None = Field(
        default=None, description="of kind attitude: x, y, z and w of a unit quaternion"
    )
    kind: Literal["value", "payload", "attitude"] = "value"
    stamp: Literal["receive", "publish", "sensor"] = Field(default="receive", description="which stamp of the sample counts")
    clock: str = Field(default="reference", description="the clock domain that the stamp was taken on")
    rule: Rule = Field(
        default="nearest",
        description="one sample (nearest, previous, next), between two (linear, circular for angles, slerp for attitudes), or "
        "over the interval since the last tick (mean, min, max, last)",
    )
    tolerance_ms: float = Field(
        default=100.0, gt=0, description="a sample older (or, for nearest, further) than this is not used"
    )
    max_gap_ms: float | None = Field(
        default=None, gt=0, description="between two samples further apart than this nothing is interpolated"
    )
    stale_ms: float | None = Field(
        default=None, gt=0, description="a value that has not changed for longer than this is a frozen sensor's and not used"
    )
    interval_exact: bool = Field(
        default=False, description="of a payload: only one whose stamp lies in the interval since the last tick"
    )
    unit: str = Field(default="", description="SI unit of the column, for people and for the checks; circular needs rad or deg")
    required: bool = Field(default=True, description="a drive without it is left out, with the reason")
    frame: str | None = Field(default=None, description="the frame of the rig's calibration that the sensor measures in")

    @model_validator(mode="after")
    def _rule_fits(self) -> Sensor:
        if self.kind == "payload" and self.rule not in ("nearest", "previous", "next"):
            raise ValueError(
                f"a payload cannot be interpolated or averaged: rule is {self.rule}, it must be nearest, previous or next"
            )
        if (self.kind == "attitude") != (self.fields is not None):
            raise ValueError("kind attitude and fields (x, y, z, w) belong together")
        if self.kind == "attitude" and self.rule not in ("nearest", "previous", "next", "slerp"):
            raise ValueError(f"an attitude takes the rules nearest, previous, next and slerp, not {self.rule}")
        if self.rule == "slerp" and self.kind != "attitude":
            raise ValueError("rule slerp needs kind attitude")
        if self.rule == "circular" and self.unit not in ("rad", "deg"):
            raise ValueError(f"rule circular needs the unit rad or deg, found {self.unit!r}")
        if self.interval_exact and self.kind != "payload":
            raise ValueError("interval_exact is for payloads; values take an aggregate (mean, min, max, last)")
        return self


class Rate(Strict):
    """Ticks at whole multiples of a period since 1970, from the first sample of any sensor to the last."""

    rate_hz: float = Field(gt=0, le=10_000)


class Events(Strict):
    """A tick wherever a value sensor changes."""

    events: str = Field(description="a value sensor on the clock 'reference'; its first sample is no event")


class Poses(Strict):
    """Ego motion in a local ENU frame that begins where the drive begins, the vehicle's axes as ISO 8855 has them.

    From odometry if there is one, else from GNSS, yaw rate and wheel speed by a filter. Sensors are named by their role.
    """

    odometry_position: tuple[str, str] | None = Field(default=None, description="x and y of an odometry, m")
    odometry_attitude: str | None = Field(default=None, description="an attitude sensor of the odometry")
    latitude: str | None = Field(default=None, description="deg")
    longitude: str | None = Field(default=None, description="deg")
    speed: str | None = Field(default=None, description="m/s, along the vehicle's x axis")
    yaw_rate: str | None = Field(default=None, description="rad/s, to the left positive")
    horizons_s: tuple[float, ...] = Field(
        default=(), description="for each, columns ego_x_m_<h>s, ego_y_m_<h>s and ego_yaw_rad_<h>s: the motion still to come"
    )

    @property
    def sensors(self) -> Iterator[str]:
        """Names of the sensors that it uses."""
        for name in (*(self.odometry_position or ()), self.odometry_attitude, self.latitude, self.longitude):
            if name is not None:
                yield name
        yield from (name for name in (self.speed, self.yaw_rate) if name is not None)

    @model_validator(mode="after")
    def _whole(self) -> Poses:
        if (self.odometry_position is None) != (self.odometry_attitude is None):
            raise ValueError("poses need odometry_position and odometry_attitude together")
        if (self.latitude is None) != (self.longitude is None):
            raise ValueError("poses need latitude and longitude together")
        if self.odometry_position is None and (self.speed is None or self.yaw_rate is None):
            raise ValueError("poses need an odometry, or speed and yaw_rate (with latitude and longitude where there are any)")
        if any(not 0 < horizon <= 60 for horizon in self.horizons_s):
            raise ValueError("horizons_s must lie between 0 and 60 s")
        return self


class Rig(Strict):
    """Sensors of one vehicle layout, and what ticks."""

    drives: str = Field(default="*", description="glob of the drive names recorded with this rig; the first match counts")
    reference: str | Rate | Events = Field(description="the ticks of the frames: a sensor's samples, a fixed rate, or events")
    databases: tuple[str, ...] = Field(default=(), description="CAN databases: globs of file names inside the drive")
    clocks: dict[str, Clock] = Field(default_factory=dict)
    sensors: dict[str, Sensor]
    poses: Poses | None = None
    calibration: str | None = Field(
        default=None, description="YAML of frame transforms beside the lake's declaration; an input of its own, with a digest"
    )

    @property
    def ticking(self) -> str | None:
        """The sensor that ticks, or whose events do; None for a fixed rate."""
        if isinstance(self.reference, Rate):
            return None
        return self.reference.events if isinstance(self.reference, Events) else self.reference

    @model_validator(mode="after")
    def _names_exist(self) -> Rig:
        ticking = self.ticking
        if ticking is not None:
            if ticking not in self.sensors:
                raise ValueError(f"reference {ticking!r} is not a sensor; {nearest(ticking, self.sensors)}")
            if self.sensors[ticking].clock != "reference":
                raise ValueError(f"the reference sensor {ticking!r} must stand on the clock 'reference'")
            if isinstance(self.reference, Events) and self.sensors[ticking].kind != "value":
                raise ValueError(f"events need a value sensor, {ticking!r} is of kind {self.sensors[ticking].kind}")
        known = {"reference", *self.clocks}
        for name, sensor in self.sensors.items():
            if sensor.clock not in known:
                raise ValueError(f"sensor {name!r}: clock {sensor.clock!r} is not declared; {nearest(sensor.clock, known)}")
            if sensor.frame is not None and self.calibration is None:
                raise ValueError(f"sensor {name!r} stands in frame {sensor.frame!r}, but the rig names no calibration")
        for name, clock in self.clocks.items():
            for pair in clock.align.declared_pairs if clock.align else ():
                self._check_pair(name, pair)
        for name in self.poses.sensors if self.poses else ():
            if name not in self.sensors:
                raise ValueError(f"poses name {name!r}, which is not a sensor; {nearest(name, self.sensors)}")
        return self

    def _check_pair(self, clock: str, pair: Pair) -> None:
        for side, how in ((pair.own, pair.own_as), (pair.reference, pair.reference_as)):
            kind = "payload" if how == "optical_flow" else "value"
            if side not in self.sensors or self.sensors[side].kind != kind:
                raise ValueError(f"clock {clock!r}: align names {side!r}, which is not a {kind} sensor of this rig")
        if self.sensors[pair.own].clock != clock:
            raise ValueError(f"clock {clock!r}: align.own {pair.own!r} must stand on this clock")
        if self.sensors[pair.reference].clock != "reference":
            raise ValueError(f"clock {clock!r}: align.reference {pair.reference!r} must stand on 'reference'")
