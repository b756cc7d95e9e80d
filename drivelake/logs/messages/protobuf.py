"""Protobuf messages as tables. Belongs here: payload, sensor stamp, and which messages are read in which way.

Never here: descriptors, the wire format, values.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, cast

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.logs.arrow import AnyArray, numbers
from drivelake.logs.findings import Findings
from drivelake.logs.messages.block import Channel
from drivelake.logs.messages.interfaces import payload_field, stamp_field
from drivelake.logs.messages.pending import Held
from drivelake.logs.messages.proto_bytes import Odd, Spans, columns_of_bytes
from drivelake.logs.messages.proto_cut import WireCut
from drivelake.logs.messages.proto_members import compile_members, fields_of, read_descriptor
from drivelake.logs.messages.proto_objects import columns_of_messages
from drivelake.logs.messages.rows import COLUMNS_MAX, Table, int64_values, no_stamps
from drivelake.logs.messages.serial import Faulty

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["ProtobufTable"]


class ProtobufTable(Table):
    """Messages whose fields become columns, one a scalar, dotted by nesting; repeated fields become lists.

    Args:
        channel: with encoding ``protobuf``.
        findings: told every message that is no message of this type.

    Raises:
        UnsupportedLog: the schema cannot be used, or the message contains itself.
    """

    def __init__(self, channel: Channel, findings: Findings) -> None:
        from google.protobuf.message_factory import GetMessageClass

        descriptor = read_descriptor(channel)
        members = compile_members(channel.name, descriptor)
        single = {(member.name, member.code): member for member in members if member.shape == "one"}
        payload = single.get((payload_field(descriptor.full_name), "bytes"))
        self._stamp = single.get((stamp_field(descriptor.full_name), "stamp"))
        described = tuple(member for member in members if member not in (payload, self._stamp))
        fields = list(islice(fields_of(described, "", nullable=False), COLUMNS_MAX + 1))
        super().__init__(channel, fields, findings, WireCut(payload.number) if payload else None)
        # the stamp first, so that it can be told from the columns
        self._members = (self._stamp, *described) if self._stamp else described
        self._plain = all(member.plain for member in members)
        self._parse = cast("Callable[[bytes], Message]", GetMessageClass(descriptor).FromString)

    def _decode(self, held: Held, rows: NDArray[np.int64]) -> tuple[AnyArray, list[AnyArray]]:
        columns = self._columns(held, rows)
        if self._stamp is None:
            return no_stamps(len(rows)), columns
        # a stamp that is not set counts as zero
        values = int64_values(columns[0])
        return numbers(values, values == 0), columns[1:]

    def _columns(self, held: Held, rows: NDArray[np.int64]) -> list[AnyArray]:
        """Most messages from their bytes, odd ones by way of google.protobuf."""
        odd = np.empty(0, np.int64) if self._plain else rows
        even = rows if self._plain else odd[:0]
        while len(even):
            starts = held.starts[even]
            try:
                columns = list(columns_of_bytes(self._members, Spans(held.data, starts, starts + held.lengths[even], even)))
                break
            except Odd as found:
                odd = np.union1d(odd, found.rows)
                even = np.setdiff1d(even, found.rows)
        if not len(odd) and len(even):
            return columns
        others = list(columns_of_messages(self._members, self._parsed(held, odd), odd, None))
        if not len(even):
            return others
        order = cast("pa.Int64Array", numbers(np.argsort(np.concatenate([even, odd]), kind="stable")))
        return [pa.concat_arrays(pair).take(order) for pair in zip(columns, others, strict=True)]

    def _parsed(self, held: Held, rows: NDArray[np.int64]) -> list[Message]:
        from google.protobuf.message import DecodeError

        messages = []
        wrong: dict[int, str] = {}
        for row, start, length in zip(rows.tolist(), held.starts[rows].tolist(), held.lengths[rows].tolist(), strict=True):
            try:
                message = self._parse(held.data[start : start + length].tobytes())
            except DecodeError:
                wrong[row] = "its bytes are no such message"
                continue
            if not message.IsInitialized():
                wrong[row] = "a required field is not set"
            messages.append(message)
        if wrong:
            raise Faulty(np.array(list(wrong), np.int64), list(wrong.values()))
        return messages
