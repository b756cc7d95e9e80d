"""The stage sensor_frames. Belongs here: which signals, rig, offsets and calibration go in. Never here: clocks and matching."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import cast

from drivelake.catalogue import Catalogue
from drivelake.frames import synchronise
from drivelake.frames.calibration import beside_declaration
from drivelake.frames.flow import payload_pictures
from drivelake.frames.offsets import OffsetRow, rows_of
from drivelake.frames.sources import locate, read_index
from drivelake.lake import Lake, Version
from drivelake.logs.stages import log_paths
from drivelake.rig import Rig
from drivelake.stage import Made, Progress, Recipe, Stage, declared

__all__ = ["SENSOR_FRAMES", "SensorFrames"]


class SensorFrames(Stage):
    """One row a reference tick; a drive that cannot give frames is published empty, with the reason."""

    asset = "sensor_frames"
    code_version = "2"
    tools = ("pyarrow", "numpy")

    def recipe(self, lake: Lake, partition: str) -> Recipe:
        """The drive's signals, its rig, the drive's rows of declared offsets, and the rig's calibration where it has one."""
        name, rig = lake.declaration.rig_of(partition)
        inputs = [lake.head("signals", partition)]
        if rig.calibration is not None:
            inputs.append(lake.head("calibrations", name))
        parameters = {"rig": name, **declared(rig.model_copy(update={"drives": "*"}))}
        offsets = _offsets(lake, rig, partition)
        if offsets:
            parameters["offsets"] = {clock: [_cells(row) for row in rows] for clock, rows in offsets.items()}
        return Recipe(parameters=parameters, inputs=tuple(inputs))

    def make(self, lake: Lake, partition: str, recipe: Recipe, out: Path, progress: Progress) -> Made:
        """Synchronise onto the declared reference."""
        _, rig = lake.declaration.rig_of(partition)
        signals = recipe.input("signals")
        with lake.scratch(f"view-{partition}") as scratch, ExitStack() as held:
            view = signals.view(scratch / "signals")

            def pictures(sensor: str) -> Iterator[tuple[int, bytes]]:
                raw = lake.version(signals.manifest.input("raw_logs"))
                logs = log_paths(lake, raw, held.enter_context(lake.scratch(f"pictures-{partition}")))
                found = {sensor: locate(read_index(view), sensor, rig.sensors[sensor])}
                return payload_pictures(view, rig, found, logs, sensor)

            report = synchronise(view, rig, out, offsets=_given(recipe), pictures=pictures)
        facts = report.as_dict()
        if facts.get("excluded"):
            progress(f"no frames: {facts['excluded']}")
        else:
            progress(f"{facts['frames']} frames")
        poses = ("filterpy",) if rig.poses is not None and rig.poses.latitude is not None else ()
        return Made(facts={"frames": facts["frames"], "excluded": facts.get("excluded")}, tools=poses)

    def published(self, lake: Lake, version: Version, made: Made) -> None:  # noqa: ARG002 - every stage
        """Remember which landed version these frames descend from: only then the drive is done."""
        signals = lake.version(version.manifest.input("signals"))
        catalogue = Catalogue(lake.root / "catalogue.sqlite")
        catalogue.frame(version.manifest.partition, signals.manifest.input("raw_logs").version)


def _offsets(lake: Lake, rig: Rig, drive: str) -> dict[str, tuple[OffsetRow, ...]]:
    """The drive's rows of every table that a clock names; a clock whose table has none is left to its alignment."""
    tables = {
        name: rows_of(beside_declaration(lake, clock.offsets), drive)
        for name, clock in rig.clocks.items()
        if clock.offsets is not None
    }
    return {name: rows for name, rows in tables.items() if rows}


def _cells(row: OffsetRow) -> list[str]:
    """A row as text: canonical JSON holds no integer beyond 2**53, and a stamp is one."""
    return ["" if cell is None else str(cell) for cell in row]


def _given(recipe: Recipe) -> dict[str, tuple[OffsetRow, ...]]:
    """The rows that the recipe names; a table that has changed since then is not looked at."""
    tables = cast("Mapping[str, list[list[str]]]", recipe.parameters.get("offsets", {}))
    return {
        clock: tuple(OffsetRow(int(first) if first else None, int(offset), float(drift)) for first, offset, drift in rows)
        for clock, rows in tables.items()
    }


SENSOR_FRAMES = SensorFrames()
