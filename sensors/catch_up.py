"""Everything now, in the foreground: what the sensors would ask for over time, in one pass a person can follow.

Belongs here: the order of the jobs and what is told about each. Never here: what a job does, or how words are shown.
"""

import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass

import dagster as dg

from assets.partitions import DRIVES, artefact_keys, calibrated
from assets.stages import STAGES
from compile.targets import missing
from drivelake.errors import DrivelakeError
from drivelake.evidence.notary import LakeNotary, establish_trust
from drivelake.inbox import look
from drivelake.lake import Lake
from drivelake.stage import stale_because
from resources.liveness import fail_dead_runs
from sensors.jobs import JOBS, assets_of

__all__ = ["Outcome", "catch_up"]

QUIET = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}


@dataclass(frozen=True)
class Outcome:
    """One partition of one job: ``made``, ``current`` (nothing changed), ``skipped`` or ``failed``, and why."""

    job: str
    partition: str
    status: str
    reason: str = ""
    seconds: float = 0.0


def catch_up(
    lake: Lake,
    defs: dg.Definitions,
    instance: dg.DagsterInstance,
    *,
    jobs: Collection[str] = tuple(JOBS),
    drives: Sequence[str] | None = None,
    tell: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Run what is stale, job after job; a partition that fails is told and does not hold up others.

    Args:
        lake: where.
        defs: the definitions of that lake.
        instance: Dagster's, so that the UI shows everything that is made here.
        jobs: which of JOBS.
        drives: only these drives; all of the inbox, and those of the lake that are gone from there, when not given.
        tell: hears each outcome as it happens.
    """
    outcomes: list[Outcome] = []
    fail_dead_runs(lake, instance)
    establish_trust(lake)
    LakeNotary(lake).recover()

    def note(outcome: Outcome) -> None:
        outcomes.append(outcome)
        tell(outcome)

    for job in (name for name in JOBS if name in jobs):
        for partition, obstacle in _partitions(lake, job, drives):
            if obstacle:
                note(Outcome(job, partition, "skipped", obstacle))
                continue
            if job == "ingest":
                instance.add_dynamic_partitions(DRIVES.name or "", [partition])
            note(_run(lake, defs, instance, job, partition))
    return outcomes


def _partitions(lake: Lake, job: str, drives: Sequence[str] | None) -> Iterator[tuple[str, str]]:
    """Partitions of a job, each with what stands in its way."""
    declared = lake.declaration
    if job == "calibrate":
        yield from ((rig, "") for rig in calibrated(declared))
    elif job == "ingest":
        arrivals = {a.drive: a for a in look(lake, time.time())}
        # a drive that was taken out of the inbox stays in the lake; a changed rig or code version still reaches its frames
        kept = {d for d in lake.partitions("raw_logs") if d not in arrivals and declared.names_drive(d)}
        for drive in drives if drives is not None else sorted({*arrivals, *kept}):
            arrival = arrivals.get(drive)
            if arrival is None:
                yield drive, "" if drive in kept else "it is not in the inbox"
                continue
            # in the foreground a person decides that the drive is ready; only a declared marker still counts
            yield drive, arrival.refused or (arrival.waiting if declared.ingest.marker else "")
    elif job == "curate":
        yield from ((name, "") for name in declared.datasets)
    elif job == "train":
        yield from ((name, "") for name in declared.models)
    else:
        yield from ((key, missing(declared.targets[key.partition("@")[2]]) or "") for key in artefact_keys(declared))


def _run(lake: Lake, defs: dg.Definitions, instance: dg.DagsterInstance, job: str, partition: str) -> Outcome:
    """One run of what is stale of the job's assets, from the first stale one on."""
    started = time.monotonic()
    try:
        assets = assets_of(lake, job, partition)
        reasons = ((asset, stale_because(STAGES[asset], lake, partition)) for asset in assets)
        first, because = next(((asset, reason) for asset, reason in reasons if reason), ("", ""))
        if not first:
            return Outcome(job, partition, "current")
        wanted = assets[assets.index(first) :]
        result = defs.resolve_job_def(job).execute_in_process(
            run_config=QUIET,
            instance=instance,
            partition_key=partition,
            asset_selection=[dg.AssetKey(asset) for asset in wanted],
            raise_on_error=False,
        )
    except DrivelakeError as refusal:
        return Outcome(job, partition, "failed", str(refusal), time.monotonic() - started)
    told = "; ".join(_words(event) for event in result.all_events if event.is_step_failure)
    if not result.success:
        return Outcome(job, partition, "failed", told or "see the run in the UI", time.monotonic() - started)
    return Outcome(job, partition, "made", because, time.monotonic() - started)


def _words(event: dg.DagsterEvent) -> str:
    """The domain's own sentence where there is one, else the first cause."""
    failure = event.step_failure_data
    if failure.user_failure_data and failure.user_failure_data.description:
        return failure.user_failure_data.description
    error = failure.error
    while error and error.cause:
        error = error.cause
    return error.message.strip() if error else "unknown"
