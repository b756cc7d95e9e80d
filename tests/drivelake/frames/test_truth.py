"""Generated drives know their clocks: the estimate finds them, and the frames hold the steering that was true at each picture."""

import json

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from drivelake.demo import generate_drives
from drivelake.evidence.notary import LakeNotary, establish_trust
from drivelake.frames.clocks import Segment
from drivelake.frames.report import SyncReport
from drivelake.frames.stage import SENSOR_FRAMES
from drivelake.lake import Lake
from drivelake.logs.stages import RAW_LOGS, SIGNALS
from drivelake.stage import materialise
from tests.support import small_declaration


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """One drive with decoded signals and one with CAN frames, half a minute each, up to their frames."""
    root = tmp_path_factory.mktemp("truth")
    lake = Lake.create(root / "lake", small_declaration())
    establish_trust(lake)
    drives = [d.name for d in generate_drives(lake.inbox, seed=11, drives=2, seconds=30.0, truth_folder=root / "truth")]
    for drive in drives:
        for stage in (RAW_LOGS, SIGNALS, SENSOR_FRAMES):
            materialise(stage, lake, drive, LakeNotary(lake))
    return lake, root / "truth", drives


@pytest.mark.parametrize("number", [0, 1])
def test_the_offset_of_the_other_recorder_is_found_within_5_ms(world, number):
    lake, truth, drives = world
    report = SyncReport.model_validate_json(lake.head("sensor_frames", drives[number]).path("sync.json").read_bytes())
    found, true = report.clocks["can"], json.loads((truth / f"{drives[number]}.json").read_text())["clock"]
    assert found.method == "estimated"
    law = Segment(method="declared", offset_ns=true["offset_ns"], drift_ppm=true["drift_ppm"], epoch_ns=true["native_zero_ns"])
    assert abs(true["offset_ns"]) > 20e6, "an offset worth finding"
    (segment,) = found.segments
    native_ns = np.linspace(0, segment.last_ns - segment.first_ns, 100).astype(np.int64) + segment.first_ns
    assert np.abs(found.to_reference(native_ns) - law.shift(native_ns)).max() < 5e6


@pytest.mark.parametrize("number", [0, 1])
def test_frames_hold_the_steering_that_was_true_at_the_picture(world, number):
    lake, truth, drives = world
    frames = pq.read_table(lake.head("sensor_frames", drives[number]).path("frames.parquet"))
    frames = frames.filter(pc.is_valid(frames["steering_rad"]))
    trajectory = pq.read_table(truth / f"{drives[number]}.parquet")
    true = np.interp(frames["t_ns"].to_numpy(), trajectory["t_ns"].to_numpy(), trajectory["steering_rad"].to_numpy())
    assert frames.num_rows > 500
    assert np.abs(frames["steering_rad"].to_numpy() - true).max() < 0.01
