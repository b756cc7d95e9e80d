"""Rows on their way into batches: however they come and however much room they are given, they leave in order."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.logs.buses import rows as rows_module
from drivelake.logs.buses.database import BusMessage, BusSignal
from drivelake.logs.buses.decode import MessageDecoder
from drivelake.logs.buses.frames import Frames
from drivelake.logs.buses.rows import MessageRows, PayloadRows


def message(length, *, j1939):
    signals = tuple(BusSignal(f"S{place}", 8 * place, 8, False, False, False, 1, 0, "") for place in range(length))
    return BusMessage("M", 0x18FF1021, True, length, signals, {}, j1939, (), "", "a.dbc")


def frames_from(first, count, width):
    numbers = np.arange(first, first + count)
    return Frames(
        t_ns=numbers,
        bus=np.zeros(count, np.uint8),
        id=(0x18FF1000 + numbers).astype(np.uint32),
        extended=np.ones(count, np.bool_),
        dlc=np.full(count, 8, np.uint8),
        length=np.full(count, width, np.uint8),
        data=(numbers[:, None] + np.arange(width)).astype(np.uint8),
    )


@settings(deadline=None)
@given(
    parts=st.lists(st.tuples(st.integers(0, 9), st.booleans()), max_size=12),
    length=st.sampled_from([1, 8, 9]),
    batch_rows=st.integers(1, 12),
    room=st.sampled_from([1, 3, 1 << 13]),
    j1939=st.booleans(),
)
def test_rows_leave_in_the_order_they_came_in_full_batches(parts, length, batch_rows, room, j1939):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rows_module, "ROOM_ROWS", room)
        described = message(length, j1939=j1939)
        pending = MessageRows("M", 1, described, MessageDecoder(described))
        batches, first = [], 0
        for count, as_payloads in parts:
            frames = frames_from(first, count, 64 if length > 8 else 8)
            words = frames.data.view(np.uint64)
            if as_payloads:
                k = pending._pending.words.shape[1]
                pending.add(PayloadRows(frames.t_ns, frames.id, np.full(count, length, np.uint16), words[:, :k]))
            else:
                pending.add_frames(frames, words, np.arange(count))
            first += count
            batches += pending.full(batch_rows)
            assert pending.bytes == (first - sum(map(len, batches))) * (14 + 8 * -(-length // 8))
        assert {len(batch) for batch in batches} <= {batch_rows}
        batches += pending.rest(closing=True)
        assert (pending.bytes, pending.refused) == (0, {})
        rows = [row for batch in batches for row in batch.to_pylist()]
        assert rows == [{"t_ns": n, **{f"S{place}": n + place for place in range(length)}} for n in range(first)]


@settings(deadline=None)
@given(st.lists(st.integers(0, 2), min_size=1, max_size=40), st.booleans())
def test_refused_frames_are_counted_by_their_identifiers(kinds, j1939):
    selector = BusSignal("Selector", 0, 8, False, False, False, 1, 0, "")
    described = BusMessage("M", 0x100, True, 1, (selector,), {"Selector": frozenset({0})}, j1939, (), "", "a.dbc")
    pending = MessageRows("M", 1, described, MessageDecoder(described))
    numbers = np.array(kinds)
    frames = frames_from(0, len(kinds), 8)._replace(data=np.repeat(numbers.astype(np.uint8), 8).reshape(-1, 8))
    frames = frames._replace(id=(0x100 + numbers * j1939).astype(np.uint32))
    pending.add_frames(frames, frames.data.view(np.uint64), np.arange(len(kinds)))
    assert sum(map(len, pending.rest(closing=True))) == kinds.count(0)
    wanted = {hex(0x100 + kind * j1939) for kind in kinds if kind}
    assert {identifier for _, identifier, _ in pending.refused} == wanted
    assert pending.refused.total() == len(kinds) - kinds.count(0)
