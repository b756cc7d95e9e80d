from collections import Counter, defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.rosbag1 import Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from drivelake.errors import UnsupportedLog
from drivelake.logs.bags.ros1 import inspect_ros1, read_ros1, sound_messages
from drivelake.logs.bags.ros1_walk import Ros1Walk
from drivelake.logs.findings import Findings
from drivelake.logs.report import Leftovers
from tests.drivelake.logs.bags.making import START_NS, counted, expected, rows, store, write_ros1

RECORDED = ("example.bag", "example-lz4.bag", "tilt_laser.bag")
KINDS = (None, "BZ2", "LZ4")


def read(path, *, wanted=lambda _: True, batch_rows=8192, leftovers=None, threads=1):
    return list(
        read_ros1(
            path, wanted=wanted, batch_rows=batch_rows, leftovers=leftovers, findings=Findings(strict=True), threads=threads
        )
    )


def tables(batches):
    found = defaultdict(list)
    for batch in batches:
        found[batch.channel].append(batch.batch)
    return {name: pa.Table.from_batches(parts) for name, parts in found.items()}


def plain(value):
    """A message of rosbags as Arrow gives its values back."""
    if isinstance(value, np.ndarray):
        return [plain(item) for item in value] if value.dtype == object else value.tolist()
    if isinstance(value, list):
        return [plain(item) for item in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: plain(getattr(value, name)) for name in value.__dataclass_fields__ if name != "__msgtype__"}
    return value.item() if isinstance(value, np.generic) else value


def at(message, column):
    """The value of a column: dotted path into the plain message."""
    for name in ("header.frame_id" if column == "frame_id" and "header" in message else column).split("."):
        message = message[name]
    return message


@pytest.mark.parametrize("name", RECORDED)
def test_every_message_of_a_recorded_bag_is_the_one_that_rosbags_reads(shared_data, name):
    path = shared_data / "ros1_bag" / name
    with Reader(path) as reader:
        truth = Counter((connection.topic, stamp, data) for connection, stamp, data in reader.messages())
    assert counted(sound_messages(path, Findings(strict=True))) == truth


@pytest.mark.parametrize("name", RECORDED)
def test_the_report_of_a_recorded_bag_counts_what_rosbags_counts(shared_data, name):
    path = shared_data / "ros1_bag" / name
    findings = Findings(strict=True)
    form, channels = inspect_ros1(path, findings)
    with Reader(path) as reader:
        counts = {topic: info.msgcount for topic, info in reader.topics.items()}
        span = reader.start_time, reader.end_time - 1
    assert form == "rosbag1"
    assert {channel.name: channel.messages for channel in channels} == counts == findings.expected
    assert [channel.name for channel in channels] == sorted(counts)
    assert (min(channel.first_ns for channel in channels), max(channel.last_ns for channel in channels)) == span


@pytest.mark.parametrize("name", RECORDED)
def test_every_value_of_a_recorded_bag_is_the_one_that_rosbags_decodes(shared_data, name):
    path = shared_data / "ros1_bag" / name
    found = tables(read(path, batch_rows=500))
    types, truth = get_typestore(Stores.ROS1_NOETIC), defaultdict(list)
    with Reader(path) as reader:
        for connection in reader.connections:
            types.register(get_types_from_msg(connection.msgdef.data, connection.msgtype))
        for connection, stamp, data in reader.messages():
            truth[connection.topic].append((stamp, plain(types.deserialize_ros1(data, connection.msgtype))))
    assert found.keys() == truth.keys()
    for topic, table in found.items():
        # a bag is read in the order of the file, rosbags sorts by stamp; in these recordings stamps of a topic never tie
        for row, (stamp, message) in zip(sorted(table.to_pylist(), key=lambda row: row["t_ns"]), truth[topic], strict=True):
            assert row.pop("t_ns") == row.pop("publish_ns") == stamp
            sensor = row.pop("sensor_ns")
            if "header" in message:
                header = message["header"]["stamp"]
                assert sensor == (header["sec"] * 10**9 + header["nanosec"] or None)
            assert row == {column: at(message, column) for column in row}


@pytest.mark.parametrize("compression", KINDS)
def test_a_written_bag_is_read_back(tmp_path, compression):
    path = write_ros1(tmp_path / "a.bag", compression=compression)
    assert counted(sound_messages(path, Findings(strict=True))) == expected()
    found = tables(read(path))
    assert {name: table.num_rows for name, table in found.items()} == {"/motion": 20, "/camera": 20, "/said": 20, "/silent": 0}
    said = found["/said"]
    assert said["data"].to_pylist() == ["x" * (number % 7) + str(number) for number in range(2, 60, 3)]
    assert said["t_ns"].to_pylist() == said["publish_ns"].to_pylist() == [START_NS + n * 10**7 for n in range(2, 60, 3)]


def test_batches_do_not_depend_on_threads_and_hold_no_more_rows_than_asked_for(tmp_path):
    path = write_ros1(tmp_path / "a.bag", 200, compression="LZ4")
    one, two = (read(path, batch_rows=7, threads=threads) for threads in (1, 2))
    assert one == two
    assert max(batch.batch.num_rows for batch in one) == 7
    assert sum(batch.batch.num_rows for batch in one) == 200


def test_publishers_of_one_topic_share_a_table_in_the_order_of_the_file(tmp_path):
    path = write_ros1(tmp_path / "a.bag", callers=3)
    stamps = tables(read(path))["/motion"]["t_ns"].to_pylist()
    assert stamps == [START_NS + number * 10**7 for number in range(0, 60, 3)]


def test_a_topic_with_another_type_is_another_table(tmp_path):
    kinds = (("/a", "std_msgs/msg/String"), ("/a", "geometry_msgs/msg/TwistStamped"))
    path = tmp_path / "a.bag"
    from rosbags.rosbag1 import Writer

    with Writer(path) as writer:
        connections = [writer.add_connection(topic, kind, typestore=store()) for topic, kind in kinds]
        for number, (_, _, stamp, data) in enumerate(rows(10, kinds)):
            writer.write(connections[number % 2], stamp, data)
    found = {batch.channel: batch for batch in read(path)}
    assert {name: (batch.type, batch.batch.num_rows) for name, batch in found.items()} == {
        "/a": ("std_msgs/String", 5),
        "/a#2": ("geometry_msgs/TwistStamped", 5),
    }


def test_only_wanted_tables_are_read_and_each_name_is_asked_for(tmp_path):
    path = write_ros1(tmp_path / "a.bag")
    asked = []
    batches = read(path, wanted=lambda name: asked.append(name) or name == "/said")
    assert {batch.channel for batch in batches} == {"/said"}
    assert sorted(asked) == ["/camera", "/motion", "/said", "/silent"]


def test_a_chunk_without_a_wanted_channel_is_not_opened(tmp_path):
    path = write_ros1(tmp_path / "a.bag", compression="LZ4", chunk_bytes=1)
    walk = Ros1Walk(path, Findings(strict=True))
    opened = list(walk.chunks(skip=lambda names: "/camera" not in names))
    assert len(opened) == 20
    assert {walk.channels[number].name for chunk in opened for number in chunk.messages.connections.tolist()} == {"/camera"}


def test_a_definition_without_columns_is_left_over(tmp_path):
    path = write_ros1(tmp_path / "a.bag")
    data = path.read_bytes()
    for old, new in ((b"message_definition=string data", b"message_definition=strong data"),):
        data = data.replace(old, new)
    path.write_bytes(data)
    leftovers = Leftovers()
    found = tables(read(path, leftovers=leftovers))
    assert found.keys() == {"/motion", "/camera"}
    assert leftovers.unsupported.keys() == {"/said", "/silent"}
    with pytest.raises(UnsupportedLog):
        read(path)


@pytest.mark.parametrize(("start", "word"), [(b"#ROSBAG V1.2\n", "only"), (b"#ROSBAG V1.1\n", "only")])
def test_bags_of_format_1_are_refused(tmp_path, start, word):
    path = write_ros1(tmp_path / "a.bag")
    path.write_bytes(start + path.read_bytes()[13:])
    for take in (lambda: inspect_ros1(path, Findings()), lambda: read(path), lambda: next(sound_messages(path, Findings()))):
        with pytest.raises(UnsupportedLog, match=word):
            take()


def test_an_encrypted_bag_is_refused(tmp_path):
    path = write_ros1(tmp_path / "a.bag")
    data = bytearray(path.read_bytes())
    size = int.from_bytes(data[13:17], "little")
    field = b"encryptor=rosbag/AesCbcEncryptor"
    header = bytes(data[17 : 17 + size]) + len(field).to_bytes(4, "little") + field
    padding = int.from_bytes(data[17 + size : 21 + size], "little") - len(field) - 4
    data[13 : 21 + size + padding + len(field) + 4] = (
        len(header).to_bytes(4, "little") + header + padding.to_bytes(4, "little") + b" " * padding
    )
    path.write_bytes(data)
    with pytest.raises(UnsupportedLog, match="AesCbcEncryptor"):
        inspect_ros1(path, Findings())


def test_bytes_without_a_checksum_are_named(tmp_path):
    notes = {}
    for compression in KINDS:
        findings = Findings(strict=True)
        inspect_ros1(write_ros1(tmp_path / f"{compression}.bag", compression=compression), findings)
        notes[compression] = [note for note in findings.notes if "no checksum" in note]
    assert [bool(notes[kind]) for kind in KINDS] == [True, False, True]  # rosbags writes lz4 frames without one


def test_the_recorder_of_ros_writes_lz4_with_a_checksum(shared_data):
    findings = Findings(strict=True)
    inspect_ros1(shared_data / "ros1_bag" / "example-lz4.bag", findings)
    assert not findings.notes


@settings(max_examples=25, deadline=None)
@given(
    stamps=st.lists(st.integers(0, 2**32 * 10**9 - 1), max_size=40),
    compression=st.sampled_from(KINDS),
    chunk_bytes=st.sampled_from((1, 300, 1 << 20)),
)
def test_any_stamps_in_any_order_come_back(tmp_path_factory, stamps, compression, chunk_bytes):
    from rosbags.rosbag1 import Writer

    path = tmp_path_factory.mktemp("bag") / "a.bag"
    writer = Writer(path)
    if compression:
        writer.set_compression(Writer.CompressionFormat[compression])
    writer.chunk_threshold = chunk_bytes
    with writer:
        connections = [writer.add_connection(f"/t{n}", "std_msgs/msg/String", typestore=store()) for n in range(2)]
        for number, stamp in enumerate(stamps):
            writer.write(connections[number % 2], stamp, len(str(number)).to_bytes(4, "little") + str(number).encode())
    found = tables(read(path, batch_rows=3))
    for offset, name in enumerate(("/t0", "/t1")):
        assert found[name]["t_ns"].to_pylist() == stamps[offset::2]
        assert found[name]["data"].to_pylist() == [str(number) for number in range(offset, len(stamps), 2)]


def test_what_is_skipped_does_not_depend_on_threads(tmp_path):
    path = write_ros1(tmp_path / "a.bag", compression="BZ2", chunk_bytes=1)
    data = bytearray(path.read_bytes())
    at = data.index(b"index_pos=") + 10
    data[at : at + 8] = bytes(8)
    places = [place for place in range(len(data)) if data.startswith(b"BZh", place)]
    data[places[4] + 20] ^= 1  # a chunk of the camera
    path.write_bytes(data)
    told = []
    for threads in (1, 4):
        findings = Findings()
        assert list(read_ros1(path, wanted="/motion".__eq__, batch_rows=9, leftovers=None, findings=findings, threads=threads))
        told.append((findings.sentences, findings.notes, findings.lost))
    assert told[0] == told[1]
