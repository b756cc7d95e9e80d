"""Doubts about clocks: said where a time may be off by more than a sensor tolerates, and only there."""

import pytest

from drivelake.frames.alignment import not_observable
from drivelake.frames.clocks import ClockModel, Comparison, Segment
from drivelake.frames.quality import doubts
from drivelake.frames.report import ReferenceReport, SensorReport, SyncReport

STRICT = SensorReport(kind="value", rule="linear", stamp="receive", clock="can", tolerance_ms=10.0, unit="m/s")
LOOSE = STRICT.model_copy(update={"tolerance_ms": 500.0})


def report(model, **sensors):
    return SyncReport(
        frames=9,
        reference=ReferenceReport(sensor="camera"),
        clocks={"can": model},
        sensors=sensors or {"speed": STRICT, "x": LOOSE},
    )


def estimated(*sigmas_ms):
    segments = tuple(Segment(method="estimated", sigma_ms=sigma) for sigma in sigmas_ms)
    return ClockModel(method="estimated", segments=segments)


@pytest.mark.parametrize(("sigma_ms", "doubted"), [(0.1, False), (5.1, False), (5.2, True), (400.0, True)])
def test_a_clock_is_doubted_when_its_95_percent_interval_is_wider_than_the_strictest_tolerance(sigma_ms, doubted):
    found = doubts(report(estimated(sigma_ms)))
    assert bool(found) == doubted
    if doubted:
        assert f"{1.96 * sigma_ms:.1f} ms" in found[0]
        assert "'speed' tolerates 10 ms" in found[0]


def test_every_segment_is_judged_by_itself_and_named():
    (found,) = doubts(report(estimated(0.1, 20.0, 0.2)))
    assert "segment 2 of 3" in found


def test_a_clock_that_is_not_observable_is_doubted_with_its_reason():
    (found,) = doubts(report(not_observable("the vehicle stood")))
    assert "NOT OBSERVABLE: the vehicle stood" in found


@pytest.mark.parametrize(("largest_ms", "doubted"), [(3.0, False), (11.0, False), (12.5, True), (None, False)])
def test_a_declared_offset_is_doubted_when_the_signals_contradict_it_beyond_their_own_uncertainty(largest_ms, doubted):
    compared = Comparison(largest_ms=largest_ms, sigma_ms=1.0)
    model = ClockModel(method="declared", segments=(Segment(method="declared", offset_ns=5),), compared=compared)
    assert bool(doubts(report(model))) == doubted


def test_a_clock_without_sensors_is_nobodys_trouble():
    on_reference = STRICT.model_copy(update={"clock": "reference"})
    assert doubts(report(not_observable("no motion"), speed=on_reference)) == ()
