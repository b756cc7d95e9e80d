"""Every recording at hand, message by message, against two other readers."""

from collections import Counter

import pytest
from mcap.reader import make_reader
from mcap.stream_reader import StreamReader

from drivelake.logs import PayloadReader
from drivelake.logs.findings import Findings
from drivelake.logs.mcap.log import _runs, inspect_mcap, read_mcap
from drivelake.logs.mcap.messages import Messages
from drivelake.logs.mcap.sound import sound_records
from drivelake.logs.mcap.walk import McapWalk
from drivelake.logs.report import Leftovers

TRUNCATED = "30b73b75_test_sample_truncated.mcap"


def recordings(folder):
    """Every sound file; of the many camera logs of one kind, one in four."""
    found = [path for path in sorted(folder.rglob("*.mcap")) if "conformance" not in str(path) and path.name != TRUNCATED]
    cameras = [path for path in found if path.name == "camera.mcap"]
    damaged = {"one_bit_rot_in_chunk.mcap", "trailing_garbage.mcap", "truncated_no_footer.mcap"}
    return [path for path in found if path not in set(cameras) - set(cameras[::4]) and path.name not in damaged]


def messages(path):
    """What python-mcap reads, in file order: topic, stamps, sequence, bytes."""
    with path.open("rb") as file:
        topics = {}
        for record in StreamReader(file, record_size_limit=None).records:
            if type(record).__name__ == "Channel":
                topics[record.id] = record.topic
            elif type(record).__name__ == "Message":
                yield topics[record.channel_id], record.log_time, record.publish_time, record.sequence, record.data


def test_every_message_of_every_recording_is_the_one_that_the_reference_library_reads(shared_data):
    paths = recordings(shared_data)
    assert len(paths) > 30
    for path in paths:
        topics = {}
        found = []
        for record in sound_records(path, Findings(strict=True)):
            if type(record).__name__ == "Channel":
                topics[record.id] = record.topic
            elif type(record).__name__ == "Message":
                stamps = (record.log_time, record.publish_time, record.sequence)
                found.append((topics[record.channel_id], *stamps, record.data))
        assert found == list(messages(path)), path.name


def test_blocks_point_at_the_bytes_of_every_message_in_the_order_of_its_channel(shared_data):
    for path in recordings(shared_data):
        walk, found = McapWalk(path, Findings(strict=True)), {}
        for event in walk.events():
            for number, run in _runs(walk, event) if isinstance(event, Messages) else ():
                rows = found.setdefault(walk.declared.channels[number].topic, [])
                for block in run.blocks():
                    columns = (block.log_ns.tolist(), block.publish_ns.tolist(), block.starts.tolist(), block.lengths.tolist())
                    rows += [
                        (log, publish, block.buffer[start : start + size].tobytes())
                        for log, publish, start, size in zip(*columns, strict=True)
                    ]
        expected = {}
        for topic, log, publish, _, data in messages(path):
            expected.setdefault(topic, []).append((log, publish, data))
        assert found == expected, path.name


def test_counts_and_stamps_of_a_report_are_those_of_the_summary(shared_data):
    for path in recordings(shared_data):
        with path.open("rb") as file:
            summary = make_reader(file).get_summary()
        if summary is None or not summary.statistics or not summary.statistics.channel_message_counts:
            continue
        expected = Counter()
        for number, count in summary.statistics.channel_message_counts.items():
            expected[summary.channels[number].topic] += count
        _, channels = inspect_mcap(path, Findings(strict=True))
        assert +Counter({channel.name: channel.messages for channel in channels}) == +expected, path.name
        stamped = [channel for channel in channels if channel.messages]
        if stamped:
            assert min(channel.first_ns for channel in stamped) == summary.statistics.message_start_time
            assert max(channel.last_ns for channel in stamped) == summary.statistics.message_end_time


@pytest.mark.parametrize("name", ["mcap_mcity/DIT_Loop.mcap", "mcap_kitti/kitti_2011_09_26_drive_0002_f0-9.mcap"])
def test_rosbags_reads_the_same_messages(shared_data, name):
    from rosbags.highlevel import AnyReader

    path, expected = shared_data / name, {}
    with AnyReader([path]) as reader:
        for connection, stamp, data in reader.messages():
            expected.setdefault(connection.topic, []).append((stamp, data))
    found = {}
    for topic, log, _, _, data in messages(path):
        found.setdefault(topic, []).append((log, data))
    own = {}
    topics = {}
    for record in sound_records(path, Findings(strict=True)):
        if type(record).__name__ == "Channel":
            topics[record.id] = record.topic
        elif type(record).__name__ == "Message":
            own.setdefault(topics[record.channel_id], []).append((record.log_time, record.data))
    for rows in (*expected.values(), *own.values()):
        rows.sort()
    assert own == expected


def test_the_bytes_behind_every_pointer_are_the_end_of_its_message(shared_data):
    """The last field of a picture is its payload, so its bytes end the message, but for padding to four bytes."""
    seen = 0
    for path in recordings(shared_data):
        expected = {}
        for topic, log, _, _, data in messages(path):
            expected.setdefault((topic, log), []).append(data)
        batches = read_mcap(path, wanted=lambda _: True, batch_rows=1000, leftovers=Leftovers(), findings=Findings(strict=True))
        with PayloadReader(path) as reader:
            for channel, kind, batch, _ in batches:
                if "payload_chunk" not in batch.schema.names or not kind.endswith("Image"):
                    continue
                for row in batch.to_pylist():
                    payload = reader.read(row["payload_chunk"], row["payload_offset"], row["payload_bytes"])
                    last = -len(payload)
                    ends = [data[at:] for data in expected[channel, row["t_ns"]] for at in range(last - 3, last + 1)]
                    assert any(end.startswith(payload) for end in ends), (path.name, channel)
                    seen += 1
    assert seen > 1000
