"""From the identifiers of frames to the numbers of their tables, many at once. Belongs here: the hash. Never here: tables.

A search in sorted keys costs 40 ns a frame, more than decoding it; one hashed look costs 5.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivelake.logs.buses.frames import Frames

__all__ = ["SHORT_BITS", "FrameKey", "FrameLookup", "short_keys"]

# 2^64 / golden ratio and two primes of xxHash64: odd, so that multiplying loses nothing
MULTIPLIERS = (0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9)
EXTENDED_BIT, BUS_BIT = 29, 30
# ids of 11 bits on few buses need no hash
SHORT_BITS, SHORT_BUSES = 11, 8
SPARSENESS_BITS = 6  # 64 slots a key: collisions are rare
NO_KEY = (1 << 64) - 1


class FrameKey(NamedTuple):
    """What tells frames apart."""

    bus: int
    id: int
    extended: bool


def short_keys(frames: Frames) -> NDArray[np.intp] | None:
    """(n,) small integers that tell frames apart, ``bus << 11 | id``; None where some frame has an id or a bus beyond that."""
    if not len(frames.id) or frames.extended.any() or frames.id.max() >> SHORT_BITS or frames.bus.max() >= SHORT_BUSES:
        return None
    keys = frames.id.astype(np.intp)
    if frames.bus.any():
        keys += frames.bus.astype(np.intp) << SHORT_BITS
    return keys


class _Round(NamedTuple):
    multiplier: np.uint64
    shift: np.uint64
    keys: NDArray[np.uint64]
    tables: NDArray[np.unsignedinteger]


class FrameLookup:
    """Numbers of tables by the keys of frames.

    Args:
        tables: positive numbers by key.
    """

    def __init__(self, tables: Mapping[FrameKey, int]) -> None:
        self._rounds: list[_Round] = []
        self._type = np.min_scalar_type(max(tables.values(), default=0))
        self._short = np.zeros(SHORT_BUSES << SHORT_BITS, self._type)
        for (bus, identifier, extended), number in tables.items():
            if not extended and not identifier >> SHORT_BITS and bus < SHORT_BUSES:
                self._short[bus << SHORT_BITS | identifier] = number
        left = {key.bus << BUS_BIT | key.extended << EXTENDED_BIT | key.id: table for key, table in tables.items()}
        while left:
            slots_bits = len(left).bit_length() + SPARSENESS_BITS
            multiplier = MULTIPLIERS[len(self._rounds) % len(MULTIPLIERS)]
            keys, numbers = np.full(1 << slots_bits, NO_KEY, np.uint64), np.zeros(1 << slots_bits, self._type)
            crowded: dict[int, int] = {}
            for key, table in left.items():
                slot = (key * multiplier & NO_KEY) >> 64 - slots_bits
                if keys[slot] == NO_KEY:
                    keys[slot], numbers[slot] = key, table
                else:
                    crowded[key] = table
            self._rounds.append(_Round(np.uint64(multiplier), np.uint64(64 - slots_bits), keys, numbers))
            left = crowded

    def __call__(self, frames: Frames) -> NDArray[np.unsignedinteger]:
        """(n,) the table of each frame; 0 where there is none."""
        if (places := short_keys(frames)) is not None:
            return self._short.take(places)
        keys = frames.id.astype(np.uint64)
        keys |= frames.bus.astype(np.uint64) << np.uint64(BUS_BIT)
        keys |= frames.extended.astype(np.uint64) << np.uint64(EXTENDED_BIT)
        found = np.zeros(len(keys), self._type)
        for multiplier, shift, slots, tables in self._rounds:
            places = ((keys * multiplier) >> shift).view(np.int64)
            # a slot without a key has table 0, and no key is in two rounds
            found |= tables[places] * (slots[places] == keys)
        return found
