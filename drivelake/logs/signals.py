"""The signals folder of a drive: its logs as Parquet tables, and their index.

Belongs here: which logs gave what, ``index.json``. Never here: formats of logs, how a table is written (tables).
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TypedDict, cast

from pydantic import JsonValue

from drivelake.errors import LogDamaged, UnsupportedLog
from drivelake.logs.isolation import Caps, ReaderProcess, in_readers
from drivelake.logs.report import Recovery, unusable
from drivelake.logs.tables import ChannelRecovery, FramesEntry, LogTables, TableEntry, UnsupportedEntry

__all__ = ["SignalsIndex", "write_signals"]

INDEX = "index.json"


class QuarantinedEntry(TypedDict):
    """A log that gave no table."""

    log: str
    reason: str


class SalvagedEntry(TypedDict):
    """A damaged log whose sound part stands in its tables."""

    log: str
    damage: list[str]
    channels: list[ChannelRecovery]


class SignalsIndex(TypedDict):
    """``index.json``."""

    tables: list[TableEntry]
    quarantined: list[QuarantinedEntry]
    salvaged: list[SalvagedEntry]
    unsupported: list[UnsupportedEntry]
    undecoded_frames: list[FramesEntry]
    silent: list[str]  # sound logs that hold no channel at all


def write_signals(
    logs: Mapping[str, Path],
    out: Path,
    *,
    databases: Sequence[Path] = (),
    quarantined: Mapping[str, str],
    keep_salvaged_share: float = 0.5,
    caps: Caps | None = None,
) -> SignalsIndex:
    """Write one Parquet table a channel, and ``index.json``; the same logs give the same bytes.

    Each log is read in a process of its own, two at a time. Of a damaged log the sound part is written, if that is enough
    of it; else it joins the quarantined ones, with the reason, and leaves no table.

    Args:
        logs: path of each log, by its name inside the drive.
        out: the folder to write; made if it is not there.
        databases: CAN databases of the drive.
        quarantined: reason by name of the logs that are not to be read.
        keep_salvaged_share: as in :func:`~drivelake.logs.report.unusable`.
        caps: what reading one log may take.

    Returns:
        What ``index.json`` holds.

    Raises:
        InputError: a database that cannot be read.
    """
    out.mkdir(parents=True, exist_ok=True)
    reasons = dict(quarantined)
    names = [log for log in sorted(logs) if log not in reasons]

    def read(reader: ReaderProcess, log: str) -> LogTables | str:
        return _read(reader, log, logs[log], out, databases, keep_salvaged_share)

    index: SignalsIndex = {
        "tables": [],
        "quarantined": [],
        "salvaged": [],
        "unsupported": [],
        "undecoded_frames": [],
        "silent": [],
    }
    for log, found in zip(names, in_readers(names, read, caps), strict=True):
        if isinstance(found, str):
            reasons[log] = found
            continue
        index["tables"] += found["tables"]
        index["unsupported"] += found["unsupported"]
        index["undecoded_frames"] += found["undecoded_frames"]
        if found["damage"]:
            index["salvaged"].append({"log": log, "damage": found["damage"], "channels": found["channels"]})
        elif not (found["tables"] or found["unsupported"] or found["undecoded_frames"]):
            index["silent"].append(log)
    index["quarantined"] = [{"log": log, "reason": reason} for log, reason in sorted(reasons.items())]
    (out / INDEX).write_text(json.dumps(index, indent=1, sort_keys=True, ensure_ascii=False) + "\n", encoding="utf-8")
    return index


def _read(
    reader: ReaderProcess, log: str, path: Path, out: Path, databases: Sequence[Path], keep_share: float
) -> LogTables | str:
    """What a log gave, or why it is quarantined."""
    arguments: dict[str, JsonValue] = {
        "log": log,
        "path": str(path.absolute()),
        "out": str(out.absolute()),
        "databases": [str(database.absolute()) for database in databases],
    }
    try:
        found = cast("LogTables", reader.ask("tables", path, arguments))
        recovered = [Recovery(c["channel"], c["expected"], c["recovered"], c["lost"], tuple(c["why"])) for c in found["channels"]]
        reason = unusable(found["damage"], recovered, keep_share)
    except (LogDamaged, UnsupportedLog) as error:
        reason = error.message
    if not reason:
        return found
    if (out / log).exists():
        shutil.rmtree(out / log)
    return reason
