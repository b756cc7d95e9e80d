from __future__ import annotations

import shutil

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from compile import snapdragon as htp
from compile.contract import check_ends
from compile.inspect_qnn import inspect_binary
from compile.quantise import quantise_qnn
from compile.reference import Pictures
from drivelake.declaration import Model, Target
from drivelake.errors import DeclarationError, DrivelakeError, VerificationFailed

TARGETS = ("speed_mps", "curvature_1pm")
MODEL = Model(dataset="tiny", targets=TARGETS, input_width=64, input_height=48, channels=8)

pytestmark = pytest.mark.usefixtures("qnn")


@pytest.fixture(scope="module")
def qdq(float_onnx, calibration):
    return quantise_qnn(float_onnx, calibration, TARGETS)


def test_the_binary_says_which_soc_and_architecture_it_is_for(snapdragon):
    found = inspect_binary(snapdragon.folder / htp.BINARY)
    assert (found["soc_model"], found["dsp_arch"], found["vtcm_bytes"]) == (52, 73, 8 << 20)
    assert [(t["name"], t["dtype"], t["shape"]) for t in found["inputs"]] == [("image", "float32", [1, 3, 48, 64])]
    assert [t["name"] for t in found["outputs"]] == list(TARGETS)


def test_a_binary_for_another_architecture_is_refused_with_both_numbers(qdq, tmp_path):
    with pytest.raises(VerificationFailed, match="carries dsp_arch 68, declared is dsp_arch 73"):
        htp.build(qdq, Target(kind="snapdragon", soc_model=39, dsp_arch=73), tmp_path)


def test_an_unknown_soc_fails_with_the_words_of_the_toolchain(qdq, tmp_path):
    with pytest.raises(DrivelakeError, match=r"build\) ended with 1; .*QNN_DEVICE_ERROR_INVALID_CONFIG"):
        htp.build(qdq, Target(kind="snapdragon", soc_model=9999), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("soc_model", "why"), [(63, "is Cloud AI 100"), (0, "stands for an unknown SoC"), (-1, "is negative")])
def test_a_number_that_stands_for_no_soc_is_refused(soc_model, why, tmp_path):
    with pytest.raises(DeclarationError, match=f"soc_model {soc_model} {why}"):
        htp.build(b"", Target(kind="snapdragon", soc_model=soc_model, dsp_arch=68), tmp_path)


def test_an_operator_that_the_htp_refuses_is_not_run_elsewhere(tmp_path):
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, 4, 4]) for name in ("image", "out")]
    graph = helper.make_graph([helper.make_node("Erf", ["image"], ["out"])], "refused", ends[:1], ends[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    with pytest.raises(DrivelakeError, match="fallback to CPU EP has been explicitly disabled"):
        htp.build(model.SerializeToString(), Target(kind="snapdragon"), tmp_path)


def test_a_toolchain_that_hangs_is_ended(qdq, tmp_path, monkeypatch):
    monkeypatch.setattr(htp, "BUILD_TIMEOUT_S", 0.01)
    with pytest.raises(DrivelakeError, match=r"\(build\) did not end within"):
        htp.build(qdq, Target(kind="snapdragon"), tmp_path)


def test_a_damaged_binary_is_not_executed(snapdragon, tmp_path):
    for name in (htp.CONTEXT, htp.BINARY):
        shutil.copy(snapdragon.folder / name, tmp_path / name)
    raw = (tmp_path / htp.BINARY).read_bytes()
    (tmp_path / htp.BINARY).write_bytes(raw[: len(raw) // 2])
    with pytest.raises(DrivelakeError, match=r"onnxruntime-qnn \(run\) ended with"):
        htp.run(tmp_path, Pictures(np.zeros((1, 48, 64, 3), np.uint8)), TARGETS)


def test_a_file_that_is_no_context_binary_is_refused_with_its_size(tmp_path):
    (tmp_path / "other.bin").write_bytes(b"not a binary" * 10)
    with pytest.raises(DrivelakeError, match=r"other.bin \(120 bytes\) is not a QNN context binary"):
        inspect_binary(tmp_path / "other.bin")


def test_a_binary_with_other_ends_than_promised_is_refused(snapdragon):
    found = inspect_binary(snapdragon.folder / htp.BINARY)
    check_ends(MODEL, found)
    with pytest.raises(VerificationFailed, match=r"speed_mps.*expected .*yaw_rate"):
        check_ends(MODEL.model_copy(update={"targets": ("yaw_rate",)}), found)
    with pytest.raises(VerificationFailed, match="inputs"):
        check_ends(MODEL.model_copy(update={"input_width": 65}), found)


def test_the_context_graph_names_the_binary_beside_it_and_nothing_else(snapdragon):
    graph = onnx.load(snapdragon.folder / htp.CONTEXT).graph
    (node,) = graph.node
    assert node.op_type == "EPContext"
    assert {a.name: a.s.decode() for a in node.attribute}["ep_cache_context"] == htp.BINARY
