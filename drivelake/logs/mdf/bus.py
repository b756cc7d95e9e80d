"""Bus logging groups as frames. Belongs here: members of a frame, lengths, ids, payloads side by side, the two passes.

Never here: what databases say, files, what a frame means.

Format: ASAM MDF 4.1 associated standard "Bus Logging": the structures CAN_DataFrame and LIN_Frame.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias, cast

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from drivelake.logs.arrow import AnyArray, nulls, numbers, values_of, windows
from drivelake.logs.buses.database import BusKind, load_databases
from drivelake.logs.buses.frames import Frames
from drivelake.logs.buses.lookup import SHORT_BITS, short_keys
from drivelake.logs.buses.tables import BusTables
from drivelake.logs.findings import Findings
from drivelake.logs.mdf.physical import to_physical
from drivelake.logs.mdf.source import Source
from drivelake.logs.mdf.tables import Table
from drivelake.logs.report import Leftovers, LogBatch

__all__ = ["BusMessages", "count_ids", "frames_of", "sound_frames"]

Integers: TypeAlias = "NDArray[np.signedinteger | np.unsignedinteger]"

CAN, LIN = "can.frames", "lin.frames"
# six million classic frames, four hours of a busy bus of half a Mbit/s
FRAMES_KEPT_BYTES = 160 << 20
EXTENDED_BIT = 1 << 31
KINDS: dict[str, BusKind] = {CAN: "CAN", LIN: "LIN"}
ID_BITS = {CAN: 0x1FFF_FFFF, LIN: 0x3F}
# CAN FD, ISO 11898-1: the codes above 8
BYTES_OF_DLC = np.array([*range(9), 12, 16, 20, 24, 32, 48, 64], np.uint8)
WIDTHS = (8, 64)


def frames_of(batch: pa.RecordBatch, kind: str, needed: int = WIDTHS[-1]) -> tuple[Frames, int]:
    """The frames in physical rows of a bus logging group, and how many were left out since they contradict themselves.

    A frame contradicts itself if it declares more bytes than are there, or has no id or no payload.

    Args:
        batch: ``t_ns`` and the members of the frames.
        kind: ``can.frames`` or ``lin.frames``.
        needed: bytes of each payload that will be looked at.
    """
    columns = {name.rsplit(".", 1)[-1]: column for name, column in zip(batch.schema.names, batch.columns, strict=True)}
    count = len(batch)
    raw = _integers(columns, "ID", count)
    if raw.dtype not in (np.uint32, np.uint64):
        raw = raw.astype(np.int64)
    held, data = _payloads(columns["DataBytes"], needed)
    code = _integers(columns, "DLC", count) if "DLC" in columns else None
    lengths = _integers(columns, "DataLength", count) if "DataLength" in columns else _lengths(code, held)
    extended = (_integers(columns, "IDE", count) != 0) | ((raw & EXTENDED_BIT) != 0)
    sound = (lengths >= 0) & (lengths <= held) & (lengths <= WIDTHS[-1])
    for name in ("ID", "DataBytes"):
        if (invalid := nulls(columns[name])) is not None:
            sound &= ~invalid
    wrong = count - int(np.count_nonzero(sound))
    frames = Frames(
        t_ns=_integers(columns, "t_ns", count).astype(np.int64, copy=False),
        bus=_integers(columns, "BusChannel", count).astype(np.uint8, copy=False),
        id=(raw & ID_BITS[kind]).astype(np.uint32, copy=False),
        extended=extended if kind == CAN else np.zeros(count, np.bool_),
        dlc=(lengths if code is None else code).astype(np.uint8, copy=False),
        length=(np.where(sound, lengths, 0) if wrong else lengths).astype(np.uint8, copy=False),
        data=data,
    )
    if (longer := np.flatnonzero(frames.length < held)).size:
        # some loggers leave behind the payload what was there before
        behind = np.arange(data.shape[1]) >= frames.length[longer, None]
        frames = frames._replace(data=_with(data, longer, np.where(behind, np.uint8(0), data[longer])))
    if wrong:
        frames = Frames._make(column[sound] for column in frames)
    return frames, wrong


def sound_frames(table: Table, batch: pa.RecordBatch, findings: Findings, needed: int = WIDTHS[-1]) -> Frames:
    """As :func:`frames_of`; frames that contradict themselves are told."""
    frames, wrong = frames_of(batch, table.type, needed)
    if wrong:
        findings.damaged(
            f"{wrong} frames of group {table.group.index} ({table.name!r}) declare more bytes than they hold, or have no id.",
            channel=table.name,
            lost=wrong,
        )
    return frames


class BusMessages:
    """Frames of bus logging groups as messages that databases know.

    Args:
        source: gives the records of tables, and tells findings about them.
        databases: files that :func:`~drivelake.logs.buses.database.load_databases` reads.
        findings: takes what is wrong with frames.
    """

    def __init__(
        self, source: Callable[[Findings, Sequence[Table]], Source], databases: Sequence[Path], findings: Findings
    ) -> None:
        self._source, self._databases, self._findings = source, databases, findings
        self._describe_lin: bool | None = None

    def decodes(self, table: Table) -> bool:
        """Whether the frames of a table become messages: those of CAN always, those of LIN if a database describes any."""
        if table.type == LIN and self._describe_lin is None:
            every = {(0, number, False): 1 for number in range(ID_BITS[LIN] + 1)}
            self._describe_lin = bool(BusTables(self._databases, every, set(), lambda _: False, Findings(), kind="LIN").names)
        return table.type == CAN or (table.type == LIN and bool(self._describe_lin))

    def read(
        self,
        tables: Sequence[Table],
        taken: set[str],
        wanted: Callable[[str], bool],
        batch_rows: int,
        leftovers: Leftovers | None,
        columns: Collection[str] | None = None,
    ) -> Iterator[LogBatch]:
        """The messages, with the signals in ``columns``, all of them if None.

        A first pass over all frames learns which ids come on which bus, and keeps the frames of small logs.
        """
        seen: dict[str, Counter[tuple[int, int, bool]]] = {table.type: Counter() for table in tables}
        kept: deque[tuple[str, Frames]] = deque()
        size = 0
        for kind, frames in self._frames(tables, self._findings):
            seen[kind].update(count_ids(frames))
            size += sum(column.nbytes for column in frames)
            if size > FRAMES_KEPT_BYTES:
                kept.clear()
            else:
                kept.append((kind, frames))
        buses: dict[str, BusTables] = {}
        for kind in sorted(seen):
            names = taken.union(*(bus.names for bus in buses.values()))
            buses[kind] = BusTables(self._databases, seen[kind], names, wanted, self._findings, kind=KINDS[kind], columns=columns)
        # what the second pass finds wrong, the first one told
        again = self._frames(tables, Findings()) if size > FRAMES_KEPT_BYTES else _emptied(kept)
        for kind, frames in again:
            yield from buses[kind].add(frames, batch_rows)
        for bus in buses.values():
            yield from bus.rest()
            if leftovers is not None:
                leftovers.frames.update(bus.undecoded)

    def _frames(self, tables: Sequence[Table], findings: Findings) -> Iterator[tuple[str, Frames]]:
        needed = {
            kind: load_databases(self._databases, Findings(), kind=KINDS[kind]).longest for kind in {t.type for t in tables}
        }
        for table, batch in self._source(findings, tables).found(tables, to_physical, None):
            if batch is not None:
                yield table.type, sound_frames(table, batch, findings, needed[table.type])


def count_ids(frames: Frames) -> Counter[tuple[int, int, bool]]:
    """Number of frames by (bus, id, extended)."""
    if (short := short_keys(frames)) is not None:
        uses = np.bincount(short)
        keys_of = ((key >> SHORT_BITS, key & (1 << SHORT_BITS) - 1, False) for key in np.flatnonzero(uses).tolist())
        return Counter(dict(zip(keys_of, uses[uses > 0].tolist(), strict=True)))
    keys = frames.extended.astype(np.uint64)
    keys <<= np.uint64(32)
    keys |= frames.id
    keys |= frames.bus.astype(np.uint64) << np.uint64(33)
    # by a hash: a quarter of the time that sorting takes
    found, counts = (values_of(part) for part in pc.value_counts(numbers(keys)).flatten())
    return Counter(
        {
            (key >> 33, key & 0xFFFF_FFFF, bool(key >> 32 & 1)): count
            for key, count in zip(found.tolist(), counts.tolist(), strict=True)
        }
    )


def _emptied(kept: deque[tuple[str, Frames]]) -> Iterator[tuple[str, Frames]]:
    while kept:
        yield kept.popleft()


def _integers(columns: dict[str, AnyArray], name: str, count: int) -> Integers:
    """A member as numbers; zeros if the log does not have it, or where it is invalid."""
    column = columns.get(name)
    if column is None:
        return np.zeros(count, np.uint8)
    values, invalid = values_of(column), nulls(column)
    if invalid is not None:
        values = np.where(invalid, np.zeros(1, values.dtype), values)
    # integers keep their type: a copy of each would cost as much as all that is done with them
    return cast("Integers", values if values.dtype.kind in "iu" else values.astype(np.int64))


def _payloads(column: AnyArray, needed: int) -> tuple[Integers, NDArray[np.uint8]]:
    """Bytes that each payload has, and (n, 8 or 64) their first ones, as many as are needed; behind them are zeros."""
    binary = cast("pa.BinaryArray", column)
    count = len(binary)
    _, offsets, values = binary.buffers()
    if not count or offsets is None:
        return np.zeros(0, np.int32), np.zeros((0, WIDTHS[0]), np.uint8)
    ends = np.frombuffer(memoryview(offsets), np.int32, count + 1, 4 * binary.offset)
    held = np.diff(ends)
    flat = np.frombuffer(memoryview(values), np.uint8)[ends[0] : ends[-1]] if values else np.empty(0, np.uint8)
    longest, shortest = min(int(held.max()), needed), int(held.min())
    width = next((width for width in WIDTHS if longest <= width), WIDTHS[-1])
    if shortest == width and len(flat) == count * width:
        return held, flat.reshape(count, width)
    starts = ends[:-1] - ends[0]
    if shortest >= width == WIDTHS[0]:
        return held, windows(flat, "u8")[starts].view(np.uint8).reshape(count, width)
    data = np.zeros((count, width), np.uint8)
    for length in np.flatnonzero(np.bincount(held.clip(max=width))).tolist():
        rows = np.flatnonzero(held == length if length < width else held >= width)
        if length:
            windows(data.reshape(-1), f"V{length}")[rows * width] = windows(flat, f"V{length}")[starts[rows]]
    return held, data


def _lengths(code: Integers | None, held: Integers) -> Integers:
    """Payload bytes of a log that does not say them: from the code, of which classic CAN has no more than 8."""
    if code is None:
        return held
    most = WIDTHS[0] if not len(held) or held.max() <= WIDTHS[0] else WIDTHS[-1]
    return np.minimum(BYTES_OF_DLC[np.clip(code, 0, len(BYTES_OF_DLC) - 1)].astype(np.int64), most)


def _with(data: NDArray[np.uint8], rows: NDArray[np.intp], values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy with other rows: the payloads may be memory that a column shares."""
    changed = data.copy()
    changed[rows] = values
    return changed
