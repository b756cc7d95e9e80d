"""A dataset holds the selected rows with the very pictures they point at, and a card that adds up."""

import json

import duckdb
import pyarrow.parquet as pq
import pytest

from drivelake.datasets.curate import curate
from drivelake.datasets.select import DriveFrames
from drivelake.datasets.stage import CURATED_DATASETS
from drivelake.errors import DatasetError, NotFound
from drivelake.logs import PayloadReader
from drivelake.manifest import hash_folder


@pytest.fixture
def dataset(chain):
    return chain.head("curated_datasets", "lane_keeping")


def test_every_row_holds_the_picture_that_its_frame_points_at(chain, dataset):
    rows = pq.read_table(dataset.path("rows.parquet")).to_pylist()
    for drive in ("signals_01", "bus_02"):
        frames = {r["frame"]: r for r in pq.read_table(chain.head("sensor_frames", drive).path("frames.parquet")).to_pylist()}
        with PayloadReader(chain.head("raw_logs", drive).path("logs/camera.mcap")) as reader:
            for row in [r for r in rows if r["drive"] == drive][::20]:
                frame = frames[row["frame"]]
                raw = reader.read(frame["camera_front_chunk"], frame["camera_front_offset"], frame["camera_front_bytes"])
                with dataset.path(row["shard"]).open("rb") as shard:
                    shard.seek(row["offset"])
                    assert shard.read(row["bytes"]) == raw
                assert row["steering_rad"] == frame["steering_rad"]


def test_the_card_adds_up(dataset):
    card = json.loads(dataset.path("card.json").read_bytes())
    counted = duckdb.sql(f"SELECT split, count(*) FROM read_parquet('{dataset.path('rows.parquet')}') GROUP BY ALL").fetchall()
    assert dict(counted) == card["splits"]
    assert sum(d["rows"] for d in card["drives"].values()) == card["rows"] == sum(card["splits"].values())
    for values in card["slices"].values():
        for split, rows in card["splits"].items():
            assert sum(n[split] for n in values.values()) == rows
    assert card["leakage"]["shared"] == {"raw_logs": [], "pictures": [], "times": []}


def test_a_drive_without_pictures_is_left_out_with_the_reason(dataset):
    card = json.loads(dataset.path("card.json").read_bytes())
    assert list(card["left_out"]) == ["signals_04"]
    assert "quarantined" in card["left_out"]["signals_04"]


def test_columns_carry_their_unit(dataset):
    field = pq.read_schema(dataset.path("rows.parquet")).field("steering_rad")
    assert field.metadata[b"unit"] == b"rad"


def test_the_same_selection_gives_the_same_bytes(chain, tmp_path):
    made = []
    for name in ("one", "two"):
        out = tmp_path / name
        out.mkdir()
        recipe = CURATED_DATASETS.recipe(chain, "lane_keeping")
        CURATED_DATASETS.make(chain, "lane_keeping", recipe, out, lambda _: None)
        made.append(hash_folder(out))
    assert made[0] == made[1] == chain.head("curated_datasets", "lane_keeping").manifest.files


def test_two_copies_of_a_drive_in_two_splits_are_refused(chain, tmp_path):
    recipe = CURATED_DATASETS.recipe(chain, "lane_keeping")
    declared = chain.declaration.datasets["lane_keeping"]
    from drivelake.datasets import stage

    raws = {v.manifest.partition: v for v in recipe.inputs if v.manifest.asset == "raw_logs"}
    frames = {v.manifest.partition: v for v in recipe.inputs if v.manifest.asset == "sensor_frames"}
    sources = []
    for number, drive in enumerate(["signals_01", "bus_02", "signals_03"]):
        view = tmp_path / str(number)
        view.mkdir()
        sources.append(stage._source(chain, drive, frames[drive], raws[drive], view))
    copy = sources[0]
    renamed = DriveFrames("copy_3", copy.frames.frames, "another car", copy.frames.tags)
    sources.append(type(copy)(renamed, copy.logs, copy.raw_sha256))
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    scratch.mkdir()
    with pytest.raises(DatasetError, match=r"signals_01 \(train\) and copy_3 \(test\) hold the same"):
        curate(declared, sources, {}, out, scratch, lambda _: None)


def test_too_few_rows_are_counted(chain, tmp_path):
    declared = chain.declaration.datasets["lane_keeping"].model_copy(update={"rows_min": 10_000})
    lake = chain
    recipe = CURATED_DATASETS.recipe(lake, "lane_keeping")
    from drivelake.datasets import stage

    sources = []
    for version in recipe.inputs:
        if version.manifest.asset == "raw_logs" and version.manifest.partition != "signals_04":
            view = tmp_path / version.manifest.partition
            view.mkdir()
            frames = next(v for v in recipe.inputs if v.name == f"sensor_frames/{version.manifest.partition}")
            sources.append(stage._source(chain, version.manifest.partition, frames, version, view))
    out, scratch = tmp_path / "out", tmp_path / "scratch"
    out.mkdir()
    scratch.mkdir()
    with pytest.raises(DatasetError, match=r"train has \d+.*expected at least 10000"):
        curate(declared, sources, {}, out, scratch, lambda _: None)


def test_an_undeclared_dataset_says_where_to_add_it(chain):
    with pytest.raises(NotFound, match="add it under datasets"):
        CURATED_DATASETS.recipe(chain, "nothing")
