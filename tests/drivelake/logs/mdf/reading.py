"""What the reader of MDF gives of a file, for the tests of the reader: as batches, and as tables by name."""

import numpy as np
import pyarrow as pa

from drivelake.logs.findings import Findings
from drivelake.logs.mdf.reader import read_mdf


def batches(path, **options):
    """Every batch; the first damage raises, unless ``findings`` are given to take it."""
    options = {"batch_rows": 1000, "leftovers": None, "findings": Findings(strict=True), **options}
    return list(read_mdf(path, wanted=options.pop("wanted", lambda _: True), **options))


def tables(path, **options):
    """Every table."""
    found = {}
    for batch in batches(path, **options):
        found.setdefault(batch.channel, []).append(batch.batch)
    return {name: pa.Table.from_batches(parts) for name, parts in found.items()}


def times(count):
    """Seconds from the start, 10 ms apart."""
    return np.arange(count) * 0.01
