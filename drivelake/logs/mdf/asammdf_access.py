"""The few calls of asammdf that this room makes, with types, one way of failing, and its traps kept here.

Belongs here: opening, groups, samples and times of a window of records. Never here: tables, names, units, CAN.

`MDF.select` reads whole channels whatever `record_count` says, and `MDF.iter_groups` ends a group silently where a block
does not inflate; only `get` and `get_master` are bounded by the window and raise.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

import numpy as np
from numpy.typing import NDArray

from drivelake.errors import LogDamaged
from drivelake.logs.findings import RESTORE, Findings
from drivelake.logs.mdf.conversions import readable
from drivelake.logs.mdf.model import Conversion

if TYPE_CHECKING:
    from asammdf import MDF

__all__ = [
    "Channel",
    "Group",
    "asammdf_errors",
    "check_record",
    "formula_of",
    "groups_of",
    "opened",
    "read_samples",
    "read_seconds",
    "start_ns",
    "text_encoding",
]

LOCAL_TIME = 1  # hd_time_flags
FORMULA_4 = 3  # cc_type
REFUSED = "? more than arithmetic"  # no expression of Python, sympy or numexpr
VIRTUAL = (3, 6)  # cn_type: master and value that stand in no record
NS_PER_S = 1_000_000_000
NS_MAX = (1 << 63) - 1

# cn_data_type of MDF 4; before, text is Latin-1. Text made by a conversion is UTF-8 in MDF 4.
ENCODINGS = {6: "latin-1", 7: "utf-8", 8: "utf-16-le", 9: "utf-16-be"}
# cc_type of conversions that give text: MDF 4 value, range, text and bit field to text; MDF 3 value and range to text
TEXT_CONVERSIONS = {"4": (7, 8, 10, 11), "3": (11, 12), "2": (11, 12)}
FORMULA = {"4": 3, "3": 10, "2": 10}

# What asammdf 8.8.28 raises on damaged or unusual files, found by reading its `raise` statements and by flipping bits.
# Beside its own MdfException and zstd.Error, which derive from Exception alone and join these in `asammdf_errors`:
# ValueError (numpy shapes and buffers, text encodings), LookupError (links to blocks that are not there), TypeError and
# AttributeError (a block of another kind than expected), struct.error and zlib.error (short or broken bytes),
# ArithmeticError (sizes and dates out of range), RuntimeError (its invariants; RecursionError is one), AssertionError,
# MemoryError (a length that cannot be), SystemError (its C extension returns a value and sets an exception).
# Not OSError: a disk that fails is no damage of the log.
FAMILIES = (
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    struct.error,
    zlib.error,
    ArithmeticError,
    RuntimeError,
    AssertionError,
    MemoryError,
    SystemError,
)


class _Conversion(Protocol):
    conversion_type: int
    formula: str


class Channel(Protocol):
    """What MDF 3 and MDF 4 channels have in common here."""

    name: str
    channel_type: int
    data_type: int
    bit_count: int
    conversion: _Conversion | None


class _ChannelGroup(Protocol):
    cycles_nr: int
    samples_byte_nr: int


class _DataBlock(Protocol):
    original_size: int


class Group(Protocol):
    """What MDF 3 and MDF 4 groups have in common here."""

    channels: Sequence[Channel]
    channel_group: _ChannelGroup
    data_blocks: Sequence[_DataBlock]


@contextmanager
def asammdf_errors(what: str) -> Iterator[None]:
    """Turns what asammdf raises on damage into :class:`LogDamaged`, with its class and text."""
    import zstd  # type: ignore[import-untyped]  # it has no types
    from asammdf.blocks.utils import MdfException

    try:
        yield
    except (MdfException, zstd.Error, *FAMILIES) as error:
        raise LogDamaged(f"asammdf cannot read {what}: {type(error).__name__}: {error}", next_step=RESTORE) from error


@contextmanager
def opened(path: Path) -> Iterator[MDF]:
    """The file, open.

    Raises:
        LogDamaged: asammdf cannot open it.
    """
    from asammdf import MDF

    with asammdf_errors("the file"):
        # its own pass over the frames holds all ids of a file; asammdf takes the argument, its types do not name it
        mdf = MDF(path, process_bus_logging=False)  # type: ignore[call-arg]
    for group in groups_of(mdf):
        for channel in group.channels:
            _disarm(channel.conversion, int(FORMULA[mdf.version[0]]))
    try:
        yield mdf
    finally:
        mdf.close()


def _disarm(conversion: object, formula_type: int) -> None:
    """Take formulas away that are more than arithmetic, also those of nested conversions: asammdf would run them as Python.

    What stands in makes asammdf raise. So whoever asks for such a channel, nothing of the file is ever executed.
    """
    if getattr(conversion, "conversion_type", None) == formula_type and readable(
        Conversion(FORMULA_4, (), (getattr(conversion, "formula", ""),), "")
    ):
        setattr(conversion, "formula", REFUSED)  # noqa: B010  # of a library without types
    for nested in getattr(conversion, "referenced_blocks", {}).values():
        _disarm(nested, formula_type)


def groups_of(mdf: MDF) -> Sequence[Group]:
    """Groups in file order."""
    return cast("Sequence[Group]", mdf.groups)


def check_record(group: Group, index: int) -> None:
    """Records must be there, and channels inside them: asammdf's C code reads where it is told to, without looking.

    Raises:
        LogDamaged: fewer bytes of data than the records need, or a channel reaches beyond the record.
    """
    records, size = group.channel_group.cycles_nr, group.channel_group.samples_byte_nr
    if (held := sum(block.original_size for block in group.data_blocks)) < records * size:
        raise LogDamaged(
            f"Group {index} promises {records} records of {size} bytes, its data blocks hold {held} bytes.", next_step=RESTORE
        )
    record_bits = 8 * size
    for channel in group.channels:
        modern = hasattr(channel, "byte_offset")
        if modern and channel.channel_type in VIRTUAL:
            continue
        at = (
            8 * getattr(channel, "byte_offset", 0) + getattr(channel, "bit_offset", 0)
            if modern
            else getattr(channel, "start_offset", 0) + 8 * getattr(channel, "additional_byte_offset", 0)
        )
        if at + channel.bit_count > record_bits:
            raise LogDamaged(
                f"Channel {channel.name!r} of group {index} takes the bits {at} to {at + channel.bit_count}"
                f" of a record of {record_bits}.",
                next_step=RESTORE,
            )


def start_ns(mdf: MDF, findings: Findings) -> int:
    """Start of the measurement, UTC ns: ``abs_time`` where the header has one, else its date and time.

    Raises:
        LogDamaged: it does not fit into int64.
    """
    header: object = mdf.header
    if getattr(header, "time_flags", 0) & LOCAL_TIME:
        findings.note("The start time is local time of an unknown zone; it was taken as UTC.")
    stamp = int(getattr(header, "abs_time", 0))
    if not stamp:
        start: datetime = mdf.header.start_time
        stamp = int(start.timestamp()) * NS_PER_S + start.microsecond * 1000
    if abs(stamp) > NS_MAX:
        raise LogDamaged(f"The measurement starts {stamp} ns from 1970, expected at most {NS_MAX}.", next_step=RESTORE)
    return stamp


def text_encoding(mdf: MDF, channel: Channel) -> str | None:
    """How the text of a channel is encoded; None for a channel of numbers or bytes."""
    modern = mdf.version >= "4"
    conversion = channel.conversion
    if conversion is not None and conversion.conversion_type in TEXT_CONVERSIONS[mdf.version[0]]:
        return "utf-8" if modern else "latin-1"
    return ENCODINGS.get(channel.data_type) if modern else None


def formula_of(mdf: MDF, channel: Channel) -> str:
    """The formula of a channel's conversion, or nothing."""
    conversion = channel.conversion
    if conversion is None or conversion.conversion_type != FORMULA[mdf.version[0]]:
        return ""
    return conversion.formula


def read_samples(
    mdf: MDF, group: int, index: int, offset: int, count: int, *, raw: bool = False
) -> tuple[NDArray[np.generic], NDArray[np.bool_] | None]:
    """Physical or raw samples of a channel, and which of them are invalid.

    Raises:
        LogDamaged: asammdf cannot read them, or gives fewer than ``count``.
    """
    name = groups_of(mdf)[group].channels[index].name
    with asammdf_errors(f"channel {name!r} of group {group}"):
        found = mdf.get(
            group=group,
            index=index,
            samples_only=True,
            raw=raw,
            ignore_invalidation_bits=True,
            record_offset=offset,
            record_count=count,
        )
    samples, invalid = cast("tuple[NDArray[np.generic], NDArray[np.bool_] | None]", found)
    if len(samples) != count:
        raise LogDamaged(
            f"Channel {name!r} of group {group} has {len(samples)} samples at record {offset}, its master {count}.",
            next_step=RESTORE,
        )
    return samples, None if invalid is None else np.asarray(invalid, bool)


def read_seconds(mdf: MDF, group: int, offset: int, count: int) -> NDArray[np.float64]:
    """Time since the start of the measurement, of at most ``count`` records.

    Raises:
        LogDamaged: asammdf cannot read it.
    """
    with asammdf_errors(f"the time of group {group}"):
        return np.asarray(mdf.get_master(group, record_offset=offset, record_count=count), np.float64)
