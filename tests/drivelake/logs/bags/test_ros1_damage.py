import struct
from collections import Counter
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.logs.bags.ros1 import inspect_ros1, read_ros1, sound_messages
from drivelake.logs.bags.ros1_records import CHUNK, INDEX, read_record
from drivelake.logs.findings import Findings
from tests.drivelake.logs.bags.making import expected, recovered, recovered_and_lost, write_ros1

KINDS = (None, "BZ2", "LZ4")
salvage = partial(recovered, sound_messages)


def records(data):
    """Records outside of chunks, in the order of the file."""
    view, position, found = memoryview(data), 13, []
    while position < len(data):
        found.append(read_record(view, position, len(data)))
        position = found[-1].end
    return found


def chunks(data):
    return [record for record in records(data) if record.op == CHUNK]


@pytest.fixture(params=KINDS)
def bag(request, tmp_path):
    return write_ros1(tmp_path / "a.bag", compression=request.param)


def test_an_intact_bag_has_no_damage(bag):
    found, findings = salvage(bag)
    assert found == expected()
    assert not findings.sentences
    assert findings.expected == {"/motion": 20, "/camera": 20, "/said": 20}


def test_a_bag_that_was_never_closed_gives_every_message(bag):
    data = bytearray(bag.read_bytes())
    index = int.from_bytes(data[data.index(b"index_pos=") + 10 :][:8], "little")
    at = data.index(b"index_pos=") + 10
    data[at : at + 8] = bytes(8)
    bag.write_bytes(data[:index])
    found, findings = salvage(bag)
    assert found == expected()
    assert "was never closed" in findings.sentences[0]
    assert not findings.expected


def test_an_unfinished_chunk_gives_its_whole_messages(tmp_path):
    """As in a `.active` file: the header of the chunk is written with lengths of zero and mended when the chunk is closed."""
    path = write_ros1(tmp_path / "a.bag")
    data = bytearray(path.read_bytes())
    last = chunks(data)[-1]
    head = bytes(data[last.offset : last.start])
    size = head.index(b"size=") + 5
    head = head[:size] + bytes(4) + head[size + 4 : -4] + bytes(4)
    data[last.offset : last.start] = head
    at = data.index(b"index_pos=") + 10
    data[at : at + 8] = bytes(8)
    whole = expected()
    path.write_bytes(data[: last.end - 5])
    found, findings = salvage(path)
    assert whole - found == Counter([max(whole, key=lambda message: message[1])])
    assert any("was never finished" in sentence for sentence in findings.sentences)


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_a_cut_bag_gives_what_stands_before_the_cut(bag, share):
    data = bag.read_bytes()
    cut = int(len(data) * share)
    before = sum(1 for chunk in chunks(data) if chunk.end <= cut)
    bag.write_bytes(data[:cut])
    found, findings = salvage(bag)
    assert found <= expected()
    assert findings.sentences
    if before:
        assert found
    whole = Findings()
    assert sum(channel.messages for channel in inspect_ros1(bag, whole)[1]) == found.total()
    assert whole.sentences == findings.sentences


@pytest.mark.parametrize("compression", ["BZ2", "LZ4"])
def test_a_chunk_that_does_not_open_costs_its_messages_only(tmp_path, compression):
    path = write_ros1(tmp_path / "a.bag", compression=compression)
    data = bytearray(path.read_bytes())
    second = chunks(data)[1]
    listed = [record for record in records(data) if record.op == INDEX and record.offset > second.offset]
    costs = sum(int.from_bytes(record.fields[b"count"], "little") for record in listed if record.offset < chunks(data)[2].offset)
    data[second.start : second.start + 4] = b"\xff\xff\xff\xff"
    path.write_bytes(data)
    found, findings = salvage(path)
    assert found < expected()
    assert found.total() == 60 - costs
    assert sum(findings.lost.values()) == costs
    assert recovered_and_lost(found, findings) == findings.expected


def test_behind_a_broken_header_reading_goes_on_with_the_next_chunk(bag):
    data = bytearray(bag.read_bytes())
    second = chunks(data)[1]
    data[second.offset + 8] ^= 0x40
    bag.write_bytes(data)
    found, findings = salvage(bag)
    assert found < expected()
    assert recovered_and_lost(found, findings) == findings.expected


def test_without_an_index_the_next_chunk_is_searched_for(bag):
    data = bytearray(bag.read_bytes())
    second, third = chunks(data)[1:3]
    at = data.index(b"index_pos=") + 10
    data[at : at + 8] = bytes(8)
    data[second.offset : second.offset + 4] = b"\xff\xff\xff\xff"
    bag.write_bytes(data)
    found, findings = salvage(bag)
    assert any(f"goes on at offset {third.offset}" in sentence for sentence in findings.sentences)
    assert found < expected()
    assert found.total() > 30


def test_a_changed_stamp_costs_that_message(tmp_path):
    path = write_ros1(tmp_path / "a.bag")
    data = bytearray(path.read_bytes())
    at = data.index(b"time=") + 5
    data[at] ^= 1
    path.write_bytes(data)
    found, findings = salvage(path)
    assert expected() - found == Counter([min(expected(), key=lambda message: message[1])])
    assert not found - expected()
    assert findings.lost == {"/motion": 1}


@pytest.mark.parametrize("length", [0, 1, 10, 1 << 20, (1 << 32) - 1])
def test_a_changed_length_costs_that_message(tmp_path, length):
    path = write_ros1(tmp_path / "a.bag", 600, chunk_bytes=1 << 20)
    data = bytearray(path.read_bytes())
    fifth = data.index(b"time=")
    for _ in range(4):
        fifth = data.index(b"time=", fifth + 1)
    struct.pack_into("<I", data, fifth + 13, length)
    path.write_bytes(data)
    found, findings = salvage(path)
    assert (expected(600) - found).total() == 1
    assert not found - expected(600)
    assert sum(findings.lost.values()) == 1


def test_a_rotten_definition_is_replaced_by_its_sound_copy(tmp_path):
    sound = write_ros1(tmp_path / "sound.bag").read_bytes()
    text = b"geometry_msgs/Twist twist"
    first, second = sound.index(text), sound.rindex(text)
    assert first != second
    for place in (first, second):
        path = tmp_path / "a.bag"
        data = bytearray(sound)
        data[place + len(text) - 1] ^= 1
        path.write_bytes(data)
        found, findings = salvage(path)
        assert found == expected()
        assert len(findings.sentences) == 1
        batches = read_ros1(path, wanted="/motion".__eq__, batch_rows=99, leftovers=None, findings=Findings())
        assert "twist.linear.x" in next(iter(batches)).batch.schema.names


def test_a_rotten_definition_without_a_copy_costs_its_messages(tmp_path):
    path = write_ros1(tmp_path / "a.bag")
    data = bytearray(path.read_bytes())
    index = int.from_bytes(data[data.index(b"index_pos=") + 10 :][:8], "little")
    at = data.index(b"index_pos=") + 10
    data[at : at + 8] = bytes(8)
    data[data.index(b"geometry_msgs/Twist twist") + 24] ^= 1
    path.write_bytes(data[:index])
    found, findings = salvage(path)
    assert {channel for channel, _, _ in found} == {"/camera", "/said"}
    assert findings.lost == {"/motion": 20}
    assert "MD5" in findings.reasons["/motion"][0]


def test_counts_that_the_index_promises_wrongly_are_told(tmp_path):
    path = write_ros1(tmp_path / "a.bag")
    data = bytearray(path.read_bytes())
    data[-4] += 2
    path.write_bytes(data)
    found, findings = salvage(path)
    assert found == expected()
    assert len(findings.sentences) == 1
    assert "promises" in findings.sentences[0]


def test_an_index_that_lies_about_offsets_is_told_and_its_messages_are_found(tmp_path):
    path = write_ros1(tmp_path / "a.bag")
    data = bytearray(path.read_bytes())
    record = next(record for record in records(data) if record.op == INDEX)
    struct.pack_into("<I", data, record.start + 8, 1 << 30)
    path.write_bytes(data)
    found, findings = salvage(path)
    assert found == expected()
    assert any("does not list 1 of its messages" in sentence for sentence in findings.sentences)


def test_an_empty_file_and_a_short_one_are_damaged(tmp_path):
    for size in (0, 1, 12, 13, 40):
        path = tmp_path / "a.bag"
        path.write_bytes(write_ros1(tmp_path / f"{size}.bag").read_bytes()[:size])
        found, findings = salvage(path)
        assert not found
        assert findings.sentences


@settings(max_examples=60, deadline=None)
@given(
    compression=st.sampled_from(KINDS),
    cut=st.none() | st.floats(0, 1),
    changes=st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(1, 255)), max_size=4),
)
def test_cut_and_flipped_bags_never_raise_and_checked_bytes_never_change(tmp_path_factory, compression, cut, changes):
    path = write_ros1(tmp_path_factory.mktemp("bag") / "a.bag", compression=compression)
    data = bytearray(path.read_bytes())
    for share, change in changes:
        data[13 + int(share * (len(data) - 13))] ^= change
    path.write_bytes(data if cut is None else data[: int(cut * len(data))])
    found, findings = salvage(path)
    assert sum(channel.messages for channel in inspect_ros1(path, Findings())[1]) == found.total()
    if compression == "BZ2":
        stripped = Counter((stamp, content) for _, stamp, content in found.elements())
        assert stripped <= Counter((stamp, content) for _, stamp, content in expected().elements())
    if found != expected():
        assert findings.sentences or compression != "BZ2"


def test_messages_lost_before_their_connection_is_declared_are_counted(tmp_path):
    path = write_ros1(tmp_path / "a.bag")
    data = bytearray(path.read_bytes())
    first = next(record for record in records(data) if record.op == INDEX)
    data[first.start] ^= 1  # the stamp of the first entry of the first chunk
    at = data.index(b"index_pos=") + 10
    data[at : at + 8] = bytes(8)
    path.write_bytes(data)
    found, findings = salvage(path)
    assert found.total() == 59
    assert findings.lost == Counter({channel: 1 for channel, _, _ in expected() - found})
