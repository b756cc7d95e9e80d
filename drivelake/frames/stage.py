"""The stage sensor_frames. Belongs here: which signals and which rig go in. Never here: clocks and matching."""

from __future__ import annotations

from pathlib import Path

from drivelake.catalogue import Catalogue
from drivelake.frames import synchronise
from drivelake.lake import Lake, Version
from drivelake.stage import Made, Progress, Recipe, Stage, declared

__all__ = ["SENSOR_FRAMES", "SensorFrames"]


class SensorFrames(Stage):
    """One row a reference tick; a drive that cannot give frames is published empty, with the reason."""

    asset = "sensor_frames"
    code_version = "1"
    tools = ("pyarrow", "numpy")

    def recipe(self, lake: Lake, partition: str) -> Recipe:
        """The drive's signals and its rig."""
        name, rig = lake.declaration.rig_of(partition)
        signals = lake.head("signals", partition)
        return Recipe(parameters={"rig": name, **declared(rig.model_copy(update={"drives": "*"}))}, inputs=(signals,))

    def make(self, lake: Lake, partition: str, recipe: Recipe, out: Path, progress: Progress) -> Made:
        """Synchronise onto the declared reference."""
        _, rig = lake.declaration.rig_of(partition)
        with lake.scratch(f"view-{partition}") as scratch:
            report = synchronise(recipe.input("signals").view(scratch), rig, out)
        facts = report.as_dict()
        if facts.get("excluded"):
            progress(f"no frames: {facts['excluded']}")
        else:
            progress(f"{facts['frames']} frames")
        return Made(facts={"frames": facts["frames"], "excluded": facts.get("excluded")})

    def published(self, lake: Lake, version: Version, made: Made) -> None:  # noqa: ARG002 - every stage
        """Remember which landed version these frames descend from: only then the drive is done."""
        signals = lake.version(version.manifest.inputs[0])
        catalogue = Catalogue(lake.root / "catalogue.sqlite")
        catalogue.frame(version.manifest.partition, signals.manifest.inputs[0].version)


SENSOR_FRAMES = SensorFrames()
