"""Rows of a query for whoever takes them. Belongs here: reading them a few at a time, as JSON, CSV, Parquet or cells of text.

Never here: SQL, files of the lake, how a terminal looks.
"""

from __future__ import annotations

import csv
import json
import math
import secrets
from collections.abc import Iterable, Iterator, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from drivelake.errors import InputError
from drivelake.snapshots.sandbox import told

if TYPE_CHECKING:
    import duckdb

__all__ = ["count", "text_of", "unique_names", "write_csv", "write_json", "write_parquet"]

BATCH_ROWS = 10_000
DOUBLE_DIGITS = 15  # as many as a double keeps of any decimal number


def batches(relation: duckdb.DuckDBPyRelation) -> Iterator[pa.RecordBatch]:
    """The rows, in bounded memory; errors of reading are ours."""
    with told():
        yield from relation.to_arrow_reader(BATCH_ROWS)


def rows(relation: duckdb.DuckDBPyRelation) -> Iterator[tuple[object, ...]]:
    """The rows as Python values."""
    for batch in batches(relation):
        yield from zip(*(column.to_pylist() for column in batch.columns), strict=True)


def count(relation: duckdb.DuckDBPyRelation) -> int:
    """How many rows there are; columns that tell nothing about that are not read."""
    with told():
        found = relation.aggregate("count(*)").fetchone()
    assert found is not None, "an aggregate gives one row"
    return int(found[0])


def unique_names(relation: duckdb.DuckDBPyRelation) -> Sequence[str]:
    """The columns' names.

    Raises:
        InputError: two have one name, which no object and no Parquet file can hold.
    """
    names = relation.columns
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"Two columns of the result are named {twice[0]!r}.", next_step="give one another name with AS")
    return names


def write_json(relation: duckdb.DuckDBPyRelation, out: IO[str], head: dict[str, object]) -> None:
    """One JSON object: ``head``, ``columns`` (name and type, in order) and ``rows`` (objects by column).

    Integers keep all digits. What JSON has no number for is text: NaN, infinities, decimals beyond a double. Bytes are hex.
    """
    names = unique_names(relation)
    columns = [{"name": name, "type": str(kind)} for name, kind in zip(names, relation.types, strict=True)]
    start = json.dumps({**head, "columns": columns}, sort_keys=True, allow_nan=False)
    out.write(f'{start[:-1]}, "rows": [')
    before = "\n"
    for row in rows(relation):
        values = dict(zip(names, map(_as_json, row), strict=True))
        out.write(before + json.dumps(values, allow_nan=False, ensure_ascii=False))
        before = ",\n"
    out.write("\n]}\n")


def write_csv(relation: duckdb.DuckDBPyRelation, out: IO[str]) -> None:
    """A header and the rows; nothing for NULL, JSON for lists and structures."""
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(relation.columns)
    for row in rows(relation):
        writer.writerow("" if value is None else _cell(value) for value in row)


def write_parquet(relation: duckdb.DuckDBPyRelation, path: Path) -> int:
    """Write a Parquet file that is there when it is whole; gives its rows.

    Raises:
        InputError: something of that name is there, or two columns share a name.
    """
    unique_names(relation)
    if path.exists():
        raise InputError(f"{path} is there already.", next_step="name another file, or remove it")
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with told():
            reader = relation.to_arrow_reader(BATCH_ROWS)
        with pq.ParquetWriter(partial, reader.schema, compression="zstd") as writer:
            written = _write(writer, reader)
        partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)
    return written


def _write(writer: pq.ParquetWriter, reader: Iterable[pa.RecordBatch]) -> int:
    written = 0
    with told():
        for batch in reader:
            writer.write_batch(batch)
            written += batch.num_rows
    return written


def text_of(value: object) -> str:
    """A value for a table that a person reads."""
    if value is None:
        return "-"
    return f"{value:.9g}" if isinstance(value, float) else str(_cell(value))


def _cell(value: object) -> str:
    plain = _as_json(value)
    return plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False)


def _as_json(value: object) -> object:
    if isinstance(value, dict):
        return {str(key): _as_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_as_json(inner) for inner in value]
    return _single(value)


def _single(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Decimal):
        return _decimal(value)
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, (datetime, date, time)):
        return value.isoformat()
    return value if value is None or isinstance(value, (bool, int, str)) else str(value)


def _decimal(value: Decimal) -> object:
    _, digits, exponent = value.as_tuple()
    if exponent == 0:  # sums of integers are wider than any integer type
        return int(value)
    return float(value) if len(digits) <= DOUBLE_DIGITS else str(value)
