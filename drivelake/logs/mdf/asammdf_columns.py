"""The channels of an MDF group as Arrow columns. Belongs here: names, types, text, units, invalid samples.

Never here: time, windows, opening files, CAN.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.logs.mdf.asammdf_access import Group, groups_of, read_samples, text_encoding
from drivelake.logs.units import SiUnit, to_si

if TYPE_CHECKING:
    from asammdf import MDF

__all__ = ["T_NS", "AnyArray", "AnyField", "GroupColumns", "unit_field"]

AnyField: TypeAlias = "pa.Field[pa.DataType]"
AnyArray: TypeAlias = "pa.Array[pa.Scalar[pa.DataType]]"

T_NS: AnyField = pa.field("t_ns", pa.int64(), nullable=False)


class _Column(NamedTuple):
    channel: int
    name: str
    si: SiUnit
    source_unit: str
    encoding: str | None


def unit_field(name: str, kind: pa.DataType, unit: str, source_unit: str) -> AnyField:
    """A column with its SI unit and the unit that it was recorded in."""
    return pa.field(name, kind, metadata={"unit": unit, "source_unit": source_unit})


class GroupColumns:
    """Every channel of a group but its master, in file order; a name that repeats becomes ``name#2``."""

    def __init__(self, mdf: MDF, group: int) -> None:
        self._mdf = mdf
        self._group = group
        self._columns = tuple(self._plan())

    def read(self, offset: int, t_ns: NDArray[np.int64]) -> pa.RecordBatch:
        """The records from ``offset`` on whose receive stamps are given.

        Raises:
            LogDamaged: a channel cannot be read.
        """
        fields: list[AnyField] = [T_NS]
        arrays: list[AnyArray] = [pa.array(t_ns)]
        for column in self._columns:
            samples, invalid = read_samples(self._mdf, self._group, column.channel, offset, len(t_ns))
            for name, values in _flat(column.name, samples):
                array, numeric = _array(values, invalid, column)
                fields.append(unit_field(name, array.type, column.si.unit if numeric else column.source_unit, column.source_unit))
                arrays.append(array)
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    def _plan(self) -> Iterator[_Column]:
        group = groups_of(self._mdf)[self._group]
        names = Counter({T_NS.name: 1})
        for index, channel in enumerate(group.channels):
            if index == self._mdf.masters_db.get(self._group) or _is_structure(group, index):
                continue
            names[channel.name] += 1
            repeat = names[channel.name]
            unit = self._mdf.get_channel_unit(group=self._group, index=index) or ""
            name = channel.name if repeat == 1 else f"{channel.name}#{repeat}"
            yield _Column(index, name, to_si(unit), unit, text_encoding(self._mdf, channel))


def _is_structure(group: Group, index: int) -> bool:
    """A structure repeats what its members, channels of their own, hold. MDF 3 has none."""
    dependencies: Sequence[Sequence[object] | None] = getattr(group, "channel_dependencies", ())
    members = dependencies[index] if dependencies else None
    return members is not None and any(isinstance(member, tuple) for member in members)


def _flat(name: str, samples: NDArray[np.generic]) -> Iterator[tuple[str, NDArray[np.generic]]]:
    """Scalars and lists; fields of records get dotted names, complex numbers two columns."""
    if samples.dtype.names:
        for part in samples.dtype.names:
            yield from _flat(name if part == name else f"{name}.{part}", np.asarray(samples.view(np.ndarray)[part]))
    elif np.iscomplexobj(samples):
        yield f"{name}.real", np.real(samples)
        yield f"{name}.imag", np.imag(samples)
    else:
        yield name, samples


def _array(values: NDArray[np.generic], invalid: NDArray[np.bool_] | None, column: _Column) -> tuple[AnyArray, bool]:
    """The Arrow array, and whether it holds numbers, to which the unit belongs."""
    if values.dtype.kind in "SO" or (column.encoding and values.ndim == 1):
        return pa.array(_texts(values, column.encoding or "latin-1"), pa.string(), mask=invalid), False
    if values.dtype.kind == "V" or (values.dtype == np.uint8 and values.ndim > 1):
        return pa.array([row.tobytes() for row in values], pa.binary(), mask=invalid), False
    if column.si.changes:
        values = values.astype(np.float64) * column.si.factor + column.si.offset
    numbers = values.astype(values.dtype.newbyteorder("="), copy=False)
    if numbers.ndim == 1:
        return pa.array(numbers, mask=invalid), True
    width = int(np.prod(numbers.shape[1:]))
    mask = None if invalid is None else pa.array(invalid)
    return pa.FixedSizeListArray.from_arrays(pa.array(numbers.reshape(-1)), width, mask=mask), True


def _texts(values: NDArray[np.generic], encoding: str) -> list[str]:
    r"""Text as it was meant; bytes that the encoding does not have stay visible as ``\xNN``.

    numpy drops closing NULs, which halves the last UTF-16 character of a little-endian text: it is given back.
    """
    wide = encoding.startswith("utf-16")
    texts = []
    for value in values.tolist():
        if isinstance(value, bytes):
            whole = value + b"\x00" * (len(value) % 2) if wide else value
            texts.append(whole.decode(encoding, errors="backslashreplace").rstrip("\x00"))
        else:
            texts.append(str(value))
    return texts
