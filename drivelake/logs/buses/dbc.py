"""Plain DBC files, read fast. Belongs here: statements that say no more than layout, scaling, unit and names of values.

Never here: multiplexers, floats, attributes, errors, guesses. A file with anything else is not plain: cantools reads it, which
takes 20 times longer. Each statement is a part of what the grammar of cantools accepts, so a plain file means the same to both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

__all__ = ["PlainMessage", "PlainSignal", "plain_messages"]

_PARTS = {
    # no keyword: those end with an underscore, but for two
    "WORD": r"(?!(?:FILTER|VERSION)\b)[A-Za-z_]\w*(?<!_)\b",
    "NUMBER": r"[-+]?\d{1,30}\.?\d{0,30}(?:[eE][-+]?\d{1,3})?",
    "TEXT": r'"[^"\\]*"',
    "ANY": r"[ \t\n]*",
    "GAP": r"[ \t]+",
    "BLANKS": r"[ \t]*",
    "END": r"[ \t]*(?:\n|\Z)",
}


def _compiled(pattern: str) -> re.Pattern[str]:
    """A statement; a blank stands for blanks that may be missing, two for those that may not."""
    spaced = pattern.replace("  ", "<GAP>").replace(" ", "<BLANKS>")
    for name, part in _PARTS.items():
        spaced = spaced.replace(f"<{name}>", part)
    return re.compile(spaced, re.ASCII)


_KEYWORD = re.compile(r"[ \t\n]*([A-Z_]+)", re.ASCII)
_MESSAGE = _compiled(r"  (\d{1,10})  (<WORD>) :  (0|[1-9]\d{0,3})  <WORD><END>")
_SIGNAL = _compiled(
    r"<ANY>SG_  (<WORD>) : (\d{1,5}) \| (\d{1,2}) @ ([01])([-+]) \( (<NUMBER>) , (<NUMBER>) \) \[ <NUMBER> \| <NUMBER> \]"
    r' "([^"\\\n]*)" <WORD>(?: , <WORD>)*<END>'
)
_VALUES = _compiled(r"  (\d{1,10})  (<WORD>)((?:<ANY>-?\d{1,20}  <TEXT>)+)<ANY>;")
_VALUE = re.compile(r'(-?\d+)[ \t]+"([^"]*)"', re.ASCII)
# what says nothing about layouts
_OTHERS = {
    "VERSION": _compiled(" <TEXT>"),
    "NS_": _compiled(r" :(?:<ANY>\b[A-Z][A-Z_]*\b(?!<ANY>:))*"),
    "BS_": _compiled(" :<END>"),
    "BU_": _compiled(" :(?:  <WORD>)*<END>"),
    "CM_": _compiled(r"(?:  SG_  \d{1,10}  <WORD>|  BO_  \d{1,10}|  BU_  <WORD>)?  <TEXT> ;"),
}
_EXTENDED_FLAG = 1 << 31
_ID_BITS = {False: 11, True: 29}
SIGNAL_BITS_MAX = 64


class PlainSignal(NamedTuple):
    """A signal, its members as in the file; ``scale`` and ``offset`` are integers where they are written so."""

    name: str
    start: int
    bits: int
    motorola: bool
    signed: bool
    scale: float
    offset: float
    unit: str
    values: Mapping[int, str]

    @property
    def end_bit(self) -> int:
        """One behind the last bit, in the order of significance of its byte order."""
        return (self.start ^ 7 if self.motorola else self.start) + self.bits


class PlainMessage(NamedTuple):
    """A message; ``id`` is without flags, ``length`` in bytes."""

    name: str
    id: int
    extended: bool
    length: int
    signals: tuple[PlainSignal, ...]


def plain_messages(data: bytes) -> tuple[PlainMessage, ...] | None:
    """The messages of a DBC file in its order, signals in theirs; None if it is not plain.

    Args:
        data: of the file.
    """
    # as cantools opens it
    text = data.decode("cp1252", "replace").replace("\r\n", "\n").replace("\r", "\n")
    found: dict[int, tuple[str, int, list[re.Match[str]]]] = {}
    values: dict[tuple[int, str], dict[int, str]] = {}
    at, end = 0, len(text.rstrip(" \t\n"))
    while at < end:
        if (keyword := _KEYWORD.match(text, at)) is None:
            return None
        at = keyword.end()
        pattern = {"BO_": _MESSAGE, "VAL_": _VALUES}.get(keyword[1]) or _OTHERS.get(keyword[1])
        if pattern is None or (statement := pattern.match(text, at)) is None:
            return None
        at = statement.end()
        if pattern is _MESSAGE:
            number, signals = int(statement[1]), list[re.Match[str]]()
            while signal := _SIGNAL.match(text, at):
                signals.append(signal)
                at = signal.end()
            if number in found:
                return None
            found[number] = statement[2], int(statement[3]), signals
        elif pattern is _VALUES:
            key = int(statement[1]), statement[2]
            if key in values:
                return None
            values[key] = {int(value): name for value, name in _VALUE.findall(statement[3])}
    messages = list[PlainMessage]()
    for number, parts in found.items():
        if (message := _message(number, *parts, values)) is None:
            return None
        messages.append(message)
    # cantools warns of messages of one name, and refuses names for values of no signal
    unusual = values or not messages or len({message.name for message in messages}) < len(messages)
    return None if unusual else tuple(messages)


def _message(
    number: int, name: str, length: int, matches: list[re.Match[str]], values: dict[tuple[int, str], dict[int, str]]
) -> PlainMessage | None:
    """A message; its names for values are taken out of ``values``. None where cantools has rules of its own."""
    extended = bool(number & _EXTENDED_FLAG)
    identifier = number & ~_EXTENDED_FLAG
    signals = tuple(_signal(match, values.pop((number, match[1]), {})) for match in matches)
    sound = (
        identifier.bit_length() <= _ID_BITS[extended]
        and name != "VECTOR__INDEPENDENT_SIG_MSG"
        and len({signal.name for signal in signals}) == len(signals)
        and all(0 < signal.bits <= SIGNAL_BITS_MAX and signal.end_bit <= 8 * length for signal in signals)
    )
    return PlainMessage(name, identifier, extended, length, signals) if sound else None


def _signal(match: re.Match[str], values: Mapping[int, str]) -> PlainSignal:
    name, start, bits, order, sign, scale, offset, unit = match.groups()
    return PlainSignal(name, int(start), int(bits), order == "0", sign == "-", _number(scale), _number(offset), unit, values)


def _number(text: str) -> float:
    """An integer where it is written as one."""
    try:
        return int(text)
    except ValueError:
        return float(text)
