"""Which reader a log gets, and the two functions of this room. Belongs here: the dispatch by content and by name.

Never here: anything about a format beyond its first bytes.
"""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path, PurePath

from drivelake.errors import LogDamaged, MissingChannel, UnsupportedLog
from drivelake.logs.report import ChannelReport, Leftovers, LogBatch, LogReport

__all__ = ["DATABASE_SUFFIXES", "LOG_SUFFIXES", "inspect_log", "is_log", "read_log"]

LOG_SUFFIXES = frozenset({".mcap", ".mf4", ".mdf"})
DATABASE_SUFFIXES = frozenset({".dbc"})

FAMILY_OF_SUFFIX = {".mcap": "mcap", ".mf4": "mdf", ".mdf": "mdf"}
FAMILY_OF_START = {b"\x89MCAP0\r\n": "mcap", b"MDF     ": "mdf", b"UnFinMF ": "mdf"}


def is_log(path: PurePath) -> bool:
    """Whether a file of a drive is a log, by the end of its name, whatever its case."""
    return path.suffix.lower() in LOG_SUFFIXES


def inspect_log(path: Path, *, name: str | None = None) -> LogReport:
    """Read every byte of a log and verify every checksum its format has.

    Damage never raises: it stands in the report, a sentence each. For a log that was cut short, the channels say what
    can be read before the cut; behind a chunk that fails its checksum, reading goes on with the next.

    Args:
        path: the file.
        name: its path inside the drive, for the report; its file name otherwise.

    Raises:
        OSError: the file is not there, or the disk fails.
    """
    size, family, damage = path.stat().st_size, _family(path), list[str]()
    if wrong := _name_contradicts(PurePath(name or path.name), family, size, path):
        damage.append(wrong)
    form, channels, notes = "unknown", tuple[ChannelReport, ...](), tuple[str, ...]()
    if family == "mcap":
        from drivelake.logs.mcap.log import inspect_mcap

        form = "mcap"
        channels, notes = inspect_mcap(path, damage.append)
    elif family == "mdf":
        from drivelake.logs.mdf.asammdf_log import inspect_mdf

        form, channels, notes = inspect_mdf(path, damage.append)
    return LogReport(name or path.name, form, size, channels, tuple(damage), notes)


def read_log(
    path: Path,
    *,
    channels: Collection[str] | None = None,
    databases: Sequence[Path] = (),
    batch_rows: int = 8192,
    leftovers: Leftovers | None = None,
) -> Iterator[LogBatch]:
    """The tables of a log, batch by batch, in the order they were logged inside a channel.

    Every batch has ``t_ns`` (int64, receive stamp, UTC ns); from MCAP also ``publish_ns`` (int64) and ``sensor_ns`` (int64,
    null where the message has no header or its stamp was never set). Other columns: the fields of the message, dotted; the
    channels of the group; the signals of the CAN message. Fields carry ``unit`` and ``source_unit`` as metadata. Pictures
    are pointers (``payload_chunk``, ``payload_offset``, ``payload_bytes``) for :class:`~drivelake.logs.PayloadReader`.
    A channel without messages gives one batch without rows. Memory is bounded by the batch.

    Args:
        path: an MCAP or MDF file.
        channels: tables to read, by name; all of them if None.
        databases: DBC files. With them the CAN frames of MDF bus logging become one table a message; frames that no
            message claims are counted in ``leftovers``. Without them, the frames themselves are a table.
        batch_rows: the most rows of a batch.
        leftovers: takes what no table can hold, so that the rest can be read.

    Raises:
        LogDamaged: at the first damage, also after batches were given: what came before is then no full log.
        UnsupportedLog: no reader for this file; or, without ``leftovers``, for a channel that was asked for.
        MissingChannel: a table was asked for by name and is not in the log.
        InputError: a database that cannot be read.
    """
    if batch_rows < 1:
        raise ValueError(f"batch_rows is {batch_rows}, it must be at least 1")
    family = _family(path)
    if wrong := _name_contradicts(path, family, path.stat().st_size, path):
        raise (LogDamaged if is_log(path) else UnsupportedLog)(
            f"{path.name}: {wrong}", next_step="restore the log from its source"
        )
    seen: set[str] = set()

    def wanted(name: str) -> bool:
        seen.add(name)
        return channels is None or name in channels

    try:
        if family == "mcap":
            from drivelake.logs.mcap.log import read_mcap

            yield from read_mcap(path, wanted=wanted, batch_rows=batch_rows, leftovers=leftovers)
        else:
            from drivelake.logs.mdf.asammdf_log import read_mdf

            yield from read_mdf(path, wanted=wanted, databases=databases, batch_rows=batch_rows, leftovers=leftovers)
    except LogDamaged as damage:
        raise LogDamaged(f"{path.name}: {damage.message}", next_step=damage.next_step) from damage
    for missing in sorted(set(channels or ()) - seen):
        close = difflib.get_close_matches(missing, sorted(seen), n=1, cutoff=0.4)
        nearest = f"the nearest is {close[0]!r}" if close else f"there are {', '.join(sorted(seen)) or 'none'}"
        raise MissingChannel(f"{path.name} has no channel {missing!r}; {nearest}.", next_step="correct the name")


def _family(path: Path) -> str | None:
    with path.open("rb") as file:
        return FAMILY_OF_START.get(file.read(8))


def _name_contradicts(name: PurePath, family: str | None, size: int, path: Path) -> str:
    """The sentence for a file that is not what its name says, or nothing."""
    promised = FAMILY_OF_SUFFIX.get(name.suffix.lower())
    if not size:
        return "The file is empty: 0 bytes."
    if family is None:
        with path.open("rb") as file:
            start = file.read(8)
        expected = " or ".join(repr(s) for s, f in FAMILY_OF_START.items() if promised in (None, f))
        return f"The file begins with {start!r}, expected {expected}."
    if promised not in (None, family):
        return f"The name ends in {name.suffix!r}, the content is {family}."
    return ""
