"""The stage calibrations: a rig's calibration file as a version of its own. Belongs here: the file, its digest, its checks.

Never here: what the file says (transforms), which drives use it (the stage of the frames).

A rig is what a calibration belongs to, not a drive: a changed file makes the frames of all its drives stale, and
``drivelake impact calibrations/RIG`` names everything that descends from it.
"""

from __future__ import annotations

from pathlib import Path, PurePosixPath

from pydantic import JsonValue

from drivelake.errors import DeclarationError, NotFound
from drivelake.frames.transforms import Transforms, parse_calibration
from drivelake.lake import Lake, Version
from drivelake.manifest import hash_file
from drivelake.rig import Rig
from drivelake.stage import Made, Progress, Recipe, Stage

__all__ = ["CALIBRATIONS", "FILE", "Calibrations", "beside_declaration", "transforms_of"]

FILE = "calibration.yaml"


class Calibrations(Stage):
    """The calibration that a rig names, checked, byte for byte as it stands beside the declaration."""

    asset = "calibrations"
    code_version = "1"

    def recipe(self, lake: Lake, partition: str) -> Recipe:
        """Name and digest of the file, and the frames that sensors of the rig name in it; nothing of the lake goes in."""
        rig = _rig(lake, partition)
        _, digest = hash_file(_file(lake, partition, rig))
        frames: dict[str, JsonValue] = {name: s.frame for name, s in rig.sensors.items() if s.frame is not None}
        return Recipe(parameters={"file": rig.calibration, "sha256": digest, "sensor_frames": frames})

    def make(self, lake: Lake, partition: str, recipe: Recipe, out: Path, progress: Progress) -> Made:
        """Check the file and keep its bytes.

        Raises:
            DeclarationError: the file does not hold a calibration, or a sensor's frame is not in it.
        """
        rig = _rig(lake, partition)
        (out / FILE).write_bytes(_file(lake, partition, rig).read_bytes())
        if hash_file(out / FILE)[1] != recipe.parameters["sha256"]:
            raise DeclarationError(f"{rig.calibration} changed while it was read.", next_step="run it again")
        calibration = parse_calibration(_text(out / FILE, str(rig.calibration)), where=str(rig.calibration), rig=rig)
        progress(f"{len(calibration.frames)} frames")
        newest = max((frame.date.isoformat() for frame in calibration.frames.values() if frame.date), default=None)
        return Made(facts={"frames": len(calibration.frames), "newest": newest})


def transforms_of(version: Version) -> Transforms:
    """The transforms of a published calibration."""
    return Transforms.of(parse_calibration(_text(version.path(FILE), version.name), where=version.name))


def beside_declaration(lake: Lake, named: str) -> Path:
    """Where a file stands that the declaration names: in the lake's own folder, so that the lake can move.

    Raises:
        DeclarationError: the path leads out of the lake.
    """
    path = PurePosixPath(named)
    if path.is_absolute() or ".." in path.parts:
        raise DeclarationError(
            f"{named!r} leads out of the lake, expected a path beside lakehouse.yaml.", next_step="put the file there"
        )
    return lake.root / path


def _rig(lake: Lake, partition: str) -> Rig:
    rig = lake.declaration.rigs.get(partition)
    if rig is None or rig.calibration is None:
        what = "is not declared" if rig is None else "names no calibration"
        raise NotFound(f"Rig {partition!r} {what}.", next_step="see rigs in lakehouse.yaml")
    return rig


def _file(lake: Lake, partition: str, rig: Rig) -> Path:
    assert rig.calibration is not None, "_rig has looked"
    path = beside_declaration(lake, rig.calibration)
    if not path.is_file():
        raise NotFound(
            f"Rig {partition!r} names the calibration {rig.calibration}, and there is no such file beside lakehouse.yaml.",
            next_step="put it there, or remove the key calibration",
        )
    return path


def _text(path: Path, where: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DeclarationError(f"{where} is not UTF-8: {error.reason} at byte {error.start}.", next_step="correct it") from None


CALIBRATIONS = Calibrations()
