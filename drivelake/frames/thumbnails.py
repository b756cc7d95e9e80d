"""A strip of a drive's pictures for people. Belongs here: choosing frames and reading their payloads. Never here: drawing."""

from __future__ import annotations

import pyarrow.parquet as pq

from drivelake.lake import Lake, Version
from drivelake.logs import PayloadReader
from drivelake.logs.stages import log_paths
from drivelake.pictures import evenly, strip

__all__ = ["thumbnails"]

COUNT = 8


def thumbnails(lake: Lake, frames: Version) -> bytes:
    """A JPEG of eight pictures, evenly spaced over the drive, of its first payload sensor; empty when it has none."""
    table = frames.path("frames.parquet")
    sensor = next((n.removesuffix("_chunk") for n in pq.read_schema(table).names if n.endswith("_chunk")), None)
    if sensor is None:
        return b""
    rows = pq.read_table(table, columns=[f"{sensor}_{part}" for part in ("log", "chunk", "offset", "bytes")])
    rows = rows.filter(rows.column(0).is_valid())
    chosen = rows.take(evenly(rows.num_rows, COUNT)).to_pylist()
    raw = lake.version(lake.version(frames.manifest.input("signals")).manifest.input("raw_logs"))
    pictures = []
    with lake.scratch("thumbnails") as scratch:
        paths = log_paths(lake, raw, scratch)
        for log in sorted({row[f"{sensor}_log"] for row in chosen}):
            with PayloadReader(paths[log]) as reader:
                pictures += [
                    reader.read(row[f"{sensor}_chunk"], row[f"{sensor}_offset"], row[f"{sensor}_bytes"])
                    for row in chosen
                    if row[f"{sensor}_log"] == log
                ]
    return strip(pictures)
