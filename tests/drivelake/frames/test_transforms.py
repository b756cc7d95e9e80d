"""Laws of frame transforms: they compose, turn back, and a file that is no tree of rotations is refused in words."""

import math

import numpy as np
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.errors import DeclarationError
from drivelake.frames.transforms import QUATERNION_TOLERANCE, Transforms, parse_calibration
from drivelake.rig import Rig

KNOWN = {"source": "drawing 12", "date": "2026-03-14"}
CAMERA = {"parent": "vehicle", "translation_m": [1.9, 0.1, 1.4], "rotation_xyzw": [-0.5, 0.5, -0.5, 0.5], **KNOWN}
NAMES = ("vehicle", "a", "b", "c", "d")


def parsed(frames, **options):
    return parse_calibration(yaml.safe_dump({"frames": frames}), where="calibration.yaml", **options)


def refused(frames, match, **options):
    with pytest.raises(DeclarationError, match=match):
        parsed(frames, **options)


unit = st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: math.hypot(*q) > 0.1).map(lambda q: [c / math.hypot(*q) for c in q])
metres = st.lists(st.floats(-10, 10), min_size=3, max_size=3)


@st.composite
def trees(draw):
    """A tree of five frames, each below an earlier one, in any order in the file."""
    frames = {"vehicle": {}}
    for at, name in enumerate(NAMES[1:], start=1):
        parent = draw(st.sampled_from(NAMES[:at]))
        frames[name] = {"parent": parent, "translation_m": draw(metres), "rotation_xyzw": draw(unit), **KNOWN}
    return {name: frames[name] for name in draw(st.permutations(NAMES))}


@settings(max_examples=30, deadline=None)
@given(frames=trees(), a=st.sampled_from(NAMES), b=st.sampled_from(NAMES), c=st.sampled_from(NAMES))
def test_transforms_compose_turn_back_and_keep_lengths(frames, a, b, c):
    transforms = Transforms.of(parsed(frames))
    there = transforms.between(a, b)
    assert np.allclose(transforms.between(b, c) @ there, transforms.between(a, c), atol=1e-9)
    assert np.allclose(transforms.between(b, a) @ there, np.eye(4), atol=1e-9)
    assert np.allclose(there[:3, :3] @ there[:3, :3].T, np.eye(3), atol=1e-9)
    assert np.linalg.det(there[:3, :3]) == pytest.approx(1)
    assert np.array_equal(there[3], [0, 0, 0, 1])


def test_a_camera_that_looks_ahead_sees_what_is_ahead():
    """Camera axes: x right, y down, z ahead. Vehicle axes: x ahead, y left, z up."""
    transforms = Transforms.of(parsed({"vehicle": {}, "camera": CAMERA}))
    ahead = transforms.between("camera", "vehicle") @ [0, 0, 10, 1]
    right = transforms.between("camera", "vehicle") @ [1, 0, 0, 1]
    assert np.allclose(ahead, [11.9, 0.1, 1.4, 1])
    assert np.allclose(right, [1.9, -0.9, 1.4, 1])
    assert np.allclose(transforms.between("vehicle", "camera") @ ahead, [0, 0, 10, 1])


def test_a_quarter_turn_to_the_left_takes_ahead_to_the_left():
    half = math.sqrt(0.5)
    transforms = Transforms.of(
        parsed({"vehicle": {}, "side": {"parent": "vehicle", "rotation_xyzw": [0, 0, half, half], **KNOWN}})
    )
    assert np.allclose(transforms.between("side", "vehicle") @ [1, 0, 0, 1], [0, 1, 0, 1])


def test_a_frame_that_is_asked_for_and_absent_is_answered_with_the_nearest():
    with pytest.raises(DeclarationError, match="no frame 'camra'; did you mean 'camera'"):
        Transforms.of(parsed({"vehicle": {}, "camera": CAMERA})).between("camra", "vehicle")


@pytest.mark.parametrize("off", [QUATERNION_TOLERANCE * 2, -QUATERNION_TOLERANCE * 2, 1.0])
def test_a_quaternion_that_is_no_unit_is_refused_with_its_length(off):
    camera = {**CAMERA, "rotation_xyzw": [0, 0, 0, 1 + off]}
    refused({"vehicle": {}, "camera": camera}, "rotation_xyzw has length")


def test_a_quaternion_of_six_decimals_is_a_unit():
    parsed({"vehicle": {}, "camera": {**CAMERA, "rotation_xyzw": [0.0, 0.0, 0.382683, 0.92388]}})


def test_millimetres_are_refused():
    refused({"vehicle": {}, "camera": {**CAMERA, "translation_m": [1900, 100, 1400]}}, "is it in millimetres")


@pytest.mark.parametrize(
    ("frames", "match"),
    [
        ({"camera": {**CAMERA, "parent": "vehicel"}, "vehicel": {}}, "no frame 'vehicle'.*; did you mean 'vehicel'"),
        ({"vehicle": {}, "camera": {**CAMERA, "parent": "vehikle"}}, "parent 'vehikle' is no frame; did you mean 'vehicle'"),
        ({"vehicle": {}, "camera": {"source": "x", "date": "2026-01-01"}}, "'camera' has no parent; only 'vehicle' has none"),
        ({"vehicle": {**CAMERA, "parent": "camera"}, "camera": CAMERA}, "it takes no parent"),
        ({"vehicle": {"translation_m": [1, 0, 0]}}, "no translation and no rotation"),
        (
            {"vehicle": {}, "a": {**CAMERA, "parent": "b"}, "b": {**CAMERA, "parent": "a"}},
            "frames stand in a circle: a in b in a",
        ),
        ({"vehicle": {}, "camera": {**CAMERA, "parent": "camera"}}, "in a circle: camera in camera"),
        ({"vehicle": {}, "camera": {"parent": "vehicle", "date": "2026-01-01"}}, "source and date are needed"),
        ({"vehicle": {}, "camera": {"parent": "vehicle", "source": "x"}}, "source and date are needed"),
        ({"vehicle": {}, "camera": {**CAMERA, "translation_mm": [1, 2, 3]}}, "unknown key .*translation_mm'; did you mean"),
        ({"vehicle": {}, "camera": {**CAMERA, "translation_m": [1, 2]}}, "frames.camera.translation_m"),
        ({"vehicle": {}, "camera": {**CAMERA, "translation_m": [1, 2, math.nan]}}, "finite"),
        ({}, "frames"),
    ],
)  # fmt: skip
def test_what_is_no_calibration_is_refused_in_words(frames, match):
    refused(frames, match)


@pytest.mark.parametrize("text", ["", "- 1", "frames: [", "frames: 3"])
def test_a_file_without_frames_is_refused(text):
    with pytest.raises(DeclarationError, match=r"calibration\.yaml"):
        parse_calibration(text, where="calibration.yaml")


def rig(frame):
    return Rig.model_validate(
        {
            "reference": "camera",
            "calibration": "calibration.yaml",
            "sensors": {"camera": {"log": "*.mcap", "channel": "/camera", "kind": "payload", "frame": frame}},
        }
    )


def test_a_sensor_must_stand_in_a_frame_that_is_there():
    frames = {"vehicle": {}, "camera": CAMERA}
    parsed(frames, rig=rig("camera"))
    refused(frames, "sensor 'camera' stands in frame 'camra', which is not there; did you mean 'camera'", rig=rig("camra"))
