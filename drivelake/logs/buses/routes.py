"""Which frames of a log go into which table, and what the tables are called. Belongs here: senders, names.

Never here: payloads, batches.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from drivelake.logs.buses.database import BusMessage, Databases
from drivelake.logs.buses.j1939 import TRANSPORT_CONTROL, TRANSPORT_DATA, pgn_of, source_of
from drivelake.logs.buses.lookup import FrameKey
from drivelake.logs.buses.transport import is_transport

__all__ = ["UNKNOWN", "Routes", "Sender", "sender_of"]

UNKNOWN = "unknown id"
CAN_PAYLOAD_BYTES = 8


class Sender(NamedTuple):
    """What one table is made of: a message, the bus that it comes on and, for J1939, the address that sends it."""

    bus: int
    id: int
    extended: bool
    source: int | None

    @property
    def order(self) -> tuple[int, int, bool, int]:
        """Sorts senders."""
        return self.bus, self.id, self.extended, -1 if self.source is None else self.source


class Routes:
    """Senders of a log.

    Args:
        databases: what describes the messages.
        seen: frames of the log by (bus, id, extended).

    Attributes:
        senders: sender and message by the key of a frame.
        transport: keys of J1939 transport frames; empty where no database is for J1939.
        unread: frames that go nowhere, by (bus, ``0x`` id, reason).
    """

    def __init__(self, databases: Databases, seen: Mapping[tuple[int, int, bool], int]) -> None:
        self.senders: dict[FrameKey, tuple[Sender, BusMessage]] = {}
        self.transport: set[FrameKey] = set()
        self.unread: Counter[tuple[int, str, str]] = Counter()
        for key in (FrameKey(*key) for key in sorted(seen)):
            if databases.has_j1939 and is_transport(key.id, extended=key.extended):
                self.transport.add(key)
            message = databases.find(key.id, extended=key.extended)
            if message is not None and not message.unreadable:
                self.senders[key] = sender_of(message, key.bus, source_of(key.id)), message
            elif key not in self.transport:
                reason = UNKNOWN if message is None else f"{message.name}: {message.unreadable}"
                self.unread[key.bus, f"0x{key.id:x}", reason] += seen[key.bus, key.id, key.extended]
        self._by_message: defaultdict[tuple[int, bool], set[Sender]] = defaultdict(set)
        for sender, _ in self.senders.values():
            self._by_message[sender.id, sender.extended].add(sender)
        self._ids = Counter(name for name, _ in {(m.name, (m.id, m.extended)) for _, m in self.senders.values()})
        self._multipacket = set(self._multipacket_sources())

    def name(self, sender: Sender, message: BusMessage) -> str:
        """What the table of a sender is called, before other tables are looked at."""
        known = self._by_message[sender.id, sender.extended]
        if message.j1939 and (message.length > CAN_PAYLOAD_BYTES or not known):
            known = known | {sender._replace(bus=bus, source=source) for bus, source in self._multipacket}
        name = message.name if self._ids[message.name] < 2 else f"{message.name}@0x{message.id:x}"
        if len({other.source for other in known} | {sender.source}) > 1:
            name = f"{name}@sa0x{sender.source:02x}"
        if len({other.bus for other in known} | {sender.bus}) > 1:
            name = f"{name}@bus{sender.bus}"
        return name

    def _multipacket_sources(self) -> Iterator[tuple[int, int]]:
        """Bus and address of those who send both kinds of transport frames; a mere receiver only sends control frames."""
        kinds = {(key.bus, source_of(key.id), pgn_of(key.id)) for key in self.transport}
        for bus, source, pgn in sorted(kinds):
            if pgn == TRANSPORT_DATA and (bus, source, TRANSPORT_CONTROL) in kinds:
                yield bus, source


def sender_of(message: BusMessage, bus: int, source: int) -> Sender:
    """Who sends a message; an address counts for J1939 only."""
    return Sender(bus, message.id, message.extended, source if message.j1939 else None)
