import json
import time
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import simplejpeg
from mcap.exceptions import EndOfFile, McapError
from mcap.reader import make_reader
from mcap.stream_reader import StreamReader
from mcap_ros2.decoder import DecoderFactory

from drivelake.demo import generate_drives
from drivelake.demo.camera_log import ORIGINS
from drivelake.errors import InputError

SIGNALS = {
    "Steering.SteeringAngle": ("steering_rad", np.degrees(1.0), 0.02),
    "Wheels.WheelSpeed": ("speed_mps", 3.6, 0.05),
    "Dynamics.YawRate": ("yaw_rate_radps", np.degrees(1.0), 0.08),
}


class World:
    """Six generated drives of 4 s, and the truth about them."""

    def __init__(self, root):
        self.folder, self.truth_folder = root / "inbox", root / "truth"
        self.drives = {path.name: path for path in generate_drives(self.folder, drives=6, seconds=4.0)}

    def truth(self, drive):
        return json.loads((self.truth_folder / f"{drive}.json").read_text())

    def trajectory(self, drive):
        return {name: column.to_numpy() for name, column in zip(*self._columns(drive), strict=True)}

    def _columns(self, drive):
        table = pq.read_table(self.truth_folder / f"{drive}.parquet")
        return table.column_names, table.columns

    def messages(self, drive):
        """Topic -> list of (message record, decoded message)."""
        found = {}
        with (self.drives[drive] / "camera.mcap").open("rb") as stream:
            reader = make_reader(stream, validate_crcs=True, decoder_factories=[DecoderFactory()])
            for _, channel, message, decoded in reader.iter_decoded_messages():
                found.setdefault(channel.topic, []).append((message, decoded))
        return found


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


def bus_signals(folder):
    """``Message.Signal`` -> (native ns, physical values), decoded by the format's reference readers."""
    from asammdf import MDF

    with MDF(folder / "can.mf4") as log:
        start_ns = log.header.abs_time
        databases = sorted(folder.glob("*.dbc"))
        if not databases:
            channels = [(name, log.get(name.split(".")[1])) for name in (*SIGNALS, "Brake.BrakePressure")]
            return {name: (start_ns + np.round(c.timestamps * 1e9).astype(np.int64), c.samples) for name, c in channels}
        frames = log.get("CAN_DataFrame")
    return frames_decoded(frames, start_ns, databases[0])


def frames_decoded(frames, start_ns, database):
    import cantools

    known, found = cantools.database.load_file(database), {}
    for second, frame in zip(frames.timestamps, frames.samples, strict=True):
        message = known.get_message_by_frame_id(int(frame["CAN_DataFrame.ID"]))
        for name, value in message.decode(frame["CAN_DataFrame.DataBytes"].tobytes()).items():
            found.setdefault(f"{message.name}.{name}", []).append((start_ns + round(second * 1e9), value))
    return {name: (np.array([t for t, _ in rows]), np.array([v for _, v in rows])) for name, rows in found.items()}


def as_reference(native_ns, clock):
    """The law that the truth states."""
    drifted = np.round(clock["drift_ppm"] * 1e-6 * (native_ns - clock["native_zero_ns"])).astype(np.int64)
    return native_ns + clock["offset_ns"] + drifted


def contents(folder):
    return {str(f.relative_to(folder)): f.read_bytes() for f in sorted(folder.rglob("*")) if f.is_file()}


def test_the_same_seed_gives_the_same_bytes_at_another_time(tmp_path):
    generate_drives(tmp_path / "one" / "inbox", drives=2, seconds=2.0)
    time.sleep(1.1)  # the coarsest clock that a file format here writes counts seconds
    generate_drives(tmp_path / "two" / "inbox", drives=2, seconds=2.0)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


def test_another_seed_gives_other_logs(tmp_path):
    for seed in (7, 8):
        generate_drives(tmp_path / str(seed), seed=seed, drives=1, seconds=2.0, truth_folder=tmp_path / f"truth{seed}")
    one, two = contents(tmp_path / "7"), contents(tmp_path / "8")
    assert one.keys() == two.keys()
    assert all(one[name] != two[name] for name in one if name.endswith((".mcap", ".mf4")))


def test_more_drives_leave_the_earlier_ones_alone(tmp_path):
    inbox = tmp_path / "inbox"
    generate_drives(inbox, drives=1, seconds=2.0)
    before = {file: file.stat().st_mtime_ns for file in inbox.rglob("*")}
    assert [path.name for path in generate_drives(inbox, drives=2, seconds=2.0)] == ["signals_01", "bus_02"]
    assert before == {file: file.stat().st_mtime_ns for file in before}


def test_a_drive_made_otherwise_is_not_overwritten(tmp_path):
    inbox = tmp_path / "inbox"
    generate_drives(inbox, drives=1, seconds=2.0)
    before = contents(tmp_path)
    with pytest.raises(InputError, match="signals_01 is there already"):
        generate_drives(inbox, seed=8, drives=1, seconds=2.0)
    assert contents(tmp_path) == before
    (tmp_path / "truth" / "signals_01.json").unlink()
    with pytest.raises(InputError, match="something unknown"):
        generate_drives(inbox, drives=1, seconds=2.0)


def test_what_an_interrupted_run_left_does_not_reach_a_drive(tmp_path):
    left = tmp_path / "inbox" / ".signals_01.partial"
    left.mkdir(parents=True)
    (left / "half.mcap").write_bytes(b"half")
    (drive,) = generate_drives(tmp_path / "inbox", drives=1, seconds=2.0)
    assert sorted(file.name for file in drive.iterdir()) == ["camera.mcap", "can.mf4", "drive.yaml"]
    assert list((tmp_path / "inbox").iterdir()) == [drive]


@pytest.mark.parametrize("wrong", [{"drives": 0}, {"drives": 100}, {"seconds": 1.0}, {"seconds": 4000.0}, {"seed": -1}])
def test_numbers_out_of_range_are_refused_before_anything_is_written(tmp_path, wrong):
    with pytest.raises(InputError, match="expected 1 to 99 drives"):
        generate_drives(tmp_path / "inbox", **wrong)
    assert list(tmp_path.iterdir()) == []


def test_the_truth_names_the_bytes_that_were_written(world):
    import hashlib

    for name, folder in world.drives.items():
        written = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()}
        assert written == world.truth(name)["files"]


def test_the_trajectory_is_a_kinematic_bicycle(world):
    t = world.trajectory("signals_01")
    wheelbase_m = world.truth("signals_01")["vehicle"]["wheelbase_m"]
    np.testing.assert_allclose(t["yaw_rate_radps"], t["speed_mps"] * np.tan(t["steering_rad"]) / wheelbase_m, atol=1e-12)
    dt = np.diff(t["t_ns"])[:, None] / 1e9
    moved = np.stack([np.diff(t["x_m"]), np.diff(t["y_m"])], axis=1) / dt
    middle = {name: (t[name][1:] + t[name][:-1]) / 2 for name in ("yaw_rad", "speed_mps")}
    expected = middle["speed_mps"][:, None] * np.stack([np.cos(middle["yaw_rad"]), np.sin(middle["yaw_rad"])], axis=1)
    np.testing.assert_allclose(moved, expected, atol=1e-4)
    assert np.abs(t["lateral_error_m"]).max() < 1.0


def test_steering_goes_both_ways(world):
    steering = np.concatenate([world.trajectory(name)["steering_rad"] for name in world.drives])
    assert (steering > 0.02).mean() > 0.1
    assert (steering < -0.02).mean() > 0.1


@pytest.mark.parametrize("drive", ["signals_01", "bus_02", "signals_06"])
def test_bus_signals_are_the_trajectory_once_their_clock_is_mapped(world, drive):
    truth, trajectory = world.truth(drive), world.trajectory(drive)
    start_ns = trajectory["t_ns"][0]
    for name, (native_ns, values) in bus_signals(world.drives[drive]).items():
        if name not in SIGNALS:
            continue
        column, factor, noise = SIGNALS[name]
        for moved, expected_rms in ((as_reference(native_ns, truth["clock"]), 1.3 * noise), (native_ns, None)):
            there = np.interp((moved - start_ns) / 1e9, (trajectory["t_ns"] - start_ns) / 1e9, trajectory[column] * factor)
            rms = np.sqrt(np.mean((values - there) ** 2))
            # unmapped stamps must be visibly wrong, else this test would show nothing about the clock
            assert rms < expected_rms if expected_rms else rms > 1.3 * noise


def test_the_clocks_differ_within_their_bounds(world):
    clocks = [world.truth(name)["clock"] for name in world.drives]
    assert all(abs(c["offset_ns"]) <= 400_000_000 and abs(c["drift_ppm"]) <= 60 for c in clocks)
    assert len({c["offset_ns"] for c in clocks}) == len(clocks)


@pytest.mark.parametrize("drive", ["signals_01", "bus_02", "signals_06"])
def test_dropped_counts_are_what_the_logs_lack(world, drive):
    counts = world.truth(drive)["channels"]
    for name, (native_ns, _) in bus_signals(world.drives[drive]).items():
        assert counts["can.mf4"][name]["recorded"] == len(native_ns)
    rates = {"/camera/front/image/compressed": 20, "/imu/data": 100, "/gnss/fix": 10, "/odometry": 50}
    messages = world.messages(drive)
    assert messages.keys() == rates.keys()
    for topic, count in counts["camera.mcap"].items():
        sequence = [message.sequence for message, _ in messages[topic]]
        assert count["recorded"] == len(sequence) == count["sent"] - count["dropped"]
        assert set(sequence) <= set(range(count["sent"]))
        assert count["sent"] == rates[topic] * 4
    assert sum(c["dropped"] for log in counts.values() for c in log.values()) > 0


def test_the_sixth_drive_hears_nothing_in_its_gap(world):
    truth = world.truth("signals_06")
    gap = truth["gap"]
    assert gap["to_s"] - gap["from_s"] == pytest.approx(0.8)
    for native_ns, _ in bus_signals(world.drives["signals_06"]).values():
        t_s = (as_reference(native_ns, truth["clock"]) - truth["start_ns"]) / 1e9
        longest, end = max((b - a, b) for a, b in pairwise(t_s))
        assert longest > 0.78
        assert end == pytest.approx(gap["to_s"], abs=0.1)
    assert all(world.truth(name)["gap"] is None for name in world.drives if name != "signals_06")


def test_the_fourth_drive_ends_early_and_has_no_index(world):
    truth, log = world.truth("signals_04"), world.drives["signals_04"] / "camera.mcap"
    damage = truth["damage"]
    assert log.stat().st_size == damage["bytes_kept"] == int(0.6 * damage["bytes_before"])
    with log.open("rb") as stream, pytest.raises((EndOfFile, McapError)):
        make_reader(stream).get_summary()
    with log.open("rb") as stream, pytest.raises(EndOfFile):
        list(StreamReader(stream).records)
    assert all(world.truth(name)["damage"] is None for name in world.drives if name != "signals_04")


def test_messages_decode_with_the_schemas_in_the_log_and_agree_with_the_truth(world):
    messages, t = world.messages("bus_05"), world.trajectory("bus_05")
    start_ns = t["t_ns"][0]

    def error_of(topic, field, column):
        rows = [(m.header.stamp.sec * 10**9 + m.header.stamp.nanosec - start_ns, field(m)) for _, m in messages[topic]]
        stamps, values = np.array(rows, np.float64).T
        return values - np.interp(stamps, t["t_ns"] - start_ns, t[column])

    gyro = error_of("/imu/data", lambda m: m.angular_velocity.z, "yaw_rate_radps")
    assert gyro.mean() == pytest.approx(0.001, abs=4e-4)
    assert gyro.std() == pytest.approx(0.002, rel=0.2)
    speed = error_of("/odometry", lambda m: m.twist.twist.linear.x, "speed_mps")
    assert np.abs(speed.mean()) < 0.01
    assert np.abs(error_of("/odometry", lambda m: m.pose.pose.position.x, "x_m")).max() < 1e-3
    assert {m.child_frame_id for _, m in messages["/odometry"]} == {"base_link"}
    fix = messages["/gnss/fix"][0][1]
    origin = ORIGINS[world.truth("bus_05")["tags"]["market"]]
    assert (fix.latitude, fix.longitude) == pytest.approx(origin[:2], abs=1e-3)
    assert fix.status.service == 1
    assert fix.position_covariance_type == 2
    assert fix.position_covariance[8] == 1.0


def test_stamps_of_a_message_are_ordered(world):
    for topic, rows in world.messages("signals_01").items():
        received = [message.log_time for message, _ in rows]
        assert received == sorted(received), topic
        for message, decoded in rows:
            taken = decoded.header.stamp.sec * 10**9 + decoded.header.stamp.nanosec
            assert taken < message.publish_time < message.log_time


def test_pictures_decode_at_the_declared_size_and_show_where_the_road_turns(world):
    truth, t = world.truth("signals_01"), world.trajectory("signals_01")
    camera = truth["camera"]
    right_edge, steering = [], []
    for _, decoded in world.messages("signals_01")["/camera/front/image/compressed"]:
        assert (decoded.format, decoded.header.frame_id) == ("jpeg", "camera_front")
        picture = simplejpeg.decode_jpeg(bytes(decoded.data))
        assert picture.shape == (camera["height"], camera["width"], 3)
        ahead = picture[68:74].astype(np.float64)  # 7 m ahead of the rear axle, where the driver looked just before
        road = np.ptp(ahead, axis=2) < 0.15 * ahead.max(axis=2)  # asphalt and paint are grey, what lies beside is not
        right_edge.append(np.where(road, np.arange(camera["width"]), 0).max(axis=1).mean())
        stamp = decoded.header.stamp.sec * 10**9 + decoded.header.stamp.nanosec
        steering.append(np.interp(stamp - t["t_ns"][0], t["t_ns"] - t["t_ns"][0], t["steering_rad"]))
    # positive steering is to the left, where columns are small
    assert np.corrcoef(right_edge, steering)[0, 1] < -0.75


def test_a_slow_import_is_not_paid_before_the_first_drive():
    import subprocess
    import sys

    code = "import sys, drivelake.demo; sys.exit(any(m in sys.modules for m in ('asammdf', 'pyarrow', 'numpy')))"
    root = Path(__file__).parents[3]
    assert subprocess.run([sys.executable, "-c", code], cwd=root, check=False).returncode == 0
