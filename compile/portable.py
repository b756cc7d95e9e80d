"""The portable target: integer QDQ ONNX for ONNX Runtime on any CPU. Belongs here: writing it and running what was written.

Never here: quantisation, comparing, other runtimes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from compile.reference import Pictures, predict

__all__ = ["EXECUTED_ON", "MODEL", "build", "run"]

EXECUTED_ON = "ONNX Runtime CPU"
MODEL = "model.onnx"


def build(qdq: bytes, out: Path) -> None:
    """Write the graph from ``quantise_portable`` as ``model.onnx``."""
    (out / MODEL).write_bytes(qdq)


def run(out: Path, pictures: Pictures, targets: Sequence[str]) -> npt.NDArray[np.float32]:
    """Execute ``model.onnx``.

    Args:
        out: the folder that ``build`` filled.
        pictures: N pictures at the input size.
        targets: the outputs to read, in this order.

    Returns:
        (N, T) float32, physical units.
    """
    return predict((out / MODEL).read_bytes(), pictures, targets)
