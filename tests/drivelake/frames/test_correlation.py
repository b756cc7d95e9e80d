"""Correlation against its definition, value by value, on signals with gaps."""

import numpy as np
import pytest

from drivelake.frames.correlation import masked_correlation, pearson, second_peak

LAG_MAX = 8


def signal(rng, size=120):
    values = np.convolve(rng.standard_normal(size), np.ones(5) / 5, "same")
    return (values - values.mean()) / values.std(), rng.random(size) > 0.2


@pytest.mark.parametrize("seed", range(3))
def test_every_lag_is_the_pearson_correlation_of_what_both_have(seed):
    rng = np.random.default_rng(seed)
    (a, a_there), (b, b_there) = signal(rng), signal(rng)
    found = masked_correlation(a, a_there, b, b_there, LAG_MAX)
    for lag, correlation in zip(range(-LAG_MAX, LAG_MAX + 1), found, strict=True):
        mine = slice(max(0, -lag), a.size - max(0, lag))
        other = slice(max(0, lag), a.size + min(0, lag))
        both = a_there[mine] & b_there[other]
        assert correlation == pytest.approx(np.corrcoef(a[mine][both], b[other][both])[0, 1], abs=1e-9)


def test_a_delayed_copy_peaks_at_its_delay_whatever_stands_in_the_gaps():
    rng = np.random.default_rng(4)
    values, there = signal(rng)
    delayed = np.where(np.roll(there, 3), np.roll(values, 3), 1e3)
    found = masked_correlation(values, there, delayed, np.roll(there, 3), LAG_MAX)
    assert np.argmax(found) - LAG_MAX == 3
    assert found.max() == pytest.approx(1.0)


def test_rows_are_correlated_where_they_are_there_and_not_where_too_little_is():
    rng = np.random.default_rng(5)
    x, there = signal(rng, 60)
    y = rng.standard_normal((4, 60))
    y[2] = 7.0
    mask = np.stack([np.ones(60, bool), there, np.ones(60, bool), np.arange(60) < 29])
    found = pearson(x, y, mask)
    assert found[:2] == pytest.approx([np.corrcoef(x, y[0])[0, 1], np.corrcoef(x[there], y[1][there])[0, 1]])
    assert found[2:].tolist() == [0.0, 0.0]


@pytest.mark.parametrize(
    ("correlation", "at", "expected"),
    [([0.1, 0.9, 0.2, 0.7, 0.3], 1, 0.7), ([0.6, 0.1, 0.9, 0.5, 0.4], 2, 0.6), ([0.1, 0.5, 0.9, 0.5, 0.1], 2, -1.0)],
)
def test_the_second_peak_stands_beyond_a_valley(correlation, at, expected):
    assert second_peak(np.array(correlation), at) == expected
