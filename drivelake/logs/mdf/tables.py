"""The tables of an MDF 4 file, planned before a record is read. Belongs here: which groups are tables, who can read them.

Never here: reading, frames, asammdf.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from drivelake.logs.findings import Findings
from drivelake.logs.mdf.blocks import CYCLES_UNKNOWN
from drivelake.logs.mdf.cells import VLSD, is_virtual
from drivelake.logs.mdf.columns import Column, columns_of, flat, master_of, unread
from drivelake.logs.mdf.conversions import readable
from drivelake.logs.mdf.decoding import GroupColumns
from drivelake.logs.mdf.model import Channel, Conversion, DataGroup, Group, Mdf
from drivelake.logs.mdf.naming import table_names
from drivelake.logs.report import Leftovers

__all__ = ["FRAME_MEMBERS", "Table", "formula_unknown", "frame_kind", "plan"]

VLSD_GROUP, BUS_EVENT = 1, 2  # cg_flags
TIME = 1  # cn_sync_type
OFFSETS_UNKNOWN = 1 << 6  # id_unfin_flags: offsets into VLSD groups were never written
FORMULA = 3  # cc_type
REAL_TYPES, BYTES_TYPE = range(6), 10  # cn_data_type: integers and floats; bytes

# Bus logging, ASAM MDF 4.1 associated standard: structures of data frames, and the type of their tables
FRAMES = {"CAN_DataFrame": "can.frames", "LIN_Frame": "lin.frames"}
FRAME_MEMBERS = ("BusChannel", "ID", "IDE", "DLC", "DataLength", "DataBytes")


@dataclass(frozen=True)
class Table:
    """A group as a table.

    Attributes:
        name: of the table.
        type: ``mdf.group``, ``can.frames`` or ``lin.frames``.
        group: whose records.
        data_group: that it stands in.
        records: as the file promises; None in an unfinalised file.
        columns: how to read it; None if it is left to asammdf.
        fallback: why it is left to asammdf, or nothing.
        left_out: names of columns that nobody can read.
    """

    name: str
    type: str
    group: Group
    data_group: DataGroup
    records: int | None
    columns: GroupColumns | None
    fallback: str
    left_out: frozenset[str]

    @property
    def record_bytes(self) -> int:
        """Of one record with its invalidation bytes, without its id."""
        return self.group.record_bytes + self.group.invalid_bytes

    @property
    def is_bus(self) -> bool:
        """Whether its records are data frames of a bus."""
        return self.type in FRAMES.values()


def plan(
    mdf: Mdf,
    findings: Findings,
    leftovers: Leftovers | None,
    *,
    stamps_only: bool = False,
    columns: Collection[str] | None = None,
) -> list[Table]:
    """The groups that become tables, in file order.

    Args:
        mdf: the metadata.
        findings: takes notes on groups that have no table, and on channels that nobody can read.
        leftovers: takes the reason by name of tables that cannot be.
        stamps_only: plan no column beside the stamps but those that can cost a row.
        columns: names of columns, of the tables that are no bus frames; all of them if None.
    """
    groups = [(data_group, group) for data_group in mdf.data_groups for group in data_group.groups]
    acquired = [""] * (max((group.index for _, group in groups), default=-1) + 1)
    for _, group in groups:
        acquired[group.index] = group.name
    names = table_names(acquired)
    tables = []
    for data_group, group in groups:
        if group.flags & VLSD_GROUP or not group.channels:
            continue
        name = names[group.index]
        if reason := _no_table(mdf, data_group, group):
            findings.note(f"Group {group.index} ({name!r}) has no table: {reason}.")
            if leftovers is not None:
                leftovers.unsupported[name] = reason
            continue
        kind = frame_kind(group)
        chosen = _frame_columns(group) if kind in FRAMES.values() else columns_of(group, None if stamps_only else columns)
        if stamps_only:
            # a record whose value is missing is no row
            chosen = tuple(column for column in chosen if column.channel.kind == VLSD)
        tables.append(_table(mdf, data_group, group, name, kind, chosen, findings))
    return tables


def frame_kind(group: Group) -> str:
    """The type of table that a group becomes."""
    types = {channel.name: channel.data_type for channel in flat(group.channels)}
    for frame, kind in FRAMES.items():
        if group.flags & BUS_EVENT and types.get(f"{frame}.ID") in REAL_TYPES and types.get(f"{frame}.DataBytes") == BYTES_TYPE:
            return kind
    return "mdf.group"


def formula_unknown(conversion: Conversion | None) -> bool:
    """Whether a conversion has a formula that is not read here, and that asammdf would hand to `eval`."""
    if conversion is None:
        return False
    if conversion.kind == FORMULA:
        return bool(readable(conversion))
    return any(formula_unknown(text) for text in conversion.texts if isinstance(text, Conversion))


def _no_table(mdf: Mdf, data_group: DataGroup, group: Group) -> str:
    """Why a group has no table, or nothing."""
    master = master_of(group)
    if master is None:
        return "" if data_group.unread else "it has no master channel, so its records have no time"
    if reason := _no_time(master):
        return reason
    if not group.record_bytes + group.invalid_bytes:
        return "its records have no bytes"
    varies = any(channel.kind == VLSD for channel in flat(group.channels))
    if varies and data_group.id_bytes and mdf.unfinalised & OFFSETS_UNKNOWN:
        return "the places of its values were never written"
    return ""


def _no_time(master: Channel) -> str:
    """Why a master channel gives no time, or nothing."""
    if master.sync != TIME:
        return f"its master is of synchronisation type {master.sync}, only time ({TIME}) is read"
    if not is_virtual(master) and master.data_type not in REAL_TYPES:
        return f"its time is of data type {master.data_type}, expected a number"
    if formula_unknown(master.conversion):
        return f"its time has {readable(master.conversion)}"
    return ""


def _frame_columns(group: Group) -> tuple[Column, ...]:
    """The members of a frame that say what was on the bus."""
    return tuple(
        column for column in columns_of(group, None) if "." in column.name and column.name.rsplit(".", 1)[1] in FRAME_MEMBERS
    )


def _table(
    mdf: Mdf,
    data_group: DataGroup,
    group: Group,
    name: str,
    kind: str,
    chosen: tuple[Column, ...],
    findings: Findings,
) -> Table:
    unknown = frozenset(column.name for column in chosen if formula_unknown(column.channel.conversion))
    for column in chosen:
        if column.name in unknown:
            findings.note(
                f"Channel {column.name!r} of group {group.index} is left out: it has {readable(column.channel.conversion)}."
            )
    kept = tuple(column for column in chosen if column.name not in unknown)
    kept = tuple(column for column in kept if not _without_values(column.channel, data_group, group, findings))
    if any(column.name.endswith((".ID", ".DataBytes")) for column in chosen if column not in kept):
        kind = "mdf.group"
    master = master_of(group)
    fallback = data_group.unread or next(_reasons(master, kept), "")
    records = None if mdf.unfinalised & CYCLES_UNKNOWN else group.cycles
    reader = None
    if not fallback:
        assert master is not None
        reader = GroupColumns(group, master, kept, mdf.start_ns, records or 0)
    return Table(name, kind, group, data_group, records, reader, fallback, unknown)


def _reasons(master: Channel | None, columns: tuple[Column, ...]) -> Iterator[str]:
    """Why channels cannot be read here."""
    for channel in (master, *(part for column in columns for part in (column.channel, column.lengths))):
        if channel is not None and (reason := unread(channel)):
            yield f"channel {channel.name!r}: {reason}"


def _without_values(channel: Channel, data_group: DataGroup, group: Group, findings: Findings) -> bool:
    """Whether a channel of values of varying length says nowhere where they are, which is told."""
    if is_virtual(channel) or channel.kind != VLSD or data_group.unread or not group.cycles:
        return False
    targets = {other.offset for other in data_group.groups if other.flags & VLSD_GROUP}
    if channel.data and (not data_group.id_bytes or channel.data in targets):
        return False
    findings.damaged(
        f"Channel {channel.name!r} of group {group.index} says that its values are at offset {channel.data}, where none are."
    )
    return True
