"""Values of varying length in streams of their own. Belongs here: signal data by offset, in bounded memory.

Never here: text, records, the chains of blocks.

Format: ASAM MDF 4.1, SD block: each value stands behind its length, four bytes; records hold the offsets of the lengths.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from drivelake.errors import LogDamaged
from drivelake.logs.arrow import pick
from drivelake.logs.findings import Findings
from drivelake.logs.mdf.blocks import MdfFile
from drivelake.logs.mdf.cells import Bytes
from drivelake.logs.mdf.model import Piece
from drivelake.logs.mdf.rows import parts_of, stream_bytes, unpacked

__all__ = ["VALUE_BYTES_MAX", "SignalData", "values_in"]

LENGTH_BYTES = 4
VALUE_BYTES_MAX = 256 << 20
CHUNK_BYTES = 16 << 20


class SignalData:
    """A stream of values of varying length in a sorted file.

    Args:
        file: the file.
        pieces: of the stream.
        findings: takes what cannot be inflated.
        what: the stream belongs to, for sentences.
    """

    def __init__(self, file: MdfFile, pieces: Sequence[Piece], findings: Findings, what: str) -> None:
        self._file = file
        self._pieces = list(parts_of(pieces, 1))
        self._places = [piece.place for piece in self._pieces]
        self._size = stream_bytes(pieces)
        self._findings = findings
        self._what = what
        self._told: set[int] = set()
        self._kept: tuple[int, Bytes] | None = None

    def take(self, offsets: NDArray[np.uint64]) -> tuple[Bytes, NDArray[np.int64], NDArray[np.bool_] | None]:
        """Values one behind the other, their lengths (0 where missing), and which are missing; None for none.

        Values next to each other in the stream are read together; they may be asked for in any order.
        """
        inside = offsets <= max(self._size - LENGTH_BYTES, 0)
        if self._size < LENGTH_BYTES:
            inside[:] = False
        places = np.where(inside, offsets, 0).astype(np.int64)
        order = np.argsort(places, kind="stable")
        lengths, missing = np.zeros(len(places), np.int64), ~inside
        found: list[Bytes] = []
        ascending, first = places[order], 0
        while first < len(order):
            last = max(first + 1, int(np.searchsorted(ascending, ascending[first] + CHUNK_BYTES)))
            here = order[first:last]
            data, lengths[here], missing[here] = self._together(places[here], missing[here])
            found.append(data)
            first = last
        data = found[0] if len(found) == 1 else np.concatenate(found) if found else np.empty(0, np.uint8)
        if len(order) and (np.diff(order) < 0).any():
            starts = np.empty(len(order), np.int64)
            sizes = lengths[order]
            starts[order] = np.cumsum(sizes) - sizes
            data = pick(data, starts, lengths)
        return data, lengths, missing if missing.any() else None

    def _together(
        self, places: NDArray[np.int64], missing: NDArray[np.bool_]
    ) -> tuple[Bytes, NDArray[np.int64], NDArray[np.bool_]]:
        """Values at ascending places, their lengths, and which are missing."""
        if missing.all():
            return np.empty(0, np.uint8), np.zeros(len(places), np.int64), missing
        start, last = int(places[~missing][0]), int(places[~missing][-1])
        head, gaps = self._read(last, last + LENGTH_BYTES)
        size = 0 if gaps else int(head.view("<u4")[0])
        end = last + LENGTH_BYTES + (size if size <= VALUE_BYTES_MAX else 0)
        region, gaps = self._read(start, min(end, self._size))
        data, lengths, wrong = values_in(region, np.where(missing, 0, places - start), missing, gaps)
        return data, lengths, wrong

    def _read(self, start: int, end: int) -> tuple[Bytes, list[tuple[int, int]]]:
        """A stretch of the stream, and which parts of it are lost, relative to its start."""
        out, gaps = np.zeros(end - start, np.uint8), []
        index = bisect_right(self._places, start) - 1
        while index < len(self._pieces) and self._places[index] < end:
            piece = self._pieces[index]
            first, last = max(start, piece.place), min(end, piece.place + piece.size)
            if (data := self._piece(index)) is None:
                gaps.append((first - start, last - start))
            else:
                out[first - start : last - start] = data[first - piece.place : last - piece.place]
            index += 1
        return out, gaps

    def _piece(self, index: int) -> Bytes | None:
        """A piece, unpacked; None if it is lost. The last one is kept."""
        if self._kept and self._kept[0] == index:
            return self._kept[1]
        if index in self._told:
            return None
        try:
            data = unpacked(self._file, self._pieces[index])
        except LogDamaged as error:
            self._told.add(index)
            self._findings.damaged(f"The values of {self._what}: {error.message}")
            return None
        self._kept = index, data
        return data


def values_in(
    region: Bytes, starts: NDArray[np.int64], missing: NDArray[np.bool_], gaps: Sequence[tuple[int, int]] = ()
) -> tuple[Bytes, NDArray[np.int64], NDArray[np.bool_]]:
    """Values inside a stretch of a stream, one behind the other, their lengths, and which are missing.

    Args:
        region: the stretch.
        starts: (n,) where the length of each value begins.
        missing: (n,) which values not to look for.
        gaps: parts of the stretch that are lost.
    """
    wrong = missing | (starts + LENGTH_BYTES > len(region))
    safe = np.where(wrong, 0, starts)
    heads = np.zeros((len(starts), LENGTH_BYTES), np.uint8)
    if len(region) >= LENGTH_BYTES:
        heads = region[safe[:, None] + np.arange(LENGTH_BYTES)]
    lengths = heads.view("<u4")[:, 0].astype(np.int64)
    wrong |= (lengths > VALUE_BYTES_MAX) | (safe + LENGTH_BYTES + lengths > len(region))
    for start, end in gaps:
        wrong |= (safe < end) & (safe + LENGTH_BYTES + lengths > start)
    lengths[wrong] = 0
    return pick(region, safe + LENGTH_BYTES, lengths), lengths, wrong
