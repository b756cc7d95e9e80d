"""Whatever is wrong with a declaration is said before anything runs, and names the key."""

import pytest

from drivelake.declaration import load_declaration, parse_declaration
from drivelake.demo import example
from drivelake.errors import DeclarationError

MINIMAL = """
lakehouse: tiny
owner: team:perception
rigs:
  car:
    reference: camera
    sensors:
      camera: {log: camera.mcap, channel: /camera, kind: payload}
      speed_mps: {log: can.mf4, channel: Speed}
"""


def refusal(text: str) -> str:
    with pytest.raises(DeclarationError) as caught:
        parse_declaration(text)
    return str(caught.value)


@pytest.mark.parametrize("name", ["generated", "donkeycar"])
def test_the_shipped_examples_load(name):
    assert parse_declaration(example(name)).datasets


def test_an_unknown_key_is_named_with_the_nearest_known_one():
    said = refusal(MINIMAL.replace("channel: Speed", "channel: Speed, tolerance: 5"))
    assert "'rigs.car.sensors.speed_mps.tolerance'" in said
    assert "did you mean 'tolerance_ms'?" in said


def test_an_unknown_key_at_the_top_is_named():
    assert "'dataset'; did you mean 'datasets'?" in refusal(MINIMAL + "dataset: {}\n")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (("reference: camera", "reference: camra"), "did you mean 'camera'?"),
        (("kind: payload", "kind: payload, rule: linear"), "cannot be interpolated"),
        (("channel: Speed", "channel: Speed, clock: can"), "clock 'can' is not declared"),
        (("owner: team:perception", "owner: perception"), "owner"),
        (("lakehouse: tiny", "lakehouse: Tiny Lake"), "lakehouse"),
    ],
)
def test_a_contradiction_is_named(change, words):
    assert words in refusal(MINIMAL.replace(*change))


def test_a_model_of_an_undeclared_dataset_is_named():
    said = refusal(MINIMAL + "datasets: {laps: {sql: x, payload: camera}}\nmodels: {m: {dataset: lap, targets: [a]}}\n")
    assert "did you mean 'laps'?" in said


def test_shares_that_do_not_make_a_whole_are_refused():
    said = refusal(MINIMAL + "datasets: {laps: {sql: x, payload: camera, split: {train: 0.9}}}\n")
    assert "is 1.3, it must be 1" in said


@pytest.mark.parametrize("bounds", ["{low: 2, high: 1}", "{low: 0, high: 1, log: true}"])
def test_a_range_to_search_must_be_one(bounds):
    model = f"m: {{dataset: laps, targets: [a], search: {{space: {{dropout: {bounds}}}}}}}"
    assert "range" in refusal(MINIMAL + f"datasets: {{laps: {{sql: x, payload: camera}}}}\nmodels: {{{model}}}\n")


def test_targets_without_gates_are_refused():
    assert "gates.checkpoint has no criterion" in refusal(MINIMAL + "targets: {portable: {kind: portable}}\n")


def test_no_yaml_and_no_mapping_are_told_apart():
    assert "is not YAML" in refusal("a: [")
    assert "holds list" in refusal("- a")


def test_a_missing_file_says_what_writes_one(tmp_path):
    with pytest.raises(DeclarationError, match="drivelake demo writes one"):
        load_declaration(tmp_path / "lakehouse.yaml")


def test_the_first_matching_rig_counts_and_no_match_lists_the_globs():
    declared = parse_declaration(MINIMAL.replace("    reference: camera\n", "    reference: camera\n    drives: car_*\n"))
    assert declared.rig_of("car_1")[0] == "car"
    with pytest.raises(DeclarationError, match=r"car: car_\*"):
        declared.rig_of("truck_1")
