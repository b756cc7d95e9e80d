"""The channels of an MDF group as asammdf reads them, as Arrow columns. Belongs here: types, text, units, invalid samples.

Never here: time, windows, opening files, names (naming.py).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.logs.arrow import T_NS, AnyArray, AnyField, binaries, fixed_lists, masked, numbers, texts_of, unit_field
from drivelake.logs.findings import Findings
from drivelake.logs.mdf.asammdf_access import Group, formula_of, groups_of, read_samples, text_encoding
from drivelake.logs.mdf.conversions import physical, readable
from drivelake.logs.mdf.model import Conversion
from drivelake.logs.mdf.naming import column_names
from drivelake.logs.units import SiUnit, to_si

if TYPE_CHECKING:
    from asammdf import MDF

__all__ = ["AsammdfColumns"]

FORMULA = 3  # cc_type of MDF 4


class _Column(NamedTuple):
    channel: int
    name: str
    si: SiUnit
    source_unit: str
    encoding: str | None
    formula: Conversion | None


class AsammdfColumns:
    """Every channel of a group but its master, in file order, physical.

    Formulas are evaluated here: asammdf hands the text of the file to `eval` where its own parser fails.

    Args:
        mdf: the file.
        group: index of the group.
        findings: takes notes on channels that nobody reads.
        wanted: names of columns; all of them if None.
        left_out: names of columns that are not to be read.
    """

    def __init__(
        self, mdf: MDF, group: int, findings: Findings, wanted: Collection[str] | None, left_out: Collection[str] = ()
    ) -> None:
        self._mdf = mdf
        self._group = group
        self._columns = tuple(
            column for column in self._plan(findings) if column.name not in left_out and (wanted is None or column.name in wanted)
        )

    def read(self, offset: int, t_ns: NDArray[np.int64]) -> pa.RecordBatch:
        """The records from ``offset`` on whose receive stamps are given.

        Raises:
            LogDamaged: a channel cannot be read.
        """
        fields: list[AnyField] = [T_NS]
        arrays: list[AnyArray] = [numbers(t_ns)]
        for column in self._columns:
            samples, invalid = read_samples(
                self._mdf, self._group, column.channel, offset, len(t_ns), raw=column.formula is not None
            )
            if column.formula is not None:
                samples = np.asarray(physical(column.formula, samples))
            for name, values in _flat(column.name, samples):
                array, numeric = _array(values, invalid, column)
                unit = column.si.unit if numeric else column.source_unit
                fields.append(unit_field(name, array.type, unit, column.source_unit, values.shape[1:]))
                arrays.append(array)
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields))

    def _plan(self, findings: Findings) -> Iterator[_Column]:
        group = groups_of(self._mdf)[self._group]
        master = self._mdf.masters_db.get(self._group)
        kept = [index for index in range(len(group.channels)) if index != master and not _is_structure(group, index)]
        names = column_names(group.channels[index].name for index in kept)
        for index, name in zip(kept, names, strict=True):
            channel = group.channels[index]
            unit = self._mdf.get_channel_unit(group=self._group, index=index) or ""
            text = formula_of(self._mdf, channel)
            formula = Conversion(FORMULA, (), (text,), unit) if text else None
            if reason := readable(formula):
                findings.note(f"Channel {name!r} of group {self._group} is left out: it has {reason}.")
                continue
            yield _Column(index, name, to_si(unit), unit, text_encoding(self._mdf, channel), formula)


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
        return masked(texts_of(_texts(values, column.encoding or "latin-1")), invalid), False
    if values.dtype.kind == "V" or (values.dtype == np.uint8 and values.ndim > 1):
        width = values.dtype.itemsize * int(np.prod(values.shape[1:]))
        rows = np.frombuffer(values.tobytes(), np.uint8)
        return binaries(rows, np.full(len(values), width), invalid), False
    if column.si.changes:
        values = values.astype(np.float64) * column.si.factor + column.si.offset
    return (numbers(values, invalid) if values.ndim == 1 else fixed_lists(values, invalid)), True


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
