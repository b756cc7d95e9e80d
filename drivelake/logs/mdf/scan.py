"""The walk of walk.py, compiled. Belongs here: the loops, for numba. Never here: what records hold.

This module imports numba: it is imported where it is needed.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

from drivelake.logs.mdf.cells import Bytes
from drivelake.logs.mdf.walk import COMPLETE, LENGTH_BYTES, RECORD_BYTES_MAX, TOO_LONG, UNKNOWN_ID, Apart, Layout

__all__ = ["take_apart"]

LOOKUP_IDS = 1 << 16


def take_apart(data: Bytes, layout: Layout) -> Apart:
    """As :func:`drivelake.logs.mdf.walk.take_apart`."""
    count = len(layout.ids)
    counts, held = np.zeros(count, np.int64), np.zeros(count, np.int64)
    lookup = np.full(LOOKUP_IDS if layout.id_bytes <= 2 else 0, -1, np.int32)
    if len(lookup):
        lookup[layout.ids.astype(np.int64)] = np.arange(count, dtype=np.int32)
    end, state, torn = _count(data, layout.id_bytes, lookup, layout.ids, layout.sizes, counts, held)
    wanted = held * layout.chosen
    bases = np.cumsum(wanted) - wanted
    out = np.empty(int(wanted.sum()), np.uint8)
    _copy(data, end, layout.id_bytes, lookup, layout.ids, layout.sizes, np.where(layout.chosen, bases, -1), out)
    parts = [out[base : base + size] for base, size in zip(bases.tolist(), wanted.tolist(), strict=True)]
    return Apart(parts, counts, end, state, torn)


@njit(cache=True, nogil=True, inline="always")
def _place(data: NDArray[np.uint8], at: int, id_bytes: int, lookup: NDArray[np.int32], ids: NDArray[np.uint64]) -> int:
    """Place of the group that a record belongs to; -1 for none."""
    if id_bytes == 1:
        return int(lookup[data[at]])
    if id_bytes == 2:
        return int(lookup[data[at] | data[at + 1] << 8])
    number = np.uint64(0)
    for byte in range(id_bytes):
        number |= np.uint64(data[at + byte]) << np.uint64(8 * byte)
    place = int(np.searchsorted(ids, number))
    return place if place < len(ids) and ids[place] == number else -1


@njit(cache=True, nogil=True, inline="always")
def _length(data: NDArray[np.uint8], at: int) -> int:
    return int(data[at] | data[at + 1] << 8 | data[at + 2] << 16 | np.int64(data[at + 3]) << 24)


@njit(cache=True, nogil=True)
def _count(
    data: NDArray[np.uint8],
    id_bytes: int,
    lookup: NDArray[np.int32],
    ids: NDArray[np.uint64],
    sizes: NDArray[np.int64],
    counts: NDArray[np.int64],
    held: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Count the records of each group and their bytes; gives ``end``, ``state`` and ``torn`` of :class:`Apart`."""
    at, end = 0, len(data)
    while at + id_bytes <= end:
        place = _place(data, at, id_bytes, lookup, ids)
        if place < 0:
            return at, UNKNOWN_ID, -1
        behind = at + id_bytes
        size = sizes[place]
        if size < 0:
            if behind + LENGTH_BYTES > end:
                return at, COMPLETE, place
            size = LENGTH_BYTES + _length(data, behind)
        if size > RECORD_BYTES_MAX:
            return at, TOO_LONG, place
        if behind + size > end:
            return at, COMPLETE, place
        counts[place] += 1
        held[place] += size
        at = behind + size
    return at, COMPLETE, -1


@njit(cache=True, nogil=True)
def _copy(
    data: NDArray[np.uint8],
    end: int,
    id_bytes: int,
    lookup: NDArray[np.int32],
    ids: NDArray[np.uint64],
    sizes: NDArray[np.int64],
    cursors: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> None:
    """Copy the records up to ``end`` to where the cursors of their groups are; -1 for groups that are not wanted."""
    at = 0
    while at < end:
        place = _place(data, at, id_bytes, lookup, ids)
        at += id_bytes
        size = sizes[place]
        if size < 0:
            size = LENGTH_BYTES + _length(data, at)
        cursor = cursors[place]
        if cursor >= 0:
            for byte in range(size):
                out[cursor + byte] = data[at + byte]
            cursors[place] = cursor + size
        at += size
