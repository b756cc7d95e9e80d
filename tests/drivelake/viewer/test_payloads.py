"""What a payload is, told by its table and its first bytes."""

import struct

import pytest

from drivelake.viewer.payloads import describe
from drivelake.viewer.scene import Cloud, CloudField, Picture, Pixels, Video

JPEG, PNG, WEBP = b"\xff\xd8\xff\xe0rest", b"\x89PNG\r\n\x1a\nrest", b"RIFF\0\0\0\0WEBPrest"
POINTS = struct.pack("<6f", *range(6))
FIELDS = [{"name": name, "offset": 4 * at, "datatype": 7, "count": 1} for at, name in enumerate("xyz")]
CLOUD = {"frame_id": "lidar", "height": 1, "width": 2, "fields": FIELDS, "is_bigendian": False, "point_step": 12, "row_step": 24}
PIXELS = {"frame_id": "cam", "format": "mono8", "width": 3, "height": 2, "step": 4, "is_bigendian": 0}


@pytest.mark.parametrize(("data", "form"), [(JPEG, "jpeg"), (PNG, "png"), (WEBP, "webp")])
@pytest.mark.parametrize("said", ["bgr8; jpeg compressed bgr8", "", None, "png"])
def test_an_encoded_picture_is_known_by_its_first_bytes_whatever_its_format_says(data, form, said):
    assert describe({"frame_id": "cam", "format": said}, data) == Picture(data, form, "cam")


def test_a_video_is_known_by_its_format():
    assert describe({"frame_id": "cam", "format": "h264"}, b"\0\0\0\1") == Video(b"\0\0\0\1", "h264", "cam")


def test_bytes_of_nothing_known_are_not_shown_and_the_reason_names_their_format():
    assert "'16UC1; compressedDepth'" in describe({"format": "16UC1; compressedDepth"}, b"\0" * 12 + PNG)


def test_pixels_keep_their_size_and_step():
    assert describe(PIXELS, bytes(8)) == Pixels(bytes(8), "mono8", 3, 2, 4, "cam")


def test_points_keep_their_fields_but_those_of_several_numbers():
    several = {"name": "normal", "offset": 0, "datatype": 7, "count": 3}
    cloud = describe(CLOUD | {"fields": [*FIELDS, several]}, POINTS)
    assert cloud == Cloud(POINTS, 12, tuple(CloudField(name, 4 * at, "FLOAT32") for at, name in enumerate("xyz")), "lidar")


@pytest.mark.parametrize(
    ("row", "data", "why"),
    [
        (PIXELS | {"is_bigendian": 1}, bytes(8), "big endian"),
        (PIXELS, bytes(7), "7 bytes, 2 rows of 4"),
        (CLOUD | {"is_bigendian": True}, POINTS, "big endian"),
        (CLOUD, POINTS[:-1], "23 bytes, 1 rows of 2 points of 12"),
        (CLOUD | {"height": 2, "width": 1, "row_step": 16}, POINTS, "2 rows of 1 points"),
        (CLOUD | {"fields": FIELDS[1:]}, POINTS, "no fields x and y"),
        (
            CLOUD | {"fields": [f | {"offset": 4 * at + 4} for at, f in enumerate(FIELDS)]},
            POINTS,
            "'z' begins at byte 12 of points of 12",
        ),
    ],
)
def test_what_contradicts_itself_is_not_shown(row, data, why):
    assert why in describe(row, data)
