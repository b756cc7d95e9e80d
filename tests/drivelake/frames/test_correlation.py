"""Correlation against its definition, value by value, on signals with gaps."""

import numpy as np
import pytest

from drivelake.frames.correlation import averaged, correlation_length, masked_correlation, second_peak, smooth

LAG_MAX = 8


def signal(rng, size=120):
    values = np.convolve(rng.standard_normal(size), np.ones(5) / 5, "same")
    return (values - values.mean()) / values.std(), rng.random(size) > 0.2


@pytest.mark.parametrize("seed", range(3))
def test_every_lag_is_the_pearson_correlation_of_what_both_have(seed):
    rng = np.random.default_rng(seed)
    (a, a_there), (b, b_there) = signal(rng), signal(rng, 120 + LAG_MAX)
    found = masked_correlation(a, a_there, b, b_there)
    assert found.size == LAG_MAX + 1
    for lag, correlation in enumerate(found):
        both = a_there & b_there[lag : lag + a.size]
        assert correlation == pytest.approx(np.corrcoef(a[both], b[lag : lag + a.size][both])[0, 1], abs=1e-9)


def test_a_delayed_copy_peaks_at_its_delay_whatever_stands_in_the_gaps():
    rng = np.random.default_rng(4)
    values, there = signal(rng)
    delayed, delayed_there = np.pad(np.where(there, values, 1e3), (3, LAG_MAX - 3)), np.pad(there, (3, LAG_MAX - 3))
    found = masked_correlation(values, there, delayed, delayed_there)
    assert np.argmax(found) == 3
    assert found.max() == pytest.approx(1.0)


def test_signals_that_do_not_move_correlate_with_nothing():
    there = np.ones(50, bool)
    assert not masked_correlation(np.ones(50), there, np.ones(60), np.ones(60, bool)).any()


def test_averages_are_the_mean_of_the_line_through_the_samples():
    rng = np.random.default_rng(1)
    t_s = np.cumsum(rng.uniform(0.005, 0.03, 400))
    values = rng.standard_normal(400)
    found, there = averaged(t_s, values, 0.1, t_s[0] + 0.5, 0.1, 20)
    fine = t_s[0] + 0.5 + (np.arange(20 * 20_000) + 0.5) * 0.1 / 20_000
    assert there.all()
    assert found == pytest.approx(np.interp(fine, t_s, values).reshape(20, -1).mean(axis=1), abs=1e-3)


def test_averages_are_absent_outside_and_in_gaps():
    t_s = np.concatenate((np.arange(0, 1, 0.01), np.arange(2, 3, 0.01)))
    found, there = averaged(t_s, np.ones(t_s.size), 0.05, -0.5, 0.1, 40)
    centres_s = -0.5 + 0.1 * (np.arange(40) + 0.5)
    inside = ((centres_s > 0) & (centres_s < 0.9)) | ((centres_s > 2) & (centres_s < 2.9))
    assert there.tolist() == inside.tolist()
    assert found == pytest.approx(inside.astype(float))


def test_smoothing_keeps_a_constant_where_something_is_there_and_moves_nothing():
    there = np.random.default_rng(2).random(200) > 0.3
    smoothed, seen = smooth(np.full(200, 7.0), there, 3.0)
    assert smoothed == pytest.approx(np.full(200, 7.0))
    assert seen.max() <= 1 + 1e-12
    line, _ = smooth(np.arange(200.0), np.ones(200, bool), 3.0)
    assert line[20:-20] == pytest.approx(np.arange(200.0)[20:-20])


def test_independent_samples_have_the_correlation_length_one_and_averages_of_ten_about_seven():
    rng = np.random.default_rng(3)
    a, b = rng.standard_normal((2, 20_000))
    assert correlation_length(a, b) == pytest.approx(1.0, abs=0.2)
    wide = [np.convolve(x, np.ones(10), "same") for x in (a, b)]
    # the sum of squared triangles of half width 10
    assert correlation_length(*wide) == pytest.approx(6.7, rel=0.2)


@pytest.mark.parametrize(
    ("correlation", "at", "expected"),
    [([0.1, 0.9, 0.2, 0.7, 0.3], 1, 0.7), ([0.6, 0.1, 0.9, 0.5, 0.4], 2, 0.6), ([0.9, 0.88, 0.9, 0.89], 2, -1.0)],
)
def test_the_second_peak_stands_beyond_a_valley(correlation, at, expected):
    assert second_peak(np.array(correlation), at) == expected
