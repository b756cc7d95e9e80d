"""Samples made ready: wrong ones left out, right ones kept, smoothing and windows that suit the motion."""

import numpy as np
import pytest

from drivelake.frames.observers import observer, trace_of
from tests.drivelake.frames.clock_drives import filtered_noise


def sampled(seed, rate_hz=100, noise=0.03, cutoff_hz=1.0, duration_s=100.0):
    rng = np.random.default_rng(seed)
    t_s = np.arange(0, duration_s, 1 / rate_hz)
    return rng, t_s, np.interp(t_s, *filtered_noise(rng, duration_s, cutoff_hz)) + noise * rng.standard_normal(t_s.size)


@pytest.mark.parametrize("seed", range(4))
def test_wrong_samples_are_left_out_and_hardly_any_other(seed):
    rng, t_s, values = sampled(seed)
    wrong = rng.random(t_s.size) < 0.05
    values[wrong] += rng.choice([-1, 1], wrong.sum()) * rng.uniform(0.5, 8, wrong.sum())
    kept = np.isin(t_s, observer(t_s, values).t_s)
    assert np.mean(kept[wrong]) < 0.05
    assert np.mean(kept[~wrong]) > 0.99


def test_a_slow_sensor_keeps_its_turns_and_stops():
    _, t_s, values = sampled(5, rate_hz=1, noise=0.0, cutoff_hz=0.1, duration_s=600.0)
    halting = np.where((t_s % 60) < 20, 0.0, values)
    assert np.mean(np.isin(t_s, observer(t_s, halting).t_s)) > 0.97


def test_noise_is_measured_in_units_of_the_motion():
    _, t_s, values = sampled(6, noise=0.1)
    assert observer(t_s, 40 * values + 7).noise == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(
    ("t_s", "values"),
    [
        (np.arange(5.0), np.ones(5)),
        (np.arange(5.0), np.array([np.nan, np.inf, -np.inf, 1.0, 1e300])),
        (np.arange(1.0), np.ones(1)),
        (np.arange(50) * 1e4, np.arange(50.0)),
        (np.arange(50) * 1e-9, np.arange(50.0)),
    ],
)
def test_what_observes_no_motion_is_no_observer(t_s, values):
    assert observer(t_s, values) is None


def test_a_kilohertz_sensor_is_averaged_and_stays_where_it_is():
    _, t_s, values = sampled(7, rate_hz=1000)
    one = observer(t_s, values)
    assert one.t_s.size == pytest.approx(t_s.size / 5, rel=0.01)
    want = np.interp(one.t_s, t_s, values)
    assert np.corrcoef(one.values, want)[0, 1] > 0.99


def test_slow_motion_in_noise_gets_more_smoothing_and_longer_windows():
    fast, slow = (
        trace_of("a~b", observer(t_s, values), observer(t_s, values), (0.0, 300.0))
        for _, t_s, values in (sampled(8, duration_s=300.0), sampled(8, noise=0.2, cutoff_hz=0.05, duration_s=300.0))
    )
    assert (fast.smooth_s, fast.window_s) == (0.05, 8.0)
    assert slow.smooth_s > 0.2
    assert slow.window_s > 8.0
