"""Messages found by their index and found by scanning are the same; what is not so is seen."""

import struct

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.logs.mcap.content import Index, agreed, by_scan, disagreeing, of_messages
from drivelake.logs.mcap.listing import by_index

MESSAGE = st.tuples(st.integers(0, 4), st.integers(0, 2**63 - 1), st.binary(max_size=40))
OTHER = st.tuples(st.sampled_from([3, 4, 0x80]), st.binary(max_size=40))
RECORDS = st.lists(st.one_of(MESSAGE, OTHER), max_size=30)


def chunk(rows):
    """Bytes of a chunk, and what its indexes list, by channel."""
    data, listed = b"", {}
    for number, row in enumerate(rows):
        if len(row) == 3:
            channel, stamp, body = row
            listed.setdefault(channel, []).append((stamp, len(data)))
            body = struct.pack("<HIQQ", channel, number, stamp, stamp // 2) + body
            data += struct.pack("<BQ", 5, len(body)) + body
        else:
            data += struct.pack("<BQ", row[0], len(row[1])) + row[1]
    return np.frombuffer(data, np.uint8), listed


def indexes(listed, order=sorted):
    entries = {channel: b"".join(struct.pack("<QQ", *row) for row in rows) for channel, rows in listed.items()}
    return [Index(channel, memoryview(entries[channel]), 7) for channel in order(entries)]


def same(one, other):
    return (
        one.heads.tobytes() == other.heads.tobytes()
        and all(a.tolist() == b.tolist() for a, b in zip(one[1:5], other[1:5], strict=True))
        and one.runs == other.runs
        and (one.others, one.broken, one.short) == (other.others, other.broken, other.short)
    )


@settings(max_examples=150, deadline=None)
@given(rows=RECORDS, order=st.sampled_from([sorted, lambda names: sorted(names, reverse=True)]), backward=st.booleans())
def test_an_index_in_any_order_gives_what_a_scan_gives(rows, order, backward):
    buffer, listed = chunk(rows)
    if backward:
        listed = {channel: found[::-1] for channel, found in listed.items()}
    scanned = by_scan(buffer)
    assert [len(row) == 3 for row in rows].count(True) == len(scanned.offsets)
    assert list(disagreeing(scanned, indexes(listed, order))) == []
    (found,) = by_index([(buffer, indexes(listed, order))])
    assert same(found, scanned)


@settings(max_examples=60, deadline=None)
@given(chunks=st.lists(RECORDS, max_size=5), lying=st.integers(0, 9))
def test_several_chunks_give_what_each_gives_by_itself(chunks, lying):
    together = []
    for place, rows in enumerate(chunks):
        buffer, listed = chunk(rows)
        found = indexes(listed)
        if place == lying and found:
            found[0] = found[0]._replace(entries=found[0].entries[:-16])
        together.append((buffer, found))
    contents = by_index(together)
    assert len(contents) == len(chunks)
    for place, ((buffer, found), content) in enumerate(zip(together, contents, strict=True)):
        if place == lying and found:
            assert content is None
        else:
            assert same(content, by_scan(buffer))


def test_two_indexes_of_one_channel_are_one_run():
    buffer, listed = chunk([(1, 10, b""), (1, 20, b"abc")])
    parts = [*indexes({1: listed[1][:1]}), *indexes({1: listed[1][1:]})]
    for order in (parts, parts[::-1]):
        (content,) = by_index([(buffer, order)])
        assert same(content, by_scan(buffer))


@settings(max_examples=150, deadline=None)
@given(
    rows=st.lists(MESSAGE, min_size=1, max_size=12),
    lie=st.sampled_from(["stamp", "offset", "missing", "twice", "channel", "beyond", "negative"]),
    at=st.integers(0, 11),
)
def test_an_index_that_lies_is_never_believed(rows, lie, at):
    buffer, listed = chunk(rows)
    channel = sorted(listed)[at % len(listed)]
    entries = listed[channel]
    stamp, offset = entries[at % len(entries)]
    place = at % len(entries)
    changed = {
        "stamp": [(stamp ^ 1, offset)],
        "offset": [(stamp, offset + 1)],
        "missing": [],
        "twice": [(stamp, offset)] * 2,
        "channel": [(stamp, offset)],
        "beyond": [(stamp, offset + len(buffer))],
        "negative": [(stamp, 2**64 - 1 - offset)],
    }[lie]
    listed[channel] = [*entries[:place], *changed, *entries[place + 1 :]]
    if lie == "channel":
        listed[channel + 10] = listed.pop(channel)
    lying = indexes(listed)
    assert by_index([(buffer, lying)]) == [None]
    scanned = by_scan(buffer)
    assert len(list(disagreeing(scanned, lying))) == 1
    confirmed = sum(len(agreed(scanned, index)) for index in lying)
    assert confirmed == len(rows) - {"twice": 0, "channel": len(entries)}.get(lie, 1)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=200))
def test_any_bytes_can_be_scanned_and_nothing_reaches_beyond_them(data):
    content = by_scan(np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8))
    for offset, head in zip(content.offsets.tolist(), content.heads, strict=True):
        assert offset + 9 + int(head["length"]) <= len(data)
    for _, begin, end in content.others:
        assert 9 <= begin <= end <= len(data)


def test_messages_too_short_for_their_own_fields_are_named_and_left_out():
    short, sound = struct.pack("<BQ", 5, 3) + b"abc", struct.pack("<BQHIQQ", 5, 22, 1, 2, 3, 4)
    buffer = np.frombuffer(short + sound + short, np.uint8)
    content = of_messages(buffer, np.array([0, len(short), len(short + sound)]))
    assert content.short == (0, len(short + sound))
    assert content.offsets.tolist() == [len(short)]


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(MESSAGE, max_size=20), data=st.data())
def test_some_rows_of_a_content_are_what_is_left_of_each_channel(rows, data):
    content = by_scan(chunk(rows)[0])
    kept = np.array(data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows))), bool)
    left = content.rows(kept)
    assert left.offsets.tolist() == content.offsets[kept].tolist()
    channels = [channel for channel, run in left.runs for _ in range(run.stop - run.start)]
    assert channels == left.heads["channel"].tolist()
