from types import SimpleNamespace

import pytest
from mcap.exceptions import McapError
from mcap.reader import NonSeekingReader
from mcap_protobuf.decoder import DecoderFactory as ProtobufFactory
from mcap_ros2.decoder import DecoderFactory as Ros2Factory
from rosbags.rosbag1 import Reader as Ros1Reader
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from drivelake.errors import UnsupportedLog
from drivelake.logs.findings import Findings
from drivelake.logs.messages.block import Channel
from drivelake.logs.messages.table import open_table, unsupported_reason
from tests.drivelake.logs.messages.making import decode

MESSAGES_MAX = 150
RECORDED = [
    "drive_comma2k19_rav4/sensors.mcap",
    "drives_deeppicar/clip_030/camera.mcap",
    "drives_donkeycar/drive_01/camera.mcap",
    "mcap_kitti/kitti_2011_09_26_drive_0002_f0-9.mcap",
    "mcap_mcity/start_position_A.mcap",
    "mcap/*/*.mcap",
]


def channels_of(path):
    """(channel, messages) of a file, as the mcap library reads it."""
    found = {}
    with path.open("rb") as file:
        try:
            for schema, channel, message in NonSeekingReader(file).iter_messages(log_time_order=False):
                named = (schema.name, schema.encoding, schema.data) if schema else ("", "", b"")
                key = Channel(channel.topic, channel.message_encoding, *named)
                rows = found.setdefault(key, ([], schema))[0]
                if len(rows) < MESSAGES_MAX:
                    rows.append(message.data)
        except McapError:
            if "truncated" not in path.name:
                raise
    return found


def reference(channel, schema):
    if channel.encoding == "cdr":
        return Ros2Factory().decoder_for("cdr", schema)
    return ProtobufFactory().decoder_for("protobuf", schema)


def plain(value):
    """What the reference decoders give, as Arrow gives it back."""
    if isinstance(value, SimpleNamespace):
        return {name: plain(getattr(value, name)) for name in value.__slots__}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return list(value) if isinstance(value, bytes) else value


def looked_up(decoded, column):
    for part in ("header.frame_id" if column == "frame_id" and hasattr(decoded, "header") else column).split("."):
        decoded = getattr(decoded, "encoding" if part == "format" and not hasattr(decoded, "format") else part)
    return plain(decoded)


def check_columns(channel, batch, decoded, messages):
    for name in batch.schema.names[3:]:
        if not name.startswith("payload_"):
            assert repr(batch.column(name).to_pylist()) == repr([looked_up(value, name) for value in decoded]), (
                channel.name,
                name,
            )
    if "payload_offset" not in batch.schema.names:
        return
    for row, value, message in zip(batch.to_pylist(), decoded, messages, strict=True):
        start = row["payload_offset"] - 3
        assert message[start : start + row["payload_bytes"]] == value.data


@pytest.mark.parametrize("pattern", RECORDED)
def test_every_recorded_channel_is_what_its_reference_decoder_reads(shared_data, pattern):
    paths = sorted(shared_data.glob(pattern))
    if not paths:
        pytest.skip(f"recorded data is absent: {pattern}")
    checked = 0
    for path in paths:
        for channel, (messages, schema) in channels_of(path).items():
            if unsupported_reason(channel) or channel.encoding == "json" or channel.schema_name.endswith("_Event"):
                continue
            # one block a message, so that a pointer is a place in its message
            batch, _ = decode(channel, messages, sizes=(1,))
            check_columns(channel, batch, [reference(channel, schema)(message) for message in messages], messages)
            checked += 1
    assert checked


def test_recorded_json_is_read_as_its_schema_says(shared_data):
    path = shared_data / "drive_comma2k19_rav4" / "sensors.mcap"
    if not path.is_file():
        pytest.skip("recorded data is absent: drive_comma2k19_rav4")
    import json

    ((channel, (messages, _)),) = [pair for pair in channels_of(path).items() if pair[0].encoding == "json"]
    batch, _ = decode(channel, messages)
    expected = [json.loads(message) for message in messages]
    for name in batch.schema.names[3:-1]:
        assert batch.column(name).to_pylist() == [row[name] for row in expected]
    assert batch.column("json").null_count == len(messages)


def ros1_values(value):
    if hasattr(value, "__dataclass_fields__"):
        names = [name for name in value.__dataclass_fields__ if name != "__msgtype__"]
        return {name: ros1_values(getattr(value, name)) for name in names}
    return [ros1_values(item) for item in value] if hasattr(value, "__len__") and not isinstance(value, str) else value


@pytest.mark.parametrize("name", ["example.bag", "tilt_laser.bag"])
def test_recorded_messages_of_ros_1_are_what_rosbags_reads(shared_data, name):
    path = shared_data / "ros1_bag" / name
    if not path.is_file():
        pytest.skip(f"recorded data is absent: ros1_bag/{name}")
    store = get_typestore(Stores.EMPTY)
    found = {}
    with Ros1Reader(path) as reader:
        for connection in reader.connections:
            store.register(get_types_from_msg(connection.msgdef.data, connection.msgtype))
        for connection, _, raw in reader.messages():
            channel = Channel(connection.topic, "ros1", connection.msgtype, "ros1msg", connection.msgdef.data.encode())
            rows = found.setdefault(channel, [])
            if len(rows) < MESSAGES_MAX:
                rows.append(bytes(raw))
    assert found
    for channel, messages in found.items():
        batch, _ = decode(channel, messages)
        decoded = [store.deserialize_ros1(raw, channel.schema_name) for raw in messages]
        for column in batch.schema.names[3:]:
            if column.startswith("payload_"):
                continue
            values = [ros1_values(value) for value in decoded]
            for part in ("header.frame_id" if column == "frame_id" else column).split("."):
                values = [value[part] for value in values]
            assert str(batch.column(column).to_pylist()) == str([py(value) for value in values]), (channel.name, column)


def py(value):
    """numpy's numbers as Python's."""
    if isinstance(value, dict):
        return {name: py(inner) for name, inner in value.items()}
    return [py(item) for item in value] if isinstance(value, list) else value.item() if hasattr(value, "item") else value


@pytest.mark.parametrize(
    ("channel", "reason"),
    [
        (Channel("/t", "xml", "a", "b", b""), "encoded as 'xml', only 'cdr', 'ros1', 'protobuf', 'json', 'flatbuffer' are read"),
        (Channel("/t", "cdr", "", "", b""), "it has no schema"),
        (Channel("/t", "cdr", "pkg/msg/A", "omgidl", b""), "written in 'omgidl', only 'ros2msg', 'ros2idl' is read"),
        (Channel("/t", "protobuf", "A", "proto", b""), "encoded as 'protobuf' and its schema 'A' is written in 'proto'"),
        (Channel("/t", "json", "A", "xsd", b""), "written in 'xsd', only 'jsonschema' is read"),
    ],
)
def test_what_is_not_read_is_told_with_what_is(channel, reason):
    assert reason in unsupported_reason(channel)
    with pytest.raises(UnsupportedLog, match="Channel '/t' cannot be read"):
        open_table(channel, Findings())


def test_json_needs_no_schema():
    assert not unsupported_reason(Channel("/t", "json", "", "", b""))
