"""The inbox: which drives are there and which of them are ready. Belongs here: names, completeness, what changed.

Never here: running anything, remembering what ran (the catalogue does), opening a log.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from drivelake.catalogue import Catalogue, signature
from drivelake.errors import InputError, NotFound
from drivelake.lake import Lake
from drivelake.manifest import check_partition

__all__ = ["Arrival", "look"]


@dataclass(frozen=True)
class Arrival:
    """One folder of the inbox. ``refused`` says why its name cannot be a key; ``waiting`` what it still waits for."""

    drive: str
    signature: str = ""
    landed: bool = False
    waiting: str = ""
    refused: str = ""


def look(lake: Lake, now_s: float) -> list[Arrival]:
    """Every folder in the inbox, sorted by name; hidden folders are transfers in progress and no drives.

    Raises:
        NotFound: the inbox itself is not there.
    """
    if not lake.inbox.is_dir():
        raise NotFound(
            f"The inbox {lake.inbox} does not exist.", next_step="create it, or correct ingest.inbox in lakehouse.yaml"
        )
    catalogue = Catalogue(lake.root / "catalogue.sqlite")
    with os.scandir(lake.inbox) as entries:
        names = sorted(e.name for e in entries if e.is_dir() and not e.name.startswith("."))
    return [_arrival(lake, catalogue, name, now_s) for name in names]


def _arrival(lake: Lake, catalogue: Catalogue, drive: str, now_s: float) -> Arrival:
    try:
        check_partition(drive)
    except InputError as error:
        return Arrival(drive, refused=str(error))
    folder = lake.inbox / drive
    try:
        now = signature(folder)
    except FileNotFoundError:
        return Arrival(drive, waiting="its files change while they are listed")
    row = catalogue.look(drive, now, now_s)
    ingest = lake.declaration.ingest
    waiting = ""
    if ingest.marker is not None:
        if not (folder / ingest.marker).is_file():
            waiting = f"no {ingest.marker} yet"
    elif now_s - row.seen_s < ingest.quiet_s:
        waiting = f"quiet for {now_s - row.seen_s:.0f} s of {ingest.quiet_s:g} s"
    return Arrival(drive, signature=now, landed=row.landed == now, waiting=waiting)
