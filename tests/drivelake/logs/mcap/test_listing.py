"""Chunks found together hold what each of them holds, and an index that lies about one is seen."""

import struct

import numpy as np
import pytest

from drivelake.logs.mcap.content import Index, by_scan
from drivelake.logs.mcap.listing import by_index, listing
from drivelake.logs.mcap.messages import Messages
from drivelake.logs.messages.block import Source


def chunk(*rows):
    """A chunk with a message of each (channel, stamp), and the indexes behind it."""
    data, listed = b"", {}
    for channel, stamp in rows:
        listed.setdefault(channel, []).append(struct.pack("<QQ", stamp, len(data)))
        body = struct.pack("<HIQQ", channel, 0, stamp, stamp) + b"x" * channel
        data += struct.pack("<BQ", 5, len(body)) + body
    return np.frombuffer(data, np.uint8), [Index(channel, memoryview(b"".join(rows)), 7) for channel, rows in listed.items()]


CHUNKS = [chunk((2, 10), (1, 11), (2, 12)), chunk((3, 20)), chunk((2, 30), (1, 31))]


def test_the_messages_of_chunks_together_are_those_of_each_chunk():
    found = listing(CHUNKS)
    assert found.gapless
    assert [number for number, _ in found.content.runs] == [1, 2, 3]
    assert found.pieces == (((0, 1), (2, 1)), ((0, 2), (2, 1)), ((1, 1),))
    sources = tuple(Source(buffer, 100 + place, 0) for place, (buffer, _) in enumerate(CHUNKS))
    parts = list(Messages(sources, found.content, found.pieces).parts())
    assert [source.chunk for source, _ in parts] == [100, 101, 102]
    for (_, content), (buffer, _) in zip(parts, CHUNKS, strict=True):
        alone = by_scan(buffer)
        assert content.heads.tobytes() == alone.heads.tobytes()
        assert content.offsets.tolist() == alone.offsets.tolist()
        assert content.runs == alone.runs


@pytest.mark.parametrize("offset", [2**63 - 1, 2**63 - 40, 2**64 - 1, 2**32])
def test_an_offset_beyond_any_chunk_is_seen_wherever_its_chunk_stands(offset):
    buffer, _ = CHUNKS[1]
    lying = (buffer, [Index(3, memoryview(struct.pack("<QQ", 20, offset)), 7)])
    assert listing([CHUNKS[0], lying]) is None
    assert [content is None for content in by_index([CHUNKS[0], lying, CHUNKS[2]])] == [False, True, False]
