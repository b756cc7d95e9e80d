from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch

from compile.export import export_onnx
from compile.quantise import OUTPUT_SPAN, Scale, float_nodes, output_scale, quantise_portable, quantise_qnn
from compile.reference import predict
from drivelake.declaration import Model
from drivelake.errors import DrivelakeError

TARGETS = ("speed_mps", "curvature_1pm")
MODEL = Model(dataset="tiny", targets=TARGETS, input_width=64, input_height=48, channels=8)


@pytest.fixture(scope="module")
def for_qnn(float_onnx, calibration):
    return quantise_qnn(float_onnx, calibration, TARGETS)


@pytest.fixture(scope="module")
def for_cpu(float_onnx, calibration):
    return quantise_portable(float_onnx, calibration, TARGETS)


def integer_types(raw):
    graph = onnx.load_from_string(raw).graph
    types = {i.name: onnx.TensorProto.DataType.Name(i.data_type) for i in graph.initializer}
    activations = {types[node.input[2]] for node in graph.node if node.op_type == "QuantizeLinear"}
    weights = {
        types[n.input[0]] for n in graph.node if n.op_type == "DequantizeLinear" and n.input[0].endswith("weight_quantized")
    }
    return activations, weights


def test_the_htp_gets_16_bit_activations_and_8_bit_weights(for_qnn):
    assert integer_types(for_qnn) == ({"UINT16"}, {"INT8"})


def test_a_cpu_gets_8_bits_for_both(for_cpu):
    assert integer_types(for_cpu) == ({"UINT8"}, {"UINT8"})


def zero_points(raw, layer):
    """By weight: how many scales it has, and its zero points."""
    graph = onnx.load_from_string(raw).graph
    values = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    nodes = [n for n in graph.node if n.op_type == "DequantizeLinear" and layer in n.input[0] and "weight" in n.input[0]]
    return [(values[n.input[1]].size, set(values[n.input[2]].ravel().tolist())) for n in nodes]


def test_weights_are_symmetric_and_those_of_convolutions_per_channel(for_cpu, for_qnn):
    assert zero_points(for_cpu, "features") == [(8, {128}), (16, {128}), (32, {128}), (32, {128})]
    assert zero_points(for_qnn, "features") == [(8, {0}), (16, {0}), (32, {0}), (32, {0})]


def test_matrices_for_the_htp_are_per_tensor(for_qnn):
    assert zero_points(for_qnn, "heads") == [(1, {0}), (1, {0})]


def test_nothing_on_the_htp_computes_in_float(for_qnn):
    assert float_nodes(onnx.load_from_string(for_qnn).graph) == []


def test_nodes_that_compute_in_float_are_found(float_onnx):
    graph = onnx.load_from_string(float_onnx).graph
    found = float_nodes(graph)
    assert any("Conv" in name for name in found)
    assert any("Gemm" in name for name in found)


def test_every_output_has_a_scale_that_holds_twice_the_span_of_the_calibration(for_qnn, float_onnx, calibration):
    predicted = predict(float_onnx, calibration, TARGETS)
    for at, name in enumerate(TARGETS):
        scale = output_scale(for_qnn, name)
        low, high = float(predicted[:, at].min()), float(predicted[:, at].max())
        spare = (high - low) * (OUTPUT_SPAN - 1) / 2
        # zero stays representable, hence min and max with it
        assert scale.lowest == pytest.approx(min(low - spare, 0), abs=2 * scale.scale)
        assert scale.highest == pytest.approx(max(high + spare, 0), abs=2 * scale.scale)


def test_an_output_for_a_cpu_is_float(for_cpu):
    assert [output_scale(for_cpu, name) for name in TARGETS] == [None, None]


def test_the_range_of_a_scale_follows_from_its_type():
    scale = Scale(scale=0.5, zero_point=10, dtype="uint8")
    assert (scale.lowest, scale.highest) == (-5.0, 122.5)


def test_a_small_target_beside_a_large_one_keeps_its_precision(for_qnn, for_cpu, float_onnx, calibration):
    reference = predict(float_onnx, calibration, TARGETS)
    for raw in (for_qnn, for_cpu):
        deviation = np.abs(predict(raw, calibration, TARGETS) - reference).mean(axis=0) / reference.std(axis=0)
        assert deviation.max() < 0.05, deviation


def test_a_bias_that_int32_cannot_hold_is_refused(network, calibration):
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.head[-1].weight *= 1e-6
        other.head[-1].bias.fill_(1.0)
    with pytest.raises(DrivelakeError, match="does not fit into int32"):
        quantise_portable(export_onnx(other, MODEL), calibration, TARGETS)
