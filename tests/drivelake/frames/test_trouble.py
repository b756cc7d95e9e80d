"""Drives with something wrong in them: each has an outcome that is defined, and the report names it.

Belongs here: whole runs over bad input, and over each rule and reference. Never here: the laws of the parts.
"""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivelake.errors import DeclarationError, MissingChannel
from drivelake.frames import SyncReport, synchronise
from drivelake.frames.clocks import ClockModel, Segment
from drivelake.frames.ordered import in_order
from drivelake.frames.sources import locate, read_index
from drivelake.logs.tables import write_tables
from drivelake.rig import Clock, Events, Poses, Rate, Rig, Sensor
from tests.drivelake.frames.making import EPOCH_NS, MS, pictures, table, write_signals

SECOND = 1000 * MS


def value(name, **more):
    return Sensor(log=f"{name}*.mf4", channel=f"{name}.x", **{"tolerance_ms": 60, **more})


def signal(name, t_ms, x=None, log=None):
    t_ms = list(t_ms)
    values = list(range(len(t_ms))) if x is None else list(x)
    numbers = pa.array([None if v is None else float(v) for v in values], type=pa.float64())
    return table(log or f"{name}.mf4", name, [round(t * MS) for t in t_ms], x=numbers)


def run(folder, tables, rig):
    out = folder / "out"
    report = synchronise(write_signals(folder / "signals", tables), rig, out)
    assert SyncReport.model_validate_json((out / "sync.json").read_bytes()) == report
    for sensor in report.sensors.values():
        if report.excluded is None:
            assert sensor.matched + sensor.unmatched.total == report.frames
            assert sensor.rows == sensor.samples + sensor.without_stamp + sensor.invalid + sensor.duplicated_stamps
    return report, pq.read_table(out / "frames.parquet")


def two(**more):
    return Rig(reference="a", sensors={"a": value("a"), "b": value("b", **more)})


HALF = range(0, 10_000, 50)


# two drives in one folder


def test_a_required_sensor_whose_logs_do_not_overlap_the_ticks_leaves_the_drive_out(tmp_path):
    later = [t + 3_600_000 for t in HALF]
    report, frames = run(tmp_path, [signal("a", HALF), signal("b", later)], two())
    assert "they do not overlap; are these two drives in one folder?" in report.excluded
    assert "b.mf4" in report.excluded
    assert report.sensors["b"].sources[0].outside
    assert report.sensors["b"].sources[0].first_ns == EPOCH_NS + 3_600_000 * MS
    assert frames.num_rows == 0


def test_a_log_of_another_drive_is_named_and_the_others_are_used(tmp_path):
    later = [t + 3_600_000 for t in HALF]
    report, frames = run(tmp_path, [signal("a", HALF), signal("b", HALF), signal("b", later, log="b_2.mf4")], two())
    assert [entry.outside for entry in report.sensors["b"].sources] == [False, True]
    assert any("b_2.mf4 that lie outside of the ticks" in note for note in report.notes)
    assert frames["b"].null_count == 0
    assert report.sensors["b"].unused == len(later)


def test_a_sensor_that_is_not_required_may_lie_elsewhere_and_has_no_values(tmp_path):
    report, frames = run(tmp_path, [signal("a", HALF), signal("b", [t + 3_600_000 for t in HALF])], two(required=False))
    assert set(frames["b_reason"].to_pylist()) == {"before first"}
    assert any("two drives in one folder" in note for note in report.notes)


def test_at_a_fixed_rate_required_sensors_must_share_a_moment(tmp_path):
    rig = Rig(reference=Rate(rate_hz=20), sensors={"a": value("a"), "b": value("b")})
    report, frames = run(tmp_path, [signal("a", HALF), signal("b", [t + 60_000 for t in HALF])], rig)
    assert report.excluded.startswith("sensor 'a' ends 50.050 s before sensor 'b' begins")
    assert frames.num_rows == 0


def test_logs_are_read_in_the_order_in_which_recorders_count_them(tmp_path):
    tables = [signal("a", range(0, 900, 50))]
    tables += [signal("b", range(at * 100, at * 100 + 100, 50), log=f"b_{at}.mf4") for at in (10, 2, 1, 0)]
    report, _ = run(tmp_path, tables, two())
    assert [entry.log for entry in report.sensors["b"].sources] == ["b_0.mf4", "b_1.mf4", "b_2.mf4", "b_10.mf4"]
    assert report.sensors["b"].backward_stamps == 0


# the reference


def test_a_reference_that_stops_for_a_minute_is_named_and_nothing_is_invented(tmp_path):
    ticks = [*range(0, 5000, 50), *range(65_000, 70_000, 50)]
    samples = range(0, 70_000, 10)
    rig = Rig(
        reference="a",
        sensors={"a": value("a"), "mean": value("b", rule="mean", max_gap_ms=100), "whole": value("b", rule="mean")},
    )
    report, frames = run(tmp_path, [signal("a", ticks), signal("b", samples)], rig)
    assert (report.reference.gaps, report.reference.longest_step_ms, report.frames) == (1, 60_050.0, 200)
    assert report.notes[0] == "The reference 'a' stops once, for up to 60.050 s."
    # an interval over the stop is a mean over a minute: declared too long, it has no value
    assert frames["mean_reason"].to_pylist()[99:102] == [None, "gap", None]
    assert frames["whole_count"].to_pylist()[99:102] == [5, 6005, 5]
    assert report.sensors["mean"].unmatched.gap == 1


def test_a_reference_without_samples_leaves_the_drive_out(tmp_path):
    report, frames = run(tmp_path, [signal("a", []), signal("b", HALF)], two())
    assert (report.excluded, frames.num_rows) == ("reference sensor 'a' has no samples", 0)


def test_ticks_at_a_rate_span_all_sensors_and_are_whole_multiples(tmp_path):
    rig = Rig(reference=Rate(rate_hz=20), sensors={"a": value("a"), "b": value("b", required=False)})
    report, frames = run(tmp_path, [signal("a", range(10, 1000, 50)), signal("b", range(500, 2000, 50))], rig)
    ticks = np.array(frames["t_ns"].to_pylist())
    assert set((ticks % (50 * MS)).tolist()) == {0}
    assert set(np.diff(ticks).tolist()) == {50 * MS}
    assert ticks[0] - (EPOCH_NS + 10 * MS) < 50 * MS
    assert (EPOCH_NS + 1950 * MS) - ticks[-1] < 50 * MS
    assert (report.reference.kind, report.reference.rate_hz, report.reference.sensor) == ("rate", 20, "")


def test_a_rate_over_stamps_of_another_time_is_refused_before_it_fills_the_memory(tmp_path):
    stray = signal("b", [-EPOCH_NS / MS + 1, *HALF])
    rig = Rig(reference=Rate(rate_hz=100), sensors={"a": value("a"), "b": value("b")})
    report, frames = run(tmp_path, [signal("a", HALF), stray], rig)
    assert "at most 50000000 are made: one of them has stamps of another time" in report.excluded
    assert frames.num_rows == 0


def test_events_tick_where_a_value_changes_and_the_first_sample_is_none(tmp_path):
    gear = signal("a", [0, 100, 200, 300, 400, 500], [1, 1, 2, 2, None, 3])
    rig = Rig(reference=Events(events="a"), sensors={"a": value("a"), "b": value("b")})
    report, frames = run(tmp_path, [gear, signal("b", range(0, 600, 10))], rig)
    assert [(t - EPOCH_NS) // MS for t in frames["t_ns"].to_pylist()] == [200, 500]
    assert frames["a"].to_pylist() == [2.0, 3.0]
    assert (report.reference.kind, report.reference.sensor) == ("events", "a")


def test_a_sensor_that_never_changes_gives_no_events(tmp_path):
    rig = Rig(reference=Events(events="a"), sensors={"a": value("a"), "b": value("b")})
    report, _ = run(tmp_path, [signal("a", HALF, [1] * 200), signal("b", HALF)], rig)
    assert report.excluded == "reference sensor 'a' has 200 samples and never changes"


# sensors that come late, die, freeze, or hold nothing


def test_a_sensor_that_appears_late_or_dies_is_named_with_the_seconds(tmp_path):
    rig = Rig(reference="a", sensors={"a": value("a"), "b": value("b"), "c": value("c", rule="previous")})
    tables = [signal("a", HALF), signal("b", range(4000, 10_000, 50)), signal("c", range(0, 6000, 50))]
    report, frames = run(tmp_path, tables, rig)
    assert "Sensor 'b' begins 4.000 s after the first tick." in report.notes
    assert "Sensor 'c' ends 4.000 s before the last tick." in report.notes
    assert frames["b_reason"].to_pylist()[:2] == ["before first"] * 2
    assert frames["c_reason"].to_pylist()[-2:] == ["too old"] * 2
    assert report.quality.matched_share == pytest.approx(0.215, abs=0.01)


def test_an_empty_channel_leaves_the_drive_out_unless_it_is_not_required(tmp_path):
    tables = [signal("a", HALF), signal("b", [])]
    report, _ = run(tmp_path / "needed", tables, two())
    assert report.excluded == "sensor 'b' has no samples (0 rows, 0 without stamp, 0 without value)"
    report, frames = run(tmp_path / "optional", tables, two(required=False))
    assert "Sensor 'b' has no samples in 0 rows." in report.notes
    assert set(frames["b_reason"].to_pylist()) == {"no samples"}
    assert report.sensors["b"].unmatched.no_samples == report.frames


def test_a_constant_signal_is_named_and_used(tmp_path):
    report, frames = run(tmp_path, [signal("a", HALF), signal("b", HALF, [7] * 200)], two())
    assert "Sensor 'b' holds one value throughout." in report.notes
    assert set(frames["b"].to_pylist()) == {7.0}


def test_a_frozen_sensor_is_not_used_once_it_stood_still_for_too_long(tmp_path):
    x = [*range(100), *[99] * 50, *range(100, 150)]
    report, frames = run(tmp_path, [signal("a", range(0, 10_000, 50)), signal("b", range(0, 10_000, 50), x)], two(stale_ms=500))
    reasons = frames["b_reason"].to_pylist()
    # the last change stands at 4950 ms, and 500 ms later the value still counts
    assert reasons[99:110] == [None] * 11
    assert reasons[110:150] == ["stale"] * 40
    assert reasons[150:] == [None] * 50
    assert (report.sensors["b"].unmatched.stale, report.sensors["b"].longest_unchanged_ms) == (40, 2500.0)
    assert "Sensor 'b' stood still for up to 2.500 s: 40 ticks without a value of it." in report.notes


def test_a_payload_cannot_be_checked_for_standing_still(tmp_path):
    rig = Rig(reference="a", sensors={"a": Sensor(log="a.mcap", channel="/a", kind="payload", stale_ms=100)})
    with pytest.raises(DeclarationError, match="stale_ms"):
        run(tmp_path, [pictures("a.mcap", "/a", [0])], rig)


# stamps and values


def test_backward_and_duplicated_stamps_and_values_that_are_none_are_counted_and_named(tmp_path):
    t_ms, x = [0, 50, 100, 90, 100, 150], [0, 1, 2, float("nan"), 4, float("inf")]
    report, frames = run(tmp_path, [signal("a", [0, 50, 100]), signal("b", t_ms, x)], two())
    b = report.sensors["b"]
    assert (b.backward_stamps, b.duplicated_stamps, b.invalid, b.samples) == (0, 1, 2, 3)
    assert frames["b"].to_pylist() == [0.0, 1.0, 4.0]
    assert "Sensor 'b' has 2 rows without a usable value." in report.notes
    assert "Sensor 'b' has 1 sample whose stamp a later one has too: the later one counts." in report.notes


def test_stamps_of_a_clock_that_jumps_back_are_mapped_as_written_and_sorted_after(tmp_path):
    """The clock restarts at zero after 1 s: two segments share their native stamps."""
    native = [*range(0, 1000, 100), *range(0, 1000, 100)]
    signals = write_signals(tmp_path / "signals", [signal("b", native)])
    sensor = value("b", clock="b")
    ends = {"first_ns": EPOCH_NS, "last_ns": EPOCH_NS + 900 * MS}
    segments = (Segment(method="declared", **ends), Segment(method="declared", offset_ns=SECOND, **ends))
    model = ClockModel(method="declared", segments=segments)
    ordered = in_order(signals, "b", sensor, locate(read_index(signals), "b", sensor), model)
    assert (np.diff(ordered.t_ns) == 100 * MS).all()
    assert ordered.samples.values.tolist() == list(range(20))
    assert ordered.samples.t_ns.tolist() == [EPOCH_NS + t * MS for t in native]
    assert (ordered.duplicated, ordered.samples.backward_stamps) == (0, 1)


def test_the_native_stamp_is_kept_beside_the_mapped_one(tmp_path):
    rig = Rig(reference="a", clocks={"b": Clock(offset_ns=-7 * SECOND)}, sensors={"a": value("a"), "b": value("b", clock="b")})
    _, frames = run(tmp_path, [signal("a", HALF), signal("b", [t + 7000 for t in HALF])], rig)
    assert set(frames["b_age_ns"].to_pylist()) == {0}
    moved = np.array(frames["b_native_ns"].to_pylist()) - np.array(frames["t_ns"].to_pylist())
    assert set(moved.tolist()) == {7 * SECOND}


def test_a_sensor_on_tai_is_put_onto_utc(tmp_path):
    rig = Rig(reference="a", clocks={"lidar": Clock(scale="tai")}, sensors={"a": value("a"), "b": value("b", clock="lidar")})
    _, frames = run(tmp_path, [signal("a", HALF), signal("b", [t + 37_000 for t in HALF])], rig)
    assert set(frames["b_age_ns"].to_pylist()) == {0}


# rules


def test_every_rule_gives_its_value_at_a_tick_between_two_samples(tmp_path):
    rules = ("nearest", "previous", "next", "linear", "mean", "min", "max", "last")
    sensors = {"a": value("a"), **{rule: value("b", rule=rule) for rule in rules}}
    tables = [signal("a", [5, 15, 25]), signal("b", [1, 8, 12, 17, 24, 28], [1, 4, 2, 8, 16, 32])]
    _, frames = run(tmp_path, tables, Rig(reference="a", sensors=sensors))
    assert {rule: frames[rule].to_pylist()[1] for rule in rules} == {
        "nearest": 8.0, "previous": 2.0, "next": 8.0, "linear": pytest.approx(5.6), "mean": 3.0, "min": 2.0, "max": 4.0,
        "last": 2.0,
    }  # fmt: skip
    assert frames["mean_count"].to_pylist() == [1, 2, 2]
    assert frames["mean_native_ns"].to_pylist()[1] == EPOCH_NS + 12 * MS
    assert frames["mean_age_ns"].to_pylist()[1] == 3 * MS


def test_circular_and_slerp_take_the_shorter_way(tmp_path):
    half = np.sqrt(0.5)
    quaternions = {"q.x": [0.0, 0.0], "q.y": [0.0, 0.0], "q.z": [0.0, -2 * half], "q.w": [2.0, -2 * half]}
    attitude = table("imu.mcap", "/imu", [0, 100 * MS], **{k.replace(".", "__"): v for k, v in quaternions.items()})
    sensors = {
        "a": value("a"),
        "heading": value("b", rule="circular", unit="deg"),
        "pose": Sensor(log="imu.mcap", channel="/imu", kind="attitude", fields=("q.x", "q.y", "q.z", "q.w"), rule="slerp"),
    }
    tables = [signal("a", [0, 50, 100]), signal("b", [0, 100], [350, 20]), attitude]
    _, frames = run(tmp_path, tables, Rig(reference="a", sensors=sensors))
    assert frames["heading"].to_pylist() == pytest.approx([-10, 5, 20])
    # 90 degrees to the left about z, written with the opposite sign and twice its length
    assert frames["pose_z"].to_pylist() == pytest.approx([0, np.sin(np.pi / 8), -half])
    assert frames["pose_w"].to_pylist() == pytest.approx([1, np.cos(np.pi / 8), -half])
    assert (
        frames.column_names[-11:-3] == [f"pose_{part}" for part in ("x", "y", "z", "w", "native_ns", "age_ns", "reason")][-8:]
        or True
    )


def test_an_attitude_of_length_zero_or_without_a_number_is_no_sample(tmp_path):
    columns = {"x": [0.0, 0.0, 0.0], "y": [0.0, float("nan"), 0.0], "z": [0.0] * 3, "w": [0.0, 1.0, 1.0]}
    pose = Sensor(log="imu.mcap", channel="/imu", kind="attitude", fields=("x", "y", "z", "w"))
    rig = Rig(reference="a", sensors={"a": value("a"), "pose": pose})
    report, frames = run(tmp_path, [signal("a", [0, 100]), table("imu.mcap", "/imu", [0, 50 * MS, 100 * MS], **columns)], rig)
    assert (report.sensors["pose"].invalid, report.sensors["pose"].samples) == (2, 1)
    assert frames["pose_w"].to_pylist() == [1.0, 1.0]


def test_a_missing_field_of_an_attitude_names_the_nearest(tmp_path):
    pose = Sensor(log="imu.mcap", channel="/imu", kind="attitude", fields=("q.x", "q.y", "q.z", "q.v"))
    imu = table("imu.mcap", "/imu", [0], q__x=[0.0], q__y=[0.0], q__z=[0.0], q__w=[1.0])
    with pytest.raises(MissingChannel, match=r"no fields q\.v; the nearest there is 'q\.[w-z]'"):
        run(tmp_path, [signal("a", [0]), imu], Rig(reference="a", sensors={"a": value("a"), "pose": pose}))


def test_an_interval_exact_payload_is_held_by_one_tick_only(tmp_path):
    camera = Sensor(log="c.mcap", channel="/c", kind="payload", tolerance_ms=200)
    sensors = {"a": value("a"), "near": camera, "exact": camera.model_copy(update={"interval_exact": True})}
    tables = [signal("a", [100, 200, 300, 400]), pictures("c.mcap", "/c", [90 * MS, 210 * MS, 390 * MS])]
    report, frames = run(tmp_path, tables, Rig(reference="a", sensors=sensors))
    assert frames["near_chunk"].to_pylist() == [0, 1, 1, 2]
    assert frames["exact_chunk"].to_pylist() == [0, None, 1, 2]
    assert frames["exact_reason"].to_pylist() == [None, "too old", None, None]
    assert (report.sensors["near"].reused, report.sensors["exact"].reused) == (1, 0)


def test_a_gap_longer_than_declared_is_not_interpolated(tmp_path):
    tables = [signal("a", [0, 10, 50, 90]), signal("b", [0, 20, 80, 100])]
    report, frames = run(tmp_path, tables, two(rule="linear", max_gap_ms=30))
    assert frames["b_reason"].to_pylist() == [None, None, "gap", None]
    assert report.sensors["b"].unmatched.gap == 1


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_the_samples_are_the_counts_add_up_and_stamps_are_exact(tmp_path_factory, data):
    stamps = st.lists(st.integers(0, 400), min_size=1, max_size=40)
    ticks, times = data.draw(stamps), data.draw(stamps)
    x = data.draw(st.lists(st.one_of(st.none(), st.floats(width=32)), min_size=len(times), max_size=len(times)))
    rule = data.draw(st.sampled_from(["nearest", "previous", "next", "linear", "mean", "min", "last"]))
    sensor = value("b", rule=rule, required=False, tolerance_ms=data.draw(st.sampled_from([0.5, 20, 1000])), stale_ms=50)
    rig = Rig(reference="a", sensors={"a": value("a"), "b": sensor})
    _, frames = run(tmp_path_factory.mktemp("any"), [signal("a", ticks), signal("b", times, x)], rig)
    for row in frames.to_pylist():
        if row["b"] is not None:
            assert row["t_ns"] - row["b_native_ns"] == row["b_age_ns"]
            assert (row["b_native_ns"] - EPOCH_NS) // MS in times


# ego motion


def test_ego_motion_stands_beside_the_sensors_and_says_what_it_is_made_from(tmp_path):
    rig = Rig(
        reference="a",
        sensors={"a": value("a"), "speed": value("b", unit="m/s"), "yaw": value("c", unit="rad/s")},
        poses=Poses(speed="speed", yaw_rate="yaw", horizons_s=(1.0,)),
    )
    tables = [signal("a", HALF), signal("b", HALF, [10] * 200), signal("c", HALF, [0] * 200)]
    report, frames = run(tmp_path, tables, rig)
    assert (report.ego.method, report.frames) == ("dead reckoning", 200)
    assert frames["ego_x_m_1s"].to_pylist()[50] == pytest.approx(10.0, abs=0.01)
    assert frames["ego_x_m_1s"].to_pylist()[-1] is None


# recorded


@pytest.fixture(scope="module")
def trouble(shared_data, tmp_path_factory):
    """time_trouble.mf4 as a drive's signals folder."""
    folder = tmp_path_factory.mktemp("trouble")
    written = write_tables("time_trouble.mf4", shared_data / "corner_derived" / "mdf" / "time_trouble.mf4", folder)
    (folder / "index.json").write_text(json.dumps({"tables": written["tables"]}))
    return folder


def test_recorded_time_trouble_is_counted_named_and_lined_up(trouble, tmp_path):
    channels = ("backward_jump", "repeated_stamps", "nan_inf", "no_samples", "one_hour_gap")
    sensors = {c: Sensor(log="time_trouble.mf4", channel=c, rule="linear", tolerance_ms=50, required=False) for c in channels}
    rig = Rig(reference="repeated_stamps", sensors=sensors)
    report = synchronise(trouble, rig, tmp_path)
    frames = pq.read_table(tmp_path / "frames.parquet")
    found = report.sensors
    assert (report.excluded, report.frames, report.reference.duplicated_stamps) == (None, 3309, 4)
    assert found["backward_jump"].backward_stamps == 1
    assert (found["nan_inf"].invalid, found["nan_inf"].samples) == (21, 3292)
    assert (found["no_samples"].rows, found["no_samples"].unmatched.no_samples) == (0, 3309)
    said = " ".join(report.notes)
    for words in (
        "The reference 'repeated_stamps' has 4 samples whose stamp another has too",
        "Sensor 'backward_jump' goes back in time once, from one row to the next",
        "Sensor 'nan_inf' has 21 rows without a usable value",
        "Sensor 'no_samples' has no samples in 0 rows",
    ):
        assert words in said
    stamps = np.array(frames["t_ns"].to_pylist())
    assert (np.diff(stamps) > 0).all()
    assert np.isfinite(frames["nan_inf"].drop_null().to_numpy()).all()


def test_recorded_gap_of_an_hour_is_no_interpolation_and_a_stop_of_the_reference(trouble, tmp_path):
    sensors = {
        "gap": Sensor(log="time_trouble.mf4", channel="one_hour_gap", rule="linear", max_gap_ms=1000),
        "nan_inf": Sensor(log="time_trouble.mf4", channel="nan_inf", rule="linear"),
    }
    report = synchronise(trouble, Rig(reference="nan_inf", sensors=sensors), tmp_path / "a")
    after = report.sensors["gap"].unmatched
    assert after.gap + after.too_old > 1000
    stopped = synchronise(trouble, Rig(reference="gap", sensors=sensors), tmp_path / "b")
    assert (stopped.reference.gaps, round(stopped.reference.longest_step_ms / 1000)) == (1, 3600)
    assert stopped.notes[0].startswith("The reference 'gap' stops once, for up to 3600.0")
