"""What is stale is asked for, the earliest first; what failed or is under way holds up only what descends from it."""

import shutil
import time

import dagster as dg
import pytest
import yaml

from definitions import build_defs, dagster_home
from drivelake.lake import Lake
from drivelake.learning.stage import Checkpoints
from resources import LakeResource
from resources.liveness import GRACE_S
from sensors.stale_versions import FAILURES_MAX, build_stale_versions

RUN_KEY = "dagster/run_key"


class World:
    """A lake in which everything is made, its Dagster, and a daemon that ticks when it is told to."""

    def __init__(self, lake):
        self.lake = lake
        self.instance = dg.DagsterInstance.from_config(str(dagster_home(lake.root)))
        self.reload()

    def reload(self):
        self.lake = Lake(self.lake.root)
        self.defs = build_defs(self.lake.declaration, self.lake.root)
        self.sensor = build_stale_versions(self.lake.declaration)

    def declare(self, change):
        """Change the declaration in force, and reload the code location."""
        file = self.lake.root / "lakehouse.yaml"
        declared = yaml.safe_load(file.read_text())
        change(declared)
        file.write_text(yaml.safe_dump(declared, sort_keys=False))
        self.reload()

    def tick(self):
        """Evaluate the sensor; gives the requests and what it told."""
        context = dg.build_sensor_context(instance=self.instance, resources={"lake": LakeResource(root=str(self.lake.root))})
        result = self.sensor(context)
        used = {run.tags.get(RUN_KEY) for run in self.instance.get_runs()}
        assert not used & {r.run_key for r in result.run_requests}, "a used run key never runs again"
        return result.run_requests, result.skip_reason.skip_message if result.skip_reason else ""

    def asked(self):
        return [f"{r.job_name} {r.partition_key}" for r in self.tick()[0]]

    def run(self, requests):
        """Run what was asked for, for real."""
        for request in requests:
            assert (
                self.defs.resolve_job_def(request.job_name)
                .execute_in_process(
                    instance=self.instance,
                    partition_key=request.partition_key,
                    asset_selection=list(request.asset_selection),
                    tags={**request.tags, RUN_KEY: request.run_key},
                )
                .success
            )

    def pretend(self, job, partition, status, request=None):
        """A run as Dagster would remember it."""
        tags = {**request.tags, RUN_KEY: request.run_key} if request else {}
        return self.instance.create_run_for_job(
            job_def=self.defs.resolve_job_def(job), tags={**tags, "dagster/partition": partition}, status=status
        )


@pytest.fixture
def world(chain_copy):
    return World(chain_copy)


def loosen(declared):
    declared["rigs"]["signals_rig"]["sensors"]["steering_rad"]["tolerance_ms"] += 1


def tighten(declared):
    declared["rigs"]["signals_rig"]["sensors"]["steering_rad"]["tolerance_ms"] -= 1


def train_longer(declared):
    declared["models"]["steering"]["training"]["epochs"] += 1


def add_a_dataset_and_its_model(declared):
    declared["datasets"]["other"] = {**declared["datasets"]["lane_keeping"], "rows_min": 2}
    declared["models"]["other"] = {**declared["models"]["steering"], "dataset": "other"}


def test_nothing_is_asked_for_where_everything_is_current(world):
    assert world.tick() == ([], "nothing is stale")


def test_a_changed_rig_asks_for_its_drives_from_the_frames_on_and_for_nothing_that_descends_from_them(world):
    world.declare(loosen)
    world.declare(train_longer)
    requests, _ = world.tick()
    drives = [d for d in world.lake.partitions("raw_logs") if d.startswith("signals_")]
    assert [(r.job_name, r.partition_key) for r in requests] == [("ingest", drive) for drive in drives]
    assert {tuple(key.to_user_string() for key in r.asset_selection) for r in requests} == {("sensor_frames",)}
    for request in requests:
        world.pretend("ingest", request.partition_key, dg.DagsterRunStatus.STARTED, request)
    assert world.asked() == []


def test_a_drive_that_is_gone_from_the_inbox_is_followed_up_too(world):
    shutil.rmtree(world.lake.inbox / "signals_01")
    assert world.asked() == []
    world.declare(loosen)
    assert "ingest signals_01" in world.asked()


def test_a_drive_that_stands_changed_in_the_inbox_is_left_to_the_other_sensor(world):
    world.declare(loosen)
    (world.lake.inbox / "signals_01" / "late.txt").write_text("still being copied")
    asked = world.asked()
    assert "ingest signals_01" not in asked
    assert "ingest signals_03" in asked


def test_a_declaration_that_comes_back_is_made_again(world):
    for change, attempt in ((loosen, 1), (tighten, 1), (loosen, 2)):
        world.declare(change)
        [request] = [r for r in world.tick()[0] if r.partition_key == "signals_01"]
        assert request.run_key.endswith(f":{attempt}")
        world.run([request])
        assert "ingest signals_01" not in world.asked()


def test_what_failed_twice_is_given_up_until_it_changes_and_its_descendants_go_on(world):
    world.declare(lambda declared: declared["datasets"]["lane_keeping"].update(rows_min=2))
    world.declare(train_longer)
    for _ in range(FAILURES_MAX):
        [request] = world.tick()[0]
        assert (request.job_name, request.partition_key) == ("curate", "lane_keeping")
        world.pretend("curate", "lane_keeping", dg.DagsterRunStatus.FAILURE, request)
    assert world.asked() == ["train steering"]
    world.declare(lambda declared: declared["datasets"]["lane_keeping"].update(rows_min=3))
    assert world.asked() == ["curate lane_keeping"]


def test_what_was_given_up_is_told(world):
    world.declare(lambda declared: declared["datasets"]["lane_keeping"].update(rows_min=2))
    for _ in range(FAILURES_MAX):
        [request] = world.tick()[0]
        world.pretend("curate", "lane_keeping", dg.DagsterRunStatus.FAILURE, request)
    told = world.tick()[1]
    assert told.startswith(f"curated_datasets/lane_keeping failed {FAILURES_MAX} times as it is declared")


def test_a_dataset_that_fails_or_runs_does_not_hold_up_a_model_of_another(world):
    world.declare(add_a_dataset_and_its_model)
    world.declare(train_longer)
    requests, _ = world.tick()
    assert [(r.job_name, r.partition_key) for r in requests] == [("curate", "other"), ("train", "steering")]
    world.pretend("curate", "other", dg.DagsterRunStatus.FAILURE, requests[0])
    requests, _ = world.tick()
    assert [r.partition_key for r in requests] == ["other", "steering"]
    world.pretend("curate", "other", dg.DagsterRunStatus.STARTED, requests[0])
    assert world.asked() == ["train steering"]


def test_a_stream_of_new_drives_holds_up_datasets_alone(world):
    world.pretend("ingest", "signals_99", dg.DagsterRunStatus.STARTED)
    world.declare(lambda declared: declared["datasets"]["lane_keeping"].update(rows_min=2))
    assert world.tick() == ([], "lane_keeping waits for 1 run(s) of new drives")
    world.declare(train_longer)
    assert world.asked() == ["train steering"]


def test_a_model_waits_for_the_run_of_its_dataset_and_an_artefact_for_that_of_its_model(world):
    world.declare(train_longer)
    running = world.pretend("curate", "lane_keeping", dg.DagsterRunStatus.STARTED)
    assert world.asked() == []
    world.instance.report_run_failed(running)
    assert world.asked() == ["train steering"]
    world.declare(lambda declared: declared["models"]["steering"]["training"].update(epochs=2))
    world.declare(lambda declared: declared["targets"]["portable"].update(parity_rows=8))
    running = world.pretend("train", "steering", dg.DagsterRunStatus.STARTED)
    assert world.asked() == []
    world.instance.report_run_failed(running)
    assert world.asked() == ["release steering@portable"]


def test_a_run_whose_process_died_does_not_hold_up_anything(world, monkeypatch):
    world.declare(train_longer)
    world.pretend("train", "steering", dg.DagsterRunStatus.STARTED)
    assert world.asked() == []
    later = time.time() + GRACE_S + 1
    monkeypatch.setattr("resources.liveness.time.time", lambda: later)
    assert world.asked() == ["train steering"]


def test_a_declaration_newer_than_the_code_location_is_told_and_asks_for_no_partition_dagster_does_not_know(world):
    file = world.lake.root / "lakehouse.yaml"
    declared = yaml.safe_load(file.read_text())
    add_a_dataset_and_its_model(declared)
    file.write_text(yaml.safe_dump(declared, sort_keys=False))
    requests, told = world.tick()
    assert requests == []
    assert told == "lakehouse.yaml changed since it was loaded: reload the code location"


def test_a_recipe_is_worked_out_once_a_tick(world, monkeypatch):
    worked_out = []
    real = Checkpoints.recipe
    monkeypatch.setattr(Checkpoints, "recipe", lambda *given: worked_out.append(given) or real(*given))
    world.declare(train_longer)
    assert world.asked() == ["train steering"]
    assert len(worked_out) == 1


def test_a_changed_calibration_is_asked_for_first_and_its_drives_after_it(world):
    text = "frames: {vehicle: {}, camera: {parent: vehicle, source: drawing, date: 2026-03-14}}"
    (world.lake.root / "calibration.yaml").write_text(text)
    world.declare(lambda declared: declared["rigs"]["signals_rig"].update(calibration="calibration.yaml"))
    requests, _ = world.tick()
    assert [(r.job_name, r.partition_key) for r in requests] == [("calibrate", "signals_rig")]
    world.run(requests)
    drives = [d for d in world.lake.partitions("raw_logs") if d.startswith("signals_")]
    assert world.asked() == [f"ingest {drive}" for drive in drives]
