"""Blocks of messages for the tests of the decoders, and what a table makes of them."""

import numpy as np

from drivelake.logs.findings import Findings
from drivelake.logs.messages.block import Channel, MessageBlock
from drivelake.logs.messages.table import open_table


def block(messages, *, first=0, gap=3, chunk=7, origin=0):
    """Messages with some bytes between them, as records have; stamped 10 ns apart from ``first`` on."""
    data = b"".join(b"\xee" * gap + message for message in messages)
    lengths = np.array([len(message) for message in messages], np.int64)
    starts = np.cumsum(lengths + gap) - lengths
    stamps = np.arange(first, first + len(messages), dtype=np.int64) * 10
    return MessageBlock(np.frombuffer(data, np.uint8), starts, lengths, stamps, stamps - 1, chunk, origin)


def decode(channel, messages, *, strict=True, sizes=(4, 1, 7)):
    """The batch of all messages, handed over in blocks of changing size, and the findings."""
    findings = Findings(strict=strict)
    table = open_table(channel, findings)
    first = number = 0
    while first < len(messages):
        size = sizes[number % len(sizes)]
        table.add(block(messages[first : first + size], first=first))
        first, number = first + size, number + 1
    assert table.rows == len(messages) or not strict
    return table.take(), findings


def ros(kind, definition, encoding="cdr"):
    schema = {"cdr": "ros2msg", "ros1": "ros1msg"}[encoding]
    return Channel("/t", encoding, kind, schema, definition.encode())
