"""What Dagster remembers of runs, as the sensors need it. Belongs here: which runs are under way, and what came of those before.

Never here: what to run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import takewhile

import dagster as dg

from sensors.jobs import JOBS

__all__ = [
    "ATTEMPT_TAG",
    "DRIVE_TAG",
    "PARTITION_TAG",
    "RECIPE_TAG",
    "RIG_TAG",
    "SIGNATURE_TAG",
    "TAG_CHARS",
    "History",
    "history",
    "jobs_of",
    "under_way",
]

ATTEMPT_TAG, DRIVE_TAG, RECIPE_TAG, RIG_TAG, SIGNATURE_TAG = (
    f"drivelake/{name}" for name in ("attempt", "drive", "recipe", "rig", "signature")
)
PARTITION_TAG = "dagster/partition"
TAG_CHARS = 40  # of a digest; Dagster allows 63 in a value
BUSY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]
UNDONE = [dg.DagsterRunStatus.FAILURE, dg.DagsterRunStatus.CANCELED]


@dataclass(frozen=True)
class History:
    """Attempts at one thing.

    Attributes:
        attempt: the number of the next one, from 1; Dagster never runs a used run key again, so each has its own.
        failures: how many of the latest failed in a row, or were stopped by a person.
    """

    attempt: int
    failures: int


def history(instance: dg.DagsterInstance, tags: Mapping[str, str]) -> History:
    """What came of the runs with these tags. The newest tells its number, so that deleting old runs frees no used key."""
    runs = instance.get_runs(dg.RunsFilter(tags=dict(tags)))  # newest first
    failed = takewhile(lambda run: run.status in UNDONE, runs)
    attempt = int(runs[0].tags.get(ATTEMPT_TAG, len(runs))) + 1 if runs else 1
    return History(attempt=attempt, failures=sum(1 for _ in failed))


def under_way(instance: dg.DagsterInstance) -> list[dg.DagsterRun]:
    """Runs that are queued or not yet at their end."""
    return list(instance.get_runs(dg.RunsFilter(statuses=BUSY)))


def jobs_of(run: dg.DagsterRun) -> list[str]:
    """Which jobs a run does the work of; one that a person started from the graph has only its selection of assets."""
    if run.job_name in JOBS:
        return [run.job_name]
    selected = {key.to_user_string() for key in run.asset_selection or ()}
    return [job for job, assets in JOBS.items() if selected.intersection(assets)]
