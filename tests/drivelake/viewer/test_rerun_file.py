"""The Rerun recording as Rerun reads it."""

import numpy as np
import pytest

from drivelake.viewer.files import open_sink
from drivelake.viewer.scene import Cloud, CloudField, EgoPose, Fix, Mount, Picture, Pixels, Stamp, Video

chunks = pytest.importorskip("rerun.chunk", reason="the extra viewer is not installed")
ABOUT = {"drive": "d", "sensor_frames": "0" * 64}
AT = Stamp(1_700_000_000_123_456_789, 1_600_000_000_000_000_001)


def written(path, fill):
    """(entity, Arrow batch) of everything in the recording that has a time."""
    with open_sink(path, ABOUT) as sink:
        fill(sink)
        assert sink.finish() == b""
    found = chunks.RrdReader(path).stream().to_chunks()
    return [(str(chunk.entity_path), chunk.to_record_batch()) for chunk in found if not chunk.is_static]


def test_both_clocks_are_timelines_with_exact_stamps(tmp_path):
    ((entity, batch),) = written(tmp_path / "a.rrd", lambda sink: sink.signal("speed", "m/s", AT, (1.5,)))
    assert entity == "/signals/speed"
    assert [batch.column(name).cast("int64").to_pylist() for name in ("aligned", "native")] == [[t] for t in AT]
    assert batch.column("Scalars:scalars").to_pylist() == [[1.5]]


def test_an_attitude_is_one_row_of_four(tmp_path):
    ((_, batch),) = written(tmp_path / "a.rrd", lambda sink: sink.signal("att", "", AT, (0.0, 0.0, 0.6, 0.8)))
    assert batch.column("Scalars:scalars").to_pylist() == [[0.0, 0.0, 0.6, 0.8]]


def test_a_cloud_becomes_its_finite_positions_whatever_its_numbers(tmp_path):
    kind = np.dtype({"names": ["x", "y", "z"], "formats": ["<f8", "<f4", "<i2"], "offsets": [4, 12, 0], "itemsize": 20})
    points = np.array([(1.5, 2.5, 3), (np.nan, 0, 0), (-1, -2, -3)], kind)
    fields = (CloudField("x", 4, "FLOAT64"), CloudField("y", 12, "FLOAT32"), CloudField("z", 0, "INT16"))
    shown = Cloud(points.tobytes(), 20, fields, "lidar")
    ((_, batch),) = written(tmp_path / "a.rrd", lambda sink: sink.payload("lidar", AT, shown))
    assert batch.column("Points3D:positions").to_pylist() == [[[1.5, 2.5, 3.0], [-1.0, -2.0, -3.0]]]


def test_rows_of_pixels_lose_their_padding(tmp_path):
    shown = Pixels(bytes([1, 2, 3, 0, 4, 5, 6, 0]), "mono8", 3, 2, 4, "cam")
    ((_, batch),) = written(tmp_path / "a.rrd", lambda sink: sink.payload("cam", AT, shown))
    ((data,),) = batch.column("Image:buffer").to_pylist()
    assert bytes(data) == bytes([1, 2, 3, 4, 5, 6])


def test_everything_has_its_place(tmp_path):
    def fill(sink):
        assert not sink.payload("cam", AT, Picture(b"\xff\xd8\xff", "jpeg", "cam"))
        assert not sink.payload("dash", AT, Video(b"\0\0\0\1", "h264", "dash"))
        sink.path(AT, (EgoPose(0, 0, 0, 0), EgoPose(1, 0, 0, 0)))
        sink.ego(AT, EgoPose(1, 0, 0, 0.5))
        sink.fix(AT, Fix(48.1, 11.5))

    found = {entity for entity, _ in written(tmp_path / "a.rrd", fill)}
    assert found == {"/sensors/cam", "/sensors/dash", "/ego/path", "/ego/vehicle", "/gnss"}


def test_clouds_stand_below_the_frame_they_are_mounted_in(tmp_path):
    cloud = Cloud(bytes(8), 8, (CloudField("x", 0, "FLOAT32"), CloudField("y", 4, "FLOAT32")), "lidar")

    def fill(sink):
        sink.mounts(AT, (Mount("mast", "vehicle", (1, 2, 3), (0, 0, 0, 1)), Mount("lidar", "mast", (0, 0, 1), (0, 0, 0, 1))))
        sink.payload("front", AT, cloud)
        sink.payload("rear", AT, cloud._replace(frame_id="elsewhere"))

    found = {entity for entity, _ in written(tmp_path / "a.rrd", fill)}
    assert found == {"/ego/vehicle/mast/lidar/front", "/sensors/rear"}


def test_pixels_that_are_not_written_are_refused_with_a_reason(tmp_path):
    def fill(sink):
        assert "'bayer_rggb8'" in sink.payload("cam", AT, Pixels(bytes(4), "bayer_rggb8", 2, 2, 2, "cam"))
        assert "need 6" in sink.payload("cam", AT, Pixels(bytes(4), "rgb8", 2, 1, 4, "cam"))

    assert written(tmp_path / "a.rrd", fill) == []
