"""ROS 2 bags in SQLite: their report, their tables, their sound messages.

Belongs here: what the rows of a bag become. Never here: pages, topics and definitions (sqlite_file, sqlite_topics), encodings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from drivelake.logs.bags.sqlite_bag import SqliteBag
from drivelake.logs.bags.sqlite_rows import Window
from drivelake.logs.bags.tables import BagTables, SoundMessage
from drivelake.logs.findings import Findings
from drivelake.logs.messages.block import MessageBlock
from drivelake.logs.messages.table import Table, unsupported_reason
from drivelake.logs.report import ChannelReport, Leftovers, LogBatch
from drivelake.logs.stamps import Stamps

__all__ = ["inspect_sqlite", "read_sqlite", "sound_messages"]

BLOCK_BYTES = 8 << 20


def inspect_sqlite(path: Path, findings: Findings) -> tuple[str, tuple[ChannelReport, ...]]:
    """Read every page of a ROS 2 bag in SQLite, and hold rows, index and ``metadata.yaml`` against each other.

    Returns:
        ``rosbag2``, and the channels sorted by name.

    Raises:
        LogDamaged: at the first contradiction, if the findings are strict.
        UnsupportedLog: a database that is no bag, or a bag compressed as a whole file.
    """
    with SqliteBag(path, findings) as bag:
        bag.promise(lambda _: True)
        topics = {topic.channel.name: topic for topic in bag.topics.values()}
        stamps = {name: Stamps() for name in topics}
        for window in bag.windows(()):
            for name, rows in bag.by_channel(window):
                stamps[name].extend(window.stamps_ns[rows])
        for name in sorted(topics):
            if reason := topics[name].reason or unsupported_reason(topics[name].channel):
                findings.note(f"Channel {name!r} has no table: {reason}.")
        return "rosbag2", tuple(stamps[name].report(name, topics[name].channel.schema_name) for name in sorted(topics))


def read_sqlite(
    path: Path,
    *,
    wanted: Callable[[str], bool],
    batch_rows: int,
    leftovers: Leftovers | None,
    findings: Findings,
    threads: int = 1,  # noqa: ARG001  (SQLite reads with one)
) -> Iterator[LogBatch]:
    """The tables of a ROS 2 bag in SQLite, in the order of the rows; a channel without messages gives one empty batch.

    ``publish_ns`` equals ``t_ns``: a bag keeps one stamp, that of receiving. The chunk of a payload pointer is the rowid of
    its message, the offset counts inside that message once it is decompressed.

    Raises:
        LogDamaged: at the first contradiction, if the findings are strict.
        UnsupportedLog: a database that is no bag, a bag compressed as a whole file, or a wanted channel without a table and
            no ``leftovers``.
    """
    with SqliteBag(path, findings) as bag:
        reasons = {topic.channel.name: topic.reason for topic in bag.topics.values() if topic.reason}
        tables = BagTables(wanted=wanted, batch_rows=batch_rows, leftovers=leftovers, findings=findings, reasons=reasons)
        opened = {topic.channel.name: tables.declare(topic.channel) for topic in bag.topics.values()}
        bag.promise(lambda name: opened[name] is not None)
        for window in bag.windows([number for number, topic in bag.topics.items() if opened[topic.channel.name] is not None]):
            for name, rows in bag.by_channel(window):
                if table := opened[name]:
                    for block in _blocks(bag, table, window, rows):
                        yield from tables.add(table, block)
        yield from tables.rest()


def sound_messages(path: Path, findings: Findings) -> Iterator[SoundMessage]:
    """Every message of a ROS 2 bag that nothing contradicts, in the order of the rows, decompressed.

    Raises:
        LogDamaged: at the first contradiction, if the findings are strict.
        UnsupportedLog: a database that is no bag, or a bag compressed as a whole file.
    """
    with SqliteBag(path, findings) as bag:
        bag.promise(lambda _: True)
        for window in bag.windows(tuple(bag.topics)):
            for row, (topic, stamp) in enumerate(zip(window.topics.tolist(), window.stamps_ns.tolist(), strict=True)):
                channel = bag.topics[topic].channel
                data = bag.message(window, row, channel.name)
                if data is not None:
                    yield SoundMessage(channel, stamp, stamp, data)


def _blocks(bag: SqliteBag, table: Table, window: Window, rows: NDArray[np.int64]) -> Iterator[MessageBlock]:
    """The messages of a table in few buffers; those with a payload each in its own, which their pointers name."""
    bytes_max = 0 if "payload_chunk" in table.schema.names else BLOCK_BYTES
    held: list[tuple[int, bytes]] = []
    size = 0
    for row in rows.tolist():
        data = bag.message(window, row, table.channel)
        if data is None:
            continue
        held.append((row, data))
        size += len(data)
        if size >= bytes_max:
            yield _block(window, held)
            held, size = [], 0
    if held:
        yield _block(window, held)


def _block(window: Window, messages: list[tuple[int, bytes]]) -> MessageBlock:
    rows = [row for row, _ in messages]
    lengths = np.array([len(data) for _, data in messages], np.int64)
    buffer = np.frombuffer(b"".join(data for _, data in messages), np.uint8)
    stamps = window.stamps_ns[rows]
    return MessageBlock(buffer, np.cumsum(lengths) - lengths, lengths, stamps, stamps, int(window.numbers[rows[0]]), 0)
