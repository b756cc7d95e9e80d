"""Laws of the clock mapping. Belongs here: integers. Never: estimation, which segment a stamp belongs to."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.errors import DeclarationError
from drivelake.frames.clocks import (
    DRIFT_LIMIT_PPM,
    OFFSET_LIMIT_NS,
    STAMP_LIMIT_NS,
    ClockModel,
    OffsetRow,
    Segment,
    declared_clock,
)
from drivelake.rig import Alignment, Clock

S = 1_000_000_000
stamp = st.integers(0, STAMP_LIMIT_NS - 1)
drift = st.integers(-int(DRIFT_LIMIT_PPM) * 10**6, int(DRIFT_LIMIT_PPM) * 10**6).map(lambda ppt: ppt / 10**6)


def model_of(*segments, **scale):
    return ClockModel(method=segments[0].method, segments=segments, **scale)


def estimated(**known):
    return Segment(method="estimated", **known)


@settings(max_examples=200, deadline=None)
@given(
    natives=st.lists(stamp, min_size=1, max_size=8), epoch=stamp, offset=st.integers(-OFFSET_LIMIT_NS, OFFSET_LIMIT_NS), ppm=drift
)
def test_the_mapping_is_exact_over_the_whole_range_of_stamps(natives, epoch, offset, ppm):
    model = model_of(estimated(offset_ns=offset, drift_ppm=ppm, epoch_ns=epoch))
    want = [n + offset + (n - epoch) * round(ppm * 10**6) // 10**12 for n in natives]
    assert model.to_reference(np.array(natives, dtype=np.int64)).tolist() == want


@settings(max_examples=100, deadline=None)
@given(natives=st.lists(st.integers(0, 10**13), min_size=2, max_size=20), ppm=drift)
def test_the_mapping_is_monotonic(natives, ppm):
    model = model_of(estimated(drift_ppm=ppm, epoch_ns=5 * 10**12))
    assert np.all(np.diff(model.to_reference(np.array(sorted(natives), dtype=np.int64))) >= 0)


@pytest.mark.parametrize("model", [model_of(estimated(offset_ns=5, drift_ppm=100.0)), declared_clock("can", None)])
def test_the_mapping_leaves_its_input_alone(model):
    native = np.array([1, 2], dtype=np.int64)
    model.to_reference(native)[0] = 7
    assert native.tolist() == [1, 2]


@settings(max_examples=100, deadline=None)
@given(
    natives=st.lists(st.integers(0, 1 << 61), min_size=1, max_size=20),
    cuts=st.lists(st.integers(0, 1 << 61), min_size=6, max_size=6, unique=True).map(sorted),
    offsets=st.lists(st.integers(-OFFSET_LIMIT_NS, OFFSET_LIMIT_NS), min_size=3, max_size=3),
    scale=st.sampled_from(["utc", "tai", "gps"]),
)
def test_every_stamp_is_mapped_by_its_own_segment_alone(natives, cuts, offsets, scale):
    segments = [estimated(first_ns=cuts[2 * at], last_ns=cuts[2 * at + 1], offset_ns=offsets[at]) for at in range(3)]
    model = model_of(*segments, scale=scale)
    native = np.array(natives, dtype=np.int64)
    own = model.segment_of(native).tolist()
    want = [utc + offsets[at] for utc, at in zip(model.to_utc(native).tolist(), own, strict=True)]
    assert model.to_reference(native).tolist() == want


def test_a_clock_that_jumps_back_is_mapped_by_the_order_of_writing():
    model = model_of(
        estimated(first_ns=100 * S, last_ns=160 * S, offset_ns=7 * S),
        estimated(first_ns=130 * S, last_ns=190 * S, offset_ns=37 * S),
    )
    true_ns = np.arange(107 * S, 227 * S, S // 10)
    native = np.where(true_ns < 167 * S, true_ns - 7 * S, true_ns - 37 * S)
    assert np.array_equal(model.to_reference(native), true_ns)


def test_stamps_of_a_segment_that_is_not_observable_stay_what_they_are_on_utc():
    known = estimated(first_ns=10**18, last_ns=10**18 + 99 * S, offset_ns=5)
    unknown = Segment(
        method="not observable", first_ns=10**18 + 100 * S, last_ns=10**18 + 200 * S, reason="NOT OBSERVABLE: it stood"
    )
    native = 10**18 + np.array([37 + 50, 37 + 150]) * S
    model = model_of(known, unknown, scale="tai", leap_s=37)
    assert model.to_reference(native).tolist() == [10**18 + 50 * S + 5, 10**18 + 150 * S]


def test_a_declared_offset_is_added():
    model = declared_clock("can", Clock(offset_ns=-37_000_000_000))
    assert model.method == "declared"
    assert model.to_reference(np.array([1_700_000_037_000_000_001], dtype=np.int64)).tolist() == [1_700_000_000_000_000_001]


def test_a_declared_offset_is_added_after_the_time_scale():
    model = declared_clock("lidar", Clock(scale="tai", offset_ns=1))
    assert model.to_reference(np.array([1_700_000_037 * S])).tolist() == [1_700_000_000 * S + 1]
    assert (model.scale, model.leap_s) == ("tai", None)


def test_the_reference_clock_may_have_a_time_scale():
    model = declared_clock("reference", Clock(scale="gps", leap_s=37))
    assert (model.method, model.to_reference(np.array([0])).tolist()) == ("same", [315_964_800 * S - 18 * S])


def test_rows_of_a_table_hold_from_their_stamps_on_and_the_first_before_too():
    rows = (OffsetRow(1000 * S, 5, 100.0), OffsetRow(2000 * S, -3 * S, 0.0))
    model = declared_clock("can", Clock(offsets="o.csv"), rows)
    native = np.array([0, 1000, 1999, 2000, 9000]) * S
    assert model.to_reference(native).tolist() == [
        5 - S // 10,
        1000 * S + 5,
        1999 * S + 5 + 99_900_000,
        1997 * S,
        8997 * S,
    ]


def test_a_row_that_begins_before_the_last_one_is_a_clock_that_jumped_back():
    rows = (OffsetRow(550 * S, 0, 0.0), OffsetRow(500 * S, 100 * S, 0.0))
    model = declared_clock("can", Clock(offsets="o.csv"), rows)
    first, second = np.arange(550, 600) * S, np.arange(500, 620) * S
    assert model.to_reference(np.concatenate((first, second))).tolist() == [*first.tolist(), *(second + 100 * S).tolist()]


def test_stamps_of_the_rows_are_native_ones():
    rows = (OffsetRow(None, 0, 0.0), OffsetRow(1_700_000_037 * S, 1, 0.0))
    model = declared_clock("lidar", Clock(scale="tai", offsets="o.csv"), rows)
    native = np.array([1_700_000_037 * S - 1, 1_700_000_037 * S])
    assert model.to_reference(native).tolist() == [1_700_000_000 * S - 1, 1_700_000_000 * S + 1]


@pytest.mark.parametrize(
    ("name", "clock"),
    [
        ("reference", Clock(offset_ns=1)),
        ("reference", Clock(align=Alignment(own="a", reference="b"))),
        ("reference", Clock(offsets="o.csv")),
        ("can", Clock(offset_ns=OFFSET_LIMIT_NS + 1)),
        ("can", Clock(scale="tai", leap_s=-1)),
        ("can", Clock(scale="tai", leap_s=10**9)),
        ("can", Clock(leap_s=37)),
    ],
)
def test_a_clock_that_no_model_holds_is_refused(name, clock):
    with pytest.raises(DeclarationError):
        declared_clock(name, clock)
