"""Laws of matching. Belongs here: arrays in, arrays out. Never: files."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.frames.matching import AFTER, BEFORE, FOUND, GAP, NONE, OLD, STALE, match, order_samples, positions

EPOCH_NS = 1_700_000_000_000_000_001  # odd: a float64 cannot hold it
RULES = ("nearest", "previous", "next", "between")

# dense enough that exact hits and ticks half way between two samples are common
offsets = st.lists(st.integers(0, 60), max_size=20)
tolerances = st.integers(0, 12)


def stamps(values):
    return EPOCH_NS + np.array(sorted(set(values)), dtype=np.int64)


@settings(max_examples=150, deadline=None)
@given(ticks=offsets, times=offsets, tolerance=tolerances, rule=st.sampled_from(RULES))
def test_no_matched_age_breaks_its_tolerance_or_looks_the_wrong_way(ticks, times, tolerance, rule):
    ticks, times = stamps(ticks), stamps(times)
    found = match(ticks, times, rule, tolerance)
    rows = found.found
    assert found.every == all(rows)
    assert np.all(np.abs(found.age_ns[rows]) <= tolerance)
    if rows.any():
        assert np.array_equal(found.age_ns[rows], ticks[rows] - times[found.index[rows]])
    assert rule != "previous" or np.all(found.age_ns[rows] >= 0)
    assert rule != "next" or np.all(found.age_ns[rows] <= 0)


def plainly(tick, times, rule, tolerance):
    """The sample that a rule takes, and else why not, one tick at a time."""
    before, after = [t for t in times if t <= tick], [t for t in times if t >= tick]
    if not times:
        return None, NONE
    if rule == "previous":
        taken, outside = (before[-1:] or None), BEFORE
    elif rule == "next":
        taken, outside = (after[:1] or None), AFTER
    else:
        taken = [min(times, key=lambda t: (abs(t - tick), t))]
        outside = BEFORE if not before else AFTER if not after else OLD
        if rule == "between" and outside != OLD:
            taken = None
    if taken is None:
        return None, outside
    if abs(taken[0] - tick) > tolerance:
        return None, outside if rule in ("nearest", "between") else OLD
    return taken[0], FOUND


@settings(max_examples=300, deadline=None)
@given(ticks=offsets, times=offsets, tolerance=tolerances, rule=st.sampled_from(RULES))
def test_every_rule_takes_what_a_plain_search_takes_and_gives_its_reason(ticks, times, tolerance, rule):
    ticks, times = stamps(ticks), stamps(times)
    found = match(ticks, times, rule, tolerance)
    for at, tick in enumerate(ticks.tolist()):
        taken, reason = plainly(tick, times.tolist(), rule, tolerance)
        assert found.reason[at] == reason
        if taken is not None:
            assert int(times[found.index[at]]) == taken


@settings(max_examples=100, deadline=None)
@given(ticks=offsets, times=offsets, side=st.sampled_from(["left", "right"]), repeats=st.integers(1, 9))
def test_positions_are_those_of_searchsorted_whichever_side_is_longer(ticks, times, side, repeats):
    ticks, times = np.repeat(stamps(ticks), repeats), stamps(times)
    assert positions(ticks, times, side).tolist() == np.searchsorted(times, ticks, side=side).tolist()


@settings(max_examples=100, deadline=None)
@given(ticks=offsets, times=offsets, tolerance=tolerances)
def test_between_takes_both_neighbours_or_one_that_is_hit(ticks, times, tolerance):
    ticks, times = stamps(ticks), stamps(times)
    found = match(ticks, times, "between", tolerance)
    for at in np.flatnonzero(found.found):
        pair = sorted((int(times[found.index[at]]), int(times[found.other[at]])))
        assert pair[0] <= ticks[at] <= pair[1]
        assert not [t for t in times.tolist() if pair[0] < t < pair[1]]
        assert (pair[0] == pair[1]) == (ticks[at] in times)


def test_ages_are_exact_to_the_nanosecond_where_a_float_would_round_to_256():
    times = EPOCH_NS + np.array([0, 1_000_000_000], dtype=np.int64)
    ticks = EPOCH_NS + np.array([1, 3, 999_999_999, 1_000_000_001], dtype=np.int64)
    assert match(ticks, times, "nearest", 5).age_ns.tolist() == [1, 3, -1, 1]
    assert match(ticks, times, "nearest", 1).found.tolist() == [True, False, True, True]


@pytest.mark.parametrize(("gap", "taken"), [(10, 0), (11, 0)])
def test_of_two_equally_near_samples_the_earlier_is_taken(gap, taken):
    times = np.array([0, gap], dtype=np.int64)
    assert match(np.array([5], dtype=np.int64), times, "nearest", 6).index.tolist() == [taken]
    assert match(np.array([6], dtype=np.int64), times, "nearest", 6).index.tolist() == [1]


def test_the_largest_and_the_least_stamps_do_not_overflow():
    times = np.array([-(1 << 60), (1 << 62) + (1 << 60) - 1], dtype=np.int64)
    for rule in RULES:
        found = match(times, times, rule, 0)
        assert (found.found.all(), found.age_ns.tolist(), found.index.tolist()) == (True, [0, 0], [0, 1])


def test_neighbours_further_apart_than_the_gap_are_not_used_but_a_hit_is():
    times = EPOCH_NS + np.array([0, 10, 30], dtype=np.int64)
    ticks = EPOCH_NS + np.array([5, 12, 28, 30], dtype=np.int64)
    assert match(ticks, times, "between", 5, max_gap_ns=10).reason.tolist() == [FOUND, GAP, GAP, FOUND]
    assert match(ticks, times, "between", 5, max_gap_ns=20).found.all()
    # a reason that stands earlier in the list is told first
    assert match(EPOCH_NS + np.array([20]), times, "between", 5, max_gap_ns=10).reason.tolist() == [OLD]


def test_a_sample_of_a_frozen_sensor_is_not_used_and_told():
    times = EPOCH_NS + np.array([0, 10, 20], dtype=np.int64)
    ticks = EPOCH_NS + np.array([1, 11, 19, 40], dtype=np.int64)
    stale = np.array([False, True, False])
    assert match(ticks, times, "nearest", 5, stale=stale).reason.tolist() == [FOUND, STALE, FOUND, AFTER]
    # a line needs both ends
    assert match(ticks, times, "between", 5, stale=stale).reason.tolist() == [STALE, STALE, STALE, AFTER]


@pytest.mark.parametrize("rule", ["nearest", "previous"])
def test_an_exact_interval_holds_only_samples_after_the_last_tick(rule):
    times = EPOCH_NS + np.array([0, 9, 21, 39], dtype=np.int64)
    ticks = EPOCH_NS + np.array([10, 20, 30, 40], dtype=np.int64)
    found = match(ticks, times, rule, 100, since_ns=ticks - 10)
    # 20 is nearest to 21, which the tick after it owns
    assert found.reason.tolist() == [FOUND, OLD, FOUND, FOUND]
    assert times[found.index[found.found]].tolist() == [EPOCH_NS + 9, EPOCH_NS + 21, EPOCH_NS + 39]


def test_an_exact_interval_with_the_next_rule_holds_only_a_hit():
    times = EPOCH_NS + np.array([5, 20], dtype=np.int64)
    ticks = EPOCH_NS + np.array([10, 20], dtype=np.int64)
    assert match(ticks, times, "next", 100, since_ns=ticks - 10).reason.tolist() == [OLD, FOUND]


@settings(max_examples=60, deadline=None)
@given(times=st.lists(st.integers(0, 20), max_size=40))
def test_ordering_gives_each_stamp_once_and_keeps_the_last_written(times):
    written = np.array(times, dtype=np.int64)
    rows, dropped = order_samples(written)
    if rows is None:
        assert (times, dropped) == (sorted(set(times)), 0)
        return
    assert written[rows].tolist() == sorted(set(times))
    assert dropped == len(times) - len(set(times))
    assert all(int(row) == max(i for i, t in enumerate(times) if t == written[row]) for row in rows)
