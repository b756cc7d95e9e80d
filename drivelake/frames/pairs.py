"""Pairs of sensors that observe the same motion, found where none is declared. Belongs here: what a unit and a name tell.

Never here: reading samples, judging whether the motion was enough (alignment).

A sensor's unit is the one that its log gives, else the declared one, else the end of its name (``_mps``). A unit alone tells
little (an engine's speed is in rad/s too), so each quantity also needs words in the sensor's name, channel or field. Pairs of
one quantity come first. Others are a last resort, for one side follows the other by tens to hundreds of ms: a vehicle
slows down after the brake pressure rises and turns after it is steered, and what the estimate gives includes that delay. A
view without texture far away shows the bend ahead rather than the turn.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from drivelake.frames.sources import Absent, Source
from drivelake.logs.units import to_si
from drivelake.rig import Observed, Pair, Rig, Sensor

__all__ = ["PAIRS_MAX", "Chosen", "NoPair", "find_pairs"]

Quantity = Literal[
    "speed", "yaw rate", "lateral acceleration", "longitudinal acceleration", "brake pressure", "steering angle", "pictures"
]
# More pairs of one motion add little and cost time.
PAIRS_MAX = 4


class Chosen(NamedTuple):
    """A pair, and a sentence on why it was chosen; empty where it was declared."""

    pair: Pair
    why: str


class NoPair(NamedTuple):
    """That no two sensors fit, with what was looked for."""

    reason: str


class _Kind(NamedTuple):
    """How a quantity is known: by its unit, and by words."""

    quantity: Quantity
    unit: str
    fits: Callable[[frozenset[str]], bool]


class _Rule(NamedTuple):
    """Two quantities that show the same motion."""

    own: Quantity
    own_as: Observed
    reference: Quantity
    reference_as: Observed
    sign: Literal["same", "opposite", "either"]
    because: str


def _words(*known: str) -> Callable[[frozenset[str]], bool]:
    return lambda words: not words.isdisjoint(known)


_SIDE = _words("y", "lat", "lateral", "ay", "vy")
_ALONG = _words("x", "long", "longitudinal", "ax", "lon")
_OTHER = _words("z", "vert", "vertical", "az", "vz", "wind", "fan")
# of the earth, not of the vehicle; x of a GNSS velocity is such an axis too
_EARTH = _words("ecef", "enu", "ned", "utm", "map", "world", "east", "north", "up", "down")
_GNSS = _words("gnss", "gps", "ins", "fix")
# what somebody wants, or what another vehicle does
_WANTED = _words("set", "target", "cmd", "command", "desired", "limit", "request", "req", "demand", "lead", "rel", "relative")
_TURN = _words("yaw", "yawrate", "gz", "wz", "gyroz")
_GYRO = _words("gyro", "angular", "omega", "rate")
_BRAKE = _words("brake", "brk", "braking", "mastercylinder", "brakepressure")
_STEER = _words("steer", "steering", "sas", "roadwheel", "wheelangle")
_PICTURE = _words("image", "images", "camera", "cam", "picture", "pictures", "video")

_KINDS = (
    _Kind("yaw rate", "rad/s", lambda words: _TURN(words) or (_GYRO(words) and "z" in words)),
    _Kind("speed", "m/s", lambda words: not (_SIDE(words) or _OTHER(words) or (_GNSS(words) and "x" in words))),
    _Kind("lateral acceleration", "m/s^2", _SIDE),
    _Kind("longitudinal acceleration", "m/s^2", _ALONG),
    _Kind("brake pressure", "Pa", _BRAKE),
    _Kind("steering angle", "rad", _STEER),
)

_SAME = "both sides observe the same quantity"
_SLOPE = "the slope of the speed is the acceleration"
_BRAKES = "the vehicle slows down when the brakes are pressed, a little later"
_TURNS = "pictures shift sideways as the vehicle turns, if what is far away has texture"
_STEERS = "pictures shift sideways when the vehicle is steered, a little later"

# Axes of yaw rate and lateral acceleration point either way (ISO 8855 or SAE J670), x is forward in both.
_DIRECT = (
    _Rule("yaw rate", "value", "yaw rate", "value", "either", _SAME),
    _Rule("speed", "value", "speed", "value", "same", _SAME),
    _Rule("lateral acceleration", "value", "lateral acceleration", "value", "either", _SAME),
    _Rule("longitudinal acceleration", "value", "longitudinal acceleration", "value", "same", _SAME),
    _Rule("speed", "derivative", "longitudinal acceleration", "value", "same", _SLOPE),
    _Rule("longitudinal acceleration", "value", "speed", "derivative", "same", _SLOPE),
)
_LAST_RESORT = (
    _Rule("yaw rate", "value", "pictures", "optical_flow", "either", _TURNS),
    _Rule("pictures", "optical_flow", "yaw rate", "value", "either", _TURNS),
    _Rule("brake pressure", "value", "longitudinal acceleration", "value", "opposite", _BRAKES),
    _Rule("longitudinal acceleration", "value", "brake pressure", "value", "opposite", _BRAKES),
    _Rule("brake pressure", "value", "speed", "derivative", "opposite", _BRAKES),
    _Rule("speed", "derivative", "brake pressure", "value", "opposite", _BRAKES),
    _Rule("steering angle", "value", "pictures", "optical_flow", "either", _STEERS),
    _Rule("pictures", "optical_flow", "steering angle", "value", "either", _STEERS),
)

_ENDINGS = {"mps2": "m/s^2", "mps": "m/s", "kmh": "m/s", "kph": "m/s", "radps": "rad/s", "dps": "rad/s", "rad": "rad", "pa": "Pa"}


def find_pairs(rig: Rig, clock: str, found: Mapping[str, Source | Absent]) -> tuple[Chosen, ...] | NoPair:
    """The pairs that align a clock, at most four.

    Those of one quantity (or of one by its definition, as a slope) are taken together, each sensor once a rule; where there
    is none, the first that fits of the rest. Sensors are tried in the order of the declaration, so the same rig and logs give
    the same pairs.

    Args:
        rig: the declared sensors.
        clock: the domain to be aligned.
        found: where each sensor stands in this drive; those that are absent are not taken.
    """
    own, reference = (_quantities(rig, domain, found) for domain in (clock, "reference"))
    chosen: list[Chosen] = []
    for rule in _DIRECT:
        # the slope of what is compared already tells little more
        if not chosen or (rule.own_as, rule.reference_as) == ("value", "value"):
            chosen += _fitting(rule, own, reference)
    for rule in _LAST_RESORT:
        chosen = chosen or _fitting(rule, own, reference)[:1]
    return tuple(chosen[:PAIRS_MAX]) or NoPair(_looked_for(clock, own, reference, rig, found))


def _fitting(rule: _Rule, own: Mapping[str, Quantity], reference: Mapping[str, Quantity]) -> list[Chosen]:
    """The first own sensor of a rule with the first of the reference, the second with the second: each adds its own noise."""
    ours = [name for name, quantity in own.items() if quantity == rule.own]
    theirs = [name for name, quantity in reference.items() if quantity == rule.reference]
    return [
        Chosen(
            Pair(own=our, own_as=rule.own_as, reference=their, reference_as=rule.reference_as, sign=rule.sign),
            f"{our} ({_said(rule.own, rule.own_as)}) was compared with {their} ({_said(rule.reference, rule.reference_as)}): "
            f"{rule.because}",
        )
        for our, their in zip(ours, theirs, strict=False)
    ]


def _said(quantity: Quantity, how: Observed) -> str:
    if how == "derivative":
        return f"slope of {quantity}"
    return "shift of pictures" if how == "optical_flow" else quantity


def _quantities(rig: Rig, clock: str, found: Mapping[str, Source | Absent]) -> dict[str, Quantity]:
    """What each sensor of a domain observes, where that is known and this drive has the sensor."""
    known = {}
    for name, sensor in rig.sensors.items():
        source = found[name]
        if sensor.clock == clock and not isinstance(source, Absent):
            quantity = _quantity(name, sensor, source)
            if quantity is not None:
                known[name] = quantity
    return known


def _quantity(name: str, sensor: Sensor, source: Source) -> Quantity | None:
    words = _split(f"{name} {sensor.channel} {sensor.field or ''}")
    if sensor.kind == "payload":
        return "pictures" if _PICTURE(words) else None
    if sensor.kind != "value":
        return None
    given = next((column.unit for column in source.columns if column.unit), sensor.unit)
    unit = to_si(given).unit or _ENDINGS.get(name.rpartition("_")[2], "")
    if _EARTH(words) or _WANTED(words):
        return None
    return next((kind.quantity for kind in _KINDS if kind.unit == unit and kind.fits(words)), None)


def _split(text: str) -> frozenset[str]:
    """Words of a name in lower case: `YawRate`, `yaw_rate` and `/imu/yaw.rate` hold yaw and rate; digits part words too."""
    parted = re.sub(r"([a-z])([A-Z])|([A-Z])(?=[A-Z][a-z])", r"\1\3 \2", text)
    return frozenset(word.lower() for word in re.split(r"[^A-Za-z]+", parted) if word)


def _looked_for(
    clock: str, own: Mapping[str, Quantity], reference: Mapping[str, Quantity], rig: Rig, found: Mapping[str, Source | Absent]
) -> str:
    """What was looked for and what each side has."""
    wanted = dict.fromkeys(
        f"{rule.own} with {rule.reference}"
        for rule in (*_DIRECT, *_LAST_RESORT)
        if (rule.own, rule.own_as) <= (rule.reference, rule.reference_as)
    )
    absent = [
        name for name, source in found.items() if isinstance(source, Absent) and rig.sensors[name].clock in (clock, "reference")
    ]
    sides = "; ".join(f"{side} has {_listed(known)}" for side, known in ((f"clock {clock!r}", own), ("'reference'", reference)))
    return (
        f"no pair of sensors was found by unit and name; looked for {', '.join(wanted)}; {sides}"
        + (f"; absent in this drive: {', '.join(absent)}" if absent else "")
        + "; declare align.pairs"
    )


def _listed(known: Mapping[str, Quantity]) -> str:
    return ", ".join(f"{name} ({quantity})" for name, quantity in known.items()) or "none of these"
