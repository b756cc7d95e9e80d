"""Bytes of records as one numpy array a channel. Belongs here: where a channel stands in a record, byte order, bits, signs.

Never here: conversions, units, Arrow, where records come from.

Records come as rows: a (n, record bytes) array of bytes. In a transposed data block the same array lies in memory column
by column; then only the byte planes of the channels that are asked for are touched. Copying goes in tiles that stay in
the cache: every byte of a tile is read from memory once, whatever the number of channels.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from drivelake.logs.mdf.model import Channel

__all__ = ["BYTES", "TEXTS", "Bytes", "Cell", "bit_cell", "cell_of", "decode", "gather", "is_virtual", "odd", "plain_type"]

Bytes = NDArray[np.uint8]
# an array in the form to copy into: (n, bytes) if the type is None, else values of the type
_Place: TypeAlias = "tuple[np.dtype[np.generic] | None, NDArray[np.generic]]"

VLSD, MASTER, VIRTUAL_MASTER, MLSD, VIRTUAL = 1, 2, 3, 5, 6  # cn_type
UNSIGNED, SIGNED, FLOATS, BIG_ENDIAN = (0, 1), (2, 3), (4, 5), (1, 3, 5, 16)  # cn_data_type
TEXTS = {6: "latin-1", 7: "utf-8", 8: "utf-16-le", 9: "utf-16-be"}
BYTES = (10, 11, 12)  # byte array, MIME sample, MIME stream
CANOPEN_DATE, CANOPEN_TIME, COMPLEX = 13, 14, (15, 16)
KINDS = range(7)
IN_RECORD = frozenset(KINDS).difference((VLSD, VIRTUAL_MASTER, VIRTUAL))  # of cn_type: the value itself stands there
SCALAR_BITS = {
    CANOPEN_DATE: (56,),
    CANOPEN_TIME: (48,),
    **dict.fromkeys(COMPLEX, (64, 128)),
    **dict.fromkeys(FLOATS, (16, 32, 64)),
}
ARRAY_BITS = {**dict.fromkeys((*UNSIGNED, *SIGNED), (8, 16, 32, 64)), **dict.fromkeys(FLOATS, (16, 32, 64))}

# CiA 301: reserved bits are masked out
DATE = np.dtype([("ms", "<u2"), ("min", "u1"), ("hour", "u1"), ("day", "u1"), ("month", "u1"), ("year", "u1")])
TIME = np.dtype([("ms", "<u4"), ("days", "<u2")])

PLANE_TILE_ROWS = 1 << 16
ROW_TILE_BYTES = 1 << 19


class Cell(NamedTuple):
    """Where the bytes of a channel stand in a record, and what they are gathered into.

    Attributes:
        offset: of the first byte in the record.
        width: bytes in the record.
        dtype: of one gathered value; of one byte where ``bulk`` says that a value is a row of bytes.
        inset: byte of the gathered value that takes the first byte; the bytes beside stay zero.
        bulk: whether a value is ``width`` bytes as they are.
    """

    offset: int
    width: int
    dtype: np.dtype[np.generic]
    inset: int = 0
    bulk: bool = False

    def empty(self, count: int) -> NDArray[np.generic]:
        """An array for ``count`` gathered values."""
        if self.bulk:
            return np.empty((count, self.width), np.uint8)
        return np.empty(count, self.dtype) if self.width == self.dtype.itemsize else np.zeros(count, self.dtype)


def is_virtual(channel: Channel) -> bool:
    """Whether the value is made from the number of the record and stands in no record."""
    return channel.kind in {VIRTUAL_MASTER, VIRTUAL}


def odd(channel: Channel) -> str:
    """Why the bytes of a channel cannot be decoded here, or nothing."""
    return channel.unread or next((reason for wrong, reason in _objections(channel) if wrong), "")


def _objections(channel: Channel) -> Iterator[tuple[bool, str]]:
    """What would make a channel odd, and whether it does."""
    bits, kind = channel.bit_count, channel.data_type
    whole = not channel.bit_offset and not bits % 8
    size = f"it is of data type {kind} and has {bits} bits at bit {channel.bit_offset}"
    yield channel.kind not in KINDS, f"it is of channel type {channel.kind}"
    if is_virtual(channel):
        yield bool(channel.shape), "it is virtual and an array"
    elif channel.kind == VLSD:
        plain = kind in {*UNSIGNED, *SIGNED, *TEXTS, *BYTES}
        yield not plain or bits > 64 or bool(channel.shape), f"its values vary in length and are of data type {kind}"
    elif channel.shape:
        sizes = ARRAY_BITS.get(kind, ())
        yield not whole or bits not in sizes, f"it is an array, and {size}"
    elif kind in {*UNSIGNED, *SIGNED}:
        yield not bits or (bits > 64 and not whole), size
    elif kind in SCALAR_BITS:
        yield bits not in SCALAR_BITS[kind], size
    else:
        yield not whole or not bits, size


def cell_of(channel: Channel) -> Cell:
    """Where a channel stands that is not virtual and not :func:`odd`."""
    if channel.shape:
        return Cell(channel.byte_offset, _span(channel, channel.bit_count // 8), np.dtype(np.uint8), bulk=True)
    return Cell(channel.byte_offset, *_layout(channel.kind == VLSD, channel.data_type, channel.bit_offset + channel.bit_count))


@lru_cache(maxsize=1024)
def _layout(is_offset: bool, kind: int, bits: int) -> tuple[int, np.dtype[np.generic], int, bool]:  # noqa: FBT001  # a key
    """The attributes of a cell behind its offset."""
    width = -(-bits // 8)
    if bits > 64 or not (is_offset or kind in {*UNSIGNED, *SIGNED, *FLOATS}):
        return width, np.dtype(np.uint8), 0, True
    big = kind in BIG_ENDIAN and not is_offset
    size = next(size for size in (1, 2, 4, 8) if width <= size)
    return width, np.dtype(f"{'>' if big else '<'}u{size}"), size - width if big else 0, False


def plain_type(channel: Channel) -> np.dtype[np.generic] | None:
    """The type of values that are just the bytes of their cell, in whatever byte order; None where more is to be done."""
    if channel.kind not in IN_RECORD or channel.shape or channel.bit_offset:
        return None
    return _plain_type(channel.data_type, channel.bit_count)


@lru_cache(maxsize=1024)
def _plain_type(kind: int, bits: int) -> np.dtype[np.generic] | None:
    if bits not in ARRAY_BITS.get(kind, ()):
        return None
    letter = "u" if kind in UNSIGNED else "i" if kind in SIGNED else "f"
    return np.dtype(f"{'>' if kind in BIG_ENDIAN else '<'}{letter}{bits // 8}")


def bit_cell(group_bytes: int, bit: int) -> Cell:
    """Where the byte of an invalidation bit stands; the bits begin behind the data bytes."""
    return Cell(group_bytes + bit // 8, 1, np.dtype(np.uint8))


def gather(rows: Bytes, cells: Sequence[Cell], into: Sequence[NDArray[np.generic]], at: int) -> None:
    """Copy the cells of all rows into their arrays.

    Args:
        rows: (n, record bytes), lying in memory row by row or column by column.
        cells: which.
        into: what :meth:`Cell.empty` gave for each of them.
        at: place of the first row in those arrays.
    """
    by_planes = rows.strides[1] != 1
    tile = PLANE_TILE_ROWS if by_planes else max(256, ROW_TILE_BYTES // max(rows.shape[1], 1))
    places = [(_by_planes if by_planes else _by_rows)(cell, array) for cell, array in zip(cells, into, strict=True)]
    halves = np.empty((2, min(tile, len(rows))), np.uint16)
    for first in range(0, len(rows), tile):
        part = rows[first : first + tile]
        here = slice(at + first, at + first + len(part))
        for cell, (dtype, array) in zip(cells, places, strict=True):
            if dtype is None:
                for byte in range(cell.width):
                    array[here, cell.inset + byte] = part[:, cell.offset + byte]
            elif by_planes:
                _woven(part[:, cell.offset : cell.offset + cell.width], array[here], halves)
            else:
                array[here] = part[:, cell.offset : cell.offset + cell.width].view(dtype)


def _by_rows(cell: Cell, array: NDArray[np.generic]) -> _Place:
    """Whole values at a time where they are whole, as wide ones as there are."""
    if not cell.bulk and cell.width != cell.dtype.itemsize:
        return _bytes(cell, array)
    wide = np.dtype(f"u{cell.width}") if cell.width in {1, 2, 4, 8} else np.dtype(np.uint8)
    return wide, array.view(wide).reshape(len(array), cell.width // wide.itemsize)


def _by_planes(cell: Cell, array: NDArray[np.generic]) -> _Place:
    if cell.dtype.itemsize == cell.width and cell.width in {2, 4}:
        wide = np.dtype(f"<u{cell.width}")
        return wide, array.view(wide)
    return _bytes(cell, array)


def _woven(planes: Bytes, into: NDArray[np.generic], halves: NDArray[np.uint16]) -> None:
    """The planes of two or four bytes as values: arithmetic on neighbours is faster than storing every second byte."""
    if planes.shape[1] == 2:
        _joined(planes[:, 0], planes[:, 1], into)
        return
    low, high = halves[:, : len(into)]
    _joined(planes[:, 0], planes[:, 1], low)
    _joined(planes[:, 2], planes[:, 3], high)
    _joined(low, high, into)


def _joined(low: NDArray[np.unsignedinteger], high: NDArray[np.unsignedinteger], into: NDArray[np.generic]) -> None:
    np.left_shift(high, 8 * high.itemsize, out=into, dtype=into.dtype)
    np.bitwise_or(into, low, out=into)


def _bytes(cell: Cell, array: NDArray[np.generic]) -> _Place:
    return None, array.view(np.uint8).reshape(len(array), cell.width if cell.bulk else cell.dtype.itemsize)


def decode(channel: Channel, gathered: NDArray[np.generic]) -> NDArray[np.generic]:
    """Raw values of a channel from its gathered cells, in native byte order. The cells are used up.

    Returns:
        (n,) numbers; (n, ...) for an array; (n, width) bytes for text and byte arrays; CANopen times with named fields.
    """
    kind = channel.data_type
    if channel.kind == VLSD:
        return _integers(channel, gathered, signed=False)
    if channel.shape:
        return _elements(channel, gathered)
    if kind in {*UNSIGNED, *SIGNED} and channel.bit_count <= 64:
        return _integers(channel, gathered, signed=kind in SIGNED)
    return _others(channel, gathered) if kind in SCALAR_BITS else gathered


def _others(channel: Channel, gathered: NDArray[np.generic]) -> NDArray[np.generic]:
    """Floats, complex numbers, CANopen dates and times."""
    kind, size = channel.data_type, channel.bit_count // 8
    if kind in FLOATS:
        return _integers(channel, gathered, signed=False).astype(f"u{size}", copy=False).view(f"f{size}")
    if kind in COMPLEX:
        values = gathered.view(f"{'>' if kind in BIG_ENDIAN else '<'}c{size}")[:, 0]
        return values.astype(values.dtype.newbyteorder("="), copy=False)
    if kind == CANOPEN_DATE:
        return _date(gathered.view(DATE)[:, 0])
    time = gathered.view(TIME)[:, 0]
    time["ms"] &= 0x0FFF_FFFF
    return time


def _span(channel: Channel, size: int) -> int:
    """Bytes from the first to behind the last element of an array."""
    return size + sum((count - 1) * stride for count, stride in zip(channel.shape, channel.strides, strict=True))


def _integers(channel: Channel, gathered: NDArray[np.generic], *, signed: bool) -> NDArray[np.generic]:
    """Shift out the bits beside the value; an arithmetic shift brings the sign."""
    if channel.bit_offset + channel.bit_count > 64:
        return _nine_bytes(channel, gathered, signed=signed)
    values = gathered.astype(gathered.dtype.newbyteorder("="), copy=False)
    bits = 8 * values.dtype.itemsize
    above = np.uint8(bits - channel.bit_count - channel.bit_offset)
    if above:
        np.left_shift(values, above, out=values)
    if signed:
        values = values.view(f"i{values.dtype.itemsize}")
    if bits > channel.bit_count:
        np.right_shift(values, values.dtype.type(bits - channel.bit_count), out=values)
    return values


def _nine_bytes(channel: Channel, gathered: NDArray[np.generic], *, signed: bool) -> NDArray[np.generic]:
    """Integers of up to 64 bits that begin inside a byte and end in the ninth."""
    big, offset = channel.data_type in BIG_ENDIAN, np.uint64(channel.bit_offset)
    back = np.uint64(8 if big else 64) - offset
    eight = np.ascontiguousarray(gathered[:, :8]).view(">u8" if big else "<u8")[:, 0].astype(np.uint64)
    ninth = gathered[:, 8].astype(np.uint64)
    values = (eight << back) | (ninth >> offset) if big else (eight >> offset) | (ninth << back)
    unused = np.uint64(64 - channel.bit_count)
    values <<= unused
    if signed:
        return values.view(np.int64) >> np.int64(unused)
    return values >> unused


def _elements(channel: Channel, gathered: NDArray[np.generic]) -> NDArray[np.generic]:
    """The elements of an array channel, dimensions in the order that the file gives them."""
    size = channel.bit_count // 8
    letter = "u" if channel.data_type in UNSIGNED else "i" if channel.data_type in SIGNED else "f"
    dtype = np.dtype(f"{'>' if channel.data_type in BIG_ENDIAN else '<'}{letter}{size}")
    strides = (gathered.strides[0], *channel.strides)
    elements: NDArray[np.generic] = np.ndarray((len(gathered), *channel.shape), dtype, gathered, strides=strides)
    return np.ascontiguousarray(elements, dtype.newbyteorder("="))


def _date(raw: NDArray[np.void]) -> NDArray[np.void]:
    """CiA 301 DATE_OF_DAY; asammdf 8.8.28 masks hour and day with four bits where they have five."""
    fields: dict[str, NDArray[np.generic]] = {
        "ms": raw["ms"],
        "min": raw["min"] & 0x3F,
        "hour": raw["hour"] & 0x1F,
        "day": raw["day"] & 0x1F,
        "month": raw["month"] & 0x3F,
        "year": raw["year"] & 0x7F,
        "summer_time": raw["hour"] >> 7,
        "day_of_week": raw["day"] >> 5,
    }
    dates = np.empty(len(raw), [(name, values.dtype) for name, values in fields.items()])
    for name, values in fields.items():
        dates[name] = values
    return dates
