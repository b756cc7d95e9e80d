"""The stage soc_artefacts. Belongs here: both gates and what goes in. Never here: a toolchain (its module does)."""

from __future__ import annotations

import json
from pathlib import Path

from compile.plots import parity_figures
from compile.targets import compile_target
from drivelake.errors import NotFound
from drivelake.gates import decide, require_open
from drivelake.lake import Lake
from drivelake.stage import Decision, Made, Progress, Recipe, Stage

__all__ = ["SOC_ARTEFACTS", "SocArtefacts", "split_key"]


TOOLS = {"portable": (), "snapdragon": ("onnxruntime-qnn",)}  # beside those of every target


class SocArtefacts(Stage):
    """A compiled binary with its tensor contract and parity; published only past both gates."""

    asset = "soc_artefacts"
    code_version = "1"
    tools = ("onnx", "onnxscript", "onnxruntime", "torch")

    def recipe(self, lake: Lake, partition: str) -> Recipe:
        """The checkpoint, the dataset it was trained on (for calibration and parity), the target and the gates."""
        model, target = split_key(partition)
        declared = lake.declaration
        if model not in declared.models or target not in declared.targets:
            raise NotFound(
                f"{partition!r} names no declared model and target.", next_step="see models and targets in lakehouse.yaml"
            )
        checkpoint = lake.head("checkpoints", model)
        dataset = lake.version(checkpoint.manifest.inputs[0])
        parameters = {"target": declared.targets[target].model_dump(mode="json"), "gates": declared.gates.model_dump(mode="json")}
        return Recipe(parameters=parameters, inputs=(checkpoint, dataset))

    def make(self, lake: Lake, partition: str, recipe: Recipe, out: Path, progress: Progress) -> Made:
        """Verify the checkpoint's gate, compile, measure, verify the artefact's gate.

        Raises:
            GateClosed: with every criterion that was not met.
            ToolMissing: the target's toolchain is not installed.
        """
        _, target = split_key(partition)
        declared = lake.declaration
        checkpoint = recipe.input("checkpoints")
        metrics = json.loads(checkpoint.path("metrics.json").read_bytes())
        trained = Decision("checkpoint", decide(declared.gates.checkpoint, metrics), checkpoint.as_input())
        require_open(trained, of=checkpoint.name)
        with lake.scratch(f"compile-{partition}") as scratch:
            views = {}
            for version in recipe.inputs:
                folder = scratch / version.manifest.asset
                folder.mkdir()
                views[version.manifest.asset] = version.view(folder)
            measured = compile_target(
                target, declared.targets[target], views["checkpoints"], views["curated_datasets"], out, progress=progress
            )
        for name, figure in parity_figures(json.loads((out / "parity.json").read_bytes())).items():
            (out / f"{name}.svg").write_text(figure, encoding="utf-8")
        compiled = Decision("artefact", decide(declared.gates.artefact, measured))
        require_open(compiled, of=f"soc_artefacts/{partition}")
        return Made(facts=measured, decisions=(trained, compiled), name_files=True, tools=TOOLS[declared.targets[target].kind])


def split_key(partition: str) -> tuple[str, str]:
    """Model and target of a key ``model@target``."""
    model, _, target = partition.partition("@")
    return model, target


SOC_ARTEFACTS = SocArtefacts()
