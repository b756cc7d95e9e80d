import struct
from collections import Counter
from io import BytesIO

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader
from mcap.writer import Writer
from mcap_ros2.decoder import DecoderFactory

from drivelake.errors import LogDamaged, MissingChannel, UnsupportedLog
from drivelake.logs import Leftovers, PayloadReader, inspect_log, read_log
from tests.drivelake.logs.making import (
    COMPRESSED_IMAGE,
    IMAGE,
    IMU,
    LAYOUTS,
    START_NS,
    drive_mcap,
    imu,
    picture,
    raw_image,
    write_mcap,
)

FLIPPED = drive_mcap(12, attachment=b"a note with a checksum of its own")


@pytest.fixture
def write(tmp_path):
    def put(data, name="log.mcap"):
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return put


def tables(path, **options):
    batches = {}
    for batch in read_log(path, **options):
        batches.setdefault(batch.channel, []).append(batch.batch)
    return {channel: pa.Table.from_batches(parts) for channel, parts in batches.items()}


def oracle(path):
    """What mcap_ros2 reads, in the order of the file."""
    found = {}
    with path.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        for _, channel, message, decoded in reader.iter_decoded_messages(log_time_order=False):
            found.setdefault(channel.topic, []).append((message, decoded))
    return found


def same_as_oracle(path, topics):
    expected, found = oracle(path), tables(path)
    for topic in topics:
        table = found[topic]
        assert table.column("t_ns").to_pylist() == [m.log_time for m, _ in expected[topic]]
        assert table.column("publish_ns").to_pylist() == [m.publish_time for m, _ in expected[topic]]
        for name in table.column_names[3:]:
            values = [decoded for _, decoded in expected[topic]]
            for part in ("header.frame_id" if name == "frame_id" else name).split("."):
                values = [getattr(value, part) for value in values]
            assert table.column(name).to_pylist() == [list(v) if isinstance(v, bytes) else v for v in values], name


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_every_layout_of_a_file_gives_the_same_values(write, layout):
    table = tables(write(drive_mcap(**layout)))["/imu"]
    assert table.column("angular_velocity.z").to_pylist() == [float(i) for i in range(60)]
    assert table.column("extra")[3].as_py() == [0.0, 1.0, 2.0]
    assert table.column("t_ns").to_pylist() == [START_NS + i * 10**7 for i in range(60)]
    assert table.column("publish_ns")[0].as_py() == START_NS - 7
    assert table.column("sensor_ns")[2].as_py() == START_NS + 2 * 10**7 - 500
    assert set(table.column("frame_id").to_pylist()) == {"base"}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_the_bytes_behind_a_picture_pointer_are_the_picture(write, layout):
    path = write(drive_mcap(**layout))
    rows = tables(path)["/camera"].to_pylist()
    assert len(rows) == 30
    with PayloadReader(path) as reader:
        for number, row in enumerate(rows):
            expected = picture(number).data
            assert reader.read(row["payload_chunk"], row["payload_offset"], row["payload_bytes"]) == expected
            assert (row["format"], row["frame_id"]) == ("jpeg", "camera")


def test_a_raw_image_keeps_what_describes_it(write):
    path = write(write_mcap([("/raw", "sensor_msgs/msg/Image", IMAGE, [raw_image(1)])]))
    (row,) = tables(path)["/raw"].to_pylist()
    assert (row["height"], row["width"], row["step"], row["is_bigendian"], row["format"]) == (2, 3, 9, 0, "rgb8")
    with PayloadReader(path) as reader:
        assert reader.read(row["payload_chunk"], row["payload_offset"], row["payload_bytes"]) == bytes(range(18))


def test_values_are_those_of_the_reference_decoder(write):
    same_as_oracle(write(drive_mcap()), ["/imu"])


@pytest.mark.parametrize(
    "name", ["corner_derived/mcap/plain_small_chunks.mcap", "corner_derived/mcap/lz4.mcap", "mcap_mcity/start_position_A.mcap"]
)
def test_recorded_values_are_those_of_the_reference_decoder(shared_data, name):
    same_as_oracle(shared_data / name, ["/ins/imu", "/ins/odometry", "/ins/nav_sat_fix"])


def test_recorded_pictures_are_those_of_the_reference_decoder(shared_data):
    path = shared_data / "drives_donkeycar" / "drive_01" / "camera.mcap"
    (topic,) = oracle(path)
    rows = tables(path)[topic].to_pylist()
    with PayloadReader(path) as reader:
        for row, (message, decoded) in zip(rows, oracle(path)[topic], strict=True):
            assert reader.read(row["payload_chunk"], row["payload_offset"], row["payload_bytes"]) == decoded.data
            stamp = decoded.header.stamp.sec * 10**9 + decoded.header.stamp.nanosec
            assert (row["t_ns"], row["sensor_ns"]) == (message.log_time, stamp or None)


def test_messages_stay_in_the_order_they_were_logged(shared_data):
    path = shared_data / "corner_derived" / "mcap" / "out_of_order.mcap"
    for topic, messages in oracle(path).items():
        assert tables(path)[topic].column("t_ns").to_pylist() == [m.log_time for m, _ in messages]
    assert all(channel.backward_steps > 50 for channel in inspect_log(path).channels)


def test_scalars_arrays_and_nested_messages_become_columns_of_their_types(write):
    schema = tables(write(drive_mcap()))["/imu"].schema
    assert schema.field("angular_velocity.x").type == pa.float64()
    assert schema.field("angular_velocity.x").metadata == {b"unit": b"rad/s", b"source_unit": b""}
    assert schema.field("angular_velocity_covariance").type == pa.list_(pa.float64(), 9)
    assert schema.field("extra").type == pa.list_(pa.float32())
    assert schema.names[:4] == ["t_ns", "publish_ns", "sensor_ns", "frame_id"]


def test_lists_of_messages_bytes_and_signed_times_survive(write):
    definition = (
        "uint8[] blob\nuint8[2] pair\nPart[] parts\nbuiltin_interfaces/Duration left\nbool on\nstring[] words\n"
        "===\nMSG: pkg/Part\nint16 number\nuint8[] raw\nfloat32[2] xy\n"
    )
    part = {"number": -3, "raw": b"\x01\x02", "xy": [0.5, 1.5]}
    message = {
        "blob": b"abc",
        "pair": b"yz",
        "parts": [part, part],
        "left": {"sec": -2, "nanosec": 5},
        "on": True,
        "words": ["a", "", "ö"],
    }
    # recorders leave the built-in definitions out; the reader must know them
    encoding = definition + "===\nMSG: builtin_interfaces/Duration\nint32 sec\nuint32 nanosec\n"
    data = write_mcap([("/mixed", "pkg/msg/Mixed", definition, [message], encoding)])
    (row,) = tables(write(data))["/mixed"].to_pylist()
    assert row["blob"] == list(b"abc")
    assert row["pair"] == list(b"yz")
    assert row["parts"] == [{"number": -3, "raw": [1, 2], "xy": [0.5, 1.5]}] * 2
    assert (row["left.sec"], row["left.nanosec"], row["on"], row["words"]) == (-2, 5, True, ["a", "", "ö"])
    assert row["sensor_ns"] is None


def test_a_stamp_that_nobody_set_is_null(write):
    message = picture(0)
    message.header.stamp.sec = message.header.stamp.nanosec = 0
    path = write(write_mcap([("/camera", "sensor_msgs/msg/CompressedImage", COMPRESSED_IMAGE, [message])]))
    assert tables(path)["/camera"].column("sensor_ns").to_pylist() == [None]


def test_big_endian_pictures_and_values_are_read(write):
    from io import BytesIO

    from mcap.writer import Writer

    output = BytesIO()
    writer = Writer(output)
    writer.start()
    head = b"\x00\x00\x00\x00" + struct.pack(">iI", 5, 6) + struct.pack(">I", 4) + b"cam\x00"
    bodies = {
        "sensor_msgs/msg/CompressedImage": (
            COMPRESSED_IMAGE,
            head + struct.pack(">I", 4) + b"png\x00" + struct.pack(">I", 3) + b"xyz",
        ),
        "pkg/msg/One": ("uint32 value\n", b"\x00\x00\x00\x00" + struct.pack(">I", 77)),
    }
    for kind, (definition, body) in bodies.items():
        schema = writer.register_schema(name=kind, encoding="ros2msg", data=definition.encode())
        channel = writer.register_channel(topic=kind, message_encoding="cdr", schema_id=schema)
        writer.add_message(channel_id=channel, log_time=1, publish_time=1, data=body)
    writer.finish()
    path = write(output.getvalue())
    found = tables(path)
    assert found["pkg/msg/One"].column("value").to_pylist() == [77]
    (row,) = found["sensor_msgs/msg/CompressedImage"].to_pylist()
    assert (row["sensor_ns"], row["frame_id"], row["format"]) == (5_000_000_006, "cam", "png")
    with PayloadReader(path) as reader:
        assert reader.read(row["payload_chunk"], row["payload_offset"], row["payload_bytes"]) == b"xyz"


def test_batches_have_at_most_the_rows_asked_for_and_lose_none(write):
    path = write(drive_mcap())
    sizes = [(b.channel, b.batch.num_rows) for b in read_log(path, batch_rows=7)]
    assert max(rows for _, rows in sizes) == 7
    assert Counter({c: sum(r for n, r in sizes if n == c) for c, _ in sizes}) == {"/imu": 60, "/camera": 30, "/silent": 0}


def test_only_the_channels_asked_for_are_read_and_a_wrong_name_names_the_nearest(write):
    path = write(drive_mcap())
    assert set(tables(path, channels=["/camera"])) == {"/camera"}
    with pytest.raises(MissingChannel, match=r"no channel '/camara'; the nearest is '/camera'"):
        tables(path, channels=["/camara"])


def test_a_channel_without_messages_is_listed_and_gives_an_empty_table(write):
    path = write(drive_mcap())
    silent = next(c for c in inspect_log(path).channels if c.name == "/silent")
    assert (silent.messages, silent.first_ns, silent.rate_hz) == (0, None, None)
    table = tables(path)["/silent"]
    assert table.num_rows == 0
    assert "angular_velocity.x" in table.column_names


def test_a_topic_declared_with_two_types_gives_two_tables(write):
    rows = [("/t", "sensor_msgs/msg/Imu", IMU, [imu(0)]), ("/t", "pkg/msg/One", "uint32 value\n", [{"value": 9}])]
    found = tables(write(write_mcap(rows)))
    assert found["/t#2"].column("value").to_pylist() == [9]
    assert found["/t"].num_rows == 1


def test_a_topic_that_is_called_like_the_second_of_another_is_a_table_of_its_own(write):
    rows = [
        ("/t", "sensor_msgs/msg/Imu", IMU, [imu(0)]),
        ("/t#2", "pkg/msg/One", "uint32 value\n", [{"value": 8}]),
        ("/t", "pkg/msg/Two", "uint32 value\n", [{"value": 9}]),
    ]
    found = tables(write(write_mcap(rows)))
    assert {name: table.num_rows for name, table in found.items()} == {"/t": 1, "/t#2": 1, "/t#3": 1}
    assert found["/t#2"].column("value").to_pylist() == [8]
    assert found["/t#3"].column("value").to_pylist() == [9]


def test_schemas_that_differ_in_their_encoding_only_are_not_one_table(write):
    output = BytesIO()
    writer = Writer(output)
    writer.start()
    for encoding in ("ros2msg", "ros1msg"):
        schema = writer.register_schema("pkg/msg/One", encoding, b"uint32 value\n")
        channel = writer.register_channel("/t", "cdr", schema)
        writer.add_message(channel, 5, b"\0\1\0\0" + struct.pack("<I", 7), 5)
    writer.finish()
    leftovers = Leftovers()
    found = tables(write(output.getvalue()), leftovers=leftovers)
    assert {name: table.num_rows for name, table in found.items()} == {"/t": 1}
    assert "ros1msg" in leftovers.unsupported["/t#2"]


def test_an_encoding_without_reader_is_a_note_and_not_damage(shared_data):
    path = shared_data / "mcap" / "pj-mcap-server" / "ee50684e_test_unsupported_encoding.mcap"
    if not path.is_file():
        pytest.skip("recorded data is absent: mcap/pj-mcap-server")
    report = inspect_log(path)
    assert report.readable
    assert "'protobuf'" in report.notes[0]
    with pytest.raises(UnsupportedLog, match="protobuf"):
        tables(path)
    leftovers = Leftovers()
    assert set(tables(path, leftovers=leftovers)) == {"/ros2/data"}
    assert "protobuf" in leftovers.unsupported["/proto/data"]


def test_a_string_that_reaches_beyond_its_message_is_damage_and_not_a_shorter_string(write):
    data = bytearray(
        write_mcap([("/s", "pkg/msg/S", "string text\n", [{"text": "x" * 40}])], use_chunking=False, enable_data_crcs=False)
    )
    at = data.index(b"\x29\x00\x00\x00xxxx")
    data[at] = 200
    with pytest.raises(LogDamaged, match=r"a field reaches to \d+"):
        tables(write(bytes(data)))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 8 * len(FLIPPED) - 1))
def test_any_flipped_bit_of_a_file_with_checksums_is_named(tmp_path, place):
    data = bytearray(FLIPPED)
    data[place // 8] ^= 1 << place % 8
    path = tmp_path / "log.mcap"
    path.write_bytes(data)
    assert inspect_log(path).damage
    with pytest.raises(LogDamaged):
        tables(path, leftovers=Leftovers())


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(size=st.integers(0, len(FLIPPED) - 1))
def test_a_cut_at_any_byte_is_named_and_what_stands_before_it_is_counted(tmp_path, size):
    path = tmp_path / "log.mcap"
    path.write_bytes(FLIPPED[:size])
    report = inspect_log(path)
    assert report.damage
    assert sum(c.messages for c in report.channels) <= 18
    if size > len(FLIPPED) - 20:
        assert sum(c.messages for c in report.channels) == 18


def test_statistics_that_promise_more_messages_than_there_are_is_damage(write):
    whole = write_mcap(
        [("/imu", "sensor_msgs/msg/Imu", IMU, [imu(i) for i in range(3)])],
        use_chunking=False,
        enable_crcs=False,
        enable_data_crcs=False,
    )
    record = struct.pack("<BQHI", 5, 22 + len(imu_bytes()), 1, 1)
    at = whole.index(record)
    report = inspect_log(write(whole[:at] + whole[at + 9 + 22 + len(imu_bytes()) :]))
    assert "The statistics promise 3 messages, 2 can be read." in report.damage


def imu_bytes():
    from mcap_ros2._dynamic import serialize_dynamic

    return serialize_dynamic("sensor_msgs/msg/Imu", IMU)["sensor_msgs/msg/Imu"](imu(1))


def test_a_chunk_that_declares_a_giant_size_is_refused_before_it_is_inflated(write):
    data = bytearray(drive_mcap(4, enable_data_crcs=False))
    at = data.index(b"zstd") - 4 - 4 - 8
    data[at : at + 8] = struct.pack("<Q", 1 << 40)
    assert any(f"declares {1 << 40} bytes, at most" in sentence for sentence in inspect_log(write(bytes(data))).damage)


def test_a_drive_without_messages_is_sound(shared_data):
    report = inspect_log(shared_data / "drives_donkeycar" / "drive_31" / "camera.mcap")
    assert report.readable
    assert report.channels == ()


CORNERS = {
    "lz4.mcap": (None, 900),
    "no_chunks_no_index.mcap": (None, 900),
    "out_of_order.mcap": (None, 900),
    "plain_small_chunks.mcap": (None, 900),
    "one_bit_rot_in_chunk.mcap": ("The chunk at offset 37686 has CRC-32 b104560b, it declares a6fc9fff.", 866),
    "trailing_garbage.mcap": ("100 bytes follow the closing magic at offset 115028, expected none.", 900),
    "truncated_no_footer.mcap": ("The CHUNK record at offset 62654 needs 3545 bytes, the file ends 602 bytes into it", 519),
}


@pytest.mark.parametrize(("name", "expected"), CORNERS.items(), ids=CORNERS)
def test_each_recorded_corner_case_is_told_as_it_is(shared_data, name, expected):
    damage, messages = expected
    path = shared_data / "corner_derived" / "mcap" / name
    report = inspect_log(path)
    assert sum(channel.messages for channel in report.channels) == messages
    assert {channel.name for channel in report.channels} == {"/ins/imu", "/ins/odometry", "/ins/nav_sat_fix"}
    if damage is None:
        assert report.readable
        assert sum(t.num_rows for t in tables(path).values()) == messages
    else:
        assert report.damage[0].startswith(damage)
        with pytest.raises(LogDamaged) as raised:
            tables(path)
        assert raised.value.message.startswith(f"{name}: {damage}")


def test_every_sound_file_of_other_writers_is_sound(shared_data):
    paths = sorted((shared_data / "mcap").rglob("*.mcap")) + sorted((shared_data / "mcap_conformance").rglob("*.mcap"))
    if len(paths) < 100:
        pytest.skip("recorded data is absent: mcap, mcap_conformance")
    damaged = {path.name: inspect_log(path).damage for path in paths}
    assert [name for name, damage in damaged.items() if damage] == ["30b73b75_test_sample_truncated.mcap"]


def test_rates_and_gaps_are_measured(shared_data):
    (channel,) = inspect_log(shared_data / "drives_donkeycar" / "drive_01" / "camera.mcap").channels
    assert (channel.messages, channel.rate_hz, channel.gap_ms_max, channel.backward_steps) == (578, 20.0, 92.0, 0)
    assert np.isclose((channel.last_ns - channel.first_ns) / 1e9, 28.918)
