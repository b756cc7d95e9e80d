"""A small world that makes drives to try everything on. Belongs here: generated drives, their truth, example declarations.

Never here: anything that an installation with its own drives needs.
"""

from importlib.resources import files
from pathlib import Path
from typing import Literal

__all__ = ["example", "generate_drives"]


def generate_drives(
    folder: Path, *, seed: int = 7, drives: int = 10, seconds: float = 40.0, truth_folder: Path | None = None
) -> list[Path]:
    """See :func:`drivelake.demo.drives.generate_drives`; imported on the first call, so that the command line starts fast."""
    from drivelake.demo import drives as module

    return module.generate_drives(folder, seed=seed, drives=drives, seconds=seconds, truth_folder=truth_folder)


def example(name: Literal["generated", "donkeycar"]) -> str:
    """Read the text of an example ``lakehouse.yaml``: for the generated drives, or for recorded ones of a small robot car."""
    file = {"generated": "lakehouse.yaml", "donkeycar": "donkeycar.yaml"}[name]
    return files("drivelake.demo").joinpath(file).read_text(encoding="utf-8")
