"""Which runs still have a process. Belongs here: a lock a run's process holds for as long as it lives, and asking for it.

Never here: what is done about a dead run (sensors and the foreground pass report it failed). Dagster's default launcher
has no health check: after a kill or a power loss a run would read STARTED for ever, and hold its drive with it.
"""

import fcntl
import time
from pathlib import Path
from typing import BinaryIO

import dagster as dg

from drivelake.lake import Lake

__all__ = ["fail_dead_runs", "mark_alive"]

# A worker imports for some seconds before its first step can take the lock; slow disks are given more.
GRACE_S = 300.0
HAVE_A_PROCESS = [dg.DagsterRunStatus.STARTING, dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.CANCELING]
_held: dict[Path, BinaryIO] = {}  # open for as long as the process lives; the kernel lets go when it dies


def mark_alive(lake: Lake, run_id: str) -> None:
    """Hold the run's lock until this process ends, however it ends."""
    path = _lock(lake, run_id)
    if path in _held:
        return
    path.parent.mkdir(exist_ok=True)
    handle = path.open("ab")
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    _held[path] = handle


def fail_dead_runs(lake: Lake, instance: dg.DagsterInstance) -> list[str]:
    """Report every run as failed whose process is gone; gives their ids."""
    dead = []
    for record in instance.get_run_records(dg.RunsFilter(statuses=HAVE_A_PROCESS)):
        run = record.dagster_run
        if _is_dead(_lock(lake, run.run_id), time.time() - record.update_timestamp.timestamp()):
            instance.report_run_failed(run, "its process is gone: killed, or the machine went down; it may be run again")
            dead.append(run.run_id)
    return dead


def _lock(lake: Lake, run_id: str) -> Path:
    return lake.root / "runs" / f"{run_id}.lock"


def _is_dead(lock: Path, silent_s: float) -> bool:
    if not lock.exists():
        return silent_s > GRACE_S
    with lock.open("ab") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
