"""Compiled loops over unsorted streams. Belongs here: finding records by their ids, copying them side by side by group.

Never here: what records hold. This module imports numba: it is imported where it is needed.

Each record stands behind its id. Those of a group have one size, or, in a group of values of varying length, stand behind
that length. So only walking from the first record on finds the others.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

__all__ = ["COMPLETE", "LOOKUP_IDS", "UNKNOWN_ID", "copy_records", "count_records"]

COMPLETE, UNKNOWN_ID = 0, 1
LOOKUP_IDS = 1 << 16
LENGTH_BYTES = 4


@njit(cache=True, nogil=True, inline="always")
def _slot(data: NDArray[np.uint8], at: int, id_bytes: int, lookup: NDArray[np.int32], ids: NDArray[np.uint64]) -> int:
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
def count_records(
    data: NDArray[np.uint8],
    id_bytes: int,
    lookup: NDArray[np.int32],
    ids: NDArray[np.uint64],
    sizes: NDArray[np.int64],
    counts: NDArray[np.int64],
    held: NDArray[np.int64],
) -> tuple[int, int, int]:
    """Walk the whole records of a stretch of a stream.

    Args:
        data: the stretch; a record begins at its start.
        id_bytes: of a record id.
        lookup: place of a group by id, for ids of up to two bytes; -1 for ids of none.
        ids: in rising order, for longer ids; groups are placed like their ids.
        sizes: of a record by place, without its id; -1 for values of varying length.
        counts: takes the number of records by place.
        held: takes their bytes by place, lengths included, ids not.

    Returns:
        Where the first record begins that is not whole, or that is of no group; :data:`COMPLETE` or :data:`UNKNOWN_ID`; and
        the place of the group of a record that is not whole, -1 where that is not known.
    """
    at, end = 0, len(data)
    while at + id_bytes <= end:
        slot = _slot(data, at, id_bytes, lookup, ids)
        if slot < 0:
            return at, UNKNOWN_ID, -1
        behind = at + id_bytes
        size = sizes[slot]
        if size < 0:
            if behind + LENGTH_BYTES > end:
                return at, COMPLETE, slot
            size = LENGTH_BYTES + _length(data, behind)
        if behind + size > end:
            return at, COMPLETE, slot
        counts[slot] += 1
        held[slot] += size
        at = behind + size
    return at, COMPLETE, -1


@njit(cache=True, nogil=True)
def copy_records(
    data: NDArray[np.uint8],
    end: int,
    id_bytes: int,
    lookup: NDArray[np.int32],
    ids: NDArray[np.uint64],
    sizes: NDArray[np.int64],
    cursors: NDArray[np.int64],
    out: NDArray[np.uint8],
) -> None:
    """Copy the records up to ``end``, which :func:`count_records` gave, side by side by group.

    Args:
        data: as for :func:`count_records`.
        end: where to stop.
        id_bytes: of a record id.
        lookup: place of a group by id.
        ids: for longer ids.
        sizes: of a record by place.
        cursors: where in ``out`` the records of each group go; -1 for groups that are not wanted.
        out: takes the records.
    """
    at = 0
    while at < end:
        slot = _slot(data, at, id_bytes, lookup, ids)
        at += id_bytes
        size = sizes[slot]
        if size < 0:
            size = LENGTH_BYTES + _length(data, at)
        cursor = cursors[slot]
        if cursor >= 0:
            for byte in range(size):
                out[cursor + byte] = data[at + byte]
            cursors[slot] = cursor + size
        at += size
