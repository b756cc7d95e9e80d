"""The real daemon, on a real instance, with drives that came before it started."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from definitions import dagster_home
from drivelake.evidence.notary import establish_trust
from drivelake.lake import Lake
from tests.support import small_declaration

REPOSITORY = Path(__file__).parents[2]
PATIENCE_S = 240


@pytest.mark.slow
def test_the_daemon_ingests_what_is_in_the_inbox_and_a_drive_without_logs_does_not_stop_it(generated, tmp_path):
    lake = Lake.create(tmp_path / "lake", small_declaration())
    establish_trust(lake)
    (lake.inbox / "signals_00").mkdir()
    (lake.inbox / "signals_00" / "notes.txt").write_text("no log")
    for name in ("signals_01", "bus_02"):
        shutil.copytree(generated / "inbox" / name, lake.inbox / name)
    environment = {**os.environ, "DRIVELAKE_LAKE": str(lake.root), "DAGSTER_HOME": str(dagster_home(lake.root))}
    with (tmp_path / "daemon.log").open("wb") as said:
        daemon = subprocess.Popen(
            [Path(sys.executable).with_name("dagster-daemon"), "run", "-m", "definitions"],
            env=environment, cwd=REPOSITORY, stdout=said, stderr=subprocess.STDOUT,
        )  # fmt: skip
        try:
            until = time.monotonic() + PATIENCE_S
            while time.monotonic() < until and lake.partitions("sensor_frames") != ["bus_02", "signals_01"]:
                assert daemon.poll() is None, (tmp_path / "daemon.log").read_text()[-3000:]
                time.sleep(1)
        finally:
            daemon.terminate()
            daemon.wait(60)
    assert lake.partitions("sensor_frames") == ["bus_02", "signals_01"], (tmp_path / "daemon.log").read_text()[-3000:]
    assert lake.partitions("raw_logs") == ["bus_02", "signals_01"]
