import math

import pytest

from drivelake.logs.units import _BY_SPELLING, to_si

KNOWN = [
    ("km/h", 36.0, "m/s", 10.0),
    ("kph", 36.0, "m/s", 10.0),
    ("mph", 1.0, "m/s", 0.44704),
    ("deg", 180.0, "rad", math.pi),
    ("°", 180.0, "rad", math.pi),
    ("deg/s", 90.0, "rad/s", math.pi / 2),
    ("rpm", 60.0, "rad/s", 2 * math.pi),
    ("1/min", 60.0, "rad/s", 2 * math.pi),
    ("bar", 1.5, "Pa", 150_000.0),
    ("kPa", 2.0, "Pa", 2000.0),
    ("MPa", 2.0, "Pa", 2e6),
    ("psi", 1.0, "Pa", 6894.757293168),
    ("degC", 20.0, "K", 293.15),
    ("°C", -273.15, "K", 0.0),
    ("°F", 32.0, "K", 273.15),
    ("ms", 250.0, "s", 0.25),
    ("%", 40.0, "1", 0.4),
    ("g", 1.0, "m/s^2", 9.80665),
    ("Nm", 3.0, "N.m", 3.0),
    ("kN", 3.0, "N", 3000.0),
    ("kn", 1.0, "m/s", 1852 / 3600),
]


@pytest.mark.parametrize(("unit", "value", "expected", "converted"), KNOWN)
def test_a_known_unit_becomes_si(unit, value, expected, converted):
    si = to_si(unit)
    assert si.unit == expected
    assert value * si.factor + si.offset == pytest.approx(converted, abs=1e-9)


@pytest.mark.parametrize("unit", ["", "furlong", "mS/cm", "count"])
def test_an_unknown_unit_stays_as_it_is(unit):
    assert to_si(unit) == (unit, 1.0, 0.0)


def test_si_units_map_to_themselves():
    for si in _BY_SPELLING.values():
        again = to_si(si.unit)
        assert again.unit == si.unit
        assert not again.changes
