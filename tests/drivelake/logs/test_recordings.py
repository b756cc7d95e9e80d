"""Recorded logs as tables: every one gives what inspecting it promises."""

import pyarrow.parquet as pq
import pytest

from drivelake.logs import inspect_log, is_log
from drivelake.logs.tables import write_tables

FOLDERS = [
    "can_nemodrive",
    "corner_derived",
    "drive_comma2k19_rav4",
    "drives_deeppicar",
    "drives_donkeycar",
    "mcap",
    "mcap_kitti",
    "mcap_mcity",
    "mdf4",
    "ros1_bag",
    "ros2_db3_lidar_nebula",
    "ros2_db3_mcity",
    "state_udacity_ch2",
]
ONE_IN = {"drives_deeppicar": 4, "drives_donkeycar": 4}
ELSEWHERE = {"mcap_conformance"}
DAMAGED = {
    "corner_derived/mcap/one_bit_rot_in_chunk.mcap": ("salvaged", 866),
    "corner_derived/mcap/trailing_garbage.mcap": ("salvaged", 900),
    "corner_derived/mcap/truncated_no_footer.mcap": ("salvaged", 519),
    "corner_derived/mdf/only_id_block.mf4": ("lost", 0),
    "corner_derived/mdf/zero_bytes.mf4": ("lost", 0),
    "mcap/rosbag-analyzer-web/30b73b75_test_sample_truncated.mcap": ("salvaged", 14),
}


def recorded(folder):
    logs = sorted(path for path in folder.rglob("*") if path.is_file() and is_log(path))
    drives = sorted({path.parent for path in logs})[:: ONE_IN.get(folder.name, 1)]
    return [path for path in logs if path.parent in drives]


def test_no_recording_is_left_out(shared_data):
    holding = {p.relative_to(shared_data).parts[0] for p in shared_data.rglob("*") if p.is_file() and is_log(p)}
    assert holding == {*FOLDERS, *ELSEWHERE}


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_recorded_log_gives_tables_with_the_rows_that_its_report_counts(folder, shared_data, tmp_path):
    logs = recorded(shared_data / folder)
    assert logs
    verdicts = {}
    for path in logs:
        name = path.relative_to(shared_data).as_posix()
        report = inspect_log(path)
        if report.verdict != "sound":
            verdicts[name] = (report.verdict, report.messages)
        written = write_tables(path.name, path, tmp_path / name)
        assert list(report.damage) == written["damage"], name
        rows = {}
        for table in written["tables"]:
            found = pq.read_table(tmp_path / name / table["table"])
            rows[table["channel"]] = len(found)
            assert len(found) == table["rows"], name
            assert found.schema.names == [column["name"] for column in table["columns"]], name
        left_out = {entry["channel"] for entry in written["unsupported"]}
        counted = {channel.name: channel.messages for channel in report.channels}
        assert rows == {channel: count for channel, count in counted.items() if channel not in left_out}, name
    assert verdicts == {name: found for name, found in DAMAGED.items() if name.startswith(f"{folder}/")}
