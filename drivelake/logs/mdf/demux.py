"""Unsorted data groups: records of many groups in one stream. Belongs here: taking it apart in bounded memory.

Never here: the walk from record to record (walk.py, scan.py), channels, what is done with batches.

Format: ASAM MDF 4.1, "unsorted data": a record id before each record; groups of values of varying length (VLSD groups) whose
records are the values that other records point at, by the offset that they would have in a stream of their own.

Records are gathered by group until they are worth a batch. Behind a piece that is lost, or an id that is of no group, no
record can be found any more: the stream ends there.
"""

from __future__ import annotations

import sys
from bisect import bisect_right
from collections import Counter
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from drivelake.errors import LogDamaged
from drivelake.logs.ahead import in_order
from drivelake.logs.arrow import pick, windows
from drivelake.logs.findings import Findings
from drivelake.logs.mdf.blocks import LAST_DT_OPEN, MdfFile
from drivelake.logs.mdf.cells import Bytes
from drivelake.logs.mdf.decoding import Values, Window
from drivelake.logs.mdf.model import DataGroup, Group, Piece
from drivelake.logs.mdf.rows import Rows, parts_of, stream_bytes, unpacked
from drivelake.logs.mdf.streams import Found, decoded
from drivelake.logs.mdf.tables import VLSD_GROUP, Table
from drivelake.logs.mdf.values import values_in
from drivelake.logs.mdf.walk import COMPLETE, LENGTH_BYTES, UNKNOWN_ID, Apart, Layout

__all__ = ["Demux"]

# rows that wait for company: of one group, and of all groups of a stream together
ROWS_BYTES = 1 << 20
ALL_ROWS_BYTES = 32 << 20
# rows that wait for values, and values that may be asked for again
WAITING_BYTES = 64 << 20
# values before the end of a stream that say how long its values are
LATELY_BYTES = 1 << 20
# streams of at least this size are worth the start of numba, see walk.py
COMPILED_BYTES = 768 << 20


class _Stored:
    """Values of one VLSD group, the last 64 MiB of them at least.

    Records point at beginnings of values. An offset between two of them is damage: of the record, or of a length before it,
    which moves all values that follow.
    """

    def __init__(self) -> None:
        self._data = np.empty(1 << 16, np.uint8)
        self._base = self._size = 0
        # a value begins at each of them: where values were added, and behind the last one that was taken
        self._marks = [0]
        self._taken = 0
        self._doubtful = sys.maxsize

    def add(self, values: Bytes) -> None:
        """More values with their lengths, all of them whole."""
        if self._size + len(values) > len(self._data):
            kept = self._data[: self._size]
            if self._size > 2 * WAITING_BYTES:
                self._marks = self._marks[bisect_right(self._marks, self._base + self._size - WAITING_BYTES) - 1 :]
                kept = kept[self._marks[0] - self._base :]
                self._base = self._marks[0]
            self._size = len(kept)
            grown = np.empty(max(2 * self._size, self._size + len(values)), np.uint8)
            grown[: self._size] = kept
            self._data = grown
        self._data[self._size : self._size + len(values)] = values
        self._size += len(values)
        self._marks.append(self._base + self._size)

    def take(self, offsets: NDArray[np.uint64]) -> tuple[Bytes, NDArray[np.int64], NDArray[np.bool_] | None]:
        """As :class:`~drivelake.logs.mdf.decoding.Values` says."""
        if (found := self._in_order(offsets)) is not None:
            return found
        missing = (offsets < self._base) | (offsets >= min(self._base + self._size, self._doubtful))
        starts = np.where(missing, 0, offsets - np.uint64(self._base)).astype(np.int64)
        data, lengths, wrong = values_in(self._data[: self._size], starts, missing)
        if not wrong.all():
            ends = starts + LENGTH_BYTES + lengths
            first = self._base + int(starts[0])
            in_order = first in {self._taken, self._marks[0]} and not wrong.any() and bool((ends[:-1] == starts[1:]).all())
            if not in_order:
                here = starts[~wrong]
                between = ~wrong & ~np.isin(starts, self._beginnings(int(here.min()), int(here.max())))
                wrong |= between
                right = np.flatnonzero(~wrong)
                if len(right) and between[right[-1] + 1 :].any():
                    # nothing behind it confirms the length of the last one: it may be what moved the others
                    wrong |= starts == starts[right[-1]]
                data, lengths, wrong = values_in(self._data[: self._size], starts, wrong)
            if not wrong.all():
                self._taken = self._base + int(ends[~wrong][-1])
        return data, lengths, wrong if wrong.any() else None

    def _in_order(self, offsets: NDArray[np.uint64]) -> tuple[Bytes, NDArray[np.int64], None] | None:
        """The values that follow those taken before, one behind the other and all of them there; None if that is not so."""
        end = min(self._base + self._size, self._doubtful)
        if not len(offsets) or offsets[0] != self._taken or self._taken < self._base or int(offsets.max()) + LENGTH_BYTES > end:
            return None
        starts = offsets.astype(np.int64)
        starts -= self._base
        lengths = windows(self._data, "<u4")[starts].astype(np.int64)
        starts += LENGTH_BYTES
        behind = starts + lengths
        if int(behind[-1]) + self._base > end or not np.array_equal(behind[:-1] + LENGTH_BYTES, starts[1:]):
            return None
        self._taken = self._base + int(behind[-1])
        return pick(self._data, starts, lengths), lengths, None

    def doubt(self) -> None:
        """Behind the last value stands what cannot be: its length may be wrong, so it is not given."""
        found = self._beginnings(max(0, self._size - LATELY_BYTES), self._size - 1)
        self._doubtful = self._base + int(found[-1]) if len(found) else self._doubtful

    def longest(self) -> int:
        """Bytes of the longest of the last values, with its length."""
        found = self._beginnings(max(0, self._size - LATELY_BYTES), self._size)
        return int(np.diff(found).max(initial=0))

    def _beginnings(self, first: int, last: int) -> NDArray[np.int64]:
        """Where values begin from ``first`` to ``last``, and before; places are relative to what is kept."""
        here = self._marks[bisect_right(self._marks, self._base + first) - 1] - self._base
        data, found = self._data[: self._size].data, list[int]()
        while here <= last:
            found.append(here)
            here += LENGTH_BYTES + int.from_bytes(data[here : here + LENGTH_BYTES], "little")
        return np.array(found, np.int64)

    def behind(self, offsets: NDArray[np.uint64]) -> NDArray[np.bool_]:
        """Which values are not there yet."""
        return offsets >= self._base + self._size


@dataclass
class _Waiting:
    """Rows of one table that are no batch yet."""

    table: Table
    first: int = 0
    rows: list[Bytes] = field(default_factory=list)
    bytes: int = 0

    def add(self, rows: Bytes) -> None:
        self.rows.append(rows.copy())
        self.bytes += rows.size

    def joined(self) -> Bytes:
        if len(self.rows) > 1:
            self.rows = [np.concatenate(self.rows)]
        return self.rows[0] if self.rows else np.empty((0, self.table.record_bytes), np.uint8)


class Demux:
    """One unsorted data group.

    Args:
        file: the file.
        data_group: the group.
        pieces: of its stream.
        tables: to be filled from it.
        findings: takes what is wrong with the stream.
        threads: that inflate ahead; 1 inflates when it is asked for.

    Attributes:
        counted: records seen so far, by the index of their group.
    """

    def __init__(
        self,
        file: MdfFile,
        data_group: DataGroup,
        pieces: Sequence[Piece],
        tables: Sequence[Table],
        findings: Findings,
        threads: int,
    ) -> None:
        self._file, self._data_group, self._findings, self._threads = file, data_group, findings, threads
        self._pieces = list(parts_of(pieces, 1))
        self._size = stream_bytes(pieces)
        self._groups = sorted(data_group.groups, key=lambda group: group.record_id)
        self._waiting = {table.group.index: _Waiting(table) for table in tables}
        self._stored: dict[int, _Stored] = {}
        self._streams: dict[int, dict[int, Values]] = {}
        self._torn_records = 0
        self.counted: Counter[int] = Counter()
        for table in tables:
            assert table.columns is not None
            self._streams[table.group.index] = {
                channel.offset: self._stored.setdefault(channel.data, _Stored()) for channel in table.columns.streams
            }
        self._rows_bytes = min(ROWS_BYTES, max(1 << 16, ALL_ROWS_BYTES // max(len(tables), 1)))

    def results(self) -> Iterator[tuple[Table, Found]]:
        """Batches of the tables, those of a table in the order of the stream."""
        self._check_ids()
        end = yield from self._walk()
        behind = {index: self._trailing(waiting) for index, waiting in self._waiting.items()}
        for index, waiting in self._waiting.items():
            yield from self._rest(waiting, behind[index], sum(behind.values()) + self._torn_records)
        if end < self._size:
            for waiting in self._waiting.values():
                self._findings.lose(waiting.table.name, 0, f"The stream that it stands in ends at byte {end} of {self._size}.")

    def _check_ids(self) -> None:
        ids = Counter(group.record_id for group in self._groups)
        twice = sorted(number for number, uses in ids.items() if uses > 1)
        if twice:
            raise LogDamaged(f"Several groups of the data group at offset {self._data_group.offset} have the record ids {twice}.")

    def _walk(self) -> Generator[tuple[Table, Found], None, int]:
        """Take the stream apart; gives the byte at which it ended."""
        if self._size >= COMPILED_BYTES:
            from drivelake.logs.mdf.scan import take_apart
        else:
            from drivelake.logs.mdf.walk import take_apart

        layout = Layout(
            self._data_group.id_bytes,
            np.array([group.record_id for group in self._groups], np.uint64),
            np.array([_size(group) for group in self._groups], np.int64),
            np.array([group.index in self._waiting or group.offset in self._stored for group in self._groups], np.bool_),
        )
        carry, place, torn = np.empty(0, np.uint8), 0, -1
        for data in self._data():
            if data is None:
                return place
            window = np.concatenate((carry, data))
            apart = take_apart(window, layout)
            yield from self._sorted(apart)
            place += apart.end
            if apart.state != COMPLETE:
                self._broken(apart, window, place)
                for stored in self._stored.values():
                    stored.doubt()
                return place
            carry, torn = window[apart.end :].copy(), apart.torn
        if len(carry):
            self._torn(torn, len(carry))
        return self._size

    def _data(self) -> Iterator[Bytes | None]:
        """The stream, piece by piece; None where a piece is lost, and no more."""
        for piece, data in in_order(self._pieces, self._unpacked, weight=lambda piece: piece.size, threads=self._threads):
            if isinstance(data, LogDamaged):
                self._findings.damaged(
                    f"{data.message} Behind byte {piece.place} of its stream no record can be found:"
                    f" {self._size - piece.place} bytes are lost."
                )
                yield None
                return
            yield data
            self._file.release(piece.offset, piece.stored)

    def _unpacked(self, piece: Piece) -> Bytes | LogDamaged:
        try:
            return unpacked(self._file, piece)
        except LogDamaged as error:
            return error

    def _sorted(self, apart: Apart) -> Iterator[tuple[Table, Found]]:
        """Records of one window by group: values first, since records point at them."""
        for group, part, count in zip(self._groups, apart.parts, apart.counts.tolist(), strict=True):
            self.counted[group.index] += count
            if group.offset in self._stored:
                self._stored[group.offset].add(part)
        for group, part, count in zip(self._groups, apart.parts, apart.counts.tolist(), strict=True):
            waiting = self._waiting.get(group.index)
            if waiting is None or not count:
                continue
            # what waits is given when more comes, so that something is left to be the last
            if waiting.bytes >= self._rows_bytes:
                rows = waiting.joined()
                yield from self._given(waiting, len(rows) if waiting.bytes >= WAITING_BYTES else self._ready(waiting.table, rows))
            waiting.add(part.reshape(count, -1))

    def _given(self, waiting: _Waiting, ready: int) -> Iterator[tuple[Table, Found]]:
        """The first ``ready`` rows that wait."""
        columns, rows = waiting.table.columns, waiting.joined()
        assert columns is not None
        streams = self._streams[waiting.table.group.index]
        first = waiting.first
        waiting.first += ready
        waiting.rows = [rows[ready:]] if ready < len(rows) else []
        waiting.bytes = (len(rows) - ready) * waiting.table.record_bytes
        for found in decoded(columns, [Rows(first, rows[:ready])] if ready else [], first + ready, streams):
            yield waiting.table, found

    def _ready(self, table: Table, rows: Bytes) -> int:
        """Rows before the first one whose values have not come yet."""
        behind = self._behind(table, rows)
        return int(np.argmax(behind)) if behind.any() else len(rows)

    def _behind(self, table: Table, rows: Bytes) -> NDArray[np.bool_]:
        """Which rows have values that have not come yet."""
        columns, behind = table.columns, np.zeros(len(rows), np.bool_)
        assert columns is not None
        if columns.streams and len(rows):
            cells = columns.empty(len(rows))
            columns.gather(rows, cells, 0)
            for channel, offsets in columns.offsets(Window(cells, 0, len(rows))):
                behind |= self._stored[channel.data].behind(offsets)
        return behind

    def _trailing(self, waiting: _Waiting) -> int:
        """The last rows of an unfinalised stream that wait for values in vain."""
        if not self._file.unfinalised & LAST_DT_OPEN:
            return 0
        there = ~self._behind(waiting.table, waiting.joined())[::-1]
        return int(np.argmax(there)) if there.any() else len(there)

    def _rest(self, waiting: _Waiting, behind: int, cut: int) -> Iterator[tuple[Table, Found]]:
        """What is left at the end of the stream.

        Args:
            waiting: rows of one table.
            behind: how many of them, the last ones, have no value.
            cut: records that the end of the stream cost all tables. A logger that lost its power was writing one.
        """
        yield from self._given(waiting, len(waiting.joined()) - behind)
        if behind:
            name = waiting.table.name
            sentence = f"The data of the file end before the values of the last {behind} records of {name!r}."
            if cut > 1:
                self._findings.damaged(sentence, channel=name, lost=behind)
            else:
                self._findings.note(sentence)
                self._findings.lose(name, behind, sentence)

    def _broken(self, apart: Apart, window: Bytes, place: int) -> None:
        number = int.from_bytes(window[apart.end : apart.end + self._data_group.id_bytes].tobytes(), "little")
        wrong = "which is of no group" if apart.state == UNKNOWN_ID else "whose value is longer than 64 MiB"
        self._findings.damaged(
            f"At byte {place} of the data of the data group at offset {self._data_group.offset} stands the record id {number},"
            f" {wrong}; behind it no record can be found: {self._size - place} bytes are lost."
        )

    def _torn(self, slot: int, left: int) -> None:
        """The stream ends inside a record, as it does where a logger lost its power."""
        group = self._groups[slot] if slot >= 0 else None
        waiting = self._waiting.get(group.index) if group else None
        whose = f" of group {group.index}" if group else ""
        sentence = (
            f"The data of the data group at offset {self._data_group.offset} end inside a record{whose}:"
            f" {left} bytes of it are there."
        )
        stored = self._stored.get(group.offset) if group else None
        # a value that reaches further than any before it may have had another length, and have swallowed whole records
        swallows = stored is not None and left - self._data_group.id_bytes > stored.longest()
        if swallows or not self._file.unfinalised & LAST_DT_OPEN:
            self._findings.damaged(sentence, channel=waiting.table.name if waiting else None, lost=1 if waiting else 0)
            return
        self._findings.note(sentence)
        if waiting:
            self._torn_records = 1
            self._findings.lose(waiting.table.name, 1, sentence)


def _size(group: Group) -> int:
    return -1 if group.flags & VLSD_GROUP else group.record_bytes + group.invalid_bytes
