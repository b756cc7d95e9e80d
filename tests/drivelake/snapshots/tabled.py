"""A lake with small tables, published without the stages that would make them: what reading at a ref is tested on."""

import json
import secrets
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from drivelake.lake import Lake
from drivelake.manifest import Manifest, hash_folder
from drivelake.versions import publish

DECLARATION = """
lakehouse: tables
owner: team:perception
rigs:
  car:
    reference: camera
    sensors:
      camera: {log: camera.mcap, channel: /camera, kind: payload}
"""


def declared(**store) -> str:
    return DECLARATION + (f"store: {json.dumps(store)}\n" if store else "")


def put(lake: Lake, asset: str, partition: str, files: dict, *, inputs=(), **facts):
    """Publish a version of these files (tables as Parquet, else text) and give it."""
    folder = lake.root / "scratch" / secrets.token_hex(4)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(content, pa.Table):
            pq.write_table(content, path)
        else:
            path.write_text(content)
    manifest = Manifest(
        asset=asset,
        partition=partition,
        files=hash_folder(folder),
        inputs=tuple(version.as_input() for version in inputs),
        code_version="1",
        parameters={},
        tools={},
        facts=facts,
    )
    message, metadata = f"{asset}/{partition}", {"Drivelake-Run": f"run-{partition}"}
    publish(lake.store, manifest.name, folder, manifest.canonical(), message=message, metadata=metadata)
    return lake.head(asset, partition)


def frames(start: int, rows: int = 3, **columns) -> pa.Table:
    return pa.table({"frame": range(rows), "t_ns": range(start, start + rows), **columns})


def put_drive(lake: Lake, drive: str, number: int, *, excluded: str = "", rows: int = 3, **columns):
    """Raw logs, two tables of signals, frames."""
    raw = put(
        lake, "raw_logs", drive, {"health.json": "{}"}, vehicle=f"car_{number % 2}", tags={"weather": ["dry", "wet"][number % 2]}
    )
    imu = pa.table({"t_ns": range(number * 100, number * 100 + rows), "yaw": [number / 10] * rows})
    tables = {"camera.mcap/imu.parquet": imu, "can.mf4/speed.parquet": imu, "index.json": "{}"}
    signals = put(lake, "signals", drive, tables, inputs=[raw], rows=2 * rows)
    table = {"frames.parquet": frames(number * 100, rows, **columns)}
    return put(lake, "sensor_frames", drive, table, inputs=[signals], excluded=excluded, frames=rows)


def tabled_lake(root: Path, **store) -> Lake:
    """Three drives; the third is excluded. A dataset of two rows."""
    lake = Lake.create(root, declared(**store))
    made = [put_drive(lake, f"d{n}", n, excluded="no reference" if n == 3 else "") for n in (1, 2, 3)]
    rows = pa.table({"drive": ["d1", "d2"], "frame": [0, 0], "split": ["train", "test"]})
    put(lake, "curated_datasets", "lanes", {"rows.parquet": rows}, inputs=made, rows=2)
    return lake
