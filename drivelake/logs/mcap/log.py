"""MCAP logs: their report and their tables.

Belongs here: what the pass over an MCAP file becomes. Never here: records, checksums, messages.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path

import numpy as np
import pyarrow as pa
from mcap.opcode import Opcode
from numpy.typing import NDArray

from drivelake.errors import UnsupportedLog
from drivelake.logs.findings import Findings
from drivelake.logs.mcap.content import HEAD
from drivelake.logs.mcap.framing import Frame
from drivelake.logs.mcap.messages import Messages
from drivelake.logs.mcap.records import parse_attachment
from drivelake.logs.mcap.walk import McapWalk
from drivelake.logs.messages.block import Channel, MessageBlock, MessageRun
from drivelake.logs.messages.pending import CUT_BYTES
from drivelake.logs.messages.table import Table, open_table, unsupported_reason
from drivelake.logs.report import ChannelReport, Leftovers, LogBatch
from drivelake.logs.stamps import Stamps

__all__ = ["inspect_mcap", "read_mcap"]

# A batch ends here even with fewer rows, so that long sequences cannot fill the memory.
BATCH_BYTES = 8 << 20
STAMPS_AT_ONCE = 1 << 16
LISTED_MAX = 8


def inspect_mcap(path: Path, findings: Findings) -> tuple[str, tuple[ChannelReport, ...]]:
    """Format and channels of an MCAP file. Reads every byte and verifies every checksum.

    Args:
        path: the file.
        findings: told every contradiction, what has no table, and what else the file holds.

    Raises:
        LogDamaged: at the first contradiction, if the findings are strict.
    """
    walk = McapWalk(path, findings)
    stamps: dict[str, _Pending] = defaultdict(_Pending)
    attached: list[str] = []
    for event in walk.events():
        if isinstance(event, Messages):
            for number, run in _runs(walk, event):
                stamps[walk.declared.names[number]].add(run.log_ns)
        elif isinstance(event, Frame) and event.opcode == Opcode.ATTACHMENT:
            found = parse_attachment(walk.view[event.start : event.end], event.offset, content=False)
            attached.append(f"{found.name!r} ({found.media_type}, record of {event.end - event.offset} bytes)")
    described = {walk.declared.names[number]: walk.declared.described(number) for number in reversed(walk.declared.names)}
    for name in sorted(described):
        if reason := unsupported_reason(described[name]):
            findings.note(f"Channel {name!r} has no table: {reason}.")
    if attached:
        more = f" and {len(attached) - LISTED_MAX} more" if len(attached) > LISTED_MAX else ""
        findings.note(f"{len(attached)} attachments are in no table: {', '.join(attached[:LISTED_MAX])}{more}.")
    if count := walk.ledger.records[Opcode.METADATA]:
        findings.note(f"{count} metadata records are in no table.")
    return "mcap", tuple(stamps[name].report(name, described[name].schema_name) for name in sorted(described))


def read_mcap(
    path: Path,
    *,
    wanted: Callable[[str], bool],
    batch_rows: int,
    leftovers: Leftovers | None,
    findings: Findings,
    threads: int = 1,
) -> Iterator[LogBatch]:
    """The tables of an MCAP file; a channel without messages gives one empty batch.

    Chunks without a message of a wanted channel stay closed where a sound summary says so, and then neither their checksums
    nor that of the data section are verified; :func:`inspect_mcap` verifies all of them.

    Args:
        path: the file.
        wanted: asked for the name of every table, whether it is read.
        batch_rows: the most rows of a batch.
        leftovers: takes the reason where a wanted channel has no table.
        findings: told every contradiction; rows are given of what is sound.
        threads: how many decompress; the batches do not depend on it.

    Raises:
        LogDamaged: at the first contradiction, if the findings are strict.
        UnsupportedLog: a wanted channel has no table, and there are no ``leftovers`` to say so.
    """
    walk = McapWalk(path, findings, wanted=wanted, threads=threads)
    tables: dict[str, Table | None] = {}
    silent: set[str] = set()

    def table(number: int) -> Table | None:
        name = walk.declared.names[number]
        if name not in tables:
            tables[name] = _open(walk.declared.described(number), leftovers, findings) if wanted(name) else None
            silent.add(name)
        return tables[name]

    def add(messages: Messages) -> Iterator[LogBatch]:
        for number, run in _runs(walk, messages):
            if (rows := table(number)) is not None:
                for batch in _add(rows, run, batch_rows):
                    silent.discard(rows.channel)
                    yield LogBatch(rows.channel, rows.type, batch)

    for event in walk.events():
        if isinstance(event, Messages):
            yield from add(event)
        del event  # or its chunks would be held while the next ones are opened
    for number in walk.declared.names:
        table(number)
    for name, rest in tables.items():
        if rest is not None and (rest.rows or name in silent):
            yield LogBatch(name, rest.type, rest.take(), last=True)


def _open(channel: Channel, leftovers: Leftovers | None, findings: Findings) -> Table | None:
    try:
        return open_table(channel, findings)
    except UnsupportedLog as error:
        if leftovers is None:
            raise
        leftovers.unsupported[channel.name] = error.message
        return None


def _runs(walk: McapWalk, messages: Messages) -> list[tuple[int, MessageRun]]:
    """The messages by table, each with the id of a channel of it; channels that share a table are joined by place.

    The table whose messages come first is the first one, wherever chunks are held together.
    """
    sources, content, pieces = messages
    tables: dict[str, list[tuple[int, slice, tuple[tuple[int, int], ...]]]] = {}
    for (number, rows), parts in zip(content.runs, pieces, strict=True):
        tables.setdefault(walk.declared.names[number], []).append((number, rows, parts))
    starts = content.offsets + HEAD.itemsize
    found = []
    for own in tables.values():
        first, number = min((parts[0][0], number) for number, _, parts in own)
        chosen, parts = own[0][1:] if len(own) == 1 else _joined(messages, [rows for _, rows, _ in own])
        columns = (starts[chosen], content.lengths[chosen], content.log_ns[chosen], content.publish_ns[chosen])
        found.append(((first, number), MessageRun(tuple([(sources[place], count) for place, count in parts]), *columns)))
    found.sort(key=itemgetter(0))
    return [(number, run) for (_, number), run in found]


def _joined(messages: Messages, runs: Sequence[slice]) -> tuple[NDArray[np.int64], tuple[tuple[int, int], ...]]:
    """The rows of several channels by place, and how many stand in each source."""
    rows = np.concatenate([np.arange(run.start, run.stop) for run in runs])
    numbers = messages.numbers()[rows]
    counts = np.bincount(numbers)
    parts = tuple((place, int(counts[place])) for place in np.flatnonzero(counts).tolist())
    return rows[np.lexsort((messages.content.offsets[rows], numbers))], parts


def _add(table: Table, run: MessageRun, batch_rows: int) -> Iterator[pa.RecordBatch]:
    """Messages into their table; batches where it is full."""
    count = len(run.starts)
    if table.rows + count < batch_rows and table.bytes + int(run.lengths.sum()) + CUT_BYTES * count < BATCH_BYTES:
        table.extend(run)
        return
    for block in run.blocks():
        yield from _add_block(table, block, batch_rows)


def _add_block(table: Table, block: MessageBlock, batch_rows: int) -> Iterator[pa.RecordBatch]:
    begin, count = 0, len(block.starts)
    if len(block.buffer) <= BATCH_BYTES and table.rows + count < batch_rows:
        table.add(block)
        if table.bytes >= BATCH_BYTES:
            yield table.take()
        return
    filled = np.cumsum(block.lengths)
    while begin < count:
        behind = int(filled[begin - 1]) if begin else 0
        by_bytes = int(np.searchsorted(filled, behind + BATCH_BYTES)) + 1
        part = slice(begin, min(count, by_bytes, begin + batch_rows - table.rows))
        table.add(
            block._replace(
                starts=block.starts[part],
                lengths=block.lengths[part],
                log_ns=block.log_ns[part],
                publish_ns=block.publish_ns[part],
            )
        )
        begin = part.stop
        if table.rows >= batch_rows or table.bytes >= BATCH_BYTES:
            yield table.take()


class _Pending:
    """Stamps of one channel, handed on many at a time, since most chunks hold few of a channel."""

    def __init__(self) -> None:
        self._stamps = Stamps()
        self._pending: list[NDArray[np.int64]] = []
        self._count = 0

    def add(self, stamps_ns: NDArray[np.int64]) -> None:
        # a copy: a view would keep the stamps of all channels of its chunk
        self._pending.append(stamps_ns.copy())
        self._count += len(stamps_ns)
        if self._count >= STAMPS_AT_ONCE:
            self._fold()

    def report(self, name: str, kind: str) -> ChannelReport:
        self._fold()
        return self._stamps.report(name, kind)

    def _fold(self) -> None:
        if self._pending:
            self._stamps.extend(np.concatenate(self._pending))
        self._pending, self._count = [], 0
