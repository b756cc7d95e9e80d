"""Laws of the learning room on a tiny drawn dataset: a bright bar whose place is the target."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import simplejpeg
import torch
from dagster_pipes import encode_param
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.declaration import Model
from drivelake.errors import DatasetError, DrivelakeError, InputError
from drivelake.learning import _train_in_a_process, learn, tune
from drivelake.learning.baselines import fit_ridge, grey_pixels
from drivelake.learning.data import load_split
from drivelake.learning.evaluate import evaluate, measure
from drivelake.learning.model import as_input, build_model, load_checkpoint, reproducible
from drivelake.learning.plots import learning_curve_svg, scatter_svg
from drivelake.learning.train import Worker, _augment, _reporter, main, train
from drivelake.learning.tune import search

ROOT = Path(__file__).parents[3]
WIDTH, HEIGHT = 64, 48
SPLIT_OF = {"a": "train", "b": "train", "c": "train", "d": "validation", "e": "test", "f": "test", "g": "test"}
ROWS = 40

MODEL = Model.model_validate(
    {
        "dataset": "bars",
        "targets": ["steering"],
        "input_width": WIDTH // 2,
        "input_height": HEIGHT // 2,
        "channels": 8,
        "training": {"epochs": 10, "batch_size": 16, "learning_rate": 0.01, "dropout": 0.0},
    }
)


def picture(at: float) -> bytes:
    """A dark picture with a bright bar, from the left edge (-1) to the right edge (1)."""
    image = np.full((HEIGHT, WIDTH, 3), 40, np.uint8)
    left = round((at + 1) / 2 * (WIDTH - 8))
    image[:, left : left + 8] = 220
    return simplejpeg.encode_jpeg(image, quality=90)


@pytest.fixture(scope="module")
def dataset(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("bars")
    (folder / "shards").mkdir()
    random = np.random.default_rng(0)
    rows, shard = [], bytearray()
    for drive, split in SPLIT_OF.items():
        for frame in range(ROWS):
            at = float(random.uniform(-1, 1))
            jpeg = picture(at)
            side = None if frame == 0 else "left" if at < 0 else "right"
            row = {"drive": drive, "frame": frame, "t_ns": frame, "split": split, "steering": at, "speed": 3.0}
            row |= {"slice_side": side, "slice_set": split, "shard": "shards/00000.bin", "offset": len(shard), "bytes": len(jpeg)}
            rows.append(row)
            shard += jpeg
    rows[1]["steering"] = None  # of drive a, train
    (folder / "shards" / "00000.bin").write_bytes(bytes(shard))
    pq.write_table(pa.Table.from_pylist(rows), folder / "rows.parquet")
    return folder


@pytest.fixture(scope="module")
def checkpoint(dataset, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("checkpoint")
    train(dataset, MODEL, out)
    return out


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def run_script(dataset: Path, out: Path, *launcher: str) -> subprocess.CompletedProcess[str]:
    declared = out.parent / f"{out.name}.json"
    declared.write_text(MODEL.model_dump_json())
    arguments = ["-m", "drivelake.learning.train", "--dataset", dataset, "--model", declared, "--out", out]
    return subprocess.run([*launcher, *map(str, arguments)], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)


def torchrun(processes: int) -> tuple[str, ...]:
    return (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes))


# data


def test_rows_without_a_target_are_no_samples_and_are_counted(dataset):
    samples = load_split(dataset, MODEL, "train")
    assert (len(samples), samples.without_target) == (3 * ROWS - 1, 1)
    assert samples.images.shape == (119, HEIGHT // 2, WIDTH // 2, 3)
    assert samples.rows["steering"].null_count == 0


def test_a_selection_is_evenly_spaced_and_repeats(dataset):
    few, again = (load_split(dataset, MODEL, "train", rows_max=30, seed=5) for _ in range(2))
    assert len(few) == 30
    assert few.rows.equals(again.rows)
    np.testing.assert_array_equal(few.images, again.images)
    assert {few.rows["drive"].to_pylist().count(drive) for drive in "abc"} == {10}


def test_the_size_of_the_input_is_reached_from_any_picture(dataset):
    odd = MODEL.model_copy(update={"input_width": 50, "input_height": 19})
    samples = load_split(dataset, odd, "test")
    assert samples.images.shape[1:] == (19, 50, 3)
    bar = samples.images.astype(float).sum(axis=(1, 3)).argmax(axis=1)
    assert np.corrcoef(bar, samples.targets[:, 0])[0, 1] > 0.97  # a bar is a fifth of the smallest shift that 50 columns can show


def test_an_unknown_target_names_the_nearest_column(dataset):
    with pytest.raises(DatasetError, match=r"'steerin'.*'steering'"):
        load_split(dataset, MODEL.model_copy(update={"targets": ("steerin",)}), "train")


def test_a_split_without_samples_is_an_error_with_numbers(dataset):
    with pytest.raises(DatasetError, match="'holdout' has 0 samples: 0 rows"):
        load_split(dataset, MODEL, "holdout")


@pytest.mark.parametrize("damage", ["cut", "garbled", "gone"])
def test_a_damaged_shard_is_named(dataset, tmp_path, damage):
    (tmp_path / "shards").mkdir()
    (tmp_path / "rows.parquet").write_bytes((dataset / "rows.parquet").read_bytes())
    shard = (dataset / "shards" / "00000.bin").read_bytes()
    if damage != "gone":
        (tmp_path / "shards" / "00000.bin").write_bytes(shard[:-10] if damage == "cut" else bytes(len(shard)))
    with pytest.raises(DatasetError, match=r"shards/00000\.bin"):
        load_split(tmp_path, MODEL, "test")


# model


@given(
    width=st.integers(16, 200),
    height=st.integers(16, 200),
    targets=st.integers(1, 3),
    channels=st.sampled_from([4, 8]),
)
@settings(max_examples=15, deadline=None)
def test_every_declared_size_gives_one_output_a_target(width, height, targets, channels):
    names = [f"t{n}" for n in range(targets)]
    model = Model(dataset="d", targets=names, input_width=width, input_height=height, channels=channels)
    network = build_model(model, target_mean=[7.0] * targets, target_std=[0.0] * targets).eval()
    assert torch.equal(network(torch.rand(2, 3, height, width)), torch.full((2, targets), 7.0))


def test_a_checkpoint_comes_back_as_it_was_saved(checkpoint, dataset):
    network, model = load_checkpoint(checkpoint)
    assert model == MODEL
    assert not network.training
    described = json.loads((checkpoint / "model.json").read_text())
    truth = load_split(dataset, MODEL, "train").targets
    assert described["target_mean"] == pytest.approx(truth.mean(axis=0).tolist(), abs=1e-6)
    assert network.target_std.tolist() == pytest.approx(described["target_std"])


def test_weights_of_another_model_are_refused(checkpoint, tmp_path):
    (tmp_path / "weights.pt").write_bytes((checkpoint / "weights.pt").read_bytes())
    described = json.loads((checkpoint / "model.json").read_text())
    (tmp_path / "model.json").write_text(json.dumps({**described, "channels": 12}))
    with pytest.raises(InputError, match="not a checkpoint"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize("damage", [b"", b"nothing of the kind", None])
@pytest.mark.parametrize("name", ["weights.pt", "model.json"])
def test_damaged_checkpoints_are_refused(checkpoint, tmp_path, name, damage):
    for path in (checkpoint / "weights.pt", checkpoint / "model.json"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / name).write_bytes((tmp_path / name).read_bytes()[:-40] if damage is None else damage)
    with pytest.raises(InputError, match="not a checkpoint"):
        load_checkpoint(tmp_path)


def test_settings_of_torch_are_restored():
    before = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled(), torch.get_rng_state()
    with reproducible(3):
        torch.rand(1)
        assert torch.are_deterministic_algorithms_enabled()
    assert (torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()) == before[:2]
    assert torch.equal(torch.get_rng_state(), before[2])


# train


def test_augmentation_mirrors_and_shifts_what_it_is_told_to():
    images = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)
    rows, still = np.array([2, 0]), np.full((2, 5), 0.5)
    out = _augment(images, rows, still, np.array([False, True]))
    plain = as_input(images)
    assert torch.equal(out[0], plain[2])
    assert torch.equal(out[1], plain[0].flip(-1))
    moved = _augment(images, rows, np.tile([0.5, 1.0, 0.5, 0.5, 0.5], (2, 1)), np.array([False, False]))
    assert torch.equal(moved[0, :, :, :-1], plain[2, :, :, 1:])  # 2 % of 64, rounded


def test_training_learns_where_the_bar_is(checkpoint, dataset):
    metrics, _ = evaluate(dataset, MODEL, load_checkpoint(checkpoint)[0])
    assert metrics["test"]["network"]["r2"] > 0.9
    curve = json.loads((checkpoint / "curve.json").read_text())
    assert [point["epoch"] for point in curve] == list(range(10))
    assert curve[-1]["validation_loss"] < curve[0]["validation_loss"]


@pytest.mark.slow
def test_the_same_training_gives_the_same_bytes_in_another_folder_and_under_torchrun(checkpoint, dataset, tmp_path):
    done = run_script(dataset, tmp_path / "elsewhere", *torchrun(1))
    assert done.returncode == 0, done.stderr
    assert "epoch 10/10" in done.stdout
    for name in ("weights.pt", "model.json", "curve.json"):
        assert digest(tmp_path / "elsewhere" / name) == digest(checkpoint / name)


def test_another_seed_gives_other_weights(checkpoint, dataset, tmp_path):
    training = MODEL.training.model_copy(update={"seed": 1, "epochs": 1})
    train(dataset, MODEL.model_copy(update={"training": training}), tmp_path)
    assert digest(tmp_path / "weights.pt") != digest(checkpoint / "weights.pt")


@pytest.mark.slow
def test_two_processes_train_one_sound_model(dataset, tmp_path):
    done = run_script(dataset, tmp_path / "two", *torchrun(2))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("epoch 1/10") == 1
    network, _ = load_checkpoint(tmp_path / "two")
    assert evaluate(dataset, MODEL, network)[0]["test"]["network"]["r2"] > 0.9


def test_the_script_ends_with_the_exit_code_of_the_error(tmp_path, monkeypatch, capsys):
    (tmp_path / "model.json").write_text(MODEL.model_dump_json())
    given = ["train", "--dataset", tmp_path, "--model", tmp_path / "model.json", "--out", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", [str(argument) for argument in given])
    assert main() == DatasetError.exit_code
    assert "rows.parquet" in capsys.readouterr().err


def test_a_training_that_diverges_says_so(dataset, tmp_path):
    training = MODEL.training.model_copy(update={"learning_rate": 1e30, "epochs": 1})
    with pytest.raises(DrivelakeError, match=r"diverged.*epoch 1.*1e\+30"):
        train(dataset, MODEL.model_copy(update={"training": training}), tmp_path)
    assert not list(tmp_path.iterdir())


def test_only_rank_zero_opens_pipes_and_logs_its_lines(tmp_path, monkeypatch, capsys):
    unset = dict.fromkeys(("asset_keys", "code_version_by_asset_key", "provenance_by_asset_key", "partition_key"))
    unset |= dict.fromkeys(("partition_key_range", "partition_time_window", "job_name"))
    (tmp_path / "context").write_text(json.dumps({**unset, "run_id": "r", "retry_number": 0, "extras": {}}))
    monkeypatch.setenv("DAGSTER_PIPES_CONTEXT", encode_param({"path": str(tmp_path / "context")}))
    monkeypatch.setenv("DAGSTER_PIPES_MESSAGES", encode_param({"path": str(tmp_path / "messages")}))
    with _reporter(Worker(rank=1, count=2)) as report:
        report("from the second")
    assert not (tmp_path / "messages").exists()
    with _reporter(Worker(rank=0, count=2)) as report:
        report("epoch 1/1")
    logged = [json.loads(line) for line in (tmp_path / "messages").read_text().splitlines()]
    assert [m["params"]["message"] for m in logged if m["method"] == "log"] == ["epoch 1/1"]
    assert capsys.readouterr().out == "from the second\nepoch 1/1\n"


# tune

SEARCHED = MODEL.model_copy(
    update={
        "search": Model.model_validate(
            {
                **MODEL.model_dump(),
                "search": {
                    "trials": 4,
                    "epochs": 2,
                    "space": {"learning_rate": {"low": 1e-4, "high": 0.1, "log": True}, "dropout": {"low": 0.0, "high": 0.5}},
                },
            }
        ).search
    }
)

KILLED = """
import os, signal, sys
from pathlib import Path
from drivelake.declaration import Model
from drivelake.learning import tune
fit, calls = tune.fit, []
def killed(*args, **kwargs):
    calls.append(1)
    if len(calls) == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return fit(*args, **kwargs)
tune.fit = killed
tune.search(Path(sys.argv[1]), Model.model_validate_json(sys.argv[2]), Path(sys.argv[3]), study_key="k")
"""


@pytest.fixture(scope="module")
def unbroken(dataset, tmp_path_factory):
    return search(dataset, SEARCHED, tmp_path_factory.mktemp("study") / "study.sqlite", study_key="k")


@pytest.mark.slow
def test_a_study_that_was_killed_ends_as_an_unbroken_one(dataset, tmp_path, unbroken, monkeypatch):
    path = tmp_path / "study.sqlite"
    command = [sys.executable, "-c", KILLED, str(dataset), SEARCHED.model_dump_json(), str(path)]
    assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
    monkeypatch.setattr(tune, "GRACE_S", 1)
    lines: list[str] = []
    assert search(dataset, SEARCHED, path, study_key="k", progress=lines.append) == unbroken
    assert any("left running" in line for line in lines)
    assert not any(line.startswith("trial 1/4") for line in lines)


@pytest.mark.filterwarnings("ignore:Heartbeat of storage")
def test_a_trial_that_was_killed_before_its_first_sign_of_life_is_taken_up_again(dataset, tmp_path, unbroken, monkeypatch):
    monkeypatch.setattr(tune, "GRACE_S", 1)
    path = tmp_path / "study.sqlite"
    study = tune._open_study(tune._storage(path), "k")
    tune._enqueue_declared(study, SEARCHED.training, SEARCHED.search)
    study.ask()  # runs, as far as the storage knows, and no heartbeat is recorded
    assert search(dataset, SEARCHED, path, study_key="k")[0] == unbroken[0]


def test_a_finished_study_is_not_run_again_and_another_key_begins_afresh(dataset, tmp_path, unbroken, monkeypatch):
    path = tmp_path / "study.sqlite"
    search(dataset, SEARCHED, path, study_key="k")
    asked = []
    monkeypatch.setattr(tune, "fit", lambda *args, **kwargs: asked.append(1) or pytest.fail("it trained"))
    assert search(dataset, SEARCHED, path, study_key="k") == unbroken
    assert not asked
    with pytest.raises(pytest.fail.Exception):
        search(dataset, SEARCHED, path, study_key="other")


def test_the_declared_values_are_the_first_trial_and_the_best_are_taken(unbroken):
    chosen, trials = unbroken
    assert trials[0]["params"] == {"dropout": 0.0, "learning_rate": 0.01}
    best = min((t for t in trials if t["state"] == "complete"), key=lambda t: t["validation_loss"])
    assert chosen.training.learning_rate == best["params"]["learning_rate"]
    assert chosen.training.epochs == MODEL.training.epochs


# baselines


def test_ridge_is_the_closed_form_of_its_definition(dataset):
    samples, validation = load_split(dataset, MODEL, "train"), load_split(dataset, MODEL, "validation")
    ridge = fit_ridge(samples, validation)
    pixels = (grey_pixels(samples.images) - ridge.pixel_mean) / ridge.pixel_std
    truth = samples.targets[:, 0].astype(float)
    gram = pixels.T @ pixels + ridge.penalty[0] * np.eye(pixels.shape[1])
    expected = np.linalg.solve(gram, pixels.T @ (truth - truth.mean()))
    np.testing.assert_allclose(ridge.weights[:, 0], expected, atol=1e-8)


@given(st.integers(16, 90), st.integers(16, 90))
@settings(max_examples=15, deadline=None)
def test_grey_pixels_keep_the_mean_of_the_picture(height, width):
    images = np.random.default_rng(height).integers(0, 256, (2, height, width, 3), dtype=np.uint8)
    luma = images @ np.array([0.299, 0.587, 0.114]) / 255
    small = grey_pixels(images)
    assert small.shape == (2, 1200)
    np.testing.assert_allclose(small.mean(axis=1), luma.mean(axis=(1, 2)), rtol=1e-5)


# evaluate

VALUES = st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=30)


@given(VALUES)
def test_a_perfect_prediction_has_r2_one_or_none(values):
    truth = np.array(values, np.float32)[:, None]
    got = measure(truth, truth, np.arange(len(truth)))
    assert got["r2"] == (1 if len(set(values)) > 1 else None)
    assert got["rmse"] == got["mae"] == 0


@given(VALUES)
def test_the_mean_has_r2_zero_on_what_it_was_taken_from(values):
    truth = np.array(values, np.float32).astype(np.float64)[:, None]
    got = measure(truth, np.full_like(truth, truth.mean()), np.zeros(len(truth), np.int64))
    assert got["r2"] is None or got["r2"] == pytest.approx(0, abs=1e-6)
    assert got["r2_low"] is got["r2_high"] is None  # one drive says nothing about others


def test_the_interval_holds_the_value_and_narrows_with_more_drives():
    random = np.random.default_rng(1)

    def width(drives: int) -> float:
        truth = random.normal(size=(drives * 20, 1)).astype(np.float32)
        noisy = truth + random.normal(scale=0.5, size=truth.shape).astype(np.float32)
        got = measure(truth, noisy, np.repeat(np.arange(drives), 20))
        assert got["r2_low"] < got["r2"] < got["r2_high"]
        return got["r2_high"] - got["r2_low"]

    assert width(100) < width(4)


@pytest.fixture(scope="module")
def judged(dataset, checkpoint):
    return evaluate(dataset, MODEL, load_checkpoint(checkpoint)[0])


def test_the_mean_baseline_has_r2_zero_on_its_own_train_split(judged):
    assert judged[0]["train"]["mean"]["r2"] == pytest.approx(0, abs=1e-6)


def test_slices_add_up_to_their_split_and_empty_ones_are_listed(judged):
    metrics, _ = judged
    for values in metrics["slices"].values():
        for split in ("train", "validation", "test"):
            assert sum(value[split]["n"] for value in values.values()) == metrics[split]["n"]
    assert set(metrics["slices"]["side"]) == {"left", "right", "null"}
    assert metrics["slices"]["set"]["train"]["test"] == {"n": 0, "network": {"r2": None, "rmse": None, "mae": None}}


def test_metrics_are_json_without_nan_and_one_target_is_its_own_average(judged):
    metrics, _ = judged
    assert json.loads(json.dumps(metrics, allow_nan=False)) == metrics
    assert metrics["per_target"]["steering"]["test"]["network"] == metrics["test"]["network"]
    test = metrics["test"]
    assert (test["n"], test["drives"], metrics["train"]["without_target"]) == (120, 3, 1)
    assert test["network_minus_ridge"]["r2"] == pytest.approx(test["network"]["r2"] - test["ridge"]["r2"], abs=2e-6)
    assert metrics["validation"]["network"]["r2_low"] is None  # one drive


def test_predictions_give_the_metrics_again(judged):
    metrics, predictions = judged
    table = predictions.filter(pa.compute.equal(predictions["split"], "test"))
    error = table["steering"].to_numpy() - table["steering_predicted"].to_numpy()
    assert np.sqrt(np.mean(error.astype(float) ** 2)) == pytest.approx(metrics["test"]["network"]["rmse"])
    assert predictions.num_rows == len(SPLIT_OF) * ROWS - 1


# learn


def test_learning_is_searching_training_and_judging_and_gives_the_same_bytes(dataset, tmp_path):
    brief = SEARCHED.search.model_copy(update={"trials": 2, "epochs": 1})
    short = SEARCHED.model_copy(update={"search": brief, "training": MODEL.training.model_copy(update={"epochs": 2})})
    out, again, lines = tmp_path / "out", tmp_path / "again", []
    metrics = learn(dataset, short, out, study_path=tmp_path / "study.sqlite", study_key="k", progress=lines.append)
    assert sorted(path.name for path in out.iterdir()) == sorted(
        ["weights.pt", "model.json", "curve.json", "study.json", "metrics.json", "predictions.parquet"]
    )
    assert [line.split(":")[0] for line in lines if line.startswith(("trial", "epoch"))] == [
        "trial 1/2 complete",
        "trial 2/2 complete",
        "epoch 1/2",
        "epoch 2/2",
    ]
    chosen, trials = search(dataset, short, tmp_path / "other.sqlite", study_key="other")
    train(dataset, chosen, again)
    for name in ("weights.pt", "model.json", "curve.json"):
        assert digest(out / name) == digest(again / name)
    assert json.loads((out / "study.json").read_text()) == trials
    assert json.loads((out / "metrics.json").read_text()) == metrics == evaluate(dataset, chosen, load_checkpoint(again)[0])[0]


def test_a_training_process_that_fails_is_an_error_with_its_last_words(tmp_path):
    with pytest.raises(DrivelakeError, match=r"exit code 3: .*rows\.parquet"):
        _train_in_a_process(tmp_path, MODEL, tmp_path / "out", lambda _: None)


def test_importing_the_room_does_not_import_torch():
    code = "import sys, drivelake.learning; sys.exit('torch' in sys.modules or 'optuna' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, env=os.environ).returncode == 0


# plots


@given(VALUES)
def test_a_scatter_is_well_formed_and_repeats(values):
    drawn = scatter_svg(values, values[::-1], name="a<b&c", unit="m/s")
    assert drawn == scatter_svg(values, values[::-1], name="a<b&c", unit="m/s")
    tree = ET.fromstring(drawn)
    assert len(tree.findall(".//{*}circle")) == len(values) + 1  # and the one of the legend
    assert "nan" not in drawn


def test_a_learning_curve_marks_the_epoch_that_was_kept():
    curve = [{"epoch": e, "learning_rate": 0.1, "train_loss": 1.0, "validation_loss": v} for e, v in enumerate([3.0, 1.0, 2.0])]
    assert "kept: epoch 2" in learning_curve_svg(curve)
    assert "kept: epoch 1" in learning_curve_svg(curve[:1])
    *_, line, dot = ET.fromstring(learning_curve_svg(curve))
    cx, cy = (float(dot[0].get(key)) for key in ("cx", "cy"))
    assert line.get("points").split()[1] == f"{cx:g},{cy:g}"
