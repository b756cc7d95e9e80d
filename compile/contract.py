"""What an embedded engineer needs beside the binary. Belongs here: contract.json and build.json as values.

Never here: making or running anything; a number here is read from a graph, a binary or a file.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

import pyarrow.parquet as pq
from pydantic import JsonValue

from compile.inspect_qnn import Inspection
from compile.quantise import Scale, output_scale
from compile.reference import INPUT
from drivelake.declaration import Model, Target
from drivelake.errors import VerificationFailed

__all__ = ["build_report", "check_ends", "tensor_contract", "units_of"]

# of an inspection; the ends of the graph stand in the contract
CARRIED: tuple[Literal["soc_model", "dsp_arch", "vtcm_bytes", "optimisation_level"], ...]
CARRIED = ("soc_model", "dsp_arch", "vtcm_bytes", "optimisation_level")

PREPROCESSING: list[JsonValue] = [
    "Decode the picture to 8-bit RGB.",
    "Resize it to the input's width and height, without cropping, whatever its aspect ratio.",
    "For a JPEG: let libjpeg shrink it while it decodes, as far as neither side falls below the input's.",
    "What is then left to shrink is averaged over areas (box filter).",
    "Divide every value by 255.",
    "Order the values as batch, channel, row, column; channel 0 is red, row 0 is the top, column 0 is the left.",
    "Subtract nothing: values are centred inside the graph.",
]


def units_of(dataset: Path, model: Model) -> dict[str, str | None]:
    """The targets in order, with the unit that the dataset's column carries in its metadata, or None."""
    schema = pq.read_schema(dataset / "rows.parquet")
    found = {name: (schema.field(name).metadata or {}).get(b"unit", b"").decode() for name in model.targets}
    return {name: unit or None for name, unit in found.items()}


def tensor_contract(
    name: str, target: Target, model: Model, qdq: bytes, units: Mapping[str, str | None], binary: str
) -> dict[str, JsonValue]:
    """``contract.json``: what goes in, what comes out, and what has to happen before.

    An output that is quantised inside the graph cannot leave ``range``, and moves in steps of ``resolution``.

    Args:
        name: of the target in the declaration.
        target: the declared target.
        model: the declared model.
        qdq: the quantised graph that was compiled.
        units: the targets with their units.
        binary: the file to load.
    """
    shape: list[JsonValue] = [1, 3, model.input_height, model.input_width]
    return {
        "target": name,
        "kind": target.kind,
        "load": binary,
        "batch": 1,
        "inputs": [
            {
                "name": INPUT,
                "dtype": "float32",
                "shape": shape,
                "layout": "NCHW",
                "range": [0.0, 1.0],
                "colour_order": "RGB",
                "unit": "1",
                "quantisation": None,
            }
        ],
        "outputs": [_output(output, unit, output_scale(qdq, output)) for output, unit in units.items()],
        "targets": list(model.targets),
        "preprocessing": {
            "colour_order": "RGB",
            "width": model.input_width,
            "height": model.input_height,
            "resize": "box",
            "keep_aspect_ratio": False,
            "divide_by": 255,
            "steps": PREPROCESSING,
        },
    }


def check_ends(model: Model, found: Inspection) -> None:
    """Compare what the contract promises with what the binary itself says about its inputs and outputs.

    Raises:
        VerificationFailed: a tensor of another name, type, shape or quantisation.
    """
    promised = {
        "inputs": [(INPUT, "float32", [1, 3, model.input_height, model.input_width], None)],
        "outputs": [(name, "float32", [1, 1], None) for name in model.targets],
    }
    for side, tensors in (("inputs", found["inputs"]), ("outputs", found["outputs"])):
        carried = [(tensor["name"], tensor["dtype"], tensor["shape"], tensor["scale"]) for tensor in tensors]
        if carried != promised[side]:
            raise VerificationFailed(
                f"The {side} (name, type, shape, scale) of the binary are {carried}, expected {promised[side]}.",
                next_step="compile with the onnxruntime-qnn that pyproject.toml names",
            )


def build_report(
    *,
    executed_on: str,
    tools: Sequence[str],
    found: Inspection | None,
    flags: Mapping[str, JsonValue],
    intermediate: Mapping[str, bytes],
    binaries: Sequence[Path],
) -> dict[str, JsonValue]:
    """``build.json``: with what, how and on what the binary was made and executed, and the sizes on the way to it.

    Args:
        executed_on: where the parity rows ran, in words.
        tools: distributions whose versions decide the bytes.
        found: what a QNN binary says about itself; None for other targets.
        flags: everything that was set.
        intermediate: graphs on the way, by name; not part of the version.
        binaries: files of the version.
    """
    toolchain: dict[str, JsonValue] = {name: importlib.metadata.version(name) for name in tools}
    carried: dict[str, JsonValue] = {}
    if found is not None:
        toolchain["qairt"] = found["qairt"]
        carried = {key: found[key] for key in CARRIED}
    return {
        "executed_on": executed_on,
        "toolchain": toolchain,
        "flags": dict(flags),
        "carried": carried,
        "intermediate": {name: _sized(raw) for name, raw in intermediate.items()},
        "binaries": {path.name: _sized(path.read_bytes()) for path in binaries},
    }


def _sized(raw: bytes) -> dict[str, JsonValue]:
    return {"bytes": len(raw), "sha256": hashlib.sha256(raw).hexdigest()}


def _output(name: str, unit: str | None, scale: Scale | None) -> dict[str, JsonValue]:
    return {
        "name": name,
        "dtype": "float32",
        "shape": [1, 1],
        "layout": "batch, value",
        "range": None if scale is None else [scale.lowest, scale.highest],
        "resolution": None if scale is None else scale.scale,
        "unit": unit,
        "quantisation": None,
    }
