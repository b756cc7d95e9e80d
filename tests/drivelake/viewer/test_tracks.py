"""Samples of a sensor in order of aligned time."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drivelake.errors import InputError
from drivelake.frames.clocks import ClockModel, Segment
from drivelake.frames.sources import locate, read_index
from drivelake.rig import Sensor
from drivelake.viewer.tracks import POINTERS, Span, order_track

SPAN = Span(0, 1 << 60)
SENSOR = Sensor(log="*.mcap", channel="/speed", field="v")
SHIFT_NS = 5_000


def clock(offset_ns=SHIFT_NS):
    return ClockModel(method="declared", segments=(Segment(method="declared", offset_ns=offset_ns),))


def write(folder, log, columns):
    table = pa.table({name: pa.array(values, kind) for name, (values, kind) in columns.items()})
    (folder / log).mkdir()
    pq.write_table(table, folder / log / "speed.parquet")
    return {
        "log": log,
        "channel": "/speed",
        "table": f"{log}/speed.parquet",
        "columns": [{"name": name, "unit": ""} for name in columns],
    }


def ordered(folder, entries, sensor=SENSOR, span=SPAN, model=None):
    (folder / "index.json").write_text(json.dumps({"tables": entries}))
    source = locate(read_index(folder), "speed", sensor)
    track = order_track(folder, sensor, source, model or clock(), span, folder / "track")
    return track, list(track.rows())


def test_rows_come_in_order_of_time_with_their_native_stamps_whatever_order_they_were_written_in(tmp_path):
    late = {"t_ns": ([400, 300, 300], pa.int64()), "v": ([4.0, 3.0, 3.5], pa.float64())}
    early = {"t_ns": ([100, 200], pa.int64()), "v": ([1, 2], pa.int32())}
    track, rows = ordered(tmp_path, [write(tmp_path, "a.mcap", late), write(tmp_path, "b.mcap", early)])
    assert [row["native_ns"] for row in rows] == [100, 200, 300, 300, 400]
    assert [row["aligned_ns"] - row["native_ns"] for row in rows] == [SHIFT_NS] * 5
    assert [row["value"] for row in rows] == [1, 2, 3, 3.5, 4]
    assert (track.samples, track.outside, track.without_stamp, track.invalid) == (5, 0, 0, 0)


def test_every_row_is_shown_or_counted(tmp_path):
    columns = {
        "t_ns": ([1, None, 3, 4, 5, 6], pa.int64()),
        "v": ([1.0, 2.0, None, np.nan, np.inf, 6.0], pa.float64()),
    }
    track, rows = ordered(tmp_path, [write(tmp_path, "a.mcap", columns)], span=Span(0, SHIFT_NS + 6))
    assert [row["native_ns"] for row in rows] == [1]
    assert (track.samples, track.outside, track.without_stamp, track.invalid) == (1, 1, 1, 3)


def test_a_clock_that_starts_again_is_mapped_in_the_order_in_which_stamps_were_written(tmp_path):
    columns = {"t_ns": ([10, 20, 30, 10, 20, 30], pa.int64()), "v": ([0.0, 1, 2, 3, 4, 5], pa.float64())}
    model = ClockModel(
        method="declared",
        segments=(
            Segment(method="declared", first_ns=10, last_ns=30, offset_ns=1_000),
            Segment(method="declared", first_ns=10, last_ns=30, offset_ns=2_000),
        ),
    )
    native_ns = np.array([10, 20, 30, 10, 20, 30], dtype=np.int64)
    _, rows = ordered(tmp_path, [write(tmp_path, "a.mcap", columns)], model=model)
    assert sorted((row["aligned_ns"], row["native_ns"]) for row in rows) == sorted(
        zip(model.to_reference(native_ns).tolist(), native_ns.tolist(), strict=True)
    )


def test_payloads_keep_their_pointers_their_log_and_what_describes_them(tmp_path):
    sensor = Sensor(log="*.mcap", channel="/speed", kind="payload", stamp="sensor")
    fields = [[{"name": "x", "offset": 0}], [{"name": "y", "offset": 4}]]
    columns = {
        "t_ns": ([1, 2], pa.int64()),
        "sensor_ns": ([7, 0], pa.int64()),
        **{name: ([at, at], pa.int64()) for at, name in enumerate(POINTERS)},
        "frame_id": (["lidar"] * 2, pa.string()),
        "fields": (fields, pa.list_(pa.struct([("name", pa.string()), ("offset", pa.uint32())]))),
        "other": ([1, 2], pa.int64()),
    }
    track, rows = ordered(tmp_path, [write(tmp_path, "a.mcap", columns)], sensor)
    assert rows == [
        {
            "aligned_ns": 7 + SHIFT_NS,
            "native_ns": 7,
            **{name: at for at, name in enumerate(POINTERS)},
            "frame_id": "lidar",
            "fields": fields[0],
            "log": "a.mcap",
        }
    ]
    assert track.without_stamp == 1  # ROS leaves a header at zero where nobody set it


def test_a_sensor_without_a_sample_is_an_empty_track(tmp_path):
    columns = {"t_ns": ([], pa.int64()), "v": ([], pa.float64())}
    track, rows = ordered(tmp_path, [write(tmp_path, "a.mcap", columns)])
    assert (track.samples, rows) == (0, [])


@pytest.mark.parametrize("columns", [{"t_ns": ([1], pa.int64()), "v": (["fast"], pa.string())}, {"v": ([1.0], pa.float64())}])
def test_a_table_that_is_not_what_is_declared_is_refused(tmp_path, columns):
    with pytest.raises(InputError):
        ordered(tmp_path, [write(tmp_path, "a.mcap", columns)])
