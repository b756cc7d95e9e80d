"""Metrics of a network beside two baselines: by split, by slice, by target, with intervals over drives.

Never here: deciding whether they are good enough (``gates``), training, drawing.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import JsonValue
from torch import nn

from drivelake.declaration import Model
from drivelake.learning.baselines import fit_mean, fit_ridge
from drivelake.learning.data import SPLITS, Samples, load_split
from drivelake.learning.train import predict

__all__ = ["evaluate", "measure"]

RESAMPLES = 200
RESAMPLE_SEED = 0
# Fewer drives than this say nothing about the spread between drives.
DRIVES_MIN = 3
PERCENTILES = (2.5, 97.5)
SLICE_PREFIX = "slice_"
NO_VALUE = "null"  # a slice whose expression was NULL; its rows still count

Matrix = npt.NDArray[np.float32]
Numbers = dict[str, JsonValue]


def evaluate(dataset: Path, model: Model, network: nn.Module) -> tuple[Numbers, pa.Table]:
    """Judge a network on every split of a dataset; the baselines are fitted on the same train split.

    Returns:
        The content of ``metrics.json`` (no NaN: what is undefined is null), and the predictions: ``drive``, ``frame``,
        ``split``, the targets and ``<target>_predicted``, in physical units.

    Raises:
        DatasetError: as :func:`drivelake.learning.data.load_split`.

    """
    splits = {split: load_split(dataset, model, split) for split in SPLITS}
    mean, ridge = fit_mean(splits["train"]), fit_ridge(splits["train"], splits["validation"])
    predicted = {
        split: {
            "network": predict(network, samples),
            "ridge": ridge.predict(samples),
            "mean": np.broadcast_to(mean, samples.targets.shape),
        }
        for split, samples in splits.items()
    }
    metrics: Numbers = {split: _judge_split(samples, predicted[split]) for split, samples in splits.items()}
    metrics["slices"] = _judge_slices(splits, predicted)
    metrics["per_target"] = {
        name: {
            split: {
                "n": len(samples),
                **{
                    by: measure(samples.targets[:, [at]], values[:, [at]], _drives(samples))
                    for by, values in predicted[split].items()
                },
            }
            for split, samples in splits.items()
        }
        for at, name in enumerate(model.targets)
    }
    metrics["ridge_lambda"] = dict(zip(model.targets, ridge.penalty.tolist(), strict=True))
    rounded = _rounded(metrics)
    assert isinstance(rounded, dict)
    tables = [_prediction_table(samples, predicted[split]["network"], model) for split, samples in splits.items()]
    return rounded, pa.concat_tables(tables)


def measure(targets: Matrix, predicted: Matrix, drives: npt.NDArray[np.int64]) -> Numbers:
    """Measure (N, T) predictions: r2, rmse, mae, and the 95 % interval of r2.

    r2 is 1 - SSE / SST, rmse and mae are in the targets' units; over several targets each is the plain average. r2 is
    null with fewer than 2 samples or a target without variance. The interval is the percentile bootstrap over drives
    (Efron and Tibshirani, 1993, section 13.3): pictures of one drive are too alike to be drawn one by one. It is null
    with fewer than 3 drives.
    """
    low, high = _interval([_r2_of_resamples(targets, predicted, drives)])
    return {**_point(targets, predicted), "r2_low": low, "r2_high": high}


def _point(targets: Matrix, predicted: Matrix) -> Numbers:
    if not len(targets):
        return {"r2": None, "rmse": None, "mae": None}
    truth, errors = targets.astype(np.float64), predicted.astype(np.float64) - targets
    residual, spread = np.square(errors).sum(axis=0), np.square(truth - truth.mean(axis=0)).sum(axis=0)
    defined = len(targets) > 1 and bool((targets.min(axis=0) < targets.max(axis=0)).all())
    return {
        "r2": float((1 - residual / spread).mean()) if defined else None,
        "rmse": float(np.sqrt(np.square(errors).mean(axis=0)).mean()),
        "mae": float(np.abs(errors).mean()),
    }


def _r2_of_resamples(targets: Matrix, predicted: Matrix, drives: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
    """Draw as many drives as there are, with repeats, 200 times; r2 of each draw, NaN where undefined, from sums per drive.

    The draws depend on the number of drives alone: two predictors on one split meet the same ones.
    """
    count = int(drives.max()) + 1 if len(drives) else 0
    if count < DRIVES_MIN:
        return np.full(RESAMPLES, np.nan)
    centred = targets.astype(np.float64) - targets.mean(axis=0, dtype=np.float64)
    squared = np.square(predicted.astype(np.float64) - targets)
    rows, first, second, residual = (np.zeros((count, *part.shape[1:])) for part in (centred, centred, centred, squared))
    for sums, part in ((rows, np.ones_like(centred)), (first, centred), (second, np.square(centred)), (residual, squared)):
        np.add.at(sums, drives, part)
    draws = np.random.default_rng(RESAMPLE_SEED).integers(count, size=(RESAMPLES, count))
    drawn_rows, drawn_first, drawn_second, drawn_residual = (sums[draws].sum(axis=1) for sums in (rows, first, second, residual))
    spread = drawn_second - np.square(drawn_first) / drawn_rows
    defined = spread > 1e-12 * drawn_second.max(initial=0)
    r2 = 1 - np.divide(drawn_residual, spread, out=np.full_like(spread, np.nan), where=defined)
    averaged: npt.NDArray[np.float64] = r2.mean(axis=1)
    return averaged


def _interval(resamples: list[npt.NDArray[np.float64]]) -> tuple[float | None, float | None]:
    """Take the percentiles of one list of resampled values, or of the difference of two; null where one is undefined."""
    values = resamples[0] if len(resamples) == 1 else resamples[0] - resamples[1]
    if np.isnan(values).any():
        return None, None
    low, high = np.percentile(values, PERCENTILES)
    return float(low), float(high)


def _judge_split(samples: Samples, predicted: Mapping[str, Matrix]) -> Numbers:
    drives = _drives(samples)
    resampled = {by: _r2_of_resamples(samples.targets, values, drives) for by, values in predicted.items()}
    judged: Numbers = {"n": len(samples), "drives": int(drives.max()) + 1, "without_target": samples.without_target}
    points = {by: _point(samples.targets, values) for by, values in predicted.items()}
    for by, point in points.items():
        low, high = _interval([resampled[by]])
        judged[by] = {**point, "r2_low": low, "r2_high": high}
    for baseline in ("ridge", "mean"):
        low, high = _interval([resampled["network"], resampled[baseline]])
        ours, theirs = points["network"]["r2"], points[baseline]["r2"]
        gain = ours - theirs if isinstance(ours, float) and isinstance(theirs, float) else None
        judged[f"network_minus_{baseline}"] = {"r2": gain, "r2_low": low, "r2_high": high}
    return judged


def _judge_slices(splits: Mapping[str, Samples], predicted: Mapping[str, Mapping[str, Matrix]]) -> Numbers:
    """Every value of every slice that any split has, in every split; where a split has none of it, n is 0."""
    judged: Numbers = {}
    for column in sorted(c for c in splits["train"].rows.column_names if c.startswith(SLICE_PREFIX)):
        values = {split: _labels(samples, column) for split, samples in splits.items()}
        per_value: Numbers = {}
        for value in sorted({str(v) for labels in values.values() for v in labels}):
            per_split: Numbers = {}
            for split, samples in splits.items():
                rows = values[split] == value
                point = _point(samples.targets[rows], predicted[split]["network"][rows])
                per_split[split] = {"n": int(rows.sum()), "network": point}
            per_value[value] = per_split
        judged[column.removeprefix(SLICE_PREFIX)] = per_value
    return judged


def _rounded(value: JsonValue) -> JsonValue:
    """Round floats to 6 significant digits: beyond them they depend on the core count that BLAS divides its sums by."""
    if isinstance(value, dict):
        return {key: _rounded(inner) for key, inner in value.items()}
    return float(f"{value:.6g}") if isinstance(value, float) else value


def _labels(samples: Samples, column: str) -> npt.NDArray[np.str_]:
    return np.array([NO_VALUE if value is None else str(value) for value in samples.rows[column].to_pylist()])


def _drives(samples: Samples) -> npt.NDArray[np.int64]:
    """Give every sample the number of its drive, 0.. in the order of the names."""
    numbers: npt.NDArray[np.int64] = np.unique(np.array(samples.rows["drive"].to_pylist()), return_inverse=True)[1]
    return numbers


def _prediction_table(samples: Samples, predicted: Matrix, model: Model) -> pa.Table:
    columns = {name: samples.rows[name] for name in ("drive", "frame", "split")}
    truth = {name: pa.array(samples.targets[:, at], pa.float32()) for at, name in enumerate(model.targets)}
    guess = {f"{name}_predicted": pa.array(predicted[:, at], pa.float32()) for at, name in enumerate(model.targets)}
    return pa.table({**columns, **truth, **guess})
