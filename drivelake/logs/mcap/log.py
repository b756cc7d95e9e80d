"""MCAP logs: their report and their tables.

Belongs here: what the pass over an MCAP file becomes. Never here: framing and checksums (mcap_walk), messages (ros2).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NoReturn

from drivelake.errors import LogDamaged, UnsupportedLog
from drivelake.logs.mcap.records import RESTORE
from drivelake.logs.mcap.walk import McapWalk
from drivelake.logs.report import ChannelReport, Leftovers, LogBatch, Stamps
from drivelake.logs.messages.ros2 import Rows, open_rows, unsupported_reason

__all__ = ["inspect_mcap", "read_mcap"]

# A batch ends here even with fewer rows, so that long sequences cannot fill the memory.
BATCH_BYTES = 8 << 20


def inspect_mcap(path: Path, damaged: Callable[[str], None]) -> tuple[tuple[ChannelReport, ...], tuple[str, ...]]:
    """Channels and notes of an MCAP file; contradictions go to ``damaged``."""
    walk = McapWalk(path, damaged)
    stamps: dict[str, Stamps] = {}
    for message in walk.messages():
        stamps.setdefault(walk.names[message.channel_id], Stamps()).add(message.log_ns)
    kinds, notes = {}, {}
    for number, name in walk.names.items():
        channel = walk.channels[number]
        schema = walk.schemas.get(channel.schema_id)
        kinds[name] = schema.name if schema else ""
        if reason := unsupported_reason(channel, schema):
            notes[name] = f"Channel {name!r} has no table: {reason}."
    reports = tuple(stamps.get(name, Stamps()).report(name, kinds[name]) for name in sorted(kinds))
    return reports, tuple(notes[name] for name in sorted(notes))


def read_mcap(path: Path, *, wanted: Callable[[str], bool], batch_rows: int, leftovers: Leftovers | None) -> Iterator[LogBatch]:
    """The tables of an MCAP file; a channel without messages gives one empty batch.

    Raises:
        LogDamaged: at the first contradiction.
        UnsupportedLog: a wanted channel has no table, and there are no ``leftovers`` to say so.
    """
    walk = McapWalk(path, _raise)
    tables: dict[str, Rows | None] = {}
    silent: set[str] = set()

    def table(number: int) -> Rows | None:
        name = walk.names[number]
        if name not in tables:
            tables[name] = _open(walk, number, leftovers) if wanted(name) else None
            silent.add(name)
        return tables[name]

    for message in walk.messages():
        rows = table(message.channel_id)
        if rows is None:
            continue
        rows.add(message)
        if len(rows) >= batch_rows or rows.bytes >= BATCH_BYTES:
            name = walk.names[message.channel_id]
            silent.discard(name)
            yield LogBatch(name, rows.type, rows.take())
    for number in walk.names:
        table(number)
    for name, rest in tables.items():
        if rest is not None and (len(rest) or name in silent):
            yield LogBatch(name, rest.type, rest.take(), last=True)


def _open(walk: McapWalk, number: int, leftovers: Leftovers | None) -> Rows | None:
    channel = walk.channels[number]
    try:
        return open_rows(channel, walk.schemas.get(channel.schema_id))
    except UnsupportedLog as error:
        if leftovers is None:
            raise
        leftovers.unsupported[walk.names[number]] = error.message
        return None


def _raise(sentence: str) -> NoReturn:
    raise LogDamaged(sentence, next_step=RESTORE)
