"""What stamps and lags show of a clock that jumps; generated stamps, no signals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from drivelake.frames.segments import find_step, pieces, runs

START_NS = 1_700_000_000_000_000_001
MS = 1_000_000
S = 1000 * MS


def steady(count, period_ms=10, start_ns=START_NS):
    return start_ns + np.arange(count) * period_ms * MS


def test_steady_stamps_are_one_run_and_one_piece():
    t_ns = steady(1000)
    assert runs(t_ns) == (slice(0, 1000),)
    (piece,) = pieces([t_ns])
    assert (piece.first_ns, piece.last_ns) == (int(t_ns[0]), int(t_ns[-1]))


@pytest.mark.parametrize("length", [300, 5000, 200_000])
def test_a_step_back_begins_a_run_at_its_sample_wherever_the_blocks_end(length):
    t_ns = np.concatenate((steady(length), steady(700, start_ns=START_NS + length * 10 * MS - 2 * S)))
    assert runs(t_ns) == (slice(0, length), slice(length, length + 700))


def test_late_samples_and_jitter_are_no_step_back():
    t_ns = steady(1000)
    t_ns[100], t_ns[500:503] = t_ns[90], t_ns[470:473]
    t_ns[200:202] = t_ns[200:202][::-1]
    assert len(runs(t_ns)) == 1
    (piece,) = pieces([t_ns])
    assert np.all(np.diff(t_ns[piece.rows[0]]) > 0)


@pytest.mark.parametrize("wrong", [(400,), (999,), (0,), (400, 401), (400, 403, 700)])
@pytest.mark.parametrize("by_ns", [3600 * S, S // 2, -S // 2, -3600 * S])
def test_stray_stamps_are_left_out(wrong, by_ns):
    t_ns = steady(1000)
    t_ns[list(wrong)] += by_ns
    (piece,) = pieces([t_ns])
    assert piece.rows[0].tolist() == [row for row in range(1000) if row not in wrong]


def test_a_long_gap_ends_a_piece_and_a_short_one_does_not():
    t_ns = np.concatenate((steady(500), steady(500, start_ns=START_NS + 6 * S), steady(500, start_ns=START_NS + 60 * S)))
    found = pieces([t_ns])
    assert [piece.rows[0].size for piece in found] == [1000, 500]
    assert {piece.run for piece in found} == {0}


def test_a_gap_of_one_sensor_is_no_gap_of_the_clock():
    gappy = np.concatenate((steady(500), steady(500, start_ns=START_NS + 60 * S)))
    assert len(pieces([gappy, steady(7000)])) == 1


def test_a_sensor_that_begins_after_the_restart_is_put_where_it_overlaps():
    first, second = steady(1000), steady(1000, start_ns=START_NS - 500 * S)
    late = steady(80, period_ms=100, start_ns=START_NS - 499 * S)
    found = pieces([np.concatenate((first, second)), late])
    assert [(piece.rows[0].size, piece.rows[1].size) for piece in found] == [(1000, 0), (1000, 80)]


@given(hnp.arrays(np.int64, st.integers(0, 60), elements=st.integers(0, 40).map(lambda n: START_NS + n * 500 * MS)))
@settings(max_examples=60, deadline=None)
def test_any_stamps_are_split_into_increasing_pieces_that_share_no_sample(t_ns):
    found = pieces([t_ns])
    rows = np.concatenate([piece.rows[0] for piece in found] + [np.empty(0, np.int64)])
    assert rows.size == np.unique(rows).size
    for piece in found:
        assert np.all(np.diff(t_ns[piece.rows[0]]) > 0)
        assert piece.first_ns == t_ns[piece.rows[0]].min()
        assert piece.last_ns == t_ns[piece.rows[0]].max()
    assert sum(s.stop - s.start for s in runs(t_ns)) == t_ns.size


def lags(rng, count=40, sigma_s=1e-3):
    t_s = np.arange(count) * 8.0
    return t_s, 0.3 + 1e-4 * t_s + sigma_s * rng.standard_normal(count), np.full(count, sigma_s)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("height_s", [0.02, -0.02, 0.5])
def test_a_step_in_lags_is_found_where_it_is(seed, height_s):
    t_s, lag_s, sigma_s = lags(np.random.default_rng(seed))
    lag_s[23:] += height_s
    step = find_step(t_s, lag_s, sigma_s)
    assert step.at == 23
    assert step.height_s == pytest.approx(height_s, abs=5 * step.sigma_s)


def test_lines_have_no_step_however_many_are_looked_at():
    assert all(find_step(*lags(np.random.default_rng(seed))) is None for seed in range(300))


@pytest.mark.parametrize("wrong", [(12,), (0,), (39,), (12, 30), (38,)])
def test_single_wrong_windows_are_no_step_and_hide_none(wrong):
    t_s, lag_s, sigma_s = lags(np.random.default_rng(1))
    lag_s[list(wrong)] += 0.2
    assert find_step(t_s, lag_s, sigma_s) is None
    lag_s[20:] += 0.03
    assert find_step(t_s, lag_s, sigma_s).at == 20


def test_too_few_windows_show_no_step():
    assert find_step(np.arange(4.0), np.array([0.0, 0.0, 1.0, 1.0]), np.full(4, 1e-3)) is None
