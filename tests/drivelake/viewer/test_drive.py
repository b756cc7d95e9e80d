"""A drive of the generated lake as a file for a viewer: what it holds, and on which clock."""

import io
import json
from collections import Counter

import numpy as np
import pyarrow.parquet as pq
import pytest
from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory
from PIL import Image

from drivelake.errors import DeclarationError, InputError, NotFound, ToolMissing
from drivelake.frames.report import SyncReport
from drivelake.logs import inspect_log
from drivelake.viewer import drive, files, look

DRIVE = "signals_01"
NS_PER_S = 1_000_000_000


@pytest.fixture(scope="module")
def shown(posed, tmp_path_factory):
    """The whole drive as MCAP, and what was told of it."""
    out = tmp_path_factory.mktemp("look") / "drive.mcap"
    return out, look(posed, DRIVE, out)


@pytest.fixture(scope="module")
def sync(posed):
    return SyncReport.model_validate_json(posed.head("sensor_frames", DRIVE).path("sync.json").read_bytes())


def messages(path, **wanted):
    """(schema, channel, message) of each, checksums verified."""
    with path.open("rb") as file:
        yield from make_reader(file, validate_crcs=True).iter_messages(**wanted)


def decoded(path, topic):
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
        yield from (found.decoded_message for found in reader.iter_decoded_messages(topics=[topic]))


def counts(path):
    return Counter(channel.topic for _, channel, _ in messages(path))


def topic(sensor):
    return f"/{'sensors' if sensor.kind == 'payload' else 'signals'}/{sensor.sensor}"


def table_of(lake, sensor):
    """Declaration and table of a sensor: of a topic, or of an MDF channel by its name."""
    frames = lake.head("sensor_frames", DRIVE)
    rig = frames.manifest.parameters["sensors"][sensor]
    signals = lake.version(next(i for i in frames.manifest.inputs if i.asset == "signals"))
    tables = [t for t in json.loads(signals.path("index.json").read_bytes())["tables"] if t["log"] == rig["log"]]
    (entry,) = [t for t in tables if rig["channel"] in {t["channel"], *(column["name"] for column in t["columns"])}]
    return rig, pq.read_table(signals.path(entry["table"]))


def native_stamps(lake, sensor):
    """(N,) int64, stamps of the sensor's table as recorded."""
    rig, table = table_of(lake, sensor)
    return table.column({"receive": "t_ns", "publish": "publish_ns", "sensor": "sensor_ns"}[rig["stamp"]]).to_numpy()


def test_every_sample_of_every_sensor_is_there(posed, shown):
    path, report = shown
    found = counts(path)
    for sensor in report.sensors:
        assert found[topic(sensor)] == sensor.shown == native_stamps(posed, sensor.sensor).size
        assert sensor.outside == sensor.without_stamp == sensor.invalid == sensor.hidden == 0
    assert {s.kind for s in report.sensors} == {"value", "payload", "attitude"}


def test_log_times_lie_on_the_aligned_clock_and_publish_times_are_the_native_stamps(posed, shown, sync):
    path, report = shown
    rig = posed.head("sensor_frames", DRIVE).manifest.parameters["sensors"]
    stamps = {}
    for _, channel, message in messages(path):
        if channel.topic.startswith(("/signals/", "/sensors/")):
            stamps.setdefault(channel.topic.split("/")[-1], []).append((message.log_time, message.publish_time))
    assert set(stamps) == {s.sensor for s in report.sensors}
    for sensor, pairs in stamps.items():
        native_ns = native_stamps(posed, sensor)
        aligned_ns = sync.clocks[rig[sensor]["clock"]].to_reference(native_ns)
        assert sorted(pairs) == sorted(zip(aligned_ns.tolist(), native_ns.tolist(), strict=True))
    moved = [pairs for sensor, pairs in stamps.items() if rig[sensor]["clock"] != "reference"]
    assert any(log_ns != publish_ns for pairs in moved for log_ns, publish_ns in pairs)


def test_messages_stand_in_order_of_time(shown):
    path, report = shown
    with path.open("rb") as file:
        times = [m.log_time for _, _, m in make_reader(file).iter_messages(log_time_order=False)]
    assert times == sorted(times)
    assert (times[0], times[-1]) == (report.first_ns, report.last_ns)


def test_pictures_decode_and_carry_their_aligned_time(shown):
    path, _ = shown
    pictures = list(decoded(path, "/sensors/camera_front"))
    times = [m.log_time for _, _, m in messages(path, topics=["/sensors/camera_front"])]
    assert len(pictures) > 50
    for picture, t_ns in zip(pictures, times, strict=True):
        assert picture.format == "jpeg"
        assert picture.timestamp.seconds * NS_PER_S + picture.timestamp.nanos == t_ns
        assert Image.open(io.BytesIO(picture.data)).convert("RGB").size[0] > 0


def test_values_are_those_of_the_signals(shown, posed):
    path, _ = shown
    _, table = table_of(posed, "speed_mps")
    expected = table.column("WheelSpeed").to_numpy()
    found = [(m.publish_time, json.loads(m.data)["value"]) for _, _, m in messages(path, topics=["/signals/speed_mps"])]
    assert [value for _, value in sorted(found)] == expected[np.argsort(native_stamps(posed, "speed_mps"))].tolist()


def test_the_log_is_sound_and_says_what_it_was_made_from(shown, posed):
    path, _ = shown
    assert inspect_log(path).damage == ()
    with path.open("rb") as file:
        (about,) = make_reader(file).iter_metadata()
    assert about.metadata["sensor_frames"] == posed.head("sensor_frames", DRIVE).digest
    assert "clock.can" in about.metadata


def test_the_same_drive_gives_the_same_bytes(posed, shown, tmp_path):
    path, _ = shown
    look(posed, DRIVE, tmp_path / "again.mcap")
    assert (tmp_path / "again.mcap").read_bytes() == path.read_bytes()
    assert (tmp_path / "again.mcap.layout.json").read_bytes() == path.with_name("drive.mcap.layout.json").read_bytes()


def topics_named(layout):
    """Topics that stand anywhere in a layout, as a value, a key or the begin of a message path."""
    if isinstance(layout, dict):
        for key, value in layout.items():
            yield from topics_named(key)
            yield from topics_named(value)
    elif isinstance(layout, list):
        for value in layout:
            yield from topics_named(value)
    elif isinstance(layout, str) and layout.startswith("/"):
        yield layout.partition(".")[0]


def panels_placed(layout):
    """Panels at the leaves of the tree."""
    if isinstance(layout, str):
        return [layout]
    return panels_placed(layout["first"]) + panels_placed(layout["second"])


def test_the_layout_names_only_topics_that_exist_and_places_every_panel_once(shown):
    path, report = shown
    layout = json.loads(path.with_name("drive.mcap.layout.json").read_bytes())
    assert report.layout == str(path.with_name("drive.mcap.layout.json"))
    found = counts(path)
    named = set(topics_named(layout))
    assert named <= set(found)
    assert {"/sensors/camera_front", "/signals/steering_rad", "/signals/speed_mps"} <= named
    assert sorted(panels_placed(layout["layout"])) == sorted(layout["configById"])


def test_seconds_count_from_the_first_tick_and_the_end_is_left_out(posed, shown, sync, tmp_path):
    path, _ = shown
    report = look(posed, DRIVE, tmp_path / "part.mcap", seconds=(1.5, 3.0))
    zero_ns = sync.reference.first_ns
    first_ns, end_ns = zero_ns + 3 * NS_PER_S // 2, zero_ns + 3 * NS_PER_S
    expected = Counter(c.topic for _, c, m in messages(path) if first_ns <= m.log_time < end_ns)
    found = counts(tmp_path / "part.mcap")
    for once in ("/ego/path", "/tf_static"):  # at the begin of whatever is shown
        assert (found.pop(once), expected.pop(once, 0)) == (1, 0)
    assert found == expected
    assert all(s.shown + s.outside == native_stamps(posed, s.sensor).size for s in report.sensors)


def test_poses_and_positions_stand_at_the_ticks_and_the_path_runs_through_them(shown, posed):
    path, report = shown
    frames = pq.read_table(posed.head("sensor_frames", DRIVE).path("frames.parquet"))
    rows = frames.filter(frames.column("ego_x_m").is_valid()).to_pydict()
    poses = [m.pose for m in decoded(path, "/ego/pose")]
    assert len(poses) == report.poses == len(rows["t_ns"]) > 50
    assert [m.log_time for _, _, m in messages(path, topics=["/ego/pose"])] == rows["t_ns"]
    assert [(p.position.x, p.position.y) for p in poses] == list(zip(rows["ego_x_m"], rows["ego_y_m"], strict=True))
    yaws = [2 * np.arctan2(p.orientation.z, p.orientation.w) for p in poses]
    assert np.allclose(np.exp(1j * np.array(yaws)), np.exp(1j * np.array(rows["ego_yaw_rad"])))
    (line,) = decoded(path, "/ego/path")
    assert [(p.position.x, p.position.y) for p in line.poses] == [(p.position.x, p.position.y) for p in poses]
    moved = [(t.parent_frame_id, t.child_frame_id, t.translation.x) for t in decoded(path, "/tf")]
    assert moved == [("local_enu", "vehicle", p.position.x) for p in poses]
    fixes = [(m.latitude, m.longitude) for m in decoded(path, "/gnss/fix")]
    assert len(fixes) == report.fixes == np.count_nonzero(frames.column("latitude_deg").is_valid().to_numpy())


def test_the_calibration_stands_at_the_begin_parents_first_and_sensors_in_its_frames(shown):
    path, report = shown
    (static,) = decoded(path, "/tf_static")
    assert [(t.child_frame_id, t.parent_frame_id) for t in static.transforms] == [("mast", "vehicle"), ("camera", "mast")]
    camera = static.transforms[1]
    assert (camera.translation.x, camera.rotation.x, camera.rotation.w) == (0.1, -0.5, 0.5)
    assert [m.log_time for _, _, m in messages(path, topics=["/tf_static"])] == [report.first_ns]
    assert {picture.frame_id for picture in decoded(path, "/sensors/camera_front")} == {"camera"}


def test_what_is_not_shown_is_told(unposed, tmp_path):
    report = look(unposed, DRIVE, tmp_path / "drive.mcap")
    assert any(note.startswith("No trajectory is shown") for note in report.notes)
    assert (report.poses, report.fixes) == (0, 0)
    (lidar,) = [s for s in report.sensors if s.sensor == "lidar"]
    assert "no log with signals matches 'lidar.mcap'" in lidar.missing
    named = set(topics_named(json.loads((tmp_path / "drive.mcap.layout.json").read_bytes())))
    assert not {t for t in named if t.startswith(("/ego", "/gnss", "/sensors/lidar"))}


def test_a_span_without_anything_is_refused_and_leaves_nothing_behind(posed, tmp_path):
    with pytest.raises(InputError, match="Nothing of signals_01"):
        look(posed, DRIVE, tmp_path / "drive.mcap", seconds=(1e6, None))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("there", ["drive.mcap", "drive.mcap.layout.json"])
def test_a_file_that_is_there_stays(posed, tmp_path, there):
    (tmp_path / there).write_bytes(b"mine")
    with pytest.raises(InputError, match="is there already"):
        look(posed, DRIVE, tmp_path / "drive.mcap")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [(there, b"mine")]


def test_what_cannot_be_written_is_said_before_anything_is_read(posed, tmp_path, monkeypatch):
    with pytest.raises(DeclarationError, match=r"expected \.mcap"):
        look(posed, DRIVE, tmp_path / "drive.bag")
    with pytest.raises(NotFound, match="There is no folder"):
        look(posed, DRIVE, tmp_path / "nowhere" / "drive.mcap")
    monkeypatch.setattr(files, "find_spec", lambda name: None)
    with pytest.raises(ToolMissing, match="rerun-sdk") as missing:
        look(posed, DRIVE, tmp_path / "drive.rrd")
    assert "drivelake[viewer]" in missing.value.next_step


def test_a_rerun_recording_holds_every_sample_on_the_aligned_timeline(posed, shown, tmp_path):
    chunk = pytest.importorskip("rerun.chunk", reason="the extra viewer is not installed")
    _, told = shown
    report = look(posed, DRIVE, tmp_path / "drive.rrd")
    assert report.layout is None
    rows, times = Counter(), []
    for part in chunk.RrdReader(tmp_path / "drive.rrd").stream().to_chunks():
        if part.is_static:
            continue
        rows[str(part.entity_path)] += part.num_rows
        column = part.to_record_batch().column("aligned")
        times += column.cast("int64").to_pylist()
    for sensor in told.sensors:
        assert rows[topic(sensor)] == sensor.shown
    assert (min(times), max(times)) == (told.first_ns, told.last_ns)


def test_of_many_logs_only_the_last_used_stay_open(monkeypatch, tmp_path):
    steps = []

    class Reader:
        def __init__(self, path):
            self.name = path.name
            steps.append(f"open {self.name}")

        def close(self):
            steps.append(f"close {self.name}")

    monkeypatch.setattr(drive, "PayloadReader", Reader)
    monkeypatch.setattr(drive, "READERS_MAX", 2)
    with drive._Payloads({name: tmp_path / name for name in "abc"}) as payloads:
        for name in "abacb":
            assert payloads.reader(name).name == name
    assert steps == ["open a", "open b", "close b", "open c", "close a", "open b", "close c", "close b"]
