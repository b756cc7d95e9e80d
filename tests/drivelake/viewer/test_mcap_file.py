"""The MCAP file as Foxglove's tools read it."""

import json
import math

import numpy as np
import pytest
from mcap.reader import make_reader
from mcap_protobuf.decoder import DecoderFactory

from drivelake.viewer.files import open_sink
from drivelake.viewer.scene import Cloud, CloudField, EgoPose, Fix, Mount, Picture, Pixels, Stamp, Video

ABOUT = {"drive": "d", "sensor_frames": "0" * 64}
AT = Stamp(1_700_000_000_123_456_789, 1_600_000_000_000_000_001)
POINTS = np.arange(12, dtype="<f4").tobytes()
CLOUD = Cloud(POINTS, 16, tuple(CloudField(name, 4 * at, "FLOAT32") for at, name in enumerate("xyz")), "lidar")


def written(path, fill):
    """(schema name, topic, message) of each message that ``fill(sink)`` gives, decoded; and the layout."""
    with open_sink(path, ABOUT) as sink:
        fill(sink)
        layout = sink.finish()
    with path.open("rb") as file:
        reader = make_reader(file, validate_crcs=True, decoder_factories=[DecoderFactory()])
        found = [(schema.name, channel.topic, message) for schema, channel, message in reader.iter_messages()]
    return found, json.loads(layout)


def decoded(path, topic):
    with path.open("rb") as file:
        reader = make_reader(file, decoder_factories=[DecoderFactory()])
        (found,) = [m.decoded_message for m in reader.iter_decoded_messages(topics=[topic])]
        return found


def test_stamps_are_exact(tmp_path):
    found, _ = written(tmp_path / "a.mcap", lambda sink: sink.payload("lidar", AT, CLOUD))
    ((schema, topic, message),) = found
    assert (schema, topic) == ("foxglove.PointCloud", "/sensors/lidar")
    assert (message.log_time, message.publish_time) == AT
    cloud = decoded(tmp_path / "a.mcap", topic)
    assert cloud.timestamp.seconds * 10**9 + cloud.timestamp.nanos == AT.aligned_ns


def test_clouds_come_back_whole(tmp_path):
    written(tmp_path / "a.mcap", lambda sink: sink.payload("lidar", AT, CLOUD))
    cloud = decoded(tmp_path / "a.mcap", "/sensors/lidar")
    assert (cloud.data, cloud.point_stride, cloud.frame_id) == (POINTS, 16, "lidar")
    float32 = cloud.fields[0].DESCRIPTOR.fields_by_name["type"].enum_type.values_by_name["FLOAT32"].number
    assert [(f.name, f.offset, f.type) for f in cloud.fields] == [("x", 0, float32), ("y", 4, float32), ("z", 8, float32)]
    assert cloud.pose.orientation.w == 1


@pytest.mark.parametrize(
    ("shown", "schema"),
    [
        (Picture(b"\xff\xd8\xff", "jpeg", "cam"), "foxglove.CompressedImage"),
        (Video(b"\0\0\0\1", "h264", "cam"), "foxglove.CompressedVideo"),
        (Pixels(bytes(8), "bgr8", 2, 1, 8, "cam"), "foxglove.RawImage"),
    ],
)
def test_pictures_keep_their_bytes_and_what_describes_them(tmp_path, shown, schema):
    found, layout = written(tmp_path / "a.mcap", lambda sink: sink.payload("cam", AT, shown))
    assert [name for name, _, _ in found] == [schema]
    picture = decoded(tmp_path / "a.mcap", "/sensors/cam")
    assert all(getattr(picture, name) == value for name, value in shown._asdict().items())
    assert [panel["imageMode"]["imageTopic"] for panel in layout["configById"].values()] == ["/sensors/cam"]


def test_a_sensor_that_changes_what_it_sends_gets_a_topic_for_each(tmp_path):
    def fill(sink):
        sink.payload("cam", AT, Picture(b"\xff\xd8\xff", "jpeg", "cam"))
        sink.payload("cam", AT, Pixels(bytes(8), "bgr8", 2, 1, 8, "cam"))
        sink.payload("cam", AT, Pixels(bytes(8), "bgr8", 2, 1, 8, "cam"))

    found, _ = written(tmp_path / "a.mcap", fill)
    assert [topic for _, topic, _ in found] == ["/sensors/cam", "/sensors/cam/RawImage", "/sensors/cam/RawImage"]


def test_pixels_that_foxglove_has_no_name_for_are_refused_with_a_reason(tmp_path):
    def fill(sink):
        assert "'64FC1'" in sink.payload("cam", AT, Pixels(bytes(8), "64FC1", 1, 1, 8, "cam"))

    assert written(tmp_path / "a.mcap", fill)[0] == []


@pytest.mark.parametrize("value", [0.1, -0.0, 1e-300, 12345678.9, 3.0])
def test_values_read_back_as_the_same_float_and_carry_their_unit(tmp_path, value):
    found, layout = written(tmp_path / "a.mcap", lambda sink: sink.signal("speed", "m/s", AT, (value,)))
    ((_, topic, message),) = found
    assert topic == "/signals/speed"
    assert math.copysign(1, json.loads(message.data)["value"]) == math.copysign(1, value)
    assert json.loads(message.data) == {"value": value}
    (panel,) = layout["configById"].values()
    assert (panel["foxglovePanelTitle"], [line["value"] for line in panel["paths"]]) == ("m/s", ["/signals/speed.value"])


def test_attitudes_have_four_members(tmp_path):
    found, _ = written(tmp_path / "a.mcap", lambda sink: sink.signal("att", "", AT, (0.0, 0.0, 0.6, 0.8)))
    assert json.loads(found[0][2].data) == {"x": 0, "y": 0, "z": 0.6, "w": 0.8}


def test_the_vehicle_turns_to_the_left_with_rising_yaw(tmp_path):
    def fill(sink):
        sink.ego(AT, EgoPose(1, 2, 3, math.pi / 2))
        sink.path(AT, (EgoPose(1, 2, 3, math.pi / 2),))
        sink.fix(AT, Fix(48.1, 11.5))

    found, layout = written(tmp_path / "a.mcap", fill)
    assert {topic for _, topic, _ in found} == {"/ego/pose", "/ego/path", "/tf", "/gnss/fix"}
    moved = decoded(tmp_path / "a.mcap", "/tf")
    x, y, z, w = (getattr(moved.rotation, axis) for axis in "xyzw")
    forward = (1 - 2 * (y * y + z * z), 2 * (x * y + w * z))  # the vehicle's x axis in the local frame
    assert forward == pytest.approx((0, 1))
    assert {panel.split("!")[0] for panel in layout["configById"]} == {"3D", "map"}


def test_clouds_stand_beside_the_trajectory_only_where_their_frame_is_mounted(tmp_path):
    def fill(sink):
        sink.mounts(AT, (Mount("lidar", "vehicle", (1, 2, 3), (0, 0, 0, 1)),))
        sink.ego(AT, EgoPose(0, 0, 0, 0))
        sink.payload("front", AT, CLOUD)
        sink.payload("rear", AT, CLOUD._replace(frame_id="elsewhere"))

    _, layout = written(tmp_path / "a.mcap", fill)
    topics = {panel["foxglovePanelTitle"]: set(panel["topics"]) for panel in layout["configById"].values()}
    assert topics["trajectory"] == {"/ego/pose", "/sensors/front"}
    assert topics["/sensors/rear"] == {"/sensors/rear"}
    (mounted,) = decoded(tmp_path / "a.mcap", "/tf_static").transforms
    assert (mounted.parent_frame_id, mounted.child_frame_id, mounted.translation.z) == ("vehicle", "lidar", 3)


def test_a_file_with_nothing_in_it_is_still_a_file(tmp_path):
    found, layout = written(tmp_path / "a.mcap", lambda sink: None)
    assert (found, layout["configById"], layout["layout"]) == ([], {}, None)
