"""The sensor that follows up: what stands on older inputs, an older declaration or older code is made again.

Belongs here: which partitions are asked for, and which wait for what. Never here: new or changed drives (``new_drives``
sees to them), running anything. Off by default: a team decides itself when a training starts.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass, field

import dagster as dg

from assets.partitions import DRIVES, artefact_keys, calibrated
from assets.stages import STAGES
from compile.targets import missing
from drivelake.declaration import Declaration
from drivelake.errors import DrivelakeError, NotFound
from drivelake.inbox import look
from drivelake.lake import Lake
from drivelake.stage import planned
from resources import LakeResource
from resources.liveness import fail_dead_runs
from sensors.jobs import ASSET_JOBS, JOBS, assets_of
from sensors.runs import ATTEMPT_TAG, DRIVE_TAG, PARTITION_TAG, RECIPE_TAG, TAG_CHARS, history, jobs_of, under_way

__all__ = ["FAILURES_MAX", "build_stale_versions", "partitions_of"]

# A training is dear: what failed twice with the same inputs and parameters is left to a person, until one of them changes.
FAILURES_MAX = 2
REQUESTS_MAX = 200  # a tick; the rest comes with the next one


@dataclass
class Survey:
    """What one tick found.

    Attributes:
        requests: the runs to ask for.
        told: why something stale is not asked for, a sentence each.
        moving: job and partition of what is being made again, is asked for now, or stands on such.
        busy: job and partition of every run under way, those of new drives too.
    """

    requests: list[dg.RunRequest] = field(default_factory=list)
    told: list[str] = field(default_factory=list)
    moving: set[tuple[str, str]] = field(default_factory=set)
    busy: set[tuple[str, str]] = field(default_factory=set)


def partitions_of(lake: Lake, declaration: Declaration, job: str) -> list[str]:
    """Partitions of a job that can be followed up.

    Of drives: those landed that a rig names; one that stands in the inbox and is not done is left to ``new_drives``.
    Of artefacts: those whose toolchain is there.
    """
    if job == "calibrate":
        return calibrated(declaration)
    if job == "ingest":
        pending = {arrival.drive for arrival in look(lake, time.time()) if not arrival.done}
        return [d for d in lake.partitions("raw_logs") if declaration.names_drive(d) and d not in pending]
    if job == "curate":
        return list(declaration.datasets)
    if job == "train":
        return list(declaration.models)
    return [key for key in artefact_keys(declaration) if missing(declaration.targets[key.partition("@")[2]]) is None]


def build_stale_versions(declaration: Declaration) -> dg.SensorDefinition:
    """The sensor for a code location that was loaded with this declaration; its partitions are the ones Dagster knows."""

    @dg.sensor(
        jobs=ASSET_JOBS,
        minimum_interval_seconds=60,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Runs what is stale, from the first stale asset on: calibrations, drives, datasets, checkpoints, artefacts.",
    )
    def stale_versions(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
        opened = lake.open()
        for run_id in fail_dead_runs(opened, context.instance):
            context.log.warning(f"run {run_id} has no process any more; reported failed")
        found = survey(opened, declaration, context.instance)
        if opened.declaration != declaration:
            found.told.insert(0, "lakehouse.yaml changed since it was loaded: reload the code location")
        for sentence in found.told:
            context.log.info(sentence)
        drives = [str(r.partition_key) for r in found.requests if r.job_name == "ingest"]
        known = set(DRIVES.get_partition_keys(dynamic_partitions_store=context.instance))
        fresh = [drive for drive in drives if drive not in known]
        return dg.SensorResult(
            run_requests=found.requests,
            dynamic_partitions_requests=[DRIVES.build_add_request(fresh)] if fresh else [],
            skip_reason=None if found.requests else dg.SkipReason("; ".join(found.told[:5]) or "nothing is stale"),
        )

    return stale_versions


def survey(lake: Lake, declaration: Declaration, instance: dg.DagsterInstance) -> Survey:
    """What is asked for now, so that nothing is made from what is about to change and nothing waits for what is not.

    Calibrations, drives, datasets, models and artefacts are judged in this order. A partition is *moving* while a run makes
    it, when this tick asks for it, or when what it is made from is moving: its rig's calibration for a drive, any drive
    for a dataset, its dataset for a model, its model for an artefact. What is moving is not asked for; it is judged again
    once the run above it has ended.

    - Runs of new drives, which may go on all day, hold up datasets alone, since a dataset takes every drive there is:
      it is asked for on a tick without such a run. Models and artefacts go on from the versions that stand.
    - A stale partition that was given up, or that waits for new drives, is not moving: it may stay as it is for long.
      What descends from it is made from its version at main.
    """
    found = Survey()
    arriving = _note_runs(found, under_way(instance))
    for job in JOBS:
        for partition in partitions_of(lake, declaration, job):
            here = (job, partition)
            if here in found.busy:
                continue
            if _stands_on_moving(found, declaration, job, partition):
                found.moving.add(here)
            elif job == "curate" and arriving:
                found.told.append(f"{partition} waits for {arriving} run(s) of new drives")
            else:
                _judge(found, lake, instance, job, partition)
    return found


def _note_runs(found: Survey, runs: Iterable[dg.DagsterRun]) -> int:
    """Note what runs make; gives how many of them ingest drives that this sensor did not ask for."""
    arriving = 0
    for run in runs:
        for job in jobs_of(run):
            here = (job, run.tags.get(PARTITION_TAG) or run.tags.get(DRIVE_TAG, ""))
            found.busy.add(here)
            if job == "ingest" and RECIPE_TAG not in run.tags:
                arriving += 1
            else:
                found.moving.add(here)
    return arriving


def _stands_on_moving(found: Survey, declaration: Declaration, job: str, partition: str) -> bool:
    if job == "ingest":
        return ("calibrate", declaration.rig_of(partition)[0]) in found.moving
    if job == "curate":
        return any(upstream == "ingest" for upstream, _ in found.moving)
    if job == "train":
        return ("curate", declaration.models[partition].dataset) in found.moving
    return job == "release" and ("train", partition.partition("@")[0]) in found.moving


def _judge(found: Survey, lake: Lake, instance: dg.DagsterInstance, job: str, partition: str) -> None:
    """Ask for a partition when it is stale, or tell why not."""
    try:
        stale = _first_stale(lake, job, partition)
    except NotFound:
        return  # an input does not exist yet: what makes it comes first
    except DrivelakeError as refusal:
        found.told.append(f"{job} {partition}: {refusal}")
        return
    if stale is None:
        return
    assets, recipe = stale
    tags = {RECIPE_TAG: recipe[:TAG_CHARS]}
    past = history(instance, tags)
    if past.failures >= FAILURES_MAX:
        found.told.append(
            f"{assets[0]}/{partition} failed {past.failures} times as it is declared; change it, or run it from the UI"
        )
        return
    found.moving.add((job, partition))
    if len(found.requests) == REQUESTS_MAX:
        return
    found.requests.append(
        dg.RunRequest(
            run_key=f"{assets[0]}:{partition}:{recipe}:{past.attempt}",
            job_name=job,
            partition_key=partition,
            asset_selection=[dg.AssetKey(asset) for asset in assets],
            tags={
                **tags,
                ATTEMPT_TAG: str(past.attempt),
                "drivelake/lake": lake.declaration.lakehouse,
                **({DRIVE_TAG: partition} if job == "ingest" else {}),
            },
        )
    )


def _first_stale(lake: Lake, job: str, partition: str) -> tuple[tuple[str, ...], str] | None:
    """Assets of the job from the first stale one on, and the recipe of that one; None when all are current."""
    assets = assets_of(lake, job, partition)
    for position, asset in enumerate(assets):
        wanted = planned(STAGES[asset], partition, STAGES[asset].recipe(lake, partition)).recipe
        try:
            current = lake.head(asset, partition).manifest.recipe == wanted
        except NotFound:
            current = False
        if not current:
            return assets[position:], wanted
    return None
