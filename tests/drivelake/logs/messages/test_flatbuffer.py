import flatbuffers
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.errors import LogDamaged, UnsupportedLog
from drivelake.logs.findings import Findings
from drivelake.logs.messages.block import Channel
from drivelake.logs.messages.table import open_table
from tests.drivelake.logs.messages.making import block, decode

# BaseType of reflection.fbs: (number, the builder's name, bytes)
SCALARS = {
    "bool": (2, "Bool", 1), "byte": (3, "Int8", 1), "ubyte": (4, "Uint8", 1),
    "short": (5, "Int16", 2), "ushort": (6, "Uint16", 2),
    "int": (7, "Int32", 4), "uint": (8, "Uint32", 4), "long": (9, "Int64", 8), "ulong": (10, "Uint64", 8),
    "float": (11, "Float32", 4), "double": (12, "Float64", 8),
}  # fmt: skip
STRING, VECTOR, OBJECT, UNION = 13, 14, 15, 16
COLOURS = {0: "red", 3: "green"}


class Schema:
    """Writes a binary schema. ``objects``: {name: (is_struct, size, [(name, type, options)])}.

    A type is a scalar, `string`, `union`, `Colour` (an enum of int), the name of an object, or one of them in brackets.
    """

    def __init__(self, objects):
        self.objects = objects
        self.names = list(objects)

    def kind(self, name):
        if name == "Colour":
            return SCALARS["int"][0], 0
        if name in self.names:
            return OBJECT, self.names.index(name)
        return {"string": STRING, "union": UNION}.get(name) or SCALARS[name][0], -1

    def data(self):
        b = flatbuffers.Builder(1024)
        objects = [self._object(b, name, *self.objects[name]) for name in self.names]
        values = [self._value(b, *pair) for pair in COLOURS.items()]
        values_at = offsets(b, values)
        colour_name = b.CreateString("Colour")
        b.StartObject(7)
        b.PrependUOffsetTRelativeSlot(0, colour_name, 0)
        b.PrependUOffsetTRelativeSlot(1, values_at, 0)
        enum = b.EndObject()
        objects_at, enums_at = offsets(b, objects), offsets(b, [enum])
        b.StartObject(8)
        b.PrependUOffsetTRelativeSlot(0, objects_at, 0)
        b.PrependUOffsetTRelativeSlot(1, enums_at, 0)
        b.Finish(b.EndObject(), file_identifier=b"BFBS")
        return bytes(b.Output())

    def _value(self, b, number, text):
        name = b.CreateString(text)
        b.StartObject(4)
        b.PrependUOffsetTRelativeSlot(0, name, 0)
        b.PrependInt64Slot(1, number, 0)
        return b.EndObject()

    def _object(self, b, name, is_struct, size, fields):
        made, place = [], 0
        for slot, (field, kind, options) in enumerate(fields):
            base, index = (VECTOR, -1) if kind.startswith("[") else self.kind(kind)
            element, index = self.kind(kind[1:-1]) if kind.startswith("[") else (0, index)
            b.StartObject(6)
            b.PrependInt8Slot(0, base, 0)
            b.PrependInt8Slot(1, element, 0)
            b.PrependInt32Slot(2, index, -1)
            type_at, name_at = b.EndObject(), b.CreateString(field)
            b.StartObject(14)
            b.PrependUOffsetTRelativeSlot(0, name_at, 0)
            b.PrependUOffsetTRelativeSlot(1, type_at, 0)
            b.PrependUint16Slot(2, slot, 0)
            b.PrependUint16Slot(3, place if is_struct else 4 + 2 * slot, 0)
            b.PrependInt64Slot(4, options.get("default", 0), 0)
            b.PrependFloat64Slot(5, options.get("real", 0.0), 0.0)
            b.PrependBoolSlot(6, options.get("deprecated", False), False)
            b.PrependBoolSlot(11, options.get("optional", False), False)
            made.append((field, b.EndObject()))
            place += SCALARS[kind][2] if is_struct else 0
        # flatc sorts fields by name
        fields_at, name_at = offsets(b, [offset for _, offset in sorted(made)]), b.CreateString(name)
        b.StartObject(8)
        b.PrependUOffsetTRelativeSlot(0, name_at, 0)
        b.PrependUOffsetTRelativeSlot(1, fields_at, 0)
        b.PrependBoolSlot(2, is_struct, False)
        b.PrependInt32Slot(4, size, 0)
        return b.EndObject()


def offsets(b, tables):
    b.StartVector(4, len(tables), 4)
    for offset in reversed(tables):
        b.PrependUOffsetTRelative(offset)
    return b.EndVector()


def struct_at(b, schema, name, value):
    _, size, fields = schema.objects[name]
    b.Prep(8, size)
    for field, kind, _ in reversed(fields):
        getattr(b, f"Prepend{SCALARS[kind][1]}")(value[field])
    return b.Offset()


def table_at(b, schema, name, value):
    """Write a table of ``value``; what is missing in it is not set."""
    fields = schema.objects[name][2]
    made = {}
    for field, kind, _ in fields:
        given = value.get(field)
        if given is None or kind in SCALARS or kind == "Colour" or schema.objects.get(kind, (False,))[0]:
            continue
        if kind == "string":
            made[field] = b.CreateString(given)
        elif kind in schema.objects:
            made[field] = table_at(b, schema, kind, given)
        else:
            made[field] = vector_at(b, schema, kind[1:-1], given)
    b.StartObject(len(fields))
    for slot, (field, kind, options) in enumerate(fields):
        given = value.get(field)
        if field in made:
            b.PrependUOffsetTRelativeSlot(slot, made[field], 0)
        elif given is not None and kind in schema.objects:
            b.PrependStructSlot(slot, struct_at(b, schema, kind, given), 0)
        elif given is not None:
            default = None if options.get("optional") else options.get("real", options.get("default", 0))
            getattr(b, f"Prepend{SCALARS['int' if kind == 'Colour' else kind][1]}Slot")(slot, given, default)
    return b.EndObject()


def vector_at(b, schema, kind, values):
    if kind in SCALARS:
        b.StartVector(SCALARS[kind][2], len(values), SCALARS[kind][2])
        for value in reversed(values):
            getattr(b, f"Prepend{SCALARS[kind][1]}")(value)
        return b.EndVector()
    if schema.objects.get(kind, (False,))[0]:
        b.StartVector(schema.objects[kind][1], len(values), 8)
        for value in reversed(values):
            struct_at(b, schema, kind, value)
        return b.EndVector()
    return offsets(b, [b.CreateString(value) if kind == "string" else table_at(b, schema, kind, value) for value in values])


def message(schema, name, value):
    b = flatbuffers.Builder(64)
    b.Finish(table_at(b, schema, name, value))
    return bytes(b.Output())


SCHEMA = Schema(
    {
        "pkg.Vec": (True, 24, [("x", "double", {}), ("y", "double", {}), ("z", "double", {})]),
        "pkg.Inner": (False, 0, [("a", "short", {"default": -3}), ("text", "string", {}), ("at", "pkg.Vec", {})]),
        "pkg.Whole": (
            False,
            0,
            [
                ("flag", "bool", {"default": 1}),
                ("real", "double", {"real": 2.5}),
                ("small", "byte", {}),
                ("big", "ulong", {}),
                ("maybe", "int", {"optional": True}),
                ("old", "int", {"deprecated": True}),
                ("colour", "Colour", {}),
                ("inner", "pkg.Inner", {}),
                ("place", "pkg.Vec", {}),
                ("raw", "[ubyte]", {}),
                ("nums", "[float]", {}),
                ("words", "[string]", {}),
                ("parts", "[pkg.Inner]", {}),
                ("vecs", "[pkg.Vec]", {}),
            ],
        ),
    }
)
CHANNEL = Channel("/t", "flatbuffer", "pkg.Whole", "flatbuffer", SCHEMA.data())

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
vecs = st.fixed_dictionaries({axis: st.floats(allow_nan=False) for axis in "xyz"})
inners = st.fixed_dictionaries({}, optional={"a": st.integers(-9, 9), "text": text, "at": vecs})
wholes = st.fixed_dictionaries(
    {},
    optional={
        "flag": st.booleans(), "real": st.floats(allow_nan=False), "small": st.integers(-128, 127),
        "big": st.integers(0, 2**64 - 1), "maybe": st.integers(-5, 5), "colour": st.sampled_from([0, 3]), "inner": inners,
        "place": vecs, "raw": st.lists(st.integers(0, 255), max_size=5),
        "nums": st.lists(st.floats(width=32, allow_nan=False), max_size=3),
        "words": st.lists(text, max_size=3), "parts": st.lists(inners, max_size=3), "vecs": st.lists(vecs, max_size=3),
    },
)  # fmt: skip


def inner_of(value):
    return {"a": value.get("a", -3), "text": value.get("text"), "at": value.get("at")}


def expected(value):
    inner = value.get("inner")
    at = (inner or {}).get("at") or {}
    row = {name: value.get(name) for name in ("maybe", "raw", "nums", "words", "vecs")}
    row |= {"flag": value.get("flag", True), "real": value.get("real", 2.5)}
    row |= {name: value.get(name, 0) for name in ("small", "big", "colour")}
    row |= {"inner.a": None if inner is None else inner.get("a", -3), "inner.text": (inner or {}).get("text")}
    row |= {f"inner.at.{axis}": at.get(axis) for axis in "xyz"}
    row |= {f"place.{axis}": (value.get("place") or {}).get(axis) for axis in "xyz"}
    row["parts"] = [inner_of(part) for part in value["parts"]] if "parts" in value else None
    return row


def rows(batch):
    return [{k: v for k, v in row.items() if k not in ("t_ns", "publish_ns", "sensor_ns")} for row in batch.to_pylist()]


@settings(max_examples=100, deadline=None)
@given(log=st.lists(wholes, min_size=1, max_size=5))
def test_any_message_comes_back(log):
    batch, _ = decode(CHANNEL, [message(SCHEMA, "pkg.Whole", value) for value in log])
    batch.validate(full=True)
    assert rows(batch) == [expected(value) for value in log]


def test_columns_have_the_types_of_the_schema_and_enums_their_names():
    schema = open_table(CHANNEL, Findings()).schema
    assert schema.names[3:8] == ["flag", "real", "small", "big", "maybe"]
    assert "old" not in schema.names
    assert str(schema.field("parts").type) == (
        "list<item: struct<a: int16, text: string, at: struct<x: double, y: double, z: double>>>"
    )
    assert schema.field("colour").metadata[b"values"] == b'{"0": "red", "3": "green"}'
    assert (schema.field("small").nullable, schema.field("maybe").nullable) == (False, True)


@settings(max_examples=150, deadline=None)
@given(value=wholes, data=st.data())
def test_changed_and_cut_bytes_cost_at_most_their_own_row(value, data):
    sound = message(SCHEMA, "pkg.Whole", value)
    broken = bytearray(sound)
    for _ in range(data.draw(st.integers(1, 3))):
        broken[data.draw(st.integers(0, len(broken) - 1))] = data.draw(st.integers(0, 255))
    broken = broken[: data.draw(st.integers(0, len(broken)))]
    batch, findings = decode(CHANNEL, [sound, bytes(broken), sound], strict=False)
    found = dict(zip(batch.column("t_ns").to_pylist(), rows(batch), strict=True))
    assert found[0] == found[20] == expected(value)
    assert (10 in found) == (findings.lost["/t"] == 0)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_a_changed_schema_is_unsupported_or_still_a_schema(data):
    schema = bytearray(SCHEMA.data())
    for _ in range(data.draw(st.integers(1, 4))):
        schema[data.draw(st.integers(0, len(schema) - 1))] = data.draw(st.integers(0, 255))
    try:
        batch, findings = decode(
            CHANNEL._replace(schema=bytes(schema)), [message(SCHEMA, "pkg.Whole", {"small": 1})], strict=False
        )
    except UnsupportedLog:
        return
    assert batch.num_rows + findings.lost["/t"] == 1


IMAGE = Schema(
    {
        "foxglove.Time": (True, 8, [("sec", "uint", {}), ("nsec", "uint", {})]),
        "foxglove.RawImage": (
            False,
            0,
            [("timestamp", "foxglove.Time", {}), ("width", "uint", {}), ("data", "[ubyte]", {}), ("encoding", "string", {})],
        ),
    }
)


@settings(max_examples=60, deadline=None)
@given(data=st.none() | st.binary(max_size=300), stamp=st.none() | st.integers(0, 2**32 - 1), width=st.integers(0, 9))
def test_the_payload_of_a_foxglove_message_is_a_pointer(data, stamp, width):
    value = {"width": width, "data": data, "encoding": "rgb8", "timestamp": None if stamp is None else {"sec": stamp, "nsec": 7}}
    source = block([message(IMAGE, "foxglove.RawImage", value)] * 2, origin=50)
    table = open_table(Channel("/t", "flatbuffer", "foxglove.RawImage", "flatbuffer", IMAGE.data()), Findings(strict=True))
    table.add(source)
    for row in table.take().to_pylist():
        start = row["payload_offset"] - 50
        assert source.buffer[start : start + row["payload_bytes"]].tobytes() == (data or b"")
        assert (row["width"], row["format"]) == (width, "rgb8")
        assert row["sensor_ns"] == (None if stamp is None else stamp * 10**9 + 7)


def test_offsets_that_lead_out_of_the_payload_pointer_are_told():
    sound = message(IMAGE, "foxglove.RawImage", {"data": b"x" * 40, "encoding": "rgb8"})
    channel = Channel("/t", "flatbuffer", "foxglove.RawImage", "flatbuffer", IMAGE.data())
    spoiled = sound.replace(np.uint32(40).tobytes() + b"x", np.uint32(4000).tobytes() + b"x")
    with pytest.raises(LogDamaged, match="an offset leads to bytes"):
        decode(channel, [spoiled])


@pytest.mark.parametrize(
    ("objects", "match"),
    [
        ({"pkg.Whole": (False, 0, [("u", "union", {})])}, "16 is a union"),
        ({"pkg.Whole": (False, 0, [("w", "pkg.Whole", {})])}, "contains itself"),
        ({"pkg.Whole": (False, 0, [("w", "[pkg.Whole]", {})])}, "contains itself"),
        ({"pkg.Other": (False, 0, [])}, "does not define 'pkg.Whole'"),
        ({"pkg.Whole": (False, 0, [("s", "pkg.S", {})]), "pkg.S": (True, 0, [])}, "pkg.S has 0 bytes"),
    ],
)
def test_schemas_without_columns_are_unsupported(objects, match):
    with pytest.raises(UnsupportedLog, match=match):
        open_table(CHANNEL._replace(schema=Schema(objects).data()), Findings())


def test_a_schema_that_is_no_binary_schema_is_unsupported():
    with pytest.raises(UnsupportedLog, match="expected b'BFBS'"):
        open_table(CHANNEL._replace(schema=b"table Whole {}"), Findings())


def stamped(kind, second):
    schema = Schema(
        {
            "foxglove.Time": (True, 16, [("sec", kind, {}), ("nsec", kind, {})]),
            "foxglove.Thing": (False, 0, [("timestamp", "foxglove.Time", {})]),
        }
    )
    channel = Channel("/t", "flatbuffer", "foxglove.Thing", "flatbuffer", schema.data())
    return channel, message(schema, "foxglove.Thing", {"timestamp": {"sec": second, "nsec": 6}})


@pytest.mark.parametrize(("kind", "second", "sound"), [("long", 5, True), ("long", 2**62, False), ("ulong", 2**64 - 1, False)])
def test_a_stamp_is_right_or_told(kind, second, sound):
    channel, data = stamped(kind, second)
    batch, findings = decode(channel, [data], strict=False)
    assert batch.column("sensor_ns").to_pylist() == ([second * 10**9 + 6] if sound else [])
    assert len(findings.sentences) == (not sound)


def test_a_vector_that_many_share_does_not_fill_the_memory():
    schema = Schema({"pkg.Item": (False, 0, [("nums", "[double]", {})]), "pkg.All": (False, 0, [("items", "[pkg.Item]", {})])})
    channel = Channel("/t", "flatbuffer", "pkg.All", "flatbuffer", schema.data())

    def sharing(count):
        b = flatbuffers.Builder(64)
        numbers = vector_at(b, schema, "double", [1.0] * 1000)
        b.StartObject(1)
        b.PrependUOffsetTRelativeSlot(0, numbers, 0)
        items = offsets(b, [b.EndObject()] * count)
        b.StartObject(1)
        b.PrependUOffsetTRelativeSlot(0, items, 0)
        b.Finish(b.EndObject())
        return bytes(b.Output())

    batch, findings = decode(channel, [sharing(50), sharing(2000)], strict=False)
    assert [len(row["items"]) for row in batch.to_pylist()] == [50]
    assert "64 times its bytes" in findings.sentences[0]


@pytest.mark.parametrize(("levels", "width"), [(200, 1), (40, 2)])
def test_tables_that_are_nested_too_deep_or_too_often_are_told(levels, width):
    objects = {f"pkg.T{n}": (False, 0, [(f"f{w}", f"pkg.T{n + 1}", {}) for w in range(width)]) for n in range(levels)}
    objects[f"pkg.T{levels}"] = (False, 0, [("x", "int", {})])
    channel = Channel("/t", "flatbuffer", "pkg.T0", "flatbuffer", Schema(objects).data())
    with pytest.raises(UnsupportedLog, match="nests more than 64"):
        open_table(channel, Findings())
