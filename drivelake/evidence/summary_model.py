"""The part of the summary that is about the model: training, metrics, the compiled artefact. See ``summary``.

Never here: the data it was learnt from, and whether a number is good enough (``gates`` decides).
"""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import JsonValue

from drivelake.evidence.published import fields, listed, load, pick
from drivelake.evidence.summary_data import SPLITS
from drivelake.lake import Version

__all__ = ["FEW_ROWS", "compile_part", "metrics_part", "training_part"]

# Below this many test rows a slice's numbers are marked: a rule of thumb for where a mean begins to be stable.
FEW_ROWS = 30

PREDICTORS = ("network", "ridge", "mean")
ARCHITECTURE = ("targets", "input_width", "input_height", "channels", "augment_flip", "target_mean", "target_std")
TENSOR = ("name", "dtype", "shape", "layout", "colour_order", "unit", "range", "resolution", "quantisation")
# A slice expression that was NULL: as the card spells it, and as the metrics do.
NONE_IN_CARD, NONE_IN_METRICS = "(none)", "null"


def training_part(checkpoint: Version | None) -> dict[str, JsonValue] | None:
    """Declared and used parameters, the trials of the study, the learning curve; None without a checkpoint."""
    if checkpoint is None:
        return None
    model, declared = load(checkpoint, "model.json"), checkpoint.manifest.parameters
    used, asked = fields(model, "training"), fields(declared, "training")
    trials, curve = listed(load(checkpoint, "study.json")), listed(load(checkpoint, "curve.json"))
    return {
        "name": checkpoint.name,
        "version": checkpoint.digest,
        "architecture": [{"name": name, "value": pick(model, name)} for name in ARCHITECTURE],
        "parameters": [{"name": name, "declared": asked.get(name), "used": used.get(name)} for name in sorted({*used, *asked})],
        "space": [
            {"name": name, **{key: pick(span, key) for key in ("low", "high", "log")}}
            for name, span in fields(declared, "search", "space").items()
        ],
        "trials": [
            {
                **{key: pick(trial, key) for key in ("number", "state", "epochs", "validation_loss")},
                "params": [{"name": name, "value": value} for name, value in fields(trial, "params").items()],
            }
            for trial in trials
        ],
        "chosen_trial": _least(trials, "number", only={"state": "complete"}),
        "curve": [
            {key: pick(epoch, key) for key in ("epoch", "learning_rate", "train_loss", "validation_loss")} for epoch in curve
        ],
        "best_epoch": _least(curve, "epoch"),
    }


def _least(rows: list[JsonValue], key: str, only: Mapping[str, JsonValue] | None = None) -> int | None:
    """The ``key`` of the row with the least validation loss, the first of equals; as training and search choose."""
    found = [
        (loss, number)
        for row in rows
        if all(pick(row, name) == value for name, value in (only or {}).items())
        and isinstance(loss := pick(row, "validation_loss"), int | float)
        and isinstance(number := pick(row, key), int)
    ]
    return min(found)[1] if found else None


def metrics_part(checkpoint: Version | None, dataset: Version | None, artefact: Version) -> dict[str, JsonValue] | None:
    """Network beside baselines by split and target, and the network by slice; None without a checkpoint."""
    if checkpoint is None:
        return None
    metrics = load(checkpoint, "metrics.json")
    units = {str(pick(output, "name")): pick(output, "unit") for output in listed(load(artefact, "contract.json"), "outputs")}
    return {
        "splits": [
            {
                "split": split,
                **{key: pick(metrics, split, key) for key in ("n", "drives", "without_target")},
                "predictors": _predictors(pick(metrics, split)),
                "gains": [
                    {
                        "over": name,
                        **{key: pick(metrics, split, f"network_minus_{name}", key) for key in ("r2", "r2_low", "r2_high")},
                    }
                    for name in PREDICTORS[1:]
                ],
            }
            for split in SPLITS
        ],
        "targets": [
            {
                "target": name,
                "unit": units.get(name),
                "n": pick(found, "test", "n"),
                "predictors": _predictors(pick(found, "test")),
            }
            for name, found in fields(metrics, "per_target").items()
        ],
        "slices": _slices(fields(metrics, "slices"), fields(load(dataset, "card.json"), "slices")),
        "few_rows": FEW_ROWS,
    }


def _predictors(found: JsonValue) -> list[JsonValue]:
    return [
        {"name": name, **{key: pick(found, name, key) for key in ("r2", "r2_low", "r2_high", "rmse", "mae")}}
        for name in PREDICTORS
    ]


def _slices(measured: Mapping[str, JsonValue], counted: Mapping[str, JsonValue]) -> list[JsonValue]:
    """Every value of every slice that the metrics or the card know; a value without test rows is NOT SHOWN (note None)."""
    slices: list[JsonValue] = []
    for name in sorted({*measured, *counted}):
        in_card = {NONE_IN_METRICS if value == NONE_IN_CARD else value for value in fields(counted.get(name))}
        values: list[JsonValue] = []
        for value in sorted({*fields(measured.get(name)), *in_card}):
            found = pick(measured.get(name), value)
            rows = pick(found, "test", "n")
            values.append(
                {
                    "value": NONE_IN_CARD if value == NONE_IN_METRICS else value,
                    **{split: pick(found, split, "n") for split in SPLITS},
                    **{key: pick(found, "test", "network", key) for key in ("r2", "rmse", "mae")},
                    "note": None if not isinstance(rows, int) or rows == 0 else "few rows" if rows < FEW_ROWS else "",
                }
            )
        slices.append({"slice": name, "values": values})
    return slices


def compile_part(artefact: Version) -> dict[str, JsonValue]:
    """Toolchain, flags, sizes, tensor contract and parity of the artefact."""
    build, contract, parity = (load(artefact, f"{name}.json") for name in ("build", "contract", "parity"))
    manifest = {entry.path: entry.sha256 for entry in artefact.manifest.files}
    targets = fields(parity, "per_target")
    return {
        "executed_on": pick(build, "executed_on"),
        "declared": _pairs(pick(artefact.manifest.parameters, "target")),
        **{key: _pairs(pick(build, key)) for key in ("toolchain", "flags", "carried")},
        "sizes": [
            {"name": name, "kind": kind, "bytes": pick(found, "bytes"), "sha256": pick(found, "sha256")}
            | {"agrees": manifest[name] == pick(found, "sha256") if name in manifest else None}
            for kind in ("intermediate", "binaries")
            for name, found in fields(build, kind).items()
        ],
        "load": pick(contract, "load"),
        "batch": pick(contract, "batch"),
        "tensors": [
            {"side": side, **{key: pick(tensor, key) for key in TENSOR}}
            for side in ("inputs", "outputs")
            for tensor in listed(contract, side)
        ],
        "preprocessing": listed(contract, "preprocessing", "steps"),
        "split": pick(parity, "split"),
        "drives": len({str(drive) for drive in listed(parity, "rows", "drive")}) or None,
        "parity": _compared(parity, None),
        "targets": [
            {"target": name, "unit": pick(parity, "targets", name, "unit"), **_compared(found, pick(parity, "parity", "rows"))}
            for name, found in targets.items()
        ],
    }


def _compared(found: JsonValue, rows: JsonValue) -> dict[str, JsonValue]:
    """Deviation of compiled from float, and what it costs in the task."""
    return {
        "rows": pick(found, "parity", "rows") if rows is None else rows,
        **{key: pick(found, "parity", key) for key in ("mean_abs", "p99_abs", "max_abs")},
        **{key: pick(found, "task", key) for key in ("r2_float", "r2_compiled", "r2_drop", "mae_float", "mae_compiled")},
    }


def _pairs(found: JsonValue) -> list[JsonValue]:
    return [{"name": name, "value": value} for name, value in fields(found).items()]
