"""The wire format of protobuf, as far as payloads are cut out of it. Belongs here: varints, tags, skipping.

Never here: descriptors, values, columns.

Format: https://protobuf.dev/programming-guides/encoding. Fields stand in any order; of a singular field that comes again, the
last one holds.
"""

from __future__ import annotations

from drivelake.logs.messages.pending import Cut
from drivelake.logs.messages.rows import Contradiction

__all__ = ["WireCut"]

VARINT, FIXED64, LENGTH, GROUP, GROUP_END, FIXED32 = range(6)
VARINT_BYTES_MAX = 10


class WireCut:
    """Cuts one field of bytes out of a message.

    Args:
        number: of the field.
    """

    def __init__(self, number: int) -> None:
        self._tag = number << 3 | LENGTH

    def __call__(self, message: memoryview) -> Cut:
        """The message without the field; the pointer is empty where it is not set.

        Raises:
            Contradiction: the message ends inside of a field, or is no protobuf.
        """
        position, kept_to, depth = 0, 0, 0
        kept: list[memoryview] = []
        payload_at = payload_bytes = 0
        try:
            while position < len(message):
                begin = position
                tag, position = _varint(message, position)
                kind = tag & 7
                if kind == LENGTH:
                    size, start = _varint(message, position)
                    position = start + size
                    if tag == self._tag and not depth:
                        payload_at, payload_bytes = start, size
                        kept.append(message[kept_to:begin])
                        kept_to = position
                elif kind == VARINT:
                    _, position = _varint(message, position)
                elif kind in (FIXED32, FIXED64):
                    position += 4 if kind == FIXED32 else 8
                elif kind in (GROUP, GROUP_END):
                    depth += 1 if kind == GROUP else -1
                else:
                    raise Contradiction(f"its byte {begin} begins a field of wire type {kind}, the highest is {FIXED32}")
        except IndexError:
            raise Contradiction(f"it ends after {len(message)} bytes, inside of a field") from None
        if position > len(message):
            raise Contradiction(f"it ends after {len(message)} bytes, a field reaches to {position}")
        return Cut(b"".join((*kept, message[kept_to:])), payload_at, payload_bytes)


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """The number, and the place behind it."""
    value = message[position]
    if value < 0x80:
        return value, position + 1
    value &= 0x7F
    for place in range(1, VARINT_BYTES_MAX):
        byte = message[position + place]
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, position + place + 1
    raise Contradiction(f"its byte {position} begins a number of more than {VARINT_BYTES_MAX} bytes")
