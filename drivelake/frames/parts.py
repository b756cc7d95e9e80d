"""Finished columns until all of them are there. Belongs here: holding them, in memory and beside the result, and joining them.

Never here: what columns hold.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["HELD_BYTES", "ROW_GROUP_ROWS", "Parts", "groups", "write_frames"]

ROW_GROUP_ROWS = 1 << 16
# writing columns out and reading them back costs a fifth of the whole time; an hour of 30 signals at 40 Hz stays in memory
HELD_BYTES = 128 << 20


def groups(ticks: int) -> Iterator[slice]:
    """The rows of each row group."""
    return (slice(start, min(start + ROW_GROUP_ROWS, ticks)) for start in range(0, ticks, ROW_GROUP_ROWS))


class Parts:
    """Columns of one sensor after another, a batch a row group; what is more than HELD_BYTES waits in files."""

    def __init__(self, scratch: Path) -> None:
        self._scratch = scratch
        self._held_bytes = 0
        self._parts: list[list[pa.RecordBatch] | Path] = []

    def add(self, batches: Iterable[pa.RecordBatch]) -> None:
        """Take the columns of one part: at least one batch."""
        path = self._scratch / f"{len(self._parts)}.arrow"
        held: list[pa.RecordBatch] = []
        writer: pa.RecordBatchFileWriter | None = None
        with ExitStack() as stack:
            for batch in batches:
                self._held_bytes += batch.nbytes
                held.append(batch)
                if writer is None and self._held_bytes > HELD_BYTES:
                    sink = stack.enter_context(pa.OSFile(str(path), "wb"))
                    writer = stack.enter_context(pa.ipc.new_file(sink, batch.schema))
                if writer is not None:
                    for waiting in held:
                        writer.write_batch(waiting)
                        self._held_bytes -= waiting.nbytes
                    held.clear()
        self._parts.append(held if writer is None else path)

    def joined(self) -> Iterator[list[pa.Array[pa.Scalar[pa.DataType]]]]:
        """The columns of all parts side by side, a row group at a time; each is let go of once it was given, so only once."""
        with ExitStack() as stack:
            waiting = [_batches(part, stack) for part in self._parts]
            self._parts = []
            for batches in zip(*waiting, strict=True):
                yield [column for batch in batches for column in batch.columns]


def _batches(part: list[pa.RecordBatch] | Path, stack: ExitStack) -> Iterator[pa.RecordBatch]:
    """The batches of a part, from memory or from its file; not mapped, since pages that are mapped count as memory in use."""
    if isinstance(part, Path):
        reader = pa.ipc.open_file(stack.enter_context(pa.OSFile(str(part), "rb")))
        yield from (reader.get_batch(group) for group in range(reader.num_record_batches))
        return
    part.reverse()
    while part:
        yield part.pop()


def write_frames(path: Path, schema: pa.Schema, batches: Iterable[pa.RecordBatch]) -> None:
    """Write ``frames.parquet``; without batches the schema alone. The same batches give the same bytes.

    Integers are stored as differences and text as dictionaries; values are stored plainly, since LZ4 finds those that repeat.
    """
    text = [f.name for f in schema if pa.types.is_string(f.type) or pa.types.is_dictionary(f.type)]
    encodings = {f.name: "DELTA_BINARY_PACKED" for f in schema if pa.types.is_integer(f.type)}
    with pq.ParquetWriter(
        path,
        schema,
        version="2.6",
        compression="lz4",
        write_statistics=[name for name in ("frame", "t_ns") if name in schema.names],
        use_dictionary=text,  # type: ignore[arg-type]  # the stubs know only a bool
        column_encoding=encodings,
        write_batch_size=ROW_GROUP_ROWS,
    ) as writer:
        for batch in batches:
            writer.write_batch(batch, row_group_size=ROW_GROUP_ROWS)
