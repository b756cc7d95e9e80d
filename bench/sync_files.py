"""Signals of a drive, as drivelake writes them, for synchronisation. Belongs here: their rates, jitter, drops, and the rig.

Never here: logs, any reader or peer.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["RATES_HZ", "TOLERANCE_NS", "write_drive"]

START_NS = 1_700_000_000_000_000_001
# of the 30 signals: GNSS and body at 10 to 20 Hz, radar and camera objects at 25 to 50, chassis and IMU at 100
RATES_HZ = (10, 20, 25, 50, 100, 100, 100, 50, 20, 10) * 3
TOLERANCE_NS = 100_000_000
ROWS = 1 << 17
DROPPED = 0.001


def write_drive(path: Path, hours: float, reference_hz: int) -> None:
    """A signals folder: ``index.json``, a table ``reference`` and 30 tables ``s00`` to ``s29`` with one value each."""
    path.mkdir()
    rng = np.random.default_rng(4)
    tables = [_table(path, "reference", hours, reference_hz, rng)]
    tables += [_table(path, f"s{at:02d}", hours, rate, rng) for at, rate in enumerate(RATES_HZ)]
    (path / "index.json").write_text(json.dumps({"tables": tables}), encoding="utf-8")


def _table(path: Path, name: str, hours: float, rate_hz: int, rng: np.random.Generator) -> dict[str, object]:
    """One table, written an hour at a time; stamps jitter by a tenth of a period, and some are missing."""
    schema = pa.schema([("t_ns", pa.int64()), ("value", pa.float64())])
    file, period_ns, value = f"{name}.parquet", 10**9 // rate_hz, 0.0
    encodings = {"t_ns": "DELTA_BINARY_PACKED", "value": "BYTE_STREAM_SPLIT"}
    left = max(int(hours * 3600 * rate_hz), 10)
    begin = 0
    with pq.ParquetWriter(path / file, schema, compression="lz4", use_dictionary=False, column_encoding=encodings) as writer:
        while begin < left:
            there = min(left - begin, 3600 * rate_hz)
            steps = np.arange(begin, begin + there, dtype=np.int64)[rng.random(there) >= DROPPED]
            t_ns = START_NS + steps * period_ns + rng.integers(-period_ns // 10, period_ns // 10, steps.size)
            values = value + np.cumsum(rng.standard_normal(steps.size)) * 0.01
            writer.write_table(pa.table([t_ns, np.round(values, 3)], schema=schema), row_group_size=ROWS)
            value, begin = float(values[-1]), begin + there
    return {"log": f"{name}.mcap", "channel": f"/{name}", "table": file, "columns": [{"name": "value", "unit": ""}]}
