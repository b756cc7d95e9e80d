"""The network, the checkpoint folder it is kept in, and the conditions under which its numbers repeat.

Only operations that any ONNX runtime and an int8 accelerator know: Conv, BatchNorm (folded on export), ReLU, Gemm.
Never here: reading a dataset, optimising, judging.
"""

import io
import json
import pickle
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from pydantic import JsonValue
from torch import Tensor, nn

from drivelake.declaration import Model
from drivelake.errors import InputError

__all__ = [
    "THREADS",
    "PictureRegressor",
    "as_input",
    "build_model",
    "load_checkpoint",
    "reproducible",
    "save_checkpoint",
    "write_json",
]

# The order of additions inside a kernel depends on the number of threads, so it is a constant and not the core count.
THREADS = 2
# Where a line stands in the picture decides the steering, so a grid is kept instead of one mean over the picture;
# 5 cells on the shorter side keep the linear head below 10,000 weights at the default width.
GRID_CELLS_MAX = 5


class PictureRegressor(nn.Module):
    """Strided convolutions down to a small grid, then one linear layer; de-normalised inside the graph.

    Input: (N, 3, H, W) float32 RGB in 0..1. Output: (N, T) float32 in the physical units of the targets.
    """

    target_mean: Tensor
    target_std: Tensor

    def __init__(self, model: Model, target_mean: Sequence[float], target_std: Sequence[float]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        rows, columns, width_in, width = model.input_height, model.input_width, 3, model.channels
        while min(rows, columns) > GRID_CELLS_MAX:
            kernel = 3 if layers else 5
            layers += [
                nn.Conv2d(width_in, width, kernel, stride=2, padding=kernel // 2, bias=False),
                nn.BatchNorm2d(width),
                nn.ReLU(),
            ]
            rows, columns = (rows + 1) // 2, (columns + 1) // 2
            width_in, width = width, min(2 * width, 4 * model.channels)
        self.features = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Flatten(), nn.Dropout(model.training.dropout), nn.Linear(width_in * rows * columns, len(model.targets))
        )
        self.register_buffer("target_mean", torch.tensor(target_mean, dtype=torch.float32))
        self.register_buffer("target_std", torch.tensor(target_std, dtype=torch.float32))

    def forward(self, pictures: Tensor) -> Tensor:
        """Map (N, 3, H, W) in 0..1 to (N, T) in physical units."""
        return cast("Tensor", self.head(self.features(pictures - 0.5))) * self.target_std + self.target_mean


def build_model(model: Model, *, target_mean: Sequence[float] = (), target_std: Sequence[float] = ()) -> PictureRegressor:
    """Build the declared network, untrained.

    Args:
        model: the input size, the width and the targets.
        target_mean: of the targets on the train split, one a target; zeros by default.
        target_std: likewise, above zero; ones by default.

    """
    targets = len(model.targets)
    mean, std = list(target_mean) or [0.0] * targets, list(target_std) or [1.0] * targets
    if len(mean) != targets or len(std) != targets:
        raise InputError(
            f"{targets} targets need {targets} means and deviations, found {len(mean)} and {len(std)}.",
            next_step="pass one number for each target",
        )
    return PictureRegressor(model, mean, std)


def as_input(images: npt.NDArray[np.uint8]) -> Tensor:
    """Convert (N, H, W, 3) uint8 RGB to (N, 3, H, W) float32 in 0..1, as the network takes them."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32).div_(255)


@contextmanager
def reproducible(seed: int) -> Iterator[None]:
    """Make torch give the same bytes for the same input on one kind of processor; settings are restored after.

    Other instruction sets (AVX2 against AVX-512) may still round differently.
    """
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(THREADS)
    torch.use_deterministic_algorithms(mode=True)
    try:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield
    finally:
        torch.use_deterministic_algorithms(deterministic)
        torch.set_num_threads(threads)


def write_json(path: Path, value: JsonValue) -> None:
    """Write JSON that is the same bytes for the same value; NaN and infinity are refused with a ValueError."""
    path.write_text(json.dumps(value, indent=1, sort_keys=True, allow_nan=False, ensure_ascii=False) + "\n", encoding="utf-8")


def save_checkpoint(network: nn.Module, model: Model, folder: Path) -> None:
    """Write ``weights.pt`` and ``model.json``; the same weights give the same bytes in any folder.

    ``model.json`` is the declaration with the values used, plus ``target_mean`` and ``target_std`` (physical units).
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {name: tensor.detach().contiguous().clone() for name, tensor in network.state_dict().items()}
    buffer = io.BytesIO()  # torch writes a file's name into the file, but not a buffer's
    torch.save(state, buffer)
    (folder / "weights.pt").write_bytes(buffer.getvalue())
    scale = {name: state[name].tolist() for name in ("target_mean", "target_std")}
    write_json(folder / "model.json", {**model.model_dump(mode="json"), **scale})


def load_checkpoint(folder: Path) -> tuple[PictureRegressor, Model]:
    """Read back the network, in eval mode on the CPU, and the declaration it was trained with.

    Raises:
        InputError: a file is absent, or the two do not belong together.

    """
    try:
        described = json.loads((folder / "model.json").read_text(encoding="utf-8"))
        mean, std = described.pop("target_mean"), described.pop("target_std")
        model = Model.model_validate(described)
        network = build_model(model, target_mean=mean, target_std=std)
        network.load_state_dict(torch.load(folder / "weights.pt", map_location="cpu", weights_only=True))
    except (OSError, EOFError, ValueError, KeyError, TypeError, RuntimeError, pickle.UnpicklingError) as error:
        reason = f"{type(error).__name__} {str(error).split(chr(10))[0]}"
        raise InputError(
            f"{folder.name} is not a checkpoint: {reason}.", next_step="verify the version, or train it again"
        ) from error
    return network.eval(), model
