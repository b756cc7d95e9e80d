"""Laws of the counts over a sensor's ticks. Belongs here: held again, never held, percentiles. Never: files."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.frames.columns import fill
from drivelake.frames.ordered import Ordered, Span
from drivelake.frames.report import SensorReport
from drivelake.frames.sources import Samples
from drivelake.frames.tally import Tally, age_percentiles
from drivelake.frames.ticks import ticks_of
from drivelake.rig import Sensor

EPOCH_NS = 1_700_000_000_000_000_001
MS = 1_000_000
DESCRIBED = SensorReport(kind="value", rule="", stamp="receive", clock="reference", tolerance_ms=1, unit="")
RULES = ("nearest", "previous", "next", "linear", "mean", "last")


def ordered(times, values=None):
    t_ns = EPOCH_NS + np.array(times, dtype=np.int64) * MS
    values = np.arange(t_ns.size, dtype=float) if values is None else np.array(values, dtype=float)
    samples = Samples(t_ns, values, ("a",), (t_ns.size,), t_ns.size, 0, 0, 0)
    return Ordered(t_ns, samples, 0, (Span(t_ns.size, None, None),), None, None, constant=False)


def tallied(ticks, times, rule, group=1000, **more):
    """The counts, filled ``group`` ticks at a time, and the frames' columns."""
    ticks = ticks_of(EPOCH_NS + np.array(ticks, dtype=np.int64) * MS)
    sensor, samples = Sensor(log="a", channel="a", rule=rule, **more), ordered(times)
    tally, rows = Tally(samples.t_ns.size), []
    for start in range(0, ticks.t_ns.size, group):
        part = slice(start, min(start + group, ticks.t_ns.size))
        filled = fill("s", sensor, ticks.t_ns[part], ticks.since(part), samples)
        tally.add(filled)
        rows += filled.batch.to_pylist()
    return tally.reported(DESCRIBED, samples), rows


strictly = st.lists(st.integers(0, 60), min_size=1, max_size=25).map(lambda values: sorted(set(values)))


@settings(max_examples=150, deadline=None)
@given(ticks=strictly, times=strictly, rule=st.sampled_from(RULES), group=st.integers(1, 7), tolerance=st.integers(1, 15))
def test_row_groups_change_neither_the_columns_nor_the_counts(ticks, times, rule, group, tolerance):
    whole, rows = tallied(ticks, times, rule, tolerance_ms=tolerance)
    parts, same = tallied(ticks, times, rule, group, tolerance_ms=tolerance)
    assert rows == same
    assert whole == parts
    assert whole.matched + whole.unmatched.total == len(ticks)
    assert whole.matched == sum(row["s"] is not None for row in rows)
    for row in rows:
        assert (row["s"] is None) == (row["s_native_ns"] is None) == (row["s_age_ns"] is None) == (row["s_reason"] is not None)


@settings(max_examples=80, deadline=None)
@given(ticks=strictly, times=strictly, rule=st.sampled_from(["nearest", "previous", "next"]))
def test_held_again_and_never_held_are_counted_from_the_stamps_in_the_frames(ticks, times, rule):
    report, rows = tallied(ticks, times, rule, 3, tolerance_ms=9)
    held = [row["s_native_ns"] for row in rows if row["s"] is not None]
    assert report.reused == len(held) - len(set(held))
    assert report.unused == len(times) - len(set(held))


def test_both_neighbours_of_a_line_are_held():
    report, _ = tallied([1, 2, 3, 99], [0, 50, 100], "linear", tolerance_ms=50)
    assert (report.matched, report.reused, report.unused) == (4, 2, 0)


def test_all_samples_of_the_intervals_are_held_by_an_aggregate():
    report, rows = tallied([10, 20, 30], [1, 2, 11, 12, 13, 40], "mean", 2, tolerance_ms=10)
    assert [row["s_count"] for row in rows] == [2, 3, None]
    assert (report.unused, report.reused, report.unmatched.too_old) == (1, 0, 1)


def test_percentiles_are_ages_of_real_frames():
    ages = np.arange(1, 101) * MS
    found = age_percentiles([ages[50:], ages[:50].astype(np.int32)])
    assert (found.p50, found.p95, found.p99, found.max) == (50.0, 95.0, 99.0, 100.0)
    assert age_percentiles([]) is None


def test_an_age_beyond_two_seconds_is_exact():
    assert age_percentiles([np.array([3_000_000_001])]).max == pytest.approx(3000.000001, abs=1e-9)
