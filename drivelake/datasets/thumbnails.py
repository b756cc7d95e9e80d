"""A strip of a dataset's pictures for people. Belongs here: choosing rows. Never here: drawing, decoding to learn from."""

from __future__ import annotations

import pyarrow.parquet as pq

from drivelake.lake import Version
from drivelake.pictures import evenly, strip

__all__ = ["thumbnails"]

COUNT = 10


def thumbnails(dataset: Version) -> bytes:
    """A JPEG of ten pictures, evenly spaced over the rows."""
    rows = pq.read_table(dataset.path("rows.parquet"), columns=["shard", "offset", "bytes"])
    pictures = []
    for row in rows.take(evenly(rows.num_rows, COUNT)).to_pylist():
        with dataset.path(row["shard"]).open("rb") as shard:
            shard.seek(row["offset"])
            pictures.append(shard.read(row["bytes"]))
    return strip(pictures)
