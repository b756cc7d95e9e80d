"""A lake with the frames of one drive, whose rig declares an odometry, a satellite receiver, poses and a calibration."""

import shutil

import pytest
import yaml

from drivelake.evidence.notary import LakeNotary, establish_trust
from drivelake.frames.calibration import CALIBRATIONS
from drivelake.frames.stage import SENSOR_FRAMES
from drivelake.lake import Lake
from drivelake.logs.stages import RAW_LOGS, SIGNALS
from drivelake.stage import materialise
from tests.support import small_declaration

DRIVE = "signals_01"
ODOMETRY = {"log": "camera.mcap", "channel": "/odometry", "stamp": "sensor", "tolerance_ms": 50}
RECEIVER = {"log": "camera.mcap", "channel": "/gnss/fix", "stamp": "sensor", "tolerance_ms": 150, "unit": "deg"}
POSE_SENSORS = {
    "odometry_x_m": {**ODOMETRY, "field": "pose.pose.position.x", "unit": "m"},
    "odometry_y_m": {**ODOMETRY, "field": "pose.pose.position.y", "unit": "m"},
    "odometry_attitude": {
        **ODOMETRY,
        "kind": "attitude",
        "fields": [f"pose.pose.orientation.{axis}" for axis in "xyzw"],
    },
    "latitude_deg": {**RECEIVER, "field": "latitude"},
    "longitude_deg": {**RECEIVER, "field": "longitude"},
}
POSES = {
    "odometry_position": ["odometry_x_m", "odometry_y_m"],
    "odometry_attitude": "odometry_attitude",
    "latitude": "latitude_deg",
    "longitude": "longitude_deg",
}
CALIBRATION = """
frames:
  camera: {parent: mast, translation_m: [0.1, 0, 0], rotation_xyzw: [-0.5, 0.5, -0.5, 0.5], source: drawing, date: 2026-03-14}
  mast: {parent: vehicle, translation_m: [1.5, 0, 1.4], source: drawing, date: 2026-03-14}
  vehicle: {}
"""


def make_lake(root, generated, change):
    """A lake in which one drive is made as far as its frames, after ``change(rig)``."""
    declared = yaml.safe_load(small_declaration())
    change(declared["rigs"]["signals_rig"])
    lake = Lake.create(root, yaml.safe_dump(declared, sort_keys=False))
    establish_trust(lake)
    shutil.copytree(generated / "inbox" / DRIVE, lake.inbox / DRIVE)
    (lake.root / "calibration.yaml").write_text(CALIBRATION)
    if lake.declaration.rigs["signals_rig"].calibration:
        materialise(CALIBRATIONS, lake, "signals_rig", LakeNotary(lake))
    for stage in (RAW_LOGS, SIGNALS, SENSOR_FRAMES):
        materialise(stage, lake, DRIVE, LakeNotary(lake))
    return lake


@pytest.fixture(scope="session")
def posed(generated, tmp_path_factory):
    """Read only."""

    def change(rig):
        rig["sensors"] |= POSE_SENSORS
        rig["poses"] = POSES
        rig["calibration"] = "calibration.yaml"
        rig["sensors"]["camera_front"] = rig["sensors"]["camera_front"] | {"frame": "camera"}

    return make_lake(tmp_path_factory.mktemp("posed") / "lake", generated, change)


@pytest.fixture(scope="session")
def unposed(generated, tmp_path_factory):
    """The rig as it is shipped, and a sensor that this drive has not. Read only."""

    def change(rig):
        rig["sensors"]["lidar"] = {"log": "lidar.mcap", "channel": "/points", "kind": "payload", "required": False}
        rig.pop("poses", None)

    return make_lake(tmp_path_factory.mktemp("unposed") / "lake", generated, change)
