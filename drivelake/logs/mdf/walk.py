"""Walking unsorted records, one after the other. Belongs here: finding records by their ids, gathering them by group.

Never here: what records hold, streams, pieces. The compiled walk for long streams is scan.py: numba takes 2 to 2.5 ns a byte
in place of 3.5 to 5 here, and 1.7 to 2 s of CPU time before its first record.

Each record stands behind its id. Those of a group have one size, or, in a group of values of varying length, stand behind
that length. So only walking from the first record on finds the others. Many walks go side by side, each through a short part
of the stretch, from a place where records may begin. What they find are guesses: only those count that stand in one chain from
the first record on. Where the guesses have a gap, records are found one by one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Set as AbstractSet
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivelake.logs.arrow import pick, windows
from drivelake.logs.mdf.cells import Bytes

__all__ = ["COMPLETE", "LENGTH_BYTES", "RECORD_BYTES_MAX", "TOO_LONG", "UNKNOWN_ID", "Apart", "Layout", "take_apart"]

COMPLETE, UNKNOWN_ID, TOO_LONG = range(3)
LENGTH_BYTES = 4
RECORD_BYTES_MAX = 64 << 20
STRETCH_BYTES = 4 << 20
# long enough for several records, short enough for the many lanes that make numpy's calls worth their price
LANE_BYTES = 1 << 12
# before its first byte a lane looks for the records
APPROACH_BYTES = 1 << 8
APPROACHES_MAX = 1 << 10
STEPS_UNCHECKED = 16
LENGTH_BITS, LENGTH_MASK = 32, (1 << 32) - 1
GUESSES_AHEAD = 1 << 10


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

    def kept(self, rows: NDArray[np.intp] | slice) -> _Records:
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
        own = np.flatnonzero(found.places == place) if chosen and size else np.empty(0, np.intp)
        at = found.starts.take(own)
        at += layout.id_bytes
        if not len(own):
            parts.append(np.empty(0, np.uint8))
        elif size < 0:
            parts.append(pick(data, at, found.ends.take(own) - at))
        else:
            parts.append(windows(data, f"V{size}")[at].view(np.uint8))
    assert stop.state is not None
    return Apart(parts, np.bincount(found.places, minlength=len(layout.ids)), stop.end, stop.state, stop.torn)


def _walk(data: Bytes, layout: Layout) -> tuple[_Records, _Stop]:
    """The whole records of a stretch, and where they end."""
    found, stop = list[_Records](), _Stop(0, None, -1)
    while stop.state is None:
        until = stop.end + STRETCH_BYTES
        part = data[stop.end : until]
        guessed = _Lanes(part, layout).records(stop.end) if len(part) >= 2 * LANE_BYTES else _Records.none()
        stop = _follow(data, layout, guessed, stop.end, until, found)
    return (found[0] if len(found) == 1 else _Records(*map(np.concatenate, zip(*found, strict=True)))), stop


def _follow(data: Bytes, layout: Layout, guessed: _Records, at: int, until: int, found: list[_Records]) -> _Stop:
    """From ``at`` to ``until``, or where the walk ends: along guesses where there are some, one by one elsewhere."""
    count, stop = len(guessed.starts), _Stop(at, None, -1)
    # within a run each guess begins where the one before ends
    lasts = [*np.flatnonzero(guessed.ends[:-1] != guessed.starts[1:]).tolist(), count - 1]
    while stop.state is None and stop.end < until:
        first = int(np.searchsorted(guessed.starts, stop.end))
        if first < count and guessed.starts[first] == stop.end:
            last = lasts[bisect_left(lasts, first)]
            found.append(guessed.kept(slice(first, last + 1)))
            stop = _Stop(int(guessed.ends[last]), None, -1)
            first = last + 1
        near = guessed.starts[first : first + GUESSES_AHEAD].tolist()
        stepped, stop = _step(data.data, stop.end, near[-1] if near else until, layout, set(near))
        found.append(stepped)
    return stop


class _Lanes:
    """Many walks through one stretch, side by side.

    Each lane but the first begins somewhere: most walks from there soon meet an id that is of no group, and begin anew one byte
    further; one that goes on is most probably among the records, or will be. So what lanes find are guesses.

    Args:
        data: the stretch, of at least two lanes.
        layout: of the stream.
    """

    def __init__(self, data: Bytes, layout: Layout) -> None:
        self._layout = layout
        self._ids = windows(data, f"<u{layout.id_bytes}")
        self._lengths = windows(data, "<u4")
        # behind it neither an id nor a length would be whole
        self._safe = len(data) - layout.id_bytes - LENGTH_BYTES
        self._starts = np.arange(0, self._safe, LANE_BYTES)
        # by kind of id: bytes of a record in the upper half, a mask for its length in the lower one; the last kind is of no group
        varying = layout.sizes < 0
        sizes = np.append(np.where(varying, LENGTH_BYTES, layout.sizes) + layout.id_bytes, 0)
        self._sizes = sizes << LENGTH_BITS | np.append(np.where(varying, LENGTH_MASK, 0), 0)
        if layout.id_bytes <= 2:
            self._kinds = np.full(1 << 8 * layout.id_bytes, len(layout.ids), np.intp)
            self._kinds[layout.ids.astype(np.intp)] = np.arange(len(layout.ids))
            self._sizes = self._sizes[self._kinds]

    def records(self, place: int) -> _Records:
        """Guesses, in the order of their starts, no two at the same byte; ``place`` is where the stretch begins."""
        at = self._begun()
        ends = np.minimum(self._starts + LANE_BYTES, self._safe)
        steps = [at]
        while len(steps) < LANE_BYTES:
            for _ in range(STEPS_UNCHECKED):
                at = self._next(at)
                steps.append(at)
            if not ((at < ends) & (at > steps[-2])).any():
                break
        walked = np.ascontiguousarray(np.array(steps, np.int32).T)
        starts, behind = walked[:, :-1], walked[:, 1:]
        kept = starts < ends[:, None].astype(np.int32)
        kept &= behind > starts
        kept &= behind < self._safe
        found, following = starts[kept].astype(np.int64), behind[kept].astype(np.int64)
        places = self._places(found)
        found += place
        following += place
        return _Records(found, following, places)

    def _begun(self) -> NDArray[np.int64]:
        """Where the lanes begin, in or behind their first bytes."""
        begun = self._starts.copy()
        lanes = np.arange(1, len(begun))
        origins = begun[lanes] - APPROACH_BYTES
        at = origins.copy()
        for _ in range(APPROACHES_MAX):
            following = self._next(at)
            wrong = (following == at) | (following - at > LANE_BYTES)
            origins += wrong
            at = np.where(wrong, origins, following)
            if (there := at >= self._starts[lanes]).any():
                begun[lanes[there]] = at[there]
                lanes, origins, at = lanes[~there], origins[~there], at[~there]
            if not len(lanes):
                break
        return begun

    def _next(self, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the records end that begin at ``at``; the same place if that is no id."""
        sizes = self._sizes.take(self._ids[at] if self._layout.id_bytes <= 2 else self._searched(self._ids[at]))
        following: NDArray[np.int64] = self._lengths[at + self._layout.id_bytes] & sizes
        sizes >>= LENGTH_BITS
        following += sizes
        following += at
        np.minimum(following, self._safe, out=following)
        return following

    def _places(self, starts: NDArray[np.int64]) -> NDArray[np.intp]:
        numbers = self._ids[starts]
        return self._kinds[numbers] if self._layout.id_bytes <= 2 else self._searched(numbers)

    def _searched(self, numbers: NDArray[np.unsignedinteger]) -> NDArray[np.intp]:
        ids = self._layout.ids
        places = np.searchsorted(ids, numbers.astype(np.uint64)).clip(max=len(ids) - 1)
        return np.where(ids[places] == numbers, places, len(ids))


def _step(data: memoryview, at: int, until: int, layout: Layout, known: AbstractSet[int]) -> tuple[_Records, _Stop]:
    """Record by record from ``at`` on, until one ends at a known place, or at ``until`` or behind it, or the walk ends."""
    id_bytes, end = layout.id_bytes, len(data)
    group_of = {number: place for place, number in enumerate(layout.ids.tolist())}
    sizes: list[int] = layout.sizes.tolist()
    found: list[tuple[int, int, int]] = []
    stop = _Stop(at, None, -1)
    while stop.state is None and at < until and at not in known:
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
