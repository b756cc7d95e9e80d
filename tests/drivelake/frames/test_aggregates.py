"""Laws of aggregates. Belongs here: intervals between ticks, arrays in and out. Never: files."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.frames.aggregates import aggregate
from drivelake.frames.matching import BEFORE, FOUND, GAP, NONE, OLD, STALE

EPOCH_NS = 1_700_000_000_000_000_001
PLAINLY = {"mean": np.mean, "min": np.min, "max": np.max, "last": lambda values: values[-1]}


def stamps(values):
    return EPOCH_NS + np.array(sorted(set(values)), dtype=np.int64)


def since(ticks, first=10):
    return np.concatenate(([ticks[0] - first], ticks[:-1]))


@settings(max_examples=200, deadline=None)
@given(
    ticks=st.lists(st.integers(0, 60), min_size=1, max_size=15),
    times=st.lists(st.integers(-20, 80), max_size=40),
    rule=st.sampled_from(sorted(PLAINLY)),
    frozen=st.one_of(st.none(), st.integers(0, 99)),
    tolerance=st.integers(0, 15),
)
def test_an_interval_holds_what_lies_after_the_last_tick_up_to_its_own(ticks, times, rule, frozen, tolerance):
    ticks, times = stamps(ticks), stamps(times)
    rng = np.random.default_rng(frozen)
    values = rng.normal(size=times.size)
    stale = None if frozen is None else rng.random(times.size) < 0.4
    made = aggregate(ticks, since(ticks), times, values, rule, tolerance, stale=stale)
    for at, (begin, end) in enumerate(zip(since(ticks).tolist(), ticks.tolist(), strict=True)):
        inside = (times > begin) & (times <= end)
        fresh = inside if stale is None else inside & ~stale
        if fresh.any() and end - int(times[fresh][-1]) <= tolerance:
            assert made.match.reason[at] == FOUND
            assert made.values[at] == pytest.approx(PLAINLY[rule](values[fresh]), abs=1e-12)
            assert made.counts[at] == np.count_nonzero(fresh)
            assert made.match.age_ns[at] == end - int(times[fresh][-1])
            assert times[made.match.index[at]] == times[fresh][-1]
        else:
            assert made.counts[at] == 0
            expected = NONE if times.size == 0 else OLD if fresh.any() else STALE if inside.any() else None
            if expected is None:
                expected = BEFORE if end < times[0] else OLD
            assert made.match.reason[at] == expected


def test_an_interval_longer_than_the_gap_has_no_value():
    ticks = EPOCH_NS + np.array([10, 20, 60, 70])
    times = EPOCH_NS + np.arange(71)
    made = aggregate(ticks, since(ticks), times, np.ones(71), "mean", 10, max_gap_ns=10)
    assert made.match.reason.tolist() == [FOUND, FOUND, GAP, FOUND]
    assert made.counts.tolist() == [10, 10, 0, 10]


def test_the_mean_of_the_largest_floats_stays_finite():
    ticks, times = EPOCH_NS + np.array([10]), EPOCH_NS + np.array([8, 9, 10])
    made = aggregate(ticks, since(ticks), times, np.full(3, 1.7e308), "mean", 10)
    assert made.values == pytest.approx([1.7e308])
