"""A clean log out of a damaged one. Belongs here: which rewriter a log gets, publishing the file, the report.

Never here: formats, where damaged logs are kept. MCAP and ROS bags become MCAP, messages byte for byte; MDF 4 becomes a
finalised, sorted MDF 4. What was written is read back and compared before it is published.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, BinaryIO

from pydantic import JsonValue, TypeAdapter

from drivelake.errors import InputError, LogDamaged, UnsupportedLog
from drivelake.logs.findings import RESTORE, Findings
from drivelake.logs.opening import inspect_log
from drivelake.logs.report import LogReport, Recovery

if TYPE_CHECKING:
    from mcap.records import McapRecord

    from drivelake.logs.messages.block import Channel

__all__ = ["SalvageReport", "publish", "salvage_log", "salvaged_name"]

# format of the source: suffix of the file that is written
SALVAGED_SUFFIX = {"mcap": ".mcap", "rosbag1": ".mcap", "rosbag2": ".mcap", "mdf4": ".mf4"}
MDF_STARTS = (b"MDF     ", b"UnFinMF ")
# what file systems say that have none, and mounts that refuse them
NO_HARD_LINKS = frozenset({errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV})
ROS_PROFILE = {"rosbag1": "ros1", "rosbag2": "ros2"}


@dataclass(frozen=True)
class SalvageReport:
    """What was saved of a log.

    Attributes:
        source: name of the log.
        format: of the log.
        written: name of the clean log.
        bytes: its size.
        channels: what was recovered of each channel, and what was not.
        damage: of the source, a sentence each; empty if nothing was wrong with it.
        notes: what else the clean log does not have.
    """

    source: str
    format: str
    written: str
    bytes: int
    channels: tuple[Recovery, ...]
    damage: tuple[str, ...]
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, JsonValue]:
        """The report as JSON values."""
        return TypeAdapter(dict[str, JsonValue]).validate_json(TypeAdapter(dict[str, object]).dump_json(asdict(self)))


def salvaged_name(path: Path) -> str:
    """A name for what is salvaged of a log, with the suffix that its format asks for."""
    with path.open("rb") as file:
        start = file.read(8)
    return f"{path.stem}.salvaged{'.mf4' if start in MDF_STARTS else '.mcap'}"


def salvage_log(path: Path, out: Path) -> SalvageReport:
    """Write what is sound of a log as a clean log, with every checksum and index its format has.

    The same source gives the same bytes. A log without damage is written again as well. What was written is inspected
    before it gets its name: it is sound, and it holds what inspecting the source recovered.

    Args:
        path: the log; it is only read.
        out: the file to write; its folder is there, itself it is not.

    Raises:
        LogDamaged: nothing can be recovered.
        UnsupportedLog: a format that is not written here.
        InputError: there is a file of this name already, or it does not end as its format asks.
        OSError: the log is not there, or the disk fails.
    """
    if os.path.lexists(out):
        raise InputError(f"{out.name} is there already.", next_step="name another file with --out")
    before = inspect_log(path)
    recovered = sum(channel.messages for channel in before.channels)
    if before.damage and not recovered:
        raise LogDamaged(f"Nothing can be recovered of {path.name}. {before.damage[0]}", next_step=RESTORE)
    if before.format not in SALVAGED_SUFFIX:
        raise UnsupportedLog(
            f"{path.name} is of the format {before.format}; salvaged are {', '.join(sorted(SALVAGED_SUFFIX))}.",
            next_step="convert it with the tool that wrote it",
        )
    suffix = SALVAGED_SUFFIX[before.format]
    if out.suffix.lower() != suffix:
        raise InputError(f"What is salvaged of {path.name} is {suffix}, {out.name} is not.", next_step=f"name a file *{suffix}")
    findings = Findings()
    with TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as scratch:
        written = Path(scratch) / f"salvaged{suffix}"
        with written.open("xb") as file:
            _rewrite(path, before, file, findings)
            file.flush()
            os.fsync(file.fileno())
        after = inspect_log(written)
        channels = tuple(_compared(before, after, findings))
        publish(written, out)
    notes = tuple(note for note in findings.notes if note not in before.notes)
    return SalvageReport(path.name, before.format, out.name, after.bytes, channels, before.damage, (*before.notes, *notes))


def publish(made: Path, out: Path) -> None:
    """Give a finished file its name, in the same file system, and never replace one.

    On file systems without hard links (exFAT, SMB) it is copied, so that a machine that stops meanwhile leaves half a file.

    Raises:
        InputError: there is a file of this name already.
    """
    try:
        try:
            os.link(made, out)  # fails where a rename would replace
        except OSError as error:
            if error.errno not in NO_HARD_LINKS:
                raise
            _copy(made, out)
    except FileExistsError:
        raise InputError(f"{out.name} is there already.", next_step="name another file with --out") from None


def _copy(made: Path, out: Path) -> None:
    """The bytes of a file under a new name; nothing of them stays when that fails."""
    with made.open("rb") as source, out.open("xb") as target:
        try:
            shutil.copyfileobj(source, target)
            target.flush()
            os.fsync(target.fileno())
        except BaseException:
            out.unlink()
            raise


def _rewrite(path: Path, report: LogReport, file: BinaryIO, findings: Findings) -> None:
    if report.format == "mdf4":
        from drivelake.logs.mdf.rewrite import rewrite_mdf

        rewrite_mdf(path, file, findings, report.damage)
        return
    from drivelake.logs.mcap.rewrite import McapWriter

    profile, records = _mcap_records(path, report.format, findings)
    writer = McapWriter(file, profile)
    for record in records:
        writer.add(record)
    writer.finish()


def _mcap_records(path: Path, form: str, findings: Findings) -> tuple[str, Iterator[McapRecord]]:
    """Profile of the header, and what follows it."""
    if form != "mcap":
        return ROS_PROFILE[form], _bag_records(path, form, findings)
    from mcap.records import Header

    from drivelake.logs.mcap.sound import sound_records

    records = sound_records(path, findings)
    first = next(records, None)
    if isinstance(first, Header):
        return first.profile, records
    return "", _with(first, records)


def _with(first: McapRecord | None, rest: Iterator[McapRecord]) -> Iterator[McapRecord]:
    if first is not None:
        yield first
    yield from rest


def _bag_records(path: Path, form: str, findings: Findings) -> Iterator[McapRecord]:
    """The messages of a bag as MCAP records, each channel before its first message."""
    from mcap.records import Channel as McapChannel
    from mcap.records import Message, Schema

    if form == "rosbag1":
        from drivelake.logs.bags.ros1 import sound_messages
    else:
        from drivelake.logs.bags.sqlite import sound_messages
    schemas: dict[tuple[str, str, bytes], int] = {}
    channels: dict[Channel, int] = {}
    for message in sound_messages(path, findings):
        channel = message.channel
        if channel not in channels:
            key = (channel.schema_name, channel.schema_encoding, channel.schema)
            if key not in schemas:
                schemas[key] = len(schemas) + 1
                yield Schema(id=schemas[key], name=channel.schema_name, encoding=channel.schema_encoding, data=channel.schema)
            channels[channel] = len(channels) + 1
            topic = channel.name.partition("#")[0]  # no ROS name has one: it counts the definitions of a topic
            yield McapChannel(
                id=channels[channel], topic=topic, message_encoding=channel.encoding, metadata={}, schema_id=schemas[key]
            )
        yield Message(
            channel_id=channels[channel],
            log_time=message.log_ns,
            data=message.data,
            publish_time=message.publish_ns,
            sequence=0,
        )


def _compared(before: LogReport, after: LogReport, findings: Findings) -> Iterator[Recovery]:
    """What was recovered by channel, once it is known that what was written is sound and holds it.

    Raises:
        LogDamaged: it does not.
    """
    if after.damage:
        raise LogDamaged(f"What was salvaged of {before.name} is not sound: {after.damage[0]}", next_step="report this log")
    written = {channel.name: channel.messages for channel in after.channels}
    for channel in before.channels:
        found, told = written.get(channel.name, 0), tuple(findings.reasons.get(channel.name, ()))
        missing = channel.messages - found
        if missing < 0 or (missing and not told):
            raise LogDamaged(
                f"{channel.messages} messages of {channel.name!r} could be read, {found} of them were written.",
                next_step="report this log",
            )
        lost = None if channel.lost is None else channel.lost + missing
        yield Recovery(
            channel.name, channel.expected, found, lost, tuple(dict.fromkeys((*channel.why, *(told if missing else ()))))
        )
