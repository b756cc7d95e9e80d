"""The declared selection over the frames of many drives. Belongs here: SQL, its sandbox, its errors.

Never here: pictures, splits, or a way for the SQL to read anything but the frames: a file it read behind
the lake's back would be an input that no manifest names.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from drivelake.declaration import Dataset
from drivelake.errors import DatasetError

__all__ = ["DriveFrames", "selection"]

MEMORY_LIMIT = "1GB"
KEYS = ("drive", "frame", "t_ns")


@dataclass(frozen=True)
class DriveFrames:
    """One drive as the selection sees it: its frames table and what is known of it as plain columns."""

    drive: str
    frames: Path
    vehicle: str = ""
    tags: Mapping[str, str] = field(default_factory=dict)


@contextmanager
def selection(
    dataset: Dataset, drives: Sequence[DriveFrames], scratch: Path, *, batch_rows: int
) -> Iterator[pa.RecordBatchReader]:
    """Rows of the declared SQL, with a ``slice_<name>`` string column per declared slice, sorted by (drive, frame).

    The view ``frames`` holds all drives' frames by name of column, with ``drive``, ``vehicle`` and each tag as text.

    Raises:
        DatasetError: the SQL does not run, reads something else, or lacks drive, frame or t_ns.
    """
    folder = scratch / "selection"
    folder.mkdir()
    with duckdb.connect(
        config={"threads": 1, "memory_limit": MEMORY_LIMIT, "temp_directory": str(scratch / "spill")}
    ) as database:
        _lock(database, folder, drives)
        slices = "".join(f', CAST(({sql}) AS VARCHAR) AS "slice_{name}"' for name, sql in dataset.slices.items())
        query = f"SELECT *{slices} FROM (\n{dataset.sql.strip().rstrip(';')}\n) ORDER BY drive, frame"
        try:
            database.execute("SELECT setseed(0)")
            reader = database.execute(query).to_arrow_reader(batch_rows)
        except duckdb.Error as error:
            raise DatasetError(
                f"The selection does not run: {error}.",
                next_step="correct datasets.*.sql or slices in lakehouse.yaml; the view is `frames`",
            ) from None
        absent = [key for key in KEYS if key not in reader.schema.names]
        if absent:
            raise DatasetError(
                f"The selection gives {', '.join(reader.schema.names)}; it lacks {', '.join(absent)}.",
                next_step="keep drive, frame and t_ns in the SELECT",
            )
        yield reader


def _lock(database: duckdb.DuckDBPyConnection, folder: Path, drives: Sequence[DriveFrames]) -> None:
    """Make the view, then take the right to read anything else away."""
    tags = sorted({tag for drive in drives for tag in drive.tags})
    clash = sorted({*tags} & {name for d in drives for name in pq.read_schema(d.frames).names} | ({*tags} & {"drive", "vehicle"}))
    if clash:
        raise DatasetError(f"Tag(s) {', '.join(clash)} have the name of a column.", next_step="rename the tag in drive.yaml")
    links, columns = [], {"filename": [], "drive": [], "vehicle": [], **{tag: [] for tag in tags}}  # type: ignore[var-annotated]
    for number, drive in enumerate(drives):
        link = folder / f"{number}.parquet"
        link.symlink_to(drive.frames.resolve())
        links.append(str(link))
        row = {"filename": str(link), "drive": drive.drive, "vehicle": drive.vehicle, **{t: drive.tags.get(t) for t in tags}}
        for name, values in columns.items():
            values.append(row[name])
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    pq.write_table(table, folder / "drives.parquet")
    database.execute(f"CREATE TABLE drives AS SELECT * FROM read_parquet('{_quoted(folder / 'drives.parquet')}')")
    listed = ", ".join(f"'{_quoted(Path(link))}'" for link in links)
    database.execute(
        f"CREATE VIEW frames AS SELECT drives.* EXCLUDE (filename), f.* EXCLUDE (filename) "
        f"FROM read_parquet([{listed}], union_by_name = true, filename = true) f JOIN drives USING (filename)"
    )
    # links are resolved before they are compared, so a folder of links cannot be allowed as a folder
    database.execute(f"SET allowed_paths = [{listed}]")
    database.execute("SET enable_external_access = false")
    database.execute("SET lock_configuration = true")


def _quoted(path: Path) -> str:
    return str(path).replace("'", "''")
