"""Which reader a log gets, and the two functions of this room. Belongs here: the dispatch by content and by name, and the
law that a log which promises messages and gives none is damaged.

Never here: anything about a format beyond its first bytes.
"""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path, PurePath

from drivelake.errors import LogDamaged, MissingChannel, UnsupportedLog
from drivelake.logs.findings import RESTORE, Findings
from drivelake.logs.report import ChannelReport, Leftovers, LogBatch, LogReport, recoveries, silences
from drivelake.logs.stamps import Stamps

__all__ = ["DATABASE_SUFFIXES", "LOG_SUFFIXES", "inspect_log", "is_log", "read_log"]

FAMILY_OF_SUFFIX = {".mcap": "mcap", ".mf4": "mdf", ".mdf": "mdf", ".bag": "rosbag1", ".db3": "sqlite"}
LOG_SUFFIXES = frozenset(FAMILY_OF_SUFFIX)
DATABASE_SUFFIXES = frozenset({".arxml", ".dbc", ".kcd", ".sym"})

FAMILY_OF_START = {
    b"\x89MCAP0\r\n": "mcap",
    b"MDF     ": "mdf",
    b"UnFinMF ": "mdf",
    b"#ROSBAG V": "rosbag1",
    b"SQLite format 3\0": "sqlite",
}
# Starts that a person may well hand over, and what helps then.
FOREIGN_STARTS = {
    b"Generic File\0": "a container of a CSS Electronics logger, compressed (.MFC) or encrypted (.MFE): turn it into MF4 first",
    b"LOGG": "a Vector BLF file: convert it to MF4 first",
    b"\x28\xb5\x2f\xfd": "a zstd stream: unpack it first",
    b"\x1f\x8b": "a gzip stream: unpack it first",
    b"PK\x03\x04": "a ZIP archive: unpack it first",
}
START_BYTES = max(map(len, (*FAMILY_OF_START, *FOREIGN_STARTS)))
STAMPS = ("t_ns", "publish_ns", "sensor_ns")


def is_log(path: PurePath) -> bool:
    """Whether a file of a drive is a log, by the end of its name, whatever its case."""
    return path.suffix.lower() in LOG_SUFFIXES


def inspect_log(path: Path, *, name: str | None = None) -> LogReport:
    """Read every byte of a log and verify every checksum its format has.

    Damage never raises: it stands in the report, a sentence each, and beside each channel what it has cost. What stands
    behind the damage is counted as far as the format lets one find it again.

    Args:
        path: the file.
        name: its path inside the drive, for the report; its file name otherwise.

    Raises:
        OSError: the file is not there, or the disk fails.
    """
    size, start = path.stat().st_size, _start(path)
    family, findings = _family(start), Findings()
    wrong = _name_contradicts(PurePath(name or path.name), family, size, start)
    form, channels = "unknown", tuple[ChannelReport, ...]()
    if family is not None:
        try:
            form, channels = _inspector(family)(path, findings)
        except (LogDamaged, UnsupportedLog) as error:
            findings.damaged(error.message)
    messages = {channel.name: channel.messages for channel in channels}
    for silent, count in findings.expected.items():
        _require(findings, silent, count, messages.get(silent, 0))
    known = {channel.name: channel for channel in channels}
    whole = tuple(
        replace(known.get(r.channel) or Stamps().report(r.channel, ""), expected=r.expected, lost=r.lost, why=r.why)
        for r in recoveries(findings, messages)
    )
    notes = (*findings.notes, *silences(whole))
    return LogReport(name or path.name, form, size, whole, (*([wrong] if wrong else ()), *findings.sentences), notes)


def read_log(
    path: Path,
    *,
    channels: Collection[str] | None = None,
    columns: Collection[str] | None = None,
    databases: Sequence[Path] = (),
    batch_rows: int = 8192,
    leftovers: Leftovers | None = None,
    findings: Findings | None = None,
    threads: int = 1,
    physical: bool = True,
) -> Iterator[LogBatch]:
    """The tables of a log, batch by batch, in the order they were logged inside a channel.

    Every batch has ``t_ns`` (int64, receive stamp, UTC ns); containers of messages also ``publish_ns`` (int64) and
    ``sensor_ns`` (int64, null where the message has no header or its stamp was never set). Other columns: the fields of the
    message, dotted; the channels of the group; the signals of the CAN message. Fields carry ``unit`` and ``source_unit`` as
    metadata. Pictures are pointers (``payload_chunk``, ``payload_offset``, ``payload_bytes``) for
    :class:`~drivelake.logs.PayloadReader`. A channel without messages gives one batch without rows. Memory is bounded by
    the batch. The same file gives the same batches.

    Args:
        path: an MCAP, MDF, ROS 1 bag or ROS 2 database file.
        channels: tables to read, by name; all of them if None. Data of other tables is read and verified only where the
            format cannot leave it out.
        columns: columns to give besides the stamps; all of them if None.
        databases: of CAN (DBC, ARXML, KCD, SYM), or of LIN (a DBC whose attribute ``BusType`` is LIN). With them the frames of
            MDF bus logging become one table a message; frames that no message claims are counted in ``leftovers``. Without
            them, the frames themselves are a table.
        batch_rows: the most rows of a batch.
        leftovers: takes what no table can hold, so that the rest can be read.
        findings: takes what is wrong; reading goes on with what is sound behind it. None: the first damage raises.
        threads: decompress and decode with this many.
        physical: False gives MDF channels raw, their conversion in the metadata of the field;
            :func:`~drivelake.logs.to_physical` applies it later.

    Raises:
        LogDamaged: without ``findings``: at the first damage, also after batches were given: what came before is then no
            full log.
        UnsupportedLog: no reader for this file; or, without ``leftovers``, for a channel that was asked for.
        MissingChannel: a table was asked for by name and is not in the log; or a column, and no table that was read has it.
        InputError: a database that cannot be read.
    """
    if batch_rows < 1:
        raise ValueError(f"batch_rows is {batch_rows}, it must be at least 1")
    findings = findings or Findings(strict=True)
    start = _start(path)
    family = _family(start)
    if wrong := _name_contradicts(path, family, path.stat().st_size, start):
        if not is_log(path):
            raise UnsupportedLog(f"{path.name}: {wrong}", next_step=RESTORE)
        _tell(path, findings, wrong)
    if family is None:
        return
    seen: set[str] = set()
    there: set[str] = set()
    kept = {*STAMPS, *(columns or ())}
    rows: Counter[str] = Counter()

    def wanted(name: str) -> bool:
        seen.add(name)
        return channels is None or name in channels

    reader = partial(_batches, family, path, wanted=wanted, databases=databases, batch_rows=batch_rows, physical=physical)
    try:
        for batch in reader(columns=columns, leftovers=leftovers, findings=findings, threads=threads):
            if batch.channel not in rows:
                there.update(batch.batch.schema.names)
            rows[batch.channel] += len(batch.batch)
            yield batch if columns is None else _selected(batch, kept)
        unsupported = leftovers.unsupported if leftovers else {}
        for name, count in findings.expected.items():
            if name in seen and name not in unsupported and (channels is None or name in channels):
                _require(findings, name, count, rows[name])
    except LogDamaged as damage:
        _tell(path, findings, damage.message)
    for missing in sorted(set(channels or ()) - seen):
        raise _missing(path, "channel", missing, seen)
    for missing in sorted(set(columns or ()) - there):
        if family == "mdf":  # its reader leaves out what was not asked for, names included
            whole = reader(columns=None, leftovers=Leftovers(), findings=Findings(), threads=threads)
            there.update(*(batch.batch.schema.names for batch in whole))
        raise _missing(path, "column", missing, there)


def _missing(path: Path, what: str, name: str, known: Collection[str]) -> MissingChannel:
    close = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.4)
    nearest = f"the nearest is {close[0]!r}" if close else f"there are {', '.join(sorted(known)) or 'none'}"
    return MissingChannel(f"{path.name} has no {what} {name!r}; {nearest}.", next_step="correct the name")


def _require(findings: Findings, channel: str, promised: int, read: int) -> None:
    """No silent zero: messages that were promised and are not there are damage, or add to what is told to be lost."""
    short = promised - read - findings.lost.get(channel, 0)
    if short <= 0:
        return
    sentence = f"Channel {channel!r} promises {promised} messages, {read} can be read."
    if channel in findings.reasons:
        findings.lose(channel, short, sentence)
    else:
        findings.damaged(sentence, channel=channel, lost=short)


def _tell(path: Path, findings: Findings, sentence: str) -> None:
    if findings.strict:
        raise LogDamaged(f"{path.name}: {sentence}", next_step=RESTORE)
    findings.damaged(sentence)


def _inspector(family: str) -> Callable[[Path, Findings], tuple[str, tuple[ChannelReport, ...]]]:
    """The function that inspects logs of a family."""
    if family == "mcap":
        from drivelake.logs.mcap.log import inspect_mcap

        return inspect_mcap
    if family == "mdf":
        from drivelake.logs.mdf.reader import inspect_mdf

        return inspect_mdf
    if family == "rosbag1":
        from drivelake.logs.bags.ros1 import inspect_ros1

        return inspect_ros1
    from drivelake.logs.bags.sqlite import inspect_sqlite

    return inspect_sqlite


def _batches(
    family: str,
    path: Path,
    *,
    wanted: Callable[[str], bool],
    columns: Collection[str] | None,
    databases: Sequence[Path],
    batch_rows: int,
    leftovers: Leftovers | None,
    findings: Findings,
    threads: int,
    physical: bool,
) -> Iterator[LogBatch]:
    """The batches of the reader of a family; of MDF with the columns that were asked for, of messages with all."""
    if family == "mdf":
        from drivelake.logs.mdf.reader import read_mdf

        return read_mdf(
            path,
            wanted=wanted,
            databases=databases,
            batch_rows=batch_rows,
            leftovers=leftovers,
            findings=findings,
            threads=threads,
            columns=columns,
            physical=physical,
        )
    if family == "mcap":
        from drivelake.logs.mcap.log import read_mcap as read_messages
    elif family == "rosbag1":
        from drivelake.logs.bags.ros1 import read_ros1 as read_messages
    else:
        from drivelake.logs.bags.sqlite import read_sqlite as read_messages
    return read_messages(path, wanted=wanted, batch_rows=batch_rows, leftovers=leftovers, findings=findings, threads=threads)


def _selected(given: LogBatch, names: Collection[str]) -> LogBatch:
    return given._replace(batch=given.batch.select([name for name in given.batch.schema.names if name in names]))


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(START_BYTES)


def _family(start: bytes) -> str | None:
    return next((family for known, family in FAMILY_OF_START.items() if start.startswith(known)), None)


def _name_contradicts(name: PurePath, family: str | None, size: int, start: bytes) -> str:
    """The sentence for a file that is not what its name says, or nothing."""
    promised = FAMILY_OF_SUFFIX.get(name.suffix.lower())
    if not size:
        return "The file is empty: 0 bytes."
    if family is None:
        if foreign := next((what for known, what in FOREIGN_STARTS.items() if start.startswith(known)), None):
            return f"The file is no log that is read here, but {foreign}."
        expected = " or ".join(repr(s) for s, f in FAMILY_OF_START.items() if promised in (None, f))
        return f"The file begins with {start[:8]!r}, expected {expected}."
    if promised not in (None, family):
        return f"The name ends in {name.suffix!r}, the content is {family}."
    return ""
