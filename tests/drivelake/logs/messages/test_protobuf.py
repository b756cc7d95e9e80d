import json

import numpy as np
import pyarrow as pa
import pytest
from google.protobuf import descriptor_pb2, timestamp_pb2
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError
from google.protobuf.message_factory import GetMessageClass
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.errors import LogDamaged, UnsupportedLog
from drivelake.logs.findings import Findings
from drivelake.logs.messages import protobuf
from drivelake.logs.messages.block import Channel
from drivelake.logs.messages.table import open_table
from tests.drivelake.logs.messages.making import block, decode

TYPES = {"double": 1, "float": 2, "int64": 3, "uint64": 4, "int32": 5, "fixed64": 6, "fixed32": 7, "bool": 8, "string": 9}
TYPES |= {"bytes": 12, "uint32": 13, "sfixed32": 15, "sfixed64": 16, "sint32": 17, "sint64": 18}
OPTIONAL, REQUIRED, REPEATED = 1, 2, 3
MESSAGE, ENUM = 11, 14
STAMP = ".google.protobuf.Timestamp"
VALUES = {
    "double": st.floats(), "float": st.floats(width=32), "bool": st.booleans(), "bytes": st.binary(max_size=5),
    "string": st.text(max_size=5),
} | {name: st.integers(-(2**63), 2**63 - 1) for name in ("int64", "sfixed64", "sint64")} | {
    name: st.integers(-(2**31), 2**31 - 1) for name in ("int32", "sfixed32", "sint32")
} | {name: st.integers(0, 2**64 - 1) for name in ("uint64", "fixed64")} | {
    name: st.integers(0, 2**32 - 1) for name in ("uint32", "fixed32")
}  # fmt: skip


def add_fields(message, rows):
    """``rows``: (name, type, label); a type with a dot is a message, `E` the enum; a fourth entry `choice` is a oneof."""
    for number, (name, kind, label, *choice) in enumerate(rows, start=1):
        field = message.field.add(name=name, number=number * 7, label=label)
        if kind.startswith("."):
            field.type, field.type_name = (ENUM if kind.endswith(".E") else MESSAGE), kind
        else:
            field.type = TYPES[kind]
        if choice:
            if not message.oneof_decl:
                message.oneof_decl.add(name="choice")
            field.oneof_index = 0


def files(messages, syntax="proto3", package="pkg"):
    """A FileDescriptorSet of ``{message: rows}``, with one enum and Google's stamps."""
    stamp, file = descriptor_pb2.FileDescriptorProto(), descriptor_pb2.FileDescriptorProto()
    timestamp_pb2.DESCRIPTOR.CopyToProto(stamp)
    file.name, file.package, file.syntax = "test.proto", package, syntax
    file.dependency.append(stamp.name)
    enum = file.enum_type.add(name="E")
    for number, name in enumerate(("ZERO", "ONE", "TWO")):
        enum.value.add(name=name, number=number)
    for name, rows in messages.items():
        add_fields(file.message_type.add(name=name), rows)
    return descriptor_pb2.FileDescriptorSet(file=[stamp, file])


def class_of(schema, name):
    pool = DescriptorPool()
    for file in schema.file:
        pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(name))


def channel_of(schema, name="pkg.Whole"):
    return Channel("/t", "protobuf", name, "protobuf", schema.SerializeToString())


def plain(message, name, field):
    """The value that a column or a place in a struct has for a field."""
    value = getattr(message, name)
    if field.is_repeated:
        if field.message_type and field.message_type.GetOptions().map_entry:
            return [{"key": key, "value": value[key]} for key in sorted(value)]
        return [item if not field.message_type else tree(item) for item in value]
    if field.has_presence and not message.HasField(name):
        return None
    return tree(value) if field.message_type else value


def tree(message):
    if message.DESCRIPTOR.full_name == "google.protobuf.Timestamp":
        return message.seconds * 10**9 + message.nanos
    return {field.name: plain(message, field.name, field) for field in message.DESCRIPTOR.fields}


def flat(message, prefix="", missing=False):
    found = {}
    for field in message.DESCRIPTOR.fields:
        name, value = f"{prefix}{field.name}", getattr(message, field.name)
        absent = missing or (field.has_presence and not message.HasField(field.name))
        if field.message_type and not field.is_repeated and field.message_type.full_name != "google.protobuf.Timestamp":
            found |= flat(value, f"{name}.", absent)
        else:
            found[name] = None if absent else plain(message, field.name, field)
    return found


def expected(messages):
    return [flat(message) for message in messages]


def rows(batch):
    return [{k: v for k, v in row.items() if k not in ("t_ns", "publish_ns", "sensor_ns")} for row in batch.to_pylist()]


def exact(value):
    """Text in which NaN equals itself and the order of names does not count."""
    if isinstance(value, dict):
        return str({name: exact(value[name]) for name in sorted(value)})
    return str([exact(item) for item in value]) if isinstance(value, list) else repr(value)


@st.composite
def schemas(draw):
    """Three messages, each of which may hold the ones before it."""
    syntax = draw(st.sampled_from(["proto3", "proto2"]))
    messages = {}
    for name in ("Inner", "Part", "Whole"):
        kinds = [*TYPES, ".pkg.E", STAMP, *(f".pkg.{known}" for known in messages), *(f".pkg.{known}" for known in messages)]
        picks = draw(st.lists(st.tuples(st.sampled_from(kinds), st.sampled_from([OPTIONAL, REPEATED])), max_size=5))
        messages[name] = [(f"f{number}", kind, label) for number, (kind, label) in enumerate(picks)]
        if draw(st.booleans()):
            messages[name] += [("a", "int32", OPTIONAL, "choice"), ("b", "string", OPTIONAL, "choice")]
    return files(messages, syntax)


@st.composite
def filled(draw, kind):
    message = kind()
    for field in kind.DESCRIPTOR.fields:
        count = draw(st.integers(0, 3 if field.is_repeated else 1))
        for _ in range(count):
            if field.message_type and field.message_type.full_name == "google.protobuf.Timestamp":
                value = timestamp_pb2.Timestamp(seconds=draw(st.integers(-(10**9), 10**9)), nanos=draw(st.integers(0, 10**9 - 1)))
                target = getattr(message, field.name)
                (target.add() if field.is_repeated else target).ParseFromString(value.SerializeToString())
            elif field.message_type:
                value = draw(filled(GetMessageClass(field.message_type)))
                target = getattr(message, field.name)
                target.append(value) if field.is_repeated else target.CopyFrom(value)
            else:
                names = {number: name for name, number in TYPES.items()}
                value = draw(VALUES[names[field.type]] if field.type in names else st.integers(0, 2))
                getattr(message, field.name).append(value) if field.is_repeated else setattr(message, field.name, value)
    return message


@st.composite
def logs(draw):
    schema = draw(schemas())
    return schema, draw(st.lists(filled(class_of(schema, "pkg.Whole")), min_size=1, max_size=6))


@settings(max_examples=100, deadline=None)
@given(log=logs())
def test_any_message_of_any_schema_comes_back(log):
    schema, messages = log
    batch, _ = decode(channel_of(schema), [message.SerializeToString() for message in messages])
    assert exact(rows(batch)) == exact(expected(messages))


@settings(max_examples=60, deadline=None)
@given(log=logs())
def test_both_ways_of_reading_give_the_same_columns(log):
    schema, messages = log
    encoded = [message.SerializeToString() for message in messages]
    first, _ = decode(channel_of(schema), encoded)
    table = open_table(channel_of(schema), Findings(strict=True))
    table._plain = False
    table.add(block(encoded))
    second = table.take()
    assert exact(second.to_pylist()) == exact(first.to_pylist())
    assert second.schema == first.schema
    first.validate(full=True)
    second.validate(full=True)


@settings(max_examples=100, deadline=None)
@given(log=logs(), data=st.data())
def test_changed_bytes_give_what_google_protobuf_reads_or_cost_their_own_row_only(log, data):
    schema, messages = log
    encoded = [message.SerializeToString() for message in messages]
    which = data.draw(st.integers(0, len(encoded) - 1))
    change = st.tuples(st.integers(0, max(len(encoded[which]) - 1, 0)), st.binary(max_size=3), st.integers(0, 3))
    at, new, old = data.draw(change)
    encoded[which] = encoded[which][:at] + new + encoded[which][at + old :]
    batch, findings = decode(channel_of(schema), encoded, strict=False)
    found = dict(zip(batch.column("t_ns").to_pylist(), rows(batch), strict=True))
    try:
        messages[which] = class_of(schema, "pkg.Whole").FromString(encoded[which])
        want = expected(messages)
    except DecodeError:
        want = [None] * len(messages)
    others = [number for number in range(len(messages)) if number != which]
    assert exact([found[10 * n] for n in others]) == exact([expected([messages[n]])[0] for n in others])
    assert (10 * which in found) == (findings.lost["/t"] == 0)
    if 10 * which in found:
        assert exact(found[10 * which]) == exact(want[which])
    else:
        assert want[which] is None or any(word in str(findings.sentences) for word in ("UTF-8", "a stamp has"))


def test_columns_are_of_the_types_of_their_fields():
    fields = [(name, name, OPTIONAL) for name in TYPES] + [
        ("e", ".pkg.E", OPTIONAL),
        ("t", STAMP, OPTIONAL),
        ("l", "float", REPEATED),
    ]
    schema = open_table(channel_of(files({"Whole": fields})), Findings()).schema
    types = {name: str(schema.field(name).type) for name in schema.names[3:]}
    assert types == {
        "double": "double", "float": "float", "int64": "int64", "uint64": "uint64", "int32": "int32", "fixed64": "uint64",
        "fixed32": "uint32", "bool": "bool", "string": "string", "bytes": "binary", "uint32": "uint32", "sfixed32": "int32",
        "sfixed64": "int64", "sint32": "int32", "sint64": "int64", "e": "int32", "t": "int64", "l": "list<item: float>",
    }  # fmt: skip
    assert json.loads(schema.field("e").metadata[b"values"]) == {"0": "ZERO", "1": "ONE", "2": "TWO"}
    assert schema.field("t").metadata[b"unit"] == b"ns"
    assert schema.field("t").nullable
    assert not schema.field("double").nullable


def test_maps_become_lists_of_pairs_in_the_order_of_their_keys():
    schema = files({"Whole": [("m", ".pkg.Whole.MEntry", REPEATED)]})
    entry = schema.file[1].message_type[0].nested_type.add(name="MEntry")
    entry.options.map_entry = True
    add_fields(entry, [("key", "string", OPTIONAL), ("value", "int32", OPTIONAL)])
    for number, field in enumerate(entry.field, start=1):
        field.number = number
    kind = class_of(schema, "pkg.Whole")
    messages = [kind(m={"b": 1, "a": 2}), kind(), kind(m={"c": 3})]
    batch, _ = decode(channel_of(schema), [message.SerializeToString() for message in messages])
    assert [row["m"] for row in rows(batch)] == [
        [{"key": "a", "value": 2}, {"key": "b", "value": 1}],
        [],
        [{"key": "c", "value": 3}],
    ]


def test_a_nested_message_in_two_parts_is_merged_as_the_format_asks():
    schema = files({"Inner": [("a", "int32", OPTIONAL), ("b", "int32", OPTIONAL)], "Whole": [("i", ".pkg.Inner", OPTIONAL)]})
    kind = class_of(schema, "pkg.Whole")
    parts = [kind(i={"a": 1}), kind(i={"b": 2})]
    batch, _ = decode(channel_of(schema), [b"".join(part.SerializeToString() for part in parts), parts[0].SerializeToString()])
    assert rows(batch) == [{"i.a": 1, "i.b": 2}, {"i.a": 1, "i.b": 0}]


def test_a_required_field_that_is_missing_is_damage():
    schema = files({"Whole": [("a", "int32", REQUIRED)]}, "proto2")
    batch, findings = decode(channel_of(schema), [b"", class_of(schema, "pkg.Whole")(a=5).SerializeToString()], strict=False)
    assert rows(batch) == [{"a": 5}]
    assert "a required field is not set" in findings.sentences[0]


def test_text_that_is_not_utf_8_is_damage_in_either_syntax():
    for syntax in ("proto2", "proto3"):
        schema = files({"Whole": [("s", "string", OPTIONAL)]}, syntax)
        batch, findings = decode(channel_of(schema), [b"\x3a\x01\xff", b"\x3a\x01a"], strict=False)
        assert rows(batch) == [{"s": "a"}]
        assert findings.lost["/t"] == 1


def test_a_stamp_beyond_the_range_of_ns_is_damage():
    schema = files({"Whole": [("t", STAMP, OPTIONAL)]})
    kind = class_of(schema, "pkg.Whole")
    for plain_way in (True, False):
        table = open_table(channel_of(schema), Findings(strict=True))
        table._plain = plain_way
        table.add(block([kind(t={"seconds": 10**11}).SerializeToString()]))
        with pytest.raises(LogDamaged, match="a stamp has 100000000000 seconds"):
            table.take()


VIDEO = files(
    {"CompressedVideo": [("timestamp", STAMP, 1), ("frame_id", "string", 1), ("data", "bytes", 1), ("format", "string", 1)]},
    package="foxglove",
)


@settings(max_examples=60, deadline=None)
@given(
    order=st.permutations(["timestamp", "frame_id", "data", "data", "format"]),
    sizes=st.lists(st.integers(0, 300), min_size=2, max_size=2),
)
def test_the_payload_of_a_foxglove_message_is_found_wherever_it_stands(order, sizes):
    kind = class_of(VIDEO, "foxglove.CompressedVideo")
    payloads = [bytes([number + 1]) * size for number, size in enumerate(sizes)]
    rest = iter(payloads)
    values = {"timestamp": {"seconds": 3, "nanos": 4}, "frame_id": "cam", "format": "h264"}
    parts = [kind(**{name: next(rest) if name == "data" else values[name]}) for name in order]
    encoded = b"".join(part.SerializeToString() for part in parts)
    whole = kind.FromString(encoded)
    source = block([encoded], chunk=5, origin=77)
    table = open_table(channel_of(VIDEO, "foxglove.CompressedVideo"), Findings(strict=True))
    table.add(source)
    (row,) = table.take().to_pylist()
    start = row["payload_offset"] - 77
    if row["payload_bytes"] or not whole.data:
        assert source.buffer[start : start + row["payload_bytes"]].tobytes() == whole.data
    assert (row["sensor_ns"], row["frame_id"], row["format"], row["payload_chunk"]) == (3_000_000_004, "cam", "h264", 5)


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=40))
def test_any_bytes_as_a_payload_message_are_what_google_protobuf_reads_or_damage(data):
    kind = class_of(VIDEO, "foxglove.CompressedVideo")
    batch, findings = decode(channel_of(VIDEO, "foxglove.CompressedVideo"), [data], strict=False)
    assert batch.num_rows + findings.lost["/t"] == 1
    if batch.num_rows:
        whole, (row,) = kind.FromString(data), batch.to_pylist()
        start = row["payload_offset"] - 3
        assert data[start : start + row["payload_bytes"]] == whole.data
        assert (row["frame_id"], row["format"]) == (whole.frame_id, whole.format)


def test_a_raw_image_calls_its_encoding_format():
    schema = files({"RawImage": [("encoding", "string", 1), ("data", "bytes", 1)]}, package="foxglove")
    assert "format" in open_table(channel_of(schema, "foxglove.RawImage"), Findings()).schema.names


def test_a_schema_without_the_well_known_files_is_completed():
    schema = files({"Whole": [("t", STAMP, OPTIONAL)]})
    encoded = class_of(schema, "pkg.Whole")(t={"seconds": 1}).SerializeToString()
    del schema.file[0]
    assert rows(decode(channel_of(schema), [encoded])[0]) == [{"t": 10**9}]


@pytest.mark.parametrize(
    ("schema", "name", "match"),
    [
        (b"\xff\xff", "pkg.Whole", "cannot be used"),
        (files({"Whole": []}).SerializeToString(), "pkg.Other", "cannot be used"),
        (files({"Whole": [("w", ".pkg.Whole", 1)]}).SerializeToString(), "pkg.Whole", "contains itself"),
        (files({"Whole": [("w", ".pkg.Nothing", 1)]}).SerializeToString(), "pkg.Whole", "cannot be used"),
    ],
)
def test_a_schema_that_cannot_be_used_is_unsupported(schema, name, match):
    with pytest.raises(UnsupportedLog, match=match):
        open_table(Channel("/t", "protobuf", name, "protobuf", schema), Findings())


def test_more_fields_than_are_read_at_once_are_left_to_google_protobuf():
    schema = files({"Inner": [("a", "int32", OPTIONAL)], "Whole": [("i", ".pkg.Inner", REPEATED)]})
    kind = class_of(schema, "pkg.Whole")
    messages = [kind(i=[{"a": n} for n in range(size)]) for size in (300, 2, 0)]
    batch, _ = decode(channel_of(schema), [message.SerializeToString() for message in messages])
    assert rows(batch) == expected(messages)


@pytest.mark.parametrize("size", [9, 10, 11, 12])
@pytest.mark.parametrize("wire", [0, 2, 3])
def test_numbers_of_any_length_are_what_google_protobuf_reads(size, wire):
    schema = files({"Whole": [("n", "int64", REPEATED)]})
    number = b"\x80" + b"\xff" * (size - 2) + b"\x01"
    data = {0: b"\x38" + number, 2: bytes([0x3A, size + 1]) + number + b"\x05", 3: b"\x82" + number[1:]}[wire]
    batch, _ = decode(channel_of(schema), [data, b"\x38\x07"], strict=False)
    try:
        whole = [{"n": list(class_of(schema, "pkg.Whole").FromString(data).n)}]
    except DecodeError:
        whole = []
    assert rows(batch) == [*whole, {"n": [7]}]


def test_telemetry_is_read_without_google_protobuf(monkeypatch):
    schema = files(
        {
            "Inner": [("x", "double", OPTIONAL)],
            "Whole": [("t", STAMP, OPTIONAL), ("i", ".pkg.Inner", OPTIONAL), ("l", "double", REPEATED)],
        }
    )
    kind = class_of(schema, "pkg.Whole")
    messages = [kind(t={"seconds": n}, i={"x": n / 7}, l=[n, n + 1]) for n in range(20)]
    seen = []
    monkeypatch.setattr(protobuf, "columns_of_messages", lambda *args: seen.append(args))
    batch, _ = decode(channel_of(schema), [message.SerializeToString() for message in messages])
    assert not seen
    assert np.array_equal(batch.column("i.x").to_numpy(), np.arange(20) / 7)
    assert batch.column("l").type == pa.list_(pa.float64())


@pytest.mark.parametrize("label", [OPTIONAL, REPEATED])
@pytest.mark.parametrize(("levels", "width"), [(200, 1), (40, 2)])
def test_messages_that_are_nested_too_deep_or_too_often_are_told(levels, width, label):
    messages = {f"M{n}": [(f"f{w}", f".pkg.M{n + 1}", label) for w in range(width)] for n in range(levels)}
    messages[f"M{levels}"] = [("x", "int32", OPTIONAL)]
    with pytest.raises(UnsupportedLog, match="more than 64 deep"):
        open_table(channel_of(files(messages), "pkg.M0"), Findings())


def test_chains_of_messages_that_are_joined_are_not_deeper_than_they_may_be():
    messages = {"Root": [(f"f{part}", f".pkg.P{part}N0", OPTIONAL) for part in range(4)]}
    for part in range(4):
        for n in range(30):
            follows = f".pkg.P{part}N{n + 1}" if n < 29 else f".pkg.P{part - 1}N0"
            messages[f"P{part}N{n}"] = [("x", "int32", OPTIONAL), *([("f", follows, OPTIONAL)] if part or n < 29 else [])]
    with pytest.raises(UnsupportedLog, match="more than 64 deep"):
        open_table(channel_of(files(messages), "pkg.Root"), Findings())


@pytest.mark.parametrize("seconds", [(1 << 63) // 10**9 - 1, -((1 << 63) // 10**9) + 1])
def test_nanoseconds_beyond_a_second_do_not_wrap_a_stamp_around(seconds):
    schema = files({"Whole": [("at", STAMP, OPTIONAL)]})
    nanos = 2**31 - 1 if seconds > 0 else -(2**31)
    made = class_of(schema, "pkg.Whole")(at={"seconds": seconds, "nanos": nanos}).SerializeToString()
    batch, findings = decode(channel_of(schema), [made], strict=False)
    assert batch.column("at").to_pylist() in ([], [seconds * 10**9 + nanos])
    assert len(batch) + len(findings.sentences) == 1
