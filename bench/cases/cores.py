"""Two cores beside one, on the wall clock. Belongs here: those cases. Never here: peers; they do not share work.

Two things are measured. Within one file: threads of one process, which inflate and decode ahead. Across files: two logs of a
drive in two reader processes, as the pipeline reads them, beside the same two in one; starting the readers is a part of it.
Memory and CPU time of a case across files: the parent's peak alone, the time of the readers included.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from bench.case import Case, Counts, Target, Variant

if TYPE_CHECKING:
    from drivelake.logs import ReaderProcess

__all__ = ["CASES"]

Inputs = Mapping[str, Path]


def _read(inputs: Inputs, *, threads: int, physical: bool) -> Counts:
    from drivelake.logs import read_log

    (path,) = inputs.values()
    return {"rows": sum(found.batch.num_rows for found in read_log(path, threads=threads, physical=physical))}


def _case(name: str, title: str, file: str, *, physical: bool = True) -> Case:
    def on(threads: int) -> Callable[[Inputs], Counts]:
        return partial(_read, threads=threads, physical=physical)

    variants = (Variant("two cores", "ours", on(2)), Variant("one core", "ours", on(1)))
    return Case(name, title, (file,), variants, (Target("two cores", "wall", "one core", 1.6),))


def _drive(inputs: Inputs, *, readers: int) -> Counts:
    """Two logs to Parquet; the same file stands for both, so that they take the same time."""
    from drivelake.logs import Caps, ReaderProcess, in_readers

    (path,) = inputs.values()
    with TemporaryDirectory(dir=path.parent) as folder:

        def write(reader: ReaderProcess, log: str) -> int:
            out = Path(folder) / log
            reader.ask("tables", path, {"log": log, "path": str(path), "out": str(out), "databases": []})
            return len(list(out.rglob("*.parquet")))

        logs = ("first", "second")
        if readers > 1:
            return {"tables": sum(in_readers(logs, write, Caps()))}
        with ReaderProcess(Caps(threads=1)) as reader:
            return {"tables": sum(write(reader, log) for log in logs)}


CASES = (
    _case("cores_mdf", "MDF 4 signals on two cores, one file by two threads", "signals.mf4", physical=False),
    Case(
        "cores_drive",
        "MDF 4 signals to Parquet on two cores, two logs by two reader processes",
        ("signals.mf4",),
        (
            Variant("two readers", "ours", partial(_drive, readers=2)),
            Variant("one reader", "ours", partial(_drive, readers=1)),
        ),
        (Target("two readers", "wall", "one reader", 1.6),),
    ),
    _case("cores_camera", "MCAP with cameras (zstd) on two cores, one file by two threads", "camera_zstd.mcap"),
)
