"""Payload bytes and what their table says of them as something to show. Belongs here: which payloads can be shown.

Never here: reading the bytes, files of viewers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from drivelake.viewer.scene import Cloud, CloudField, Number, Payload, Picture, Pixels, Video

__all__ = ["describe"]

VIDEOS = ("h264", "h265", "vp9", "av1")
# sensor_msgs/PointField.datatype
POINT_FIELDS: Mapping[int, Number] = {
    1: "INT8",
    2: "UINT8",
    3: "INT16",
    4: "UINT16",
    5: "INT32",
    6: "UINT32",
    7: "FLOAT32",
    8: "FLOAT64",
}
BITS = {number: int(number.strip("FLOATUIN")) for number in POINT_FIELDS.values()}


def describe(row: Mapping[str, object], data: bytes) -> Payload | str:
    """What a payload is.

    A picture or a cloud is told by the columns beside its pointer, an encoded picture by its first bytes, since ``format`` of
    ROS is free text.

    Args:
        row: of the payload's table.
        data: the payload.

    Returns:
        What can be shown, or why it cannot be.
    """
    frame_id = str(row.get("frame_id") or "")
    if row.get("point_step") is not None:
        return _cloud(row, data, frame_id)
    form = str(row.get("format") or "")
    if row.get("step") is not None:
        return _pixels(row, data, form, frame_id)
    found = _encoded(data)
    if found:
        return Picture(data, found, frame_id)
    if form.lower() in VIDEOS:
        return Video(data, form.lower(), frame_id)
    return f"its format {form!r} is neither JPEG, PNG, WebP nor a video of {', '.join(VIDEOS)}"


def _encoded(data: bytes) -> str:
    """The format of an encoded picture by its signature, or nothing."""
    if data.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    return "webp" if data[:4] == b"RIFF" and data[8:12] == b"WEBP" else ""


def _pixels(row: Mapping[str, object], data: bytes, encoding: str, frame_id: str) -> Payload | str:
    width, height, step = (cast("int", row[name]) for name in ("width", "height", "step"))
    if row.get("is_bigendian"):
        return "its pixels are big endian"
    if len(data) < step * height or not width:
        return f"it has {len(data)} bytes, {height} rows of {step} were announced"
    return Pixels(data, encoding, width, height, step, frame_id)


def _cloud(row: Mapping[str, object], data: bytes, frame_id: str) -> Payload | str:
    stride = cast("int", row["point_step"])
    if row.get("is_bigendian"):
        return "its points are big endian"
    width, height = cast("int", row["width"]), cast("int", row["height"])
    padded = height > 1 and row.get("row_step") != width * stride
    if padded or stride <= 0 or len(data) != width * height * stride:
        return f"it has {len(data)} bytes, {height} rows of {width} points of {stride} bytes were announced"
    fields = []
    for member in cast("list[dict[str, object]]", row["fields"]):
        number = POINT_FIELDS.get(cast("int", member["datatype"]))
        # a field of several numbers is skipped: viewers colour and place points by single ones
        if number is not None and member.get("count") in (1, None):
            fields.append(CloudField(str(member["name"]), cast("int", member["offset"]), number))
            if fields[-1].offset + BITS[number] // 8 > stride:
                return f"its field {fields[-1].name!r} begins at byte {fields[-1].offset} of points of {stride} bytes"
    if not {"x", "y"} <= {field.name for field in fields}:
        return "its points have no fields x and y"
    return Cloud(data, stride, tuple(fields), frame_id)
