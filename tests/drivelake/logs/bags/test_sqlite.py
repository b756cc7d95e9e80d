import shutil
import sqlite3
from collections import Counter, defaultdict

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from drivelake.errors import LogDamaged, UnsupportedLog
from drivelake.logs.bags.sqlite import inspect_sqlite, read_sqlite, sound_messages
from drivelake.logs.findings import Findings
from drivelake.logs.report import Leftovers
from tests.drivelake.logs.bags.making import START_NS, counted, expected, store, write_db3

MCITY = ("ros2_db3_mcity/DIT_Loop", "ros2_db3_mcity/start_position_A")
LIDAR = ("ros2_db3_lidar_nebula/ars548", "ros2_db3_lidar_nebula/xt32")

VIEW = "CREATE VIEW messages AS SELECT 1 AS topic_id, 2 AS timestamp, zeroblob(9) AS data"


def read(path, *, wanted=lambda _: True, batch_rows=8192, leftovers=None, findings=None):
    findings = findings or Findings(strict=True)
    return list(read_sqlite(path, wanted=wanted, batch_rows=batch_rows, leftovers=leftovers, findings=findings))


def tables(batches):
    found = defaultdict(list)
    for batch in batches:
        found[batch.channel].append(batch.batch)
    return {name: pa.Table.from_batches(parts) for name, parts in found.items()}


def database(folder):
    return next(folder.glob("*.db3"))


def at(message, column):
    for name in ("header.frame_id" if column == "frame_id" else column).split("."):
        message = getattr(message, name)
    return message.tolist() if hasattr(message, "tolist") else message


@pytest.mark.parametrize("name", MCITY + LIDAR)
def test_every_message_of_a_recorded_bag_is_the_one_that_rosbags_reads(shared_data, name):
    with Reader(shared_data / name) as reader:
        truth = Counter((connection.topic, stamp, data) for connection, stamp, data in reader.messages())
        counts = {topic: info.msgcount for topic, info in reader.topics.items()}
        span = reader.start_time, reader.end_time - 1
    path, findings = database(shared_data / name), Findings(strict=True)
    assert counted(sound_messages(path, findings)) == truth
    form, channels = inspect_sqlite(path, findings)
    assert form == "rosbag2"
    assert {channel.name: channel.messages for channel in channels} == counts == findings.expected
    assert (min(channel.first_ns for channel in channels), max(channel.last_ns for channel in channels)) == span


@pytest.mark.parametrize("name", MCITY)
def test_every_value_of_a_recorded_bag_is_the_one_that_rosbags_decodes(shared_data, name):
    truth = defaultdict(list)
    with Reader(shared_data / name) as reader:
        for connection, stamp, data in reader.messages():
            truth[connection.topic].append((stamp, store(2).deserialize_cdr(data, connection.msgtype)))
    found = tables(read(database(shared_data / name), batch_rows=1000))
    assert found.keys() == truth.keys()
    for topic, table in found.items():
        for row, (stamp, message) in zip(sorted(table.to_pylist(), key=lambda row: row["t_ns"]), truth[topic], strict=True):
            assert row.pop("t_ns") == row.pop("publish_ns") == stamp
            assert row.pop("sensor_ns") == message.header.stamp.sec * 10**9 + message.header.stamp.nanosec
            assert row == {column: at(message, column) for column in row}


@pytest.mark.parametrize("name", ["DIT_Loop", "start_position_A"])
def test_a_recorded_bag_and_its_mcap_twin_hold_the_same_messages(shared_data, name):
    with (shared_data / "mcap_mcity" / f"{name}.mcap").open("rb") as file:
        twin = Counter(
            (channel.topic, message.log_time, message.data) for _, channel, message in make_reader(file).iter_messages()
        )
    path = database(shared_data / "ros2_db3_mcity" / name)
    assert counted(sound_messages(path, Findings(strict=True))) == twin


def test_borrowed_definitions_are_named_with_their_distribution(shared_data):
    findings = Findings(strict=True)
    read(database(shared_data / MCITY[0]), findings=findings)
    assert any("sensor_msgs/msg/NavSatFix" in note and "ROS 2 humble" in note for note in findings.notes)


@pytest.mark.parametrize("name", LIDAR)
def test_a_type_without_definition_is_left_over_with_a_way_to_help(shared_data, name):
    leftovers = Leftovers()
    assert not read(database(shared_data / name), leftovers=leftovers)
    (reason,) = leftovers.unsupported.values()
    assert "no definition" in reason
    assert "ros2 bag convert" in reason
    with pytest.raises(UnsupportedLog, match="no definition"):
        read(database(shared_data / name))


@pytest.mark.parametrize("compressed", [False, True])
def test_a_written_bag_is_read_back(tmp_path, compressed):
    path = write_db3(tmp_path / "bag", compressed=compressed)
    findings = Findings(strict=True)
    assert counted(sound_messages(path, findings)) == expected(version=2)
    assert findings.expected == {"/motion": 20, "/camera": 20, "/said": 20, "/silent": 0}
    found = tables(read(path, batch_rows=7))
    assert {name: table.num_rows for name, table in found.items()} == {"/motion": 20, "/camera": 20, "/said": 20, "/silent": 0}
    assert found["/said"]["data"].to_pylist() == ["x" * (number % 7) + str(number) for number in range(2, 60, 3)]
    assert found["/said"]["t_ns"].to_pylist() == [START_NS + number * 10**7 for number in range(2, 60, 3)]


def test_batches_repeat_and_hold_no_more_rows_than_asked_for(tmp_path):
    path = write_db3(tmp_path / "bag")
    one, two = read(path, batch_rows=3), read(path, batch_rows=3)
    assert one == two
    assert max(batch.batch.num_rows for batch in one) == 3


def test_only_wanted_tables_are_read_and_each_name_is_asked_for(tmp_path):
    path = write_db3(tmp_path / "bag")
    asked = []
    batches = read(path, wanted=lambda name: asked.append(name) or name == "/said")
    assert {batch.channel for batch in batches} == {"/said"}
    assert sorted(asked) == ["/camera", "/motion", "/said", "/silent"]


def test_a_definition_that_does_not_give_the_hash_of_its_type_is_told(tmp_path):
    path = write_db3(tmp_path / "bag")
    with sqlite3.connect(path) as bag:
        bag.execute(
            "UPDATE message_definitions SET encoded_message_definition ="
            " replace(encoded_message_definition, 'linear', 'lineal') WHERE topic_type LIKE '%Twist%'"
        )
    findings, leftovers = Findings(), Leftovers()
    found = tables(read(path, findings=findings, leftovers=leftovers))
    assert "/motion" not in found
    assert "RIHS01_" in leftovers.unsupported["/motion"]
    assert any("/motion" in sentence for sentence in findings.sentences)


def test_a_bag_without_metadata_promises_nothing(tmp_path):
    path = write_db3(tmp_path / "bag")
    (path.parent / "metadata.yaml").unlink()
    findings = Findings(strict=True)
    assert counted(sound_messages(path, findings)) == expected(version=2)
    assert not findings.expected
    assert any("metadata.yaml" in note for note in findings.notes)


def test_metadata_of_another_file_or_that_cannot_be_read_do_not_count(tmp_path):
    path = write_db3(tmp_path / "bag")
    other = path.with_name("other.db3")
    shutil.copy(path, other)
    beside = path.parent / "metadata.yaml"
    for target, text in ((other, beside.read_text()), (path, "rosbag2_bagfile_information: [1"), (path, "a: 1")):
        beside.write_text(text)
        findings = Findings(strict=True)
        inspect_sqlite(target, findings)
        assert not findings.expected
        assert any("not checked" in note for note in findings.notes)


def test_a_database_that_is_no_bag_is_refused(tmp_path):
    path = tmp_path / "other.db3"
    with sqlite3.connect(path) as bag:
        bag.execute("CREATE TABLE other(id)")
    for take in (lambda: inspect_sqlite(path, Findings()), lambda: read(path)):
        with pytest.raises(UnsupportedLog, match="no ROS 2 bag"):
            take()


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id, timestamp, data)",
        "CREATE TABLE topics(id, name, type, serialization_format);" + VIEW,
        "CREATE TABLE topics(id, name); CREATE TABLE messages(id INTEGER PRIMARY KEY, topic_id, timestamp, data)",
    ],
)
def test_a_bag_without_one_of_its_tables_is_damaged_and_nothing_is_computed(tmp_path, statement):
    path = tmp_path / "part.db3"
    with sqlite3.connect(path) as bag:
        bag.executescript(statement)
    findings = Findings()
    assert inspect_sqlite(path, findings) == ("rosbag2", ())
    assert any("has no table" in sentence for sentence in findings.sentences)
    with pytest.raises(LogDamaged, match="has no table"):
        read(path)


def test_a_bag_compressed_as_a_whole_is_refused_with_the_next_step(tmp_path):
    import zstandard

    path = tmp_path / "bag.db3.zstd"
    path.write_bytes(zstandard.compress(write_db3(tmp_path / "bag").read_bytes()))
    with pytest.raises(UnsupportedLog, match="zstd --decompress"):
        inspect_sqlite(path, Findings())


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2**63 - 1), st.binary(max_size=300)), max_size=30))
def test_any_rows_come_back_in_the_order_they_were_logged(tmp_path_factory, messages):
    folder = tmp_path_factory.mktemp("bag") / "bag"
    with Writer(folder, version=9, storage_plugin=StoragePlugin.SQLITE3) as writer:
        connections = [writer.add_connection(f"/t{n}", "std_msgs/msg/String", typestore=store(2)) for n in range(3)]
        for topic, stamp, data in messages:
            writer.write(connections[topic], stamp, b"\x00" + data)
    found = [
        (message.channel.name, message.log_ns, message.data)
        for message in sound_messages(folder / "bag.db3", Findings(strict=True))
    ]
    assert found == [(f"/t{topic}", stamp, b"\x00" + data) for topic, stamp, data in messages]


def test_two_encodings_of_one_topic_are_two_channels(tmp_path):
    path = write_db3(tmp_path / "bag")
    (path.parent / "metadata.yaml").unlink()
    with sqlite3.connect(path) as bag:
        columns = "name, type, 'cbor', offered_qos_profiles, type_description_hash"
        bag.execute(f"INSERT INTO topics SELECT 99, {columns} FROM topics WHERE name = '/said'")
        bag.execute("UPDATE messages SET topic_id = 99 WHERE id = 3")
    leftovers = Leftovers()
    found = tables(read(path, leftovers=leftovers))
    assert found["/said"].num_rows == 19
    assert "cbor" in leftovers.unsupported["/said#2"]


def test_definitions_that_differ_are_told_and_not_used(tmp_path):
    path = write_db3(tmp_path / "bag")
    with sqlite3.connect(path) as bag:
        columns = "topic_type, encoding, 'int32 x', type_description_hash"
        bag.execute(
            f"INSERT INTO message_definitions SELECT 0, {columns} FROM message_definitions WHERE topic_type LIKE '%Twist%'"
        )
    findings = Findings()
    found = tables(read(path, findings=findings))
    assert findings.sentences == (
        "The bag carries definitions of 'geometry_msgs/msg/TwistStamped' that differ: none of them is used.",
    )
    assert found["/motion"]["twist.linear.z"].to_pylist() == [float(number) for number in range(0, 60, 3)]
