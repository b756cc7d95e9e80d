"""The coarse search over wide ranges, of right and of unrelated signals."""

import numpy as np
import pytest

from drivelake.frames.coarse import RASTER_S, coarse_search
from drivelake.frames.observers import observer
from tests.drivelake.frames.clock_drives import filtered_noise


def pair(seed, lag_s, duration_s=120.0, drift=0.0, sign=1.0):
    rng = np.random.default_rng(seed)
    truth = filtered_noise(rng, duration_s, 0.5)
    t_s = np.arange(0, duration_s, 0.02)
    own_s = (t_s - lag_s) / (1 + drift)
    noise = 0.1 * rng.standard_normal((2, t_s.size))
    values = np.interp(t_s, *truth)
    return observer(own_s, sign * values + noise[0]), observer(t_s, values + noise[1])


def searched(pairs, reach_s, *, either=False, drift_max=0.0):
    span_s = float(min(own.t_s[0] for own, _ in pairs)), float(max(own.t_s[-1] for own, _ in pairs))
    return coarse_search(pairs, [either] * len(pairs), span_s, reach_s, drift_max)


@pytest.mark.parametrize("lag_s", [-59.3, -0.27, 0.0, 13.8, 59.9])
def test_a_lag_is_found_to_the_raster_over_the_whole_range(lag_s):
    found = searched([pair(1, lag_s)], 60.0)
    assert found.line.offset_s == pytest.approx(lag_s, abs=RASTER_S)


def test_the_drift_of_a_long_drive_does_not_smear_the_peak():
    found = searched([pair(2, 5.0, 3000.0, 900e-6)], 60.0, drift_max=1000e-6)
    assert found.line.drift == pytest.approx(900e-6, abs=60e-6)
    assert found.correlation > 0.8


def test_unrelated_signals_share_no_lag():
    for seed in range(20):
        crossed = (pair(seed, 0.0)[0], pair(seed + 100, 0.0)[1])
        assert searched([crossed], 60.0, either=True).line is None


def test_the_sign_is_told_where_either_is_allowed():
    assert searched([pair(3, 2.0, sign=-1.0)], 10.0, either=True).turned == (True,)
    assert searched([pair(3, 2.0)], 10.0, either=True).turned == (False,)
    assert "sign of one signal reversed" in searched([pair(3, 2.0, sign=-1.0)], 10.0).reason


def test_an_unrelated_observation_is_not_used():
    crossed = (pair(4, 2.0)[0], pair(5, 2.0)[1])
    found = searched([pair(6, 2.0), crossed], 30.0)
    assert found.used == (True, False)
    assert found.line.offset_s == pytest.approx(2.0, abs=RASTER_S)
