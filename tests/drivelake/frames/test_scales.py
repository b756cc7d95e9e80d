"""Laws of the time scales. Belongs here: integers, and the leap seconds as a plain loop sees them. Never: clock models."""

from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.frames.scales import GPS_EPOCH_TAI_NS, LEAP_SECONDS, to_utc

S = 1_000_000_000
STARTS = [(round(datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()) * S, ahead * S) for day, ahead in LEAP_SECONDS]


def slowly(tai_ns):
    """UTC of one TAI stamp: the last row whose first instant, or whose inserted second, has begun."""
    utc_ns, before = tai_ns, 0
    for start, ahead in STARTS:
        if tai_ns >= start + before:
            utc_ns = max(tai_ns - ahead, start)
        before = ahead
    return utc_ns


near_a_leap = st.builds(lambda row, by: STARTS[row][0] + STARTS[row][1] + by, st.integers(0, 27), st.integers(-12 * S, 12 * S))
anywhere = st.integers(0, (1 << 62) - 1)


@settings(max_examples=200, deadline=None)
@given(tai=st.lists(near_a_leap | anywhere, min_size=1, max_size=20))
def test_tai_and_gps_are_what_a_plain_loop_makes_of_them(tai):
    want = [slowly(t) for t in tai]
    assert to_utc(np.array(tai, dtype=np.int64), "tai").tolist() == want
    gps = [(t, utc) for t, utc in zip(tai, want, strict=True) if t >= GPS_EPOCH_TAI_NS]
    native = np.array([t - GPS_EPOCH_TAI_NS for t, _ in gps], dtype=np.int64)
    assert to_utc(native, "gps").tolist() == [utc for _, utc in gps]


@settings(max_examples=100, deadline=None)
@given(tai=st.lists(near_a_leap | anywhere, min_size=2, max_size=30), leap_s=st.none() | st.integers(0, 100))
def test_a_scale_never_runs_backwards_and_never_below_zero(tai, leap_s):
    utc = to_utc(np.array(sorted(tai), dtype=np.int64), "tai", leap_s)
    assert np.all(np.diff(utc) >= 0)
    assert utc[0] >= 0


@settings(max_examples=100, deadline=None)
@given(utc=st.lists(st.integers(STARTS[0][0], 1 << 61), min_size=1, max_size=20))
def test_every_instant_of_utc_has_a_tai_stamp_that_leads_back_to_it(utc):
    ahead = [max(a for start, a in STARTS if start <= t) for t in utc]
    assert to_utc(np.array(utc, dtype=np.int64) + np.array(ahead), "tai").tolist() == utc


def test_inside_an_inserted_second_the_clock_stands_still_at_midnight():
    midnight = round(datetime(2017, 1, 1, tzinfo=UTC).timestamp()) * S
    tai = midnight + 36 * S + np.array([-1, 0, S // 2, S, S + 1])
    assert (to_utc(tai, "tai") - midnight).tolist() == [-1, 0, 0, 0, 1]


def test_stamps_from_before_1972_are_taken_as_they_are():
    assert to_utc(np.array([0, 5 * S]), "tai").tolist() == [0, 5 * S]
    assert to_utc(np.array([0, 5 * S]), "tai", 37).tolist() == [0, 5 * S]


def test_gps_begins_on_6_january_1980():
    assert to_utc(np.array([0]), "gps").tolist() == [round(datetime(1980, 1, 6, tzinfo=UTC).timestamp()) * S]
    # GPS was 18 s ahead of UTC in 2020
    week = round((datetime(2020, 1, 5, tzinfo=UTC) - datetime(1980, 1, 6, tzinfo=UTC)).total_seconds()) * S
    assert to_utc(np.array([week + 18 * S]), "gps").tolist() == [round(datetime(2020, 1, 5, tzinfo=UTC).timestamp()) * S]


def test_declared_leap_seconds_override_the_table():
    now = np.array([1_790_000_000 * S])
    assert to_utc(now, "tai").tolist() == (now - 37 * S).tolist()
    assert to_utc(now, "tai", 38).tolist() == (now - 38 * S).tolist()


@pytest.mark.parametrize("leap_s", [None, 37])
def test_utc_is_left_alone_whatever_is_said_of_leap_seconds(leap_s):
    now = np.array([1_790_000_000 * S + 1])
    assert to_utc(now, "utc", leap_s).tolist() == now.tolist()
