"""Messages on their way from a container to a table. Belongs here: the types that both sides know.

Never here: containers, encodings.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Channel", "MessageBlock", "MessageRun", "Source"]


class Channel(NamedTuple):
    """What a container says about the messages of one channel.

    Attributes:
        name: of the table: the topic, with ``#2`` and so on where a topic is declared again with another schema.
        encoding: of the messages: ``cdr``, ``ros1``, ``protobuf``, ``json``, ``flatbuffer``; others have no table.
        schema_name: ``sensor_msgs/msg/Imu``, ``foxglove.CompressedVideo``; empty without a schema.
        schema_encoding: ``ros2msg``, ``ros2idl``, ``ros1msg``, ``protobuf``, ``jsonschema``, ``flatbuffer``; or empty.
        schema: the definition as it was recorded.
    """

    name: str
    encoding: str
    schema_name: str
    schema_encoding: str
    schema: bytes


class Source(NamedTuple):
    """One buffer that messages stand in.

    Attributes:
        buffer: (bytes,) uint8: a decompressed chunk, or a stretch of the file. Valid until the next block is asked for.
        chunk: what payload pointers call this buffer: file offset of the chunk record, -1 for the file itself.
        origin: what payload pointers add to an offset in ``buffer``: 0 for a chunk, its file offset for a stretch.
    """

    buffer: NDArray[np.uint8]
    chunk: int
    origin: int


class MessageRun(NamedTuple):
    """Messages of one channel, in the order they were logged, from one buffer or from several one after the other.

    Attributes:
        pieces: each buffer and how many of the messages stand in it.
        starts: (n,) int64, where each encoded message begins in its buffer.
        lengths: (n,) int64, its bytes.
        log_ns: (n,) int64, receive stamps, UTC ns.
        publish_ns: (n,) int64, publish stamps, UTC ns.
    """

    pieces: tuple[tuple[Source, int], ...]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    log_ns: NDArray[np.int64]
    publish_ns: NDArray[np.int64]

    def blocks(self) -> Iterator[MessageBlock]:
        """The same messages, buffer by buffer."""
        first = 0
        for (buffer, chunk, origin), count in self.pieces:
            rows = slice(first, first + count)
            first = rows.stop
            columns = (self.starts[rows], self.lengths[rows], self.log_ns[rows], self.publish_ns[rows])
            yield MessageBlock(buffer, *columns, chunk, origin)


class MessageBlock(NamedTuple):
    """Messages of one channel that stand in one buffer, in the order they were logged.

    Attributes:
        buffer: as in :class:`Source`.
        starts: (n,) int64, where each encoded message begins in ``buffer``.
        lengths: (n,) int64, its bytes.
        log_ns: (n,) int64, receive stamps, UTC ns.
        publish_ns: (n,) int64, publish stamps, UTC ns.
        chunk: as in :class:`Source`.
        origin: as in :class:`Source`.
    """

    buffer: NDArray[np.uint8]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    log_ns: NDArray[np.int64]
    publish_ns: NDArray[np.int64]
    chunk: int
    origin: int

    def run(self) -> MessageRun:
        """The same messages as a run."""
        pieces = ((Source(self.buffer, self.chunk, self.origin), len(self.starts)),)
        return MessageRun(pieces, self.starts, self.lengths, self.log_ns, self.publish_ns)
