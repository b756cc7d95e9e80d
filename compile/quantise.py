"""Float ONNX to integer QDQ ONNX. Belongs here: calibration, the integer types of each target, what a scale means.

Never here: loading data, running a toolchain, measuring what quantisation cost (``parity`` does).
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from compile.export import canonical
from compile.reference import INPUT, Pictures, predict
from drivelake.errors import DrivelakeError

if TYPE_CHECKING:
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, StaticQuantConfig

__all__ = ["Scale", "float_nodes", "output_scale", "quantise_portable", "quantise_qnn"]

# An output beyond the range seen in calibration is clipped to it: a curve sharper than every calibration row would be
# steered too wide. 16 bits have the room for twice the span; the contract states the step that is left.
OUTPUT_SPAN = 2.0

# onnxruntime clips a bias that its scale cannot hold to this, and only logs it
BIAS_MAX = np.iinfo(np.int32).max


@dataclass(frozen=True)
class Scale:
    """What a quantised tensor can hold: value = (stored - zero_point) * scale, stored in lowest..highest."""

    scale: float
    zero_point: int
    dtype: str

    @property
    def lowest(self) -> float:
        """The smallest value, in the tensor's unit."""
        return (np.iinfo(self.dtype).min - self.zero_point) * self.scale

    @property
    def highest(self) -> float:
        """The largest value, in the tensor's unit."""
        return (np.iinfo(self.dtype).max - self.zero_point) * self.scale


def quantise_portable(raw: bytes, calibration: Pictures, targets: Sequence[str]) -> bytes:
    """8-bit activations and weights for ONNX Runtime on any CPU; weights per channel, outputs in float.

    Weights are unsigned around 128: the products of unsigned activations and signed weights saturate on x86 without
    VNNI, and a reference must not depend on the CPU. Outputs stay float32, since 8 bits would clip and round them.

    Args:
        raw: float ONNX from ``export_onnx``.
        calibration: train pictures; every activation's range is the minimum and maximum over them.
        targets: names of the outputs.

    Returns:
        A QDQ ModelProto; the same graph and pictures give the same bytes.

    Raises:
        DrivelakeError: a bias is too large for the scale of its layer.
    """
    from onnxruntime.quantization import QuantType, StaticQuantConfig

    config = StaticQuantConfig(
        _reader(calibration),
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QUInt8,
        per_channel=True,
        nodes_to_exclude=[node.name for node, _ in _means(raw, targets)],
        extra_options={"WeightSymmetric": True},
    )
    quantised = _quantise(raw, config)
    for name in targets:
        _make_output_float(quantised.graph, name)
    return canonical(quantised)


def quantise_qnn(raw: bytes, calibration: Pictures, targets: Sequence[str]) -> bytes:
    """16-bit activations and 8-bit weights for the Hexagon tensor processor.

    Weights are signed and symmetric: with unsigned ones the emulation deviates ten times as far from ONNX Runtime on the
    same graph. Those of convolutions are scaled per channel; the HTP takes matrices per tensor only.

    Args:
        raw: float ONNX from ``export_onnx``.
        calibration: train pictures; every activation's range is the minimum and maximum over them, every output's is
            ``OUTPUT_SPAN`` times as wide.
        targets: names of the outputs.

    Returns:
        A QDQ ModelProto; the same graph and pictures give the same bytes.

    Raises:
        DrivelakeError: a node would be left in float, where the toolchain builds it without a word.
    """
    import onnx
    from onnxruntime.quantization import QuantType
    from onnxruntime.quantization.execution_providers.qnn import get_qnn_qdq_config

    ranges = dict(zip(targets, _widened(predict(raw, calibration, targets)), strict=True))
    for node, mean in _means(raw, targets):
        low, high = ranges[node.output[0]]
        ranges[node.input[0]] = (low - mean, high - mean)
    overrides = {
        name: [{"quant_type": QuantType.QUInt16, "rmin": np.float32(low), "rmax": np.float32(high)}]
        for name, (low, high) in ranges.items()
    }
    model = onnx.load_from_string(raw)
    overrides |= {name: [{"quant_type": QuantType.QInt8, "symmetric": True}] for name in _matrices(model.graph)}
    config = get_qnn_qdq_config(
        model,
        _reader(calibration),
        activation_type=QuantType.QUInt16,
        weight_type=QuantType.QInt8,
        per_channel=True,
        init_overrides=overrides,
    )
    quantised = _quantise(raw, config)
    left = float_nodes(quantised.graph)
    if left:
        raise DrivelakeError(
            f"{len(left)} node(s) would stay in float on the HTP: {', '.join(left[:5])}.",
            next_step="replace the operator in the network with one that onnxruntime.quantization knows",
        )
    return canonical(quantised)


def float_nodes(graph: onnx.GraphProto) -> list[str]:
    """Nodes that compute in float: an input that is neither dequantised nor made by a node that is fused before it.

    A Relu or Clip straight behind another node is fused with it into one integer operation.
    """
    maker = {output: node.op_type for node in graph.node for output in node.output}
    floats = {INPUT} | {i.name for i in graph.initializer if i.data_type == i.FLOAT}
    left = []
    for node in graph.node:
        if node.op_type in {"QuantizeLinear", "DequantizeLinear"}:
            continue
        fused = {"Conv", "Gemm", "Add"} if node.op_type in {"Relu", "Clip"} else set()
        made_by = {maker.get(name, "float") for name in node.input if name in maker or name in floats}
        if not made_by <= {"DequantizeLinear"} | fused:
            left.append(f"{node.name} ({node.op_type})")
    return left


def output_scale(raw: bytes, name: str) -> Scale | None:
    """The scale of an output of a QDQ graph, or None where the output is computed in float."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(raw).graph
    last = next(node for node in graph.node if name in node.output)
    if last.op_type != "DequantizeLinear":
        return None
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    scale, zero_point = values[last.input[1]], values[last.input[2]]
    return Scale(scale=float(scale), zero_point=int(zero_point), dtype=zero_point.dtype.name)


def _reader(pictures: Pictures) -> CalibrationDataReader:
    """The pictures, one after the other, as onnxruntime asks for them."""
    from onnxruntime.quantization import CalibrationDataReader

    class Reader(CalibrationDataReader):  # type: ignore[misc] # onnxruntime ships no types
        def __init__(self) -> None:
            self.rest = iter(pictures)

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            picture = next(self.rest, None)
            return None if picture is None else {INPUT: picture}

    return Reader()


def _quantise(raw: bytes, config: StaticQuantConfig) -> onnx.ModelProto:
    """Calibrate on one picture at a time and insert the QuantizeLinear and DequantizeLinear pairs."""
    import onnx
    from onnx import numpy_helper
    from onnxruntime.quantization import quantize
    from onnxruntime.quantization.quant_utils import add_pre_process_metadata

    model = onnx.load_from_string(raw)
    add_pre_process_metadata(model)  # the exporter has folded constants and inferred shapes; without it, a warning says to
    with tempfile.TemporaryDirectory() as scratch:
        target = Path(scratch) / "quantised.onnx"
        quantize(model, target, config)
        quantised = onnx.load(target)
    for tensor in quantised.graph.initializer:
        if tensor.data_type == tensor.INT32 and np.abs(numpy_helper.to_array(tensor).astype(np.int64)).max() >= BIAS_MAX:
            raise DrivelakeError(
                f"{tensor.name} does not fit into int32 at the scale of its layer's weights, which are all but zero beside it.",
                next_step="keep the channel alive with less weight decay, or declare fewer channels",
            )
    return quantised


def _widened(predicted: npt.NDArray[np.float32]) -> list[tuple[float, float]]:
    """Per target: ``OUTPUT_SPAN`` times the span that was predicted, around its middle."""
    low, high = predicted.min(axis=0), predicted.max(axis=0)
    middle, half = (high + low) / 2, (high - low) / 2 * OUTPUT_SPAN
    return [(float(m - h), float(m + h)) for m, h in zip(middle, half, strict=True)]


def _means(raw: bytes, targets: Sequence[str]) -> list[tuple[onnx.NodeProto, float]]:
    """The nodes that add a target's mean to make its output, with the mean; a mean of zero has none."""
    import onnx
    from onnx import numpy_helper

    graph = onnx.load_from_string(raw).graph
    values = {i.name: numpy_helper.to_array(i) for i in graph.initializer}
    adds = (node for node in graph.node if node.op_type == "Add" and node.output[0] in targets)
    return [(node, float(values[node.input[1]])) for node in adds]


def _matrices(graph: onnx.GraphProto) -> list[str]:
    """Names of the constant matrices."""
    constants = {i.name for i in graph.initializer}
    nodes = (node for node in graph.node if node.op_type in {"Gemm", "MatMul"})
    return [name for node in nodes for name in node.input[:2] if name in constants]


def _make_output_float(graph: onnx.GraphProto, name: str) -> None:
    """Take away the last QuantizeLinear and DequantizeLinear before an output: the Gemm before them gives float."""
    maker = {output: node for node in graph.node for output in node.output}
    user = dequantise = maker[name]
    while dequantise.op_type != "DequantizeLinear":
        user, dequantise = dequantise, maker[dequantise.input[0]]
    quantise = maker[dequantise.input[0]]
    if user is dequantise:
        maker[quantise.input[0]].output[0] = name
    else:
        user.input[0] = quantise.input[0]
    for node in (dequantise, quantise):
        graph.node.remove(node)
