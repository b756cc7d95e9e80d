"""Which channels of an MDF 4 group become columns. Belongs here: their names, who can read them, what their fields say.

Never here: bytes of records (cells.py, decoding.py), conversions and units of values (physical.py).
"""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from drivelake.logs.arrow import shape_of
from drivelake.logs.mdf.cells import MLSD, TEXTS, VLSD, is_virtual, odd, plain_type
from drivelake.logs.mdf.conversions import readable
from drivelake.logs.mdf.model import Channel, Conversion, Group
from drivelake.logs.mdf.naming import column_names

__all__ = [
    "CONVERSION",
    "Column",
    "columns_of",
    "conversion_json",
    "flat",
    "is_bytes",
    "master_of",
    "metadata_of",
    "parts_of",
    "unread",
]

MASTERS = (2, 3)  # cn_type
LISTS_BY_NUMBER = (1, 2)  # cc_type of conversions that apply to each element of an array
TEXT_KEYED = (9, 10)  # cc_type of conversions that take text
NUMBER_KEYED = frozenset(range(12)).difference(TEXT_KEYED)
CONVERSION = b"conversion"  # key of field metadata: what makes raw values physical, as JSON


class Column(NamedTuple):
    """A channel as a column.

    Attributes:
        name: of the column.
        channel: whose values it holds.
        lengths: the channel with the lengths of its values, for maximum length data.
    """

    name: str
    channel: Channel
    lengths: Channel | None


def flat(channels: Sequence[Channel]) -> Iterator[Channel]:
    """Channels and members of structures, in file order; a structure repeats what its members hold and is left out."""
    for channel in channels:
        if channel.members:
            yield from flat(channel.members)
        else:
            yield channel


def master_of(group: Group) -> Channel | None:
    """The channel with the time of the records; the last one where there are several, as asammdf has it."""
    return next((channel for channel in reversed(list(flat(group.channels))) if channel.kind in MASTERS), None)


def columns_of(group: Group, wanted: Collection[str] | None) -> tuple[Column, ...]:
    """The columns of a group beside its stamps; all of them, or those whose names are asked for."""
    master = master_of(group)
    channels = [channel for channel in flat(group.channels) if channel is not master]
    by_offset = {channel.offset: channel for channel in channels}
    found = []
    for name, channel in zip(column_names(channel.name for channel in channels), channels, strict=True):
        if wanted is None or name in wanted or any(f"{name}{part}" in wanted for part in parts_of(channel)):
            lengths = by_offset.get(channel.data) if channel.kind == MLSD else None
            found.append(Column(name, channel, lengths))
    return tuple(found)


def unread(channel: Channel) -> str:
    """Why a channel cannot be read here, or nothing."""
    if channel.conversion is None and not channel.unread and plain_type(channel) is not None:
        return ""
    if reason := odd(channel) or (readable(channel.conversion) if channel.conversion else ""):
        return reason
    kind = channel.conversion.kind if channel.conversion else 0
    if channel.shape:
        allowed: Collection[int] = {0, *LISTS_BY_NUMBER}
    elif channel.data_type in TEXTS and not is_virtual(channel):
        allowed = {0, *TEXT_KEYED}
    elif is_bytes(channel) or parts_of(channel):
        allowed = {0}
    else:
        allowed = NUMBER_KEYED
    return "" if kind in allowed else f"it is of data type {channel.data_type} and has a conversion of type {kind}"


@lru_cache(maxsize=4096)
def conversion_json(conversion: Conversion | None) -> str:
    """A conversion as JSON: null, or its kind, values, texts and unit. Numbers that JSON does not have are strings."""
    return json.dumps(_plain(conversion), ensure_ascii=False, separators=(",", ":"))


def _plain(part: Conversion | str | None) -> object:
    if not isinstance(part, Conversion):
        return part
    return {
        "kind": part.kind,
        "values": [value if math.isfinite(value) else str(value) for value in part.values],
        "texts": [_plain(text) for text in part.texts],
        "unit": part.unit,
    }


def is_bytes(channel: Channel) -> bool:
    """Whether values are bytes as they are: byte arrays, integers of more than 64 bits, arrays of bytes without meaning."""
    if is_virtual(channel) or channel.data_type in TEXTS:
        return False
    if channel.kind == VLSD:
        return True
    if channel.shape:
        return channel.data_type in {0, 1} and channel.bit_count == 8 and channel.conversion is None
    return channel.data_type in {10, 11, 12} or (channel.data_type in range(4) and channel.bit_count > 64)


def parts_of(channel: Channel) -> tuple[str, ...]:
    """What is added to the name of a channel that takes several columns."""
    if channel.kind == VLSD or is_virtual(channel):
        return ()
    date = (".ms", ".min", ".hour", ".day", ".month", ".year", ".summer_time", ".day_of_week")
    return {13: date, 14: (".ms", ".days"), 15: (".real", ".imag"), 16: (".real", ".imag")}.get(channel.data_type, ())


def metadata_of(channel: Channel) -> dict[str, str]:
    """Raw values have a unit only where they are physical already; arrays of more than one dimension have a shape."""
    return {
        **shape_of(channel.shape),
        "unit": "" if channel.conversion else channel.unit,
        "source_unit": channel.unit,
        CONVERSION.decode(): conversion_json(channel.conversion),
    }
