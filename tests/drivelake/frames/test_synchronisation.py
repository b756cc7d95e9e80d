"""From a signals folder to frames. Belongs here: whole runs over small folders that the tests write themselves.

Never here: the laws of matching and of clocks, which stand beside theirs.
"""

import json
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drivelake.errors import DeclarationError, InputError, MissingChannel
from drivelake.frames import SyncReport, synchronise
from drivelake.frames import parts as parts_module
from drivelake.rig import Alignment, Clock, Rig, Sensor
from tests.drivelake.frames.making import EPOCH_NS, MS, pictures, table, write_signals

CAMERA = Sensor(log="camera*.mcap", channel="/camera", kind="payload")
SPEED = Sensor(log="can.mf4", channel="Wheel.speed", rule="nearest", tolerance_ms=30, unit="m/s")


def rig(clocks=None, reference="camera", **sensors):
    return Rig(reference=reference, clocks=clocks or {}, sensors={"camera": CAMERA, **sensors})


def camera(t_ms=(0, 100, 200), **columns):
    return pictures("camera.mcap", "/camera", [t * MS for t in t_ms], **columns)


def wheel(t_ms=(0, 90, 260), speed=(1.0, 2.0, 3.0)):
    return table("can.mf4", "Wheel", [t * MS for t in t_ms], speed=list(speed))


def run(tmp_path, tables, declared, quarantined=()):
    """Synchronise and read the result back."""
    out = tmp_path / "out"
    report = synchronise(write_signals(tmp_path / "signals", tables, quarantined), declared, out)
    assert sorted(p.name for p in out.iterdir()) == ["frames.parquet", "sync.json"]
    assert SyncReport.model_validate_json((out / "sync.json").read_bytes()) == report
    return report, pq.read_table(out / "frames.parquet")


def test_a_frame_says_which_sample_it_holds_and_how_old_it_is(tmp_path):
    report, frames = run(tmp_path, [camera(), wheel()], rig(speed=SPEED))
    assert frames.to_pydict() == {
        "frame": [0, 1, 2],
        "t_ns": [EPOCH_NS, EPOCH_NS + 100 * MS, EPOCH_NS + 200 * MS],
        "camera_log": ["camera.mcap"] * 3,
        "camera_chunk": [0, 1, 2],
        "camera_offset": [100, 101, 102],
        "camera_bytes": [7, 7, 7],
        "camera_native_ns": [EPOCH_NS, EPOCH_NS + 100 * MS, EPOCH_NS + 200 * MS],
        "camera_age_ns": [0, 0, 0],
        "camera_reason": [None, None, None],
        "speed": [1.0, 2.0, None],
        "speed_native_ns": [EPOCH_NS, EPOCH_NS + 90 * MS, None],
        "speed_age_ns": [0, 10 * MS, None],
        "speed_reason": [None, None, "too old"],
        "sync_residual_ms_p99": [None, None, None],
        "sync_sigma_ms_max": [None, None, None],
        "sync_matched_share": [0.666667] * 3,
    }
    speed = report.sensors["speed"]
    assert (speed.matched, speed.unmatched.too_old, speed.unused, speed.unit_found) == (2, 1, 1, "m/s")
    assert (report.frames, report.excluded, report.clocks["reference"].method) == (3, None, "same")
    assert frames.schema.field("speed").metadata == {b"unit": b"m/s"}


def test_the_counts_of_every_sensor_add_up(tmp_path):
    report, _ = run(tmp_path, [camera((0, 100, 100, 50)), wheel(speed=(1.0, None, float("nan")))], rig(speed=SPEED))
    for sensor in report.sensors.values():
        assert sensor.matched + sensor.unmatched.total == report.frames
        assert sensor.rows == sensor.samples + sensor.without_stamp + sensor.invalid + sensor.duplicated_stamps


def test_duplicated_and_backward_ticks_are_counted_and_sorted(tmp_path):
    report, frames = run(tmp_path, [camera((0, 200, 100, 200)), wheel()], rig(speed=SPEED))
    assert [t - EPOCH_NS for t in frames["t_ns"].to_pylist()] == [0, 100 * MS, 200 * MS]
    assert (report.reference.duplicated_stamps, report.reference.backward_stamps, report.frames) == (1, 1, 3)
    assert frames["camera_chunk"].to_pylist() == [0, 2, 3]


def test_nan_infinite_and_null_samples_are_no_samples(tmp_path):
    values = (1.0, float("nan"), float("inf"), None, 5.0)
    report, frames = run(tmp_path, [camera(), wheel((0, 100, 101, 102, 120), values)], rig(speed=SPEED))
    assert frames["speed"].to_pylist() == [1.0, 5.0, None]
    assert (report.sensors["speed"].invalid, report.sensors["speed"].samples) == (3, 2)


def test_the_written_order_of_a_channel_does_not_change_the_frames(tmp_path):
    rng = np.random.default_rng(0)
    t_ms, speed = np.arange(0, 2000, 7), rng.normal(size=286)
    tables = [camera(range(0, 2000, 33)), wheel(t_ms.tolist(), speed.tolist())]
    order = rng.permutation(286)
    shuffled = [tables[0], wheel(t_ms[order].tolist(), speed[order].tolist())]
    declared = rig(speed=SPEED.model_copy(update={"rule": "linear"}))
    run(tmp_path / "a", tables, declared)
    run(tmp_path / "b", shuffled, declared)
    assert (tmp_path / "a/out/frames.parquet").read_bytes() == (tmp_path / "b/out/frames.parquet").read_bytes()


def test_the_same_input_gives_the_same_bytes_again_and_over_old_files(tmp_path):
    tables = [camera(), wheel()]
    run(tmp_path / "a", tables, rig(speed=SPEED))
    first = {p.name: p.read_bytes() for p in (tmp_path / "a/out").iterdir()}
    run(tmp_path / "a", tables, rig(speed=SPEED))
    run(tmp_path / "b", tables, rig(speed=SPEED))
    for folder in ("a", "b"):
        assert {p.name: p.read_bytes() for p in (tmp_path / folder / "out").iterdir()} == first


def test_row_groups_hold_the_same_rows_as_one(tmp_path, monkeypatch):
    tables = [camera(range(0, 1000, 10)), wheel(range(0, 1000, 7), np.arange(143.0).tolist())]
    _, whole = run(tmp_path / "a", tables, rig(speed=SPEED))
    monkeypatch.setattr(parts_module, "ROW_GROUP_ROWS", 16)
    # columns wait in files from the third group on
    monkeypatch.setattr(parts_module, "HELD_BYTES", 2000)
    _, parts = run(tmp_path / "b", tables, rig(speed=SPEED))
    assert pq.ParquetFile(tmp_path / "b/out/frames.parquet").num_row_groups == 7
    assert parts.equals(whole)


def test_several_logs_of_one_glob_are_one_sensor(tmp_path):
    second = pictures("camera_2.mcap", "/camera", [300 * MS, 400 * MS])
    report, frames = run(tmp_path, [second, camera()], rig())
    assert frames["camera_log"].to_pylist() == ["camera.mcap"] * 3 + ["camera_2.mcap"] * 2
    assert [s.log for s in report.sensors["camera"].sources] == ["camera.mcap", "camera_2.mcap"]


def test_the_declared_stamp_counts_and_rows_without_it_are_no_samples(tmp_path):
    sensor_ns = pa.array([EPOCH_NS - 5, None, 0], type=pa.int64())
    declared = Rig(reference="camera", sensors={"camera": CAMERA.model_copy(update={"stamp": "sensor"})})
    report, frames = run(tmp_path, [camera(sensor_ns=sensor_ns)], declared)
    assert frames["t_ns"].to_pylist() == [EPOCH_NS - 5]
    assert report.sensors["camera"].without_stamp == 2


def test_a_row_without_stamp_and_without_value_is_counted_once(tmp_path):
    sensor_ns = pa.array([EPOCH_NS, None, EPOCH_NS + 1], type=pa.int64())
    tables = [camera(), table("can.mf4", "Wheel", [0, 1, 2], speed=[1.0, None, None], sensor_ns=sensor_ns)]
    report, _ = run(tmp_path, tables, rig(speed=SPEED.model_copy(update={"stamp": "sensor"})))
    speed = report.sensors["speed"]
    assert (speed.rows, speed.samples, speed.without_stamp, speed.invalid) == (3, 1, 1, 1)


def test_a_declared_clock_offset_moves_the_samples(tmp_path):
    report, frames = run(
        tmp_path,
        [camera(), wheel((1000, 1100, 1200))],
        rig(clocks={"can": Clock(offset_ns=-1000 * MS)}, speed=SPEED.model_copy(update={"clock": "can"})),
    )
    assert frames["speed_age_ns"].to_pylist() == [0, 0, 0]
    assert report.clocks["can"].method == "declared"


@pytest.mark.parametrize(
    ("sensor", "column"),
    [
        ({"channel": "speed"}, "speed"),
        ({"channel": "Wheel.speed"}, "speed"),
        ({"log": "imu.mcap", "channel": "/imu", "field": "angular_velocity.z"}, "angular_velocity.z"),
    ],
)
def test_a_channel_is_found_by_name_by_message_and_signal_or_by_topic_and_field(tmp_path, sensor, column):
    imu = table("imu.mcap", "/imu", [0], angular_velocity__z=[0.5])
    report, _ = run(tmp_path, [camera(), wheel(), imu], rig(value=SPEED.model_copy(update=sensor)))
    assert report.sensors["value"].sources[0].column == column


@pytest.mark.parametrize(
    ("sensor", "nearest"),
    [
        ({"channel": "Wheel.sped"}, "'Wheel.speed'"),
        ({"channel": "SPEED"}, "'speed'"),
        ({"log": "imu.mcap", "channel": "/imu", "field": "angular_velocity.y"}, "'angular_velocity.z'"),
        ({"log": "imu.mcap", "channel": "/imuu", "field": "angular_velocity.z"}, "'/imu'"),
        ({"log": "imu.mcap", "channel": "/imu"}, "without a field"),
    ],
)
def test_a_missing_channel_names_the_nearest(tmp_path, sensor, nearest):
    imu = table("imu.mcap", "/imu", [0], angular_velocity__z=[0.5])
    with pytest.raises(MissingChannel, match=nearest):
        run(tmp_path, [camera(), wheel(), imu], rig(value=SPEED.model_copy(update=sensor)))


def test_a_sensor_that_is_not_required_gives_a_null_column_and_the_reason(tmp_path):
    optional = SPEED.model_copy(update={"channel": "Wheel.sped", "required": False})
    report, frames = run(tmp_path, [camera(), wheel()], rig(speed=optional))
    assert frames["speed"].to_pylist() == frames["speed_age_ns"].to_pylist() == [None] * 3
    assert "'Wheel.speed'" in report.sensors["speed"].missing
    assert report.sensors["speed"].unmatched.no_samples == 3


@pytest.mark.parametrize(
    ("tables", "quarantined", "reason"),
    [
        ([camera(()), wheel()], (), "reference sensor 'camera' has no samples"),
        ([wheel()], [("camera.mcap", "chunk 3 fails its CRC")], "chunk 3 fails its CRC"),
        ([wheel()], (), "no log with signals matches 'camera\\*.mcap'"),
        ([camera()], [("can.mf4", "cut at byte 64")], "cut at byte 64"),
        ([camera()], (), "no log with signals matches 'can.mf4'"),
        ([camera(), wheel(speed=(float("nan"), float("nan"), float("nan")))], (), "'speed' has no samples .3 rows"),
    ],
)
def test_a_drive_without_a_required_sensor_is_left_out_with_the_reason(tmp_path, tables, quarantined, reason):
    report, frames = run(tmp_path, tables, rig(speed=SPEED), quarantined)
    assert re.search(reason, report.excluded)
    assert json.loads((tmp_path / "out/sync.json").read_text())["excluded"] == report.excluded
    assert (frames.num_rows, report.frames) == (0, 0)
    _, full = run(tmp_path / "full", [camera(), wheel()], rig(speed=SPEED))
    assert frames.schema.equals(full.schema, check_metadata=True)


def test_a_quarantined_part_of_a_sensor_is_named_and_the_rest_is_used(tmp_path):
    report, frames = run(tmp_path, [camera()], rig(), [("camera_2.mcap", "torn")])
    assert frames.num_rows == 3
    assert report.sensors["camera"].quarantined_logs == ("camera_2.mcap",)


def test_text_cannot_be_a_value(tmp_path):
    with pytest.raises(InputError, match="'gear' is string, expected a number"):
        run(
            tmp_path, [camera(), table("can.mf4", "Box", [0], gear=["D"])], rig(gear=SPEED.model_copy(update={"channel": "gear"}))
        )


def test_flags_and_integers_are_values(tmp_path):
    tables = [camera((0,)), table("can.mf4", "Box", [0], brake=[True], gear=pa.array([3], type=pa.uint8()))]
    sensors = {name: SPEED.model_copy(update={"channel": name}) for name in ("brake", "gear")}
    _, frames = run(tmp_path, tables, rig(**sensors))
    assert (frames["brake"].to_pylist(), frames["gear"].to_pylist()) == ([1.0], [3.0])


def test_a_channel_that_stands_twice_in_one_log_must_be_named_with_its_group(tmp_path):
    tables = [camera(), wheel(), table("can.mf4", "Other", [0], speed=[9.0])]
    with pytest.raises(InputError, match=r"2 times in can.mf4: Wheel.speed, Other.speed"):
        run(tmp_path, tables, rig(speed=SPEED.model_copy(update={"channel": "speed"})))
    _, frames = run(tmp_path, tables, rig(speed=SPEED.model_copy(update={"channel": "Other.speed"})))
    assert frames["speed"].to_pylist()[0] == 9.0


def test_a_value_topic_cannot_be_a_payload_and_a_stamp_must_exist(tmp_path):
    with pytest.raises(InputError, match="holds no payload"):
        run(tmp_path / "a", [camera(), wheel()], rig(other=Sensor(log="can.mf4", channel="Wheel", kind="payload")))
    with pytest.raises(InputError, match="no publish stamp, only: receive"):
        run(tmp_path / "b", [camera(), wheel()], rig(speed=SPEED.model_copy(update={"stamp": "publish"})))


def test_signals_that_are_damaged_are_an_input_error(tmp_path):
    with pytest.raises(InputError, match=r"There is no index\.json"):
        synchronise(tmp_path, rig(), tmp_path / "out")
    signals = write_signals(tmp_path / "signals", [camera()])
    (signals / "camera.mcap/0.parquet").write_bytes(b"PAR1")
    with pytest.raises(InputError, match=r"camera.mcap/0.parquet cannot be read"):
        synchronise(signals, rig(), tmp_path / "out")
    (signals / "index.json").write_text("{}")
    with pytest.raises(InputError, match="tables"):
        synchronise(signals, rig(), tmp_path / "out")


def test_two_sensors_cannot_share_a_column(tmp_path):
    with pytest.raises(DeclarationError, match="camera_log"):
        run(tmp_path, [camera(), wheel()], rig(camera_log=SPEED))


def aligned_drive(offset_s):
    """Camera, a reference yaw rate and one on a clock that is behind by ``offset_s``; and its rig."""
    rng = np.random.default_rng(3)
    t_s = np.arange(0, 40, 0.02)
    spectrum = np.fft.rfft(rng.standard_normal(t_s.size)) / (1 + np.fft.rfftfreq(t_s.size, 0.02) ** 4)
    yaw = np.fft.irfft(spectrum, t_s.size)
    t_ns = np.round(t_s * 1e9).astype(np.int64)
    tables = [
        camera(range(1000, 39000, 50)),
        table("can.mf4", "Esp", t_ns.tolist(), yaw=yaw.tolist()),
        table("imu.mcap", "/imu", (t_ns - round(offset_s * 1e9)).tolist(), yaw=yaw.tolist()),
    ]
    sensors = {
        "yaw": Sensor(log="can.mf4", channel="Esp.yaw", rule="linear"),
        "gyro": Sensor(log="imu.mcap", channel="/imu", field="yaw", clock="imu", rule="linear"),
    }
    return tables, rig(clocks={"imu": Clock(align=Alignment(own="gyro", reference="yaw"))}, **sensors)


def test_an_estimated_clock_lines_the_sensors_up(tmp_path):
    report, frames = run(tmp_path, *aligned_drive(0.31))
    model = report.clocks["imu"]
    assert (model.method, model.segments[0].offset_ns) == ("estimated", pytest.approx(310 * MS, abs=MS))
    assert report.quality.residual_ms_p99 == model.worst("residual_p99_ms")
    assert set(frames["sync_sigma_ms_max"].to_pylist()) == {model.sigma_ms}
    gyro, yaw = (np.array(frames[name].to_pylist(), dtype=float) for name in ("gyro", "yaw"))
    assert np.nanmax(np.abs(gyro - yaw)) < 0.02 * np.nanstd(yaw)


def test_a_clock_whose_sensor_is_missing_is_not_observable(tmp_path):
    tables, declared = aligned_drive(0.1)
    optional = declared.sensors["gyro"].model_copy(update={"required": False})
    report, _ = run(tmp_path, tables[:2], rig(clocks=declared.clocks, yaw=declared.sensors["yaw"], gyro=optional))
    assert report.clocks["imu"].method == "not observable"
    assert report.clocks["imu"].reason.startswith("NOT OBSERVABLE")
    assert "sensor 'gyro'" in report.clocks["imu"].reason
    assert report.quality.residual_ms_p99 is None
