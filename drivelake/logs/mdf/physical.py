"""Raw columns as physical ones in SI units. Belongs here: conversions and units of whole record batches.

Never here: files, records, raw values, the arithmetic of a conversion (conversions.py).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple, cast

import numpy as np
import pyarrow as pa

from drivelake.logs.arrow import AnyArray, AnyField, fixed_lists, masked, nulls, numbers, unit_field, values_of
from drivelake.logs.mdf.columns import CONVERSION
from drivelake.logs.mdf.conversions import physical
from drivelake.logs.mdf.model import Conversion
from drivelake.logs.units import SiUnit, to_si

__all__ = ["to_physical"]


class _Step(NamedTuple):
    """What becomes of one column."""

    convert: Callable[[AnyArray], AnyArray] | None
    field: AnyField


class _Plan(NamedTuple):
    steps: tuple[_Step, ...]
    schema: pa.Schema


def to_physical(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Physical values in SI units for raw ones, as :func:`~drivelake.logs.mdf.reader.read_mdf` gives them.

    Columns whose fields carry no ``conversion`` are physical already and stay as they are; so a batch may be given twice.

    Args:
        batch: of any table that ``read_mdf(..., physical=False)`` gives.

    Returns:
        The batch that ``read_mdf(..., physical=True)`` gives in its place.
    """
    # schemas that differ in their metadata alone are equal: what they serialise to is not
    steps, schema = _plan(batch.schema.serialize().to_pybytes())
    arrays = [step.convert(array) if step.convert else array for step, array in zip(steps, batch.columns, strict=True)]
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


@lru_cache(maxsize=1024)
def _plan(serialised: bytes) -> _Plan:
    steps = tuple(_step(field) for field in pa.ipc.read_schema(pa.py_buffer(serialised)))
    return _Plan(steps, pa.schema([step.field for step in steps]))


def _step(field: AnyField) -> _Step:
    metadata = field.metadata or {}
    if CONVERSION not in metadata:
        return _Step(None, field)
    conversion = _parsed(metadata[CONVERSION])
    assert not isinstance(conversion, str)
    unit = metadata[b"source_unit"].decode()
    shape = tuple(map(int, metadata[b"shape"].split(b","))) if b"shape" in metadata else ()
    si = to_si(unit)
    numeric = not _is_text(field.type)
    if conversion is None and (not numeric or not si.changes):
        return _Step(None, unit_field(field.name, field.type, si.unit if numeric else unit, unit, shape))

    def convert(array: AnyArray) -> AnyArray:
        return _converted(array, conversion, si)

    nothing: AnyArray = pa.nulls(0, field.type)  # type: ignore[call-overload]  # the stubs know no type that is not spelled out
    kind = convert(nothing).type
    return _Step(convert, unit_field(field.name, kind, unit if _is_text(kind) else si.unit, unit, shape))


@lru_cache(maxsize=4096)
def _parsed(text: bytes) -> Conversion | str | None:
    return _conversion(json.loads(text))


def _conversion(part: object) -> Conversion | str | None:
    """What ``columns.conversion_json`` wrote."""
    if not isinstance(part, dict):
        return cast("str | None", part)
    values = tuple(float(value) for value in part["values"])
    return Conversion(part["kind"], values, tuple(_conversion(text) for text in part["texts"]), part["unit"])


def _is_text(kind: pa.DataType) -> bool:
    """Whether a column holds text or bytes, to which no unit belongs."""
    return pa.types.is_string(kind) or pa.types.is_binary(kind)


def _converted(array: AnyArray, conversion: Conversion | None, si: SiUnit) -> AnyArray:
    invalid = nulls(array)
    raw = cast("pa.StringArray", array) if pa.types.is_string(array.type) else values_of(array)
    values = physical(conversion, raw) if conversion is not None else raw
    if not isinstance(values, np.ndarray):
        return masked(values, invalid)
    if si.changes:
        # what a conversion has just made is nobody else's
        own = values if values is not raw and values.dtype == np.float64 and values.flags.owndata else None
        scaled = np.multiply(values, si.factor, out=own, dtype=np.float64)
        values = np.add(scaled, si.offset, out=scaled) if si.offset else scaled
    return fixed_lists(values, invalid) if values.ndim > 1 else numbers(values, invalid)
