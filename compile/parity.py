"""Compiled against float on real rows. Belongs here: the rows, and the numbers that follow from them.

Never here: running a graph, deciding whether a number is good enough (``gates`` does), drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import JsonValue

__all__ = ["SPLIT", "Measured", "Report", "Values", "compare", "measure"]

SPLIT = "validation"

Matrix = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]


class Values(TypedDict):
    """One target on N rows, in its physical unit; ``unit`` is None where the dataset names none."""

    unit: str | None
    truth: list[float]
    float: list[float]
    compiled: list[float]


class Measured(TypedDict):
    """What gates decide on; see ``measure``."""

    parity: dict[str, JsonValue]
    task: dict[str, JsonValue]
    per_target: dict[str, JsonValue]


class Report(Measured):
    """``parity.json``: what was measured, and the rows that it follows from, so that it can be measured and drawn again."""

    split: str
    rows: dict[str, list[JsonValue]]
    targets: dict[str, Values]


def compare(rows: pa.Table, truth: Matrix, reference: Matrix, compiled: Matrix, units: dict[str, str | None]) -> Report:
    """Put both predictions beside the truth.

    Args:
        rows: N rows with ``drive``, ``frame`` and ``t_ns``.
        truth: (N, T) the dataset's values, physical units.
        reference: (N, T) predictions of the float graph.
        compiled: (N, T) predictions of the compiled one.
        units: the T targets in order, with their units.
    """
    targets: dict[str, Values] = {
        name: {
            "unit": unit,
            "truth": _listed(truth[:, at]),
            "float": _listed(reference[:, at]),
            "compiled": _listed(compiled[:, at]),
        }
        for at, (name, unit) in enumerate(units.items())
    }
    named: dict[str, list[JsonValue]] = {key: rows[key].to_pylist() for key in ("drive", "frame", "t_ns")}
    return {"split": SPLIT, "rows": named, "targets": targets, **measure(targets)}


def measure(targets: dict[str, Values]) -> Measured:
    """Follow every number from the rows of a report.

    ``parity`` is the absolute deviation of compiled from float: its mean, largest value and 99th percentile. ``task`` is
    the coefficient of determination r2 = 1 - SSE / SST and the mean absolute error of both against the truth; r2 is null
    where the truth does not vary. ``per_target`` has both by target, in its unit. Over several targets r2 and means are
    plain averages, the largest value and the percentile those of the worst target.
    """
    per_target: dict[str, JsonValue] = {}
    parities, tasks = [], []
    for name, values in targets.items():
        truth, reference, compiled = (np.array(part) for part in (values["truth"], values["float"], values["compiled"]))
        parity, task = _parity(reference, compiled), _task(truth, reference, compiled)
        parities.append(parity)
        tasks.append(task)
        per_target[name] = {"parity": {**parity}, "task": {**task}}
    rows = len(truth)
    return {
        "parity": {
            "rows": rows,
            "mean_abs": _average([p["mean_abs"] for p in parities]),
            "max_abs": max(p["max_abs"] for p in parities),
            "p99_abs": max(p["p99_abs"] for p in parities),
        },
        "task": {"rows": rows, "split": SPLIT, **{key: _average([t[key] for t in tasks]) for key in tasks[0]}},
        "per_target": per_target,
    }


def _parity(reference: Vector, compiled: Vector) -> dict[str, float]:
    deviation = np.abs(compiled - reference)
    return {
        "mean_abs": float(deviation.mean()),
        "max_abs": float(deviation.max()),
        "p99_abs": float(np.percentile(deviation, 99)),
    }


def _task(truth: Vector, reference: Vector, compiled: Vector) -> dict[str, float | None]:
    r2_float, r2_compiled = _r2(truth, reference), _r2(truth, compiled)
    return {
        "r2_float": r2_float,
        "r2_compiled": r2_compiled,
        "r2_drop": None if r2_float is None or r2_compiled is None else r2_float - r2_compiled,
        "mae_float": float(np.abs(reference - truth).mean()),
        "mae_compiled": float(np.abs(compiled - truth).mean()),
    }


def _r2(truth: Vector, predicted: Vector) -> float | None:
    if truth.min() == truth.max():
        return None
    return float(1 - np.square(predicted - truth).sum() / np.square(truth - truth.mean()).sum())


def _average(values: Sequence[float | None]) -> float | None:
    """The plain average; None as soon as one value is."""
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if len(known) == len(values) else None


def _listed(column: npt.NDArray[np.float32]) -> list[float]:
    """Decimal numbers of 9 significant digits, which name a float32 exactly."""
    return [float(f"{value:.9g}") for value in column]
