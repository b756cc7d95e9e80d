"""Databases of buses: which message a frame is, and where its signals are. Belongs here: reading them, matching ids.

Never here: payloads, tables. cantools reads the files, but for plain ones (dbc.py); nothing of it leaves this module.
"""

from __future__ import annotations

import hashlib
import sys
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Literal, NamedTuple, TypeAlias, TypeGuard

from drivelake.errors import InputError
from drivelake.logs.buses.dbc import PlainMessage, PlainSignal, plain_messages
from drivelake.logs.buses.j1939 import NULL_ADDRESS, pgn_of, source_of
from drivelake.logs.findings import Findings

if TYPE_CHECKING:
    from cantools.database.can import Database, Message
    from cantools.database.can.signal import Signal
    from cantools.database.conversion import BaseConversion
    from cantools.database.diagnostics import Database as Diagnostics

__all__ = ["BusKind", "BusMessage", "BusSignal", "Choice", "Databases", "load_databases"]

BusKind: TypeAlias = Literal["CAN", "LIN"]
Choice: TypeAlias = "tuple[str | None, frozenset[int]]"  # a multiplexer, and the values of it

SIGNAL_BITS_MAX = 64
SELECTOR_BITS_MAX = 32
SELECTOR_VALUES_END = 1 << 53  # beyond, float64 does not tell integers apart
PAYLOAD_BYTES_MAX = 1785  # the longest message that a reader here can be given: J1939 transport protocol
FLOAT_BITS = frozenset({16, 32, 64})
FACTOR_MAX = 1e200  # no raw value times it leaves float64
RAW_VALUES = range(-(1 << 63), 1 << 64)


@dataclass(frozen=True)
class BusSignal:
    """One signal of a message.

    Attributes:
        name: as in the database.
        start: first bit as databases count: the least significant (Intel), or the most significant one as bit
            ``8 * byte + 7 - place`` (Motorola).
        bits: 1 to 64.
        motorola: the most significant byte comes first.
        signed: two's complement; without meaning for floats.
        is_float: IEEE 754 of 16, 32 or 64 bits.
        scale: physical value = raw * scale + offset; integers where the conversion stays among them.
        offset: as ``scale``.
        unit: as in the database, or empty.
        values: text by raw value, ascending.
        selector: the multiplexer that decides whether a frame carries this signal; None if every frame does.
        selected_by: physical values of the selector, whole part, at which it does.
    """

    name: str
    start: int
    bits: int
    motorola: bool
    signed: bool
    is_float: bool
    scale: float
    offset: float
    unit: str
    values: tuple[tuple[int, str], ...] = ()
    selector: str | None = None
    selected_by: frozenset[int] = frozenset()

    @property
    def is_identity(self) -> bool:
        """Whether the physical value is the raw one."""
        return (self.scale, self.offset) == (1, 0)

    @property
    def choice(self) -> Choice:
        """What decides whether a frame carries this signal."""
        return self.selector, self.selected_by

    @property
    def first_bit(self) -> int:
        """The first bit in the order of significance of its byte order: ascending (Intel) or as transmitted (Motorola)."""
        return 8 * (self.start // 8) + 7 - self.start % 8 if self.motorola else self.start

    @property
    def end_bit(self) -> int:
        """One behind the last bit, counted as :attr:`first_bit`."""
        return self.first_bit + self.bits


@dataclass(frozen=True)
class BusMessage:
    """One message of a database; equal messages are laid out equally, wherever they are from.

    Attributes:
        name: as in the database.
        id: identifier without flags.
        extended: whether it has 29 bits.
        length: payload bytes.
        signals: in the order of their bits; none of a message that is ``unreadable``.
        selectors: values that the database has for each multiplexer; a frame at another one cannot be decoded.
        j1939: whether it stands for its parameter group, whoever sends it at whatever priority.
        left_out: names of signals that are too long to be numbers.
        unreadable: why no frame of it can be decoded; empty if it can.
        origin: name of the file.
    """

    name: str
    id: int
    extended: bool
    length: int
    signals: tuple[BusSignal, ...]
    selectors: Mapping[str, frozenset[int]]
    j1939: bool
    left_out: tuple[str, ...]
    unreadable: str
    origin: str = field(compare=False)


class Databases:
    """Messages of all databases, by identifier and, for J1939, by parameter group.

    Raises:
        InputError: two messages claim one identifier and differ.
    """

    def __init__(self, messages: Iterable[BusMessage]) -> None:
        self._by_id: dict[tuple[int, bool], BusMessage] = {}
        self._by_pgn: defaultdict[int, list[BusMessage]] = defaultdict(list)
        for message in messages:
            known = self._by_id.setdefault((message.id, message.extended), message)
            if known != message:
                raise _disagreement(known, message)
            if known is message and message.j1939:
                self._by_pgn[pgn_of(message.id)].append(message)

    @property
    def has_j1939(self) -> bool:
        """Whether a message stands for a parameter group, so that transport sessions can be messages."""
        return bool(self._by_pgn)

    @property
    def longest(self) -> int:
        """Payload bytes of the longest message."""
        return max((message.length for message in self._by_id.values()), default=0)

    def find(self, identifier: int, *, extended: bool) -> BusMessage | None:
        """The message of a frame: the one of its identifier, else the one of its J1939 parameter group."""
        if (exact := self._by_id.get((identifier, extended))) is not None or not extended:
            return exact
        return self.of_group(pgn_of(identifier), source_of(identifier))

    def of_group(self, pgn: int, source: int) -> BusMessage | None:
        """The message of a parameter group from a sender; None where several would fit equally."""
        candidates = self._by_pgn.get(pgn, [])
        for address in (source, NULL_ADDRESS):
            if len(candidates) > 1:
                candidates = [c for c in candidates if source_of(c.id) == address] or candidates
        layouts = {(candidate.name, candidate.length, candidate.signals) for candidate in candidates}
        return candidates[0] if len(layouts) == 1 else None


def load_databases(paths: Sequence[Path], findings: Findings, *, kind: BusKind = "CAN") -> Databases:
    """Read databases: DBC, ARXML, KCD, SYM, and CDD, which describes diagnostics and no frames.

    Args:
        paths: the files; those that name another kind of bus (attribute ``BusType``) are left out.
        findings: takes a note on what a database has and no table can hold.
        kind: of the bus.

    Raises:
        InputError: a file that cannot be read, or two messages that claim one identifier and differ.
    """
    return Databases(message for path in paths for message in _messages(path, findings, kind))


def _messages(path: Path, findings: Findings, kind: BusKind) -> tuple[BusMessage, ...]:
    if path.suffix.lower() == ".ldf":
        raise InputError(
            f"The LIN database {path.name} is an LDF file, which no reader here knows.",
            next_step="give a DBC file with the attribute BusType LIN, or leave it out and read the frames",
        )
    content = _content(path, hashlib.sha256(path.read_bytes()).digest())
    if content is None:
        findings.note(f"{path.name} describes diagnostics and no frames of a bus.")
        return ()
    return content.messages if content.kind == kind else ()


class _Content(NamedTuple):
    kind: BusKind
    messages: tuple[BusMessage, ...]


@lru_cache(maxsize=16)
def _content(path: Path, digest: bytes) -> _Content | None:
    """What a file describes; None for diagnostics. A log asks for CAN and for LIN, and a drive has many logs."""
    del digest
    if path.suffix.lower() == ".dbc" and (plain := _plain(path)) is not None:
        return _Content("CAN", plain)
    database = _load(path)
    if not _has_messages(database):
        return None
    attributes = _attributes(database)
    in_j1939 = "J1939" in (attributes.get("ProtocolType", "") + attributes.get("BusType", "")).upper()
    messages = tuple(_message(message, path.name, in_j1939=in_j1939) for message in database.messages)
    return _Content("LIN" if "LIN" in attributes.get("BusType", "").upper().split() else "CAN", messages)


def _plain(path: Path) -> tuple[BusMessage, ...] | None:
    """The messages of a plain DBC file, without cantools; None for all others."""
    found = plain_messages(path.read_bytes())
    if found is None or not all(map(_is_ordinary, found)):
        return None
    return tuple(_plain_message(message, path.name) for message in found)


def _is_ordinary(message: PlainMessage) -> bool:
    """Whether :func:`_unreadable` has nothing to say about a message."""
    factors = (abs(factor) for signal in message.signals for factor in (signal.scale, signal.offset))
    return message.length <= PAYLOAD_BYTES_MAX and max(factors, default=0) <= FACTOR_MAX


def _plain_message(message: PlainMessage, origin: str) -> BusMessage:
    signals = sorted(map(_plain_signal, message.signals), key=attrgetter("first_bit"))
    return BusMessage(
        name=message.name,
        id=message.id,
        extended=message.extended,
        length=message.length,
        signals=tuple(signals),
        selectors={},
        j1939=False,
        left_out=(),
        unreadable="",
        origin=origin,
    )


def _plain_signal(signal: PlainSignal) -> BusSignal:
    scale, offset = _exact(signal.scale, signal.offset)
    return BusSignal(
        name=signal.name,
        start=signal.start,
        bits=signal.bits,
        motorola=signal.motorola,
        signed=signal.signed,
        is_float=False,
        scale=scale,
        offset=offset,
        unit=signal.unit,
        values=tuple((number, text) for number, text in sorted(signal.values.items()) if number in RAW_VALUES),
    )


def _load(path: Path) -> Database | Diagnostics:
    reader = _cantools_database()
    try:
        database: Database | Diagnostics = reader.load_file(path, strict=False)
    except (reader.UnsupportedDatabaseFormatError, reader.Error, ValueError) as error:
        raise InputError(
            f"The CAN database {path.name} cannot be read: {error}", next_step="correct it, or leave it out"
        ) from None
    return database


def _cantools_database() -> ModuleType:
    """``cantools.database`` alone.

    ``import cantools`` also imports its bus tester, and with it python-can, asammdf, pandas and sympy: 2.6 s of CPU time,
    more than decoding an hour of a bus. So an empty package stands in for it while its one part is imported.
    """
    name = "cantools.database"
    if name not in sys.modules and (spec := find_spec("cantools")) is not None:
        package = ModuleType("cantools")
        package.__path__ = spec.submodule_search_locations or []
        sys.modules["cantools"] = package
        try:
            import_module(name)
        finally:
            del sys.modules["cantools"]
    return sys.modules[name]


def _has_messages(database: Database | Diagnostics) -> TypeGuard[Database]:
    return hasattr(database, "messages")


def _attributes(database: Database) -> dict[str, str]:
    """Attributes of a DBC file as text: value and default, since files name their protocol in either."""
    specifics = database.dbc
    if specifics is None:
        return {}
    texts = {name: str(definition.default_value) for name, definition in specifics.attribute_definitions.items()}
    for name, attribute in specifics.attributes.items():
        texts[name] = f"{attribute.value} {texts.get(name, '')}"
    return texts


def _message(message: Message, origin: str, *, in_j1939: bool) -> BusMessage:
    any_sender = in_j1939 and source_of(message.frame_id) == NULL_ADDRESS
    unreadable = _unreadable(message)
    signals = () if unreadable else tuple(_signal(signal) for signal in message.signals if signal.length <= SIGNAL_BITS_MAX)
    return BusMessage(
        name=message.name,
        id=message.frame_id,
        extended=message.is_extended_frame,
        length=message.length,
        signals=signals,
        selectors=_selectors(message),
        j1939=message.is_extended_frame and (message.protocol == "j1939" or any_sender),
        left_out=tuple(signal.name for signal in message.signals if signal.length > SIGNAL_BITS_MAX),
        unreadable=unreadable,
        origin=origin,
    )


def _selectors(message: Message) -> dict[str, frozenset[int]]:
    """Values of each multiplexer that select something or have a name, the rule of cantools."""
    known: defaultdict[str, set[int]] = defaultdict(set)
    for signal in message.signals:
        if signal.multiplexer_signal is not None:
            known[signal.multiplexer_signal].update(signal.multiplexer_ids or ())
        if signal.is_multiplexer and signal.conversion.choices:
            known[signal.name].update(signal.conversion.choices)
    return {s.name: _reachable(known[s.name]) for s in message.signals if s.is_multiplexer and known[s.name]}


def _unreadable(message: Message) -> str:
    """Why a message cannot be decoded at all; empty if it can."""
    if message.is_container:
        return "a container of other messages"
    if message.length > PAYLOAD_BYTES_MAX:
        return f"{message.length} bytes of payload in the database, at most {PAYLOAD_BYTES_MAX} can come"
    uses = Counter(signal.name for signal in message.signals)
    for name, times in uses.items():
        if times > 1:
            return f"signal {name} is in the database {times} times"
    return next(filter(None, map(_no_number, message.signals)), "")


def _no_number(signal: Signal) -> str:
    """Why a signal is in the way of its message; empty if it is not."""
    conversion = signal.conversion
    if signal.is_multiplexer and (conversion.is_float or signal.length > SELECTOR_BITS_MAX):
        return f"multiplexer {signal.name} is no integer of at most {SELECTOR_BITS_MAX} bits"
    if conversion.is_float and signal.length not in FLOAT_BITS and signal.length <= SIGNAL_BITS_MAX:
        return f"signal {signal.name} is a float of {signal.length} bits"
    if max(abs(conversion.scale), abs(conversion.offset)) > FACTOR_MAX:
        return f"signal {signal.name} has a scale or an offset beyond {FACTOR_MAX}"
    return ""


def _signal(signal: Signal) -> BusSignal:
    scale, offset = _factors(signal.conversion)
    choices = dict(signal.conversion.choices or {})
    return BusSignal(
        name=signal.name,
        start=signal.start,
        bits=signal.length,
        motorola=signal.byte_order == "big_endian",
        signed=signal.is_signed,
        is_float=signal.conversion.is_float,
        scale=scale,
        offset=offset,
        unit=signal.unit or "",
        values=tuple((number, str(choices[number])) for number in sorted(choices) if number in RAW_VALUES),
        selector=signal.multiplexer_signal,
        selected_by=_reachable((signal.multiplexer_signal and signal.multiplexer_ids) or ()),
    )


def _reachable(ids: Iterable[int]) -> frozenset[int]:
    """The ids that a multiplexer can be at."""
    return frozenset(number for number in ids if abs(number) < SELECTOR_VALUES_END)


def _factors(conversion: BaseConversion) -> tuple[float, float]:
    """Scale and offset; integers where cantools computes with integers, which Python keeps exact."""
    return (conversion.scale, conversion.offset) if conversion.is_float else _exact(conversion.scale, conversion.offset)


def _exact(scale: float, offset: float) -> tuple[float, float]:
    """Both as integers if both are."""
    if float(scale).is_integer() and float(offset).is_integer():
        return int(scale), int(offset)
    return scale, offset


def _disagreement(known: BusMessage, other: BusMessage) -> InputError:
    both = f"{known.name!r} in {known.origin} and {other.name!r} in {other.origin}"
    layout = "" if known.name != other.name else ", laid out differently"
    return InputError(f"CAN id 0x{known.id:x} is {both}{layout}.", next_step="give the databases of this drive only")
