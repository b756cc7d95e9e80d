"""A dataset may ask for the motion still to come: the columns of the ego motion are values like any other."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from drivelake.datasets.select import DriveFrames, selection
from drivelake.datasets.stage import CURATED_DATASETS
from drivelake.declaration import Dataset
from drivelake.evidence.notary import LakeNotary
from drivelake.frames.poses import Track, ego_batch, ego_motion
from drivelake.frames.stage import SENSOR_FRAMES
from drivelake.lake import Lake
from drivelake.rig import Poses
from drivelake.stage import materialise

POSES = {"speed": "speed_mps", "yaw_rate": "yaw_rate_radps", "horizons_s": [0.5, 1.0]}


def frames(folder):
    """Frames of a drive straight ahead at 5 m/s for 10 s, 20 a second."""
    t_ns = 1_700_000_000_000_000_000 + np.arange(0, 10_000_000_000, 20_000_000)
    tracks = {"speed_mps": Track(t_ns, np.full(t_ns.size, 5.0)), "yaw_rate_radps": Track(t_ns, np.zeros(t_ns.size))}
    declared = Poses.model_validate(POSES)
    ticks = t_ns[::2]
    ego = ego_batch(ego_motion(tracks, declared), ticks, declared)
    keys = {"frame": pa.array(np.arange(ticks.size)), "t_ns": pa.array(ticks)}
    table = pa.table({**keys, **{name: ego.column(name) for name in ego.schema.names}})
    pq.write_table(table, folder / "frames.parquet")
    return folder / "frames.parquet"


def test_a_selection_takes_future_trajectories_and_leaves_out_where_the_drive_ends_before(tmp_path):
    sql = "SELECT drive, frame, t_ns, ego_x_m_1s, ego_y_m_1s, ego_x_m_0_5s FROM frames WHERE ego_x_m_1s IS NOT NULL"
    drive = DriveFrames("d1", frames(tmp_path))
    with selection(Dataset(sql=sql, payload="camera"), [drive], tmp_path, batch_rows=100) as reader:
        rows = reader.read_all()
    assert rows.num_rows == 250 - 25  # a second of 25 ticks has no second after it
    assert np.allclose(rows.column("ego_x_m_1s"), 5.0)
    assert np.allclose(rows.column("ego_x_m_0_5s"), 2.5)
    assert np.allclose(rows.column("ego_y_m_1s"), 0.0)


def test_rigs_with_poses_give_a_dataset_its_future_trajectories(chain_copy):
    """Through frames and curation: the columns come out as values, and a model may name them as targets."""
    file = chain_copy.root / "lakehouse.yaml"
    declared = json.loads(json.dumps(yaml.safe_load(file.read_text())))
    for rig in declared["rigs"].values():
        rig["poses"] = {"speed": "speed_mps", "yaw_rate": "yaw_rate_radps", "horizons_s": [0.5]}
    dataset = declared["datasets"]["lane_keeping"]
    dataset["sql"] = "SELECT * FROM frames WHERE ego_x_m_0_5s IS NOT NULL"
    declared["models"]["steering"]["targets"] = ["ego_x_m_0_5s", "ego_y_m_0_5s"]
    file.write_text(yaml.safe_dump(declared, sort_keys=False))
    lake = Lake(chain_copy.root)
    for drive in lake.partitions("sensor_frames"):
        materialise(SENSOR_FRAMES, lake, drive, LakeNotary(lake))
    rows = pq.read_table(materialise(CURATED_DATASETS, lake, "lane_keeping", LakeNotary(lake)).version.path("rows.parquet"))
    assert {"ego_x_m_0_5s", "ego_y_m_0_5s", "ego_yaw_rad_0_5s", "ego_sigma_m"} <= set(rows.schema.names)
    assert rows.num_rows > 100
    assert rows.column("ego_x_m_0_5s").null_count == 0
    ahead, speed = (np.asarray(rows.column(name)) for name in ("ego_x_m_0_5s", "ego_speed_mps"))
    assert np.abs(ahead / speed - 0.5).max() < 0.15
