"""Records of an MDF 4 group as raw Arrow columns. Belongs here: raw values, nulls, text, values of varying length, stamps.

Never here: conversions and units of values (physical.py), where records come from, other groups. The one conversion that is
applied here is that of the master, since every table has its stamps in nanoseconds.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import NamedTuple, Protocol, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.logs.arrow import T_NS, AnyArray, binaries, buffer_of, fixed_lists, numbers, pack, pick, texts, type_of
from drivelake.logs.mdf.cells import TEXTS, VLSD, Bytes, Cell, bit_cell, cell_of, decode, gather, is_virtual, plain_type
from drivelake.logs.mdf.columns import Column, is_bytes, metadata_of
from drivelake.logs.mdf.conversions import physical
from drivelake.logs.mdf.model import ALL_INVALID, Channel, Group
from drivelake.logs.mdf.stamps import impossible, stamps_ns

__all__ = ["Decoded", "GroupColumns", "Values", "Window", "wrong_times"]

VALUES_BYTES = 8 << 20
ROW_BYTES = 16  # of the stamps, before and after they are nanoseconds
COLUMN_BYTES = 8


class Values(Protocol):
    """Values of varying length, by their offsets in a stream of their own."""

    def take(self, offsets: NDArray[np.uint64]) -> tuple[Bytes, NDArray[np.int64], NDArray[np.bool_] | None]:
        """Values one behind the other, their lengths (0 where missing), and which are missing; None for none."""


class Decoded(NamedTuple):
    """Records as rows.

    Attributes:
        batch: the sound ones.
        wrong: sentences on those that are left out, with their number.
    """

    batch: pa.RecordBatch
    wrong: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Window:
    """Gathered records.

    Attributes:
        cells: one array for each cell of the group.
        first: number of the first record in the group.
        count: of the records.
    """

    cells: Sequence[NDArray[np.generic]]
    first: int
    count: int

    def part(self, start: int, stop: int) -> Window:
        """Some of the records."""
        return Window([cell[start:stop] for cell in self.cells], self.first + start, stop - start)


class _Plan(NamedTuple):
    """How a channel comes out of a window.

    Attributes:
        channel: which.
        column: that it becomes; None for the master.
        place: of its cell; None if it stands in no record.
        reused: whether its cell is decoded more than once, so that decoding may not use it up.
        native: the type of its column, if the bytes of the cell are the column.
        invalid_place: of the cell with its invalidation bit; None for none.
        invalid_mask: which bit of that cell it is.
    """

    channel: Channel
    column: Column | None
    place: int | None
    reused: bool
    native: pa.DataType | None
    invalid_place: int | None
    invalid_mask: int


def wrong_times(group: int, seconds: NDArray[np.float64], wrong: NDArray[np.bool_], first: int) -> tuple[str, int]:
    """What is told about impossible times, and their number.

    Args:
        group: index of the group.
        seconds: (n,) times.
        wrong: (n,) which of them are impossible.
        first: number of the first record in the group.
    """
    at, number = int(np.argmax(wrong)), int(np.count_nonzero(wrong))
    more = f" {number} of the records {first} to {first + len(wrong) - 1} have no possible time." if number > 1 else ""
    return f"Group {group} has the time {seconds[at]} s at record {first + at}.{more}", number


class GroupColumns:
    """Turns the records of a group into raw record batches. The schema is the same for every batch.

    Args:
        group: whose records.
        master: its time; :func:`~drivelake.logs.mdf.columns.unread` of it is nothing.
        columns: which; :func:`~drivelake.logs.mdf.columns.unread` of each is nothing.
        start_ns: of the measurement, UTC ns.
        cycles: records of the group, where the file says; 0 where not. It decides the type of record numbers.

    Attributes:
        cells: what to gather from each record.
        streams: channels whose values stand in streams of their own.
        row_bytes: memory that a row takes, roughly.
    """

    def __init__(self, group: Group, master: Channel, columns: Sequence[Column], start_ns: int, cycles: int) -> None:
        self._group = group
        self._start_ns = start_ns
        self._number = np.min_scalar_type(cycles) if cycles else np.dtype(np.uint64)
        places: dict[Cell, int] = {}
        used = [master, *(part for column in columns for part in (column.channel, column.lengths) if part is not None)]
        at = {channel.offset: places.setdefault(cell_of(channel), len(places)) for channel in used if not is_virtual(channel)}
        uses = Counter(at[channel.offset] for channel in used if channel.offset in at)
        self._master = self._plan(master, None, at, places, uses)
        self._plans = [self._plan(column.channel, column, at, places, uses) for column in columns]
        self._lengths = {
            column.name: self._plan(column.lengths, None, at, places, uses) for column in columns if column.lengths is not None
        }
        self._schema: pa.Schema | None = None
        self.cells = tuple(places)
        self.streams = tuple(column.channel for column in columns if column.channel.kind == VLSD)
        self.row_bytes = ROW_BYTES + sum(cell.width + COLUMN_BYTES for cell in self.cells) + sum(map(_text_bytes, columns))

    def _plan(
        self, channel: Channel, column: Column | None, at: Mapping[int, int], places: dict[Cell, int], uses: Counter[int]
    ) -> _Plan:
        place = at.get(channel.offset)
        reused = place is not None and (uses[place] > 1 or channel.kind == VLSD)
        invalid, mask, bit, plain = None, 0, channel.invalid_bit, plain_type(channel)
        if bit is not None and bit != ALL_INVALID:
            invalid = places.setdefault(bit_cell(self._group.record_bytes, bit), len(places))
            mask = 1 << bit % 8
        native = type_of(plain) if plain is not None and plain.isnative and bit is None else None
        return _Plan(channel, column, place, reused, native, invalid, mask)

    @cached_property
    def nothing(self) -> pa.RecordBatch:
        """A batch without rows."""
        return self.decode(Window(self.empty(0), 0, 0), {}).batch

    def empty(self, count: int) -> list[NDArray[np.generic]]:
        """Arrays to gather ``count`` records into."""
        return [cell.empty(count) for cell in self.cells]

    def gather(self, rows: Bytes, into: Sequence[NDArray[np.generic]], at: int) -> None:
        """Copy the cells of (n, record bytes) rows."""
        gather(rows, self.cells, into, at)

    def offsets(self, window: Window) -> Iterator[tuple[Channel, NDArray[np.uint64]]]:
        """Where the values of varying length stand in their streams."""
        for plan in self._plans:
            if plan.channel.kind == VLSD:
                yield plan.channel, self._raw(plan, window).astype(np.uint64, copy=False)

    def parts(self, window: Window) -> Iterator[Window]:
        """Cuts records so that their values of varying length take at most 8 MiB; one value always fits."""
        if not self.streams:
            yield window
            return
        cuts = {0, window.count}
        for _, offsets in self.offsets(window):
            span = offsets - np.minimum.accumulate(offsets)
            cuts.update((np.flatnonzero(np.diff(span // np.uint64(VALUES_BYTES))) + 1).tolist())
        yield from (window.part(start, stop) for start, stop in pairwise(sorted(cuts)))

    def decode(self, window: Window, streams: Mapping[int, Values]) -> Decoded:
        """Gathered records as rows; the arrays are used up.

        Args:
            window: the records.
            streams: values of varying length, by ``offset`` of their channels.
        """
        t_ns, wrong, out = self._stamps(window)
        names: list[tuple[Column, str]] = []
        arrays: list[AnyArray] = [numbers(t_ns)]
        for plan in self._plans:
            assert plan.column is not None
            if plan.native is not None:
                assert plan.place is not None
                # the bytes of the cell are the column, as for most channels of measurements
                buffers = [None, buffer_of(window.cells[plan.place])]
                arrays.append(pa.Array.from_buffers(plan.native, window.count, buffers, 0))
                names.append((plan.column, ""))
                continue
            found, missing = self._columns(plan, plan.column, window, streams)
            if missing is not None:
                wrong.append(self._missing(plan.column, missing, window.first))
                out = missing if out is None else out | missing
            names += [(plan.column, part) for part, _ in found]
            arrays += [array for _, array in found]
        if self._schema is None:
            self._schema = _schema(names, arrays)
        batch = pa.RecordBatch.from_arrays(arrays, schema=self._schema)
        return Decoded(batch if out is None else batch.filter(cast("pa.BooleanArray", numbers(~out))), tuple(wrong))

    def _columns(
        self, plan: _Plan, column: Column, window: Window, streams: Mapping[int, Values]
    ) -> tuple[list[tuple[str, AnyArray]], NDArray[np.bool_] | None]:
        """Columns of a channel, with what is added to the name, and which records have no value where they say it is."""
        invalid = self._invalid(plan, window)
        if plan.channel.kind == VLSD:
            values, missing = self._varying(plan, window, streams, invalid)
        elif (lengths := self._lengths.get(column.name)) is not None:
            values, missing = self._limited(plan, lengths, window, invalid)
        else:
            return list(_arrays(plan.channel, self._raw(plan, window), invalid)), None
        return [("", values)], missing

    def _stamps(self, window: Window) -> tuple[NDArray[np.int64], list[tuple[str, int]], NDArray[np.bool_] | None]:
        """Stamps; what is told about impossible times; and which records have one, None for none."""
        conversion = self._master.channel.conversion
        raw = self._raw(self._master, window)
        seconds = np.ascontiguousarray(physical(conversion, raw) if conversion else raw, np.float64)
        wrong = impossible(seconds)
        if wrong is None:
            return stamps_ns(self._start_ns, seconds, overwrite=not self._master.reused), [], None
        told = wrong_times(self._group.index, seconds, wrong, window.first)
        return stamps_ns(self._start_ns, np.where(wrong, 0.0, seconds)), [told], wrong

    def _raw(self, plan: _Plan, window: Window) -> NDArray[np.generic]:
        if plan.place is None:
            dtype = np.float64 if plan is self._master else self._number
            return np.arange(window.first, window.first + window.count, dtype=dtype)
        cell = window.cells[plan.place]
        return decode(plan.channel, cell.copy() if plan.reused else cell)

    @staticmethod
    def _invalid(plan: _Plan, window: Window) -> NDArray[np.bool_] | None:
        if plan.channel.invalid_bit == ALL_INVALID:
            return np.ones(window.count, np.bool_)
        if plan.invalid_place is None:
            return None
        return (window.cells[plan.invalid_place].view(np.uint8) & np.uint8(plan.invalid_mask)).astype(np.bool_)

    def _varying(
        self, plan: _Plan, window: Window, streams: Mapping[int, Values], invalid: NDArray[np.bool_] | None
    ) -> tuple[AnyArray, NDArray[np.bool_] | None]:
        """Values of varying length, and which of them are not where their records say; those that are invalid may be."""
        offsets = self._raw(plan, window).astype(np.uint64, copy=False)
        data, lengths, missing = np.empty(0, np.uint8), np.zeros(0, np.int64), None
        if len(offsets):
            data, lengths, missing = streams[plan.channel.offset].take(offsets)
        if missing is not None and invalid is not None:
            missing &= ~invalid
        encoding = TEXTS.get(plan.channel.data_type)
        if not encoding:
            return binaries(data, lengths, invalid), missing
        data, lengths = _before_zero(data, lengths, 2 if encoding.startswith("utf-16") else 1)
        return texts(data, lengths, encoding, invalid), missing

    def _limited(
        self, plan: _Plan, lengths: _Plan, window: Window, invalid: NDArray[np.bool_] | None
    ) -> tuple[AnyArray, NDArray[np.bool_] | None]:
        """Values of a maximum length, whose lengths another channel says, and which of them would be longer than that."""
        rows = cast("Bytes", self._raw(plan, window))
        said = self._raw(lengths, window).astype(np.int64)
        wrong = (said < 0) | (said > rows.shape[1])
        used = np.where(wrong, 0, said)
        data, encoding = pack(rows, used), TEXTS.get(plan.channel.data_type)
        array = texts(data, used, encoding, invalid) if encoding else binaries(data, used, invalid)
        return array, wrong if wrong.any() else None

    def _missing(self, column: Column, missing: NDArray[np.bool_], first: int) -> tuple[str, int]:
        at, number = int(np.argmax(missing)), int(np.count_nonzero(missing))
        more = f" {number} records miss theirs." if number > 1 else ""
        where = f"Channel {column.name!r} of group {self._group.index}"
        return f"{where} has no value where record {first + at} says that it is.{more}", number


def _schema(names: Sequence[tuple[Column, str]], arrays: Sequence[AnyArray]) -> pa.Schema:
    fields = [
        pa.field(column.name + part, array.type, metadata=metadata_of(column.channel))
        for (column, part), array in zip(names, arrays[1:], strict=True)
    ]
    return pa.schema([T_NS, *fields])


def _text_bytes(column: Column) -> int:
    """Memory of the text that a value becomes, at most, roughly."""
    conversion = column.channel.conversion
    return max((len(text) for text in conversion.texts if isinstance(text, str)), default=0) if conversion else 0


def _arrays(channel: Channel, raw: NDArray[np.generic], invalid: NDArray[np.bool_] | None) -> Iterator[tuple[str, AnyArray]]:
    """Columns of a channel whose values stand in the record, with what is added to the name."""
    if raw.dtype.names:
        fields = cast("NDArray[np.void]", raw)
        yield from ((f".{part}", numbers(fields[part], invalid)) for part in raw.dtype.names)
    elif np.iscomplexobj(raw):
        yield ".real", numbers(np.real(raw), invalid)
        yield ".imag", numbers(np.imag(raw), invalid)
    elif is_bytes(channel) or (raw.ndim > 1 and channel.data_type in TEXTS):
        width = raw.dtype.itemsize * math.prod(raw.shape[1:])
        rows = np.ascontiguousarray(raw).view(np.uint8).reshape(len(raw), width)
        encoding = TEXTS.get(channel.data_type)
        if encoding is None:
            yield "", binaries(rows.reshape(-1), np.full(len(rows), width, np.int64), invalid)
        else:
            lengths = _used(rows, 2 if encoding.startswith("utf-16") else 1)
            yield "", texts(pack(rows, lengths), lengths, encoding, invalid)
    elif raw.ndim > 1:
        yield "", fixed_lists(raw, invalid)
    else:
        yield "", numbers(raw, invalid)


def _used(rows: Bytes, unit: int) -> NDArray[np.int64]:
    """Bytes before the closing zeros of each text, in whole units: half of the last character may be a zero."""
    width = rows.shape[1]
    used = rows[:, ::-1] != 0
    lengths = np.where(used.any(axis=1), width - used.argmax(axis=1), 0).astype(np.int64)
    lengths += lengths % unit
    return lengths.clip(max=width)


def _before_zero(data: Bytes, lengths: NDArray[np.int64], unit: int) -> tuple[Bytes, NDArray[np.int64]]:
    """Each text up to its first zero, which takes as many bytes as a unit of text."""
    ends = np.cumsum(lengths)
    starts = ends - lengths
    zeros = np.flatnonzero(data == 0)
    if unit == 2 and len(zeros):
        zeros = zeros[:-1][np.diff(zeros) == 1]
        row = np.searchsorted(ends, zeros, side="right")
        zeros = zeros[((zeros - starts[row]) % 2 == 0) & (zeros + 1 < ends[row])]
    if not len(zeros):
        return data, lengths
    first = np.append(zeros, len(data))[np.searchsorted(zeros, starts)]
    kept = np.minimum(first, ends)
    kept = np.subtract(kept, starts, dtype=np.int64)
    return pick(data, starts, kept), kept
