"""What a damaged file costs, and that it costs no more: in numbers, with offsets."""

import struct
import zlib
from collections import Counter

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.writer import CompressionType, IndexType

from drivelake.errors import LogDamaged
from drivelake.logs.findings import Findings
from drivelake.logs.mcap.log import inspect_mcap
from drivelake.logs.mcap.sound import sound_records
from drivelake.logs.mcap.walk import McapWalk
from tests.drivelake.logs.making import IMU, drive_mcap, imu, write_mcap
from tests.drivelake.logs.mcap import surgery
from tests.drivelake.logs.mcap.surgery import of, overwritten, salvaged

SOUND = drive_mcap(60)
WITHOUT_SUMMARY = drive_mcap(60, use_statistics=False, use_summary_offsets=False, index_types=IndexType.NONE)
CHECKED = drive_mcap(16, attachment=b"a note with a checksum of its own")


@pytest.fixture
def write(tmp_path):
    def put(data, name="log.mcap"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return put


def lost_at(data, chunk):
    """Messages of a chunk by table name."""
    names = {1: "/imu", 2: "/camera", 3: "/silent"}
    return {names[number]: count for number, count in surgery.messages(data, chunk).items()}


def rows_by_stamp(seen):
    return {(name, row["t_ns"]): row for name, rows in seen.rows.items() for row in rows}


@pytest.mark.parametrize("place", [0, 3, -1], ids=["first chunk", "a chunk between", "last chunk"])
def test_a_rotten_chunk_costs_its_own_messages_counted_by_channel(write, place):
    chunk = of(SOUND, surgery.CHUNK)[place]
    lost = lost_at(SOUND, chunk)
    seen = salvaged(write(overwritten(SOUND, chunk.end - 20, b"\xff\x00\xff\x00")))
    assert seen.findings.sentences[0].startswith(f"The chunk at offset {chunk.offset} ")
    assert +seen.findings.lost == lost
    assert seen.findings.expected == {"/imu": 60, "/camera": 30, "/silent": 0}
    assert seen.counts == {name: count - lost.get(name, 0) for name, count in seen.findings.expected.items()}
    assert all(seen.findings.sentences[0] in seen.findings.reasons[name] for name in lost)


@pytest.mark.parametrize("end", ["cut by a byte", "summary moved"])
def test_the_declarations_of_a_rotten_first_chunk_are_found_where_the_end_is_damaged_too(write, end):
    first, last = (of(SOUND, surgery.CHUNK)[place] for place in (0, -1))
    rotten = overwritten(SOUND, first.end - 20, b"\xff\x00\xff\x00")
    damaged, broken = (
        (rotten[:-1], [first]) if end == "cut by a byte" else (rotten[: last.end - 40] + rotten[last.end - 20 :], [first, last])
    )
    lost = sum((surgery.messages(SOUND, chunk) for chunk in broken), start=Counter())
    counts = salvaged(write(damaged)).counts
    assert {name: counts[name] for name in ("/imu", "/camera")} == {"/imu": 60 - lost[1], "/camera": 30 - lost[2]}


def test_a_rotten_first_chunk_does_not_take_the_declarations_with_it(write):
    chunk = of(SOUND, surgery.CHUNK)[0]
    seen = salvaged(write(overwritten(SOUND, chunk.end - 20, b"\xff\x00\xff\x00")))
    whole = salvaged(write(SOUND, "whole.mcap"))
    for name, rows in seen.rows.items():
        assert rows == whole.rows[name][len(whole.rows[name]) - len(rows) :]


def test_without_a_summary_a_rotten_first_chunk_takes_the_channels_declared_in_it(write):
    chunk = of(WITHOUT_SUMMARY, surgery.CHUNK)[0]
    data = bytearray(overwritten(WITHOUT_SUMMARY, chunk.end - 20, b"\xff\x00\xff\x00"))
    for record in of(WITHOUT_SUMMARY, 3) + of(WITHOUT_SUMMARY, 4):
        data[record.offset] = 0x80  # the summary repeats nothing
    footer = of(WITHOUT_SUMMARY, surgery.FOOTER)[0]
    data[footer.start + 16 : footer.start + 20] = bytes(4)
    seen = salvaged(write(bytes(data)))
    assert seen.counts == {}
    assert any("belongs to channel 1, which is not declared before it" in sentence for sentence in seen.findings.sentences)


def test_a_chunk_without_message_indexes_costs_an_unknown_number(write):
    data = drive_mcap(60, index_types=IndexType.NONE, use_statistics=False)
    chunk = of(data, surgery.CHUNK)[2]
    seen = salvaged(write(overwritten(data, chunk.end - 20, b"\xff\x00\xff\x00")))
    assert seen.findings.expected == {}
    assert dict(seen.findings.lost) == {"/imu": 0, "/camera": 0, "/silent": 0}
    assert all(seen.findings.sentences[0] in reasons for reasons in seen.findings.reasons.values())


@pytest.mark.parametrize("opcode", [surgery.CHUNK, surgery.MESSAGE_INDEX], ids=["chunk", "message index"])
@pytest.mark.parametrize("length", [1 << 60, 1 << 16, 3], ids=["absurd", "too long", "too short"])
def test_a_wrong_record_length_costs_at_most_that_record_where_the_summary_is_sound(write, opcode, length):
    record = of(SOUND, opcode)[3]
    seen = salvaged(write(overwritten(SOUND, record.offset + 1, struct.pack("<Q", length))))
    assert seen.findings.sentences
    assert seen.counts == {"/imu": 60, "/camera": 30, "/silent": 0}
    assert seen.rows == salvaged(write(SOUND, "whole.mcap")).rows


def test_a_wrong_opcode_is_corrected_by_the_summary(write):
    chunk = of(SOUND, surgery.CHUNK)[3]
    seen = salvaged(write(overwritten(SOUND, chunk.offset, b"\x86")))
    size = chunk.end - chunk.start
    assert seen.findings.sentences[0] == (
        f"The record at offset {chunk.offset} is a 0x86 of {size} bytes, the summary knows it as a CHUNK of {size} bytes and is"
        " believed."
    )
    assert seen.counts == {"/imu": 60, "/camera": 30, "/silent": 0}


def test_without_a_summary_reading_goes_on_with_the_next_chunk_whose_checksum_is_right(write):
    records = surgery.records(SOUND)
    chunks = of(SOUND, surgery.CHUNK)
    end = of(SOUND, surgery.DATA_END)[0].offset
    broken = next(record for record in records if record.offset == chunks[2].end)
    data = overwritten(SOUND, broken.offset, struct.pack("<BQ", 7, 1 << 60))[:end]
    seen = salvaged(write(data))
    left_out = chunks[3].offset - broken.offset
    assert seen.findings.sentences[0].endswith(f"Reading goes on at offset {chunks[3].offset}, {left_out} bytes are left out.")
    assert seen.counts == {"/imu": 60, "/camera": 30, "/silent": 0}


def test_a_chunk_that_no_checksum_proves_is_not_taken_for_one_after_the_framing_is_lost(write):
    data = drive_mcap(60, enable_crcs=False)
    chunks = of(data, surgery.CHUNK)
    broken = next(record for record in surgery.records(data) if record.offset == chunks[2].end)
    data = overwritten(data, broken.offset, struct.pack("<BQ", 7, 1 << 60))[: of(data, surgery.DATA_END)[0].offset]
    seen = salvaged(write(data))
    before = [surgery.messages(data, chunk) for chunk in chunks[:3]]
    assert seen.counts["/imu"] == sum(count[1] for count in before)
    assert f"Nothing behind it can be read: {len(data) - broken.offset} bytes are lost." in seen.findings.sentences[0]


def test_zeroed_bytes_cost_the_chunks_they_cover(write):
    chunks = of(SOUND, surgery.CHUNK)
    data = overwritten(SOUND, chunks[2].offset, bytes(chunks[4].offset - chunks[2].offset))
    seen = salvaged(write(data))
    lost = [surgery.messages(SOUND, chunk) for chunk in chunks[2:4]]
    assert seen.counts == {
        "/imu": 60 - sum(count[1] for count in lost),
        "/camera": 30 - sum(count[2] for count in lost),
        "/silent": 0,
    }
    assert seen.findings.expected == {"/imu": 60, "/camera": 30, "/silent": 0}


def test_a_chunk_written_twice_is_told_and_read_where_it_stands(write):
    chunks = of(SOUND, surgery.CHUNK)
    data = SOUND[: chunks[2].offset] + SOUND[chunks[1].offset : chunks[2].offset] + SOUND[chunks[2].offset :]
    seen = salvaged(write(data))
    assert seen.findings.sentences
    assert seen.counts["/imu"] >= 60


@pytest.mark.parametrize("size", [0, 3, 8, 9, 40])
def test_a_file_that_hardly_begins_is_damage_and_no_error(write, size):
    seen = salvaged(write(SOUND[:size]))
    assert seen.findings.sentences
    assert seen.counts == {}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 8 * len(CHECKED) - 1))
def test_whatever_bit_flips_every_value_given_is_the_one_that_was_written(tmp_path, place):
    whole, path = tmp_path / "whole.mcap", tmp_path / "log.mcap"
    whole.write_bytes(CHECKED)
    data = bytearray(CHECKED)
    data[place // 8] ^= 1 << place % 8
    path.write_bytes(data)
    seen, true = salvaged(path), rows_by_stamp(salvaged(whole))
    assert seen.findings.sentences
    for key, row in rows_by_stamp(seen).items():
        assert row == true[key]


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(begin=st.integers(0, len(CHECKED)), size=st.integers(0, 3000), fill=st.sampled_from(["zeros", "ones", "cut out", "again"]))
def test_whatever_is_overwritten_cut_out_or_repeated_no_other_value_comes_out(tmp_path, begin, size, fill):
    whole, path = tmp_path / "whole.mcap", tmp_path / "log.mcap"
    whole.write_bytes(CHECKED)
    piece = CHECKED[begin : begin + size]
    new = {"zeros": bytes(len(piece)), "ones": b"\xff" * len(piece), "cut out": b"", "again": piece * 2}[fill]
    path.write_bytes(CHECKED[:begin] + new + CHECKED[begin + size :])
    true = rows_by_stamp(salvaged(whole))
    for key, row in rows_by_stamp(salvaged(path)).items():
        pointer = [name for name in row if name.startswith("payload_chunk")]
        assert {k: v for k, v in row.items() if k not in pointer} == {k: v for k, v in true[key].items() if k not in pointer}


def test_messages_outside_of_chunks_are_not_given_where_their_only_checksum_is_wrong(write):
    data = drive_mcap(10, use_chunking=False)
    at = of(data, 5)[4].end - 1
    seen = salvaged(write(overwritten(data, at, bytes([data[at] ^ 1]))))
    assert seen.counts == {"/imu": 0, "/camera": 0, "/silent": 0}
    assert +seen.findings.lost == {"/imu": 10, "/camera": 5}
    assert "no message outside of chunks is known to be sound" in seen.findings.reasons["/imu"][0]


def test_without_any_checksum_messages_outside_of_chunks_are_read_up_to_the_damage_and_a_note_says_what_was_not_checked(write):
    data = drive_mcap(10, use_chunking=False, enable_crcs=False, enable_data_crcs=False)
    message = of(data, 5)[7]
    seen = salvaged(write(overwritten(data, message.offset + 1, struct.pack("<Q", 1 << 62))))
    assert sum(seen.counts.values()) == 7
    assert "7 messages outside of chunks carry no CRC-32: changed bytes in them cannot be seen." in seen.findings.notes


def test_a_chunk_without_checksum_is_read_and_a_note_says_so(write):
    data = drive_mcap(10, enable_crcs=False, enable_data_crcs=False)
    seen = salvaged(write(data))
    assert seen.findings.sentences == ()
    count = len(of(data, surgery.CHUNK))
    assert f"{count} chunks carry no CRC-32: changed bytes in them cannot be seen." in seen.findings.notes


def test_in_a_chunk_without_checksum_only_messages_that_their_index_confirms_are_given(write):

    data = drive_mcap(10, enable_crcs=False, enable_data_crcs=False, compression=CompressionType.NONE)
    index = of(data, surgery.MESSAGE_INDEX)[0]
    stamp = struct.unpack_from("<Q", data, index.start + 6)[0]
    at = data.index(struct.pack("<Q", stamp), of(data, surgery.CHUNK)[0].start + 40)
    seen = salvaged(write(overwritten(data, at, struct.pack("<Q", stamp + 5))))
    assert "lists" in seen.findings.sentences[0]
    assert (seen.findings.lost["/imu"], seen.counts["/imu"]) == (1, 9)
    assert stamp + 5 not in [row["t_ns"] for row in seen.rows["/imu"]]


def test_a_message_stamped_beyond_what_fits_is_left_out_and_counted(write):
    data = drive_mcap(10, use_chunking=False, enable_crcs=False, enable_data_crcs=False)
    message = of(data, 5)[0]
    seen = salvaged(write(overwritten(data, message.start + 6, b"\xff" * 8)))
    assert f"is stamped {(1 << 64) - 1} ns, at most {(1 << 63) - 1} fit" in seen.findings.sentences[0]
    assert (seen.findings.lost["/imu"], seen.counts["/imu"]) == (1, 9)


def test_declarations_that_contradict_the_checked_summary_give_way_to_it(write):
    data = drive_mcap(10, use_chunking=False, enable_data_crcs=False)
    at = data.index(b"/imu")
    seen = salvaged(write(overwritten(data, at, b"/imX")))
    assert seen.counts == {"/imu": 10, "/camera": 5, "/silent": 0}
    assert "differs from the summary, whose CRC-32 is right" in seen.findings.sentences[0]


def test_statistics_that_promise_and_a_file_that_holds_nothing_is_damage(write):
    rows = [("/imu", "sensor_msgs/msg/Imu", IMU, [imu(i) for i in range(4)])]
    data = write_mcap(rows, enable_data_crcs=False, enable_crcs=False)
    header = surgery.records(data)[0]
    end = of(data, surgery.DATA_END)[0]
    seen = salvaged(write(data[: header.end] + data[end.offset :]))
    assert "The statistics promise 4 messages, 0 can be read." in seen.findings.sentences
    assert seen.counts == {"/imu": 0}


def test_an_attachment_that_fails_its_checksum_costs_no_message_and_is_left_out(write):
    at = CHECKED.index(b"a note with")
    path = write(overwritten(CHECKED, at, b"A"))
    seen = salvaged(path)
    assert seen.findings.sentences[0].startswith("The attachment at offset ")
    assert seen.counts == {"/imu": 16, "/camera": 8, "/silent": 0}
    assert "Attachment" not in {type(record).__name__ for record in sound_records(path, Findings())}


def test_attachments_and_metadata_are_listed(write):
    findings = Findings(strict=True)
    inspect_mcap(write(CHECKED), findings)
    assert any(note.startswith("1 attachments are in no table: 'notes' (text/plain, ") for note in findings.notes)


CORNERS = {
    "lz4.mcap": ((), {}, 900),
    "no_chunks_no_index.mcap": ((), {}, 900),
    "out_of_order.mcap": ((), {}, 900),
    "plain_small_chunks.mcap": ((), {}, 900),
    "one_bit_rot_in_chunk.mcap": (
        ("The chunk at offset 37686 has CRC-32 b104560b, it declares a6fc9fff.",),
        {"/ins/imu": 14, "/ins/odometry": 14, "/ins/nav_sat_fix": 6},
        866,
    ),
    "trailing_garbage.mcap": (("100 bytes follow the closing magic at offset 115028, expected none.",), {}, 900),
    "truncated_no_footer.mcap": (
        ("The CHUNK record at offset 62654 needs 3545 bytes, the file ends 602 bytes into it: it was cut short or its",),
        {},
        519,
    ),
}


@pytest.mark.parametrize(("name", "expected"), CORNERS.items(), ids=CORNERS)
def test_of_each_corner_file_exactly_what_is_sound_is_recovered(shared_data, name, expected):
    sentences, lost, messages = expected
    seen = salvaged(shared_data / "corner_derived" / "mcap" / name)
    assert len(seen.findings.sentences) == 0 if not sentences else seen.findings.sentences[0].startswith(sentences[0])
    assert +seen.findings.lost == lost
    assert sum(seen.counts.values()) == messages
    whole = salvaged(shared_data / "corner_derived" / "mcap" / "plain_small_chunks.mcap")
    values = {(topic, row["t_ns"]): row for topic, rows in whole.rows.items() for row in rows}
    for topic, rows in seen.rows.items():
        for row in rows:
            assert row == values[topic, row["t_ns"]]


def test_what_is_sound_of_a_damaged_file_is_what_its_tables_hold(shared_data):
    path = shared_data / "corner_derived" / "mcap" / "one_bit_rot_in_chunk.mcap"
    walk = McapWalk(path, Findings())
    for _ in walk.events():
        pass
    found = [record for record in sound_records(path, Findings()) if type(record).__name__ == "Message"]
    assert len(found) == 866 == walk.ledger.counts.total()


def test_strict_findings_stop_at_the_first_contradiction(write):
    chunk = of(SOUND, surgery.CHUNK)[3]
    path = write(overwritten(SOUND, chunk.end - 20, b"\xff\x00\xff\x00"))
    with pytest.raises(LogDamaged, match=f"The chunk at offset {chunk.offset} "):
        inspect_mcap(path, Findings(strict=True))


def test_the_surgery_sees_what_the_reference_reader_sees(write):
    with write(SOUND).open("rb") as file:
        summary = make_reader(file).get_summary()
    assert [index.chunk_start_offset for index in summary.chunk_indexes] == [chunk.offset for chunk in of(SOUND, surgery.CHUNK)]
    chunk = of(SOUND, surgery.CHUNK)[0]
    assert zlib.crc32(surgery.content(SOUND, chunk)) == struct.unpack_from("<I", SOUND, chunk.start + 24)[0]
