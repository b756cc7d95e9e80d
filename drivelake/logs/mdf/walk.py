"""Walking unsorted records, one after the other. Belongs here: finding records by their ids, gathering them by group.

Never here: what records hold, streams, pieces. The compiled walk for long streams is scan.py: numba costs about 2.5 s of CPU
time before its first record, as much as walking 30 MB here does.

Each record stands behind its id. Those of a group have one size, or, in a group of values of varying length, stand behind
that length. So only walking from the first record on finds the others.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivelake.logs.arrow import pick
from drivelake.logs.mdf.cells import Bytes

__all__ = ["COMPLETE", "LENGTH_BYTES", "RECORD_BYTES_MAX", "TOO_LONG", "UNKNOWN_ID", "Apart", "Layout", "take_apart"]

COMPLETE, UNKNOWN_ID, TOO_LONG = range(3)
LENGTH_BYTES = 4
RECORD_BYTES_MAX = 64 << 20


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


def take_apart(data: Bytes, layout: Layout) -> Apart:
    """Sort the records of a stretch that begins with a record.

    Args:
        data: the stretch.
        layout: of the stream.
    """
    starts, end, state, torn = _starts(data.tobytes(), layout)
    parts = []
    for size, chosen, found in zip(layout.sizes.tolist(), layout.chosen.tolist(), starts, strict=True):
        at = np.array(found, np.int64)
        if not chosen or not len(at):
            parts.append(np.empty(0, np.uint8))
        elif size < 0:
            heads = data[at[:, None] + np.arange(LENGTH_BYTES)].view("<u4")[:, 0]
            parts.append(pick(data, at, heads.astype(np.int64) + LENGTH_BYTES))
        else:
            parts.append(np.lib.stride_tricks.sliding_window_view(data, size)[at].reshape(-1))
    return Apart(parts, np.array([len(found) for found in starts], np.int64), end, state, torn)


def _starts(data: bytes, layout: Layout) -> tuple[list[list[int]], int, int, int]:
    """Where the records of each group begin behind their ids; and the rest of :class:`Apart`."""
    id_bytes, at, end = layout.id_bytes, 0, len(data)
    places = {number: place for place, number in enumerate(layout.ids.tolist())}
    sizes: list[int] = layout.sizes.tolist()
    starts: list[list[int]] = [[] for _ in sizes]
    while at + id_bytes <= end:
        behind = at + id_bytes
        place = places.get(data[at] if id_bytes == 1 else int.from_bytes(data[at:behind], "little"))
        if place is None:
            return starts, at, UNKNOWN_ID, -1
        size = sizes[place]
        if size < 0:
            if behind + LENGTH_BYTES > end:
                return starts, at, COMPLETE, place
            size = LENGTH_BYTES + int.from_bytes(data[behind : behind + LENGTH_BYTES], "little")
        if size > RECORD_BYTES_MAX:
            return starts, at, TOO_LONG, place
        if behind + size > end:
            return starts, at, COMPLETE, place
        starts[place].append(behind)
        at = behind + size
    return starts, at, COMPLETE, -1
