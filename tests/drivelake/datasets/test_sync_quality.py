"""A dataset may ask how well a drive's clocks are known: the frames carry it as columns."""

import pyarrow.parquet as pq
import pytest

from drivelake.datasets.select import DriveFrames, selection
from drivelake.declaration import Dataset
from drivelake.frames.report import SyncReport


@pytest.fixture(scope="module")
def drives(chain):
    """Frames and clock of every drive of the chain that has any."""
    found = {}
    for drive in sorted(folder.name for folder in chain.inbox.iterdir()):
        version = chain.head("sensor_frames", drive)
        report = SyncReport.model_validate_json(version.path("sync.json").read_bytes())
        if report.frames:
            found[drive] = (version.path("frames.parquet"), report.clocks["can"])
    return found


def test_the_columns_say_what_the_report_says(drives):
    for path, clock in drives.values():
        table = pq.read_table(path, columns=["sync_residual_ms_p99", "sync_sigma_ms_max", "sync_matched_share"])
        assert set(table["sync_residual_ms_p99"].to_pylist()) == {clock.worst("residual_p99_ms")}
        assert set(table["sync_sigma_ms_max"].to_pylist()) == {clock.sigma_ms}
        (share,) = set(table["sync_matched_share"].to_pylist())
        assert 0 < share <= 1


def test_a_selection_takes_the_drives_whose_clocks_are_known_well_enough(drives, tmp_path):
    known_ms = {drive: clock.sigma_ms for drive, (_, clock) in drives.items() if clock.sigma_ms is not None}
    bound_ms = max(known_ms.values())
    sql = f"SELECT drive, frame, t_ns FROM frames WHERE sync_residual_ms_p99 < 10 AND sync_sigma_ms_max < {bound_ms!r}"
    frames = [DriveFrames(drive, path) for drive, (path, _) in drives.items()]
    with selection(Dataset(sql=sql, payload="camera_front"), frames, tmp_path, batch_rows=100) as reader:
        taken = set(reader.read_all().column("drive").to_pylist())
    assert taken == {drive for drive, sigma_ms in known_ms.items() if sigma_ms < bound_ms}
    assert 0 < len(taken) < len(drives)
