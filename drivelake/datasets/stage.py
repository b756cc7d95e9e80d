"""The stage curated_datasets. Belongs here: which drives go in and what is known of them. Never here: the pass over rows."""

from __future__ import annotations

from pathlib import Path

from drivelake.datasets.curate import SourceDrive, curate
from drivelake.datasets.select import DriveFrames
from drivelake.errors import NotFound
from drivelake.lake import Lake, Version
from drivelake.logs import is_log
from drivelake.logs.stages import log_paths
from drivelake.manifest import Manifest
from drivelake.stage import Made, Progress, Recipe, Stage, declared

__all__ = ["CURATED_DATASETS", "CuratedDatasets", "raw_of"]


class CuratedDatasets(Stage):
    """A declared selection over the frames of all drives, with the pictures packed."""

    asset = "curated_datasets"
    code_version = "1"
    tools = ("duckdb", "pyarrow")

    def recipe(self, lake: Lake, partition: str) -> Recipe:
        """Frames of every drive that a declared rig names and nobody withdrew, and the raw logs with their pictures and tags."""
        dataset = lake.declaration.datasets.get(partition)
        if dataset is None:
            raise NotFound(f"No dataset {partition!r} is declared.", next_step="add it under datasets in lakehouse.yaml")
        frames = [
            v
            for v in lake.heads("sensor_frames")
            if lake.declaration.names_drive(v.manifest.partition)
            and lake.withdrawals.of(v.manifest.asset, v.manifest.partition, v.digest) is None
        ]
        if not frames:
            raise NotFound("No drive that a declared rig names has frames yet.", next_step="ingest drives first")
        raw = tuple(raw_of(lake, version.manifest) for version in frames)
        return Recipe(parameters=declared(dataset), inputs=(*frames, *raw))

    def make(self, lake: Lake, partition: str, recipe: Recipe, out: Path, progress: Progress) -> Made:
        """Select, pack, check for leaks."""
        frames = {v.manifest.partition: v for v in recipe.inputs if v.manifest.asset == "sensor_frames"}
        raws = {v.manifest.partition: v for v in recipe.inputs if v.manifest.asset == "raw_logs"}
        excluded = {drive: str(v.manifest.facts["excluded"]) for drive, v in frames.items() if v.manifest.facts["excluded"]}
        with lake.scratch(f"curate-{partition}") as scratch:
            sources = []
            for drive in sorted(set(frames) - set(excluded)):
                view = scratch / "raw" / drive
                view.mkdir(parents=True)
                sources.append(_source(lake, drive, frames[drive], raws[drive], view))
            card = curate(lake.declaration.datasets[partition], sources, excluded, out, scratch, progress)
        return Made(facts={key: card[key] for key in ("rows", "splits", "left_out")})


def raw_of(lake: Lake, frames: Manifest) -> Version:
    """The raw logs that a drive's frames were made from, whatever stands at main by now."""
    signals = lake.version(frames.input("signals"))
    return lake.version(signals.manifest.input("raw_logs"))


def _source(lake: Lake, drive: str, frames: Version, raw: Version, view: Path) -> SourceDrive:
    facts = raw.manifest.facts
    tags = facts["tags"]
    assert isinstance(tags, dict), "raw_logs publishes tags as a mapping"
    logs = {name: path for name, path in log_paths(lake, raw, view).items() if is_log(path)}
    return SourceDrive(
        frames=DriveFrames(drive, frames.path("frames.parquet"), str(facts["vehicle"]), {k: str(v) for k, v in tags.items()}),
        logs=logs,
        raw_sha256=frozenset(e.sha256 for e in (*raw.manifest.files, *raw.manifest.references) if is_log(Path(e.path))),
    )


CURATED_DATASETS = CuratedDatasets()
