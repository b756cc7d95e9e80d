"""Ego motion out of frames."""

import math
from itertools import pairwise

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drivelake.rig import Poses
from drivelake.viewer import ego
from drivelake.viewer.scene import EgoPose, Fix
from drivelake.viewer.tracks import Span

SPAN = Span(0, 1 << 60)
DECLARED = Poses(latitude="lat", longitude="lon", speed="v", yaw_rate="w")


def frames(path, count, **columns):
    table = {"t_ns": pa.array(range(count), pa.int64())}
    pq.write_table(pa.table(table | {name: pa.array(values, pa.float64()) for name, values in columns.items()}), path)
    return path


def poses(path, count, **more):
    return frames(path, count, ego_x_m=range(count), ego_y_m=[2.0] * count, ego_yaw_rad=[0.5] * count, **more)


def test_ticks_without_a_pose_or_outside_of_the_span_are_left_out(tmp_path):
    path = frames(
        tmp_path / "f", 5, ego_x_m=[0, None, 2, math.nan, 4], ego_y_m=[1.0] * 5, ego_yaw_rad=[0.5] * 5, ego_z_m=[7.0] * 5
    )
    found = ego.open_ego(path, None, Span(1, 5))
    assert list(found.poses()) == [(2, EgoPose(2, 1, 7, 0.5)), (4, EgoPose(4, 1, 7, 0.5))]
    assert found.notes == ()


def test_frames_without_ego_motion_say_what_to_declare(tmp_path):
    found = ego.open_ego(frames(tmp_path / "f", 3), None, SPAN)
    assert (list(found.poses()), list(found.fixes()), found.path()) == ([], [], None)
    (note,) = found.notes
    assert "No trajectory is shown" in note
    assert "Declare poses" in note


def test_positions_are_those_of_the_declared_receiver(tmp_path):
    path = poses(tmp_path / "f", 3, lat=[48.0, None, 48.2], lon=[11.0, 11.1, 11.2])
    assert list(ego.open_ego(path, DECLARED, SPAN).fixes()) == [(0, Fix(48.0, 11.0)), (2, Fix(48.2, 11.2))]
    assert list(ego.open_ego(path, None, SPAN).fixes()) == []


@pytest.mark.parametrize("count", [1, 2, ego.PATH_POSES - 1, ego.PATH_POSES, ego.PATH_POSES + 1, 5 * ego.PATH_POSES + 3])
def test_the_path_is_thinned_out_and_keeps_both_ends(tmp_path, count):
    start_ns, line = ego.open_ego(poses(tmp_path / "f", count), None, SPAN).path()
    assert start_ns == 0
    assert (line[0].x_m, line[-1].x_m) == (0, count - 1)
    assert len(line) <= ego.PATH_POSES
    steps = [b.x_m - a.x_m for a, b in pairwise(line)]
    assert steps == sorted(steps, reverse=True)
    assert len(set(steps[:-1])) <= 1
