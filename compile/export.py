"""A checkpoint as float ONNX. Belongs here: tracing, the tensor names, and bytes that depend on the network alone.

Never here: quantisation, anything that a single toolchain needs, files that outlive the call.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from compile.reference import INPUT, Pictures, predict
from drivelake.declaration import Model
from drivelake.errors import DrivelakeError

if TYPE_CHECKING:
    import onnx
    from google.protobuf.message import Message
    from torch import Tensor, nn

    from drivelake.learning.model import PictureRegressor

__all__ = ["DEVIATION_MAX", "OPSET", "canonical", "check_export", "export_onnx"]

# The first opset with 16-bit QuantizeLinear, and past the one with Gelu (20): QNN refuses the Erf of older Gelus.
OPSET = 21

# Folding batch norm into convolutions costs float32 rounding; an operator translated wrongly costs far more.
DEVIATION_MAX = 1e-4


def export_onnx(network: PictureRegressor, model: Model) -> bytes:
    """Trace the network with batch 1 and give every target an output of its own.

    A tensor has one quantisation scale: in a shared output a curvature in 1/m would be rounded to the steps of a speed
    in m/s. The last layer is therefore split by target, with the target's deviation folded into it. The mean is added
    behind it: as part of an integer bias, whose scale is that of the products, it can leave the range of int32.

    Args:
        network: from ``load_checkpoint``: eval mode, CPU, float32 NCHW RGB 0..1 -> (N, T) in physical units.
        model: the declaration it was trained with; gives the input size and the names of the targets.

    Returns:
        An ONNX ModelProto, opset 21, without external data. Input ``image`` float32 (1, 3, H, W), RGB 0..1; one output
        float32 (1, 1) a target, of its name. The same weights give the same bytes in every process and folder.

    Raises:
        DrivelakeError: the network does not end in a linear layer, or its graph does not pass the ONNX checker.
    """
    import onnx
    import torch

    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            _by_target(network),
            (torch.zeros(1, 3, model.input_height, model.input_width),),
            dynamo=True,
            opset_version=OPSET,
            input_names=[INPUT],
            output_names=list(model.targets),
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise DrivelakeError("torch.onnx.export gave no program.", next_step="install the torch that pyproject.toml names")
    raw = canonical(program.model_proto)
    try:
        onnx.checker.check_model(raw, full_check=True)
    except onnx.checker.ValidationError as error:
        raise DrivelakeError(
            f"The exported graph is not valid ONNX: {error}", next_step="replace the operator named above in the network"
        ) from error
    return raw


def check_export(raw: bytes, network: PictureRegressor, model: Model, pictures: Pictures) -> float:
    """Compare ONNX Runtime with torch on real pictures.

    Args:
        raw: what ``export_onnx`` gave.
        network: the network it was given.
        model: its declaration.
        pictures: N pictures at the input size.

    Returns:
        The largest deviation, in standard deviations of its target, so that one bound fits every unit.

    Raises:
        DrivelakeError: the deviation is not below ``DEVIATION_MAX``.
    """
    import torch

    with torch.no_grad():
        expected = np.concatenate([network(torch.from_numpy(picture)).numpy() for picture in pictures])
    deviation = float((np.abs(predict(raw, pictures, model.targets) - expected) / network.target_std.numpy()).max())
    if not deviation < DEVIATION_MAX:  # negated, so that a NaN does not pass
        raise DrivelakeError(
            f"The ONNX export deviates from torch by {deviation:.2e} standard deviations of a target on {len(pictures)} rows, "
            f"expected below {DEVIATION_MAX:.0e}.",
            next_step="find the operator that torch.onnx.export translates loosely, and replace it in the network",
        )
    return deviation


def canonical(model: onnx.ModelProto) -> bytes:
    """Serialise without what differs between machines: doc strings, stack traces with paths, the producer's version.

    Strips the model that is passed, too.
    """
    _strip(model)
    model.producer_version = ""
    return bytes(model.SerializeToString(deterministic=True))


def _strip(message: Message) -> None:
    for field, value in list(message.ListFields()):
        if field.name in {"metadata_props", "doc_string"}:
            message.ClearField(field.name)
        elif field.type == field.TYPE_MESSAGE:
            for child in value if field.is_repeated else [value]:
                _strip(child)


def _by_target(network: PictureRegressor) -> nn.Module:
    """The same function of the picture with a tuple of T outputs (N, 1); ``check_export`` holds it to that."""
    import torch
    from torch import nn

    *before, last = network.head
    if not isinstance(last, nn.Linear):
        raise DrivelakeError(
            f"The network ends in {type(last).__name__}, expected Linear: its outputs cannot be told apart.",
            next_step="end the head of the network in one linear layer",
        )

    linear: nn.Linear = last

    class ByTarget(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = network.features
            self.before = nn.Sequential(*before)
            self.heads = nn.ModuleList(nn.Linear(linear.in_features, 1) for _ in network.target_mean)
            for index, (head, std) in enumerate(zip(self.heads, network.target_std, strict=True)):
                head.weight = nn.Parameter(linear.weight[index : index + 1] * std)
                head.bias = nn.Parameter(linear.bias[index : index + 1] * std)
            self.means = network.target_mean.tolist()

        def forward(self, image: Tensor) -> tuple[Tensor, ...]:
            flat = self.before(self.features(image - 0.5))
            return tuple(head(flat) + mean for head, mean in zip(self.heads, self.means, strict=True))

    with torch.no_grad():
        return ByTarget().eval()


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporter's remarks on torchvision, which nothing here uses, and on its own deprecations."""
    registration = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registration.level
    registration.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        registration.setLevel(level)
