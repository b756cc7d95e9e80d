"""The messages of chunks as their message indexes list them, for several chunks at once.

Belongs here: whether indexes and bytes agree. Never here: files, channels, what disagreement costs.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from operator import itemgetter
from typing import NamedTuple

import numpy as np
from mcap.opcode import Opcode
from numpy.typing import NDArray

from drivelake.logs.mcap.content import ENTRY, FIELDS_SIZE, HEAD, RAW_HEAD, Content, Index, columns_of, heads_at, scan
from drivelake.logs.mcap.records import FRAME

__all__ = ["Listing", "by_index", "listing"]

PLACE_BITS = 32

Chunks = Sequence[tuple[NDArray[np.uint8], Sequence[Index]]]


class Listing(NamedTuple):
    """Messages that stand where the indexes of their chunks list them.

    Attributes:
        content: of all chunks: sorted by channel, then by chunk, then by place; ``offsets`` count from the begin of the chunk.
        pieces: of each run, which chunks and how many messages of each, in order.
        gapless: whether the chunks hold nothing but these messages.
        order: (n,) int64, the rows sorted by chunk, then as before.
        rows: of each chunk, in ``order``.
    """

    content: Content
    pieces: tuple[tuple[tuple[int, int], ...], ...]
    gapless: bool
    order: NDArray[np.int64]
    rows: tuple[slice, ...]

    def split(self, chunks: Chunks) -> list[Content | None]:
        """The content of each chunk; nothing where messages overlap or something between them is no record."""
        return [self._own(buffer, self.order[rows]) for (buffer, _), rows in zip(chunks, self.rows, strict=True)]

    def _own(self, buffer: NDArray[np.uint8], rows: NDArray[np.int64]) -> Content | None:
        content = self.content.rows(rows)
        ends = content.offsets + content.lengths + HEAD.itemsize
        others = () if self.gapless else _between(buffer, np.sort(content.offsets), np.sort(ends))
        return None if others is None else content._replace(others=others)


def by_index(chunks: Chunks) -> list[Content | None]:
    """The content of chunks as their message indexes list it, or nothing for a chunk where they and the bytes disagree.

    They agree if a message of the right channel and log time stands at every place they list, and if these messages
    together with records of other kinds tile the chunk without gap.
    """
    found = listing(chunks)
    if found is not None:
        return found.split(chunks)
    return [None] if len(chunks) == 1 else [content for chunk in chunks for content in by_index([chunk])]


def listing(chunks: Chunks) -> Listing | None:
    """What the indexes of chunks list, or nothing where one of them lists what does not stand there.

    All chunks stand on one line, one behind the other: what is compared is compared for all of them at once.
    """
    edges = [0, *accumulate(len(buffer) for buffer, _ in chunks)]
    listed = [(index.channel, place, index.entries) for place, (_, own) in enumerate(chunks) for index in own if index.entries]
    listed.sort(key=itemgetter(0))
    counts = [len(entries) // ENTRY.size for *_, entries in listed]
    numbers = [(channel << PLACE_BITS | place, edges[place], len(chunks[place][0])) for channel, place, _ in listed]
    keys, begins, sizes = np.array(numbers, np.int64).reshape(-1, 3).repeat(counts, 0).T
    log_ns, offsets = np.frombuffer(b"".join([entries for *_, entries in listed]), "<i8").reshape(-1, 2).T
    if not ((offsets >= 0) & (offsets <= sizes - HEAD.itemsize)).all():
        return None
    if not ((offsets[1:] > offsets[:-1]) | (keys[1:] != keys[:-1])).all():
        order = np.lexsort((offsets, keys))
        log_ns, offsets = log_ns[order], offsets[order]
    places = (keys & (1 << PLACE_BITS) - 1).astype(np.uint16)
    order = places.argsort(kind="stable")
    rows = tuple(map(slice, *_spans(np.bincount(places, minlength=len(chunks)).tolist())))
    heads = _heads(chunks, offsets, order, rows)
    lengths = heads["length"].view(np.int64)
    alike = (heads["opcode"] == Opcode.MESSAGE) & (heads["channel"] == keys >> PLACE_BITS) & (heads["log_ns"] == log_ns)
    if not (alike & (lengths >= FIELDS_SIZE) & (lengths <= sizes - offsets - FRAME.size)).all():
        return None
    starts = begins + offsets
    behind = starts + FRAME.size + lengths
    # each channel is sorted by itself, which a stable sort makes use of: ten times faster
    starts.sort(kind="stable")
    behind.sort(kind="stable")
    gapless = [*starts[:1], *behind[-1:]] == [0, edges[-1]] and bool((starts[1:] == behind[:-1]).all())
    runs: dict[int, list[tuple[int, int]]] = {}
    for (channel, place, _), count in zip(listed, counts, strict=True):
        runs.setdefault(channel, []).append((place, count))
    totals = [sum(count for _, count in own) for own in runs.values()]
    slices = tuple(zip(runs, map(slice, *_spans(totals)), strict=True))
    content = Content(heads, offsets.astype(np.int64), *columns_of(heads), slices)
    return Listing(content, tuple(map(tuple, runs.values())), gapless, order, rows)


def _spans(counts: Sequence[int]) -> tuple[list[int], list[int]]:
    """Where stretches of such lengths begin and end, one behind the other."""
    ends = list(accumulate(counts))
    return [0, *ends[:-1]][: len(ends)], ends


def _heads(chunks: Chunks, offsets: NDArray[np.int64], order: NDArray[np.int64], rows: Sequence[slice]) -> NDArray[np.void]:
    """(n,) :data:`HEAD` at offsets in chunks that are known to hold them; buffer by buffer, in the order of the offsets."""
    if len(chunks) == 1:
        return heads_at(chunks[0][0], offsets).view(HEAD)
    if not len(offsets):
        return np.empty(0, HEAD)
    heads = np.empty(len(offsets), RAW_HEAD)
    places = offsets[order]
    heads[order] = np.concatenate([heads_at(buffer, places[own]) for (buffer, _), own in zip(chunks, rows, strict=True)])
    return heads.view(HEAD)


def _between(
    buffer: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64]
) -> tuple[tuple[int, int, int], ...] | None:
    """Records of other kinds in the gaps between messages; nothing where messages overlap or a gap is not made of such."""
    edges = np.concatenate((starts, [len(buffer)])) - np.concatenate(([0], ends))
    if not edges.any():
        return ()
    if (edges < 0).any():
        return None
    found: list[tuple[int, int, int]] = []
    for place in np.flatnonzero(edges).tolist():
        begin = int(ends[place - 1]) if place else 0
        messages, others, broken = scan(buffer.data, begin, begin + int(edges[place]))
        if messages or broken >= 0:
            return None
        found += others
    return tuple(found)
