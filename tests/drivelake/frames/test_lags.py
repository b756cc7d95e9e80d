"""Lags of windows and the line through them, against what was put in; no stamps in nanoseconds."""

import numpy as np
import pytest

from drivelake.frames.lags import Line, divide, fit_line, scan, steps_of
from drivelake.frames.observers import observer, trace_of
from tests.drivelake.frames.clock_drives import filtered_noise

LAG_S = 0.4


def trace(seed, lag_s=LAG_S, duration_s=120.0, noise=0.03):
    """Two observers of one motion; the reference sees at t + lag what the own one sees at t."""
    rng = np.random.default_rng(seed)
    truth = filtered_noise(rng, duration_s)
    sides = []
    for shift_s, rate_hz in ((lag_s, 100), (0.0, 50)):
        t_s = np.arange(0, duration_s, 1 / rate_hz)
        values = np.interp(t_s + (shift_s(t_s) if callable(shift_s) else shift_s), *truth)
        sides.append(observer(t_s, values + noise * rng.standard_normal(t_s.size)))
    return trace_of("own~reference", *sides, (0.0, duration_s))


def test_one_step_brings_windows_to_their_lag_within_their_standard_errors():
    away = []
    for seed in range(12):
        found = steps_of([trace(seed)], (0.0, 119.0), Line(LAG_S + 0.004, 0.0, 0.0))
        found = found.taken(found.found)
        away.append((found.lag_s - LAG_S) / found.sigma_s)
    away = np.concatenate(away)
    assert away.size > 100
    assert 0.7 < away.std() < 1.3
    assert abs(away.mean()) < 4 / np.sqrt(away.size)


def test_a_scan_finds_lags_far_from_the_line_and_none_beyond_its_reach():
    near = scan([trace(1)], (0.0, 119.0), Line(LAG_S + 0.2, 0.0, 0.0), 0.3)
    assert near.lag_s[near.found] == pytest.approx(np.full(near.found.sum(), LAG_S), abs=0.02)
    assert near.found.mean() > 0.8
    beyond = scan([trace(1)], (0.0, 119.0), Line(LAG_S + 5.0, 0.0, 0.0), 0.3)
    assert beyond.found.mean() < 0.3


def test_a_span_is_divided_where_the_lag_changes():
    one = trace(2, lambda t_s: np.where(t_s < 61.7, LAG_S, LAG_S + 0.1))
    edge_s = divide([one], (50.0, 70.0), Line(LAG_S, 0.0, 0.0), Line(LAG_S + 0.1, 0.0, 0.0))
    assert edge_s == pytest.approx(61.7, abs=0.3)


def test_a_line_ignores_a_fifth_of_wrong_windows_and_says_how_certain_it_is():
    away = []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        t_s = np.arange(50) * 8.0
        lag_s = 1.5 + 80e-6 * t_s + 1e-3 * rng.standard_normal(50)
        lag_s[rng.choice(50, 10, replace=False)] += rng.uniform(-0.3, 0.3, 10)
        fit = fit_line(t_s, lag_s, np.full(50, 1e-3), 115e-6)
        away.append((fit.line.at(np.array([400.0])) - 1.5 - 80e-6 * 400)[0] / fit.sigma(np.array([400.0]))[0])
    assert np.mean(np.abs(away) < 1.96) >= 0.9


def test_the_prior_holds_the_drift_of_few_windows_and_not_of_many():
    few = fit_line(np.array([0.0, 8.0]), np.array([0.0, 0.004]), np.full(2, 2e-3), 115e-6)
    assert abs(few.line.drift) < 60e-6
    many = fit_line(np.arange(200) * 8.0, 200e-6 * np.arange(200) * 8.0, np.full(200, 2e-3), 115e-6)
    assert many.line.drift == pytest.approx(200e-6, rel=1e-3)
    none = fit_line(np.arange(200) * 8.0, 200e-6 * np.arange(200) * 8.0, np.full(200, 2e-3), 0.0)
    assert none.line.drift == pytest.approx(0.0, abs=1e-12)
