from __future__ import annotations

import copy

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from compile.export import DEVIATION_MAX, OPSET, canonical, check_export, export_onnx
from compile.reference import Pictures, predict
from drivelake.declaration import Model
from drivelake.errors import DrivelakeError
from drivelake.learning.data import load_split

MODEL = Model(dataset="tiny", targets=("speed_mps", "curvature_1pm"), input_width=64, input_height=48, channels=8)


@pytest.fixture(scope="module")
def pictures(dataset):
    return Pictures(load_split(dataset, MODEL, "validation", rows_max=8).images)


def test_the_graph_has_one_picture_in_and_one_output_a_target(float_onnx):
    model = onnx.load_from_string(float_onnx)
    ends = [(v.name, [d.dim_value for d in v.type.tensor_type.shape.dim]) for v in (*model.graph.input, *model.graph.output)]
    assert ends == [("image", [1, 3, 48, 64]), ("speed_mps", [1, 1]), ("curvature_1pm", [1, 1])]
    assert [(o.domain, o.version) for o in model.opset_import] == [("", OPSET)]
    assert not [i.name for i in model.graph.initializer if i.data_location == onnx.TensorProto.EXTERNAL]


def test_the_graph_says_what_torch_says_on_real_pictures(float_onnx, network, pictures):
    assert check_export(float_onnx, network, MODEL, pictures) < DEVIATION_MAX / 10


def test_a_graph_of_other_weights_is_refused_with_the_deviation(float_onnx, network, pictures):
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.head[-1].bias += 0.01
    with pytest.raises(DrivelakeError, match=r"by 1\.00e-02 standard deviations of a target on 8 rows, expected below 1e-04"):
        check_export(float_onnx, other, MODEL, pictures)


def test_a_graph_that_gives_nan_is_refused(float_onnx, network, pictures):
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.head[-1].bias.fill_(float("nan"))
    with pytest.raises(DrivelakeError, match="by nan"):
        check_export(float_onnx, other, MODEL, pictures)


def test_a_network_that_does_not_end_in_a_linear_layer_is_refused(network):
    other = copy.deepcopy(network)
    other.head.append(nn.Tanh())
    with pytest.raises(DrivelakeError, match="ends in Tanh, expected Linear"):
        export_onnx(other, MODEL)


def test_canonical_bytes_keep_the_computation_and_drop_what_varies(float_onnx, pictures):
    noisy = onnx.load_from_string(float_onnx)
    noisy.doc_string, noisy.producer_version = "made today", "9.9"
    noisy.graph.node[0].doc_string = "line 18 of a file"
    noisy.graph.node[0].metadata_props.add(key="pkg.torch.onnx.stack_trace", value="a path")
    assert canonical(noisy) == float_onnx
    assert b"stack_trace" not in float_onnx


def test_pictures_are_converted_by_the_rule_of_the_training():
    image = np.zeros((1, 2, 3, 3), np.uint8)
    image[0, 1, 2] = (255, 51, 0)
    (picture,) = Pictures(image)
    assert (picture.shape, picture.dtype) == ((1, 3, 2, 3), np.float32)
    np.testing.assert_array_equal(picture[0, :, 1, 2], np.array([1, 0.2, 0], np.float32))


def test_predictions_come_in_the_order_asked_for(float_onnx, pictures):
    there, back = predict(float_onnx, pictures, MODEL.targets), predict(float_onnx, pictures, MODEL.targets[::-1])
    np.testing.assert_array_equal(there, back[:, ::-1])
    assert there.dtype == np.float32
