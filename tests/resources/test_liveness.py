"""A run whose process died is reported failed, and only such a run."""

import shutil
import subprocess
import sys
import time
from pathlib import Path

import dagster as dg
import pytest

from definitions import build_defs, dagster_home
from drivelake.lake import Lake
from resources.liveness import GRACE_S, fail_dead_runs, mark_alive

REPOSITORY = Path(__file__).parents[2]
HOLD = "import sys, time; from pathlib import Path; from drivelake.lake import Lake; from resources.liveness import mark_alive\n"
HOLD += "mark_alive(Lake(Path(sys.argv[1])), sys.argv[2]); print('held', flush=True); time.sleep(600)"


@pytest.fixture
def lake(empty, tmp_path):
    shutil.copytree(empty, tmp_path / "lake", symlinks=True)
    return Lake(tmp_path / "lake")


@pytest.fixture
def instance(lake):
    with dg.DagsterInstance.from_config(str(dagster_home(lake.root))) as opened:
        yield opened


@pytest.fixture
def started(lake, instance):
    job = build_defs(lake.declaration, lake.root).resolve_job_def("ingest")
    return instance.create_run_for_job(job_def=job, status=dg.DagsterRunStatus.STARTED)


def status(instance, run):
    return instance.get_run_by_id(run.run_id).status


def test_a_run_whose_process_was_killed_is_reported_failed(lake, instance, started):
    command = [sys.executable, "-c", HOLD, str(lake.root), started.run_id]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY)
    assert process.stdout.readline() == "held\n"
    assert fail_dead_runs(lake, instance) == []
    assert status(instance, started) == dg.DagsterRunStatus.STARTED
    process.kill()
    process.wait()
    assert fail_dead_runs(lake, instance) == [started.run_id]
    assert status(instance, started) == dg.DagsterRunStatus.FAILURE


def test_a_run_of_this_very_process_is_alive(lake, instance, started):
    mark_alive(lake, started.run_id)
    mark_alive(lake, started.run_id)
    assert fail_dead_runs(lake, instance) == []


def test_a_run_that_has_just_begun_is_given_time_to_reach_its_first_step(lake, instance, started, monkeypatch):
    assert fail_dead_runs(lake, instance) == []
    later = time.time() + GRACE_S + 1
    monkeypatch.setattr("resources.liveness.time.time", lambda: later)
    assert fail_dead_runs(lake, instance) == [started.run_id]
