"""Laws of the summary: its numbers are those of the files, the same chain gives the same data, what is absent is None."""

import json

import pytest

from drivelake.errors import VerificationFailed
from drivelake.evidence.summary import STATEMENT, summarise
from drivelake.evidence.summary_model import FEW_ROWS
from drivelake.evidence.verify import Problem


def summary_of(chain, **verification):
    artefact, versions = chain.build()
    return summarise(artefact, versions, chain.verification(**verification))


def by(rows, key, value):
    return next(row for row in rows if row[key] == value)


def test_the_same_chain_gives_the_same_summary_whatever_the_order_of_its_versions(descent):
    chain = descent()
    artefact, versions = chain.build()
    backwards = dict(reversed(versions.items()))
    assert summarise(artefact, versions, chain.verification()) == summarise(artefact, backwards, chain.verification())


def test_the_summary_is_json_without_nan_and_without_paths_of_this_machine(descent, tmp_path):
    text = json.dumps(summary_of(descent(), trust=str(tmp_path), log_size=7, statements=7), allow_nan=False)
    assert str(tmp_path) not in text


def test_what_moves_with_the_lake_is_not_in_the_summary(descent):
    chain = descent()
    assert summary_of(chain, log_size=7, statements=7) == summary_of(chain, log_size=900, statements=900)


def test_the_summary_carries_the_one_sentence_on_standards(descent):
    assert summary_of(descent())["statement"] == STATEMENT


def test_a_verdict_is_that_of_the_verification(descent):
    assert summary_of(descent())["verification"]["verdict"] == "VERIFIED"
    refused = summary_of(descent(), problems=[Problem("raw_logs/a", "is missing")])["verification"]
    assert refused["verdict"] == "NOT VERIFIED"
    assert refused["problems"] == [{"where": "raw_logs/a", "what": "is missing"}]
    assert summary_of(descent(), versions=0)["verification"]["verdict"] == "NOT VERIFIED"


def test_the_verification_of_something_else_is_refused(descent):
    chain, other = descent(), descent()
    artefact, versions = chain.build()
    other.gates["checkpoint"] = []
    other.build()
    with pytest.raises(VerificationFailed, match="expected soc_artefacts/steer@portable"):
        summarise(artefact, versions, other.verification())


def test_every_version_stands_in_the_order_the_data_flows_with_its_whole_digest(descent):
    chain = descent()
    lines = summary_of(chain)["versions"]
    assert [line["asset"] for line in lines][::3] == ["raw_logs", "signals", "sensor_frames", "curated_datasets"]
    assert {line["version"] for line in lines} == set(chain.versions)


def test_a_drive_shows_its_logs_with_the_digests_of_the_manifest(descent):
    chain = descent()
    chain.registered["raw_logs", "a"] = [
        {"path": "logs/can.mf4", "bytes": 5_000_000_000, "sha256": "a" * 64, "uri": "inbox:signals_01/can.mf4"}
    ]
    drive = by(summary_of(chain)["drives"], "drive", "a")
    entries = {
        entry.path: entry.sha256 for entry in next(v for v in chain.versions.values() if v.name == "raw_logs/a").manifest.files
    }
    camera, can = by(drive["logs"], "path", "logs/camera.mcap"), by(drive["logs"], "path", "logs/can.mf4")
    assert camera["sha256"] == entries["logs/camera.mcap"]
    assert (camera["registered"], camera["format"], camera["messages"]) == (False, "mcap", 900)
    assert (can["registered"], can["bytes"], can["messages"]) == (True, 5_000_000_000, None)
    assert (drive["split"], drive["rows"], drive["duration_s"]) == ("train", 97, 60.0)


def test_a_drive_shows_what_was_quarantined_and_why_it_was_left_out(descent):
    chain = descent(excluded={"b": "reference sensor 'camera' has no samples"})
    chain.files["raw_logs", "b"]["health.json"]["quarantined"] = {"camera.mcap": "chunk 3 has CRC 1, expected 2"}
    drive = by(summary_of(chain)["drives"], "drive", "b")
    assert drive["quarantined"] == [{"log": "camera.mcap", "reason": "chunk 3 has CRC 1, expected 2"}]
    assert drive["left_out"] == "reference sensor 'camera' has no samples"
    assert drive["rows"] is None


def test_clock_offsets_are_given_in_ms(descent):
    clocks = summary_of(descent())["time"]["drives"][0]["clocks"]
    assert by(clocks, "clock", "can")["offset_ms"] == pytest.approx(73.45)
    assert by(clocks, "clock", "can")["sigma_ms"] == 0.6
    assert by(clocks, "clock", "reference")["residual_ms"] is None


def test_a_clock_that_jumped_has_a_row_for_each_of_its_segments(descent):
    chain = descent()
    clock = chain.files["sensor_frames", "a"]["sync.json"]["clocks"]["can"]
    unknown = {"method": "not observable", "offset_ns": 0, "drift_ppm": 0.0, "reason": "NOT OBSERVABLE: it stood"}
    clock["segments"].append(unknown)
    clock["compared"] = {"largest_ms": 3.5}
    rows = [row for row in summary_of(chain)["time"]["drives"][0]["clocks"] if row["clock"] == "can"]
    assert [(row["segment"], row["segments"], row["method"]) for row in rows] == [(1, 2, "estimated"), (2, 2, "not observable")]
    assert [row["sigma_ms"] for row in rows] == [0.6, None]
    assert [row["reason"] for row in rows] == ["", "NOT OBSERVABLE: it stood"]
    assert {row["compared_ms"] for row in rows} == {3.5}


def test_a_clock_seen_in_too_few_windows_shows_neither_drift_nor_residual(descent):
    chain = descent()
    for drive, windows, drift_sigma_ppm in (("a", 1, None), ("b", 3, None), ("c", 4, 20.0)):
        (segment,) = chain.files["sensor_frames", drive]["sync.json"]["clocks"]["can"]["segments"]
        segment |= {"windows": [{"t_s": 1.0}] * windows, "drift_sigma_ppm": drift_sigma_ppm}
    shown = [by(drive["clocks"], "clock", "can") for drive in summary_of(chain)["time"]["drives"]]
    assert [clock["drift_ppm"] for clock in shown] == [None, None, 41.5]
    assert [clock["residual_p95_ms"] for clock in shown] == [None, 1.7, 1.7]
    assert {clock["offset_ms"] for clock in shown} == {73.45}


def test_sensors_are_summed_over_the_drives_that_gave_frames(descent):
    chain = descent(excluded={"b": "no camera"})
    chain.files["sensor_frames", "c"]["sync.json"]["sensors"]["speed"]["age_ms"]["p95"] = 9.5
    (sensor,) = summary_of(chain)["time"]["sensors"]
    assert (sensor["drives"], sensor["matched"], sensor["unmatched"]) == (2, 2 * 97, 2 * 3)
    assert (sensor["age_p95_worst_ms"], sensor["age_p95_worst_drive"]) == (9.5, "c")


def test_sensors_that_rigs_match_differently_are_not_summed_together(descent):
    chain = descent()
    chain.files["sensor_frames", "c"]["sync.json"]["sensors"]["speed"]["tolerance_ms"] = 10.0
    assert [(s["tolerance_ms"], s["drives"]) for s in summary_of(chain)["time"]["sensors"]] == [(10.0, 1), (50.0, 2)]


def test_nothing_shared_is_said_only_where_every_split_holds_something(descent):
    def verdicts(chain):
        return {check["what"]: check["verdict"] for check in summary_of(chain)["dataset"]["leakage"]}

    sound = {"raw_logs": "NONE FOUND", "pictures": "NONE FOUND", "times": "NONE FOUND", "near_duplicates": None}
    assert verdicts(descent()) == sound
    empty = descent(drives=("a", "b"))  # no drive for the test split
    empty.files["curated_datasets", "lane"]["card.json"]["leakage"]["distinct_pictures"]["test"] = 0
    assert verdicts(empty) == {**sound, "raw_logs": None, "pictures": None}
    silent = descent()
    del silent.files["curated_datasets", "lane"]["card.json"]["leakage"]
    assert set(verdicts(silent).values()) == {None}
    nameless = descent()
    nameless.facts["raw_logs", "b"]["vehicle"] = ""
    assert verdicts(nameless) == {**sound, "times": None}
    leaking = descent()
    leaking.files["curated_datasets", "lane"]["card.json"]["leakage"]["shared"]["pictures"] = ["train and test share 2"]
    assert verdicts(leaking) == {**sound, "pictures": "SHARED"}


def test_slices_say_where_they_have_few_rows_and_where_none(descent):
    values = {v["value"]: v for v in summary_of(descent())["metrics"]["slices"][0]["values"]}
    assert values["day"]["note"] == ""
    assert (values["night"]["test"], values["night"]["note"]) == (12, "few rows")
    assert (values["(none)"]["test"], values["(none)"]["note"], values["(none)"]["r2"]) == (0, None, None)
    assert FEW_ROWS == 30


def test_a_slice_value_that_only_the_card_knows_is_not_dropped(descent):
    chain = descent()
    chain.files["curated_datasets", "lane"]["card.json"]["slices"]["light"]["dusk"] = {"train": 3, "validation": 0, "test": 0}
    values = {v["value"]: v for v in summary_of(chain)["metrics"]["slices"][0]["values"]}
    assert values["dusk"]["note"] is None


def test_the_chosen_trial_and_the_kept_epoch_are_those_of_the_least_validation_loss(descent):
    training = summary_of(descent())["training"]
    assert training["chosen_trial"] == 0  # trial 1 has less, but was stopped early
    assert training["best_epoch"] == 1
    assert {"name": "learning_rate", "declared": 0.001, "used": 0.0021} in training["parameters"]


@pytest.mark.parametrize(
    ("criteria", "verdict", "rows"),
    [
        ([{"value": "test.network.r2", "min": 0.5}], "PASS", ["PASS"]),
        ([{"value": "test.network.r2", "min": 0.9}], "FAIL", ["FAIL"]),
        ([{"value": "test.network.r2", "min": 0.5}, {"value": "test.nothing", "max": 1}], None, ["PASS", None]),
        ([{"value": "test.network.r2", "min": 0.9}, {"value": "test.nothing", "max": 1}], "FAIL", ["FAIL", None]),
        ([], None, []),
    ],
)
def test_gates_are_judged_again_on_the_published_numbers(descent, criteria, verdict, rows):
    chain = descent()
    chain.gates["checkpoint"] = criteria
    gate = by(summary_of(chain)["gates"], "gate", "checkpoint")
    assert (gate["verdict"], [row["verdict"] for row in gate["criteria"]]) == (verdict, rows)


def test_an_artefact_without_recorded_gates_shows_none_as_passed(descent):
    chain = descent()
    chain.gates = None
    assert [gate["verdict"] for gate in summary_of(chain)["gates"]] == [None, None]


def test_criteria_that_are_none_are_an_error_not_a_pass(descent):
    chain = descent()
    chain.gates["artefact"] = [{"value": "parity.mean_abs"}]
    with pytest.raises(VerificationFailed, match="gate 'artefact'"):
        summary_of(chain)


def test_a_binary_is_compared_with_the_manifest(descent):
    chain = descent()
    assert by(summary_of(chain)["compile"]["sizes"], "name", "model.onnx")["agrees"] is True
    chain.files["soc_artefacts", "steer@portable"]["build.json"]["binaries"]["model.onnx"]["sha256"] = "0" * 64
    assert by(summary_of(chain)["compile"]["sizes"], "name", "model.onnx")["agrees"] is False
    assert by(summary_of(chain)["compile"]["sizes"], "name", "float.onnx")["agrees"] is None


def test_tools_are_named_once_with_every_step_that_used_them(descent):
    tools = summary_of(descent())["tools"]
    assert by(tools, "name", "torch")["steps"] == ["checkpoints", "soc_artefacts"]
    assert by(tools, "name", "onnxruntime")["steps"] == ["soc_artefacts"]
    assert len({(tool["name"], tool["version"]) for tool in tools}) == len(tools)


@pytest.mark.parametrize(
    "file", ["card.json", "metrics.json", "model.json", "curve.json", "study.json", "parity.json", "contract.json", "build.json"]
)
def test_a_file_that_is_missing_leaves_its_numbers_none(descent, file):
    chain = descent()
    for files in chain.files.values():
        files.pop(file, None)
    json.dumps(summary_of(chain), allow_nan=False)


def test_not_a_number_counts_as_not_measured(descent):
    chain = descent()
    chain.files["checkpoints", "steer"]["metrics.json"]["test"]["network"] = {"r2": float("nan")}
    summary = summary_of(chain)
    assert by(summary["gates"], "gate", "checkpoint")["verdict"] is None
    json.dumps(summary, allow_nan=False)


def test_a_damaged_file_is_named(descent):
    chain = descent()
    chain.files["checkpoints", "steer"]["metrics.json"] = b"{"
    with pytest.raises(VerificationFailed, match=r"checkpoints/steer/metrics\.json"):
        summary_of(chain)


def test_a_chain_that_was_cut_off_reads_none_not_an_error(descent):
    chain = descent()
    artefact, _ = chain.build()
    summary = summarise(artefact, {artefact.digest: artefact}, chain.verification())
    assert (summary["dataset"], summary["training"], summary["metrics"]) == (None, None, None)
    assert by(summary["gates"], "gate", "checkpoint")["verdict"] is None
