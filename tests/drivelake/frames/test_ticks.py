"""Laws of ticks. Belongs here: fixed rates, events, gaps. Never: matching."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.errors import DeclarationError
from drivelake.frames.report import ReferenceReport
from drivelake.frames.ticks import count_at, described, rate_ticks, ticks_of
from drivelake.rig import Rate

EPOCH_NS = 1_700_000_000_000_000_001


@settings(max_examples=100, deadline=None)
@given(
    rate=st.sampled_from([0.1, 1, 3, 10, 20, 25, 29.97, 30, 59.94, 100, 333, 1000, 9999.5]),
    first=st.integers(0, 1 << 61),
    span=st.integers(0, 3_000_000_000),
)
def test_ticks_are_all_whole_multiples_of_the_period_since_1970_and_no_others(rate, first, span):
    ticks = rate_ticks(Rate(rate_hz=rate), first, first + span).tolist()
    period = 10**9 / Fraction(str(rate))
    assert count_at(Rate(rate_hz=rate), first, first + span) == len(ticks)
    number = -(-first // period) if not ticks else round(ticks[0] / period)
    for at, tick in enumerate(ticks):
        assert tick == (number + at) * period // 1
        assert first <= tick <= first + span
    assert (number + len(ticks)) * period // 1 > first + span
    assert (number - 1) * period // 1 < first


def test_ticks_of_a_long_drive_do_not_drift_against_the_period():
    ticks = rate_ticks(Rate(rate_hz=30), EPOCH_NS, EPOCH_NS + 36_000 * 10**9)
    assert ticks.size == 1_080_000
    assert set(np.diff(ticks).tolist()) == {33_333_333, 33_333_334}
    first = -(-EPOCH_NS * 3 // 10**8)
    assert int(ticks[-1]) == (first + 1_079_999) * 10**8 // 3


def test_two_drives_tick_at_the_same_moments():
    one = rate_ticks(Rate(rate_hz=20), EPOCH_NS, EPOCH_NS + 10**10)
    other = rate_ticks(Rate(rate_hz=20), EPOCH_NS + 123_456_789, EPOCH_NS + 10**10)
    assert set(other.tolist()) <= set(one.tolist())


def test_a_rate_too_small_to_count_with_is_refused():
    with pytest.raises(DeclarationError, match="at least 1e-06"):
        rate_ticks(Rate(rate_hz=1e-9), 0, 1)


def test_the_interval_of_the_first_tick_is_as_long_as_that_of_the_second():
    ticks = ticks_of(np.array([100, 130, 135], dtype=np.int64))
    assert ticks.since(slice(0, 3)).tolist() == [70, 100, 130]
    assert ticks.since(slice(1, 3)).tolist() == [100, 130]
    assert ticks_of(np.array([100], dtype=np.int64)).since(slice(0, 1))[0] < 0


def test_a_stop_of_the_ticks_is_counted_and_measured():
    t_ns = np.array([0, 10, 20, 80, 90, 100, 200], dtype=np.int64) * 1_000_000
    found = described(ReferenceReport(sensor="camera"), t_ns)
    assert (found.gaps, found.longest_step_ms, found.ticks) == (2, 100.0, 7)
    assert described(ReferenceReport(kind="events", sensor="button"), t_ns).gaps == 0
    assert described(ReferenceReport(sensor="camera"), t_ns[:0]).first_ns is None
