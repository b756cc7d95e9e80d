"""From a selection to a dataset folder: rows, packed pictures, card. Belongs here: the pass over the rows.

Never here: SQL, decoding pictures, learning. Memory is bounded by a batch of rows and one picture,
plus about 100 bytes a picture for the leakage check.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from drivelake.datasets.leakage import Ancestry, LeakageCheck
from drivelake.datasets.select import DriveFrames, selection
from drivelake.datasets.split import SPLITS, split_of
from drivelake.declaration import Dataset
from drivelake.errors import DatasetError
from drivelake.logs import PayloadReader
from drivelake.pictures import JPEG_MAGIC

__all__ = ["SourceDrive", "curate"]

BATCH_ROWS = 512
SHARD_BYTES = 64 << 20
OPEN_LOGS = 4  # decompressed chunks of this many logs are held at once


@dataclass(frozen=True)
class SourceDrive:
    """A drive that may give rows: its frames, its raw logs by name, and what the leakage check compares."""

    frames: DriveFrames
    logs: Mapping[str, Path]
    raw_sha256: frozenset[str]


@dataclass
class Shards:
    """Pictures back to back in files of about 64 MiB."""

    folder: Path
    number: int = 0
    size: int = 0

    def add(self, picture: bytes) -> tuple[str, int]:
        """Append a picture; gives its shard (relative to the dataset) and offset in bytes."""
        if self.size and self.size + len(picture) > SHARD_BYTES:
            self.number, self.size = self.number + 1, 0
        name, offset = f"shards/{self.number:05d}.bin", self.size
        with (self.folder / name).open("ab") as shard:
            shard.write(picture)
        self.size += len(picture)
        return name, offset


@dataclass
class Pictures:
    """Payload readers of the logs in use; rows come drive by drive, so a few stay open at a time."""

    drives: Mapping[str, SourceDrive]
    stack: ExitStack
    open: dict[tuple[str, str], PayloadReader] = field(default_factory=dict)

    def read(self, drive: str, log: str, chunk: int, offset: int, size: int) -> bytes:
        """The bytes of one picture."""
        reader = self.open.get((drive, log))
        if reader is None:
            if len(self.open) >= OPEN_LOGS:
                self.stack.close()
                self.open.clear()
            reader = self.stack.enter_context(PayloadReader(self.drives[drive].logs[log]))
            self.open[drive, log] = reader
        return reader.read(chunk, offset, size)


def curate(
    dataset: Dataset,
    drives: Sequence[SourceDrive],
    excluded: Mapping[str, str],
    out: Path,
    scratch: Path,
    progress: Callable[[str], None],
) -> dict[str, object]:
    """Write ``rows.parquet``, ``shards/`` and ``card.json`` into ``out``; gives the card.

    Args:
        dataset: what is declared.
        drives: the drives that may give rows.
        excluded: drives that may not, with the reason; they are named in the card.
        out: an empty folder.
        scratch: a folder for the selection's own files, on any file system.
        progress: hears a sentence now and then.

    Raises:
        DatasetError: the selection does not run, a split is empty or too small, the splits leak, a payload is no JPEG.
    """
    if not drives:
        reasons = "; ".join(f"{d}: {r}" for d, r in sorted(excluded.items())[:5]) or "no drive has frames"
        raise DatasetError(f"No drive can give rows: {reasons}.", next_step="drivelake inspect a drive; ingest more")
    (out / "shards").mkdir()
    check = LeakageCheck()
    spans: dict[str, tuple[int, int]] = {}
    with selection(dataset, [d.frames for d in drives], scratch, batch_rows=BATCH_ROWS) as reader, ExitStack() as stack:
        schema = _row_schema(reader.schema, dataset, _units(drives))
        pictures = Pictures({d.frames.drive: d for d in drives}, stack)
        shards = Shards(out)
        with pq.ParquetWriter(out / "rows.parquet", schema, compression="zstd") as writer:
            for batch in reader:
                writer.write_table(_pack(batch, dataset, schema, pictures, shards, check, spans))
    _note_ancestry(dataset, drives, spans, check)
    check.require_none()
    left_out = {
        **excluded,
        **{d.frames.drive: "the selection keeps none of its frames" for d in drives if d.frames.drive not in spans},
    }
    card = _card(dataset, out / "rows.parquet", check, left_out)
    (out / "card.json").write_text(json.dumps(card, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    progress(f"{card['rows']} rows from {len(spans)} drives, {len(left_out)} left out")
    return card


def _row_schema(selected: pa.Schema, dataset: Dataset, units: Mapping[str, str]) -> pa.Schema:
    """Keys, split, values (float64, with their unit), slices, where the picture stands; no pointers, stamps and ages."""
    pointer = [f"{dataset.payload}_{part}" for part in ("log", "chunk", "offset", "bytes")]
    absent = [name for name in pointer if name not in selected.names]
    if absent:
        raise DatasetError(
            f"The selection lacks {', '.join(absent)}: without them there is no picture.",
            next_step=f"keep the columns of {dataset.payload} in the SELECT, or select *",
        )
    values = [
        f for f in selected
        if (pa.types.is_floating(f.type) or pa.types.is_integer(f.type) or pa.types.is_decimal(f.type))
        and f.name not in {"frame", "t_ns", *pointer} and not f.name.endswith(("_ns", "_chunk", "_offset", "_bytes"))
    ]  # fmt: skip

    fields: list[tuple[str, pa.DataType]] = [
        ("drive", pa.string()),
        ("frame", pa.int64()),
        ("t_ns", pa.int64()),
        ("split", pa.string()),
    ]
    fields += [(f.name, pa.float64()) for f in values]
    fields += [(f"slice_{name}", pa.string()) for name in dataset.slices]
    fields += [("shard", pa.string()), ("offset", pa.int64()), ("bytes", pa.int64())]
    schema = pa.schema(fields)
    for name in (f.name for f in values if f.name in units):
        at = schema.get_field_index(name)
        schema = schema.set(at, schema.field(at).with_metadata({"unit": units[name]}))
    return schema


def _units(drives: Sequence[SourceDrive]) -> dict[str, str]:
    """Unit of each column that carries one in any drive's frames; the last drive counts, rigs declare one unit a sensor."""
    units: dict[str, str] = {}
    for source in drives:
        for column in pq.read_schema(source.frames.frames):
            if column.metadata and b"unit" in column.metadata:
                units[column.name] = column.metadata[b"unit"].decode()
    return units


def _pack(
    batch: pa.RecordBatch, dataset: Dataset, schema: pa.Schema, pictures: Pictures, shards: Shards, check: LeakageCheck,
    spans: dict[str, tuple[int, int]],
) -> pa.Table:  # fmt: skip
    """One batch of rows with their pictures written to the shards; rows without a picture are not rows."""
    table = pa.Table.from_batches([batch]).filter(batch.column(f"{dataset.payload}_log").is_valid())
    splits: list[str] = []
    placed: list[tuple[str, int, int]] = []
    columns = ("drive", "t_ns", *(f"{dataset.payload}_{part}" for part in ("log", "chunk", "offset", "bytes")))
    for row in table.select(columns).to_pylist():
        drive, t_ns, log, chunk, offset, size = (row[name] for name in columns)
        picture = pictures.read(drive, log, chunk, offset, size)
        if not picture.startswith(JPEG_MAGIC):
            raise DatasetError(
                f"{drive}/{log}: the payload at {chunk}+{offset} starts with {picture[:4].hex()}, expected a JPEG (ffd8ff).",
                next_step="declare a JPEG topic as the dataset's payload",
            )
        splits.append(split_of(drive, dataset.split))
        placed.append((*shards.add(picture), size))
        check.picture(splits[-1], hashlib.sha256(picture).digest())
        first, last = spans.get(drive, (t_ns, t_ns))
        spans[drive] = (min(first, t_ns), max(last, t_ns))
    added = {
        "split": pa.array(splits, pa.string()),
        "shard": pa.array([p[0] for p in placed], pa.string()),
        "offset": pa.array([p[1] for p in placed], pa.int64()),
        "bytes": pa.array([p[2] for p in placed], pa.int64()),
    }
    arrays = [added[f.name] if f.name in added else table.column(f.name).cast(f.type) for f in schema]
    return pa.table(arrays, schema=schema)


def _note_ancestry(
    dataset: Dataset, drives: Sequence[SourceDrive], spans: Mapping[str, tuple[int, int]], check: LeakageCheck
) -> None:
    for source in drives:
        name = source.frames.drive
        if name in spans:
            first, last = spans[name]
            split = split_of(name, dataset.split)
            check.drives.append(Ancestry(name, split, source.raw_sha256, source.frames.vehicle, first, last))


def _card(dataset: Dataset, rows: Path, check: LeakageCheck, left_out: Mapping[str, str]) -> dict[str, object]:
    """Counts and ranges read back from the rows as written.

    Raises:
        DatasetError: a split has fewer rows than ``rows_min``.
    """
    with duckdb.connect(config={"threads": 1}) as database:
        database.execute(f"CREATE VIEW rows AS SELECT * FROM read_parquet('{str(rows).replace(chr(39), chr(39) * 2)}')")
        again = "SELECT drive, frame, count(*) FROM rows GROUP BY drive, frame HAVING count(*) > 1 LIMIT 1"
        twice = database.execute(again).fetchone()
        if twice:
            raise DatasetError(
                f"The selection gives frame {twice[1]} of {twice[0]} {twice[2]} times.",
                next_step="a join repeats rows: give one row a frame",
            )
        by_split = dict(database.execute("SELECT split, count(*) FROM rows GROUP BY ALL").fetchall())
        small = [f"{name} has {by_split.get(name, 0)}" for name in SPLITS if by_split.get(name, 0) < dataset.rows_min]
        if small:
            raise DatasetError(
                f"{'; '.join(small)} row(s), expected at least {dataset.rows_min} in every split.",
                next_step="ingest more drives, or change split.seed or rows_min",
            )
        slices = {}
        for name in dataset.slices:
            counts = {}
            for value, *numbers in database.execute(
                f"SELECT coalesce(\"slice_{name}\", '(none)') AS value, "
                + ", ".join(f"count(*) FILTER (split = '{s}')" for s in SPLITS)
                + " FROM rows GROUP BY value ORDER BY value"
            ).fetchall():
                counts[value] = dict(zip(SPLITS, numbers, strict=True))
            slices[name] = counts
        drives = {drive: {"split": split, "rows": n} for drive, split, n in _drives(database)}
        values = {name: _range(database, name) for name in _value_names(rows)}
    return {
        "rows": sum(by_split.values()),
        "splits": {name: by_split[name] for name in SPLITS},
        "drives": drives,
        "slices": slices,
        "values": values,
        "left_out": dict(sorted(left_out.items())),
        "leakage": {"shared": check.shared(), "distinct_pictures": dict(check.counts())},
    }


def _drives(database: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, str, int]]:
    yield from database.execute("SELECT drive, split, count(*) FROM rows GROUP BY ALL ORDER BY drive").fetchall()


def _value_names(rows: Path) -> list[str]:
    schema = pq.read_schema(rows)
    return [f.name for f in schema if pa.types.is_float64(f.type)]


def _range(database: duckdb.DuckDBPyConnection, name: str) -> dict[str, object]:
    low, high, mean, std, nulls = database.execute(
        f'SELECT min("{name}"), max("{name}"), avg("{name}"), stddev_pop("{name}"), count(*) - count("{name}") FROM rows'
    ).fetchall()[0]
    return {"min": low, "max": high, "mean": mean, "std": std, "nulls": nulls}
