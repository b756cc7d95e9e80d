"""Plots of a report. Belongs here: that they are well formed, say what the report says, and are deterministic."""

import base64
from xml.etree import ElementTree as ET

import pytest

from drivelake.frames.alignment import not_observable
from drivelake.frames.clocks import AlignmentWindow, ClockModel, Segment
from drivelake.frames.plots import age_plot, drop_plot, offset_plot, residual_plot
from drivelake.frames.report import Ages, ReferenceReport, SensorReport, SyncReport, Unmatched
from drivelake.svg import data_uri

SENSOR = SensorReport(kind="value", rule="nearest", stamp="receive", clock="reference", tolerance_ms=50.0, unit="m/s")
WINDOWS = tuple(AlignmentWindow(t_s=4.0 * i, lag_ms=100.0, deviation_ms=0.5 * (-1) ** i, correlation=0.9) for i in range(5))
SEGMENT = Segment(method="estimated", offset_ns=100_000_000, epoch_ns=10**18, residual_ms=0.5, windows=WINDOWS)
IMU = ClockModel(method="estimated", segments=(SEGMENT,))


def report(**clocks):
    ages = Ages(p50=10.0, p95=20.0, p99=30.0, max=40.0)
    sensors = {"speed": SENSOR.model_copy(update={"age_ms": ages}), "a<b": SENSOR}
    return SyncReport(frames=9, reference=ReferenceReport(sensor="camera"), clocks=clocks, sensors=sensors)


def tags(svg):
    return [element.tag.rpartition("}")[2] for element in ET.fromstring(svg).iter()]


def test_every_window_is_a_dot_beside_the_one_in_the_legend():
    svg = residual_plot(report(imu=IMU))
    assert tags(svg).count("circle") == len(WINDOWS) + 1
    assert "imu: RMS 0.50 ms" in svg


def test_a_clock_that_started_later_lies_further_right():
    later = ClockModel(method="estimated", segments=(SEGMENT.model_copy(update={"epoch_ns": SEGMENT.epoch_ns + 16 * 10**9}),))
    svg = residual_plot(report(imu=IMU, can=later))
    drawn = [[float(c.get("cx")) for c in group] for group in ET.fromstring(svg).findall(".//{*}g")][-2:]
    # 16 s later: its first window stands above the other's last
    assert drawn[1][0] == drawn[0][-1] > drawn[0][0]


def test_without_an_estimate_the_plot_says_not_shown_and_why():
    svg = residual_plot(report(imu=not_observable("the vehicle <stood>")))
    assert "NOT SHOWN" in svg
    assert "the vehicle &lt;stood&gt;" in svg
    assert "svg" in tags(svg)


def test_the_reason_of_a_drive_that_was_left_out_is_shown_in_full():
    reason = "sensor 'camera': camera.mcap is quarantined: " + "it was cut short " * 6
    svg = residual_plot(report().model_copy(update={"excluded": reason}))
    shown = " ".join(row.text for row in list(ET.fromstring(svg).findall(".//{*}text"))[1:])
    assert shown == reason.strip()


def test_ages_are_drawn_as_shares_of_the_tolerance():
    svg = age_plot(report())
    assert "p95 20.0 of 50 ms" in svg
    assert "NOT SHOWN: nothing matched" in svg
    tolerance, age = (
        [float(point.partition(",")[0]) for point in line.get("points").split()]
        for line in list(ET.fromstring(svg).findall(".//{*}polyline"))[1:3]
    )
    assert (age[1] - age[0]) / (tolerance[0] - age[0]) == pytest.approx(40 / 50, abs=1e-3)


def test_a_clock_that_jumped_has_a_line_a_segment_and_its_truth_is_dashed():
    jumped = SEGMENT.model_copy(update={"epoch_ns": SEGMENT.epoch_ns + 60 * 10**9, "offset_ns": 300_000_000, "drift_ppm": 50.0})
    model = ClockModel(method="estimated", segments=(SEGMENT, jumped))
    known = offset_plot(report(imu=model), {"imu": SEGMENT})
    plain = offset_plot(report(imu=model))
    assert "imu: +100.0 ms, +0.0 ppm, 1 jump" in plain
    assert "the truth" in known
    assert "the truth" not in plain
    # a line a segment; of the truth one over each segment and one in the legend
    assert tags(known).count("polyline") == tags(plain).count("polyline") + 3
    assert tags(plain).count("circle") == 2 * len(WINDOWS) + 1


def test_the_line_of_a_segment_is_its_offset_and_drift():
    drifting = SEGMENT.model_copy(update={"drift_ppm": 1000.0})
    svg = offset_plot(report(imu=ClockModel(method="estimated", segments=(drifting,))))
    root = ET.fromstring(svg)
    dots = [(float(c.get("cx")), float(c.get("cy"))) for c in root.findall(".//{*}g")[-1]]
    line = [tuple(map(float, point.split(","))) for point in root.findall(".//{*}polyline")[-1].get("points").split()]
    # every window lags by 100 ms, while 1000 ppm make 16 ms over the 16 s between the first and the last
    assert line[0] == pytest.approx(dots[0], abs=0.2)
    assert line[-1][0] == pytest.approx(dots[-1][0], abs=0.2)
    assert line[-1][1] < dots[-1][1]


def test_ticks_without_a_sample_are_told_with_their_most_frequent_reason():
    sensor = SENSOR.model_copy(update={"matched": 5, "reused": 2, "unmatched": Unmatched(too_old=1, gap=3)})
    svg = drop_plot(report().model_copy(update={"sensors": {"speed": sensor, "full": SENSOR.model_copy(update={"matched": 9})}}))
    assert "4 without: gap" in svg
    assert "none without" in svg


def test_equal_reports_give_equal_plots_that_survive_the_data_uri():
    svg = residual_plot(report(imu=IMU))
    assert svg == residual_plot(report(imu=IMU))
    head, _, body = data_uri(svg).partition(",")
    assert (head, base64.b64decode(body).decode()) == ("data:image/svg+xml;base64", svg)
