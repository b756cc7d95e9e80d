"""Declared offsets of a clock, a table for all drives. Belongs here: the CSV, and what is wrong with it.

Never here: mapping stamps (clocks), comparing with an estimate (domains).
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from drivelake.errors import DeclarationError
from drivelake.frames.clocks import DRIFT_LIMIT_PPM, OFFSET_LIMIT_NS, STAMP_LIMIT_NS, OffsetRow
from drivelake.strict import nearest

__all__ = ["COLUMNS", "OffsetRow", "rows_of"]

COLUMNS = ("drive", "from_ns", "offset_ns", "drift_ppm")
NEEDED = ("drive", "offset_ns")


class _Line(NamedTuple):
    """One line of the table with its number in the file, from 1."""

    number: int
    cells: dict[str, str]


def rows_of(path: Path, drive: str) -> tuple[OffsetRow, ...]:
    """The rows of one drive, in the order of the file.

    The file is UTF-8 CSV with a header that names ``drive`` and ``offset_ns``, and ``from_ns`` and ``drift_ppm`` if it likes.
    The whole table is checked, whichever drive is asked for. ``from_ns`` may be empty in the first row of a drive only: there
    it means from the beginning. Where ``drift_ppm`` is given, ``offset_ns`` holds at ``from_ns``, so that is needed too.

    Args:
        path: the table.
        drive: name of the drive, as it stands in the table.

    Returns:
        Empty where the table has no row of this drive.

    Raises:
        DeclarationError: no such file, or what is wrong and in which line.
    """
    found: dict[str, list[OffsetRow]] = {}
    for line in _lines(path):
        name = line.cells["drive"]
        if not name:
            raise _wrong(path, line.number, "no drive is named", "name one, or delete the line")
        rows = found.setdefault(name, [])
        rows.append(_row(path, line, follows=bool(rows)))
    return tuple(found.get(drive, ()))


def _lines(path: Path) -> Iterator[_Line]:
    """Lines with as many cells as the header has; empty lines are passed over."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            header = _header(path, next(reader, []))
            for cells in reader:
                if not any(cell.strip() for cell in cells):
                    continue
                if len(cells) != len(header):
                    raise _wrong(
                        path,
                        reader.line_num,
                        f"{len(cells)} cells, the header names {len(header)} columns",
                        f"write {', '.join(header)}",
                    )
                yield _Line(reader.line_num, dict(zip(header, (cell.strip() for cell in cells), strict=True)))
    except FileNotFoundError:
        raise DeclarationError(
            f"There is no table of offsets {path.name} beside the declaration.", next_step="write it, or remove the key offsets"
        ) from None
    except OSError as error:
        raise DeclarationError(
            f"The table of offsets {path.name} cannot be read: {error.strerror}.", next_step="make it a readable CSV file"
        ) from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise DeclarationError(
            f"The table of offsets {path.name} is no CSV in UTF-8: {error}.", next_step="save it as CSV in UTF-8"
        ) from None


def _header(path: Path, cells: list[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    unknown = [name for name in header if name not in COLUMNS]
    if unknown:
        raise _wrong(path, 1, f"column {unknown[0]!r} is not known; {nearest(unknown[0], COLUMNS)}", f"use {', '.join(COLUMNS)}")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise _wrong(path, 1, f"column {twice[0]!r} stands twice", "keep one of them")
    absent = [name for name in NEEDED if name not in header]
    if absent:
        raise _wrong(path, 1, f"column {absent[0]!r} is missing", f"begin the file with {','.join(COLUMNS)}")
    return header


def _row(path: Path, line: _Line, *, follows: bool) -> OffsetRow:
    """One row; ``follows`` says that the drive has a row before it."""
    from_ns = _whole(path, line, "from_ns") if line.cells.get("from_ns") else None
    offset_ns = _whole(path, line, "offset_ns")
    drift_ppm = _decimal(path, line, "drift_ppm") if line.cells.get("drift_ppm") else 0.0
    if from_ns is None and follows:
        raise _wrong(path, line.number, f"drive {line.cells['drive']!r} has a row before this one", "give from_ns")
    if from_ns is None and drift_ppm:
        raise _wrong(path, line.number, "drift_ppm without from_ns", "give from_ns, the native stamp at which offset_ns holds")
    if from_ns is not None and not 0 <= from_ns < STAMP_LIMIT_NS:
        raise _wrong(path, line.number, f"from_ns is {from_ns}, expected 0 to {STAMP_LIMIT_NS}", "give ns since the epoch")
    if abs(offset_ns) > OFFSET_LIMIT_NS:
        raise _wrong(path, line.number, f"offset_ns is {offset_ns}, expected at most {OFFSET_LIMIT_NS} either way", "give ns")
    if not abs(drift_ppm) <= DRIFT_LIMIT_PPM:
        raise _wrong(
            path, line.number, f"drift_ppm is {drift_ppm:g}, expected at most {DRIFT_LIMIT_PPM:g} either way", "give ppm"
        )
    return OffsetRow(from_ns, offset_ns, drift_ppm)


def _whole(path: Path, line: _Line, column: str) -> int:
    """An integer; a decimal on the way would round a stamp to 256 ns."""
    cell = line.cells[column]
    if not re.fullmatch(r"[+-]?[0-9]{1,19}", cell):
        raise _wrong(path, line.number, f"{column} is {cell!r}, expected whole ns", "write digits only")
    return int(cell)


def _decimal(path: Path, line: _Line, column: str) -> float:
    try:
        value = float(line.cells[column])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise _wrong(path, line.number, f"{column} is {line.cells[column]!r}, expected a number", "write digits and a point")
    return value


def _wrong(path: Path, line: int, what: str, step: str) -> DeclarationError:
    return DeclarationError(f"{path.name}, line {line}: {what}.", next_step=step)
