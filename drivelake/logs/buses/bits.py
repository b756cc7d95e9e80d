"""Numbers out of payloads, many at once. Belongs here: bits, byte order, sign, IEEE floats, scaling as cantools scales.

Never here: messages, multiplexing, tables, units.

Plain numpy on blocks that stay in the processor's cache; compiled loops gained too little to pay for their import
(docs/adr/0011).
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from drivelake.logs.buses.database import BusSignal

__all__ = ["Payloads", "Values", "physical_of", "raw_of"]

Values: TypeAlias = "NDArray[np.int64] | NDArray[np.uint64] | NDArray[np.float64]"

WORD_BITS = 64
EXACT_INTEGERS = 1 << 53  # below, float64 holds every integer
FLOATS: dict[int, tuple[type[np.unsignedinteger], type[np.floating]]] = {
    16: (np.uint16, np.float16),
    32: (np.uint32, np.float32),
    64: (np.uint64, np.float64),
}


class Payloads:
    """Payloads of one message as words of 64 bits.

    Args:
        words: (n, k) uint64, the payload bytes in their order, zeros behind the last.
        lengths: (n,) uint16, bytes of each.
    """

    def __init__(self, words: NDArray[np.uint64], lengths: NDArray[np.uint16]) -> None:
        self.lengths = lengths
        self.shortest = int(lengths.min(initial=np.iinfo(np.uint16).max))
        self._words = words
        self._intel: dict[int, NDArray[np.uint64]] = {}
        self._motorola: dict[int, NDArray[np.uint64]] = {}

    def __len__(self) -> int:
        return len(self._words)

    def word(self, index: int, *, motorola: bool) -> NDArray[np.uint64]:
        """(n,) the ``index``-th word; its first byte is the least significant (Intel) or the most significant one.

        Behind the last word there are zeros.
        """
        if (found := self._intel.get(index)) is None:
            inside = index < self._words.shape[1]
            found = np.ascontiguousarray(self._words[:, index]) if inside else np.zeros(len(self), np.uint64)
            self._intel[index] = found
        if motorola and index not in self._motorola:
            self._motorola[index] = found.byteswap()
        return self._motorola[index] if motorola else found

    def take(self, rows: NDArray[np.bool_]) -> Payloads:
        """Those of the payloads that ``rows`` (n,) marks."""
        return Payloads(self._words[rows], self.lengths[rows])


def raw_of(payloads: Payloads, signal: BusSignal) -> Values:
    """Raw values of a signal: int64, uint64 (64 bits unsigned) or float64."""
    word, place = divmod(signal.first_bit, WORD_BITS)
    first = payloads.word(word, motorola=signal.motorola)
    beyond = place + signal.bits - WORD_BITS
    if beyond > 0:
        # in both byte orders the first word holds its share at the end that faces the second one
        second = payloads.word(word + 1, motorola=signal.motorola)
        bits = (
            first << np.uint64(beyond) | second >> np.uint64(WORD_BITS - beyond)
            if signal.motorola
            else first >> np.uint64(place) | second << np.uint64(signal.bits - beyond)
        )
        shift = 0
    else:
        bits = first
        shift = -beyond if signal.motorola else place
    if signal.signed and not signal.is_float:
        top = WORD_BITS - signal.bits
        return (bits << np.uint64(top - shift)).view(np.int64) >> np.int64(top)
    if shift:
        bits = bits >> np.uint64(shift)
    if signal.bits == WORD_BITS:
        return bits.view(np.float64) if signal.is_float else bits
    if signal.is_float:
        unsigned, real = FLOATS[signal.bits]
        return bits.astype(unsigned).view(real).astype(np.float64)
    if shift + signal.bits < WORD_BITS or beyond > 0:
        mask = np.uint64((1 << signal.bits) - 1)
        bits = bits & mask if bits is first else np.bitwise_and(bits, mask, out=bits)
    return bits.view(np.int64)


def physical_of(raw: Values, signal: BusSignal) -> NDArray[np.float64]:
    """``raw * scale + offset``, to the last bit as Python computes it for one value."""
    scale, offset = signal.scale, signal.offset
    if isinstance(scale, int) and not signal.is_float and _largest(signal) > EXACT_INTEGERS:
        return np.fromiter((float(value * scale + offset) for value in raw.tolist()), np.float64, len(raw))
    values = raw * np.float64(scale)
    # adding zero only turns -0.0 into 0.0, and no integer gives -0.0 at a positive scale
    if offset or signal.is_float or scale < 0:
        values += np.float64(offset)
    return values


def _largest(signal: BusSignal) -> int:
    """An upper bound of what integer arithmetic reaches on the way to a physical value."""
    return int((1 << signal.bits) * abs(signal.scale) + abs(signal.offset))
