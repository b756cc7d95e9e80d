"""A tiny dataset, a checkpoint that knows something about it, and both targets compiled once for all tests of this room."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import JsonValue

from compile.targets import compile_target
from drivelake.declaration import Model, Target

TARGETS = ("speed_mps", "curvature_1pm")
MODEL = Model(dataset="tiny", targets=TARGETS, input_width=64, input_height=48, channels=8)
ROWS = {"drive_a": ("train", 64), "drive_b": ("validation", 40), "drive_c": ("test", 4)}
SMALL = {"calibration_rows": 32, "parity_rows": 24}


@dataclass(frozen=True)
class Artefact:
    target: Target
    folder: Path
    measured: dict[str, JsonValue]
    heard: list[str]


def picture(speed_mps, curvature_1pm, noise):
    """96 x 72: a bar whose place says the curvature, on a ground whose brightness says the speed."""
    image = np.full((72, 96, 3), 40 + 5 * speed_mps) + noise.normal(0, 4, (72, 96, 3))
    middle = int(48 + curvature_1pm * 2000)
    image[:, middle - 5 : middle + 5] = (250, 240, 20)
    return image.clip(0, 255).astype(np.uint8)


@pytest.fixture(scope="session")
def dataset(tmp_path_factory):
    import simplejpeg

    folder = tmp_path_factory.mktemp("dataset")
    (folder / "shards").mkdir()
    noise, offset, rows = np.random.default_rng(0), 0, []
    with (folder / "shards" / "00000.bin").open("wb") as shard:
        for drive, (split, count) in ROWS.items():
            for frame in range(count):
                speed, curvature = 20 + 4 * noise.standard_normal(), noise.uniform(-0.02, 0.02)
                jpeg = simplejpeg.encode_jpeg(picture(speed, curvature, noise), quality=90)
                place = {"shard": "shards/00000.bin", "offset": offset, "bytes": len(jpeg)}
                truth = {"speed_mps": speed, "curvature_1pm": curvature}
                rows.append({"drive": drive, "frame": frame, "t_ns": frame * 50_000_000, "split": split, **truth, **place})
                offset += shard.write(jpeg)
    table = pa.Table.from_pylist(rows)
    speed = table.schema.get_field_index("speed_mps")
    schema = table.schema.set(speed, table.schema.field(speed).with_metadata({"unit": "m/s"}))
    pq.write_table(table.cast(schema), folder / "rows.parquet")
    return folder


@pytest.fixture(scope="session")
def network(dataset):
    """Random seeded features under a last layer from ridge regression."""
    import torch

    from drivelake.learning.data import load_split
    from drivelake.learning.model import as_input, build_model, reproducible

    train = load_split(dataset, MODEL, "train")
    mean, std = train.targets.mean(axis=0), train.targets.std(axis=0)
    with reproducible(7), torch.no_grad():
        network = build_model(MODEL, target_mean=mean.tolist(), target_std=std.tolist()).eval()
        flat = network.features(as_input(train.images) - 0.5).flatten(1)
        middle = flat.mean(dim=0)
        gram = (flat - middle).T @ (flat - middle)
        wanted = torch.from_numpy((train.targets - mean) / std)
        weight = torch.linalg.solve(gram + 0.03 * gram.diagonal().mean() * torch.eye(len(gram)), (flat - middle).T @ wanted)
        network.head[-1].weight.copy_(weight.T)
        network.head[-1].bias.copy_(-middle @ weight)
    return network


@pytest.fixture(scope="session")
def checkpoint(network, tmp_path_factory):
    from drivelake.learning.model import save_checkpoint

    folder = tmp_path_factory.mktemp("checkpoint")
    save_checkpoint(network, MODEL, folder)
    return folder


@pytest.fixture(scope="session")
def calibration(dataset):
    from compile.reference import Pictures
    from drivelake.learning.data import load_split

    return Pictures(load_split(dataset, MODEL, "train", rows_max=SMALL["calibration_rows"]).images)


@pytest.fixture(scope="session")
def float_onnx(network):
    from compile.export import export_onnx

    return export_onnx(network, MODEL)


def compiled(target, name, checkpoint, dataset, folder):
    heard = []
    return Artefact(target, folder, compile_target(name, target, checkpoint, dataset, folder, progress=heard.append), heard)


@pytest.fixture(scope="session")
def portable(checkpoint, dataset, tmp_path_factory):
    return compiled(Target(kind="portable", **SMALL), "laptop", checkpoint, dataset, tmp_path_factory.mktemp("portable"))


@pytest.fixture(scope="session")
def qnn():
    if importlib.util.find_spec("onnxruntime_qnn") is None:
        pytest.skip("onnxruntime-qnn is not installed: make snapdragon")


@pytest.fixture(scope="session")
def snapdragon(qnn, checkpoint, dataset, tmp_path_factory):
    return compiled(Target(kind="snapdragon", **SMALL), "sa8255", checkpoint, dataset, tmp_path_factory.mktemp("snapdragon"))
