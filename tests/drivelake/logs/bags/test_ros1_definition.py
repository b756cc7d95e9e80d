import pytest
from rosbags.rosbag1 import Reader

from drivelake.logs.bags.ros1_definition import definition_md5
from tests.drivelake.logs.bags.making import store


def test_the_digest_of_every_standard_message_is_the_one_of_rosbags():
    for name in sorted(store().types):
        text, digest = store().generate_msgdef(name, ros_version=1)
        assert definition_md5(name.replace("/msg/", "/"), text.encode()) == digest, name


@pytest.mark.parametrize("name", ["example.bag", "example-lz4.bag", "tilt_laser.bag"])
def test_recorded_definitions_with_their_comments_give_the_digest_beside_them(shared_data, name):
    with Reader(shared_data / "ros1_bag" / name) as reader:
        for connection in reader.connections:
            text = connection.msgdef.data.encode()
            assert definition_md5(connection.msgtype.replace("/msg/", "/"), text) == connection.digest


def test_comments_and_blank_space_do_not_count_and_values_do():
    one = definition_md5("a/B", b"int32 x\nstring NAME=some # text\n")
    assert definition_md5("a/B", b"# said\nstring NAME=some # text\n\n  int32   x  # more\n") == one
    assert definition_md5("a/B", b"int32 x\nstring NAME=some # test\n") != one


def test_a_definition_without_a_type_that_it_needs_has_no_digest():
    assert definition_md5("a/B", b"C c") is None
    assert definition_md5("a/B", b"one two three") is None


def test_types_that_contain_themselves_end():
    assert definition_md5("a/B", b"B b") is None
    sections = b"".join(b"===\nMSG: a/T%d\nT%d x\nT%d y\n" % (n, n + 1, n + 1) for n in range(1, 31))
    assert definition_md5("a/T0", b"T1 x\nT1 y\n" + sections + b"===\nMSG: a/T31\nint8 z\n")
