"""Samples of a curated dataset: its rows with a target, and their pictures decoded to the declared input size.

Never here: augmentation (``train``), which rows belong to which split (``datasets``), anything that writes.
"""

import difflib
import os
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from drivelake.declaration import Model
from drivelake.errors import DatasetError

__all__ = ["SPLITS", "Samples", "load_split"]

SPLITS = ("train", "validation", "test")
ROW_COLUMNS = ("drive", "frame", "t_ns", "split", "shard", "offset", "bytes")
BLOCK_ROWS = 256  # one task of the decoding pool


@dataclass(frozen=True)
class Samples:
    """One split, ready to learn from or to be judged on.

    Attributes:
        images: (N, H, W, 3) uint8 RGB at the declared input size; backed by an unlinked scratch file.
        targets: (N, T) float32, in the physical units of the dataset's columns, in the declared order.
        rows: the N rows of ``rows.parquet``, in their order (drive, frame).
        without_target: rows of the split that are no samples, because a target is null or not finite.

    """

    images: npt.NDArray[np.uint8]
    targets: npt.NDArray[np.float32]
    rows: pa.Table
    without_target: int = 0

    def __len__(self) -> int:
        return len(self.targets)

    def blocks(self, rows: int) -> Iterator[slice]:
        """Yield consecutive slices of at most ``rows`` samples, which bound the memory of whoever walks them."""
        return (slice(start, min(start + rows, len(self))) for start in range(0, len(self), rows))


def load_split(dataset: Path, model: Model, split: str, *, rows_max: int | None = None, seed: int = 0) -> Samples:
    """Read one split of a curated dataset and decode its pictures.

    Args:
        dataset: folder of a ``curated_datasets`` version.
        model: says which columns are targets and how large the input is.
        split: ``train``, ``validation`` or ``test``.
        rows_max: at most this many samples, evenly spaced over the split; all by default.
        seed: with ``rows_max``, decides which of the evenly spaced selections is taken.

    Raises:
        DatasetError: no rows, a target column that is absent or not numeric, a split without a sample, or a picture
            that cannot be read or decoded.

    """
    table = _read_rows(dataset, model.targets)
    table = table.filter(pc.equal(table["split"], pa.scalar(split)))
    targets = np.column_stack([_numbers(table[name]) for name in model.targets])
    usable = np.isfinite(targets).all(axis=1)
    without_target = int((~usable).sum())
    keep = np.flatnonzero(usable)
    if not len(keep):
        raise DatasetError(
            f"Split {split!r} has 0 samples: {table.num_rows} rows, {without_target} of them without a target.",
            next_step=f"widen the selection, or check that {', '.join(model.targets)} has values in it",
        )
    if rows_max is not None and rows_max < len(keep):
        phase = np.random.default_rng(seed).random()
        keep = keep[((np.arange(rows_max) + phase) * len(keep) / rows_max).astype(np.int64)]
    rows = table.take(keep)
    images = _decode_all(dataset, rows, width=model.input_width, height=model.input_height)
    return Samples(images, targets[keep].astype(np.float32), rows, without_target)


def _read_rows(dataset: Path, targets: Sequence[str]) -> pa.Table:
    path = dataset / "rows.parquet"
    if not path.is_file():
        raise DatasetError(f"{dataset.name} has no rows.parquet.", next_step="materialize the curated dataset first")
    table = pq.read_table(path)
    values = [name for name in table.column_names if name not in ROW_COLUMNS and not name.startswith("slice_")]
    for name in targets:
        if name not in values:
            close = difflib.get_close_matches(name, values, n=1, cutoff=0.4)
            hint = f"did you mean {close[0]!r}?" if close else f"its value columns are: {', '.join(values) or 'none'}"
            raise DatasetError(f"The dataset has no target column {name!r}; {hint}", next_step="correct targets of the model")
        kind = table.schema.field(name).type
        if not (pa.types.is_floating(kind) or pa.types.is_integer(kind)):
            raise DatasetError(f"Target {name!r} is {kind}, expected a number.", next_step="cast it in the sql of the dataset")
    return table


def _numbers(column: "pa.ChunkedArray[pa.Scalar[pa.DataType]]") -> npt.NDArray[np.float64]:
    """Convert a column to float64; null becomes NaN."""
    return np.asarray(pc.cast(column, pa.float64()).combine_chunks().to_numpy(zero_copy_only=False), dtype=np.float64)


def _decode_all(dataset: Path, rows: pa.Table, *, width: int, height: int) -> npt.NDArray[np.uint8]:
    """Decode the pictures of ``rows`` to (N, height, width, 3).

    They stand in an unlinked scratch file, so the page cache holds them, not the heap. Every thread writes rows of
    its own: the result does not depend on their number or order.
    """
    with tempfile.TemporaryFile() as scratch:
        images = np.memmap(scratch, dtype=np.uint8, mode="w+", shape=(rows.num_rows, height, width, 3))

    def decode(start: int) -> None:
        for at, row in enumerate(rows.slice(start, BLOCK_ROWS).to_pylist(), start):
            where = f"frame {row['frame']} of {row['drive']} ({row['shard']}, offset {row['offset']})"
            jpeg = os.pread(files[row["shard"]], row["bytes"], row["offset"])
            if len(jpeg) != row["bytes"]:
                raise DatasetError(
                    f"The picture of {where} has {len(jpeg)} bytes, expected {row['bytes']}.",
                    next_step="verify the dataset version; a shard is cut short",
                )
            images[at] = _decode(jpeg, width=width, height=height, where=where)

    with ExitStack() as stack, ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        files = {}
        for shard in sorted(set(map(str, rows["shard"].to_pylist()))):
            if not (dataset / shard).is_file():
                raise DatasetError(f"Shard {shard} is not in the dataset.", next_step="verify the dataset version")
            files[shard] = stack.enter_context((dataset / shard).open("rb")).fileno()
        for _ in pool.map(decode, range(0, rows.num_rows, BLOCK_ROWS)):
            pass
    return np.asarray(images)


def _decode(jpeg: bytes, *, width: int, height: int, where: str) -> npt.NDArray[np.uint8]:
    """Decode a JPEG to (height, width, 3) RGB: shrunk by libjpeg as far as it can, then averaged over areas."""
    import simplejpeg
    from PIL import Image

    try:
        picture: npt.NDArray[np.uint8] = simplejpeg.decode_jpeg(jpeg, "RGB", min_height=height, min_width=width)
    except ValueError as error:
        raise DatasetError(f"The picture of {where} is no sound JPEG: {error}.", next_step="leave the frame out") from None
    if picture.shape[:2] == (height, width):
        return picture
    return np.asarray(Image.fromarray(picture).resize((width, height), Image.Resampling.BOX))
