"""ONNX Runtime on the CPU, the numerical reference of every target. Belongs here: running a graph on pictures.

Never here: building or changing a graph, other execution providers, comparing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["INPUT", "LOG_ERRORS", "Pictures", "predict"]

INPUT = "image"

# ONNX Runtime's severities run from 0 (verbose) to 4 (fatal); below errors it remarks on every folded constant.
LOG_ERRORS = 3


@dataclass(frozen=True)
class Pictures:
    """Pictures as a graph of batch 1 takes them, converted one at a time: the batch bounds the memory.

    Attributes:
        images: (N, H, W, 3) uint8 RGB, as ``load_split`` gives them.
    """

    images: npt.NDArray[np.uint8]

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[npt.NDArray[np.float32]]:
        """Each picture as (1, 3, H, W) float32 RGB in 0..1, by the rule that the network was trained with."""
        from drivelake.learning.model import as_input

        for index in range(len(self.images)):
            yield np.ascontiguousarray(as_input(self.images[index : index + 1]).numpy())


def predict(raw: bytes, pictures: Pictures, targets: Sequence[str]) -> npt.NDArray[np.float32]:
    """Run a graph on every picture, on one thread, so that sums are taken in one order.

    Args:
        raw: an ONNX ModelProto with input ``image`` and one output (1, 1) a target, of its name.
        pictures: N pictures at the input size.
        targets: the outputs to read, in this order.

    Returns:
        (N, T) float32, physical units.
    """
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = LOG_ERRORS
    session = ort.InferenceSession(raw, sess_options=options, providers=["CPUExecutionProvider"])
    predicted = np.empty((len(pictures), len(targets)), np.float32)
    for row, picture in enumerate(pictures):
        predicted[row] = np.concatenate(session.run(list(targets), {INPUT: picture})).ravel()
    return predicted
