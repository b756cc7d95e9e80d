"""CAN frames in MDF bus logging groups. Belongs here: frames as a table, and messages decoded by databases.

Never here: other buses, where the groups stand, what a signal means.

cantools decodes, since asammdf 8.8.28 loses the sign of some 8-bit signals (24 of 34 in our comparison). Bus logging:
ASAM MDF 4.1 "Bus Logging" associated standard; CAN_DataFrame and its members.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.errors import InputError
from drivelake.logs.mdf.asammdf_access import Channel, groups_of, read_samples
from drivelake.logs.mdf.asammdf_columns import T_NS, AnyArray, AnyField, unit_field
from drivelake.logs.report import LogBatch
from drivelake.logs.units import to_si

if TYPE_CHECKING:
    from asammdf import MDF
    from cantools.database.can import Message, Signal

__all__ = ["CanFrames", "CanTables"]

FRAME = "CAN_DataFrame"
FRAME_FIELDS: tuple[AnyField, ...] = (
    T_NS,
    pa.field("bus", pa.uint8(), nullable=False),
    pa.field("id", pa.uint32(), nullable=False),
    pa.field("extended", pa.bool_(), nullable=False),
    pa.field("dlc", pa.uint8(), nullable=False),
    pa.field("data", pa.binary(), nullable=False),
)
ID_MASK, EXTENDED_BIT = 0x1FFF_FFFF, 1 << 31


class CanFrames:
    """Reads the data frames of one group."""

    def __init__(self, mdf: MDF, group: int) -> None:
        self._mdf = mdf
        self._group = group
        self._members = {
            channel.name.rsplit(".", 1)[-1]: index
            for index, channel in enumerate(groups_of(mdf)[group].channels)
            if channel.name.startswith(f"{FRAME}.")
        }

    @staticmethod
    def matches(channels: Iterable[Channel]) -> bool:
        """Whether a bus logging group holds CAN data frames."""
        names = {channel.name for channel in channels}
        return {f"{FRAME}.ID", f"{FRAME}.DataBytes"} <= names

    def read(self, offset: int, t_ns: NDArray[np.int64]) -> pa.RecordBatch:
        """The records from ``offset`` on whose receive stamps are given."""
        count = len(t_ns)
        bus, ids, extended = self._keys(offset, count)
        dlc = self._member("DLC", offset, count)
        data = self._member("DataBytes", offset, count)
        lengths = self._member("DataLength", offset, count) if "DataLength" in self._members else dlc
        payloads = [row.tobytes()[:length] for row, length in zip(data, lengths.tolist(), strict=True)]
        arrays: list[AnyArray] = [
            pa.array(t_ns),
            pa.array(bus),
            pa.array(ids),
            pa.array(extended),
            pa.array(dlc.astype(np.uint8)),
            pa.array(payloads, pa.binary()),
        ]
        return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(FRAME_FIELDS))

    def ids(self, offset: int, count: int) -> Counter[tuple[int, int, bool]]:
        """Number of frames by (bus, id, extended)."""
        columns = self._keys(offset, count)
        return Counter(zip(*(column.tolist() for column in columns), strict=True))

    def _keys(self, offset: int, count: int) -> tuple[NDArray[np.uint8], NDArray[np.uint32], NDArray[np.bool_]]:
        raw = self._member("ID", offset, count).astype(np.uint32)
        marked = self._member("IDE", offset, count).astype(bool) if "IDE" in self._members else np.zeros(count, bool)
        bus = self._member("BusChannel", offset, count) if "BusChannel" in self._members else np.zeros(count)
        return bus.astype(np.uint8), raw & np.uint32(ID_MASK), marked | (raw & np.uint32(EXTENDED_BIT)).astype(bool)

    def _member(self, name: str, offset: int, count: int) -> NDArray[np.generic]:
        samples, _ = read_samples(self._mdf, self._group, self._members[name], offset, count)
        return samples


class CanTables:
    """Messages on their way into record batches, one table a message.

    A message that comes on several buses is a table a bus, ``NAME@bus1``: two senders never share a table.

    Args:
        databases: DBC files.
        ids: frames of the log by (bus, id, extended).
        taken: names of other tables of the log; a message of that name becomes ``NAME#2``.
        wanted: asked for every table whether it is to be filled.

    Attributes:
        undecoded: frames that no table holds, by (bus, ``0x`` id, reason).

    Raises:
        InputError: a database that cannot be read, or two that disagree about an id.
    """

    def __init__(
        self, databases: Sequence[Path], ids: Mapping[tuple[int, int, bool], int], taken: set[str], wanted: Callable[[str], bool]
    ) -> None:
        messages = _messages(databases)
        buses = Counter((number, extended) for _, number, extended in ids)
        self.undecoded: Counter[tuple[int, str, str]] = Counter()
        self._tables: dict[tuple[int, int, bool], _MessageRows] = {}
        for bus, number, extended in sorted(ids):
            if (message := messages.get((number, extended))) is None:
                self.undecoded[bus, f"0x{number:x}", "unknown id"] += ids[bus, number, extended]
                continue
            name = message.name if message.name not in taken else f"{message.name}#2"
            if buses[number, extended] > 1:
                name = f"{name}@bus{bus}"
            self._tables[bus, number, extended] = _MessageRows(name, message, wanted=wanted(name))

    def add(self, frames: pa.RecordBatch, batch_rows: int) -> Iterator[LogBatch]:
        """Decode frames; gives the batches that became full."""
        from cantools.database.errors import DecodeError

        for t_ns, bus, number, extended, _, data in zip(*(column.to_pylist() for column in frames.columns), strict=True):
            table = self._tables.get((bus, number, extended))
            if table is None or not table.wanted:
                continue
            try:
                table.add(t_ns, data)
            except DecodeError as error:
                self.undecoded[bus, f"0x{number:x}", f"{table.name}: {error}"] += 1
                continue
            if len(table) >= batch_rows:
                yield LogBatch(table.name, "can.message", table.take())

    def rest(self) -> Iterator[LogBatch]:
        """The batches that did not become full; an empty one for a message of which no frame could be decoded."""
        for _, table in sorted(self._tables.items()):
            if table.wanted and (len(table) or not table.given):
                yield LogBatch(table.name, "can.message", table.take(), last=True)


class _MessageRows:
    """Decoded frames of one message on one bus."""

    def __init__(self, name: str, message: Message, *, wanted: bool) -> None:
        self.name = name
        self.wanted = wanted
        self.given = False
        self._message = message
        self._si = [to_si(signal.unit or "") for signal in message.signals]
        self._schema = pa.schema(
            [
                T_NS,
                *(
                    unit_field(signal.name, _signal_type(signal, converted=si.changes), si.unit, signal.unit or "")
                    for signal, si in zip(message.signals, self._si, strict=True)
                ),
            ]
        )
        self._stamps: list[int] = []
        self._values: list[Mapping[str, float]] = []

    def __len__(self) -> int:
        return len(self._stamps)

    def add(self, t_ns: int, data: bytes) -> None:
        self._values.append(cast("Mapping[str, float]", self._message.decode(data, decode_choices=False)))
        self._stamps.append(t_ns)

    def take(self) -> pa.RecordBatch:
        """The rows so far, which are forgotten here; a multiplexed signal that a frame does not carry is null."""
        arrays: list[AnyArray] = [pa.array(self._stamps, pa.int64())]
        for signal, si, column in zip(self._message.signals, self._si, list(self._schema)[1:], strict=True):
            values = [row.get(signal.name) for row in self._values]
            if si.changes:
                values = [None if value is None else value * si.factor + si.offset for value in values]
            arrays.append(pa.array(values, column.type))
        self._stamps, self._values, self.given = [], [], True
        return pa.RecordBatch.from_arrays(arrays, schema=self._schema)


def _signal_type(signal: Signal, *, converted: bool) -> pa.DataType:
    """Integers stay integers while neither scaling nor unit makes them fractions."""
    whole = not signal.is_float and float(signal.scale).is_integer() and float(signal.offset).is_integer()
    if converted or not whole or (signal.scale, signal.offset) != (1, 0):
        return pa.float64()
    return pa.int64() if signal.is_signed or signal.length < 64 else pa.uint64()


def _messages(databases: Sequence[Path]) -> dict[tuple[int, bool], Message]:
    """Messages of all databases by (id, extended)."""
    import cantools
    from cantools.database.errors import Error, UnsupportedDatabaseFormatError

    found: dict[tuple[int, bool], tuple[Path, Message]] = {}
    for path in databases:
        try:
            database = cantools.database.load_file(path, strict=False)
        except (UnsupportedDatabaseFormatError, Error, ValueError) as error:
            raise InputError(
                f"The CAN database {path.name} cannot be read: {error}", next_step="correct it, or leave it out"
            ) from None
        for message in getattr(database, "messages", ()):
            key = (message.frame_id, message.is_extended_frame)
            where, known = found.setdefault(key, (path, message))
            if known.name != message.name:
                raise InputError(
                    f"CAN id 0x{message.frame_id:x} is {known.name!r} in {where.name} and {message.name!r} in {path.name}.",
                    next_step="give the databases of this drive only",
                )
    return {key: message for key, (_, message) in found.items()}
