import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.errors import LogDamaged, UnsupportedLog
from drivelake.logs.findings import Findings
from drivelake.logs.messages.block import Channel
from drivelake.logs.messages.table import open_table
from tests.drivelake.logs.messages.making import decode

POINT = {"type": "object", "properties": {"x": {"type": "number"}, "n": {"type": "integer"}}}
SCHEMA = {
    "type": "object",
    "properties": {
        "on": {"type": "boolean"},
        "name": {"type": ["string", "null"]},
        "pose": {"type": "object", "properties": {"at": POINT, "label": {"type": "string"}}},
        "track": {"type": "array", "items": POINT},
        "words": {"type": "array", "items": {"type": "string"}},
        "free": {},
        "deep": {"$ref": "#/$defs/point"},
    },
    "$defs": {"point": POINT},
}


def channel_of(schema, name="pkg.Thing"):
    return Channel("/t", "json", name, "jsonschema", json.dumps(schema).encode())


def texts(messages):
    return [json.dumps(message).encode() for message in messages]


def rows(batch):
    return [{k: v for k, v in row.items() if k not in ("t_ns", "publish_ns", "sensor_ns")} for row in batch.to_pylist()]


points = st.fixed_dictionaries(
    {}, optional={"x": st.floats(allow_nan=False, allow_infinity=False), "n": st.integers(-(2**63), 2**63 - 1)}
)
messages = st.fixed_dictionaries(
    {},
    optional={
        "on": st.booleans(),
        "name": st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
        "pose": st.none() | st.fixed_dictionaries({}, optional={"at": points, "label": st.text("aé\n", max_size=3)}),
        "track": st.lists(points, max_size=3),
        "words": st.lists(st.text("ab\u2603", max_size=2), max_size=3),
        "free": st.recursive(st.none() | st.integers() | st.text("ab"), lambda inner: st.lists(inner, max_size=2), max_leaves=3),
        "deep": points,
    },
)


def point(value):
    return {"x": (value or {}).get("x"), "n": (value or {}).get("n")}


def expected(message):
    pose = message.get("pose") or {}
    at, deep = point(pose.get("at")), point(message.get("deep"))
    free = message.get("free")
    return {
        "on": message.get("on"),
        "name": message.get("name"),
        "pose.at.x": at["x"],
        "pose.at.n": at["n"],
        "pose.label": pose.get("label"),
        "track": [point(item) for item in message["track"]] if "track" in message else None,
        "words": message.get("words"),
        "free": None if free is None else json.dumps(free, separators=(",", ":")),
        "deep.x": deep["x"],
        "deep.n": deep["n"],
        "json": None,
    }


@settings(max_examples=100, deadline=None)
@given(log=st.lists(messages, min_size=1, max_size=5))
def test_any_message_of_a_schema_comes_back_as_columns(log):
    batch, _ = decode(channel_of(SCHEMA), texts(log))
    batch.validate(full=True)
    assert rows(batch) == [expected(message) for message in log]


def test_columns_have_the_types_of_the_schema():
    schema = open_table(channel_of(SCHEMA), Findings()).schema
    assert {name: str(schema.field(name).type) for name in schema.names[3:]} == {
        "on": "bool", "name": "string", "pose.at.x": "double", "pose.at.n": "int64", "pose.label": "string",
        "track": "list<item: struct<x: double, n: int64>>", "words": "list<item: string>", "free": "string",
        "deep.x": "double", "deep.n": "int64", "json": "string",
    }  # fmt: skip


@pytest.mark.parametrize(
    "message", [{"on": True, "more": 1}, {"pose": {"more": 1}}, {"track": [{"x": 1, "more": 2}]}, {"deep": {"y": 0}}]
)
def test_what_no_column_has_is_kept_as_text(message):
    (text,) = texts([message])
    assert rows(decode(channel_of(SCHEMA), [text])[0])[0]["json"] == text.decode()


@pytest.mark.parametrize("channel", [Channel("/t", "json", "", "", b""), channel_of({}), channel_of({"type": "array"})])
def test_without_a_schema_of_an_object_a_message_is_its_text(channel):
    message = b'{"a": [1, 2],\n "b": null}'
    batch, _ = decode(channel, [message])
    assert rows(batch) == [{"json": message.decode()}]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        (b'{"on": tru', "it is no JSON"),
        (b"\xff", "it is no JSON"),
        (b"", "it is no JSON"),
        (b"[" * 100_000, "it is no JSON"),
        (b"null", "the message is null, its schema says object"),
        (b"[1]", "the message is array, its schema says object"),
        (b'{"on": 1}', "on is integer, its schema says boolean"),
        (b'{"pose": {"at": {"x": "1"}}}', "pose.at.x is string, its schema says number"),
        (b'{"pose": {"at": {"x": true}}}', "pose.at.x is boolean, its schema says number"),
        (b'{"deep": {"n": 1.5}}', "deep.n is 1.5, its schema says integer"),
        (b'{"deep": {"n": 9223372036854775808}}', "deep.n is beyond the range of int64"),
        (b'{"deep": {"x": 1' + b"0" * 400 + b"}}", "deep.x is beyond the range of float64"),
        (b'{"pose": 5}', "pose is integer, its schema says object"),
        (b'{"track": [5]}', "track is integer, its schema says object"),
        (b'{"name": "\\ud800"}', "name is no text"),
    ],
)
def test_what_contradicts_the_schema_costs_its_own_row(text, match):
    batch, findings = decode(channel_of(SCHEMA), [b"{}", text, b"{}"], strict=False)
    assert batch.column("t_ns").to_pylist() == [0, 20]
    assert findings.lost == {"/t": 1}
    assert match in findings.sentences[0]
    with pytest.raises(LogDamaged):
        decode(channel_of(SCHEMA), [text])


def test_a_whole_number_written_with_a_point_is_an_integer():
    assert rows(decode(channel_of(SCHEMA), [b'{"deep": {"n": 2.0}}'])[0])[0]["deep.n"] == 2


def test_whole_numbers_that_a_float_cannot_hold_are_noted():
    batch, findings = decode(channel_of(SCHEMA), [b'{"deep": {"x": 9007199254740993}}'])
    assert rows(batch)[0]["deep.x"] == 9007199254740992.0
    assert "2^53" in findings.notes[0]


def test_the_stamp_of_a_foxglove_message_is_the_sensors():
    stamp = {"type": "object", "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}}}
    schema = {"type": "object", "properties": {"timestamp": stamp, "frame_id": {"type": "string"}}}
    log = texts([{"timestamp": {"sec": 5, "nsec": 6}, "frame_id": "a"}, {"frame_id": "b"}])
    batch, _ = decode(channel_of(schema, "foxglove.Thing"), log)
    assert batch.column("sensor_ns").to_pylist() == [5_000_000_006, None]
    assert rows(batch)[0] == {"frame_id": "a", "json": None}
    assert "timestamp.sec" in decode(channel_of(schema), log)[0].schema.names


def test_references_that_go_round_in_circles_end_as_text():
    schema = {"type": "object", "properties": {"a": {"$ref": "#"}, "b": {"$ref": "#"}, "c": {"$ref": "#/nowhere"}}}
    table = open_table(channel_of(schema), Findings())
    assert 10 < len(table.schema) < 4096
    assert {field.type for field in table.schema.remove_metadata()} == {pa.int64(), pa.string()}
    (row,) = rows(decode(channel_of(schema), [b'{"c": [1]}'])[0])
    assert {name: value for name, value in row.items() if value is not None} == {"c": "[1]"}


def test_a_schema_that_is_no_json_is_unsupported():
    with pytest.raises(UnsupportedLog, match="is no JSON"):
        open_table(Channel("/t", "json", "x", "jsonschema", b"{"), Findings())


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [({"sec": 5}, 5 * 10**9), ({"nsec": 7}, 7), ({"sec": 2**62, "nsec": 1}, None), ({"sec": -(2**63)}, None)],
)
def test_a_stamp_is_never_another_one(stamp, expected):
    part = {"type": "object", "properties": {"sec": {"type": "integer"}, "nsec": {"type": "integer"}}}
    schema = {"type": "object", "properties": {"timestamp": part}}
    batch, findings = decode(channel_of(schema, "foxglove.Grid"), texts([{"timestamp": stamp}]), strict=False)
    assert batch.column("sensor_ns").to_pylist() == ([] if expected is None else [expected])
    assert len(findings.sentences) == (expected is None)


@pytest.mark.parametrize("depth", range(900, 1100, 5))
def test_values_inside_of_each_other_are_given_or_told(depth):
    schema = {"type": "object", "properties": {"free": {}}}
    message = b'{"free":' + b"[" * depth + b"]" * depth + b"}"
    batch, findings = decode(channel_of(schema), [message], strict=False)
    assert len(batch) + len(findings.sentences) == 1
