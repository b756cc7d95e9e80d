"""J1939 messages of more than eight bytes. Belongs here: transport sessions, their packets, what breaks them.

Never here: what a message means, tables.

Source: SAE J1939-21, 5.10: connection management (TP.CM, parameter group 0xEC00) announces a message to all (BAM) or to
one address (RTS), data transfer (TP.DT, 0xEB00) carries it in packets of seven bytes. Between an address and another
there is one session at a time. A session that breaks any rule is told and never gives a message.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from drivelake.logs.buses.frames import Frames
from drivelake.logs.buses.j1939 import GLOBAL_ADDRESS, TRANSPORT_CONTROL, TRANSPORT_DATA, pgn_of, source_of

__all__ = ["Session", "TransportSessions", "is_transport"]

RTS, CTS, END_OF_MESSAGE, BAM, ABORT = 16, 17, 19, 32, 255
PACKET_BYTES = 7
MESSAGE_BYTES_MAX = 1785
# T2 and T3, the longest that a sender waits before it sends, and a receiver before it asks again
SILENCE_NS_MAX = 1_250_000_000

Key: TypeAlias = "tuple[int, int, int]"  # bus, source, target


class Session(NamedTuple):
    """A session that has ended.

    Attributes:
        row: the frame that ended it, in the frames given last; -1 for the end of the log.
        t_ns: receive stamp of its last packet.
        bus: number of the bus.
        source: address of the sender.
        pgn: parameter group of the message; None for frames that belong to no session.
        payload: the message; empty if it was not received whole.
        broken: why it was not; empty if it was.
        frames: its frames, by identifier.
    """

    row: int
    t_ns: int
    bus: int
    source: int
    pgn: int | None
    payload: bytes
    broken: str
    frames: Counter[int]


class _Frame(NamedTuple):
    row: int
    t_ns: int
    id: int
    data: bytes


def is_transport(identifier: int, *, extended: bool) -> bool:
    """Whether a frame belongs to a transport session, by its identifier."""
    return extended and pgn_of(identifier) in {TRANSPORT_CONTROL, TRANSPORT_DATA}


@dataclass(slots=True)
class _Open:
    """A session on its way: ``packets`` in order, ``early`` those that came before one that is still missing.

    ``t_ns`` is the stamp of its last packet, or of the receiver's last request for more.
    """

    pgn: int
    size: int
    count: int
    t_ns: int
    to_all: bool
    frames: Counter[int]
    packets: list[bytes] = field(default_factory=list)
    early: dict[int, bytes] = field(default_factory=dict)

    def take(self, number: int, content: bytes, t_ns: int) -> str:
        """One more packet; gives what is wrong with it."""
        if t_ns - self.t_ns > SILENCE_NS_MAX:
            return f"silence of more than {SILENCE_NS_MAX / 1e9} s between packets"
        if not 1 <= number <= self.count:
            return "a packet has a number that was not announced"
        if len(content) < min(self.size - PACKET_BYTES * (number - 1), PACKET_BYTES):
            return "a packet is too short"
        self.t_ns = t_ns
        if number == len(self.packets) + 1:
            self.packets.append(content)
            while (following := self.early.pop(len(self.packets) + 1, None)) is not None:
                self.packets.append(following)
            return ""
        if self.to_all:
            return "a packet is missing or repeated"
        # a receiver may ask for packets again
        known = self.packets[number - 1] if number <= len(self.packets) else self.early.setdefault(number, content)
        return "" if known == content else "a repeated packet differs"


class TransportSessions:
    """Puts messages together from the transport frames of all buses."""

    def __init__(self) -> None:
        self._open: dict[Key, _Open] = {}

    def add(self, frames: Frames, rows: NDArray[np.intp]) -> Iterator[Session]:
        """Sessions that end with these frames, in the order of their ends.

        Args:
            frames: frames in the order they were logged.
            rows: (n,) which of them are transport frames.
        """
        ids = frames.id[rows]
        columns = (rows, frames.t_ns[rows], frames.bus[rows], ids, frames.length[rows])
        is_control = (ids >> 16 & 0xFF == TRANSPORT_CONTROL >> 8).tolist()
        payloads = frames.data[rows, :8].tobytes()
        at = 0
        for control, row, t_ns, bus, identifier, length in zip(is_control, *(c.tolist() for c in columns), strict=True):
            key = bus, identifier & 0xFF, identifier >> 8 & 0xFF
            frame = _Frame(row, t_ns, identifier, payloads[at : at + min(length, 8)])
            at += 8
            if control:
                yield from self._control(key, frame)
            elif (ended := self._data(key, frame)) is not None:
                yield ended

    def rest(self) -> Iterator[Session]:
        """Sessions that the end of the log cuts off."""
        for key in sorted(self._open):
            yield from self._end(key, -1, "the log ends before the last packet")

    def _control(self, key: Key, frame: _Frame) -> Iterator[Session]:
        bus, source, target = key
        kind = frame.data[0] if frame.data else None
        if kind == ABORT:
            yield from self._end(key, frame.row, "aborted")
            yield from self._end((bus, target, source), frame.row, "aborted")
        if kind not in {RTS, BAM}:
            # clear to send, acknowledgement and abort carry no part of a message
            known = kind in {CTS, END_OF_MESSAGE, ABORT}
            if kind == CTS and (waiting := self._open.get((bus, target, source))):
                waiting.t_ns = frame.t_ns
            yield _stray(key, frame, "a control frame without data" if known else "an unknown control frame")
            return
        yield from self._end(key, frame.row, "the next session begins before the last packet")
        size, count = int.from_bytes(frame.data[1:3], "little"), int.from_bytes(frame.data[3:4], "little")
        if (
            len(frame.data) < 8
            or not 1 <= size <= MESSAGE_BYTES_MAX
            or count != -(-size // PACKET_BYTES)
            or (kind == BAM) != (target == GLOBAL_ADDRESS)
        ):
            yield _stray(key, frame, "an announcement that contradicts itself")
            return
        pgn = int.from_bytes(frame.data[5:8], "little")
        self._open[key] = _Open(pgn, size, count, frame.t_ns, to_all=kind == BAM, frames=Counter([frame.id]))

    def _data(self, key: Key, frame: _Frame) -> Session | None:
        if (session := self._open.get(key)) is None:
            return _stray(key, frame, "a packet outside any session")
        session.frames[frame.id] += 1
        number = frame.data[0] if frame.data else 0
        if wrong := session.take(number, frame.data[1:], frame.t_ns):
            return next(self._end(key, frame.row, wrong))
        if len(session.packets) < session.count:
            return None
        del self._open[key]
        payload = b"".join(packet.ljust(PACKET_BYTES, b"\0") for packet in session.packets)[: session.size]
        return Session(frame.row, frame.t_ns, key[0], key[1], session.pgn, payload, "", session.frames)

    def _end(self, key: Key, row: int, why: str) -> Iterator[Session]:
        if session := self._open.pop(key, None):
            yield Session(row, session.t_ns, key[0], key[1], session.pgn, b"", why, session.frames)


def _stray(key: Key, frame: _Frame, why: str) -> Session:
    return Session(frame.row, frame.t_ns, key[0], source_of(frame.id), None, b"", why, Counter({frame.id: 1}))
