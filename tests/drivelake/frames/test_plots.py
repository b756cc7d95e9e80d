"""Plots of a report. Belongs here: that they are well formed, say what the report says, and are deterministic."""

import base64
from xml.etree import ElementTree as ET

import pytest

from drivelake.frames.alignment import not_observable
from drivelake.frames.clocks import AlignmentWindow, ClockModel
from drivelake.frames.plots import age_plot, residual_plot
from drivelake.frames.report import Ages, ReferenceReport, SensorReport, SyncReport
from drivelake.svg import data_uri

SENSOR = SensorReport(kind="value", rule="nearest", stamp="receive", clock="reference", tolerance_ms=50.0, unit="m/s")
WINDOWS = tuple(AlignmentWindow(t_s=4.0 * i, lag_ms=100.0, deviation_ms=0.5 * (-1) ** i, correlation=0.9) for i in range(5))
IMU = ClockModel(method="estimated", offset_ns=1, epoch_ns=10**18, residual_ms=0.5, windows=WINDOWS)


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
    later = IMU.model_copy(update={"epoch_ns": IMU.epoch_ns + 16 * 10**9})
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


def test_equal_reports_give_equal_plots_that_survive_the_data_uri():
    svg = residual_plot(report(imu=IMU))
    assert svg == residual_plot(report(imu=IMU))
    head, _, body = data_uri(svg).partition(",")
    assert (head, base64.b64decode(body).decode()) == ("data:image/svg+xml;base64", svg)
