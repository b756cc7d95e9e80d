"""numpy arrays as Arrow columns, without pandas. Belongs here: buffers, validity, text and bytes, columns with units.

Never here: where values come from, what they mean.

`pa.array(numpy)` imports pandas once (0.23 s of CPU time) and looks at every value; the buffers of a numpy array already
are what Arrow wants. Columns share memory with the arrays that they are made from: those are not written again.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, TypeAlias, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

__all__ = [
    "T_NS",
    "AnyArray",
    "AnyField",
    "binaries",
    "buffer_of",
    "fixed_lists",
    "masked",
    "nulls",
    "numbers",
    "pack",
    "pick",
    "shape_of",
    "texts",
    "texts_of",
    "type_of",
    "unit_field",
    "values_of",
    "windows",
]

AnyField: TypeAlias = "pa.Field[pa.DataType]"
AnyArray: TypeAlias = "pa.Array[pa.Scalar[pa.DataType]]"
Invalid: TypeAlias = "NDArray[np.bool_] | None"

LONG_BYTES = 1 << 14
TILE_BYTES = 1 << 18
# stretches go by their lengths where those are short, and this many share one
ALIKE_BYTES, ALIKE_MIN = 1 << 10, 1 << 8

T_NS: AnyField = pa.field("t_ns", pa.int64(), nullable=False)

_TYPES: dict[np.dtype[np.generic], pa.DataType] = {
    np.dtype(np.int8): pa.int8(), np.dtype(np.int16): pa.int16(), np.dtype(np.int32): pa.int32(),
    np.dtype(np.int64): pa.int64(), np.dtype(np.uint8): pa.uint8(), np.dtype(np.uint16): pa.uint16(),
    np.dtype(np.uint32): pa.uint32(), np.dtype(np.uint64): pa.uint64(), np.dtype(np.float16): pa.float16(),
    np.dtype(np.float32): pa.float32(), np.dtype(np.float64): pa.float64(),
}  # fmt: skip


def unit_field(name: str, kind: pa.DataType, unit: str, source_unit: str, shape: Sequence[int] = ()) -> AnyField:
    """A column with its SI unit and the unit that it was recorded in; for arrays with the shape of a value."""
    return pa.field(name, kind, metadata={"unit": unit, "source_unit": source_unit, **shape_of(shape)})


def shape_of(shape: Sequence[int]) -> dict[str, str]:
    """What a field says of the shape of its values, such as ``2,3``; nothing for scalars and plain lists."""
    return {"shape": ",".join(map(str, shape))} if len(shape) > 1 else {}


def type_of(dtype: np.dtype[np.generic]) -> pa.DataType:
    """The type of a column of numbers in native byte order."""
    return _TYPES[dtype]


def numbers(values: NDArray[np.generic], invalid: Invalid = None) -> AnyArray:
    """A column of numbers that shares the memory of ``values``.

    Args:
        values: (n,) integers, floats or booleans in any byte order; copied if not contiguous or not native.
        invalid: (n,) bool, which of them become null.
    """
    validity, nulls = _validity(invalid)
    if values.dtype == np.bool_:
        bits = np.packbits(values.astype(np.bool_, copy=False), bitorder="little")
        return pa.Array.from_buffers(pa.bool_(), len(values), [validity, buffer_of(bits)], nulls)
    native = np.ascontiguousarray(values, values.dtype.newbyteorder("="))
    return pa.Array.from_buffers(_TYPES[native.dtype], len(native), [validity, buffer_of(native)], nulls)


def fixed_lists(values: NDArray[np.generic], invalid: Invalid = None) -> AnyArray:
    """A column of lists of one length: (n, ...) numbers, dimensions behind the first in C order."""
    width = int(np.prod(values.shape[1:]))
    validity, nulls = _validity(invalid)
    children = numbers(values.reshape(-1))
    kind = pa.list_(children.type, width)
    return pa.Array.from_buffers(kind, len(values), [validity], nulls, children=[children])


def binaries(data: NDArray[np.uint8], lengths: NDArray[np.integer], invalid: Invalid = None) -> pa.BinaryArray:
    """A column of bytes: ``data`` holds the values one behind the other, ``lengths`` (n,) their lengths.

    Raises:
        ValueError: they hold 2 GiB or more together, or the lengths do not add up.
    """
    ends = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=ends[1:])
    if ends[-1] > np.iinfo(np.int32).max or ends[-1] != len(data):
        raise ValueError(f"{len(lengths)} values of {int(ends[-1])} bytes together, {len(data)} bytes are given")
    validity, nulls = _validity(invalid)
    buffers = [validity, buffer_of(ends.astype(np.int32)), buffer_of(np.ascontiguousarray(data))]
    return cast("pa.BinaryArray", pa.Array.from_buffers(pa.binary(), len(lengths), buffers, nulls))


def texts(data: NDArray[np.uint8], lengths: NDArray[np.integer], encoding: str, invalid: Invalid = None) -> pa.StringArray:
    r"""A column of text from encoded values, as :func:`binaries`.

    Bytes that the encoding does not have stay visible as ``\xNN``.
    """
    raw = binaries(data, lengths, invalid)
    ascii_only = bool(len(data) == 0 or data.max() < 0x80)
    if ascii_only and not encoding.startswith("utf-16"):
        return _as_text(raw)
    if encoding == "utf-8":
        text = _as_text(raw)
        try:
            text.validate(full=True)
        except pa.ArrowInvalid:
            pass
        else:
            return text
    decoded = [None if value is None else value.decode(encoding, errors="backslashreplace") for value in raw.to_pylist()]
    return texts_of(decoded)


def texts_of(values: Sequence[str | None]) -> pa.StringArray:
    """A column of Python strings."""
    encoded = [b"" if value is None else value.encode() for value in values]
    data = np.frombuffer(b"".join(encoded), np.uint8)
    lengths = np.fromiter(map(len, encoded), np.int64, len(encoded))
    return _as_text(binaries(data, lengths), np.fromiter((value is None for value in values), np.bool_, len(encoded)))


def values_of(column: AnyArray) -> NDArray[np.generic]:
    """The numbers of a column, sharing its memory: (n,), for lists of one length (n, length). Nulls are any number."""
    if pa.types.is_fixed_size_list(column.type):
        width = column.type.list_size
        children = values_of(cast("pa.ListArray[pa.Scalar[pa.DataType]]", column).values)
        return children[column.offset * width : (column.offset + len(column)) * width].reshape(len(column), width)
    dtype = np.dtype(column.type.to_pandas_dtype())
    values = column.buffers()[1]
    if values is None or not len(column):
        return np.empty(0, dtype)
    return np.frombuffer(memoryview(values), dtype, len(column), column.offset * dtype.itemsize)


def nulls(column: AnyArray) -> NDArray[np.bool_] | None:
    """Which values of a column are null; None for none."""
    if not column.null_count:
        return None
    bitmap = cast("pa.Buffer", column.buffers()[0])
    valid = np.unpackbits(np.frombuffer(memoryview(bitmap), np.uint8), bitorder="little")
    return ~valid[column.offset : column.offset + len(column)].astype(np.bool_)


def masked(column: pa.StringArray, invalid: Invalid) -> pa.StringArray:
    """A column of text with further nulls, sharing its bytes."""
    if invalid is None or not invalid.any():
        return column
    if column.offset:
        column = pa.concat_arrays([column])
    if (before := nulls(column)) is not None:
        invalid = invalid | before
    return _as_text(column, invalid)


def pack(rows: NDArray[np.uint8], lengths: NDArray[np.integer]) -> NDArray[np.uint8]:
    """The first ``lengths`` bytes of each row of ``rows`` (n, width), one behind the other."""
    width = rows.shape[1]
    if len(lengths) and int(lengths.min()) == width:
        return np.ascontiguousarray(rows).reshape(-1)
    return rows[np.arange(width) < lengths[:, None]]


def pick(data: NDArray[np.uint8], starts: NDArray[np.integer], lengths: NDArray[np.integer]) -> NDArray[np.uint8]:
    """The stretches of ``data`` that begin at ``starts``, one behind the other; all of them inside ``data``."""
    lengths = np.asarray(lengths, np.int64)
    ends = np.cumsum(lengths)
    begins = ends - lengths
    out = np.empty(int(ends[-1]) if len(ends) else 0, np.uint8)
    uses = np.bincount(lengths) if len(ends) and int(lengths.max()) < ALIKE_BYTES else np.empty(0, np.int64)
    alike = np.flatnonzero(uses).tolist()
    if alike and len(alike) * ALIKE_MIN <= len(ends):
        for length in alike:
            rows = slice(None) if uses[length] == len(ends) else np.flatnonzero(lengths == length)
            if length:
                kind = f"V{length}"
                windows(out, kind)[begins[rows]] = windows(data, kind)[starts[rows]]
        return out
    # other short stretches go by an index of every byte, some at a time; long ones each for itself
    long = np.flatnonzero(lengths >= LONG_BYTES)
    tiles = np.flatnonzero(np.diff(ends // TILE_BYTES)) + 1
    cuts = np.unique(np.concatenate(([0], long, long + 1, tiles, [len(ends)])))
    for first, last in pairwise(cuts.tolist()):
        place, end = int(begins[first]), int(ends[last - 1])
        if last - first == 1:
            out[place:end] = data[int(starts[first]) : int(starts[first]) + end - place]
            continue
        # where each byte stands in `data`: one behind the other, with a step at the start of each stretch
        index = np.repeat(np.asarray(starts[first:last], np.int64) - begins[first:last], lengths[first:last])
        index += np.arange(place, end)
        out[place:end] = data[index]
    return out


def windows(data: NDArray[np.uint8], dtype: str) -> NDArray[Any]:
    """The values of a type that begin at each byte of ``data``, one byte apart; they share its memory."""
    return np.ndarray((len(data) - np.dtype(dtype).itemsize + 1,), dtype, data, strides=(1,))


def buffer_of(values: NDArray[Any]) -> pa.Buffer:
    """The memory of a contiguous array."""
    return pa.py_buffer(values.data.cast("B") if values.size else b"")


def _validity(invalid: Invalid) -> tuple[pa.Buffer | None, int]:
    """Bitmap and number of nulls."""
    if invalid is None or not (nulls := int(np.count_nonzero(invalid))):
        return None, 0
    return buffer_of(np.packbits(~invalid, bitorder="little")), nulls


def _as_text(raw: pa.BinaryArray | pa.StringArray, invalid: Invalid = None) -> pa.StringArray:
    """The same bytes as text; ``invalid`` takes the place of the nulls that were there."""
    old, *rest = raw.buffers()
    validity, nulls = (old, raw.null_count) if invalid is None else _validity(invalid)
    return cast("pa.StringArray", pa.Array.from_buffers(pa.string(), len(raw), [validity, *rest], nulls))
