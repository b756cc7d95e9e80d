from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from compile.inspect_qnn import inspect_binary
from compile.parity import measure
from compile.targets import compile_target, missing
from drivelake.declaration import Target
from drivelake.errors import InputError, ToolMissing
from drivelake.manifest import hash_folder

ROOT = Path(__file__).resolve().parents[2]
PORTABLE_FILES = {"model.onnx", "contract.json", "parity.json", "build.json"}
SNAPDRAGON_FILES = {"model_ctx.onnx", "model_ctx_qnn.bin", "contract.json", "parity.json", "build.json"}

AGAIN = """
import sys
from pathlib import Path
from compile.targets import compile_target
from drivelake.declaration import Target
checkpoint, dataset, *rest = map(Path, sys.argv[1:])
for out in rest:
    kind = out.name
    name = {"portable": "laptop", "snapdragon": "sa8255"}[kind]
    compile_target(name, Target(kind=kind, calibration_rows=32, parity_rows=24), checkpoint, dataset, out)
"""


def read(folder, name):
    return json.loads((folder / name).read_text())


@pytest.fixture(scope="module")
def again(checkpoint, dataset, tmp_path_factory):
    """Both targets once more: another process, working folder, output folder and hash seed."""
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    kinds = ["portable", "snapdragon"] if importlib.util.find_spec("onnxruntime_qnn") else ["portable"]
    folders = [elsewhere / "deeper" / kind for kind in kinds]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONHASHSEED": "4711"}
    arguments = [sys.executable, "-c", AGAIN, str(checkpoint), str(dataset), *map(str, folders)]
    subprocess.run(arguments, cwd=elsewhere, env=environment, check=True, timeout=300)
    return elsewhere / "deeper"


def test_the_folder_holds_the_declared_files(portable, snapdragon):
    assert {path.name for path in portable.folder.iterdir()} == PORTABLE_FILES
    assert {path.name for path in snapdragon.folder.iterdir()} == SNAPDRAGON_FILES


def test_a_portable_artefact_has_the_same_bytes_in_another_process_and_folder(portable, again):
    assert hash_folder(portable.folder) == hash_folder(again / "portable")


def test_a_snapdragon_artefact_has_the_same_bytes_in_another_process_and_folder(snapdragon, again):
    assert hash_folder(snapdragon.folder) == hash_folder(again / "snapdragon")


def test_no_file_names_a_path_of_this_machine(portable, snapdragon, checkpoint, dataset):
    foreign = [str(p).encode() for p in (ROOT, checkpoint, dataset, portable.folder, snapdragon.folder, Path(sys.prefix))]
    for path in (*portable.folder.iterdir(), *snapdragon.folder.iterdir()):
        raw = path.read_bytes()
        assert [name for name in foreign if name in raw] == [], path.name


@pytest.mark.parametrize("kind", ["portable", "snapdragon"])
def test_every_measured_number_follows_from_the_rows_in_parity_json(kind, request):
    artefact = request.getfixturevalue(kind)
    stored = read(artefact.folder, "parity.json")
    assert measure(stored["targets"]) == artefact.measured == {k: stored[k] for k in ("parity", "task", "per_target")}
    assert stored["rows"]["drive"] == ["drive_b"] * 24
    assert len(set(stored["rows"]["frame"])) == 24


@pytest.mark.parametrize("kind", ["portable", "snapdragon"])
def test_compiling_costs_the_task_little_and_something(kind, request):
    artefact = request.getfixturevalue(kind)
    for name, numbers in artefact.measured["per_target"].items():
        truth = read(artefact.folder, "parity.json")["targets"][name]["truth"]
        span = max(truth) - min(truth)
        assert 0 < numbers["parity"]["mean_abs"] <= numbers["parity"]["p99_abs"] <= numbers["parity"]["max_abs"] < 0.02 * span
        assert numbers["task"]["r2_float"] > 0.5
        assert abs(numbers["task"]["r2_drop"]) < 0.01


@pytest.mark.parametrize("kind", ["portable", "snapdragon"])
def test_the_contract_says_what_goes_in_and_comes_out(kind, request):
    contract = read(request.getfixturevalue(kind).folder, "contract.json")
    (image,) = contract["inputs"]
    assert (image["shape"], image["layout"], image["range"], image["colour_order"]) == ([1, 3, 48, 64], "NCHW", [0.0, 1.0], "RGB")
    assert [(o["name"], o["unit"]) for o in contract["outputs"]] == [("speed_mps", "m/s"), ("curvature_1pm", None)]
    assert (contract["preprocessing"]["width"], contract["preprocessing"]["height"]) == (64, 48)


def test_a_quantised_output_has_a_range_beyond_the_predictions_and_a_step_of_its_own(snapdragon):
    contract, parity = read(snapdragon.folder, "contract.json"), read(snapdragon.folder, "parity.json")
    for output in contract["outputs"]:
        predicted = parity["targets"][output["name"]]["float"]
        low, high = output["range"]
        assert low <= min(predicted) < max(predicted) < high
        assert output["resolution"] == pytest.approx((high - low) / 65535)
        assert output["resolution"] < (max(predicted) - min(predicted)) / 5000


def test_the_portable_outputs_are_float_and_unbounded(portable):
    assert [(o["range"], o["resolution"]) for o in read(portable.folder, "contract.json")["outputs"]] == [(None, None)] * 2


def test_build_json_describes_the_files_that_lie_beside_it(portable, snapdragon):
    for artefact in (portable, snapdragon):
        build = read(artefact.folder, "build.json")
        lying = {entry.path: {"bytes": entry.bytes, "sha256": entry.sha256} for entry in hash_folder(artefact.folder)}
        assert build["binaries"] == {name: lying[name] for name in build["binaries"]}
        assert build["intermediate"]["quantised.onnx"]["bytes"] < build["intermediate"]["float.onnx"]["bytes"] / 2


def test_where_it_was_executed_is_said_in_words(portable, snapdragon):
    assert read(portable.folder, "build.json")["executed_on"] == "ONNX Runtime CPU"
    said = read(snapdragon.folder, "build.json")["executed_on"]
    assert said == "HTP emulation on x86; no target silicon, no latency claim"
    assert said in snapdragon.heard[-1]


def test_the_versions_of_the_snapdragon_toolchain_come_from_the_binary(snapdragon):
    build, found = read(snapdragon.folder, "build.json"), inspect_binary(snapdragon.folder / "model_ctx_qnn.bin")
    assert build["toolchain"]["qairt"] == found["qairt"]
    assert build["carried"] == {"soc_model": 52, "dsp_arch": 73, "vtcm_bytes": 8 << 20, "optimisation_level": 3}


def test_an_output_folder_that_is_not_empty_is_refused(checkpoint, dataset, tmp_path):
    (tmp_path / "old.bin").touch()
    with pytest.raises(InputError, match=r"1 file\(s\), the first is old.bin"):
        compile_target("laptop", Target(kind="portable"), checkpoint, dataset, tmp_path)


@pytest.mark.parametrize(
    ("kind", "module", "command"),
    [
        ("snapdragon", "onnxruntime_qnn", "make snapdragon"),
        ("snapdragon", "onnxruntime_qnn", "pip install 'drivelake[snapdragon]'"),
        ("portable", "onnxruntime", "pip install drivelake"),
    ],
)
def test_what_is_missing_is_named_with_the_command_that_installs_it(kind, module, command, monkeypatch, tmp_path):
    real = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == module else real(name, *rest))
    target = Target(kind=kind)
    said = missing(target)
    assert said is not None
    assert module.replace("_", "-") in said
    assert command in said
    with pytest.raises(ToolMissing, match="is not installed"):
        compile_target("any", target, tmp_path, tmp_path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_emulation_is_not_claimed_on_another_architecture(qnn, monkeypatch):
    assert missing(Target(kind="snapdragon")) is None
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert "aarch64" in (missing(Target(kind="snapdragon")) or "")
    assert missing(Target(kind="portable")) is None
