"""Two cores beside one, on the wall clock. Belongs here: those cases. Never here: peers; they do not share work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path

from bench.case import Case, Counts, Target, Variant

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


CASES = (
    _case("cores_mdf", "MDF 4 signals on two cores", "signals.mf4", physical=False),
    _case("cores_camera", "MCAP with cameras (zstd) on two cores", "camera_zstd.mcap"),
)
