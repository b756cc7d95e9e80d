"""Messages of a ROS 2 bag in windows. Belongs here: reading rows in the order they were logged, and around damaged pages.

Never here: topics, what a message says.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple

import numpy as np
import zstandard
from numpy.typing import NDArray

from drivelake.errors import LogDamaged
from drivelake.logs.bags.sqlite_file import BAG_ERRORS, MESSAGE_BYTES_MAX, ZSTD_MAGIC
from drivelake.logs.findings import RESTORE, Findings

__all__ = ["Window", "opened", "read_windows"]

ROWID_MAX = (1 << 63) - 1
WINDOW_ROWS, WINDOW_BYTES = 8192, 8 << 20
STAMP_INDEX = "timestamp_idx"

Cells = tuple[int, object, object, object]


class Window(NamedTuple):
    """Consecutive messages, in the order they were logged.

    Attributes:
        numbers: (n,) int64, rowids, which payload pointers call messages by.
        topics: (n,) int64, ids of topics.
        stamps_ns: (n,) int64, receive stamps, UTC ns.
        data: as recorded, compressed or not; None where the topic was not asked for.
    """

    numbers: NDArray[np.int64]
    topics: NDArray[np.int64]
    stamps_ns: NDArray[np.int64]
    data: list[bytes | None]


def opened(data: bytes) -> bytes:
    """The encoded message: CDR begins with a zero byte, a compressed message with the magic of zstandard.

    Raises:
        LogDamaged: it does not decompress, announces no size, which rosbag2 always writes and needs, or more than 256 MiB.
    """
    if not data.startswith(ZSTD_MAGIC):
        return data
    try:
        size = zstandard.frame_content_size(data)
        if not 0 <= size <= MESSAGE_BYTES_MAX:
            raise ValueError(f"it announces {size} bytes, expected 0 to {MESSAGE_BYTES_MAX}")  # noqa: TRY301
        return zstandard.ZstdDecompressor().decompress(data, allow_extra_data=False)
    except (zstandard.ZstdError, ValueError) as error:
        raise LogDamaged(f"a compressed message does not open: {error}", next_step=RESTORE) from None


def read_windows(
    bag: sqlite3.Connection,
    names: Mapping[int, str],
    wanted: Collection[int],
    findings: Findings,
    lost: Counter[str],
    *,
    sound: bool,
) -> Iterator[Window]:
    """Every row of the table of messages by rowid, which is the order they were logged in.

    Behind a page that cannot be read, reading goes on with the next row that can; the rows between are told by their number.

    Args:
        bag: the database.
        names: of the channels, by id of the topic.
        wanted: ids of the topics whose data is asked for; the other rows come without.
        findings: take what cannot be read.
        lost: takes rows by channel that are there and are no messages.
        sound: the integrity check found nothing; if not, each stamp is held against the index over the stamps.
    """
    look_up = None if sound else _StampIndex.of(bag)
    for rows in _batches(_Query(bag, wanted), findings):
        checked = rows
        if look_up is not None or _any_wrong(rows, names, wanted):
            checked = []
            for row in rows:
                if not (why := _contradiction(row, names, wanted) or (look_up.contradiction(row) if look_up else "")):
                    checked.append(row)
                    continue
                name = names.get(row[1]) if isinstance(row[1], int) else None
                lost.update([name] if name else [])
                findings.damaged(f"Row {row[0]} of the messages {why}.", channel=name, lost=1)
        if checked:
            numbers, topics, stamps, data = zip(*checked, strict=True)
            yield Window(np.array(numbers, np.int64), np.array(topics, np.int64), np.array(stamps, np.int64), list(data))
    if look_up is not None and look_up.unreadable:
        findings.note(
            f"The index over the stamps is damaged where {look_up.unreadable} rows are listed: their stamps are unchecked."
        )


def _any_wrong(rows: list[Cells], names: Mapping[int, str], wanted: Collection[int]) -> bool:
    """All rows at once: it is rare."""
    _, topics, stamps, data = zip(*rows, strict=True)
    kinds = {type(value) for column in (topics, stamps) for value in column}
    return (
        kinds != {int}
        or not names.keys() >= set(topics)
        or min(stamps) < 0
        or any(value is None and topic in wanted for topic, value in zip(topics, data, strict=True))
        or not {type(value) for value in data} <= {bytes, type(None)}
    )


def _contradiction(row: Cells, names: Mapping[int, str], wanted: Collection[int]) -> str:
    """Why a row is no message, or nothing."""
    _, topic, stamp, data = row
    if not isinstance(topic, int) or topic not in names:
        return f"belongs to topic {topic!r}, which is not declared"
    if not isinstance(stamp, int) or stamp < 0:
        return f"is stamped {stamp!r}"
    if topic in wanted and not isinstance(data, bytes):
        return f"has data of type {type(data).__name__}"
    return ""


def _batches(query: _Query, findings: Findings) -> Iterator[list[Cells]]:
    last, unused = 0, 0
    start: int | None = 1
    if strange := query.below_one():
        findings.damaged(
            f"{strange} rows of the table of messages have numbers below 1, which no recorder gives; they are left out."
        )
    while start is not None:
        rows: list[Cells] = []
        size = 0
        begin, start = start, None
        before = last
        try:
            for row in query.rows(begin):
                number = row[0]
                if before < number <= last:
                    findings.damaged(f"Row {last} of the messages stands before row {number}: it is left out.")
                    rows.pop()
                    unused -= last - max(before + 1, begin)
                    last = before
                elif number <= last:
                    findings.damaged(f"Row {number} of the messages stands behind row {last}: rows that do are left out.")
                    raise sqlite3.DatabaseError("rows out of order")  # as a bad page: the tree may be a circle
                unused += number - max(last + 1, begin)
                before, last = last, number
                if len(rows) >= WINDOW_ROWS or size >= WINDOW_BYTES:
                    yield rows
                    rows, size = [], 0
                # given with the next window at the earliest: the row behind it may say that its number is wrong
                rows.append(row)
                size += len(row[3]) if isinstance(row[3], bytes) else 0
        except BAG_ERRORS as error:
            # The row before the one that fails is dropped with it by Python's cursor, so it may still be read by itself.
            following = query.next_row(last + 1) if last < ROWID_MAX else None
            if following is None or following[0] != last + 1:
                lost = f"rows {last + 1} to {following[0] - 1}" if following else f"all rows from {last + 1} on"
                findings.damaged(f"The table of messages cannot be read behind row {last} ({error}): {lost} are left out.")
            if following is not None:
                rows.append(following)
                last = following[0]
                start = last + 1 if last < ROWID_MAX else None
        if rows:
            yield rows
    if unused:
        findings.note(f"{unused} row numbers of the table of messages are not used: rows were deleted, or never written.")


class _Query:
    """The rows of the table of messages from a number on."""

    def __init__(self, bag: sqlite3.Connection, wanted: Collection[int]) -> None:
        self._bag = bag
        topics = ", ".join(str(int(topic)) for topic in sorted(wanted))
        self._text = (
            f"SELECT rowid, topic_id, timestamp, CASE WHEN topic_id IN ({topics}) THEN data END"
            " FROM messages NOT INDEXED WHERE rowid >= ? ORDER BY rowid"
        )

    def rows(self, start: int) -> Iterator[Cells]:
        """Row by row; raises sqlite3.DatabaseError where a page is damaged."""
        return self._bag.execute(self._text, (start,))

    def below_one(self) -> int:
        """How many rows have a number that no recorder gives; 0 where their page cannot be read, which the rows behind tell."""
        try:
            return int(self._bag.execute("SELECT count(*) FROM messages NOT INDEXED WHERE rowid < 1").fetchone()[0])
        except BAG_ERRORS:
            return 0

    def next_row(self, start: int) -> Cells | None:
        """The readable row with the smallest number from ``start`` on; None if there is none.

        Steps double until a row is found, then halve: pages hold consecutive numbers.
        """
        low, high = start - 1, start
        readable, row = self._one(high)
        while not readable:
            if high >= ROWID_MAX:
                return None
            low, high = high, min(start + 2 * (high - start) + 1, ROWID_MAX)
            readable, row = self._one(high)
        while high - low > 1:
            middle = (low + high) // 2
            readable, at_middle = self._one(middle)
            if readable:
                high, row = middle, at_middle
            else:
                low = middle
        return row

    def _one(self, start: int) -> tuple[bool, Cells | None]:
        """Whether reading from ``start`` on works, and the first row there is."""
        try:
            row: Cells | None = self._bag.execute(f"{self._text} LIMIT 1", (start,)).fetchone()
        except BAG_ERRORS:
            return False, None
        return row is None or row[0] >= start, row


class _StampIndex:
    """The stamps a second time, as the index keeps them.

    Attributes:
        unreadable: rows asked for where the index is damaged.
    """

    @staticmethod
    def of(bag: sqlite3.Connection) -> _StampIndex | None:
        """None where the bag has no such index, or not over the stamps alone."""
        try:
            columns = [row[2] for row in bag.execute(f"PRAGMA index_info({STAMP_INDEX})")]
        except BAG_ERRORS:
            return None
        return _StampIndex(bag) if columns == [b"timestamp"] else None

    def __init__(self, bag: sqlite3.Connection) -> None:
        self._bag = bag
        self.unreadable = 0

    def contradiction(self, row: Cells) -> str:
        """Why a stamp is in doubt, or nothing; where the index cannot be read, the row is counted."""
        query = f"SELECT count(*) FROM messages INDEXED BY {STAMP_INDEX} WHERE timestamp = ? AND rowid = ?"
        try:
            found = self._bag.execute(query, (row[2], row[0])).fetchone()
        except BAG_ERRORS:
            self.unreadable += 1
            return ""
        return "" if found[0] else f"is stamped {row[2]} ns, the index over the stamps has no such entry"
