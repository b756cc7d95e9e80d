"""Signals folders for tests. Belongs here: writing tables and their index. Never here: anything under test."""

import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

EPOCH_NS = 1_700_000_000_000_000_001
MS = 1_000_000


def table(log, channel, t_ns, **columns):
    """One table of a signals folder; ``t_ns`` counts from EPOCH_NS, dots in names are written ``__``."""
    return {"log": log, "channel": channel, "t_ns": t_ns, "columns": {k.replace("__", "."): v for k, v in columns.items()}}


def pictures(log, channel, t_ns, **columns):
    """A payload topic with pointers that tell the pictures apart."""
    count = len(t_ns)
    pointers = {
        "payload_chunk": list(range(count)),
        "payload_offset": list(range(100, 100 + count)),
        "payload_bytes": [7] * count,
    }
    return table(log, channel, t_ns, **pointers, **columns)


def write_signals(folder: Path, tables, quarantined=()):
    """Write a signals folder: index.json and a Parquet file a table."""
    entries = []
    for at, spec in enumerate(tables):
        name = f"{spec['log']}/{at}.parquet"
        (folder / spec["log"]).mkdir(parents=True, exist_ok=True)
        stamps = pa.array([EPOCH_NS + t for t in spec["t_ns"]], type=pa.int64())
        arrays = {"t_ns": stamps, **{k: v if isinstance(v, pa.Array) else pa.array(v) for k, v in spec["columns"].items()}}
        written = pa.table(arrays)
        pq.write_table(written, folder / name, row_group_size=50)
        columns = [
            {"name": n, "dtype": str(written.schema.field(n).type), "unit": "m/s", "source_unit": ""} for n in spec["columns"]
        ]
        entries.append(
            {
                "log": spec["log"],
                "channel": spec["channel"],
                "table": name,
                "type": "",
                "rows": len(stamps),
                "first_ns": None,
                "last_ns": None,
                "columns": columns,
            }
        )
    index = {"tables": entries, "quarantined": [{"log": log, "reason": reason} for log, reason in quarantined]}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "index.json").write_text(json.dumps(index))
    return folder
