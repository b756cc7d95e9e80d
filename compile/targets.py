"""From a checkpoint to a folder of soc_artefacts, for any target. Belongs here: the order of the steps, and what is missing.

Never here: how a toolchain works (its module knows), gates, publishing. Importing this is cheap.
"""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, cast

import numpy as np
import numpy.typing as npt
from pydantic import JsonValue

from compile import portable, snapdragon
from compile.contract import build_report, check_ends, tensor_contract, units_of
from compile.inspect_qnn import Inspection
from compile.reference import Pictures, predict
from drivelake.declaration import Model, Target
from drivelake.errors import InputError, ToolMissing

__all__ = ["compile_target", "missing"]

# modules that a kind of target needs, and the distributions whose versions decide its bytes
MODULES = {
    "portable": ("torch", "onnx", "onnxscript", "onnxruntime"),
    "snapdragon": ("torch", "onnx", "onnxscript", "onnxruntime", "onnxruntime_qnn"),
}
INSTALL = {"portable": "pip install drivelake", "snapdragon": "pip install 'drivelake[snapdragon]', or make snapdragon"}

# the emulation is built for this architecture alone; elsewhere the same library would look for a device
EMULATION_ON = ("x86_64", "amd64")

Progress = Callable[[str], None]


class Compiled(NamedTuple):
    """What an adapter left in the folder, what it was made from, and what it says on the parity rows."""

    qdq: bytes
    load: str
    files: tuple[str, ...]
    predicted: npt.NDArray[np.float32]
    executed_on: str
    flags: dict[str, JsonValue]
    found: Inspection | None


def missing(target: Target) -> str | None:
    """Say in one sentence what is not installed and which command installs it; None when nothing is missing."""
    absent = [name.replace("_", "-") for name in MODULES[target.kind] if importlib.util.find_spec(name) is None]
    if absent:
        return f"{', '.join(absent)} is not installed; install it with: {INSTALL[target.kind]}"
    machine = platform.machine()
    if target.kind == "snapdragon" and machine.lower() not in EMULATION_ON:
        return f"the HTP emulation runs on x86-64 and this machine is {machine}; compile there, after: {INSTALL[target.kind]}"
    return None


def compile_target(
    name: str, target: Target, checkpoint: Path, dataset: Path, out: Path, *, progress: Progress | None = None
) -> dict[str, JsonValue]:
    """Compile a checkpoint for a target, execute the result on validation rows, and write a folder of soc_artefacts.

    The folder gets the binary or binaries, ``contract.json``, ``parity.json`` and ``build.json``; the same inputs give
    the same bytes. Calibration rows come from the train split, parity rows from the validation split, evenly spaced.

    Args:
        name: of the target in the declaration.
        target: the declared target.
        checkpoint: folder of a ``checkpoints`` version.
        dataset: folder of the ``curated_datasets`` version that it was trained on.
        out: an empty folder, made where it does not exist.
        progress: hears one line a step.

    Returns:
        ``parity``, ``task`` and ``per_target`` of ``parity.json``, as ``compile.parity.measure`` defines them.

    Raises:
        ToolMissing: ``missing`` has something to say.
        InputError: the folder is not empty, the checkpoint or the dataset cannot be used.
        VerificationFailed: the binary is not what the declaration asks for.
        DrivelakeError: the export, the quantisation or the toolchain failed.
    """
    lack = missing(target)
    if lack is not None:
        raise ToolMissing(f"Target {name!r} cannot be compiled: {lack}.")
    from compile.export import OPSET, check_export, export_onnx
    from compile.parity import SPLIT, compare
    from drivelake.learning.data import load_split
    from drivelake.learning.model import load_checkpoint, reproducible, write_json

    say = progress or _silent
    _empty(out)
    network, model = load_checkpoint(checkpoint)
    calibration = load_split(dataset, model, "train", rows_max=target.calibration_rows)
    validation = load_split(dataset, model, SPLIT, rows_max=target.parity_rows)
    pictures = Pictures(validation.images)
    with reproducible(model.training.seed):
        raw = export_onnx(network, model)
        deviation = check_export(raw, network, model, pictures)
    say(f"{name}: exported {len(raw)} bytes of float ONNX, within {deviation:.1e} standard deviations of torch")
    compiled = ADAPTERS[target.kind](target, raw, Pictures(calibration.images), pictures, model, out)
    say(f"{name}: quantised on {len(calibration)} train rows, executed {len(pictures)} {SPLIT} rows on {compiled.executed_on}")

    units = units_of(dataset, model)
    report = compare(validation.rows, validation.targets, predict(raw, pictures, model.targets), compiled.predicted, units)
    contract = tensor_contract(name, target, model, compiled.qdq, units, compiled.load)
    if compiled.found is not None:
        check_ends(model, compiled.found)
    build = build_report(
        executed_on=compiled.executed_on,
        tools=[module.replace("_", "-") for module in MODULES[target.kind]],
        found=compiled.found,
        flags={"opset": OPSET, "calibration": f"MinMax over {len(calibration)} train rows", **compiled.flags},
        intermediate={"float.onnx": raw, "quantised.onnx": compiled.qdq},
        binaries=[out / file for file in compiled.files],
    )
    write_json(out / "contract.json", contract)
    write_json(out / "parity.json", cast("JsonValue", report))
    write_json(out / "build.json", build)
    return {key: report[key] for key in ("parity", "task", "per_target")}


def _portable(_: Target, raw: bytes, calibration: Pictures, pictures: Pictures, model: Model, out: Path) -> Compiled:
    from compile.quantise import quantise_portable

    qdq = quantise_portable(raw, calibration, model.targets)
    portable.build(qdq, out)
    return Compiled(
        qdq=qdq,
        load=portable.MODEL,
        files=(portable.MODEL,),
        predicted=portable.run(out, pictures, model.targets),
        executed_on=portable.EXECUTED_ON,
        flags={"activations": "uint8", "weights": "uint8, symmetric, per channel", "outputs": "float32"},
        found=None,
    )


def _snapdragon(target: Target, raw: bytes, calibration: Pictures, pictures: Pictures, model: Model, out: Path) -> Compiled:
    from compile.quantise import OUTPUT_SPAN, quantise_qnn

    qdq = quantise_qnn(raw, calibration, model.targets)
    found = snapdragon.build(qdq, target, out)
    return Compiled(
        qdq=qdq,
        load=snapdragon.CONTEXT,
        files=(snapdragon.CONTEXT, snapdragon.BINARY),
        predicted=snapdragon.run(out, pictures, model.targets),
        executed_on=snapdragon.EXECUTED_ON,
        flags={
            "activations": "uint16",
            "weights": "int8, symmetric, convolutions per channel",
            "outputs": f"uint16 over {OUTPUT_SPAN:g} times the span seen in calibration",
            "soc_model": target.soc_model,
            **snapdragon.FLAGS,
        },
        found=found,
    )


ADAPTERS: dict[str, Callable[[Target, bytes, Pictures, Pictures, Model, Path], Compiled]] = {
    "portable": _portable,
    "snapdragon": _snapdragon,
}


def _empty(out: Path) -> None:
    """Make the folder; what stands in it already would be published with the rest."""
    out.mkdir(parents=True, exist_ok=True)
    found = sorted(path.name for path in out.iterdir())
    if found:
        raise InputError(
            f"{out.name} holds {len(found)} file(s), the first is {found[0]}; expected none.", next_step="pass an empty folder"
        )


def _silent(_: str) -> None:
    """A listener that does not listen."""
