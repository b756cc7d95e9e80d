"""The truth beside an estimate: where both agree the difference is nothing, and it is what was added where they do not."""

import json

import pytest

from drivelake.demo.truth import clock_truths
from drivelake.frames.clocks import AlignmentWindow, ClockModel, Segment
from drivelake.frames.report import ReferenceReport, SensorReport, SourceEntry, SyncReport

ZERO_NS = 1_709_542_799_000_000_000
LAW = {"log": "can.mf4", "native_zero_ns": ZERO_NS, "offset_ns": 296_208_039, "drift_ppm": -46.5}
WINDOWS = tuple(AlignmentWindow(t_s=4.0 * at - 20, lag_ms=296.0, deviation_ms=0.0, correlation=1.0) for at in range(11))


def report(*segments):
    sensor = SensorReport(kind="value", rule="linear", stamp="receive", clock="can", tolerance_ms=50.0, unit="m/s")
    of_can = sensor.model_copy(update={"sources": (SourceEntry(log="can.mf4", channel="x", column="x"),)})
    clocks = {
        "reference": ClockModel(method="same", segments=(Segment(method="same"),)),
        "can": ClockModel(method="estimated", segments=segments),
    }
    return SyncReport(frames=1, reference=ReferenceReport(sensor="c"), clocks=clocks, sensors={"speed": of_can})


def estimate(offset_ns=0, drift_ppm=-46.5):
    """The truth at an epoch 20 s later, and what is added to it."""
    epoch_ns = ZERO_NS + 20 * 10**9
    true_ns = 296_208_039 + round(-46.5e-6 * 20e9)
    return Segment(method="estimated", offset_ns=true_ns + offset_ns, drift_ppm=drift_ppm, epoch_ns=epoch_ns, windows=WINDOWS)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "drive.json").write_text(json.dumps({"clock": LAW}))
    return tmp_path


@pytest.mark.parametrize(("segment", "largest_ms"), [(estimate(), 0.0), (estimate(3_000_000), 3.0), (estimate(0, 53.5), 2.0)])
def test_the_greatest_difference_over_the_windows_is_shown(folder, segment, largest_ms):
    (found,) = clock_truths(folder, "drive", report(segment))
    assert found.largest_ms == pytest.approx(largest_ms, abs=1e-4)
    assert found.true_offset_ms == pytest.approx(296.208039 - 46.5e-6 * 20e3, abs=1e-5)


def test_a_segment_that_nobody_could_estimate_has_no_difference(folder):
    first, second = clock_truths(folder, "drive", report(estimate(), Segment(method="not observable")))
    assert (first.segment, second.segment, second.largest_ms) == (0, 1, None)


def test_a_drive_that_nobody_generated_has_no_truth(tmp_path):
    assert clock_truths(tmp_path, "drive", report(estimate())) == ()
