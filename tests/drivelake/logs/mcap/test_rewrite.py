"""The writer of clean MCAP files: what the official readers find in what it writes."""

from io import BytesIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.data_stream import RecordBuilder
from mcap.reader import make_reader
from mcap.records import Attachment, Channel, Chunk, ChunkIndex, Header, Message, Metadata, Schema, Statistics
from mcap.stream_reader import StreamReader

from drivelake.logs import inspect_log
from drivelake.logs.mcap.rewrite import CHUNK_BYTES, LIBRARY, McapWriter

SCHEMA = Schema(id=7, name="pkg/msg/Thing", encoding="ros2msg", data=b"int32 x\n")
CHANNEL = Channel(id=300, topic="/thing", message_encoding="cdr", metadata={"qos": "1", "a": "b"}, schema_id=7)
PLAIN = Channel(id=2, topic="/plain", message_encoding="json", metadata={}, schema_id=0)


def message(number, channel=CHANNEL, data=b"data"):
    return Message(channel_id=channel.id, log_time=1000 - number, data=data, publish_time=number, sequence=number * 3)


def written(records, profile="ros2"):
    file = BytesIO()
    writer = McapWriter(file, profile)
    for record in records:
        writer.add(record)
    writer.finish()
    return file.getvalue()


def found(data):
    return list(StreamReader(BytesIO(data), validate_crcs=True).records)


def test_ids_stamps_and_sequence_numbers_stay_as_they_are():
    messages = [message(i, (CHANNEL, PLAIN)[i % 2]) for i in range(20)]
    data = written([SCHEMA, CHANNEL, PLAIN, *messages])
    records = found(data)
    assert [record for record in records if isinstance(record, Message)] == messages
    assert SCHEMA in records
    assert {CHANNEL.id, PLAIN.id} == {record.id for record in records if isinstance(record, Channel)}
    assert next(record for record in records if isinstance(record, Channel)).metadata == {"qos": "1", "a": "b"}
    header = next(record for record in records if isinstance(record, Header))
    assert (header.profile, header.library) == ("ros2", LIBRARY)


def test_statistics_and_indexes_say_what_is_there():
    data = written([SCHEMA, CHANNEL, PLAIN, *(message(i) for i in range(50))])
    summary = make_reader(BytesIO(data), validate_crcs=True).get_summary()
    statistics = summary.statistics
    assert (statistics.message_count, statistics.schema_count, statistics.channel_count) == (50, 1, 2)
    assert statistics.channel_message_counts == {300: 50, 2: 0}
    assert (statistics.message_start_time, statistics.message_end_time) == (951, 1000)
    (index,) = summary.chunk_indexes
    assert (index.message_start_time, index.message_end_time) == (951, 1000)
    assert set(index.message_index_offsets) == {300}


def test_large_messages_end_a_chunk_and_one_too_large_stands_alone():
    sizes = [CHUNK_BYTES // 3] * 7 + [CHUNK_BYTES * 2, 10]
    data = written([SCHEMA, CHANNEL, *(message(i, data=bytes([i]) * size) for i, size in enumerate(sizes))])
    chunks = [r for r in StreamReader(BytesIO(data), emit_chunks=True, validate_crcs=True).records if isinstance(r, Chunk)]
    assert [chunk.uncompressed_size > CHUNK_BYTES for chunk in chunks].count(True) == 1
    assert [len(m.data) for _, _, m in make_reader(BytesIO(data)).iter_messages(log_time_order=False)] == sizes
    assert len(chunks) == 6


def test_a_schema_or_channel_that_comes_again_is_written_once():
    data = written([SCHEMA, CHANNEL, SCHEMA, CHANNEL, message(0), CHANNEL])
    statistics = next(record for record in found(data) if isinstance(record, Statistics))
    assert (statistics.schema_count, statistics.channel_count) == (1, 1)


def test_attachments_and_metadata_are_indexed():
    attachment = Attachment(create_time=5, log_time=6, name="calibration", media_type="text/yaml", data=b"k: 1\n" * 100)
    note = Metadata(name="vehicle", metadata={"vin": "X", "driver": "Y"})
    data = written([attachment, SCHEMA, CHANNEL, message(0), note])
    reader = make_reader(BytesIO(data), validate_crcs=True)
    assert list(reader.iter_attachments()) == [attachment]
    assert list(reader.iter_metadata()) == [note]


def test_a_file_without_messages_is_whole():
    data = written([])
    assert next(r for r in found(data) if isinstance(r, Statistics)).message_count == 0
    assert not [record for record in found(data) if isinstance(record, ChunkIndex)]
    data = written([SCHEMA, CHANNEL])
    assert make_reader(BytesIO(data)).get_summary().channels == {300: CHANNEL}


def test_every_byte_is_covered_by_a_checksum(tmp_path):
    data = written([SCHEMA, CHANNEL, *(message(i) for i in range(5))])
    path = tmp_path / "flipped.mcap"
    path.write_bytes(data)
    assert inspect_log(path).damage == ()
    silent = []
    for place in range(len(data)):
        path.write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        if not inspect_log(path).damage:
            silent.append(place)
    assert silent == []


def test_records_that_the_writer_makes_itself_are_refused():
    writer = McapWriter(BytesIO(), "")
    with pytest.raises(TypeError, match="Header records are written by the writer itself"):
        writer.add(Header(profile="", library=""))


@settings(max_examples=30, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(0, (1 << 63) - 1), st.integers(0, (1 << 63) - 1), st.binary(max_size=200)),
        max_size=40,
    )
)
def test_any_messages_come_back(rows):
    channels = [Channel(id=i, topic=f"/{i}", message_encoding="json", metadata={}, schema_id=0) for i in (0, 9, 65535, 3)]
    messages = [Message(channels[c].id, log, data, publish, i) for i, (c, log, publish, data) in enumerate(rows)]
    data = written([*channels, *messages])
    assert [record for record in found(data) if isinstance(record, Message)] == messages
    assert data == written([*channels, *messages])


def test_the_library_writes_the_same_message_records():
    """The one record that is packed here by hand."""
    builder = RecordBuilder()
    message(3).write(builder)
    file = BytesIO()
    writer = McapWriter(file, "")
    writer.add(message(3))
    assert bytes(writer._chunk) == builder.end()
