"""Every drive in the inbox is run once it is ready, once, and no drive stands in another's way."""

import os
import shutil

import dagster as dg
import pytest

from definitions import build_defs, dagster_home
from drivelake.errors import StoreError
from drivelake.evidence.notary import LakeNotary, establish_trust
from drivelake.frames.calibration import CALIBRATIONS
from drivelake.lake import Lake
from drivelake.logs.stages import RAW_LOGS
from drivelake.stage import materialise, stale_because
from resources import LakeResource
from sensors.new_drives import ATTEMPTS_MAX, new_drives
from sensors.runs import History
from tests.support import small_declaration

RUN_KEY = "dagster/run_key"


class World:
    """A lake, a real instance on disk, and a daemon that ticks when it is told to."""

    def __init__(self, of, root, **ingest):
        shutil.copytree(of, root, symlinks=True)
        self.lake = Lake.create(root, small_declaration(**ingest))
        self.instance = dg.DagsterInstance.from_config(str(dagster_home(self.lake.root)))
        self.defs = build_defs(self.lake.declaration, self.lake.root)

    def tick(self):
        """Evaluate the sensor and do what the daemon does: add partitions; a key that some run has is never run again."""
        context = dg.build_sensor_context(instance=self.instance, resources={"lake": LakeResource(root=str(self.lake.root))})
        result = new_drives(context)
        for request in result.dynamic_partitions_requests or []:
            self.instance.add_dynamic_partitions(request.partitions_def_name, list(request.partition_keys))
        used = {run.tags.get(RUN_KEY) for run in self.instance.get_runs()}
        assert not used & {r.run_key for r in result.run_requests}, "a used run key never runs again"
        return result, result.run_requests

    def run(self, requests):
        """Run what was asked for; gives drive -> whether it succeeded."""
        job = self.defs.resolve_job_def("ingest")
        return {
            r.partition_key: job.execute_in_process(
                instance=self.instance,
                partition_key=r.partition_key,
                tags={**r.tags, RUN_KEY: r.run_key},
                raise_on_error=False,
            ).success
            for r in requests
        }

    def declare(self, was, now):
        """Change the declaration in force."""
        file = self.lake.root / "lakehouse.yaml"
        assert was in file.read_text()
        file.write_text(file.read_text().replace(was, now))
        self.lake = Lake(self.lake.root)

    def arrive(self, source, name):
        shutil.copytree(source, self.lake.inbox / name)


@pytest.fixture
def world(empty, tmp_path):
    return World(empty, tmp_path / "lake")


@pytest.fixture(scope="module")
def drive(generated):
    return generated / "inbox" / "signals_01"


@pytest.fixture(scope="module")
def once(empty, drive, tmp_path_factory):
    """A lake into which the sensor has brought one drive; copy it."""
    world = World(empty, tmp_path_factory.mktemp("once") / "lake")
    world.arrive(drive, "signals_01")
    assert world.run(world.tick()[1]) == {"signals_01": True}
    world.instance.dispose()
    return world.lake.root


@pytest.fixture
def landed(once, tmp_path):
    """The same world with one drive landed."""
    return World(once, tmp_path / "lake")


def asked(requests):
    return sorted(r.partition_key for r in requests)


def test_a_new_drive_is_registered_run_once_and_then_left_alone(world, drive):
    world.arrive(drive, "signals_01")
    _, requests = world.tick()
    assert asked(requests) == ["signals_01"]
    assert world.instance.get_dynamic_partitions("drives") == ["signals_01"]
    assert world.run(requests) == {"signals_01": True}
    assert world.lake.partitions("sensor_frames") == ["signals_01"]
    result, again = world.tick()
    assert again == []
    assert "every drive in the inbox is landed and has its frames" in result.skip_reason.skip_message


def test_drives_that_came_while_the_daemon_was_off_are_all_found(world, drive):
    for name in ("signals_01", "signals_02", "signals_03"):
        world.arrive(drive, name)
    assert asked(world.tick()[1]) == ["signals_01", "signals_02", "signals_03"]


def test_a_request_that_was_lost_before_it_ran_is_asked_for_again(world, drive):
    world.arrive(drive, "signals_01")
    world.tick()
    assert asked(world.tick()[1]) == ["signals_01"]


def test_a_marker_decides_when_it_is_declared(empty, tmp_path, drive):
    world = World(empty, tmp_path / "lake", marker="_COMPLETE")
    world.arrive(drive, "signals_01")
    result, requests = world.tick()
    assert requests == []
    assert "no _COMPLETE yet" in result.skip_reason.skip_message
    (world.lake.inbox / "signals_01" / "_COMPLETE").touch()
    assert asked(world.tick()[1]) == ["signals_01"]


def test_without_a_marker_a_drive_must_be_quiet(empty, tmp_path, drive, monkeypatch):
    world = World(empty, tmp_path / "lake", quiet_s=60)
    now = 1_000_000.0
    monkeypatch.setattr("sensors.new_drives.time.time", lambda: now)
    world.arrive(drive, "signals_01")
    assert world.tick()[1] == []
    now += 59
    (world.lake.inbox / "signals_01" / "late.txt").write_text("still being copied")
    assert world.tick()[1] == []
    now += 59
    assert world.tick()[1] == []
    now += 2
    assert asked(world.tick()[1]) == ["signals_01"]


def test_a_replaced_file_runs_again_and_gives_a_new_version(landed, generated):
    before = landed.lake.head("raw_logs", "signals_01").digest
    shutil.copy(generated / "inbox" / "signals_03" / "can.mf4", landed.lake.inbox / "signals_01" / "can.mf4")
    _, requests = landed.tick()
    assert landed.run(requests) == {"signals_01": True}
    assert landed.lake.head("raw_logs", "signals_01").digest != before
    assert landed.lake.version(landed.lake.head("signals", "signals_01").manifest.inputs[0]).digest != before


def test_a_touched_file_with_the_same_bytes_gives_the_same_version(landed):
    before = landed.lake.head("sensor_frames", "signals_01").digest
    os.utime(landed.lake.inbox / "signals_01" / "can.mf4")
    landed.run(landed.tick()[1])
    assert landed.lake.head("sensor_frames", "signals_01").digest == before
    assert landed.tick()[1] == []


def test_a_failing_drive_does_not_hold_up_others_and_is_given_up_until_its_bytes_change(world, drive):
    empty = world.lake.inbox / "signals_00"
    empty.mkdir()
    (empty / "notes.txt").write_text("no log here")
    world.arrive(drive, "signals_01")
    _, requests = world.tick()
    assert world.run(requests) == {"signals_00": False, "signals_01": True}
    for _ in range(ATTEMPTS_MAX - 1):
        _, requests = world.tick()
        assert world.run(requests) == {"signals_00": False}
    result, requests = world.tick()
    assert requests == []
    assert f"failed {ATTEMPTS_MAX} times" in result.skip_reason.skip_message
    shutil.copytree(drive, empty, dirs_exist_ok=True)
    assert world.run(world.tick()[1]) == {"signals_00": True}


def test_a_drive_whose_signals_failed_once_is_asked_for_again(world, drive, monkeypatch):
    def full(*_, **__):
        raise StoreError("No space left on the disk.", next_step="free some")

    world.arrive(drive, "signals_01")
    with monkeypatch.context() as patched:
        patched.setattr("drivelake.logs.stages.write_signals", full)
        assert world.run(world.tick()[1]) == {"signals_01": False}
    assert world.lake.partitions("raw_logs") == ["signals_01"]
    assert world.run(world.tick()[1]) == {"signals_01": True}
    assert world.lake.partitions("sensor_frames") == ["signals_01"]
    assert world.tick()[1] == []


def test_a_drive_without_frames_is_given_up_after_three_attempts_until_its_rig_is_corrected(world, drive):
    world.declare("channel: SteeringAngle", "channel: SteeringAngel")
    world.arrive(drive, "signals_01")
    for _ in range(ATTEMPTS_MAX):
        assert world.run(world.tick()[1]) == {"signals_01": False}
    result, requests = world.tick()
    assert requests == []
    assert f"failed {ATTEMPTS_MAX} times" in result.skip_reason.skip_message
    assert world.lake.partitions("signals") == ["signals_01"]
    world.declare("channel: SteeringAngel", "channel: SteeringAngle")
    assert world.run(world.tick()[1]) == {"signals_01": True}
    assert world.tick()[1] == []


def test_raw_logs_landed_anew_without_their_frames_are_not_done(landed, generated):
    shutil.copy(generated / "inbox" / "signals_03" / "can.mf4", landed.lake.inbox / "signals_01" / "can.mf4")
    assert (
        landed.defs.resolve_job_def("ingest")
        .execute_in_process(instance=landed.instance, partition_key="signals_01", asset_selection=[dg.AssetKey("raw_logs")])
        .success
    )
    assert stale_because(RAW_LOGS, landed.lake, "signals_01") is None
    assert asked(landed.tick()[1]) == ["signals_01"]


def test_a_lost_catalogue_costs_one_more_run_a_drive(landed):
    before = landed.lake.store.resolve("main")
    (landed.lake.root / "catalogue.sqlite").unlink()
    assert landed.run(landed.tick()[1]) == {"signals_01": True}
    assert landed.tick()[1] == []
    assert landed.lake.store.resolve("main") == before


def test_a_drive_that_no_rig_names_is_told_and_not_run(world, drive):
    world.arrive(drive, "foreign_01")
    result, requests = world.tick()
    assert requests == []
    assert "foreign_01: no declared rig names it" in result.skip_reason.skip_message


def test_dagster_is_asked_about_no_more_drives_than_can_be_requested(world, drive, monkeypatch):
    monkeypatch.setattr("sensors.new_drives.REQUESTS_MAX", 2)
    for name in ("signals_01", "signals_02", "signals_03", "signals_04"):
        world.arrive(drive, name)
    questions = []
    monkeypatch.setattr("sensors.new_drives.history", lambda _, tags: questions.append(tags) or History(attempt=1, failures=0))
    assert asked(world.tick()[1]) == ["signals_01", "signals_02"]
    assert len(questions) == 2


def test_a_drive_that_is_running_is_not_asked_for_twice(world, drive):
    world.arrive(drive, "signals_01")
    _, requests = world.tick()
    job = world.defs.resolve_job_def("ingest")
    run = world.instance.create_run_for_job(job_def=job, tags=dict(requests[0].tags), status=dg.DagsterRunStatus.STARTED)
    assert world.tick()[1] == []
    world.instance.report_run_failed(run)
    assert asked(world.tick()[1]) == ["signals_01"]


def test_a_folder_with_an_odd_name_is_told_and_skipped(world, drive):
    world.arrive(drive, "drive 1 (copy)")
    world.arrive(drive, "signals_01")
    _, requests = world.tick()
    assert asked(requests) == ["signals_01"]
    world.run(requests)
    result, _ = world.tick()
    assert "cannot be a partition key" in result.skip_reason.skip_message


def test_a_transfer_in_a_hidden_folder_is_no_drive(world, drive):
    world.arrive(drive, ".signals_01.part")
    assert world.tick()[1] == []


CALIBRATION = """\
frames:
  vehicle: {}
  camera_front: {parent: vehicle, translation_m: [1.9, 0.0, 1.4], source: drawing, date: 2026-03-14}
"""


def test_the_first_drive_of_a_rig_waits_for_its_calibration_which_is_asked_for(world, drive):
    (world.lake.root / "calibration.yaml").write_text(CALIBRATION)
    world.declare("drives: signals_*", "drives: signals_*\n    calibration: calibration.yaml")
    world.arrive(drive, "signals_01")
    world.arrive(drive, "bus_02")
    _, requests = world.tick()
    assert [(r.job_name, r.partition_key) for r in requests] == [("ingest", "bus_02"), ("calibrate", "signals_rig")]
    establish_trust(world.lake)
    materialise(CALIBRATIONS, world.lake, "signals_rig", LakeNotary(world.lake))
    _, requests = world.tick()
    assert ("ingest", "signals_01") in [(r.job_name, r.partition_key) for r in requests]


def test_a_calibration_that_is_absent_holds_its_drives_and_says_so(world, drive):
    world.declare("drives: signals_*", "drives: signals_*\n    calibration: calibration.yaml")
    world.arrive(drive, "signals_01")
    result, requests = world.tick()
    assert requests == []
    assert "signals_01: waits for the calibration of signals_rig" in result.skip_reason.skip_message
    assert "there is no such file" in result.skip_reason.skip_message
