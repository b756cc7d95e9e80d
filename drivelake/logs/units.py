"""Units of recorded values and how they become SI. Belongs here: the table, with the reason of each factor.

Never here: units of a particular vehicle, guesses from a channel's name.
"""

from __future__ import annotations

import math
from typing import NamedTuple

__all__ = ["SiUnit", "to_si"]


class SiUnit(NamedTuple):
    """SI value = source value * ``factor`` + ``offset``."""

    unit: str
    factor: float = 1.0
    offset: float = 0.0

    @property
    def changes(self) -> bool:
        """Whether values change, not only the spelling of the unit."""
        return (self.factor, self.offset) != (1.0, 0.0)


_DEGREE = math.pi / 180
_INTERNATIONAL_MILE_M = 1609.344
_STANDARD_GRAVITY = 9.80665

# Factors are exact by definition (SI brochure, 9th edition, tables 4 and 8; the international yard and pound agreement).
# A unit that is not here keeps its values and its spelling.
_TABLE: dict[SiUnit, tuple[str, ...]] = {
    SiUnit("m/s"): ("m/s", "mps", "meter per second"),
    SiUnit("m/s", 1 / 3.6): ("km/h", "kph", "kmh", "kmph"),
    SiUnit("m/s", _INTERNATIONAL_MILE_M / 3600): ("mph", "mi/h"),
    SiUnit("m/s", 1852 / 3600): ("kn", "knot", "knots"),
    SiUnit("m/s^2"): ("m/s^2", "m/s2", "m/s²", "m/ss"),
    SiUnit("m/s^2", _STANDARD_GRAVITY): ("g", "g0", "gn"),
    SiUnit("m"): ("m", "meter", "metre"),
    SiUnit("m", 1e-3): ("mm",),
    SiUnit("m", 1e-2): ("cm",),
    SiUnit("m", 1e3): ("km",),
    SiUnit("m", _INTERNATIONAL_MILE_M): ("mi", "mile", "miles"),
    SiUnit("m", 0.3048): ("ft", "feet"),
    SiUnit("rad"): ("rad",),
    SiUnit("rad", _DEGREE): ("deg", "degree", "degrees", "°"),
    SiUnit("rad/s"): ("rad/s",),
    SiUnit("rad/s", _DEGREE): ("deg/s", "°/s", "degree/s", "deg/sec", "dps"),
    SiUnit("rad/s^2", _DEGREE): ("deg/s^2", "deg/s2", "deg/s²", "°/s²", "°/s^2"),
    SiUnit("rad/s", 2 * math.pi / 60): ("rpm", "1/min", "min^-1", "u/min", "rev/min"),
    SiUnit("Hz"): ("hz", "1/s"),
    SiUnit("Hz", 1e3): ("khz",),
    SiUnit("s"): ("s", "sec", "second", "seconds"),
    SiUnit("s", 1e-3): ("ms",),
    SiUnit("s", 1e-6): ("us", "µs", "μs"),
    SiUnit("s", 1e-9): ("ns",),
    SiUnit("s", 60.0): ("min", "minute", "minutes"),
    SiUnit("s", 3600.0): ("h", "hour", "hours"),
    SiUnit("K"): ("k", "kelvin"),
    SiUnit("K", 1.0, 273.15): ("°c", "degc", "deg c", "celsius"),
    SiUnit("K", 5 / 9, 459.67 * 5 / 9): ("°f", "degf", "deg f", "fahrenheit"),
    SiUnit("Pa"): ("pa",),
    SiUnit("Pa", 1e2): ("hpa", "mbar"),
    SiUnit("Pa", 1e3): ("kpa",),
    SiUnit("Pa", 1e5): ("bar",),
    SiUnit("Pa", 0.45359237 * _STANDARD_GRAVITY / 0.0254**2): ("psi",),
    SiUnit("N"): ("n",),
    SiUnit("N.m"): ("n.m", "n*m", "n·m"),
    SiUnit("W"): ("w",),
    SiUnit("W", 1e3): ("kw",),
    SiUnit("V"): ("v", "volt"),
    SiUnit("V", 1e-3): ("mv",),
    SiUnit("A"): ("a", "ampere", "amp"),
    SiUnit("A", 1e-3): ("ma",),
    SiUnit("kg"): ("kg",),
    SiUnit("1"): ("1",),
    SiUnit("1", 1e-2): ("%", "percent"),
    SiUnit("1", 1e-3): ("‰",),
}

_BY_SPELLING = {spelling: si for si, spellings in _TABLE.items() for spelling in spellings}

# Where letter case carries the meaning, it decides before the table, which ignores it: `kN` is a force and `kn` a speed,
# `MW` is not `mW`, `S` is siemens, `G` is gauss.
_BY_CASE = {
    "kN": SiUnit("N", 1e3),
    "mW": SiUnit("W", 1e-3),
    "MW": SiUnit("W", 1e6),
    "MPa": SiUnit("Pa", 1e6),
    "mPa": SiUnit("Pa", 1e-3),
    "MHz": SiUnit("Hz", 1e6),
    "Nm": SiUnit("N.m"),
    "S": SiUnit("S"),
    "mS": SiUnit("S", 1e-3),
    "G": SiUnit("G"),
    "MV": SiUnit("V", 1e6),
    "MA": SiUnit("A", 1e6),
    "H": SiUnit("H"),
}


def to_si(unit: str) -> SiUnit:
    """The SI unit of a recorded unit, and how values get there; an unknown unit stays as it is."""
    spelling = unit.strip()
    if spelling in _BY_CASE:
        return _BY_CASE[spelling]
    return _BY_SPELLING.get(spelling.lower(), SiUnit(spelling))
