"""Laws of matching. Belongs here: arrays in, arrays out. Never: files."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.frames.matching import age_percentiles, interpolate, match, order_samples

EPOCH_NS = 1_700_000_000_000_000_001  # odd: a float64 cannot hold it
RULES = ("nearest", "previous", "linear")

# dense enough that exact hits and ticks half way between two samples are common
offsets = st.lists(st.integers(0, 60), max_size=20)
tolerances = st.integers(0, 12)


def stamps(values):
    return EPOCH_NS + np.array(sorted(set(values)), dtype=np.int64)


@settings(max_examples=150, deadline=None)
@given(ticks=offsets, times=offsets, tolerance=tolerances, rule=st.sampled_from(RULES))
def test_no_matched_age_breaks_its_tolerance_and_every_tick_is_counted_once(ticks, times, tolerance, rule):
    ticks, times = stamps(ticks), stamps(times)
    found = match(ticks, times, rule, tolerance)
    rows = found.found
    assert np.all(np.abs(found.age_ns[rows]) <= tolerance)
    assert np.array_equal(found.age_ns[rows], ticks[rows] - times[found.index[rows]])
    assert found.matched + found.unmatched.total == ticks.size


@settings(max_examples=150, deadline=None)
@given(ticks=offsets, times=offsets, tolerance=tolerances)
def test_nearest_is_really_nearest_and_the_earlier_of_two(ticks, times, tolerance):
    ticks, times = stamps(ticks), stamps(times)
    found = match(ticks, times, "nearest", tolerance)
    for tick, index in zip(ticks.tolist(), found.index.tolist(), strict=True):
        best = min(range(times.size), key=lambda i: (abs(tick - int(times[i])), int(times[i])), default=-1)
        inside = best >= 0 and abs(tick - int(times[best])) <= tolerance
        assert index == (best if inside else -1)


@settings(max_examples=150, deadline=None)
@given(ticks=offsets, times=offsets, tolerance=tolerances)
def test_previous_takes_the_latest_and_never_looks_into_the_future(ticks, times, tolerance):
    ticks, times = stamps(ticks), stamps(times)
    found = match(ticks, times, "previous", tolerance)
    assert np.all(found.age_ns >= 0)
    for tick, index in zip(ticks.tolist(), found.index.tolist(), strict=True):
        past = [i for i in range(times.size) if 0 <= tick - int(times[i]) <= tolerance]
        assert index == (past[-1] if past else -1)


@settings(max_examples=150, deadline=None)
@given(ticks=offsets, times=offsets, tolerance=tolerances, seed=st.integers(0, 99))
def test_linear_equals_numpy_interp_where_the_neighbours_contain_the_tick(ticks, times, tolerance, seed):
    ticks, times = stamps(ticks), stamps(times)
    values = np.random.default_rng(seed).normal(size=times.size)
    found = match(ticks, times, "linear", tolerance)
    result = interpolate(ticks, times, values, found)
    for at, tick in enumerate(ticks.tolist()):
        contained = times.size > 0 and times[0] <= tick <= times[-1]
        near = contained and int(np.min(np.abs(times - tick))) <= tolerance
        assert bool(found.found[at]) == bool(near)
        if near:
            want = np.interp(tick - EPOCH_NS, (times - EPOCH_NS).astype(float), values)
            assert result[at] == pytest.approx(want, abs=1e-12)
        else:
            assert np.isnan(result[at])


def test_ages_are_exact_to_the_nanosecond_where_a_float_would_round_to_256():
    times = EPOCH_NS + np.array([0, 1_000_000_000], dtype=np.int64)
    ticks = EPOCH_NS + np.array([1, 3, 999_999_999, 1_000_000_001], dtype=np.int64)
    assert match(ticks, times, "nearest", 5).age_ns.tolist() == [1, 3, -1, 1]
    assert match(ticks, times, "nearest", 1).found.tolist() == [True, False, True, True]


def test_of_two_equally_near_samples_the_earlier_is_taken():
    times, ticks = np.array([0, 10], dtype=np.int64), np.array([5], dtype=np.int64)
    assert match(ticks, times, "nearest", 5).age_ns.tolist() == [5]


def test_an_exact_hit_of_linear_takes_the_sample_even_at_both_ends():
    times = EPOCH_NS + np.array([0, 10, 20], dtype=np.int64)
    found = match(times, times, "linear", 0)
    assert interpolate(times, times, np.array([1.0, 2.0, 4.0]), found).tolist() == [1.0, 2.0, 4.0]


def test_interpolating_between_the_largest_floats_stays_finite():
    times = np.array([0, 10], dtype=np.int64)
    ticks = np.array([5], dtype=np.int64)
    found = match(ticks, times, "linear", 5)
    assert interpolate(ticks, times, np.array([-1.7e308, 1.7e308]), found).tolist() == [0.0]


def test_unmatched_ticks_are_counted_by_reason():
    times = np.array([100, 200], dtype=np.int64)
    ticks = np.array([0, 95, 150, 205, 300], dtype=np.int64)
    nearest = match(ticks, times, "nearest", 10).unmatched
    assert (nearest.before_first, nearest.too_old, nearest.after_last) == (1, 1, 1)
    previous = match(ticks, times, "previous", 10).unmatched
    assert (previous.before_first, previous.too_old, previous.after_last) == (2, 2, 0)
    linear = match(ticks, times, "linear", 10).unmatched
    assert (linear.before_first, linear.too_old, linear.after_last) == (2, 1, 2)
    nothing = match(ticks, np.empty(0, np.int64), "nearest", 10)
    assert (nothing.unmatched.no_samples, nothing.matched, age_percentiles(nothing)) == (5, 0, None)


def test_reused_and_unused_samples_are_counted():
    times = np.array([0, 50, 100], dtype=np.int64)
    ticks = np.array([1, 2, 3, 99], dtype=np.int64)
    found = match(ticks, times, "nearest", 10)
    assert (found.matched, found.reused, found.unused) == (4, 2, 1)
    # linear holds both neighbours
    assert match(ticks, times, "linear", 10).unused == 0


@settings(max_examples=60, deadline=None)
@given(times=st.lists(st.integers(0, 20), max_size=40))
def test_ordering_gives_each_stamp_once_and_keeps_the_last_written(times):
    written = np.array(times, dtype=np.int64)
    rows, dropped = order_samples(written)
    assert written[rows].tolist() == sorted(set(times))
    assert dropped == len(times) - len(set(times))
    assert all(int(row) == max(i for i, t in enumerate(times) if t == written[row]) for row in rows)


def test_percentiles_are_ages_of_real_frames():
    ticks = np.arange(100, dtype=np.int64) * 1_000_000_000
    times = ticks - np.arange(1, 101, dtype=np.int64) * 1_000_000
    ages = age_percentiles(match(ticks, times, "previous", 10**9))
    assert ages is not None
    assert (ages.p50, ages.p95, ages.p99, ages.max) == (50.0, 95.0, 99.0, 100.0)
