"""ROS 1 bags: their report, their tables, their sound messages.

Belongs here: what the pass over a bag becomes. Never here: records and checks (ros1_walk), encodings of messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from drivelake.logs.bags.ros1_walk import OpenChunk, Ros1Walk
from drivelake.logs.bags.tables import BagTables, SoundMessage, rows_by_name
from drivelake.logs.findings import Findings
from drivelake.logs.messages.block import Channel, MessageBlock
from drivelake.logs.messages.table import unsupported_reason
from drivelake.logs.report import ChannelReport, Leftovers, LogBatch
from drivelake.logs.stamps import Stamps

__all__ = ["inspect_ros1", "read_ros1", "sound_messages"]


def inspect_ros1(path: Path, findings: Findings) -> tuple[str, tuple[ChannelReport, ...]]:
    """Read every byte of a ROS 1 bag (format 2.0) and check what its index, its counts and its digests let one check.

    Returns:
        ``rosbag1``, and the channels sorted by name: topics, with ``#2`` and so on where a topic has another definition.

    Raises:
        LogDamaged: at the first contradiction, if the findings are strict.
        UnsupportedLog: another version of the format, or an encrypted bag.
    """
    walk = Ros1Walk(path, findings)
    _promise(walk, findings, lambda _: True)
    stamps: dict[str, Stamps] = {}
    for chunk in walk.chunks():
        for channel, block in _blocks(walk, chunk):
            stamps.setdefault(channel.name, Stamps()).extend(block.log_ns)
    kinds = {channel.name: channel for channel in walk.channels.values()}
    for name in sorted(kinds):
        if reason := unsupported_reason(kinds[name]):
            findings.note(f"Channel {name!r} has no table: {reason}.")
    reports = (stamps.get(name, Stamps()).report(name, kinds[name].schema_name) for name in sorted(kinds))
    return "rosbag1", tuple(reports)


def read_ros1(
    path: Path,
    *,
    wanted: Callable[[str], bool],
    batch_rows: int,
    leftovers: Leftovers | None,
    findings: Findings,
    threads: int = 1,
) -> Iterator[LogBatch]:
    """The tables of a ROS 1 bag; a channel without messages gives one empty batch.

    ``publish_ns`` equals ``t_ns``: a bag keeps one stamp, that of receiving. A chunk that holds no wanted channel, as its
    index says, is not opened, so its content is not checked.

    Raises:
        LogDamaged: at the first contradiction, if the findings are strict.
        UnsupportedLog: another version, an encrypted bag, or a wanted channel without a table and no ``leftovers``.
    """
    asked: dict[str, bool] = {}

    def want(name: str) -> bool:
        if name not in asked:
            asked[name] = wanted(name)
        return asked[name]

    walk = Ros1Walk(path, findings, threads=threads)
    tables = BagTables(wanted=want, batch_rows=batch_rows, leftovers=leftovers, findings=findings)
    _promise(walk, findings, want)
    for chunk in walk.chunks(skip=lambda names: not any(map(want, names))):
        for channel, block in _blocks(walk, chunk):
            if table := tables.declare(channel):
                yield from tables.add(table, block)
    for channel in walk.channels.values():
        tables.declare(channel)
    yield from tables.rest()


def sound_messages(path: Path, findings: Findings) -> Iterator[SoundMessage]:
    """Every message of a ROS 1 bag that nothing contradicts, in the order of the file, bytes as they were recorded.

    Raises:
        LogDamaged: at the first contradiction, if the findings are strict.
        UnsupportedLog: another version of the format, or an encrypted bag.
    """
    walk = Ros1Walk(path, findings)
    _promise(walk, findings, lambda _: True)
    for chunk in walk.chunks():
        data, found = chunk.data.data, chunk.messages
        columns = (found.connections.tolist(), found.stamps_ns.tolist(), found.starts.tolist(), found.lengths.tolist())
        for number, stamp, start, length in zip(*columns, strict=True):
            yield SoundMessage(walk.channels[number], stamp, stamp, bytes(data[start : start + length]))


def _promise(walk: Ros1Walk, findings: Findings, wanted: Callable[[str], bool]) -> None:
    for name, count in walk.promised().items():
        if wanted(name):
            findings.promise(name, count)


def _blocks(walk: Ros1Walk, chunk: OpenChunk) -> Iterator[tuple[Channel, MessageBlock]]:
    """The messages of a chunk by table; several publishers of a topic share one."""
    found = chunk.messages
    for _, rows in rows_by_name(found.connections, lambda number: walk.channels[number].name):
        part = found.rows(rows)
        channel = walk.channels[int(part.connections[0])]
        yield channel, MessageBlock(chunk.data, part.starts, part.lengths, part.stamps_ns, part.stamps_ns, chunk.offset, 0)
