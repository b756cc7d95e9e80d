"""Learning: a picture in, the declared target columns out; small enough to be read in one sitting.

In reading order: ``data`` (rows and pictures of a curated dataset), ``model`` (the network and its checkpoint),
``train`` (one training run, also a script), ``tune`` (a short study before it), ``baselines`` (what the network has
to beat), ``evaluate`` (metrics by split and slice), ``plots`` (curves as SVG), and ``learn`` below: all of it in order.
Importing this package is cheap: torch and optuna come with the modules that need them.
Never here: selecting or splitting rows (``datasets``), deciding whether a model is good enough (``gates``).
"""

import os
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Callable
from pathlib import Path

from pydantic import JsonValue

from drivelake.declaration import Model
from drivelake.errors import DrivelakeError

__all__ = ["learn"]

# Two threads that spin at every barrier cost 7 times the CPU time where other work shares the cores (measured: 360
# against 50 ms a step); OpenMP reads this once, when torch is loaded, and torch is loaded only below this package.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

TAIL_LINES = 12  # of a failed training, shown in the error


def learn(
    dataset: Path,
    model: Model,
    out: Path,
    *,
    study_path: Path,
    study_key: str,
    progress: Callable[[str], None] | None = None,
) -> dict[str, JsonValue]:
    """Search, train, evaluate; write a checkpoint folder whose bytes depend on dataset and model alone.

    Args:
        dataset: folder of a ``curated_datasets`` version.
        model: the declaration; its ``search`` may be absent.
        out: folder that receives ``weights.pt``, ``model.json``, ``curve.json``, ``study.json``, ``metrics.json`` and
            ``predictions.parquet``.
        study_path: SQLite file of the study; not part of the checkpoint.
        study_key: as in :func:`drivelake.learning.tune.search`.
        progress: takes one line at a time.

    Returns:
        The content of ``metrics.json``.

    Raises:
        DatasetError: a target is absent, a split has no samples, a picture is damaged.
        DrivelakeError: the training process failed; the message carries the end of what it said.

    """
    import pyarrow.parquet as pq

    from drivelake.learning.evaluate import evaluate
    from drivelake.learning.model import load_checkpoint, write_json
    from drivelake.learning.tune import search

    say = progress or (lambda _: None)
    out.mkdir(parents=True, exist_ok=True)
    chosen, trials = search(dataset, model, study_path, study_key=study_key, progress=say)
    write_json(out / "study.json", list[JsonValue](trials))
    _train_in_a_process(dataset, chosen, out, say)
    network, _ = load_checkpoint(out)
    metrics, predictions = evaluate(dataset, chosen, network)
    write_json(out / "metrics.json", metrics)
    pq.write_table(predictions, out / "predictions.parquet", compression="zstd")
    return metrics


def _train_in_a_process(dataset: Path, model: Model, out: Path, say: Callable[[str], None]) -> None:
    """Run the training script as a person would, and pass on what it prints."""
    root = str(Path(__file__).resolve().parents[2])
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    with tempfile.TemporaryDirectory() as scratch:
        declared = Path(scratch) / "model.json"
        declared.write_text(model.model_dump_json(), encoding="utf-8")
        command = [sys.executable, "-m", "drivelake.learning.train"]
        command += ["--dataset", str(dataset), "--model", str(declared), "--out", str(out)]
        tail: deque[str] = deque(maxlen=TAIL_LINES)
        with subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            encoding="utf-8",
            errors="replace",
            env=environment,
        ) as process:
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    tail.append(line.rstrip())
                    say(line.rstrip())
            except BaseException:
                process.kill()  # nobody would read what it goes on to write
                raise
    if process.returncode:
        raise DrivelakeError(
            f"Training ended with exit code {process.returncode}: {' | '.join(tail) or 'it said nothing'}.",
            next_step="run python -m drivelake.learning.train yourself; -9 means that memory ran out",
        )
