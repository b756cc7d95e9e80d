import json

import numpy as np
import pyarrow.parquet as pq
import pytest
from asammdf import Signal

from drivelake.logs import PayloadReader, signals, write_signals
from tests.drivelake.logs.making import DATABASE, IMU, drive_mcap, imu, picture, write_can, write_mcap, write_mdf


@pytest.fixture
def drive(tmp_path):
    """A camera, a bus with its database, and a control log with many groups."""
    folder = tmp_path / "drive"
    folder.mkdir()
    (folder / "camera.mcap").write_bytes(drive_mcap())
    (folder / "car.dbc").write_text(DATABASE)
    write_can(folder / "can.mf4", [(i / 100, 0, 0x100 + i % 2, False, bytes(8)) for i in range(20)])
    groups = [(f"g{i}", [Signal(np.arange(5.0), np.arange(5.0), name="x", unit="km/h")]) for i in range(40)]
    write_mdf(folder / "control.mf4", groups)
    return folder


def logs_of(drive):
    return {path.name: path for path in drive.iterdir() if path.suffix != ".dbc"}


def digest(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_the_folder_holds_a_table_a_channel_and_an_index_that_tells_the_truth(drive, tmp_path):
    out = tmp_path / "signals"
    index = write_signals(logs_of(drive), out, databases=[drive / "car.dbc"], quarantined={"lidar.mcap": "cut short"})
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


def test_units_stand_in_the_index(drive, tmp_path):
    index = write_signals(logs_of(drive), tmp_path / "signals", quarantined={})
    entry = next(e for e in index["tables"] if e["channel"] == "g0")
    assert entry["columns"][1] == {"name": "x", "dtype": "double", "unit": "m/s", "source_unit": "km/h"}


def test_the_same_logs_give_the_same_bytes(drive, tmp_path):
    for name in ("one", "two"):
        write_signals(logs_of(drive), tmp_path / name, databases=[drive / "car.dbc"], quarantined={})
    assert digest(tmp_path / "one") == digest(tmp_path / "two")


def test_pictures_are_pointers_into_the_log_and_never_copied(drive, tmp_path):
    write_signals(logs_of(drive), tmp_path / "signals", quarantined={})
    table = tmp_path / "signals" / "camera.mcap" / "camera.parquet"
    assert table.stat().st_size < sum(len(picture(i).data) for i in range(30)) / 5
    with PayloadReader(drive / "camera.mcap") as reader:
        for number, row in enumerate(pq.read_table(table).to_pylist()):
            assert reader.read(row["payload_chunk"], row["payload_offset"], row["payload_bytes"]) == picture(number).data


def test_a_log_that_turns_out_damaged_is_quarantined_and_leaves_no_table(drive, tmp_path):
    data = bytearray((drive / "camera.mcap").read_bytes())
    data[-1] ^= 1  # told only at the end, when its tables are almost written
    (drive / "camera.mcap").write_bytes(data)
    index = write_signals(logs_of(drive), tmp_path / "signals", quarantined={})
    assert [entry["log"] for entry in index["quarantined"]] == ["camera.mcap"]
    assert "magic" in index["quarantined"][0]["reason"]
    assert not (tmp_path / "signals" / "camera.mcap").exists()
    assert {entry["log"] for entry in index["tables"]} == {"can.mf4", "control.mf4"}


def test_a_quarantined_log_is_not_opened(drive, tmp_path):
    logs = {**logs_of(drive), "gone.mcap": tmp_path / "gone.mcap"}
    index = write_signals(logs, tmp_path / "signals", quarantined={"gone.mcap": "it is gone"})
    assert index["quarantined"] == [{"log": "gone.mcap", "reason": "it is gone"}]


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


def test_row_groups_are_bounded(drive, tmp_path, monkeypatch):
    monkeypatch.setattr(signals, "BATCH_ROWS", 16)
    write_signals(logs_of(drive), tmp_path / "signals", quarantined={})
    metadata = pq.read_metadata(tmp_path / "signals" / "camera.mcap" / "imu.parquet")
    assert [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)] == [16, 16, 16, 12]


def test_a_log_of_many_groups_holds_few_files_open(tmp_path):
    import resource

    groups = [(f"g{i}", [Signal(np.zeros(2), np.arange(2.0), name="x")]) for i in range(120)]
    log = write_mdf(tmp_path / "many.mf4", groups)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (80, hard))
    try:
        index = write_signals({"many.mf4": log}, tmp_path / "signals", quarantined={})
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(index["tables"]) == 120


def test_recorded_drives_give_their_tables(shared_data, tmp_path):
    for drive, tables in (
        ("drive_01", {"donkeycar_control": 578, "/camera/front/image/compressed": 578}),
        ("drive_31", {"donkeycar_control": 137}),
    ):
        folder = shared_data / "drives_donkeycar" / drive
        index = write_signals({path.name: path for path in folder.iterdir()}, tmp_path / drive, quarantined={})
        assert {entry["channel"]: entry["rows"] for entry in index["tables"]} == tables
        assert not index["quarantined"]
