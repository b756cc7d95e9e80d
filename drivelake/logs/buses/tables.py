"""Frames of buses as tables: one a message where databases know it, one of frames where there is none.

Belongs here: the two ways, frames on their way to their tables. Never here: files of logs and databases, bits of signals.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.logs.arrow import T_NS, AnyField, binaries, numbers, pack
from drivelake.logs.buses.database import BusKind, BusMessage, load_databases
from drivelake.logs.buses.decode import MessageDecoder, words_of
from drivelake.logs.buses.frames import Frames
from drivelake.logs.buses.lookup import FrameLookup
from drivelake.logs.buses.routes import UNKNOWN, Routes, Sender, sender_of
from drivelake.logs.buses.rows import MessageRows, PayloadRows
from drivelake.logs.buses.transport import Session, TransportSessions
from drivelake.logs.findings import Findings
from drivelake.logs.report import LogBatch

__all__ = ["FRAME_FIELDS", "BusTables", "frames_batch"]

FRAME_FIELDS: tuple[AnyField, ...] = (
    T_NS,
    pa.field("bus", pa.uint8(), nullable=False),
    pa.field("id", pa.uint32(), nullable=False),
    pa.field("extended", pa.bool_(), nullable=False),
    pa.field("dlc", pa.uint8(), nullable=False),
    pa.field("data", pa.binary(), nullable=False),
)
PENDING_BYTES_MAX = 64 << 20


def frames_batch(frames: Frames) -> pa.RecordBatch:
    """Frames as they are, one a row."""
    columns = [numbers(column) for column in (frames.t_ns, frames.bus, frames.id, frames.extended, frames.dlc)]
    data = binaries(pack(frames.data, frames.length), frames.length)
    return pa.RecordBatch.from_arrays([*columns, data], schema=pa.schema(FRAME_FIELDS))


class BusTables:
    """Messages on their way into record batches, one table a message.

    Two senders never share a table. A message that comes on several buses is a table a bus, ``NAME@bus1``; a J1939
    parameter group that several addresses send is a table an address, ``NAME@sa0x21``; messages of one name and
    several identifiers are ``NAME@0x1a0``.

    J1939 transport sessions become rows of the message that they carry, stamped with their last packet. Such messages
    grow with the editions of the standard: of a shorter one than the database knows come the signals that it holds,
    while a single frame that is too short is refused. Which addresses send such messages is known from their transport
    frames alone: with several of them, a message of more than eight bytes is always named with its address.

    Args:
        databases: files that :func:`~drivelake.logs.buses.database.load_databases` reads.
        seen: frames of the log by (bus, id, extended), all of them.
        taken: names of other tables of the log; a table that would have one of them gets ``#2`` behind its name.
        wanted: asked for every table whether it is to be filled.
        findings: takes notes on what databases describe and no table holds.
        kind: of the bus that the frames are from.
        columns: signals to decode; all of them if None.

    Attributes:
        names: of the tables so far.
        undecoded: frames that no table holds, by (bus, ``0x`` id, reason); complete after :meth:`rest`.

    Raises:
        InputError: a database that cannot be read, or two that disagree about an identifier.
    """

    def __init__(
        self,
        databases: Sequence[Path],
        seen: Mapping[tuple[int, int, bool], int],
        taken: set[str],
        wanted: Callable[[str], bool],
        findings: Findings,
        *,
        kind: BusKind = "CAN",
        columns: Collection[str] | None = None,
    ) -> None:
        self._databases = load_databases(databases, findings, kind=kind)
        self._routes = Routes(self._databases, seen)
        self.names: set[str] = set()
        self.undecoded: Counter[tuple[int, str, str]] = self._routes.unread
        self._taken, self._wanted, self._findings, self._type = taken, wanted, findings, f"{kind.lower()}.message"
        self._columns = columns
        self._decoders: dict[tuple[int, bool], MessageDecoder] = {}
        self._tables: dict[Sender, MessageRows | None] = {}
        self._sessions = TransportSessions()
        # frames are sorted by the number of their destination: 0 nothing, 1 transport sessions, then senders
        self._destinations: list[MessageRows | None] = [None, None]
        numbers_of: dict[Sender, int] = {}
        transport_only = dict.fromkeys(self._routes.transport, 1)
        for sender, message in sorted(self._routes.senders.values(), key=lambda route: route[0].order):
            if sender not in numbers_of and (rows := self._table(sender, message)) is not None:
                numbers_of[sender] = len(self._destinations)
                self._destinations.append(rows)
        self._lookup = FrameLookup(
            transport_only
            | {key: numbers_of[sender] for key, (sender, _) in self._routes.senders.items() if sender in numbers_of}
        )
        self._is_transport = FrameLookup(transport_only)

    def add(self, frames: Frames, batch_rows: int) -> Iterator[LogBatch]:
        """Sort frames into their tables; gives the batches that became full."""
        destinations = self._lookup(frames)
        counts = np.bincount(destinations, minlength=len(self._destinations))
        ends = np.cumsum(counts).tolist()
        order = np.argsort(destinations, kind="stable")  # a radix sort for 16 bits
        from_sessions = self._transported(frames) if self._routes.transport else {}
        words = frames.data.view(np.uint64)
        shortest = int(frames.length.min(initial=255))
        for number in np.flatnonzero(counts).tolist():
            rows = order[ends[number - 1] if number else 0 : ends[number]]
            if (table := self._destinations[number]) is not None:
                if shortest < table.message.length:
                    rows = _long_enough(table, frames, rows)
                if table in from_sessions:
                    table.add(_merged(_payloads_at(frames, words, rows, table.message.length), rows, *from_sessions.pop(table)))
                else:
                    table.add_frames(frames, words, rows)
        for table, (payloads, _) in from_sessions.items():
            table.add(payloads)
        yield from self._full(batch_rows)

    def rest(self) -> Iterator[LogBatch]:
        """The batches that did not become full; an empty one for a message of which no frame could be decoded."""
        for session in self._sessions.rest():
            self._placed(session)
        for _, table in sorted(self._tables.items(), key=lambda item: item[0].order):
            if table is not None:
                for batch in table.rest(closing=True):
                    yield LogBatch(table.name, self._type, batch, last=True)
                self.undecoded.update(table.refused)

    def _full(self, batch_rows: int) -> Iterator[LogBatch]:
        tables = [table for table in self._tables.values() if table is not None]
        for table in tables:
            for batch in table.full(batch_rows):
                yield LogBatch(table.name, self._type, batch)
        if sum(table.bytes for table in tables) > PENDING_BYTES_MAX:
            for table in tables:
                for batch in table.rest(closing=False):
                    yield LogBatch(table.name, self._type, batch)

    def _table(self, sender: Sender, message: BusMessage) -> MessageRows | None:
        """The table of a sender; None if it is not wanted."""
        if sender not in self._tables:
            name = self._routes.name(sender, message)
            while name in self._taken or name in self.names:
                name = f"{name}#2"
            self.names.add(name)
            self._tables[sender] = MessageRows(name, sender.bus, message, self._decoder(message)) if self._wanted(name) else None
            for signal in message.left_out:
                self._findings.note(f"{name} has no column for signal {signal}, which is longer than a number of 64 bits.")
        return self._tables[sender]

    def _decoder(self, message: BusMessage) -> MessageDecoder:
        """The decoder of a message, which all its senders share."""
        key = message.id, message.extended
        if key not in self._decoders:
            self._decoders[key] = MessageDecoder(message, self._columns)
        return self._decoders[key]

    def _transported(self, frames: Frames) -> dict[MessageRows, tuple[PayloadRows, NDArray[np.intp]]]:
        """Payloads of the transport sessions that end with these frames, and the rows of the frames that ended them."""
        found: defaultdict[MessageRows, list[Session]] = defaultdict(list)
        for session in self._sessions.add(frames, np.flatnonzero(self._is_transport(frames))):
            if (table := self._placed(session)) is not None:
                found[table].append(session)
        return {table: _payloads_of(sessions, table.message.length) for table, sessions in found.items()}

    def _placed(self, session: Session) -> MessageRows | None:
        """The table of a session's message; None, and its frames counted, where it gives no row."""
        message = None if session.pgn is None else self._databases.of_group(session.pgn, session.source)
        reason = session.broken if message is None else f"{message.name}: {session.broken}"
        if not session.broken:
            reason = UNKNOWN if message is None else f"{message.name}: {message.unreadable}"
            if message is not None and not message.unreadable:
                return self._table(sender_of(message, session.bus, session.source), message)
        for identifier, frames in session.frames.items():
            self.undecoded[session.bus, f"0x{identifier:x}", f"{reason} (J1939 transport)"] += frames
        return None


def _long_enough(table: MessageRows, frames: Frames, rows: NDArray[np.intp]) -> NDArray[np.intp]:
    """The frames that hold all bytes of the message; the others are refused."""
    short = frames.length[rows] < table.message.length
    if not short.any():
        return rows
    for (identifier, length), count in Counter(
        zip(frames.id[rows[short]].tolist(), frames.length[rows[short]].tolist(), strict=True)
    ).items():
        table.refuse(identifier, f"Wrong data size: {length} instead of {table.message.length} bytes", count)
    return rows[~short]


def _payloads_at(frames: Frames, words: NDArray[np.uint64], rows: NDArray[np.intp], length: int) -> PayloadRows:
    """The first ``length`` bytes of the payloads of ``rows``, all of which hold them."""
    needed = words_of(length)
    if not len(rows):
        return PayloadRows.none(length)
    lengths = np.full(len(rows), length, np.uint16)
    return PayloadRows(frames.t_ns.take(rows), frames.id.take(rows), lengths, words[:, :needed].take(rows, axis=0))


def _payloads_of(sessions: Sequence[Session], length: int) -> tuple[PayloadRows, NDArray[np.intp]]:
    """What transport sessions carried, cut to ``length`` bytes, and the rows of the frames that ended them."""
    width = 8 * words_of(length)
    data = b"".join(session.payload[:length].ljust(width, b"\0") for session in sessions)
    payloads = PayloadRows(
        np.array([session.t_ns for session in sessions], np.int64),
        np.array([next(iter(session.frames)) for session in sessions], np.uint32),
        np.array([min(len(session.payload), length) for session in sessions], np.uint16),
        np.frombuffer(data, np.uint64).reshape(len(sessions), words_of(length)),
    )
    return payloads, np.array([session.row for session in sessions], np.intp)


def _merged(single: PayloadRows, rows: NDArray[np.intp], transported: PayloadRows, ended: NDArray[np.intp]) -> PayloadRows:
    """Both in the order they were logged."""
    order = np.argsort(np.concatenate((rows, ended)), kind="stable")
    return PayloadRows.joined([single, transported]).part(order)
