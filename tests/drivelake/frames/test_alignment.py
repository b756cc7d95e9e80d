"""Alignment against a known truth. Belongs here: generated drives whose clocks have offset, drift, jumps; bad input.

Never here: files.
"""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.errors import DeclarationError
from drivelake.frames.alignment import Observation, estimate_clock
from drivelake.rig import Alignment
from tests.drivelake.frames.clock_drives import (
    EPOCH_NS,
    Jumping,
    Truth,
    as_written,
    drive,
    filtered_noise,
    motion,
    observation,
    observed,
    worst_error_ms,
)

ALIGN = Alignment(max_offset_ms=2000.0, max_drift_ppm=200.0)
WIDE = Alignment(max_offset_ms=60_000.0, max_drift_ppm=200.0)
SEEDS = 208


def simple(seed, duration_s=60.0, offset_s=0.3, drift=0.0, cutoff_hz=1.0, **noise):
    """An observation of filtered noise and the truth of its clock."""
    rng = np.random.default_rng(seed)
    clock = Truth(duration_s, offset_s, drift)
    return observation(rng, filtered_noise(rng, duration_s, cutoff_hz), clock, outliers=0.0, **noise), clock


def jumping(seed, at_s, by_s, pauses=(), duration_s=300.0):
    """A drive whose own clock steps: (observation, its clock)."""
    rng = np.random.default_rng(seed)
    truth = motion(rng, duration_s, ("speed", "yaw_rate", "noise")[seed % 3])
    clock = Jumping(Truth(duration_s, rng.uniform(-20, 20), rng.uniform(-100e-6, 100e-6)), at_s, by_s)
    own = as_written(rng, truth, clock, 100, pauses=pauses)
    reference = observed(rng, truth, Truth(duration_s, 0.0, 0.0), 50, noise=0.03, outliers=0.0)
    return Observation("own~reference", *own, *reference), clock


def error_ms(segment, clock, first_s, last_s):
    t_s = np.linspace(first_s, last_s, 30)
    native_ns = EPOCH_NS + np.round(clock.native_s(t_s) * 1e9).astype(np.int64)
    return float(np.max(np.abs(segment.shift(native_ns) - EPOCH_NS - np.round(t_s * 1e9).astype(np.int64)))) / 1e6


def test_95_percent_are_within_5_ms_over_the_drive_and_the_uncertainty_covers_90_percent():
    # offsets in +-60 s, drifts in +-200 ppm, 60 s to 600 s, jitter, drops, 5 % outliers, standstills, noise; gain and bias.
    # Measured: all within 5 ms, 97 % covered. The constants were chosen on some of these seeds; over 300 others 99 % and 95 %.
    # Noise is up to 5 % of the motion; with up to 10 % and only 70 s it is 89 % within 5 ms, and 94 % covered.
    within, covered = [], []
    for seed in range(SEEDS):
        one, clock, _ = drive(seed)
        model = estimate_clock([one], WIDE)
        assert (model.method, len(model.segments)) == ("estimated", 1), (seed, model.reason)
        error = worst_error_ms(model, clock)
        within.append(error < 5.0)
        covered.append(error <= 1.96 * model.sigma_ms)
    assert np.mean(within) >= 0.95
    assert np.mean(covered) >= 0.90


@pytest.mark.parametrize(("cutoff_hz", "noise"), [(0.3, 0.05), (0.2, 0.05), (0.1, 0.02)])
def test_slow_motion_keeps_the_law(cutoff_hz, noise):
    errors, covered = [], []
    for seed in range(12):
        rng = np.random.default_rng(100 + seed)
        drift = rng.uniform(-200e-6, 200e-6)
        one, clock = simple(1000 + seed, 200.0, rng.uniform(-1.5, 1.5), drift, cutoff_hz, noise=noise)
        model = estimate_clock([one], ALIGN)
        errors.append(worst_error_ms(model, clock))
        covered.append(errors[-1] <= 1.96 * model.sigma_ms)
    assert max(errors) < 5.0
    assert np.mean(covered) >= 0.8


def test_the_uncertainty_grows_with_noise_and_with_slow_motion():
    base = estimate_clock([simple(3, 200.0)[0]], ALIGN).sigma_ms
    assert estimate_clock([simple(3, 200.0, noise=0.4)[0]], ALIGN).sigma_ms > 3 * base
    assert estimate_clock([simple(3, 200.0, cutoff_hz=0.05)[0]], ALIGN).sigma_ms > 3 * base


def test_the_drift_is_found_to_a_few_ppm_and_said_how_well():
    one, _ = simple(5, 400.0, 0.2, 60e-6)
    segment = estimate_clock([one], ALIGN).segments[0]
    assert segment.drift_ppm == pytest.approx(60.0, abs=3 * segment.drift_sigma_ppm)
    assert segment.drift_sigma_ppm < 5.0
    assert segment.residual_ms <= segment.residual_p95_ms <= segment.residual_p99_ms
    assert segment.residual_p99_ms < 5.0


def test_the_same_observations_give_the_same_model():
    one, _ = simple(6)
    assert estimate_clock([one], ALIGN) == estimate_clock([one], ALIGN)


def test_gain_bias_and_a_pause_do_not_move_the_offset():
    one, clock = simple(7)
    kept = (one.own_ns < EPOCH_NS + 20 * 10**9) | (one.own_ns > EPOCH_NS + 31 * 10**9)
    model = estimate_clock([replace(one, own_ns=one.own_ns[kept], own=3.0 * one.own[kept] + 70.0)], ALIGN)
    assert len(model.segments) == 1
    assert worst_error_ms(model, clock) < 5.0
    assert len(model.windows) < model.segments[0].windows_tried


def test_nan_and_repeated_and_late_stamps_do_not_move_the_offset():
    one, clock = simple(8)
    own_ns, own = one.own_ns.copy(), one.own.copy()
    own[::17] = np.nan
    own_ns[100:-100:50] = own_ns[99:-101:50]
    order = np.arange(own_ns.size)
    order[200:-200:40], order[201:-199:40] = order[201:-199:40].copy(), order[200:-200:40].copy()
    wild = own_ns[order]
    wild[777] += 3_000_000_000_000
    reference = one.reference.copy()
    reference[::23] = np.nan
    model = estimate_clock([replace(one, own_ns=wild, own=own[order], reference=reference)], ALIGN)
    assert (model.method, len(model.segments)) == ("estimated", 1)
    assert worst_error_ms(model, clock) < 5.0


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("by_s", [0.02, -0.02, 0.1, -0.5, 3.0, -3.0])
def test_a_jump_begins_a_new_segment(seed, by_s):
    one, clock = jumping(seed, (140.0,), (by_s,))
    model = estimate_clock([one], WIDE)
    assert (model.method, len(model.segments)) == ("estimated", 2)
    before, behind = model.segments
    assert error_ms(before, clock, 0.0, 139.9) < 5.0
    assert error_ms(behind, clock, 140.1, 300.0) < 5.0
    edge_ns = EPOCH_NS + round(clock.native_s(140.0) * 1e9)
    assert abs(behind.first_ns - edge_ns) < 0.3e9
    assert abs(before.last_ns + by_s * 1e9 - edge_ns) < 0.3e9


def test_three_jumps_make_four_segments_in_the_order_written():
    one, clock = jumping(1, (80.0, 160.0, 240.0), (0.05, -2.0, 7.0))
    model = estimate_clock([one], WIDE)
    assert len(model.segments) == 4
    edges = [0.0, 80.0, 160.0, 240.0, 300.0]
    for segment, first_s, last_s in zip(model.segments, edges[:-1], edges[1:], strict=True):
        assert error_ms(segment, clock, first_s + 0.5, last_s - 0.5) < 5.0
        assert segment.first_ns <= segment.epoch_ns <= segment.last_ns


def test_pauses_without_a_jump_leave_one_segment():
    one, clock = jumping(1, (), (), pauses=((50, 55), (100, 130), (135, 140)))
    model = estimate_clock([one], WIDE)
    assert len(model.segments) == 1
    assert error_ms(model.segments[0], clock, 0.0, 300.0) < 5.0


def test_behind_a_jump_beyond_the_search_nothing_is_observable_and_the_neighbour_is_not_used():
    one, clock = jumping(0, (140.0,), (-100.0,))
    model = estimate_clock([one], WIDE)
    assert model.method == "partly estimated"
    before, behind = model.segments
    assert error_ms(before, clock, 0.0, 139.9) < 5.0
    assert (behind.method, behind.offset_ns, behind.sigma_ms) == ("not observable", 0, None)
    assert behind.reason.startswith("NOT OBSERVABLE: ")


def test_a_restart_into_standstill_is_not_observable_with_its_reason():
    one, _ = simple(9, 120.0)
    still = one.own_ns >= EPOCH_NS + 80 * 10**9
    own_ns = np.where(still, one.own_ns - 50_000_000_000, one.own_ns)
    rng = np.random.default_rng(0)
    own = np.where(still, 0.7 + 0.01 * rng.standard_normal(own_ns.size), one.own)
    model = estimate_clock([replace(one, own_ns=own_ns, own=own)], ALIGN)
    assert [segment.method for segment in model.segments] == ["estimated", "not observable"]
    assert model.segments[1].first_ns < model.segments[0].last_ns


def test_several_observations_vote_and_an_unrelated_one_is_named():
    rng = np.random.default_rng(11)
    clock = Truth(120.0, 1.2, 40e-6)
    first = observation(rng, filtered_noise(rng, 120.0), clock, name="a~b", outliers=0.0)
    second = observation(rng, filtered_noise(rng, 120.0), clock, name="c~d", outliers=0.0)
    other = observation(rng, filtered_noise(rng, 120.0), clock, name="e~f", outliers=0.0)
    unrelated = replace(other, own=rng.standard_normal(other.own.size).cumsum() * 0.01)
    model = estimate_clock([first, second, unrelated], ALIGN)
    assert {window.pair for window in model.windows} == {"a~b", "c~d"}
    assert "e~f: not used" in model.reason
    assert worst_error_ms(model, clock) < 5.0
    assert model.sigma_ms < estimate_clock([first], ALIGN).sigma_ms


def test_pairs_whose_sensors_delay_differently_are_named():
    rng = np.random.default_rng(12)
    clock = Truth(120.0, 1.2, 0.0)
    first = observation(rng, filtered_noise(rng, 120.0), clock, name="a~b", outliers=0.0)
    second = observation(rng, filtered_noise(rng, 120.0), Truth(120.0, 1.26, 0.0), name="c~d", outliers=0.0)
    model = estimate_clock([first, second], ALIGN)
    assert len(model.segments) == 1
    assert "disagree" in model.reason
    assert model.sigma_ms * 1.96 > 25


def test_noise_on_one_side_is_not_observable_and_never_a_silent_zero():
    for seed in range(20):
        one, other = simple(seed, 40.0)[0], simple(seed + 50, 40.0)[0]
        model = estimate_clock([replace(one, own_ns=other.own_ns, own=other.own)], WIDE)
        assert (model.method, model.segments[0].offset_ns, model.segments[0].residual_ms) == ("not observable", 0, None)
        assert model.reason.startswith("NOT OBSERVABLE: ")


def test_a_reversed_sign_is_named_unless_it_is_declared():
    one, clock = simple(8, cutoff_hz=0.5)
    turned = replace(one, own=-one.own)
    refused = estimate_clock([turned], ALIGN)
    assert refused.method == "not observable"
    assert "sign of one signal reversed" in refused.reason
    for sign, said in (("opposite", ""), ("either", "own~reference: sign opposite")):
        model = estimate_clock([replace(turned, sign=sign)], ALIGN)
        assert worst_error_ms(model, clock) < 5.0
        assert model.reason == said
    assert estimate_clock([replace(one, sign="either")], ALIGN).reason == ""


def test_a_vehicle_at_rest_is_not_observable():
    one, _ = simple(2, 40.0)
    model = estimate_clock([replace(one, own=np.full(one.own.size, 0.3))], ALIGN)
    assert (model.method, model.segments[0].offset_ns) == ("not observable", 0)
    assert "constant" in model.reason


def test_a_motion_that_repeats_is_not_observable():
    t_s = np.arange(0, 60, 0.01)
    t_ns = EPOCH_NS + np.round(t_s * 1e9).astype(np.int64)
    one = Observation("a~b", t_ns, np.sin(2 * np.pi * t_s), t_ns, np.sin(2 * np.pi * (t_s - 0.2)))
    model = estimate_clock([one], ALIGN)
    assert model.method == "not observable"
    assert "repeats" in model.reason


@pytest.mark.parametrize(("own_s", "said"), [(1.0, "1.0 s"), (0.0, "samples")])
def test_too_little_in_common_is_not_observable(own_s, said):
    one, _ = simple(3, 40.0)
    kept = one.own_ns < one.own_ns[0] + int(own_s * 1e9)
    model = estimate_clock([replace(one, own_ns=one.own_ns[kept], own=one.own[kept])], ALIGN)
    assert model.method == "not observable"
    assert said in model.reason


def test_clocks_that_are_years_apart_and_no_observation_at_all_are_not_observable():
    one, _ = simple(3, 40.0)
    model = estimate_clock([replace(one, own_ns=one.own_ns - EPOCH_NS + 1)], ALIGN)
    assert "overlap for 0.0 s" in model.reason
    assert "no observation" in estimate_clock([], ALIGN).reason


def test_an_offset_beyond_the_declared_search_is_not_observable():
    one, _ = simple(9)
    model = estimate_clock([one], ALIGN.model_copy(update={"max_offset_ms": 150.0}))
    assert model.method == "not observable"
    assert "max_offset_ms 150" in model.reason
    assert estimate_clock([one], ALIGN.model_copy(update={"max_offset_ms": 310.0})).method == "estimated"


def test_more_drift_than_declared_is_refused():
    one, _ = simple(4, 200.0, 0.1, 300e-6)
    model = estimate_clock([one], ALIGN.model_copy(update={"max_drift_ppm": 50.0}))
    assert model.method == "not observable"
    assert "ppm" in model.reason
    with pytest.raises(DeclarationError):
        estimate_clock([one], ALIGN.model_copy(update={"max_drift_ppm": 5000.0}))


def test_a_short_drive_gives_an_offset_and_says_that_the_drift_is_not_shown():
    one, clock = simple(6, 14.0, 0.1)
    model = estimate_clock([one], ALIGN)
    assert model.method == "estimated"
    assert "drift NOT SHOWN" in model.reason
    assert model.segments[0].drift_sigma_ppm is None
    assert worst_error_ms(model, clock) < 5.0


def test_an_hour_of_offset_is_searched_without_an_hour_of_memory():
    one, clock = simple(10, 120.0, 3210.9, 100e-6)
    model = estimate_clock([one], Alignment(max_offset_ms=3_600_000.0))
    assert worst_error_ms(model, clock) < 5.0


def test_stamps_that_run_backwards_are_not_observable():
    one, _ = simple(14, 90.0)
    model = estimate_clock([replace(one, own_ns=one.own_ns[::-1].copy(), own=one.own[::-1].copy())], ALIGN)
    assert model.method == "not observable"
    assert "the stamps jump" in model.reason


@given(st.data())
@settings(max_examples=25, deadline=None)
def test_whatever_happened_to_the_samples_there_is_a_model_that_says_how_good_it_is(data):
    one, _ = simple(data.draw(st.integers(0, 3)), 30.0, own_hz=50)
    own_ns, own = one.own_ns.copy(), one.own.copy()
    rows = st.slices(own.size)
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(rows)
        harm = data.draw(st.sampled_from(["nan", "constant", "huge", "shift", "repeat", "reverse"]))
        if harm in ("nan", "constant", "huge"):
            own[where] = {"nan": np.nan, "constant": 0.3, "huge": 1e300}[harm]
        elif harm == "shift":
            own_ns[where] += data.draw(st.integers(-(10**11), 10**11))
        elif own_ns[where].size:
            own_ns[where] = own_ns[where][0] if harm == "repeat" else own_ns[where][::-1].copy()
    model = estimate_clock([replace(one, own_ns=own_ns, own=own, sign=data.draw(st.sampled_from(["same", "either"])))], ALIGN)
    for segment in model.segments:
        assert (segment.sigma_ms is not None and 0 < segment.sigma_ms < 1e4) == (segment.method == "estimated")
        assert segment.first_ns is None or segment.first_ns <= segment.last_ns
        assert segment.method == "estimated" or segment.reason.startswith("NOT OBSERVABLE: ")


def test_no_more_windows_are_kept_than_a_plot_needs():
    one, _ = simple(13, 3000.0, 0.1, 10e-6, own_hz=25, reference_hz=25)
    model = estimate_clock([one], ALIGN)
    assert len(model.windows) == 300
    assert model.segments[0].windows_tried > 300
