"""Measured signals: MDF 4 to Arrow and to Parquet. Belongs here: those cases. Never here: bus logging (buses)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bench.case import Case, Counts, Target, Variant
from bench.limits import inflate

if TYPE_CHECKING:
    from asammdf import MDF

__all__ = ["CASES", "drivelake_raw"]

Inputs = Mapping[str, Path]
FILE = "signals.mf4"
# one channel in each of 50 groups of 200
SELECTED = {f"group_{group}": f"g{group:03d}_s02" for group in range(0, 200, 4)}


def drivelake_raw(inputs: Inputs) -> Counts:
    """Every channel as recorded, conversions as metadata."""
    return {"samples": sum(_samples(inputs[FILE], physical=False))}


def drivelake_physical(inputs: Inputs) -> Counts:
    """Every channel in SI units."""
    return {"samples": sum(_samples(inputs[FILE], physical=True))}


def _samples(path: Path, *, physical: bool) -> Iterator[int]:
    from drivelake.logs import read_log

    return (found.batch.num_rows * (found.batch.num_columns - 1) for found in read_log(path, physical=physical))


def drivelake_selection(inputs: Inputs) -> Counts:
    """50 channels."""
    from drivelake.logs import read_log

    batches = read_log(inputs[FILE], channels=SELECTED.keys(), columns=set(SELECTED.values()), physical=False)
    return {"samples": sum(found.batch.num_rows * (found.batch.num_columns - 1) for found in batches)}


def drivelake_parquet(inputs: Inputs) -> Counts:
    """Every channel in SI units, a file a group, as drivelake writes the tables of a drive."""
    from drivelake.logs.tables import write_tables

    with TemporaryDirectory(dir=inputs[FILE].parent) as folder:
        written = write_tables(FILE, inputs[FILE], Path(folder))["tables"]
        return {"samples": sum(table["rows"] * (len(table["columns"]) - 1) for table in written)}


def _channels(log: MDF) -> list[tuple[str, int, int]]:
    """Every channel that is no time axis."""
    master = 2
    return [
        (channel.name, group, place)
        for group, found in enumerate(log.groups)
        for place, channel in enumerate(found.channels)
        if channel.channel_type != master
    ]


def asammdf_select_raw(inputs: Inputs) -> Counts:
    """All channels in one call, as recorded."""
    from asammdf import MDF

    with MDF(inputs[FILE]) as log:
        signals = log.select(_channels(log), raw=True, ignore_value2text_conversions=True, copy_master=False)
        return {"samples": sum(len(signal) for signal in signals)}


def asammdf_select_physical(inputs: Inputs) -> Counts:
    """All channels in one call, converted."""
    from asammdf import MDF

    with MDF(inputs[FILE]) as log:
        return {"samples": sum(len(signal) for signal in log.select(_channels(log), copy_master=False))}


def asammdf_groups(inputs: Inputs) -> Counts:
    """Group by group, in bounded memory, converted."""
    from asammdf import MDF

    with MDF(inputs[FILE]) as log:
        return {"samples": sum(frame.size for frame in log.iter_groups())}


def asammdf_selection(inputs: Inputs) -> Counts:
    """50 channels."""
    from asammdf import MDF

    with MDF(inputs[FILE]) as log:
        return {"samples": sum(len(s) for s in log.select(list(SELECTED.values()), raw=True, copy_master=False))}


def asammdf_parquet_raw(inputs: Inputs) -> Counts:
    """Group by group, as recorded."""
    return _asammdf_parquet(inputs[FILE], raw=True)


def asammdf_parquet_physical(inputs: Inputs) -> Counts:
    """Group by group, converted."""
    return _asammdf_parquet(inputs[FILE], raw=False)


def _asammdf_parquet(path: Path, *, raw: bool) -> Counts:
    """The way that keeps every group's own stamps; one export of all joins the axes of all groups."""
    from asammdf import MDF

    with TemporaryDirectory(dir=path.parent) as folder, MDF(path) as log:
        samples = 0
        for number, frame in enumerate(log.iter_groups(raw=raw)):
            frame.to_parquet(os.fspath(Path(folder) / f"{number}.parquet"), compression="snappy")
            samples += frame.size
        return {"samples": samples}


def limit(inputs: Inputs) -> Counts:
    """What every reader has to do at least."""
    return inflate(inputs[FILE])


CASES = (
    Case(
        "mdf_arrow",
        "MDF 4 signals (200 groups, transposed DZ) to Arrow",
        (FILE,),
        (
            Variant("drivelake raw", "ours", drivelake_raw),
            Variant("drivelake physical", "ours", drivelake_physical),
            Variant("inflating the blocks", "limit", limit),
            Variant("asammdf select raw", "peer", asammdf_select_raw),
            Variant("asammdf select physical", "peer", asammdf_select_physical),
            Variant("asammdf iter_groups", "peer", asammdf_groups),
        ),
        (Target("drivelake raw", "cpu", "inflating the blocks", 1.8),),
    ),
    Case(
        "mdf_selection",
        "50 of the channels",
        (FILE,),
        (
            Variant("drivelake raw", "ours", drivelake_selection),
            Variant("asammdf select raw", "peer", asammdf_selection),
        ),
    ),
    Case(
        "mdf_parquet",
        "MDF 4 signals to Parquet",
        (FILE,),
        (
            Variant("drivelake", "ours", drivelake_parquet),
            Variant("asammdf iter_groups raw", "peer", asammdf_parquet_raw),
            Variant("asammdf iter_groups physical", "peer", asammdf_parquet_physical),
        ),
        (Target("drivelake", "speed", "asammdf iter_groups physical", 4),),
    ),
)
