"""The two runs that the README promises, from nothing to VERIFIED, with the shipped declarations as they are."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from drivelake.lake import Lake

REPOSITORY = Path(__file__).parents[1]


def demo(root, *words):
    code = "from drivelake.cli import main; main()"
    clean = {k: v for k, v in os.environ.items() if k not in {"DRIVELAKE_LAKE", "DAGSTER_HOME"}}
    command = [sys.executable, "-c", code, "demo", "--lake", str(root), "--json", *words]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY, env=clean)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout), done.stderr


def metrics_of(lake):
    return json.loads(lake.head("checkpoints", "steering").path("metrics.json").read_bytes())


@pytest.mark.slow
def test_generated_drives_end_in_verified_artefacts_past_the_shipped_gates(tmp_path):
    said, progress = demo(tmp_path / "lake")
    assert said["verified"] is True
    assert {o["status"] for o in said["outcomes"]} <= {"made", "skipped"}
    assert Path(said["report"]).read_text(encoding="utf-8").startswith("<!doctype html>")
    lake = Lake(tmp_path / "lake")
    assert "steering@portable" in lake.partitions("evidence")
    assert len(lake.partitions("raw_logs")) == 10
    assert "salvaged camera.mcap" in progress, "the damaged log is told"
    whole, cut = (lake.head("sensor_frames", drive).manifest.facts["frames"] for drive in ("signals_01", "signals_04"))
    assert 0.5 * whole < cut < 0.7 * whole, "its sound part is used"


@pytest.mark.slow
def test_recorded_drives_end_in_verified_artefacts_and_the_network_beats_both_baselines_on_unseen_drives(shared_data, tmp_path):
    recorded = shared_data / "drives_donkeycar"
    if not recorded.is_dir():
        pytest.skip("recorded data is absent: ../shared/data/drives_donkeycar")
    said, _ = demo(tmp_path / "lake", "--drives", str(recorded))
    assert said["verified"] is True
    lake = Lake(tmp_path / "lake")
    metrics = metrics_of(lake)
    test = metrics["test"]
    assert test["network"]["r2"] > test["ridge"]["r2"] > test["mean"]["r2"]
    card = json.loads(lake.head("curated_datasets", "track").path("card.json").read_bytes())
    assert card["left_out"] == {"drive_31": "sensor 'camera_front': camera.mcap is sound and holds no message"}
    unseen = [drive for drive, found in card["drives"].items() if found["split"] == "test"]
    assert len(unseen) == 4
    assert all(metrics["slices"]["drive"][drive]["test"]["network"]["r2"] is not None for drive in unseen)
