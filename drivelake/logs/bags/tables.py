"""The tables of one bag while it is read. Belongs here: which of them are wanted, when a batch is full.

Never here: formats of bags, encodings of messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivelake.errors import UnsupportedLog
from drivelake.logs.findings import Findings
from drivelake.logs.messages.block import Channel, MessageBlock
from drivelake.logs.messages.names import Names
from drivelake.logs.messages.table import Table, open_table
from drivelake.logs.report import Leftovers, LogBatch

__all__ = ["BagTables", "Names", "SoundMessage", "rows_by_name"]

# A batch ends here even with fewer rows, so that long sequences cannot fill the memory.
BATCH_BYTES = 8 << 20


class SoundMessage(NamedTuple):
    """One message of a bag that nothing contradicts.

    Attributes:
        channel: its table, encoding and definition.
        log_ns: receive stamp, UTC ns.
        publish_ns: publish stamp, UTC ns; the receive stamp where the bag keeps one stamp.
        data: the encoded message.
    """

    channel: Channel
    log_ns: int
    publish_ns: int
    data: bytes


def rows_by_name(numbers: NDArray[np.int64], name_of: Callable[[int], str]) -> Iterator[tuple[str, NDArray[np.intp]]]:
    """Which rows belong to each table, in their order.

    Args:
        numbers: (n,) ids of connections or topics.
        name_of: name of the table by such an id; several may share one.
    """
    if not len(numbers):
        return
    ids, places = np.unique(numbers, return_inverse=True)
    tables: dict[str, int] = {}
    table_of = np.array([tables.setdefault(name_of(number), len(tables)) for number in ids.tolist()], np.intp)[places]
    ends = np.cumsum(np.bincount(table_of, minlength=len(tables)))
    yield from zip(tables, np.split(np.argsort(table_of, kind="stable"), ends[:-1]), strict=True)


class BagTables:
    """Takes blocks of messages and gives batches.

    Args:
        wanted: whether a table is asked for, by name; asked once for each.
        batch_rows: the most rows of a batch.
        leftovers: takes the reason for each channel without a table; without it, such a channel raises.
        findings: of the log.
        reasons: why channels cannot be tables, by name, as far as their bag knows.
    """

    def __init__(
        self,
        *,
        wanted: Callable[[str], bool],
        batch_rows: int,
        leftovers: Leftovers | None,
        findings: Findings,
        reasons: Mapping[str, str] | None = None,
    ) -> None:
        self._reasons = reasons or {}
        self._wanted, self._batch_rows, self._leftovers, self._findings = wanted, batch_rows, leftovers, findings
        self._tables: dict[str, Table | None] = {}
        self._silent: set[str] = set()

    def declare(self, channel: Channel) -> Table | None:
        """The table of a channel, or None where it is not asked for or cannot be a table.

        Raises:
            UnsupportedLog: it is asked for and cannot be a table, and there are no leftovers to say so.
        """
        if channel.name not in self._tables:
            self._tables[channel.name] = self._open(channel) if self._wanted(channel.name) else None
            self._silent.add(channel.name)
        return self._tables[channel.name]

    def _open(self, channel: Channel) -> Table | None:
        try:
            if reason := self._reasons.get(channel.name):
                raise UnsupportedLog(  # noqa: TRY301  (as the table itself says it)
                    f"Channel {channel.name!r} cannot be read: {reason}.", next_step="select the other channels by name"
                )
            return open_table(channel, self._findings)
        except UnsupportedLog as error:
            if self._leftovers is None:
                raise
            self._leftovers.unsupported[channel.name] = error.message
            return None

    def add(self, table: Table, block: MessageBlock) -> Iterator[LogBatch]:
        """More messages of a table; the batches that they fill."""
        taken = 0
        ends = np.cumsum(block.lengths)
        while taken < len(ends):
            before = int(ends[taken - 1]) if taken else 0
            fitting = int(np.searchsorted(ends, before + BATCH_BYTES - table.bytes, side="right")) - taken
            room = max(min(self._batch_rows - table.rows, fitting), 1)
            table.add(_part(block, slice(taken, taken + room)))
            taken += room
            if table.rows >= self._batch_rows or table.bytes >= BATCH_BYTES:
                self._silent.discard(table.channel)
                yield LogBatch(table.channel, table.type, table.take())

    def rest(self) -> Iterator[LogBatch]:
        """What is pending, and one empty batch for each table without a message."""
        for name, table in self._tables.items():
            if table is not None and (table.rows or name in self._silent):
                yield LogBatch(name, table.type, table.take(), last=True)


def _part(block: MessageBlock, rows: slice) -> MessageBlock:
    def cut(values: NDArray[np.int64]) -> NDArray[np.int64]:
        return values[rows]

    return block._replace(
        starts=cut(block.starts), lengths=cut(block.lengths), log_ns=cut(block.log_ns), publish_ns=cut(block.publish_ns)
    )
