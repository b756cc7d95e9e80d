"""Plots of a report. Belongs here: that they are well formed, say what the report says, and are deterministic."""

import base64
from xml.etree import ElementTree as ET

import pytest

from drivelake.frames.alignment import not_observable
from drivelake.frames.clocks import AlignmentWindow, ClockModel
from drivelake.frames.plots import age_plot, data_uri, residual_plot
from drivelake.frames.report import Ages, ReferenceReport, SensorReport, SyncReport

SENSOR = SensorReport(kind="value", rule="nearest", stamp="receive", clock="reference", tolerance_ms=50.0, unit="m/s")
WINDOWS = tuple(AlignmentWindow(t_s=4.0 * i, lag_ms=100.0, deviation_ms=0.5 * (-1) ** i, correlation=0.9) for i in range(5))
IMU = ClockModel(method="estimated", offset_ns=1, epoch_ns=10**18, residual_ms=0.5, windows=WINDOWS)


def report(**clocks):
    ages = Ages(p50=10.0, p95=20.0, p99=30.0, max=40.0)
    sensors = {"speed": SENSOR.model_copy(update={"age_ms": ages}), "a<b": SENSOR}
    return SyncReport(frames=9, reference=ReferenceReport(sensor="camera"), clocks=clocks, sensors=sensors)


def tags(svg):
    return [element.tag.rpartition("}")[2] for element in ET.fromstring(svg).iter()]


def test_every_window_is_a_dot():
    svg = residual_plot(report(imu=IMU))
    assert tags(svg).count("circle") == len(WINDOWS)
    assert "imu: RMS 0.50 ms" in svg


def test_without_an_estimate_the_plot_says_not_shown_and_why():
    svg = residual_plot(report(imu=not_observable("the vehicle <stood>")))
    assert "NOT SHOWN" in svg
    assert "the vehicle &lt;stood&gt;" in svg
    assert "svg" in tags(svg)


def test_ages_are_drawn_as_shares_of_the_tolerance():
    svg = age_plot(report())
    assert "p95 20.0 of 50 ms" in svg
    assert "NOT SHOWN: nothing matched" in svg
    line = next(e for e in ET.fromstring(svg).iter() if e.get("stroke") == "#1f6fb4")
    assert float(line.get("x2")) - float(line.get("x1")) == pytest.approx(320 * 40 / 50)


def test_equal_reports_give_equal_plots_that_survive_the_data_uri():
    svg = residual_plot(report(imu=IMU))
    assert svg == residual_plot(report(imu=IMU))
    head, _, body = data_uri(svg).partition(",")
    assert (head, base64.b64decode(body).decode()) == ("data:image/svg+xml;base64", svg)
