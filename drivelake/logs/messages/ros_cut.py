"""Payloads of ROS messages found and cut out, message by message. Belongs here: the way to the payload, encapsulation.

Never here: values, columns.
"""

from __future__ import annotations

import struct

from drivelake.errors import UnsupportedLog
from drivelake.logs.messages.layout import List, Order, Payload, Run, Scalar, Step, Text, list_span
from drivelake.logs.messages.pending import Cut
from drivelake.logs.messages.rows import Contradiction, unsupported

__all__ = ["CDR_HEAD_BYTES", "ORDERS", "OTHER_ENCAPSULATIONS", "RosCut", "other_encapsulation"]

CDR_HEAD_BYTES = 4
ORDERS: dict[int, Order] = {0: ">", 1: "<"}
# DDS-XTYPES 1.3, table 60
OTHER_ENCAPSULATIONS = {
    2: "PL_CDR",
    3: "PL_CDR",
    6: "XCDR2",
    7: "XCDR2",
    8: "XCDR2, delimited",
    9: "XCDR2, delimited",
    10: "XCDR2, parameter list",
    11: "XCDR2, parameter list",
}
COUNT = {"<": struct.Struct("<I").unpack_from, ">": struct.Struct(">I").unpack_from}


def other_encapsulation(channel: str, found: int) -> UnsupportedLog:
    """The error for messages in an encapsulation that is sound and not read."""
    return unsupported(
        channel, f"a message has CDR encapsulation {found} ({OTHER_ENCAPSULATIONS[found]}), only plain CDR (0 and 1) is read"
    )


class RosCut:
    """Cuts the payload out of a message, all but the last ``length % 8`` bytes, so that what follows keeps its alignment.

    Args:
        channel: its name, for errors.
        steps: that read the whole message.
        aligned: CDR; otherwise ROS 1.
        strict: an encapsulation that is sound and not read is no damage but unsupported.
    """

    def __init__(self, channel: str, steps: tuple[Step, ...], *, aligned: bool, strict: bool) -> None:
        self._channel = channel
        self._steps = steps[: steps.index(Payload())]
        self._aligned = aligned
        self._head = CDR_HEAD_BYTES if aligned else 0
        self._strict = strict
        # of the last message that was walked: its byte order, the lengths in it, and where that of its payload stands
        self._known = ""
        self._words: list[tuple[int, int]] = []
        self._place = 0

    def __call__(self, message: memoryview) -> Cut:
        """The message without its payload.

        Raises:
            Contradiction: it ends before the end of its payload.
            UnsupportedLog: an encapsulation that is not read, where that is told at once.
        """
        order, end = self._order(message), len(message)
        if not self._is_known(message, order):
            self._walk(message, order)
        start = self._place + 4
        if start > end:
            raise Contradiction(f"it ends after {end} bytes, inside of what describes its payload")
        (size,) = COUNT[order](message, self._place)
        behind = start + size
        if behind > end:
            raise Contradiction(f"it ends after {end} bytes, its payload would reach to {behind}")
        return Cut(bytes(message[: start + size % 8]) + bytes(message[behind:]), start, size)

    def _is_known(self, message: memoryview, order: Order) -> bool:
        """Whether a message has the same lengths at the same places as the last one that was walked."""
        if order != self._known or len(message) < self._place:
            return False
        count = COUNT[order]
        for at, word in self._words:  # noqa: SIM110  (twice as fast as a generator, and once a picture)
            if count(message, at)[0] != word:
                return False
        return True

    def _walk(self, message: memoryview, order: Order) -> None:
        """Find where the length of the payload stands, and the lengths that lead there, which most messages share."""
        self._known, self._words = "", []
        try:
            position = self._skip(self._steps, message, order, 0)
        except struct.error as error:
            raise Contradiction(f"it ends after {len(message)} bytes, inside of what describes its payload ({error})") from None
        self._known, self._place = order, self._head + position + (-position & 3 if self._aligned else 0)

    def _count(self, message: memoryview, order: Order, position: int) -> int:
        at = self._head + position
        (count,) = COUNT[order](message, at)
        self._words.append((at, count))
        return int(count)

    def _order(self, message: memoryview) -> Order:
        if not self._aligned:
            return "<"
        if len(message) < CDR_HEAD_BYTES:
            raise Contradiction(f"it has {len(message)} bytes, the encapsulation header alone needs {CDR_HEAD_BYTES}")
        kind = message[0] << 8 | message[1]
        if self._strict and kind in OTHER_ENCAPSULATIONS:
            raise other_encapsulation(self._channel, kind)
        if kind not in ORDERS:
            raise Contradiction(f"it has CDR encapsulation {kind}, expected 0 or 1")
        return ORDERS[kind]

    def _skip(self, steps: tuple[Step, ...], message: memoryview, order: Order, position: int) -> int:
        for step in steps:
            if isinstance(step, Run):
                position += step.layout(position & 7, order).itemsize
            elif isinstance(step, Text):
                position += -position & 3 if self._aligned else 0
                position += 4 + self._count(message, order, position) * (4 if step.wide else 1)
            elif isinstance(step, List):
                position = self._skip_list(step, message, order, position)
        return position

    def _skip_list(self, step: List, message: memoryview, order: Order, position: int) -> int:
        count = step.count
        if count is None:
            position += -position & 3 if self._aligned else 0
            count = self._count(message, order, position)
            position += 4
        if count * step.bytes_min > len(message):
            raise Contradiction(f"it ends after {len(message)} bytes, a field needs {count * step.bytes_min}")
        if isinstance(step.item, Scalar):
            position += -position % step.item.size if self._aligned and count else 0
            return position + count * step.item.size
        if step.fixed:
            return position + list_span(step, count, position)
        for _ in range(count):
            position = self._skip(step.steps, message, order, position)
        return position
