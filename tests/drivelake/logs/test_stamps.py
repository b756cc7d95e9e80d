"""Running statistics are those of all stamps at once, however the stamps arrive and however their gaps are counted."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.logs import stamps as stamps_module
from drivelake.logs.stamps import Stamps

STAMPS = st.lists(st.integers(0, 10**9), max_size=200)


@settings(max_examples=80, deadline=None)
@given(stamps=STAMPS, cut=st.integers(0, 200))
def test_running_statistics_are_those_of_the_whole(stamps, cut):
    running = Stamps()
    for stamp in stamps[:cut]:
        running.add(stamp)
    running.extend(np.array(stamps[cut:], np.int64))
    found = running.report("c", "t")
    gaps = np.diff(stamps)
    forward = gaps[gaps >= 0]
    assert found.messages == len(stamps)
    assert (found.first_ns, found.last_ns) == ((min(stamps), max(stamps)) if stamps else (None, None))
    assert found.backward_steps == int((gaps < 0).sum())
    assert found.gap_ms_max == (forward.max() / 1e6 if len(forward) else None)
    median = np.median(forward) if len(forward) else 0
    assert found.rate_hz == (1e9 / median if median else None)
    span = max(stamps, default=0) - min(stamps, default=0)
    assert found.mean_hz == ((len(stamps) - 1) * 1e9 / span if span else None)
    assert found.gaps == int((forward > max(5 * median, 50e6)).sum())
    assert found.backward_ms_max == (-gaps.min() / 1e6 if (gaps < 0).any() else None)
    assert found.backward_jumps == int((gaps <= -128e6).sum())


@settings(max_examples=40, deadline=None)
@given(stamps=STAMPS, cuts=st.lists(st.integers(0, 200), max_size=5), fold=st.sampled_from([1, 3, 16, 1 << 14]))
def test_statistics_do_not_depend_on_how_the_stamps_arrive(stamps, cuts, fold):
    whole = Stamps()
    whole.extend(np.array(stamps, np.int64))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stamps_module, "FOLD_AT", fold)
        running, buffer = Stamps(), np.empty(max(len(stamps), 1), np.int64)
        for part in np.split(np.array(stamps, np.int64), sorted(min(cut, len(stamps)) for cut in cuts)):
            buffer[: len(part)] = part
            running.extend(buffer[: len(part)])  # a reader's own buffer, that it uses again
    assert running.report("c", "t") == whole.report("c", "t")


def test_a_median_of_too_many_different_gaps_stays_close_and_small():
    gaps = np.random.default_rng(3).integers(10**6, 10**9, 300_000)
    running = Stamps()
    for part in np.array_split(np.cumsum(gaps), 40):
        running.extend(part)
    assert len(running._gaps) <= 1 << 14
    assert np.isclose(running.report("c", "t").rate_hz, 1e9 / np.median(gaps[1:]), rtol=1e-4)


def test_gaps_are_silences_and_not_the_pauses_of_a_scheduler():
    regular = np.arange(1000) * 10_000_000
    late = regular + np.where(np.arange(1000) % 100 == 50, 39_000_000, 0)  # below 50 ms, if more than five periods
    silent = np.delete(regular, [*range(200, 205), *range(600, 700)])
    counted = []
    for stamps in (regular, np.sort(late), silent):
        running = Stamps()
        running.extend(stamps)
        counted.append(running.report("c", "t").gaps)
    assert counted == [0, 0, 2]


def test_the_mean_rate_counts_every_pause():
    running = Stamps()
    running.extend(np.array([0, 1, 2, 3, 10], np.int64) * 10**9)
    found = running.report("c", "t")
    assert (found.rate_hz, found.mean_hz) == (1.0, 0.4)
    assert Stamps().report("c", "t").mean_hz is None


@settings(max_examples=60, deadline=None)
@given(
    seed=st.integers(0, 99),
    spread=st.sampled_from([1, 3, 50, 10**4, 10**6, 10**12]),
    parts=st.integers(1, 6),
    most=st.sampled_from([1, 4, 30, 1 << 14]),
    table=st.sampled_from([0, 8, 4000]),
)
def test_gaps_are_counted_alike_by_sorting_and_in_a_table_and_coarsened_no_more_than_needed(seed, spread, parts, most, table):
    gaps = np.random.default_rng(seed).integers(0, spread, 300) + 10**7
    running = Stamps()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stamps_module, "GAPS_MAX", most)
        patch.setattr(stamps_module, "TABLE_MAX", table)
        patch.setattr(stamps_module, "FOLD_AT", 1)
        for part in np.array_split(np.cumsum(gaps), parts):
            running.extend(part)
    shift = next(shift for shift in range(64) if len(np.unique(gaps[1:] >> shift)) <= most)
    values, counts = np.unique(gaps[1:] >> shift, return_counts=True)
    assert (running._shift, running._gaps.tolist(), running._gap_counts.tolist()) == (shift, values.tolist(), counts.tolist())
