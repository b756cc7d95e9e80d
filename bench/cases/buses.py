"""Bus logging: CAN frames in MDF 4, decoded with a DBC. Belongs here: those cases. Never here: measured signals (mdf).

Imports and what is loaded late are outside of the measured part, on both sides: every variant has read a tiny input before.
Nothing here is compiled at run time: the compiled walk is for unsorted streams of 768 MiB and more.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from bench.case import Case, Counts, Target, Variant
from bench.limits import inflate

__all__ = ["CASES"]

Inputs = Mapping[str, Path]
DATABASE = "can.dbc"


def _log(inputs: Inputs) -> Path:
    return next(path for name, path in inputs.items() if name != DATABASE)


def drivelake(inputs: Inputs) -> Counts:
    """Every signal of every frame, in SI units."""
    from drivelake.logs import Leftovers, read_log

    frames, values, leftovers = 0, 0, Leftovers()
    for found in read_log(_log(inputs), databases=[inputs[DATABASE]], leftovers=leftovers):
        frames += found.batch.num_rows
        values += found.batch.num_rows * (found.batch.num_columns - 1)
    return {"frames": frames, "values": values}


def asammdf_extract(inputs: Inputs) -> Counts:
    """Raw values in memory."""
    from asammdf import MDF

    with MDF(_log(inputs)) as log, log.extract_bus_logging({"CAN": [(inputs[DATABASE], 0)]}) as found:
        counts = [(group.channel_group.cycles_nr, len(group.channels) - 1) for group in found.groups]
        return {"frames": sum(rows for rows, _ in counts), "values": sum(rows * columns for rows, columns in counts)}


def asammdf_physical(inputs: Inputs) -> Counts:
    """The same, and every signal converted."""
    from asammdf import MDF

    with MDF(_log(inputs)) as log, log.extract_bus_logging({"CAN": [(inputs[DATABASE], 0)]}) as found:
        values = 0
        for number, group in enumerate(found.groups):
            wanted = [(None, number, place) for place in range(1, len(group.channels))]
            values += sum(len(signal) for signal in found.select(wanted, copy_master=False))
        return {"values": values}


def cantools(inputs: Inputs) -> Counts:
    """Frame by frame."""
    from asammdf import MDF
    from cantools.database import load_file

    database = load_file(inputs[DATABASE])
    with MDF(_log(inputs)) as log:
        ids = log.get("CAN_DataFrame.ID", samples_only=True)[0].tolist()
        lengths = log.get("CAN_DataFrame.DataLength", samples_only=True)[0].tolist()
        payloads = log.get("CAN_DataFrame.DataBytes", samples_only=True)[0]
        values = 0
        for frame_id, length, payload in zip(ids, lengths, payloads, strict=True):
            values += len(database.decode_message(frame_id, payload.tobytes()[:length], decode_choices=False))
        return {"frames": len(ids), "values": values}


def limit(inputs: Inputs) -> Counts:
    """What every reader has to do at least."""
    return inflate(_log(inputs))


CASES = (
    Case(
        "can",
        "CAN frames (sorted, transposed DZ) decoded with a DBC",
        ("can.mf4", DATABASE),
        (
            Variant("drivelake", "ours", drivelake),
            Variant("inflating the blocks", "limit", limit),
            Variant("asammdf extract_bus_logging", "peer", asammdf_extract),
            Variant("asammdf extract, physical", "peer", asammdf_physical),
        ),
        (Target("drivelake", "speed", "asammdf extract_bus_logging", 5),),
    ),
    Case(
        "can_unsorted",
        "CAN FD frames (unsorted, variable length) decoded with a DBC",
        ("can_unsorted.mf4", DATABASE),
        (
            Variant("drivelake", "ours", drivelake),
            Variant("inflating the blocks", "limit", limit),
            Variant("asammdf extract_bus_logging", "peer", asammdf_extract),
            Variant("cantools", "peer", cantools),
        ),
        (Target("drivelake", "speed", "asammdf extract_bus_logging", 5),),
    ),
)
