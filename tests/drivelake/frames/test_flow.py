"""Optical flow. Belongs here: pictures of a view that turns by a known amount, what they align. Never: how."""

import io
import itertools
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from drivelake.demo.motion import smooth_noise
from drivelake.errors import InputError
from drivelake.frames.domains import clock_models
from drivelake.frames.flow import PICTURES_MAX, chosen_rows, payload_pictures, sideways_flow
from drivelake.frames.sources import Absent, locate, read_index, read_samples
from drivelake.logs.tables import write_tables
from drivelake.rig import Alignment, Clock, Rig, Sensor

S = 1_000_000_000
PERIOD = S // 20


def panorama(seed=0, width=2000, height=144):
    """A view of blurred blobs, (height, width) uint8; four px of it are two of the pictures that are compared."""
    rng = np.random.default_rng(seed)
    small = rng.uniform(0, 255, (height // 12, width // 12)).astype(np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encoded(view, left_px, *, width=256, light=1.0, kind="JPEG"):
    """The part of a view from ``left_px`` on, as a file."""
    height = view.height
    part = view.transform((width, height), Image.Transform.AFFINE, (1, 0, left_px, 0, 1, 0), Image.Resampling.BICUBIC)
    sink = io.BytesIO()
    part.point(lambda grey: grey * light).save(sink, kind)
    return sink.getvalue()


def turning(seed=1, pictures=80):
    """Stamps, and how far left the view begins: it swings to both sides."""
    t_s = np.arange(pictures) / 20
    left = 800 + 120 * np.sin(2 * np.pi * t_s / 4) + 40 * np.sin(2 * np.pi * t_s / 1.7)
    return (10**18 + np.arange(pictures) * PERIOD).tolist(), left.tolist()


def test_the_flow_is_the_turn_of_the_view_in_pixels_a_second():
    view = panorama()
    t_ns, left = turning()
    stamps, flow = sideways_flow(zip(t_ns, (encoded(view, at) for at in left), strict=True), "camera")
    assert stamps.tolist() == [t + PERIOD // 2 for t in t_ns[:-1]]
    # pictures are scaled from 256 to 128 px; where the view begins further right, it has moved to the left
    want = -np.diff(left) / 2 * 20
    assert np.corrcoef(flow, want)[0, 1] > 0.99
    assert np.median(np.abs(flow - want)) < 5


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "BMP"])
def test_light_that_changes_and_other_formats_give_the_same_flow(kind):
    view = panorama()
    t_ns, left = turning(pictures=20)
    lights = 0.5 + 0.5 * np.arange(20) / 20
    pictures = [encoded(view, at, light=light, kind=kind) for at, light in zip(left, lights, strict=True)]
    _, flow = sideways_flow(zip(t_ns, pictures, strict=True), "camera")
    assert np.corrcoef(flow, -np.diff(left))[0, 1] > 0.98


def test_a_view_that_stands_still_has_no_flow():
    picture = encoded(panorama(), 500)
    _, flow = sideways_flow(((t, picture) for t in turning(pictures=5)[0]), "camera")
    assert np.abs(flow).max() < 1e-3


def test_pictures_that_do_not_follow_each_other_are_not_compared():
    view = panorama()
    t_ns, left = turning(pictures=30)
    pictures = [encoded(view, at) for at in left]
    pictures[10] = b"no picture"
    pictures[11] = pictures[12][:200]
    t_ns[20:] = [t + 10 * S for t in t_ns[20:]]
    t_ns[25] = t_ns[24]
    stamps, flow = sideways_flow(zip(t_ns, pictures, strict=True), "camera")
    lost = {9, 10, 11, 19, 24}
    pairs = [(a, b) for at, (a, b) in enumerate(itertools.pairwise(t_ns)) if at not in lost]
    assert stamps.tolist() == [a + (b - a) // 2 for a, b in pairs]
    assert np.all(np.isfinite(flow))


def test_a_sensor_without_pictures_says_so():
    assert sideways_flow(iter([(1, b"cloud"), (2, b"cloud")]), "lidar") == (
        "sensor 'lidar': of 2 pictures 2 cannot be decoded, and no two others follow each other"
    )
    assert "of 0 pictures" in sideways_flow(iter([]), "camera")


def test_a_picture_of_one_colour_has_no_shift():
    sink = io.BytesIO()
    Image.new("L", (64, 64), 7).save(sink, "PNG")
    _, flow = sideways_flow(((t, sink.getvalue()) for t in turning(pictures=4)[0]), "camera")
    assert np.all(np.isfinite(flow))


@pytest.mark.parametrize("pictures", [0, 1, PICTURES_MAX, PICTURES_MAX + 1, 10 * PICTURES_MAX + 7])
def test_at_most_three_thousand_pictures_are_chosen_from_the_first_to_the_last(pictures):
    rows = chosen_rows(pictures)
    assert rows.size == min(pictures, PICTURES_MAX)
    assert np.all(np.diff(rows) > 0)
    if pictures:
        assert (rows[0], rows[-1]) == (0, pictures - 1)
        assert np.count_nonzero(np.diff(rows) > 1) <= 9


def test_the_pictures_of_a_turning_view_align_a_gyro(tmp_path):
    """A camera that turns with a known yaw rate, against a gyro whose clock is 0.7 s behind."""
    t_s = np.arange(0, 40, 0.01)
    yaw_rate = smooth_noise(np.random.default_rng(5), t_s, shortest=1.0, longest=8.0)
    left_px = 900 + 40 * np.concatenate(([0.0], np.cumsum((yaw_rate[1:] + yaw_rate[:-1]) / 2 * 0.01)))
    start_ns, behind_ns = 1_700_000_000 * S, 700_000_000
    table = {"t_ns": start_ns - behind_ns + np.rint(t_s * 1e9).astype(np.int64), "yaw_rate": yaw_rate}
    pq.write_table(pa.table(table), tmp_path / "gyro.parquet")
    columns = [{"name": "yaw_rate", "unit": "rad/s"}]
    entry = {"log": "can.mf4", "channel": "Gyro", "table": "gyro.parquet", "columns": columns}
    cloud = {"log": "camera.mcap", "channel": "/camera", "table": "absent.parquet"}
    (tmp_path / "index.json").write_text(json.dumps({"tables": [entry, cloud]}))
    sensors = {
        "camera": Sensor(log="camera.mcap", channel="/camera", kind="payload"),
        "gyro": Sensor(log="can.mf4", channel="Gyro.yaw_rate", clock="can"),
    }
    rig = Rig(reference="camera", clocks={"can": Clock(align=Alignment())}, sensors=sensors)
    found = {name: locate(read_index(tmp_path), name, sensor) for name, sensor in rig.sensors.items()}
    view = panorama()

    def pictures(sensor):
        assert sensor == "camera"
        return ((start_ns + round(at * 1e7), encoded(view, left_px[at], kind="BMP")) for at in range(0, t_s.size, 5))

    model = clock_models(tmp_path, rig, found, {}, pictures=pictures)["can"]
    (segment,) = model.segments
    assert segment.method == "estimated"
    assert segment.offset_ns == pytest.approx(behind_ns, abs=5_000_000)
    assert abs(segment.offset_ns - behind_ns) < 3 * segment.sigma_ms * 1e6
    assert "gyro (yaw rate) was compared with camera (shift of pictures)" in model.reason


def test_pictures_come_through_the_pointers_of_the_signals(generated, tmp_path):
    log = next((generated / "inbox").glob("signals_*")) / "camera.mcap"
    tables = [dict(entry) for entry in write_tables("camera.mcap", log, tmp_path)["tables"]]
    (tmp_path / "index.json").write_text(json.dumps({"tables": tables}))
    camera = Sensor(log="*.mcap", channel="/camera/front/image/compressed", kind="payload", stamp="sensor")
    rig = Rig(reference="camera", sensors={"camera": camera})
    found = {"camera": locate(read_index(tmp_path), "camera", camera)}
    stamps, contents = zip(*payload_pictures(tmp_path, rig, found, {"camera.mcap": log}, "camera"), strict=True)
    assert len(stamps) > 20
    assert stamps == tuple(read_samples(tmp_path, "camera", camera, found["camera"]).t_ns.tolist())
    assert all(content.startswith(b"\xff\xd8\xff") for content in contents)
    _, flow = sideways_flow(zip(stamps, contents, strict=True), "camera")
    assert flow.size > len(stamps) // 2
    with pytest.raises(InputError, match=r"camera\.mcap of sensor 'camera' is not there"):
        next(payload_pictures(tmp_path, rig, found, {}, "camera"))
    with pytest.raises(InputError, match="no log"):
        next(payload_pictures(tmp_path, rig, {"camera": Absent("no log")}, {}, "camera"))
