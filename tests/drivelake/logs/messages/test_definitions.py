import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rosbags.interfaces import Nodetype
from rosbags.typesys import Stores, get_typestore

from drivelake.errors import UnsupportedLog
from drivelake.logs.messages.definitions import Field, FieldType, parse_definitions, short_name

ROS2, ROS1 = get_typestore(Stores.ROS2_HUMBLE), get_typestore(Stores.ROS1_NOETIC)
IDL = """
// generated from rosidl
#include "std_msgs/msg/Header.idl"
module pkg { module msg {
  typedef double double__9[9];
  module Probe_Constants { const uint8 A = 3; };
  @verbatim (language="comment", text="what it is")
  struct Probe {
    std_msgs::msg::Header header;
    double__9 covariance;
    sequence<float> xs;
    sequence<uint8, 4> few;
    string<5> name;
    octet raw;
    char letter;
    boolean on;
    @unit("m") long long far;
  };
};};
"""


def base_of(name):
    return {"time": "time", "duration": "duration"}.get(name, short_name(name))


def rosbags_type(description, ros1):
    """What rosbags says of a field, in our words."""
    alias = {"byte": "int8" if ros1 else "uint8", "octet": "uint8", "char": "uint8"}
    match description:
        case (Nodetype.BASE, (base, _)):
            return FieldType(alias.get(base, base))
        case (Nodetype.NAME, name):
            return FieldType(short_name(name))
        case (Nodetype.ARRAY, (item, size)):
            return FieldType(rosbags_type(item, ros1).base, "array", size)
        case (Nodetype.SEQUENCE, (item, bound)):
            return FieldType(rosbags_type(item, ros1).base, "sequence", bound or None)


@pytest.mark.parametrize(("store", "version"), [(ROS2, 2), (ROS1, 1)], ids=["ros2", "ros1"])
def test_every_standard_definition_says_what_rosbags_reads(store, version):
    for kind, (_, fields) in store.fielddefs.items():
        if not fields or fields[0][0] == "structure_needs_at_least_one_member":
            continue
        text, _ = store.generate_msgdef(kind, ros_version=version)
        found = parse_definitions(text, kind, "ros1msg" if version == 1 else "ros2msg")
        expected = [Field(name, rosbags_type(description, version == 1)) for name, description in fields]
        if version == 1:
            stamps = {"builtin_interfaces/Time": "time", "builtin_interfaces/Duration": "duration"}
            expected = [f._replace(type=f.type._replace(base=stamps.get(f.type.base, f.type.base))) for f in expected]
        assert list(found[short_name(kind)]) == expected, kind


def test_idl_gives_the_fields_of_its_structures():
    text = f"IDL: pkg/msg/Probe\n{IDL}\n{'=' * 80}\nMSG: std_msgs/msg/Header\nbuiltin_interfaces/Time stamp\nstring frame_id\n"
    found = parse_definitions(f"{'=' * 80}\n{text}", "pkg/msg/Probe", "ros2idl")
    assert found["pkg/Probe"] == (
        Field("header", FieldType("std_msgs/Header")),
        Field("covariance", FieldType("float64", "array", 9)),
        Field("xs", FieldType("float32", "sequence")),
        Field("few", FieldType("uint8", "sequence", 4)),
        Field("name", FieldType("string")),
        Field("raw", FieldType("uint8")),
        Field("letter", FieldType("uint8")),
        Field("on", FieldType("bool")),
        Field("far", FieldType("int64")),
    )
    assert found["std_msgs/Header"][1] == Field("frame_id", FieldType("string"))
    assert parse_definitions(IDL, "pkg/msg/Probe", "ros2idl")["pkg/Probe"] == found["pkg/Probe"]


def test_idl_that_is_none_is_unsupported():
    with pytest.raises(UnsupportedLog, match="The IDL of 'pkg/msg/Probe' cannot be parsed"):
        parse_definitions("struct {", "pkg/msg/Probe", "ros2idl")


@pytest.mark.parametrize(
    ("line", "field"),
    [
        ("string<=10 name", Field("name", FieldType("string"))),
        ('string name "a = b # c"', Field("name", FieldType("string"))),
        ("float64[<=3] xs [1.0, 2.0]  # metres", Field("xs", FieldType("float64", "sequence", 3))),
        ("string<=4[2] pair", Field("pair", FieldType("string", "array", 2))),
        ("\tint32\tTabbed", Field("Tabbed", FieldType("int32"))),
        ("geometry_msgs/msg/Point p", Field("p", FieldType("geometry_msgs/Point"))),
        ("Point p", Field("p", FieldType("pkg/Point"))),
        ("Header header", Field("header", FieldType("std_msgs/Header"))),
        ("char c", Field("c", FieldType("uint8"))),
    ],
)
def test_a_line_is_a_field(line, field):
    assert parse_definitions(line, "pkg/msg/One", "ros2msg")["pkg/One"] == (field,)


@pytest.mark.parametrize("line", ["int32 A=3", 'string B = "x y"', "float32 C=-1.5 # no field", "# int32 a", "", "   "])
def test_constants_and_comments_are_no_fields(line):
    assert parse_definitions(line, "pkg/msg/One", "ros2msg")["pkg/One"] == ()


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("int32", "has the line 'int32'"),
        ("int32[0] a", "array 'a' of no values"),
        ("int32 a\nint8 a", "two fields 'a'"),
        ("int8 a\n===\nint8 b", "Section 2 .* does not name its message"),
        ("---", "has the line '---'"),
    ],
)
def test_text_that_is_no_definition_is_unsupported(text, match):
    with pytest.raises(UnsupportedLog, match=match):
        parse_definitions(text, "pkg/msg/One", "ros2msg")


def test_a_name_without_its_package_is_found_where_only_one_message_has_it():
    text = "Point a\n===\nMSG: geometry_msgs/Point\nfloat64 x\n"
    assert parse_definitions(text, "pkg/msg/One", "ros2msg")["pkg/One"][0].type.base == "geometry_msgs/Point"
    twice = text + "===\nMSG: other/Point\nint8 x\n"
    assert parse_definitions(twice, "pkg/msg/One", "ros2msg")["pkg/One"][0].type.base == "pkg/Point"


@settings(max_examples=200, deadline=None)
@given(text=st.text(st.sampled_from('int8 ab[]<=3/#\n=MSG:.\r-"{};'), max_size=60), idl=st.booleans())
def test_any_text_is_definitions_or_unsupported(text, idl):
    try:
        found = parse_definitions(text, "pkg/msg/One", "ros2idl" if idl else "ros2msg")
    except UnsupportedLog:
        return
    assert all(isinstance(field, Field) for fields in found.values() for field in fields)
