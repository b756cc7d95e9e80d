"""Laws of the walk over segments. Belongs here: a plain loop to compare with, and clocks that jump. Never: offsets."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.frames.walking import COST_MAX_NS, SLACK_NS, walk

S = 1_000_000_000
MS = 1_000_000


def slow_cost(stamps, own, spans):
    """What an assignment costs, as the module's docstring says it, in plain integers."""
    back = [b[1] is None or a[0] is None or a[0] <= b[1] for b, a in itertools.pairwise(spans)]
    bounds = [[-(1 << 63), (1 << 63)] for _ in spans]
    for at, (before, after) in enumerate(itertools.pairwise(spans)):
        if back[at]:
            bounds[at][1] = before[1] + SLACK_NS if before[1] is not None else 1 << 63
            bounds[at + 1][0] = after[0] - SLACK_NS if after[0] is not None else -(1 << 63)
        else:
            bounds[at][1] = before[1] + (after[0] - before[1]) // 2
            bounds[at + 1][0] = bounds[at][1] + 1
    total = 0
    for at, (stamp, segment) in enumerate(zip(stamps, own, strict=True)):
        low, high = bounds[segment]
        total += min(max(low - stamp, stamp - high, 0), COST_MAX_NS)
        if at == 0:
            continue
        was, before = own[at - 1], stamps[at - 1]
        if was == segment:
            total += min(max(before - stamp, 0), COST_MAX_NS)
            continue
        if back[was] and spans[was][1] is not None:
            total += min(abs(before - spans[was][1]), COST_MAX_NS) // 4
        if back[segment - 1] and spans[segment][0] is not None:
            total += min(abs(stamp - spans[segment][0]), COST_MAX_NS) // 4
    return total


def slow_walk(stamps, spans):
    """The least cost of all assignments whose segments never go back."""
    every = itertools.combinations_with_replacement(range(len(spans)), len(stamps))
    return min(slow_cost(stamps, own, spans) for own in every)


ends = st.tuples(st.integers(0, 40), st.integers(0, 20)).map(lambda pair: (pair[0] * S // 8, (pair[0] + pair[1]) * S // 8))
open_ends = st.tuples(ends, st.booleans(), st.booleans()).map(
    lambda made: (None if made[1] and made[2] else made[0][0], None if made[2] else made[0][1])
)


@settings(max_examples=300, deadline=None)
@given(
    stamps=st.lists(st.integers(0, 60 * 8).map(lambda eighth: eighth * S // 8), min_size=1, max_size=7),
    spans=st.lists(open_ends, min_size=1, max_size=4),
)
def test_no_assignment_costs_less_than_the_one_that_is_taken(stamps, spans):
    own = walk(np.array(stamps, dtype=np.int64), spans).tolist()
    assert own == sorted(own)
    assert slow_cost(stamps, own, spans) == slow_walk(stamps, spans)


@settings(max_examples=100, deadline=None)
@given(
    stamps=st.lists(st.integers(0, 1 << 61), min_size=1, max_size=50),
    cuts=st.lists(st.integers(0, 1 << 61), min_size=2, max_size=8, unique=True),
)
def test_a_clock_that_only_jumps_forward_gives_every_stamp_the_nearest_segment(stamps, cuts):
    ordered = sorted(cuts)[: len(cuts) // 2 * 2]
    spans = [(ordered[at], ordered[at + 1]) for at in range(0, len(ordered), 2)]
    own = walk(np.array(sorted(stamps), dtype=np.int64), spans)
    for stamp, segment in zip(sorted(stamps), own.tolist(), strict=True):
        distance = [max(first - stamp, stamp - last, 0) for first, last in spans]
        assert distance[segment] - min(distance) <= 1


def recorded(seed, jumps_s, *, period_s, seconds=60.0, jitter_s=0.002, drops=0.02):
    """Stamps of a sensor whose clock jumps at every 60 s of true time by ``jumps_s``; and the segment of each."""
    rng = np.random.default_rng(seed)
    count = len(jumps_s) + 1
    true_s = np.arange(rng.uniform(0, period_s), seconds * count, period_s)
    true_s = true_s[rng.random(true_s.size) >= drops]
    segment = np.minimum(true_s // seconds, count - 1).astype(np.intp)
    ahead_s = np.concatenate(([1000.0], 1000.0 + np.cumsum(jumps_s)))
    stamps = np.rint((true_s + ahead_s[segment] + rng.uniform(-jitter_s, jitter_s, true_s.size)) * 1e9).astype(np.int64)
    spans = [
        (round((at * seconds + ahead_s[at]) * 1e9), round(((at + 1) * seconds + ahead_s[at]) * 1e9) - 1) for at in range(count)
    ]
    return stamps, segment, spans


@pytest.mark.parametrize("period_s", [0.01, 0.1, 1.0])
@pytest.mark.parametrize("jumps_s", [(-50.0,), (-5.0, -5.0), (3.0, -20.0), (-37.0, 37.0, -2.5), (1000.0, -2000.0)])
def test_jumps_are_found_where_they_are(jumps_s, period_s):
    for seed in range(5):
        stamps, segment, spans = recorded(seed, jumps_s, period_s=period_s)
        assert walk(stamps, spans).tolist() == segment.tolist()


@pytest.mark.parametrize("jump_s", [-0.3, -0.02, 0.02])
def test_a_jump_below_the_period_misplaces_no_more_than_its_own_length(jump_s):
    for seed in range(5):
        stamps, segment, spans = recorded(seed, (jump_s,), period_s=0.05, jitter_s=0.001)
        wrong = stamps[walk(stamps, spans) != segment]
        assert wrong.size <= 1
        assert np.all(np.abs(wrong - spans[0][1]) <= abs(jump_s) * 1e9 + 60 * MS)


def test_late_and_corrupt_stamps_do_not_move_the_walk_on():
    stamps, segment, spans = recorded(3, (-50.0,), period_s=0.02)
    sound = np.ones(stamps.size, dtype=bool)
    for at, corrupt in ((700, stamps[700] - 600 * MS), (900, 0), (1200, 1 << 61), (1500, spans[1][0]), (3500, spans[0][1])):
        stamps[at], sound[at] = corrupt, False
    assert np.array_equal(walk(stamps, spans)[sound], segment[sound])


def test_a_sensor_that_dies_or_is_born_within_one_segment_stays_there():
    stamps, segment, spans = recorded(4, (-50.0,), period_s=0.02)
    early, late = segment == 0, (segment == 1) & (stamps > spans[0][1] + S)
    assert set(walk(stamps[early], spans).tolist()) == {0}
    assert set(walk(stamps[late], spans).tolist()) == {1}


def test_a_segment_without_samples_of_a_sensor_is_passed_over():
    stamps, segment, spans = recorded(5, (100.0, -400.0), period_s=0.02)
    kept = segment != 1
    assert np.array_equal(walk(stamps[kept], spans), segment[kept])


def test_no_stamps_and_one_segment_need_no_walk():
    assert walk(np.empty(0, dtype=np.int64), [(0, 1), (5, 6)]).size == 0
    assert walk(np.array([9, 3]), [(None, None)]).tolist() == [0, 0]
