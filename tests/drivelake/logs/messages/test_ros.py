import struct
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.records import Schema
from mcap_ros2._dynamic import serialize_dynamic
from mcap_ros2.decoder import DecoderFactory
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from drivelake.errors import LogDamaged, UnsupportedLog
from drivelake.logs.findings import Findings
from drivelake.logs.messages.block import Channel
from drivelake.logs.messages.rows import PART_BYTES
from drivelake.logs.messages.table import open_table
from tests.drivelake.logs.making import COMPRESSED_IMAGE, HEADER, IMAGE, IMU, imu, picture, raw_image
from tests.drivelake.logs.messages.making import block, decode, ros

CDR, ROS1 = "cdr", "ros1"
STAMPS = ("t_ns", "publish_ns", "sensor_ns")
NUMBERS = {f"{sign}int{bits}": (sign == "u", bits) for sign in ("", "u") for bits in (8, 16, 32, 64)}
VALUES = {
    "bool": st.booleans(),
    "float32": st.floats(width=32, allow_nan=False),
    "float64": st.floats(allow_nan=False),
    "string": st.text(st.characters(min_codepoint=1, exclude_categories=["Cs"]), max_size=6),
    **{
        name: st.integers(0, 2**bits - 1) if unsigned else st.integers(-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
        for name, (unsigned, bits) in NUMBERS.items()
    },
}


@st.composite
def definitions(draw):
    """Three messages, each of which may use the ones before it, alone and in lists."""
    parts = {}
    for name in ("Inner", "Part", "Whole"):
        bases = [*VALUES, *parts, *parts]
        kinds = draw(
            st.lists(st.tuples(st.sampled_from(bases), st.sampled_from(["", "", "[]", "[3]", "[<=4]"])), min_size=1, max_size=5)
        )
        parts[name] = [(f"f{number}", base, suffix) for number, (base, suffix) in enumerate(kinds)]
    return parts


def text_of(parts):
    sections = [
        "".join(f"{base if base in VALUES else 'pkg/' + base}{suffix} {name}\n" for name, base, suffix in parts[part])
        for part in ("Whole", "Part", "Inner")
    ]
    return "===\nMSG: pkg/Part\n".join(sections[:2]) + "===\nMSG: pkg/Inner\n" + sections[2]


def values_of(parts, name):
    def value(base, suffix):
        one = VALUES[base] if base in VALUES else values_of(parts, base)
        low, high = {"": (1, 1), "[]": (0, 5), "[3]": (3, 3), "[<=4]": (0, 4)}[suffix]
        return st.lists(one, min_size=low, max_size=high) if suffix else one

    return st.fixed_dictionaries({field: value(base, suffix) for field, base, suffix in parts[name]})


@st.composite
def logs(draw):
    parts = draw(definitions())
    return text_of(parts), draw(st.lists(values_of(parts, "Whole"), min_size=1, max_size=9))


def flat(value, prefix=""):
    """Nested messages as dotted names, as columns are called."""
    found = {}
    for name, inner in value.items():
        found |= flat(inner, f"{prefix}{name}.") if isinstance(inner, dict) else {f"{prefix}{name}": inner}
    return found


def encodings(definition, messages):
    """Each message as CDR of both byte orders and as ROS 1, written by mcap_ros2 and rosbags."""
    encode = serialize_dynamic("pkg/msg/Whole", definition)["pkg/msg/Whole"]
    store = get_typestore(Stores.EMPTY)
    for section, name in zip(definition.split("===\n"), ("Whole", "Part", "Inner"), strict=True):
        body = section.split("\n", 1)[1] if section.startswith("MSG:") else section
        store.register(get_types_from_msg(body, f"pkg/msg/{name}"))
    little = [encode(message) for message in messages]
    decoded = [store.deserialize_cdr(data, "pkg/msg/Whole") for data in little]
    big = [bytes(store.serialize_cdr(value, "pkg/msg/Whole", little_endian=False)) for value in decoded]
    return {"little": little, "big": big, ROS1: [bytes(store.serialize_ros1(value, "pkg/msg/Whole")) for value in decoded]}


def exact(value):
    """Text in which -0.0 and NaN are what they are, and the order of names is none."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {exact(value[name])}" for name in sorted(value)) + "}"
    return f"[{', '.join(map(exact, value))}]" if isinstance(value, list) else repr(value)


def values(batch):
    return [{name: value for name, value in row.items() if name not in STAMPS} for row in batch.to_pylist()]


@settings(max_examples=60, deadline=None)
@given(log=logs())
def test_any_message_of_any_definition_comes_back_from_every_encoding(log):
    definition, messages = log
    encoded = encodings(definition, messages)
    expected = [flat(message) for message in messages]
    for name in ("little", "big"):
        assert exact(values(decode(ros("pkg/msg/Whole", definition), encoded[name])[0])) == exact(expected), name
    assert exact(values(decode(ros("pkg/Whole", definition, ROS1), encoded[ROS1])[0])) == exact(expected)


@settings(max_examples=40, deadline=None)
@given(log=logs(), data=st.data())
def test_messages_of_both_byte_orders_keep_their_places(log, data):
    definition, messages = log
    encoded = encodings(definition, messages)
    picks = data.draw(st.lists(st.sampled_from(["little", "big"]), min_size=len(messages), max_size=len(messages)))
    mixed = [encoded[pick][number] for number, pick in enumerate(picks)]
    channel = ros("pkg/msg/Whole", definition)
    assert decode(channel, mixed)[0].equals(decode(channel, encoded["little"])[0])


def oracle_values(decoded):
    if isinstance(decoded, list):
        return [oracle_values(item) for item in decoded]
    if isinstance(decoded, bytes):
        return list(decoded)
    if isinstance(decoded, SimpleNamespace):
        return {name: oracle_values(getattr(decoded, name)) for name in decoded.__slots__}
    return decoded


@settings(max_examples=60, deadline=None)
@given(log=logs(), data=st.data())
def test_a_changed_byte_costs_at_most_its_own_row_and_gives_what_the_reference_decoder_reads(log, data):
    definition, messages = log
    encoded = encodings(definition, messages)["little"]
    which = data.draw(st.integers(0, len(encoded) - 1))
    spoiled = bytearray(encoded[which])
    spoiled[data.draw(st.integers(4, len(spoiled) - 1))] ^= data.draw(st.integers(1, 255))
    broken = [*encoded[:which], bytes(spoiled), *encoded[which + 1 :]]
    channel = ros("pkg/msg/Whole", definition)
    batch, findings = decode(channel, broken, strict=False)
    rows = dict(zip(batch.column("t_ns").to_pylist(), values(batch), strict=True))
    sound = dict(enumerate(values(decode(channel, encoded)[0])))
    assert [exact(rows[10 * n]) for n in sound if n != which] == [exact(sound[n]) for n in sound if n != which]
    assert (10 * which in rows) == (findings.lost["/t"] == 0) == (not findings.sentences)
    if 10 * which in rows:
        decoder = DecoderFactory().decoder_for(CDR, Schema(1, definition.encode(), "ros2msg", "pkg/msg/Whole"))
        assert exact(rows[10 * which]) == exact(flat(oracle_values(decoder(bytes(spoiled)))))


@settings(max_examples=40, deadline=None)
@given(log=logs(), data=st.data(), encoding=st.sampled_from([CDR, ROS1]))
def test_a_cut_message_is_told_and_the_others_are_kept(log, data, encoding):
    definition, messages = log
    encoded = encodings(definition, messages)["little" if encoding == CDR else ROS1]
    which = data.draw(st.integers(0, len(encoded) - 1))
    padding = 3 if encoding == CDR else 0
    short = encoded[which][: data.draw(st.integers(0, max(len(encoded[which]) - padding - 1, 0)))]
    broken = [*encoded[:which], short, *encoded[which + 1 :]]
    batch, findings = decode(ros("pkg/Whole", definition, encoding), broken, strict=False)
    assert batch.column("t_ns").to_pylist() == [10 * n for n in range(len(encoded)) if n != which]
    assert findings.lost == {"/t": 1}
    with pytest.raises(LogDamaged, match=r"the message at byte \d+ of the chunk at offset 7 is no pkg/Whole: it (ends|has)"):
        decode(ros("pkg/Whole", definition, encoding), broken)


def one(definition, body, **options):
    return decode(ros("pkg/msg/One", definition), [b"\x00\x01\x00\x00" + body], **options)


def test_bytes_behind_the_last_field_are_padding_up_to_three_and_damage_beyond():
    assert one("uint8 a\n", b"\x05\x00\x00\x00")[0].column("a").to_pylist() == [5]
    with pytest.raises(LogDamaged, match="4 bytes follow its last field"):
        one("uint8 a\n", b"\x05\x00\x00\x00\x00")
    with pytest.raises(LogDamaged, match="1 bytes follow its last field"):
        decode(ros("pkg/One", "uint8 a\n", ROS1), [b"\x05\x00"])


def test_a_text_without_its_nul_is_damage_and_an_empty_one_may_leave_it_out():
    assert one("string a\n", b"\x00\x00\x00\x00")[0].column("a").to_pylist() == [""]
    with pytest.raises(LogDamaged, match="does not end with NUL"):
        one("string a\n", b"\x02\x00\x00\x00ab")


def test_bytes_that_are_no_text_are_damage():
    with pytest.raises(LogDamaged, match="a text is not UTF-8"):
        one("string a\n", b"\x02\x00\x00\x00\xff\x00")


def test_a_length_beyond_the_message_is_told_with_its_numbers():
    with pytest.raises(LogDamaged, match=r"it ends after 8 bytes of values, a field reaches to 204"):
        one("string a\n", b"\xc8\x00\x00\x00abcd")
    with pytest.raises(LogDamaged, match="a field reaches to 34359738364"):
        one("float64[] a\n", b"\xff\xff\xff\xff")


def test_more_values_than_a_bounded_sequence_may_have_are_damage():
    with pytest.raises(LogDamaged, match="a sequence has 3 of 2 values"):
        one("uint8[<=2] a\n", b"\x03\x00\x00\x00abc")


def test_wide_text_is_read_as_ros_2_writes_it_and_anything_else_is_damage():
    units = [0x48, 0xD83D, 0xDE00]
    body = struct.pack("<I3I", 3, *units)
    assert one("wstring a\n", body)[0].column("a").to_pylist() == ["H\U0001f600"]
    for wrong in (struct.pack("<I2I", 2, 0x48, 0xD83D), struct.pack("<II", 1, 0x10000)):
        with pytest.raises(LogDamaged, match="a wide text is not UTF-16"):
            one("wstring a\n", wrong)


def test_an_empty_message_takes_one_octet_in_cdr_and_none_in_ros_1():
    nested = "pkg/Nothing gap\nuint8 a\n===\nMSG: pkg/Nothing\n"
    assert one("", b"\x00")[0].num_rows == 1
    assert one(nested, b"\x00\x07")[0].column("a").to_pylist() == [7]
    assert decode(ros("pkg/One", nested, ROS1), [b"\x07"])[0].column("a").to_pylist() == [7]
    with pytest.raises(UnsupportedLog, match="takes no bytes"):
        decode(ros("pkg/One", nested.replace("Nothing gap", "Nothing[] gap"), ROS1), [])


def test_byte_and_char_have_the_types_of_their_middleware():
    ros2 = decode(ros("pkg/msg/One", "byte a\nchar b\n"), [b"\x00\x01\x00\x00\xff\xff"])[0]
    ros1 = decode(ros("pkg/One", "byte a\nchar b\n", ROS1), [b"\xff\xff"])[0]
    assert values(ros2) == [{"a": 255, "b": 255}]
    assert values(ros1) == [{"a": -1, "b": 255}]


def test_stamps_of_ros_1_are_unsigned_and_durations_signed():
    body = struct.pack("<IIii", 3_000_000_000, 7, -2, -5)
    batch = decode(ros("pkg/One", "time a\nduration b\n", ROS1), [body])[0]
    assert values(batch) == [{"a.sec": 3_000_000_000, "a.nanosec": 7, "b.sec": -2, "b.nanosec": -5}]


def test_the_header_of_ros_1_gives_stamp_frame_and_number():
    definition = "Header header\nfloat32 x\n===\nMSG: std_msgs/Header\nuint32 seq\ntime stamp\nstring frame_id\n"
    body = struct.pack("<III3sf", 9, 5, 6, b"", 1.5)[:12] + struct.pack("<I", 3) + b"map" + struct.pack("<f", 1.5)
    batch = decode(ros("pkg/One", definition, ROS1), [body])[0]
    assert batch.schema.names == [*STAMPS, "header.seq", "frame_id", "x"]
    assert batch.to_pylist()[0] | {"t_ns": 0} == {
        "t_ns": 0, "publish_ns": -1, "sensor_ns": 5_000_000_006, "header.seq": 9, "frame_id": "map", "x": 1.5,
    }  # fmt: skip


def test_a_stamp_of_zero_is_null():
    message = imu(0)
    message.header.stamp.sec = message.header.stamp.nanosec = 0
    encode = serialize_dynamic("sensor_msgs/msg/Imu", IMU)["sensor_msgs/msg/Imu"]
    assert decode(ros("sensor_msgs/msg/Imu", IMU), [encode(message)])[0].column("sensor_ns").to_pylist() == [None]


def test_columns_have_the_units_of_the_standard_interfaces():
    schema = open_table(ros("sensor_msgs/msg/Imu", IMU), Findings()).schema
    assert schema.field("angular_velocity.x").metadata == {b"unit": b"rad/s", b"source_unit": b""}
    assert schema.field("angular_velocity_covariance").type == pa.list_(pa.float64(), 9)
    assert not schema.field("angular_velocity.x").nullable


def payload_of(source, row, origin=0):
    start = row["payload_offset"] - origin
    return source.buffer[start : start + row["payload_bytes"]].tobytes()


def cloud(number):
    def field(name, offset):
        return {"name": name, "offset": offset, "datatype": 7, "count": 1}

    return {
        "header": vars(raw_image(number).header) | {"stamp": {"sec": 3, "nanosec": number}},
        "height": 1,
        "width": number,
        "fields": [field("x", 0), field("intensity", 4)][: 1 + number % 2],
        "is_bigendian": False,
        "point_step": 8,
        "row_step": 8 * number,
        "data": list(range(8 * number + number % 5)),
        "is_dense": number % 2 == 0,
    }


CLOUD = (
    "std_msgs/Header header\nuint32 height\nuint32 width\nPointField[] fields\nbool is_bigendian\nuint32 point_step\n"
    "uint32 row_step\nuint8[] data\nbool is_dense\n===\nMSG: sensor_msgs/PointField\nuint8 INT8=1\nstring name\n"
    "uint32 offset\nuint8 datatype\nuint32 count\n" + HEADER
)


@pytest.mark.parametrize(
    ("kind", "definition", "make"),
    [
        ("sensor_msgs/msg/CompressedImage", COMPRESSED_IMAGE, picture),
        ("sensor_msgs/msg/Image", IMAGE, raw_image),
        ("sensor_msgs/msg/PointCloud2", CLOUD, cloud),
    ],
)
def test_payloads_are_pointers_and_what_stands_around_them_is_columns(kind, definition, make):
    encode = serialize_dynamic(kind, definition)[kind]
    messages = [make(number) for number in range(6)]
    table = open_table(ros(kind, definition), Findings(strict=True))
    source = block([encode(message) for message in messages], chunk=99, origin=1000)
    table.add(source)
    assert table.bytes < 6 * 500
    rows = table.take().to_pylist()
    for row, message in zip(rows, messages, strict=True):
        fields = message if isinstance(message, dict) else vars(message)
        assert payload_of(source, row, 1000) == bytes(fields["data"])
        assert row["payload_chunk"] == 99
        for name, value in fields.items():
            if name not in ("header", "data"):
                assert row["format" if name == "encoding" else name] == value


def test_a_payload_that_reaches_beyond_its_message_is_told_and_the_next_is_kept():
    encode = serialize_dynamic("sensor_msgs/msg/Image", IMAGE)["sensor_msgs/msg/Image"]
    sound = encode(raw_image(1))
    batch, findings = decode(ros("sensor_msgs/msg/Image", IMAGE), [sound[:-1], sound, sound[:30], b""], strict=False)
    assert batch.column("t_ns").to_pylist() == [10]
    assert "its payload would reach to" in findings.sentences[0]
    assert findings.lost == {"/t": 3}


@settings(max_examples=60, deadline=None)
@given(place=st.integers(0, 2000), change=st.integers(1, 255), number=st.integers(0, 4))
def test_a_changed_byte_in_front_of_a_payload_never_points_outside_of_its_message(place, change, number):
    encode = serialize_dynamic("sensor_msgs/msg/PointCloud2", CLOUD)["sensor_msgs/msg/PointCloud2"]
    data = bytearray(encode(cloud(number)))
    data[place % len(data)] ^= change
    batch, findings = decode(ros("sensor_msgs/msg/PointCloud2", CLOUD), [bytes(data)], strict=False)
    for row in batch.to_pylist():
        assert 3 <= row["payload_offset"] <= row["payload_offset"] + row["payload_bytes"] <= 3 + len(data)
    assert batch.num_rows + findings.lost["/t"] == 1


def test_foxglove_messages_in_ros_have_their_stamp_and_payload():
    definition = (
        "builtin_interfaces/Time timestamp\nstring frame_id\nuint8[] data\nstring format\n"
        "===\nMSG: builtin_interfaces/Time\nint32 sec\nuint32 nanosec\n"
    )
    kind = "foxglove_msgs/msg/CompressedVideo"
    message = {"timestamp": {"sec": 4, "nanosec": 5}, "frame_id": "c", "data": b"0123456789", "format": "h264"}
    source = block([serialize_dynamic(kind, definition)[kind](message)])
    table = open_table(ros(kind, definition), Findings(strict=True))
    table.add(source)
    (row,) = table.take().to_pylist()
    assert (row["sensor_ns"], row["frame_id"], row["format"]) == (4_000_000_005, "c", "h264")
    assert payload_of(source, row) == b"0123456789"
    assert "timestamp.sec" not in row


@pytest.mark.parametrize("kind", [2, 3, 7, 11])
def test_other_encapsulations_are_unsupported_and_no_damage_of_a_sound_log(kind):
    body = bytes([0, kind, 0, 0, 5])
    with pytest.raises(UnsupportedLog, match=f"CDR encapsulation {kind}"):
        decode(ros("pkg/msg/One", "uint8 a\n"), [body])
    with pytest.raises(UnsupportedLog, match=f"CDR encapsulation {kind}"):
        decode(ros("sensor_msgs/msg/Image", IMAGE), [body])
    for channel in (ros("pkg/msg/One", "uint8 a\n"), ros("sensor_msgs/msg/Image", IMAGE)):
        batch, findings = decode(channel, [body, b"\x00\x01"], strict=False)
        assert (batch.num_rows, findings.lost["/t"]) == (0, 2)


def test_a_definition_that_contains_itself_or_lacks_a_part_is_unsupported():
    with pytest.raises(UnsupportedLog, match="pkg/One contains itself"):
        open_table(ros("pkg/msg/One", "pkg/One[] more\n"), Findings())
    with pytest.raises(UnsupportedLog, match="uses pkg/Other, which it does not define"):
        open_table(ros("pkg/msg/One", "Other x\n"), Findings())
    with pytest.raises(UnsupportedLog, match="more than 1073741824 bytes"):
        open_table(ros("pkg/msg/One", "float64[999999999] x\n"), Findings())


def test_a_definition_that_unfolds_without_end_is_unsupported():
    levels = "".join(f"===\nMSG: pkg/L{n}\n" + "".join(f"L{n + 1} f{k}\n" for k in range(9)) for n in range(8))
    with pytest.raises(UnsupportedLog, match="more than 65536 of them"):
        open_table(ros("pkg/msg/L", "L0 a\n" + levels + "===\nMSG: pkg/L8\nuint8 a\n"), Findings())


def test_taking_in_parts_gives_what_one_part_gives(monkeypatch):
    encode = serialize_dynamic("sensor_msgs/msg/Imu", IMU)["sensor_msgs/msg/Imu"]
    messages = [encode(imu(number)) for number in range(50)]
    whole, _ = decode(ros("sensor_msgs/msg/Imu", IMU), messages)
    monkeypatch.setattr("drivelake.logs.messages.rows.PART_BYTES", 1000)
    assert PART_BYTES > 1000
    assert decode(ros("sensor_msgs/msg/Imu", IMU), messages)[0].equals(whole)


def test_a_table_starts_again_after_it_was_taken():
    table = open_table(ros("pkg/msg/One", "uint8 a\n"), Findings(strict=True))
    assert table.take().num_rows == 0
    table.add(block([b"\x00\x01\x00\x00\x05"]))
    assert (table.rows, table.bytes > 0) == (1, True)
    first = table.take()
    assert (table.rows, table.bytes) == (0, 0)
    table.add(block([b"\x00\x01\x00\x00\x06"], first=5))
    assert [*first.column("a").to_pylist(), *table.take().column("a").to_pylist()] == [5, 6]


def test_the_block_is_not_needed_after_it_was_added():
    buffer = np.frombuffer(b"\x00\x01\x00\x00\x05", np.uint8).copy()
    table = open_table(ros("pkg/msg/One", "uint8 a\n"), Findings(strict=True))
    table.add(block([b"\x00\x01\x00\x00\x05"], gap=0)._replace(buffer=buffer))
    buffer[:] = 0xFF
    assert table.take().column("a").to_pylist() == [5]


def test_columns_that_would_share_a_name_are_numbered():
    schema = open_table(ros("pkg/msg/One", "uint8 t_ns\nuint8 sensor_ns\n"), Findings()).schema
    assert schema.names == [*STAMPS, "t_ns#2", "sensor_ns#2"]


def test_service_events_are_read_from_the_definition_of_their_service():
    channel = Channel("/s", CDR, "pkg/srv/Add_Event", "ros2msg", b"int64 a\n---\nint64 sum\n")
    body = b"\x01\x00\x00\x00" + struct.pack("<iI", 5, 6) + bytes(range(16)) + struct.pack("<4xqI4xqI", 9, 1, 7, 0)
    (row,) = decode(channel, [b"\x00\x01\x00\x00" + body])[0].to_pylist()
    assert (row["info.sequence_number"], row["request"], row["response"]) == (9, [{"a": 7}], [])
    assert row["info.client_gid"] == list(range(16))


@pytest.mark.parametrize("brackets", ["", "[]", "[2]"])
def test_messages_that_are_nested_too_deep_are_told(brackets):
    parts = [f"===\nMSG: pkg/A{n}\npkg/A{n + 1}{brackets} f\n" for n in range(1, 2000)]
    text = f"pkg/A1{brackets} f\n" + "".join(parts) + "===\nMSG: pkg/A2000\nint8 x\n"
    with pytest.raises(UnsupportedLog, match="more than 64 deep"):
        open_table(ros("pkg/msg/A0", text), Findings())
