"""Snapdragon HTP context binaries through onnxruntime-qnn. Belongs here: the three commands of its process, and their caller.

Never here: quantisation, comparing, any silicon: what runs here is Qualcomm's emulation of the Hexagon tensor processor on
x86-64. It serves parity and says nothing about latency.

    python -m compile.snapdragon build QDQ.onnx OUT_FOLDER SOC_MODEL     model_ctx.onnx and model_ctx_qnn.bin
    python -m compile.snapdragon inspect BINARY REPORT.json              what the binary says about itself
    python -m compile.snapdragon run model_ctx.onnx PICTURES.npy PREDICTED.npy TARGET...

Every call is a process of its own: a second compile in one process gives other bytes, and a crash of the vendor's library
must not take the caller down.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from compile.inspect_qnn import Inspection, inspect_binary
from compile.reference import INPUT, LOG_ERRORS, Pictures
from drivelake.errors import DeclarationError, DrivelakeError, VerificationFailed

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

    from drivelake.declaration import Target

__all__ = ["BINARY", "CONTEXT", "EXECUTED_ON", "FLAGS", "build", "main", "run"]

EXECUTED_ON = "HTP emulation on x86; no target silicon, no latency claim"
CONTEXT = "model_ctx.onnx"  # an ONNX graph with one EPContext node, which names the binary beside it
BINARY = "model_ctx_qnn.bin"
PROVIDER = "QNNExecutionProvider"

FLAGS = {
    "vtcm_mb": "8",  # of fast memory for intermediate tensors; the default is 4
    "htp_graph_finalization_optimization_mode": "3",  # the slowest compile for the fastest graph
}

# A network of 465k parameters compiles in 0.4 s; ten minutes are room for one a thousand times as large. Beyond, it hangs.
BUILD_TIMEOUT_S = 600.0
# The emulation takes 0.02 to 1 s a picture of 160 x 96; ten times that, and the time to load.
RUN_TIMEOUT_S, RUN_TIMEOUT_PER_ROW_S = 60.0, 10.0

# Lines of the tool's output that an error repeats: onnxruntime logs the cause two lines above the exception.
TOOL_LINES = 6
COLOUR = re.compile(r"\x1b\[[0-9;]*m")

CONTEXT_FILE = "ep.context_file_path"

# Numbers that the toolchain takes and builds an HTP v68 binary for that nothing can run
NO_SOC = {0: "stands for an unknown SoC", 63: "is Cloud AI 100, which has no HTP"}


def build(qdq: bytes, target: Target, out: Path) -> Inspection:
    """Compile a QDQ graph for the declared SoC and verify that the binary is for it.

    Args:
        qdq: from ``quantise_qnn``.
        target: gives the SoC's number and the architecture that it has.
        out: folder; gets ``model_ctx.onnx`` and ``model_ctx_qnn.bin``. The same graph gives the same bytes.

    Returns:
        What the binary says about itself, read back from its bytes.

    Raises:
        DeclarationError: the number stands for no SoC with an HTP.
        VerificationFailed: the binary is for another SoC or architecture than declared.
        DrivelakeError: the toolchain failed, or ran longer than ``BUILD_TIMEOUT_S``; with its last lines.
    """
    if target.soc_model < 0 or target.soc_model in NO_SOC:
        raise DeclarationError(
            f"soc_model {target.soc_model} {NO_SOC.get(target.soc_model, 'is negative')}.",
            next_step="declare Qualcomm's number of the SoC; 52 is SA8255",
        )
    with tempfile.TemporaryDirectory() as scratch:
        source, report = Path(scratch) / "qdq.onnx", Path(scratch) / "report.json"
        source.write_bytes(qdq)
        _call(["build", str(source), str(out), str(target.soc_model)], timeout_s=BUILD_TIMEOUT_S)
        for name in (CONTEXT, BINARY):
            if not (out / name).is_file():
                raise DrivelakeError(
                    f"onnxruntime-qnn wrote no {name} for soc_model {target.soc_model}.",
                    next_step="check soc_model against Qualcomm's list of supported SoCs",
                )
        _call(["inspect", str(out / BINARY), str(report)], timeout_s=RUN_TIMEOUT_S)
        found: Inspection = json.loads(report.read_text(encoding="utf-8"))
    for key, declared, carried in (
        ("soc_model", target.soc_model, found["soc_model"]),
        ("dsp_arch", target.dsp_arch, found["dsp_arch"]),
    ):
        if declared != carried:
            raise VerificationFailed(
                f"{BINARY} carries {key} {carried}, declared is {key} {declared}.",
                next_step="declare the soc_model and dsp_arch of one and the same SoC; 52 is SA8255 with 73",
            )
    return found


def run(out: Path, pictures: Pictures, targets: Sequence[str]) -> npt.NDArray[np.float32]:
    """Execute the binary in HTP emulation.

    Args:
        out: the folder that ``build`` filled.
        pictures: N pictures at the input size.
        targets: the outputs to read, in this order.

    Returns:
        (N, T) float32, physical units.

    Raises:
        DrivelakeError: the emulation failed or ran out of time, with its last lines.
    """
    with tempfile.TemporaryDirectory() as scratch:
        source, predicted = Path(scratch) / "pictures.npy", Path(scratch) / "predicted.npy"
        rows = np.lib.format.open_memmap(source, "w+", np.float32, (len(pictures), 3, *pictures.images.shape[1:3]))
        for index, picture in enumerate(pictures):
            rows[index] = picture[0]
        rows.flush()
        arguments = ["run", str(out / CONTEXT), str(source), str(predicted), *targets]
        _call(arguments, timeout_s=RUN_TIMEOUT_S + RUN_TIMEOUT_PER_ROW_S * len(pictures))
        values: npt.NDArray[np.float32] = np.load(predicted)
    return values


def _call(arguments: list[str], *, timeout_s: float) -> None:
    """Run one command of this module in a fresh process."""
    command, root = arguments[0], str(Path(__file__).resolve().parents[1])
    found = os.environ.get("PYTHONPATH")
    try:
        done = subprocess.run(
            [sys.executable, "-m", "compile.snapdragon", *arguments],
            env={**os.environ, "PYTHONPATH": os.pathsep.join([root, found]) if found else root},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise DrivelakeError(
            f"onnxruntime-qnn ({command}) did not end within {timeout_s:.0f} s.",
            next_step="try fewer parity_rows or a smaller network; if that changes nothing, the toolchain hangs",
        ) from error
    if done.returncode:
        lines = [line.strip() for line in COLOUR.sub("", done.stdout + done.stderr).splitlines() if line.strip()]
        raise DrivelakeError(
            f"onnxruntime-qnn ({command}) ended with {done.returncode}; its last lines: {' | '.join(lines[-TOOL_LINES:])}",
            next_step="an invalid device config means an unknown soc_model; otherwise replace the operator that is named",
        )


def _session(model: Path, settings: dict[str, str], options: dict[str, str]) -> InferenceSession:
    """An ONNX Runtime session in which every node runs on the HTP, or that fails."""
    import onnxruntime as ort
    import onnxruntime_qnn

    ort.register_execution_provider_library(PROVIDER, onnxruntime_qnn.get_library_path())
    devices = [device for device in ort.get_ep_devices() if device.ep_name == PROVIDER]
    session = ort.SessionOptions()
    session.log_severity_level = LOG_ERRORS
    # without it, an unknown SoC "succeeds" on the CPU and writes nothing
    session.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
    for key, value in settings.items():
        session.add_session_config_entry(key, value)
    session.add_provider_for_devices(devices, {"backend_path": onnxruntime_qnn.get_qnn_htp_path(), **options})
    if CONTEXT_FILE in settings:
        # bytes, since a path becomes part of the graph's name and thereby of the binary
        return ort.InferenceSession(model.read_bytes(), sess_options=session)
    # a path, since the binary is looked for beside it
    return ort.InferenceSession(str(model), sess_options=session)


def _build(model: Path, out: Path, soc_model: str) -> None:
    settings = {"ep.context_enable": "1", "ep.context_embed_mode": "0", CONTEXT_FILE: str(out / CONTEXT)}
    _session(model, settings, {"soc_model": soc_model, **FLAGS})


def _run(context: Path, pictures: Path, predicted: Path, targets: Sequence[str]) -> None:
    session = _session(context, {}, {})
    rows = np.load(pictures, mmap_mode="r")
    values = [np.concatenate(session.run(list(targets), {INPUT: np.ascontiguousarray(row[np.newaxis])})).ravel() for row in rows]
    np.save(predicted, np.stack(values))


def main(arguments: Sequence[str]) -> None:
    """Run one command; see the module. Failures end the process with the library's own words."""
    sys.tracebacklimit = 0  # the frames would push those words out of the last lines
    command, first, second, *rest = arguments
    if command == "build":
        _build(Path(first), Path(second), rest[0])
    elif command == "inspect":
        Path(second).write_text(json.dumps(inspect_binary(Path(first))), encoding="utf-8")
    elif command == "run":
        _run(Path(first), Path(second), Path(rest[0]), rest[1:])
    else:
        raise SystemExit(f"unknown command {command!r}: expected build, inspect or run")


if __name__ == "__main__":
    main(sys.argv[1:])
