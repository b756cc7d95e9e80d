"""The sensor that finds drives. Belongs here: comparing inbox and catalogue each tick, asking for runs.

Every tick looks at the whole inbox, so nothing is lost while the daemon was off; there is no cursor to lose.
"""

import hashlib
import time
from collections.abc import Collection

import dagster as dg

from assets.partitions import DRIVES
from assets.stages import STAGES
from drivelake.errors import DrivelakeError
from drivelake.inbox import Arrival, look
from drivelake.lake import Lake
from drivelake.stage import planned
from resources import LakeResource
from resources.liveness import fail_dead_runs
from sensors.jobs import ASSET_JOBS
from sensors.runs import (
    ATTEMPT_TAG,
    DRIVE_TAG,
    PARTITION_TAG,
    RECIPE_TAG,
    RIG_TAG,
    SIGNATURE_TAG,
    TAG_CHARS,
    history,
    jobs_of,
    under_way,
)

__all__ = ["ATTEMPTS_MAX", "REQUESTS_MAX", "new_drives"]

# The same bytes under the same rig that failed three times will fail again; a change of either starts anew.
ATTEMPTS_MAX = 3
REQUESTS_MAX = 200  # a tick; the rest comes with the next one


@dg.sensor(
    jobs=[job for job in ASSET_JOBS if job.name in ("calibrate", "ingest")],
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Registers drives of the inbox once they are complete, and runs those that are new or changed.",
)
def new_drives(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
    """One run a drive that is not done: its bytes are not landed, or its frames do not descend from what landed.

    A drive that cannot be run does not hold up the others. The first drive of a rig that names a calibration waits until
    that has been published, which is asked for here too.
    """
    opened = lake.open()
    for run_id in fail_dead_runs(opened, context.instance):
        context.log.warning(f"run {run_id} has no process any more; reported failed")
    running = under_way(context.instance)
    busy = {run.tags.get(DRIVE_TAG) or run.tags.get(PARTITION_TAG, "") for run in running if "calibrate" not in jobs_of(run)}
    calibrating = {run.tags.get(PARTITION_TAG, "") for run in running if "calibrate" in jobs_of(run)}
    requests: list[dg.RunRequest] = []
    held: list[str] = []
    uncalibrated: dict[str, str] = {}
    for arrival in look(opened, time.time()):
        if len(requests) == REQUESTS_MAX:
            break
        if arrival.done:
            continue
        asked = _request(opened, context.instance, arrival, busy)
        rig = _uncalibrated(opened, arrival.drive) if isinstance(asked, dg.RunRequest) else None
        if rig is not None:
            if rig not in uncalibrated:
                calibration = _calibration(opened, context.instance, rig, calibrating)
                if isinstance(calibration, dg.RunRequest):
                    requests.append(calibration)
                uncalibrated[rig] = calibration if isinstance(calibration, str) else "it is asked for now"
            asked = f"waits for the calibration of {rig}: {uncalibrated[rig]}"
        if isinstance(asked, str):
            held.append(f"{arrival.drive}: {asked}")
        else:
            requests.append(asked)
    for sentence in held:
        context.log.info(sentence)
    keys = [r.partition_key for r in requests if r.partition_key and r.job_name == "ingest"]
    known = set(DRIVES.get_partition_keys(dynamic_partitions_store=context.instance))
    fresh = [key for key in keys if key not in known]
    return dg.SensorResult(
        run_requests=requests,
        dynamic_partitions_requests=[DRIVES.build_add_request(fresh)] if fresh else [],
        skip_reason=None if requests else dg.SkipReason(_idle(held)),
    )


def _request(lake: Lake, instance: dg.DagsterInstance, arrival: Arrival, busy: Collection[str]) -> dg.RunRequest | str:
    """The run of a drive, or why there is none now."""
    if arrival.refused or arrival.waiting:
        return arrival.refused or arrival.waiting
    if not lake.declaration.names_drive(arrival.drive):
        return "no declared rig names it"
    if arrival.drive in busy:
        return "a run of it is under way"
    same = {DRIVE_TAG: arrival.drive, SIGNATURE_TAG: arrival.signature[:TAG_CHARS], RIG_TAG: _rig(lake, arrival.drive)}
    past = history(instance, same)
    if past.failures >= ATTEMPTS_MAX:
        return f"failed {past.failures} times with the same bytes; replace its files, correct its rig, or run it from the UI"
    return dg.RunRequest(
        run_key=f"{arrival.drive}:{arrival.signature[:16]}:{same[RIG_TAG][:16]}:{past.attempt}",
        job_name="ingest",
        partition_key=arrival.drive,
        tags={**same, ATTEMPT_TAG: str(past.attempt), "drivelake/lake": lake.declaration.lakehouse},
    )


def _uncalibrated(lake: Lake, drive: str) -> str | None:
    """The drive's rig, if it names a calibration of which no version stands yet."""
    name, rig = lake.declaration.rig_of(drive)
    return name if rig.calibration is not None and name not in lake.partitions("calibrations") else None


def _calibration(lake: Lake, instance: dg.DagsterInstance, rig: str, calibrating: Collection[str]) -> dg.RunRequest | str:
    """The run of a calibration, or why there is none now."""
    if rig in calibrating:
        return "a run of it is under way"
    stage = STAGES["calibrations"]
    try:
        recipe = planned(stage, rig, stage.recipe(lake, rig)).recipe
    except DrivelakeError as refusal:
        return str(refusal)
    past = history(instance, {RECIPE_TAG: recipe[:TAG_CHARS]})
    if past.failures >= ATTEMPTS_MAX:
        return f"failed {past.failures} times with the same file; correct it"
    return dg.RunRequest(
        run_key=f"calibrations:{rig}:{recipe}:{past.attempt}",
        job_name="calibrate",
        partition_key=rig,
        tags={RECIPE_TAG: recipe[:TAG_CHARS], ATTEMPT_TAG: str(past.attempt), "drivelake/lake": lake.declaration.lakehouse},
    )


def _rig(lake: Lake, drive: str) -> str:
    """Digest of the rig that is declared for a drive, for a tag."""
    name, rig = lake.declaration.rig_of(drive)
    return hashlib.sha256(f"{name}\0{rig.model_dump_json()}".encode()).hexdigest()[:TAG_CHARS]


def _idle(held: list[str]) -> str:
    if not held:
        return "every drive in the inbox is landed and has its frames"
    return f"{len(held)} drive(s) held: {'; '.join(held[:5])}"
