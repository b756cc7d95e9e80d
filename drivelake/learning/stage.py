"""The stage checkpoints. Belongs here: which dataset and which model go in. Never here: training."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pyarrow.parquet as pq
import rfc8785
from pydantic import JsonValue

from drivelake.errors import NotFound
from drivelake.lake import Lake, Version
from drivelake.learning import learn
from drivelake.learning.plots import learning_curve_svg, scatter_svg
from drivelake.manifest import tool_versions
from drivelake.stage import Made, Progress, Recipe, Stage, declared, planned

__all__ = ["CHECKPOINTS", "Checkpoints"]


class Checkpoints(Stage):
    """A trained network with its metrics beside two baselines."""

    asset = "checkpoints"
    code_version = "1"
    tools = ("torch", "optuna", "numpy", "simplejpeg", "pillow")

    def recipe(self, lake: Lake, partition: str) -> Recipe:
        """The declared model and the dataset it names."""
        model = lake.declaration.models.get(partition)
        if model is None:
            raise NotFound(f"No model {partition!r} is declared.", next_step="add it under models in lakehouse.yaml")
        dataset = lake.head("curated_datasets", model.dataset)
        return Recipe(parameters=declared(model), inputs=(dataset,))

    def make(self, lake: Lake, partition: str, recipe: Recipe, out: Path, progress: Progress) -> Made:
        """Search, train, evaluate. The study outlives a killed run: its key is what it was asked to search."""
        dataset = recipe.input("curated_datasets")
        asked = {"recipe": planned(self, partition, recipe).recipe, **tool_versions(self.tools)}
        key = hashlib.sha256(rfc8785.dumps(asked)).hexdigest()[:16]
        with lake.scratch(f"learn-{partition}") as scratch:
            metrics = learn(
                dataset.view(scratch),
                lake.declaration.models[partition],
                out,
                study_path=lake.root / "studies.sqlite",
                study_key=f"{partition}-{key}",
                progress=progress,
            )
        _draw(out, dataset)
        facts: dict[str, JsonValue] = {split: metrics[split] for split in ("validation", "test")}
        return Made(facts=facts)


def _draw(out: Path, dataset: Version) -> None:
    """The figures of a checkpoint, from the files that were just written; units come from the dataset's columns."""
    schema = pq.read_schema(dataset.path("rows.parquet"))
    curve = json.loads((out / "curve.json").read_bytes())
    (out / "learning_curve.svg").write_text(learning_curve_svg(curve), encoding="utf-8")
    predictions = pq.read_table(out / "predictions.parquet", filters=[("split", "==", "test")])
    for column in (n for n in predictions.column_names if n.endswith("_predicted")):
        name = column.removesuffix("_predicted")
        truth, predicted = (predictions[side].to_numpy().tolist() for side in (name, column))
        unit = (schema.field(name).metadata or {}).get(b"unit", b"").decode()
        figure = scatter_svg(truth, predicted, name=name, unit=unit)
        (out / f"{column}.svg").write_text(figure, encoding="utf-8")


CHECKPOINTS = Checkpoints()
