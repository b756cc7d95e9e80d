"""The sensor that finds drives. Belongs here: comparing inbox and catalogue each tick, asking for runs.

Every tick looks at the whole inbox, so nothing is lost while the daemon was off; there is no cursor to lose.
"""

import time

import dagster as dg

from assets.partitions import DRIVES
from drivelake.catalogue import Catalogue
from drivelake.inbox import Arrival, look
from drivelake.lake import Lake
from resources import LakeResource
from resources.liveness import fail_dead_runs

__all__ = ["ATTEMPTS_MAX", "new_drives"]

# The same bytes that failed three times will fail again; a replaced file starts anew.
ATTEMPTS_MAX = 3
REQUESTS_MAX = 200  # a tick; the rest comes with the next one
DRIVE_TAG, SIGNATURE_TAG = "drivelake/drive", "drivelake/signature"
BUSY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


@dg.sensor(
    job_name="ingest",
    minimum_interval_seconds=15,
    default_status=dg.DefaultSensorStatus.RUNNING,
    description="Registers drives of the inbox once they are complete, and runs those that are new or changed.",
)
def new_drives(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
    """One run a drive whose bytes are not landed; a drive that cannot be run does not hold up the others."""
    opened = lake.open()
    catalogue = Catalogue(opened.root / "catalogue.sqlite")
    for run_id in fail_dead_runs(opened, context.instance):
        context.log.warning(f"run {run_id} has no process any more; reported failed")
    requests: list[dg.RunRequest] = []
    held: list[str] = []
    for arrival in look(opened, time.time()):
        reason = _held(context.instance, arrival)
        if reason:
            held.append(f"{arrival.drive}: {reason}")
        elif not arrival.landed and len(requests) < REQUESTS_MAX:
            requests.append(_request(opened, catalogue, arrival))
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


def _held(instance: dg.DagsterInstance, arrival: Arrival) -> str:
    """Why a drive is not run now; empty when it may be."""
    if arrival.refused or arrival.waiting:
        return arrival.refused or arrival.waiting
    if arrival.landed:
        return ""
    tags = {DRIVE_TAG: arrival.drive}
    if instance.get_runs_count(dg.RunsFilter(tags=tags, statuses=BUSY)):
        return "a run of it is under way"
    same = {**tags, SIGNATURE_TAG: arrival.signature[:40]}
    failures = instance.get_runs_count(dg.RunsFilter(tags=same, statuses=[dg.DagsterRunStatus.FAILURE]))
    if failures >= ATTEMPTS_MAX:
        return f"failed {failures} times with the same bytes; replace its files, or run it from the UI"
    return ""


def _request(lake: Lake, catalogue: Catalogue, arrival: Arrival) -> dg.RunRequest:
    """The attempt only counts up, since Dagster remembers a used run key for ever."""
    attempt = catalogue.request(arrival.drive)
    return dg.RunRequest(
        run_key=f"{arrival.drive}:{arrival.signature[:16]}:{attempt}",
        partition_key=arrival.drive,
        tags={DRIVE_TAG: arrival.drive, SIGNATURE_TAG: arrival.signature[:40], "drivelake/lake": lake.declaration.lakehouse},
    )


def _idle(held: list[str]) -> str:
    if not held:
        return "every drive in the inbox is landed"
    return f"{len(held)} drive(s) held: {'; '.join(held[:5])}"
