"""One training run, from a curated dataset and a declared model to a checkpoint folder. Also a script:

    python -m drivelake.learning.train --dataset FOLDER --model MODEL.json --out FOLDER
    torchrun --nproc-per-node 2 -m drivelake.learning.train ...        the same, data parallel over gloo
    under Dagster Pipes                                                the same, one log line an epoch

What decides the weights: the dataset, the declaration, the number of processes. The order of the samples and every
augmentation are a pure function of (seed, epoch, sample). Never here: the search space, metrics for people, plots.
"""

import argparse
import contextlib
import copy
import json
import math
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist
from pydantic import JsonValue, ValidationError
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from drivelake.declaration import Model
from drivelake.errors import DatasetError, DeclarationError, DrivelakeError
from drivelake.learning.data import Samples, load_split
from drivelake.learning.model import PictureRegressor, as_input, build_model, reproducible, save_checkpoint, write_json

__all__ = ["Epoch", "fit", "predict", "train"]

Progress = Callable[[str], None]

WARM_UP = 0.25  # share of the steps over which the learning rate rises
JITTER = 0.1  # brightness by +-0.05 of full scale, contrast by +-10 %
SHIFT = 0.02  # of width and height, either way: what a target does not notice
PREDICT_ROWS = 256


@dataclass(frozen=True)
class Epoch:
    """One line of the learning curve; losses are squared errors in standard deviations of the targets."""

    epoch: int
    learning_rate: float
    train_loss: float
    validation_loss: float


@dataclass(frozen=True)
class Worker:
    """One process among those that train together."""

    rank: int
    count: int

    @classmethod
    def here(cls) -> "Worker":
        """Read what torchrun says; alone without it."""
        return cls(int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1")))


def train(dataset: Path, model: Model, out: Path, *, progress: Progress | None = None) -> None:
    """Train and write ``weights.pt``, ``model.json`` and ``curve.json``; the epoch with the least validation loss counts.

    Raises:
        DatasetError: a target is absent, a split has no samples, or the train split is smaller than one batch share.
        DrivelakeError: the training diverged.

    """
    worker = Worker.here()
    lead = worker.rank == 0
    samples, validation = load_split(dataset, model, "train"), load_split(dataset, model, "validation")
    say = (progress or (lambda _: None)) if lead else (lambda _: None)
    say(f"{len(samples)} training and {len(validation)} validation samples")

    def on_epoch(done: Epoch) -> None:
        say(
            f"epoch {done.epoch + 1}/{model.training.epochs}: training loss {done.train_loss:.4f}, "
            f"validation loss {done.validation_loss:.4f}"
        )

    try:
        network, curve = fit(samples, validation, model, worker=worker, on_epoch=on_epoch)
    except FloatingPointError as error:
        rate = model.training.learning_rate
        raise DrivelakeError(f"Training diverged: {error}, at learning rate {rate:g}.", next_step="lower learning_rate") from None
    if lead:
        save_checkpoint(network, model, out)
        write_json(out / "curve.json", [asdict(epoch) for epoch in curve])


def fit(
    samples: Samples,
    validation: Samples,
    model: Model,
    *,
    worker: Worker = Worker(0, 1),
    on_epoch: Callable[[Epoch], None],
) -> tuple[PictureRegressor, list[Epoch]]:
    """AdamW under one rise and one cosine fall of the learning rate; returns the best epoch's network and the curve.

    ``on_epoch`` is called on rank 0 and may raise to stop. ``batch_size`` is the batch of all processes together.

    Raises:
        DatasetError: the train split is smaller than one batch share.
        FloatingPointError: the training diverged.

    """
    declared = model.training
    batch = min(declared.batch_size, len(samples)) // worker.count * worker.count
    if batch == 0:
        raise DatasetError(
            f"{len(samples)} samples cannot feed {worker.count} processes.", next_step="train with fewer processes"
        )
    steps = len(samples) // batch
    with reproducible(declared.seed):
        network = build_model(model, target_mean=samples.targets.mean(axis=0).tolist(), target_std=_deviation(samples.targets))
        learner = DistributedDataParallel(network) if worker.count > 1 else network
        torch.manual_seed(declared.seed * 1000 + worker.rank)  # a dropout stream of its own for every rank
        optimiser = torch.optim.AdamW(network.parameters(), lr=declared.learning_rate, weight_decay=declared.weight_decay)
        curve: list[Epoch] = []
        best_loss, best_state = math.inf, dict[str, Tensor]()
        for epoch in range(declared.epochs):
            network.train()
            total = 0.0
            for step, (pictures, targets) in enumerate(_batches(samples, model, epoch, batch, worker)):
                rate = _learning_rate(declared.learning_rate, (epoch * steps + step + 1) / (declared.epochs * steps))
                for group in optimiser.param_groups:
                    group["lr"] = rate
                optimiser.zero_grad()
                loss = _loss(network, learner(pictures), targets)
                torch.autograd.backward(loss)
                optimiser.step()
                total += loss.item()
            if worker.rank == 0:
                done = Epoch(epoch, rate, total / steps, _validation_loss(network, validation))
                if not math.isfinite(done.train_loss + done.validation_loss):
                    raise FloatingPointError(f"the loss is no longer finite in epoch {epoch + 1}")
                curve.append(done)
                if done.validation_loss < best_loss:
                    best_loss, best_state = done.validation_loss, copy.deepcopy(network.state_dict())
                on_epoch(done)
        if worker.rank == 0:
            network.load_state_dict(best_state)
    return network.eval(), curve


def predict(network: nn.Module, samples: Samples) -> npt.NDArray[np.float32]:
    """Predict (N, T) float32 in physical units; the network is put into eval mode."""
    network.eval()
    predicted = np.empty_like(samples.targets)
    with reproducible(0), torch.inference_mode():
        for block in samples.blocks(PREDICT_ROWS):
            predicted[block] = network(as_input(samples.images[block])).numpy()
    return predicted


def _learning_rate(peak: float, done: float) -> float:
    """One cycle (Smith and Topin, 2017) with cosine sides: from peak / 25 up over WARM_UP of the steps, then to zero.

    ``done`` is the share of the steps taken, above 0 and up to 1.
    """
    if done < WARM_UP:
        return peak * (0.04 + 0.96 * (1 - math.cos(math.pi * done / WARM_UP)) / 2)
    return peak * (1 + math.cos(math.pi * (done - WARM_UP) / (1 - WARM_UP))) / 2


def _loss(network: PictureRegressor, predicted: Tensor, targets: Tensor) -> Tensor:
    """Mean squared error in standard deviations, so that every target weighs the same."""
    return (((predicted - targets) / network.target_std) ** 2).mean()


def _validation_loss(network: PictureRegressor, validation: Samples) -> float:
    errors = (predict(network, validation) - validation.targets) / network.target_std.numpy()
    return float(np.mean(np.square(errors, dtype=np.float64)))


def _deviation(targets: npt.NDArray[np.float32]) -> list[float]:
    """Take standard deviations, one a target; a target that never changes has no scale and takes 1."""
    return [float(deviation) or 1.0 for deviation in targets.std(axis=0, dtype=np.float64)]


def _batches(samples: Samples, model: Model, epoch: int, batch: int, worker: Worker) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield this worker's share of every whole batch; what a row becomes depends on (seed, epoch, row) alone."""
    random = np.random.default_rng([model.training.seed, epoch])
    order = random.permutation(len(samples))
    chance = random.random((len(samples), 5))
    for start in range(0, len(samples) - batch + 1, batch):
        rows = np.sort(order[start + worker.rank : start + batch : worker.count])
        flip = (chance[rows, 4] < 0.5) & model.augment_flip
        targets = np.where(flip[:, None], -1, 1).astype(np.float32) * samples.targets[rows]
        yield _augment(samples.images, rows, chance[rows], flip), torch.from_numpy(targets)


def _augment(
    images: npt.NDArray[np.uint8], rows: npt.NDArray[np.int64], chance: npt.NDArray[np.float64], flip: npt.NDArray[np.bool_]
) -> Tensor:
    """Shift pictures ``rows`` (edges repeated), mirror them where ``flip``, change brightness and contrast.

    Args:
        images: (N, H, W, 3) uint8.
        rows: (B,) which of them.
        chance: (B, 5) uniform in 0..1: shift down, shift right, contrast, brightness, flip.
        flip: (B,) whether mirrored.

    Returns:
        (B, 3, H, W) float32; not clipped, the network sees the same slopes everywhere.

    """
    height, width = images.shape[1:3]
    either_way = 2 * chance - 1
    shifts = np.rint(either_way[:, :2] * SHIFT * (height, width)).astype(np.int64)
    down = np.clip(np.arange(height) + shifts[:, :1], 0, height - 1)
    right = np.clip(np.arange(width) + shifts[:, 1:], 0, width - 1)
    right = np.where(flip[:, None], right[:, ::-1], right)
    pictures = as_input(images[rows[:, None, None], down[:, :, None], right[:, None, :]])
    contrast, brightness = torch.from_numpy((JITTER * either_way[:, 2:4]).astype(np.float32)).T.reshape(2, -1, 1, 1, 1)
    return pictures.mul_(1 + contrast).add_(brightness / 2)


@contextlib.contextmanager
def _reporter(worker: Worker) -> Iterator[Progress]:
    """Lines go to stdout and, started by Dagster Pipes, to its log; rank 0 alone opens Pipes, all inherit its variables."""

    def out(line: str) -> None:
        sys.stdout.write(line + "\n")
        sys.stdout.flush()

    if worker.rank or "DAGSTER_PIPES_CONTEXT" not in os.environ:
        yield out
        return
    from dagster_pipes import open_dagster_pipes

    with open_dagster_pipes() as pipes:

        def both(line: str) -> None:
            out(line)
            pipes.log.info(line)

        yield both


def _read_model(path: Path) -> Model:
    try:
        described: dict[str, JsonValue] = json.loads(path.read_text(encoding="utf-8"))
        return Model.model_validate(described)
    except (OSError, ValueError, ValidationError) as error:
        raise DeclarationError(f"{path} declares no model: {error}.", next_step="pass the model section as JSON") from None


def main() -> int:
    """Entry point of the script; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m drivelake.learning.train", description="Train one declared model.")
    parser.add_argument("--dataset", type=Path, required=True, help="folder of a curated dataset")
    parser.add_argument("--model", type=Path, required=True, help="the model's declaration as JSON")
    parser.add_argument("--out", type=Path, required=True, help="folder that the checkpoint is written to")
    given = parser.parse_args()
    worker = Worker.here()
    if worker.count > 1:
        dist.init_process_group("gloo")
    try:
        with _reporter(worker) as report:
            train(given.dataset, _read_model(given.model), given.out, progress=report)
    except DrivelakeError as error:
        sys.stderr.write(f"{error}\n")
        return error.exit_code
    finally:
        if worker.count > 1:
            dist.destroy_process_group()
    return 0


if __name__ == "__main__":
    sys.exit(main())
