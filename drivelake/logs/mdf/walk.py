"""Walking unsorted records, one after the other. Belongs here: finding records by their ids, gathering them by group.

Never here: what records hold, streams, pieces. The compiled walk for long streams is scan.py: numba takes 2 to 2.5 ns a byte
in place of 7 to 8 here, and 1.7 to 2 s of CPU time before its first record.

Each record stands behind its id. Those of a group have one size, or, in a group of values of varying length, stand behind
that length. So only walking from the first record on finds the others. That walk is done for many records at once: every
byte that could be an id says where the record behind it would end. Bytes from which that leads to no further id, or to
which it leads from nowhere, are dropped; of the few that are left, only those in one chain from the first record count.
"""

from __future__ import annotations

from bisect import bisect_left
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivelake.logs.arrow import pick
from drivelake.logs.mdf.cells import Bytes

__all__ = ["COMPLETE", "LENGTH_BYTES", "RECORD_BYTES_MAX", "TOO_LONG", "UNKNOWN_ID", "Apart", "Layout", "take_apart"]

COMPLETE, UNKNOWN_ID, TOO_LONG = range(3)
LENGTH_BYTES = 4
RECORD_BYTES_MAX = 64 << 20
# stays in the cache; a record that is longer is stepped over
STRETCH_BYTES = 1 << 19
ROUNDS_MAX = 8
FEW_DROPPED = 1 / 8


class Layout(NamedTuple):
    """What stands in an unsorted stream. Groups have a place in the order of their ids.

    Attributes:
        id_bytes: of a record id: 1, 2, 4 or 8.
        ids: (groups,) uint64, rising.
        sizes: (groups,) of a record without its id; -1 for values of varying length.
        chosen: (groups,) bool, whose records are wanted.
    """

    id_bytes: int
    ids: NDArray[np.uint64]
    sizes: NDArray[np.int64]
    chosen: NDArray[np.bool_]


class Apart(NamedTuple):
    """A stretch of a stream, taken apart.

    Attributes:
        parts: by place of the group, its records one behind the other, values with their lengths; empty if not chosen.
        counts: by place of the group, its records.
        end: byte behind the last whole record.
        state: why the walk ended there: :data:`COMPLETE` at the end, :data:`UNKNOWN_ID` or :data:`TOO_LONG` before.
        torn: place of the group of a record that begins at ``end`` and is not whole; -1 where that is not known.
    """

    parts: list[Bytes]
    counts: NDArray[np.int64]
    end: int
    state: int
    torn: int


class _Records(NamedTuple):
    """Records as they follow each other: where their ids begin, where they end, and the places of their groups."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    places: NDArray[np.intp]

    @staticmethod
    def none() -> _Records:
        return _Records(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.intp))

    def kept(self, rows: NDArray[np.bool_] | NDArray[np.intp]) -> _Records:
        return _Records(self.starts[rows], self.ends[rows], self.places[rows])


class _Stop(NamedTuple):
    """Where and why stepping ended; ``state`` is None if there is more to walk. As in :class:`Apart`."""

    end: int
    state: int | None
    torn: int


def take_apart(data: Bytes, layout: Layout) -> Apart:
    """Sort the records of a stretch that begins with a record.

    Args:
        data: the stretch.
        layout: of the stream.
    """
    found, stop = _walk(data, layout)
    parts = []
    for place, (size, chosen) in enumerate(zip(layout.sizes.tolist(), layout.chosen.tolist(), strict=True)):
        own = found.kept(np.flatnonzero(found.places == place)) if chosen else None
        if own is None or not len(own.starts):
            parts.append(np.empty(0, np.uint8))
        elif size < 0:
            at = own.starts + layout.id_bytes
            parts.append(pick(data, at, own.ends - at))
        else:
            at = own.starts + layout.id_bytes
            parts.append(np.lib.stride_tricks.sliding_window_view(data, size)[at].reshape(-1))
    assert stop.state is not None
    return Apart(parts, np.bincount(found.places, minlength=len(layout.ids)), stop.end, stop.state, stop.torn)


def _walk(data: Bytes, layout: Layout) -> tuple[_Records, _Stop]:
    """The whole records of a stretch, and where they end."""
    found: list[_Records] = []
    stop = _Stop(0, None, -1)
    while stop.state is None:
        until = stop.end + STRETCH_BYTES
        leapt = _chain(_candidates(data[stop.end : until], layout))
        found.append(_Records(leapt.starts + stop.end, leapt.ends + stop.end, leapt.places))
        stepped, stop = _step(data.data, int(found[-1].ends[-1]) if len(leapt.ends) else stop.end, until, layout)
        found.append(stepped)
    return _Records(*(np.concatenate(parts) for parts in zip(*found, strict=True))), stop


def _candidates(data: Bytes, layout: Layout) -> _Records:
    """Whatever would be a whole record, by its id; those that cannot have a neighbour are left out, if not all of them."""
    head_bytes = layout.id_bytes + LENGTH_BYTES
    if len(data) < head_bytes:
        return _Records.none()
    known = np.zeros(256, np.uint8)
    known[(layout.ids & np.uint64(0xFF)).astype(np.intp)] = 1
    # twice as fast as an index of numpy's
    begins = data[: len(data) - head_bytes + 1].tobytes().translate(known.tobytes())
    starts = np.flatnonzero(np.frombuffer(begins, np.bool_))
    numbers = _at_every_byte(data, f"<u{layout.id_bytes}")[starts]
    places = np.searchsorted(layout.ids.astype(numbers.dtype), numbers).clip(max=len(layout.ids) - 1)
    sizes = layout.sizes[places]
    varying = np.flatnonzero(sizes < 0)
    sizes[varying] = _at_every_byte(data, "<u4")[starts[varying] + layout.id_bytes]
    sizes[varying] += LENGTH_BYTES
    ends = starts + sizes
    ends += layout.id_bytes
    whole = ends <= len(data)
    if layout.id_bytes > 1:
        whole &= layout.ids[places] == numbers
    found = _Records(starts, ends, places).kept(whole)
    begin, end = np.empty(len(data) + 1, np.bool_), np.empty(len(data) + 1, np.bool_)
    for _ in range(ROUNDS_MAX):
        begin[:] = end[:] = False
        begin[found.starts] = True
        end[found.ends] = True
        end[0] = True
        neighbours = begin[found.ends] & end[found.starts]
        before = len(found.starts)
        found = found.kept(neighbours)
        if len(found.starts) >= before * (1 - FEW_DROPPED):
            break
    return found


def _at_every_byte(data: Bytes, dtype: str) -> NDArray[np.unsignedinteger]:
    """The number that begins at each byte."""
    size = np.dtype(dtype).itemsize
    return np.ndarray((len(data) - size + 1,), dtype, data, strides=(1,))


def _chain(found: _Records) -> _Records:
    """Those that follow one behind the other from byte 0 on."""
    starts, ends, _ = found
    if not len(starts) or starts[0]:
        return _Records.none()
    # within a run each record begins where the one before ends
    lasts = [*np.flatnonzero(ends[:-1] != starts[1:]).tolist(), len(starts) - 1]
    runs, first, count = [], 0, len(starts)
    while first < count:
        last = lasts[bisect_left(lasts, first)]
        runs.append(np.arange(first, last + 1))
        first = int(np.searchsorted(starts, ends[last]))
        if first < count and starts[first] != ends[last]:
            break
    return found.kept(np.concatenate(runs))


def _step(data: memoryview, at: int, until: int, layout: Layout) -> tuple[_Records, _Stop]:
    """Record by record from ``at`` on, until one ends at ``until`` or behind it, or the walk ends."""
    id_bytes, end = layout.id_bytes, len(data)
    group_of = {number: place for place, number in enumerate(layout.ids.tolist())}
    sizes: list[int] = layout.sizes.tolist()
    found: list[tuple[int, int, int]] = []
    stop = _Stop(at, None, -1)
    while stop.state is None and at < until:
        behind = at + id_bytes
        place = group_of.get(int.from_bytes(data[at:behind], "little")) if behind <= end else -1
        size = sizes[place] if place is not None and place >= 0 else 0
        whole = behind + (LENGTH_BYTES if size < 0 else size) <= end
        if size < 0 and whole:
            size = LENGTH_BYTES + int.from_bytes(data[behind : behind + LENGTH_BYTES], "little")
            whole = behind + size <= end
        if place is None:
            stop = _Stop(at, UNKNOWN_ID, -1)
        elif size > RECORD_BYTES_MAX:
            stop = _Stop(at, TOO_LONG, place)
        elif place < 0 or not whole:
            stop = _Stop(at, COMPLETE, place)
        else:
            found.append((at, behind + size, place))
            at = behind + size
    columns = np.array(found, np.int64).reshape(-1, 3).T
    return _Records(columns[0], columns[1], columns[2].astype(np.intp)), stop if stop.state is not None else _Stop(at, None, -1)
