import json
import os
import shutil

import numpy as np
import pyarrow.parquet as pq
import pytest
from asammdf import Signal

from drivelake.logs import Caps, PayloadReader, inspect_log, isolation, write_signals
from tests.drivelake.logs.making import DATABASE, IMU, drive_mcap, imu, picture, write_can, write_mcap, write_mdf


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A camera, a bus with its database, and a control log with many groups."""
    folder = tmp_path_factory.mktemp("recorded") / "drive"
    folder.mkdir()
    (folder / "camera.mcap").write_bytes(drive_mcap())
    (folder / "car.dbc").write_text(DATABASE)
    write_can(folder / "can.mf4", [(i / 100, 0, 0x100 + i % 2, False, bytes(8)) for i in range(20)])
    groups = [(f"g{i}", [Signal(np.arange(5.0), np.arange(5.0), name="x", unit="km/h")]) for i in range(40)]
    write_mdf(folder / "control.mf4", groups)
    return folder


@pytest.fixture
def drive(recorded, tmp_path):
    """The same, to be damaged."""
    return shutil.copytree(recorded, tmp_path / "drive")


@pytest.fixture(scope="module")
def signals(recorded, tmp_path_factory):
    """Its signals folder, and what was said about it; read only."""
    out = tmp_path_factory.mktemp("signals")
    logs = {**logs_of(recorded), "lidar.mcap": recorded / "lidar.mcap"}
    index = write_signals(logs, out, databases=[recorded / "car.dbc"], quarantined={"lidar.mcap": "cut short"})
    return out, index


def logs_of(drive):
    return {path.name: path for path in drive.iterdir() if path.suffix != ".dbc"}


def digest(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_folder_holds_a_table_a_channel_and_an_index_that_tells_the_truth(signals):
    out, index = signals
    assert json.loads((out / "index.json").read_text()) == index
    assert {path for path in digest(out) if path != "index.json"} == {entry["table"] for entry in index["tables"]}
    for entry in index["tables"]:
        table = pq.read_table(out / entry["table"])
        assert entry["table"].startswith(entry["log"] + "/")
        assert table.num_rows == entry["rows"]
        stamps = table.column("t_ns").to_pylist()
        assert (entry["first_ns"], entry["last_ns"]) == ((min(stamps), max(stamps)) if stamps else (None, None))
        assert [(c["name"], c["dtype"]) for c in entry["columns"]] == [(f.name, str(f.type)) for f in table.schema]
        for column in entry["columns"]:
            metadata = table.schema.field(column["name"]).metadata or {}
            assert column["unit"] == metadata.get(b"unit", b"").decode()
    assert index["quarantined"] == [{"log": "lidar.mcap", "reason": "cut short"}]
    assert index["undecoded_frames"] == [{"log": "can.mf4", "bus": 0, "id": "0x101", "reason": "unknown id", "frames": 10}]
    rows = {(e["log"], e["channel"]): e["rows"] for e in index["tables"]}
    assert rows["camera.mcap", "/imu"] == 60
    assert rows["camera.mcap", "/silent"] == 0
    assert rows["can.mf4", "Motion"] == 10
    assert rows["control.mf4", "g39"] == 5


def test_units_stand_in_the_index(signals):
    _, index = signals
    entry = next(e for e in index["tables"] if e["channel"] == "g0")
    assert entry["columns"][1] == {"name": "x", "dtype": "double", "unit": "m/s", "source_unit": "km/h"}


def test_the_same_logs_give_the_same_bytes(signals, recorded, tmp_path, monkeypatch):
    monkeypatch.setattr(isolation, "READERS_MAX", 1)
    logs = {**logs_of(recorded), "lidar.mcap": recorded / "lidar.mcap"}
    write_signals(logs, tmp_path / "again", databases=[recorded / "car.dbc"], quarantined={"lidar.mcap": "cut short"})
    assert digest(tmp_path / "again") == digest(signals[0])


def test_pictures_are_pointers_into_the_log_and_never_copied(signals, recorded):
    table = signals[0] / "camera.mcap" / "camera.parquet"
    assert table.stat().st_size < sum(len(picture(i).data) for i in range(30)) / 5
    with PayloadReader(recorded / "camera.mcap") as reader:
        for number, row in enumerate(pq.read_table(table).to_pylist()):
            assert reader.read(row["payload_chunk"], row["payload_offset"], row["payload_bytes"]) == picture(number).data


def test_the_sound_part_of_a_damaged_log_is_written_and_what_is_lost_is_told(drive, tmp_path):
    data = bytearray((drive / "camera.mcap").read_bytes())
    data[len(data) // 3] ^= 1
    (drive / "camera.mcap").write_bytes(data)
    index = write_signals({"camera.mcap": drive / "camera.mcap"}, tmp_path / "signals", quarantined={})
    assert index["quarantined"] == []
    (entry,) = index["salvaged"]
    report = inspect_log(drive / "camera.mcap")
    assert (entry["log"], entry["damage"]) == ("camera.mcap", list(report.damage))
    assert [(c["channel"], c["expected"], c["recovered"], c["lost"], tuple(c["why"])) for c in entry["channels"]] == [
        (c.name, c.expected, c.messages, c.lost, c.why) for c in report.channels
    ]
    rows = {e["channel"]: e["rows"] for e in index["tables"] if e["log"] == "camera.mcap"}
    assert rows == {c.name: c.messages for c in report.channels}
    assert 0 < sum(rows.values()) < 90


@pytest.mark.parametrize("share", [0.5, 1.0])
def test_a_log_of_which_too_little_is_left_is_quarantined_and_leaves_no_table(drive, tmp_path, share):
    data = bytearray((drive / "camera.mcap").read_bytes())
    data[len(data) // 3] ^= 1
    (drive / "camera.mcap").write_bytes(data)
    recovered = inspect_log(drive / "camera.mcap").recovered_share
    logs = {name: drive / name for name in ("camera.mcap", "can.mf4")}
    index = write_signals(logs, tmp_path / "signals", quarantined={}, keep_salvaged_share=share)
    assert [e["log"] for e in index["salvaged"]] == (["camera.mcap"] if recovered >= share else [])
    assert [e["log"] for e in index["quarantined"]] == (["camera.mcap"] if recovered < share else [])
    assert (tmp_path / "signals" / "camera.mcap").exists() is (recovered >= share)
    assert "can.mf4" in {entry["log"] for entry in index["tables"]}


def test_a_log_that_is_never_read_to_its_end_is_quarantined(tmp_path):
    os.mkfifo(tmp_path / "pipe.mcap")
    index = write_signals({"pipe.mcap": tmp_path / "pipe.mcap"}, tmp_path / "signals", quarantined={}, caps=Caps(seconds=0.5))
    reason = "Reading it did not end within 0.5 s, the declared cap."
    assert (index["quarantined"], index["tables"]) == ([{"log": "pipe.mcap", "reason": reason}], [])


def test_channels_that_differ_only_in_signs_or_case_keep_tables_of_their_own(tmp_path):
    names = ["/a/b", "/a_b", "/A/B", "車速", "/", "x" * 300]
    log = tmp_path / "log.mcap"
    log.write_bytes(write_mcap([(name, "sensor_msgs/msg/Imu", IMU, [imu(i)]) for i, name in enumerate(names)]))
    index = write_signals({"log.mcap": log}, tmp_path / "signals", quarantined={})
    files = {entry["table"].lower() for entry in index["tables"]}
    assert len(files) == len(names)
    for entry in index["tables"]:
        number = names.index(entry["channel"])
        table = pq.read_table(tmp_path / "signals" / entry["table"])
        assert table.column("angular_velocity.z").to_pylist() == [float(number)]


def test_recorded_drives_give_their_tables(shared_data, tmp_path):
    for drive, tables in (
        ("drive_01", {"donkeycar_control": 578, "/camera/front/image/compressed": 578}),
        ("drive_31", {"donkeycar_control": 137}),
    ):
        folder = shared_data / "drives_donkeycar" / drive
        index = write_signals({path.name: path for path in folder.iterdir()}, tmp_path / drive, quarantined={})
        assert {entry["channel"]: entry["rows"] for entry in index["tables"]} == tables
        assert not index["quarantined"]
