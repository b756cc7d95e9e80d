"""Frames of one message as columns. Belongs here: signals, multiplexing, value tables, SI units, Arrow types.

Never here: which frame is which message, sessions over several frames, files.

The oracle is cantools: ``Message.decode(data, decode_choices=False, allow_truncated=False)`` gives the same numbers for
the same frames, and refuses the same ones. One thing differs on purpose: where signals of a message overlap, cantools
refuses every frame, and here each signal is decoded where the database places it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.logs.arrow import T_NS, AnyArray, AnyField, numbers, unit_field
from drivelake.logs.buses.bits import Payloads, Values, physical_of, raw_of
from drivelake.logs.buses.database import BusMessage, BusSignal, Choice
from drivelake.logs.units import SiUnit, to_si

__all__ = ["MessageDecoder", "words_of"]

Stamps: TypeAlias = "NDArray[np.int64]"
Rows: TypeAlias = "NDArray[np.bool_] | None"  # None: all of them
Refused: TypeAlias = "tuple[NDArray[np.bool_], str]"
DType: TypeAlias = "type[np.int64 | np.uint64 | np.float64]"

ARROW: dict[DType, pa.DataType] = {np.int64: pa.int64(), np.uint64: pa.uint64(), np.float64: pa.float64()}


def words_of(length: int) -> int:
    """Words of 64 bits that hold a payload."""
    return -(-length // 8)


class MessageDecoder:
    """Decodes payloads of one message.

    Args:
        message: as the database has it.
        columns: signals to decode; all of them if None.

    Attributes:
        schema: ``t_ns`` and one column a signal: int64, uint64 (64 bits unsigned) or float64. Fields carry ``unit``,
            ``source_unit`` and, where the database names values, ``values``: JSON, text by the number in the column.
    """

    def __init__(self, message: BusMessage, columns: Collection[str] | None = None) -> None:
        wanted = [(f, c) for f, c in _fields(message) if columns is None or f.name in columns]
        self._columns = tuple(column for _, column in wanted)
        self._choices = _Choices(message)
        self._length = message.length
        self.schema = pa.schema([T_NS, *(field for field, _ in wanted)])

    def decode(self, t_ns: Stamps, payloads: Payloads) -> tuple[pa.RecordBatch, list[Refused]]:
        """The rows of some frames.

        Args:
            t_ns: (n,) receive stamps.
            payloads: of the frames; from a shorter one than the message come the signals that it holds whole.

        Returns:
            The rows, null where a frame does not carry a signal; and which frames, (n,) bool, were left out why.
        """
        refused = list[Refused]()
        # overflow to infinity and NaN are values of the database's arithmetic, not accidents of ours
        with np.errstate(all="ignore"):
            if not self._choices and payloads.shortest >= self._length:
                arrays = [numbers(column.values(payloads)) for column in self._columns]
                return pa.RecordBatch.from_arrays([numbers(t_ns), *arrays], schema=self.schema), refused
            carried = self._choices.carried(payloads)
            kept = np.ones(len(t_ns), bool)
            for rows, reason in self._choices.refusals(payloads, carried):
                refused.append((rows & kept, reason))
                kept &= ~rows
            if not kept.all():
                t_ns, payloads = t_ns[kept], payloads.take(kept)
                carried = {name: None if rows is None else rows[kept] for name, rows in carried.items()}
            arrays = [self._column(payloads, column, carried[column.signal.name]) for column in self._columns]
        return pa.RecordBatch.from_arrays([numbers(t_ns), *arrays], schema=self.schema), refused

    @staticmethod
    def _column(payloads: Payloads, column: _Column, carried: Rows) -> AnyArray:
        if carried is None:
            return numbers(column.values(payloads))
        values = np.zeros(len(payloads), column.dtype)
        if carried.any():
            values[carried] = column.values(payloads.take(carried))
        return numbers(values, ~carried)


def _fields(message: BusMessage) -> Iterator[tuple[AnyField, _Column]]:
    """Fields and columns of a message; a name that is taken becomes ``name#2``."""
    taken = {T_NS.name}
    for column in map(_Column.of, message.signals):
        name = column.signal.name
        while name in taken:
            name = f"{name}#2"
        taken.add(name)
        field = unit_field(name, ARROW[column.dtype], column.si.unit, column.signal.unit)
        if column.signal.values:
            values = {"unit": column.si.unit, "source_unit": column.signal.unit, "values": column.value_table()}
            field = pa.field(name, field.type, metadata=values)
        yield field, column


@dataclass(frozen=True)
class _Column:
    """A signal and the type of its column: integers stay integers while neither scaling nor unit makes them fractions."""

    signal: BusSignal
    si: SiUnit
    dtype: DType

    @staticmethod
    def of(signal: BusSignal) -> _Column:
        si = to_si(signal.unit)
        if si.changes or signal.is_float or not signal.is_identity:
            return _Column(signal, si, np.float64)
        return _Column(signal, si, np.int64 if signal.signed or signal.bits < 64 else np.uint64)

    def values(self, payloads: Payloads) -> Values:
        """Values in SI units."""
        values = _in_source_unit(payloads, self.signal)
        if self.si.changes:
            values = values * np.float64(self.si.factor)
            # adding zero only turns -0.0 into 0.0, which no integer has become above
            if self.si.offset or self.signal.is_float:
                values += np.float64(self.si.offset)
        return values

    def value_table(self) -> str:
        """JSON, text by the number as it stands in the column."""
        return json.dumps({self._number(raw): text for raw, text in self.signal.values}, ensure_ascii=False)

    def _number(self, raw: int) -> str:
        value = raw if self.signal.is_identity else raw * self.signal.scale + self.signal.offset
        if self.dtype is not np.float64:
            return str(value)
        return repr(float(value * self.si.factor + self.si.offset if self.si.changes else value))


class _Choices:
    """Which frames carry which signals: multiplexers, which other multiplexers may select. False if all carry all."""

    def __init__(self, message: BusMessage) -> None:
        self._length = message.length
        self._signals = message.signals
        self._known = message.selectors
        self._selectors = tuple(self._from_the_root())
        self._misfits = tuple(signal for signal in message.signals if signal.end_bit > 8 * message.length)

    def __bool__(self) -> bool:
        return bool(self._misfits or self._selectors or any(signal.selector is not None for signal in self._signals))

    def refusals(self, payloads: Payloads, carried: Mapping[str, Rows]) -> Iterator[Refused]:
        """Frames that cannot be decoded, and why; a frame may come several times."""
        everywhere = np.ones(len(payloads), bool)
        for signal in self._misfits:
            rows = carried[signal.name]
            yield everywhere if rows is None else rows, f"signal {signal.name} does not fit into {self._length} bytes"
        for selector in self._selectors:
            unknown = ~_among(_selecting(payloads, selector), self._known[selector.name])
            if (rows := carried[selector.name]) is not None:
                unknown &= rows
            yield unknown, f"multiplexer {selector.name} is at a value that the database does not have"

    def carried(self, payloads: Payloads) -> dict[str, Rows]:
        """Frames that carry a signal, by its name."""
        nowhere = np.zeros(len(payloads), bool)
        chosen: dict[Choice, Rows] = {(None, frozenset()): None}
        found: dict[str, Rows] = {}
        for selector in self._selectors:
            rows = found[selector.name] = _both(chosen[selector.choice], self._whole(payloads, selector))
            values = _selecting(payloads, selector)
            for choice in {signal.choice for signal in self._signals if signal.selector == selector.name}:
                chosen[choice] = _both(rows, _among(values, choice[1]))
        for signal in self._signals:
            if signal.name not in found:
                found[signal.name] = _both(chosen.get(signal.choice, nowhere), self._whole(payloads, signal))
        return found

    def _whole(self, payloads: Payloads, signal: BusSignal) -> Rows:
        """Frames that are long enough for a signal; one that never fits is another matter."""
        if 8 * payloads.shortest >= min(signal.end_bit, 8 * self._length):
            return None
        return np.asarray(8 * payloads.lengths.astype(np.int64) >= min(signal.end_bit, 8 * self._length))

    def _from_the_root(self) -> Iterator[BusSignal]:
        """Multiplexers, each behind the one that selects it; those that no frame can carry are left out."""
        reached: set[str | None] = {None}
        waiting = [signal for signal in self._signals if signal.name in self._known]
        while ready := [signal for signal in waiting if signal.selector in reached]:
            yield from ready
            reached.update(signal.name for signal in ready)
            waiting = [signal for signal in waiting if signal not in ready]


def _both(one: Rows, other: Rows) -> Rows:
    if one is None or other is None:
        return other if one is None else one
    return one & other


def _in_source_unit(payloads: Payloads, signal: BusSignal) -> Values:
    raw = raw_of(payloads, signal)
    return raw if signal.is_identity else physical_of(raw, signal)


def _selecting(payloads: Payloads, selector: BusSignal) -> Values:
    """What a multiplexer selects by: its physical value without the fraction."""
    values = _in_source_unit(payloads, selector)
    return np.trunc(values) if values.dtype == np.float64 else values


def _among(values: Values, ids: frozenset[int]) -> NDArray[np.bool_]:
    if len(ids) == 1:
        return np.asarray(values == next(iter(ids)))
    return np.isin(values, np.array(sorted(ids), np.int64).astype(values.dtype))
