"""Python values as Arrow columns. Belongs here: what decoders that work message by message share.

Never here: encodings. `pa.array` of a Python list would import pandas (0.23 s of CPU time).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from drivelake.logs.arrow import AnyArray, binaries, numbers

__all__ = ["column_of"]


def column_of(values: Sequence[object], kind: pa.DataType) -> AnyArray:
    """A column of values that fit its type; None becomes null.

    Args:
        values: numbers, truth values, str, bytes, lists, or dicts with an entry for each field of a struct.
        kind: number, bool, string, binary, list, fixed-size list or struct.
    """
    null = np.fromiter((value is None for value in values), np.bool_, len(values))
    absent = null if null.any() else None
    if pa.types.is_string(kind) or pa.types.is_binary(kind):
        plain = [value.encode() if isinstance(value, str) else bytes(value or b"") for value in values]  # type: ignore[call-overload]  # str, bytes or None
        lengths = np.fromiter(map(len, plain), np.int64, len(plain))
        raw = binaries(np.frombuffer(b"".join(plain), np.uint8), lengths, absent)
        return raw.cast(kind)
    if isinstance(kind, pa.StructType):
        parts = [
            column_of([None if value is None else value[field.name] for value in values], field.type)  # type: ignore[index]  # dicts
            for field in kind
        ]
        return pa.Array.from_buffers(kind, len(values), [numbers(null, absent).buffers()[0]], children=parts)
    if isinstance(kind, pa.FixedSizeListType):
        blank = [None] * kind.list_size
        items = [item for value in values for item in (blank if value is None else value)]  # type: ignore[attr-defined]  # lists
        child = column_of(items, kind.value_type)
        return pa.Array.from_buffers(kind, len(values), [numbers(null, absent).buffers()[0]], children=[child])
    if isinstance(kind, pa.ListType):
        counts = np.fromiter((0 if value is None else len(value) for value in values), np.int64, len(values))  # type: ignore[arg-type]  # lists
        child = column_of([item for value in values if value is not None for item in value], kind.value_type)  # type: ignore[attr-defined]  # lists
        offsets = np.zeros(len(values) + 1, np.int32)
        np.cumsum(counts, out=offsets[1:])
        buffers = [numbers(null, absent).buffers()[0], numbers(offsets).buffers()[1]]
        return pa.Array.from_buffers(kind, len(values), buffers, children=[child])
    dtype = np.dtype(kind.to_pandas_dtype())
    return numbers(np.array([0 if value is None else value for value in values], dtype), absent)
