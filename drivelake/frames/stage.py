"""The stage sensor_frames. Belongs here: which signals and which rig go in. Never here: clocks and matching."""

from __future__ import annotations

from pathlib import Path

from drivelake.frames import synchronise
from drivelake.lake import Lake
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
        return Recipe(parameters={"rig": name, **declared(rig)}, inputs=(signals,))

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


SENSOR_FRAMES = SensorFrames()
