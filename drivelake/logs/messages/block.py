"""Messages on their way from a container to a table. Belongs here: the one type that both sides know.

Never here: containers, encodings.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["Channel", "MessageBlock"]


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


class MessageBlock(NamedTuple):
    """Messages of one channel that stand in one buffer, in the order they were logged.

    Attributes:
        buffer: (bytes,) uint8: a decompressed chunk, or a stretch of the file. Valid until the next block is asked for.
        starts: (n,) int64, where each encoded message begins in ``buffer``.
        lengths: (n,) int64, its bytes.
        log_ns: (n,) int64, receive stamps, UTC ns.
        publish_ns: (n,) int64, publish stamps, UTC ns.
        chunk: what payload pointers call this buffer: file offset of the chunk record, -1 for the file itself.
        origin: what payload pointers add to an offset in ``buffer``: 0 for a chunk, its file offset for a stretch.
    """

    buffer: NDArray[np.uint8]
    starts: NDArray[np.int64]
    lengths: NDArray[np.int64]
    log_ns: NDArray[np.int64]
    publish_ns: NDArray[np.int64]
    chunk: int
    origin: int
