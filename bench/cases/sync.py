"""Synchronisation: 30 signals onto the ticks of one. Belongs here: those cases. Never here: reading logs, estimating clocks.

Every variant reads the same Parquet tables and writes the same columns to Parquet: the value, the native stamp, its age, and
why there is none; ours writes its report too. Half of the signals take the nearest sample, the others the previous one, which
the peers know as well. Clocks agree, so that nothing is estimated. polars runs on one thread, and writes once as it does when
nothing else is said (zstd: a file as large as ours) and once with LZ4, as ours is written.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from bench.case import Case, Counts, Target, Variant
from bench.sync_files import RATES_HZ, TOLERANCE_NS

__all__ = ["CASES", "RULES", "drivelake", "pandas_asof", "polars_asof"]

Inputs = Mapping[str, Path]
RULES = {f"s{at:02d}": "nearest" if at % 2 else "previous" for at in range(len(RATES_HZ))}
REASONS = ("no samples", "before first", "after last", "too old")


def drivelake(inputs: Inputs, out: Path | None = None) -> Counts:
    """As drivelake makes the frames of a drive, with the report on it."""
    from drivelake.frames import synchronise
    from drivelake.rig import Rig, Sensor

    (signals,) = inputs.values()
    sensors = {
        name: Sensor(log=f"{name}.mcap", channel=f"/{name}", field="value", rule=rule, tolerance_ms=TOLERANCE_NS / 1e6)
        for name, rule in {"reference": "nearest", **RULES}.items()
    }
    with TemporaryDirectory(dir=signals.parent) as folder:
        report = synchronise(signals, Rig(reference="reference", sensors=sensors), out or Path(folder))
    return {"frames": report.frames, "matched": sum(report.sensors[name].matched for name in RULES)}


def polars_asof(inputs: Inputs, out: Path | None = None, *, compression: Literal["zstd", "lz4"] = "zstd") -> Counts:
    """One ``join_asof`` a signal."""
    os.environ["POLARS_MAX_THREADS"] = "1"
    import polars as pl

    (signals,) = inputs.values()
    frames = pl.read_parquet(signals / "reference.parquet", columns=["t_ns"])
    reason = pl.Enum(REASONS)
    for name, rule in RULES.items():
        table = pl.read_parquet(signals / f"{name}.parquet").rename({"value": name})
        table = table.with_columns(pl.col("t_ns").alias(f"{name}_native_ns"))
        first, last = table["t_ns"][0], table["t_ns"][-1]
        frames = frames.join_asof(
            table,
            on="t_ns",
            strategy="nearest" if rule == "nearest" else "backward",
            tolerance=TOLERANCE_NS,
            check_sortedness=False,
        )
        late = pl.lit("after last" if rule == "nearest" else "too old", reason)
        frames = frames.with_columns(
            (pl.col("t_ns") - pl.col(f"{name}_native_ns")).alias(f"{name}_age_ns"),
            pl.when(pl.col(f"{name}_native_ns").is_not_null())
            .then(pl.lit(None, reason))
            .when(pl.col("t_ns") < first)
            .then(pl.lit("before first", reason))
            .when(pl.col("t_ns") > last)
            .then(late)
            .otherwise(pl.lit("too old", reason))
            .alias(f"{name}_reason"),
        )
    with TemporaryDirectory(dir=signals.parent) as folder:
        frames.write_parquet((out or Path(folder)) / "frames.parquet", compression=compression)
    return {"frames": frames.height, "matched": sum(frames.height - frames[name].null_count() for name in RULES)}


def pandas_asof(inputs: Inputs, out: Path | None = None) -> Counts:
    """One ``merge_asof`` a signal."""
    import numpy as np
    import pandas as pd

    (signals,) = inputs.values()
    frames = pd.read_parquet(signals / "reference.parquet", columns=["t_ns"])
    columns = {"t_ns": frames["t_ns"]}
    for name, rule in RULES.items():
        table = pd.read_parquet(signals / f"{name}.parquet")
        table["native_ns"] = table["t_ns"].astype("Int64")
        direction = "nearest" if rule == "nearest" else "backward"
        joined = pd.merge_asof(frames, table, on="t_ns", direction=direction, tolerance=TOLERANCE_NS)
        t_ns, absent = joined["t_ns"].to_numpy(), joined["native_ns"].isna().to_numpy()
        late = "after last" if rule == "nearest" else "too old"
        first, last = table["t_ns"].iloc[0], table["t_ns"].iloc[-1]
        codes = np.select(
            [~absent, t_ns < first, t_ns > last],
            [-1, REASONS.index("before first"), REASONS.index(late)],
            REASONS.index("too old"),
        )
        columns |= {
            name: joined["value"],
            f"{name}_native_ns": joined["native_ns"],
            f"{name}_age_ns": joined["t_ns"] - joined["native_ns"],
            f"{name}_reason": pd.Series(pd.Categorical.from_codes(codes, categories=list(REASONS))),
        }
    whole = pd.DataFrame(columns)
    with TemporaryDirectory(dir=signals.parent) as folder:
        whole.to_parquet((out or Path(folder)) / "frames.parquet")
    return {"frames": len(whole), "matched": int(sum(whole[name].notna().sum() for name in RULES))}


OURS = Variant("drivelake", "ours", drivelake)
POLARS = Variant("polars join_asof", "peer", polars_asof)
PEERS = (
    POLARS,
    Variant("polars join_asof, lz4", "peer", partial(polars_asof, compression="lz4")),
    Variant("pandas merge_asof", "peer", pandas_asof),
)
FASTER = (Target("drivelake", "speed", "polars join_asof", 1.5),)

CASES = (
    Case("sync_20", "30 signals over an hour onto 20 Hz", ("drive_20hz",), (OURS, *PEERS), FASTER),
    Case("sync_100", "30 signals over an hour onto 100 Hz", ("drive_100hz",), (OURS, *PEERS), FASTER),
    # for its memory, which the cap of all cases bounds
    Case("sync_long", "30 signals over 10 hours onto 20 Hz", ("drive_long",), (OURS, POLARS)),
)
