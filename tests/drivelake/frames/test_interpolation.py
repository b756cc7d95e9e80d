"""Laws of values between two samples. Belongs here: lines, angles, attitudes. Never: which samples are taken."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.frames.interpolation import circular, linear, slerp
from drivelake.frames.matching import match

EPOCH_NS = 1_700_000_000_000_000_001
seeds = st.integers(0, 10_000)


def grid(count, step=10):
    return EPOCH_NS + np.arange(count, dtype=np.int64) * step


def between(ticks, times):
    return match(ticks, times, "between", 10**9)


@settings(max_examples=50, deadline=None)
@given(seed=seeds)
def test_linear_equals_numpy_interp(seed):
    rng = np.random.default_rng(seed)
    times = EPOCH_NS + np.cumsum(rng.integers(1, 9, 20))
    ticks = np.unique(rng.integers(times[0], times[-1] + 1, 30))
    values = rng.normal(size=20)
    want = np.interp((ticks - EPOCH_NS).astype(float), (times - EPOCH_NS).astype(float), values)
    assert linear(ticks, times, values, between(ticks, times)) == pytest.approx(want, abs=1e-12)


def test_an_exact_hit_is_the_sample_itself():
    times, values = grid(3), np.array([0.1, 0.2, 0.7])
    assert linear(times, times, values, between(times, times)).tolist() == values.tolist()


def test_interpolating_between_the_largest_floats_stays_finite():
    times = grid(2)
    ticks = times[:1] + 5
    assert linear(ticks, times, np.array([-1.7e308, 1.7e308]), between(ticks, times)).tolist() == [0.0]


@settings(max_examples=100, deadline=None)
@given(start=st.floats(-20, 20), turn=st.floats(-3.1, 3.1), unit=st.sampled_from(["rad", "deg"]))
def test_an_angle_takes_the_shorter_way_from_any_number_of_turns(start, turn, unit):
    times = grid(2)
    ticks = times[0] + np.arange(11)
    scale = 1.0 if unit == "rad" else 180 / np.pi
    # as sensors count: within one turn
    values = np.remainder(np.array([start, start + turn]), 2 * np.pi) * scale
    result = circular(ticks, times, values, between(ticks, times), unit) / scale
    truth = start + turn * np.arange(11) / 10
    assert np.all((result >= -np.pi) & (result < np.pi))
    assert np.abs(np.exp(1j * result) - np.exp(1j * truth)).max() < 1e-9


def test_across_the_seam_an_angle_does_not_pass_through_the_opposite_one():
    times = grid(2)
    ticks = times[:1] + 5
    assert circular(ticks, times, np.array([350.0, 10.0]), between(ticks, times), "deg").tolist() == [0.0]
    assert circular(ticks, times, np.array([170.0, -170.0]), between(ticks, times), "deg").tolist() == [-180.0]


def test_a_tiny_negative_angle_is_not_half_a_turn():
    times = grid(1)
    values = np.array([-np.pi - 1e-17, -1e-20])
    for value in values:
        result = circular(times, times, np.array([value]), between(times, times), "rad")
        assert -np.pi <= result[0] < np.pi


def about(axis, angle):
    axis = np.asarray(axis, dtype=float) / np.linalg.norm(axis)
    return np.append(axis * np.sin(angle / 2), np.cos(angle / 2))


@settings(max_examples=100, deadline=None)
@given(seed=seeds, angle=st.floats(0, 3.1), flip=st.booleans())
def test_slerp_turns_at_constant_speed_about_one_axis_whichever_sign_the_samples_have(seed, angle, flip):
    axis = np.random.default_rng(seed).normal(size=3)
    times = grid(2)
    ticks = times[0] + np.arange(11)
    values = np.array([about(axis, 0.3), about(axis, 0.3 + angle) * (-1 if flip else 1)])
    result = slerp(ticks, times, values, between(ticks, times))
    truth = np.array([about(axis, 0.3 + angle * share) for share in np.arange(11) / 10])
    assert np.linalg.norm(result, axis=1) == pytest.approx(np.ones(11), abs=1e-12)
    # q and -q are one attitude
    assert np.abs(np.einsum("ij,ij->i", result, truth)) == pytest.approx(np.ones(11), abs=1e-8)
    assert np.abs(np.abs(result) - np.abs(truth)).max() < 2e-5


def test_slerp_of_equal_attitudes_is_that_attitude():
    times = grid(2)
    values = np.array([about([1, 2, 3], 1.0)] * 2)
    assert slerp(times[:1] + 5, times, values, between(times[:1] + 5, times))[0] == pytest.approx(values[0], abs=1e-15)
