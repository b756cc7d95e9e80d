"""The inbox: which drives are there and which of them are ready. Belongs here: names, completeness, what changed.

Never here: running anything, remembering what ran (the catalogue does), opening a log.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from drivelake.catalogue import Catalogue, Row, signature
from drivelake.errors import InputError, NotFound
from drivelake.lake import Lake
from drivelake.manifest import check_partition

__all__ = ["Arrival", "look"]


@dataclass(frozen=True)
class Arrival:
    """One folder of the inbox.

    Attributes:
        drive: its name.
        signature: of its files as they stand.
        done: these files are landed, and frames that descend from them are published.
        waiting: what it still waits for; empty when it is ready.
        refused: why its name cannot be a key; empty when it can.
    """

    drive: str
    signature: str = ""
    done: bool = False
    waiting: str = ""
    refused: str = ""


def look(lake: Lake, now_s: float) -> list[Arrival]:
    """Every folder in the inbox, sorted by name; hidden folders are transfers in progress and no drives.

    Args:
        lake: whose inbox.
        now_s: seconds since the epoch; the quiet time is counted from it.

    Raises:
        NotFound: the inbox itself is not there.
    """
    if not lake.inbox.is_dir():
        raise NotFound(
            f"The inbox {lake.inbox} does not exist.", next_step="create it, or correct ingest.inbox in lakehouse.yaml"
        )
    with os.scandir(lake.inbox) as entries:
        found = [_unjudged(lake, e.name) for e in entries if e.is_dir() and not e.name.startswith(".")]
    rows = Catalogue(lake.root / "catalogue.sqlite").look({a.drive: a.signature for a in found if a.signature}, now_s)
    arrivals = (_judged(lake, a, rows[a.drive], now_s) if a.signature else a for a in found)
    return sorted(arrivals, key=lambda arrival: arrival.drive)


def _unjudged(lake: Lake, drive: str) -> Arrival:
    """A folder by its signature, or by what hinders one."""
    try:
        return Arrival(check_partition(drive), signature=signature(lake.inbox / drive))
    except InputError as error:
        return Arrival(drive, refused=str(error))
    except FileNotFoundError:
        return Arrival(drive, waiting="its files change while they are listed")


def _judged(lake: Lake, arrival: Arrival, row: Row, now_s: float) -> Arrival:
    """The same beside what the catalogue knows of it."""
    ingest = lake.declaration.ingest
    waiting = ""
    if ingest.marker is not None:
        if not (lake.inbox / arrival.drive / ingest.marker).is_file():
            waiting = f"no {ingest.marker} yet"
    elif now_s - row.seen_s < ingest.quiet_s:
        waiting = f"quiet for {now_s - row.seen_s:.0f} s of {ingest.quiet_s:g} s"
    return replace(arrival, done=row.done, waiting=waiting)
