import gc
import weakref

import numpy as np
import pytest

from drivelake.logs.findings import Findings
from drivelake.logs.messages.table import open_table
from tests.drivelake.logs.making import COMPRESSED_IMAGE
from tests.drivelake.logs.messages.making import block, ros

ONE = ros("pkg/msg/One", "uint32 value\n")
PICTURE = ros("sensor_msgs/msg/CompressedImage", COMPRESSED_IMAGE)
MESSAGES = {
    "whole": (ONE, b"\0\1\0\0\7\0\0\0"),
    "cut": (PICTURE, b"\0\1\0\0" + bytes(8) + b"\2\0\0\0a\0\0\0" + b"\2\0\0\0b\0\0\0" + b"\x40\0\0\0" + bytes(64)),
}


@pytest.mark.parametrize("kind", sorted(MESSAGES))
def test_pending_messages_hold_nothing_of_the_block_they_came_from(kind):
    channel, message = MESSAGES[kind]
    table = open_table(channel, Findings(strict=True))
    whole = block([message] * 1000)
    buffer = np.frombuffer(whole.buffer.tobytes(), np.uint8)[:]
    columns = (whole.starts, whole.lengths, whole.log_ns, whole.publish_ns)
    alive = [weakref.ref(array) for array in (buffer, *columns)]
    one = whole._replace(
        buffer=buffer, starts=columns[0][:1], lengths=columns[1][:1], log_ns=columns[2][:1], publish_ns=columns[3][:1]
    )
    table.add(one)
    del whole, buffer, columns, one
    gc.collect()
    assert [array() is None for array in alive] == [True] * 5
    assert table.rows == len(table.take()) == 1
