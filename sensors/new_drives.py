"""The sensor that finds drives. Belongs here: comparing inbox and catalogue each tick, asking for runs.

Every tick looks at the whole inbox, so nothing is lost while the daemon was off; there is no cursor to lose.
"""

import hashlib
import time
from collections.abc import Collection

import dagster as dg

from assets.partitions import DRIVES
from drivelake.inbox import Arrival, look
from drivelake.lake import Lake
from resources import LakeResource
from resources.liveness import fail_dead_runs
from sensors.runs import ATTEMPT_TAG, DRIVE_TAG, PARTITION_TAG, RIG_TAG, SIGNATURE_TAG, TAG_CHARS, history, under_way

__all__ = ["ATTEMPTS_MAX", "REQUESTS_MAX", "new_drives"]

# The same bytes under the same rig that failed three times will fail again; a change of either starts anew.
ATTEMPTS_MAX = 3
REQUESTS_MAX = 200  # a tick; the rest comes with the next one


@dg.sensor(
    job_name="ingest",
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Registers drives of the inbox once they are complete, and runs those that are new or changed.",
)
def new_drives(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
    """One run a drive that is not done: its bytes are not landed, or its frames do not descend from what landed.

    A drive that cannot be run does not hold up the others.
    """
    opened = lake.open()
    for run_id in fail_dead_runs(opened, context.instance):
        context.log.warning(f"run {run_id} has no process any more; reported failed")
    busy = {run.tags.get(DRIVE_TAG) or run.tags.get(PARTITION_TAG, "") for run in under_way(context.instance)}
    requests: list[dg.RunRequest] = []
    held: list[str] = []
    for arrival in look(opened, time.time()):
        if len(requests) == REQUESTS_MAX:
            break
        if arrival.done:
            continue
        asked = _request(opened, context.instance, arrival, busy)
        if isinstance(asked, str):
            held.append(f"{arrival.drive}: {asked}")
        else:
            requests.append(asked)
    for sentence in held:
        context.log.info(sentence)
    keys = [r.partition_key for r in requests if r.partition_key]
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
        partition_key=arrival.drive,
        tags={**same, ATTEMPT_TAG: str(past.attempt), "drivelake/lake": lake.declaration.lakehouse},
    )


def _rig(lake: Lake, drive: str) -> str:
    """Digest of the rig that is declared for a drive, for a tag."""
    name, rig = lake.declaration.rig_of(drive)
    return hashlib.sha256(f"{name}\0{rig.model_dump_json()}".encode()).hexdigest()[:TAG_CHARS]


def _idle(held: list[str]) -> str:
    if not held:
        return "every drive in the inbox is landed and has its frames"
    return f"{len(held)} drive(s) held: {'; '.join(held[:5])}"
