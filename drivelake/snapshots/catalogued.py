"""What manifests say, as tables. Belongs here: the catalogue tables of a snapshot, and what is known of each drive.

Never here: rows of anybody's Parquet files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

import pyarrow as pa

from drivelake.errors import InputError
from drivelake.manifest import Input

if TYPE_CHECKING:
    from drivelake.lake import Version
    from drivelake.snapshots.snapshot import Snapshot

__all__ = ["CATALOGUE", "catalogue", "drive_facts"]


def _schema(columns: Iterable[tuple[str, pa.DataType]]) -> pa.Schema:
    return pa.schema(list(columns))


TEXT: pa.DataType = pa.string()
COUNT: pa.DataType = pa.int64()
CATALOGUE: Mapping[str, pa.Schema] = {
    "tables": _schema([("table", TEXT), ("asset", TEXT), ("path", TEXT), ("partitions", COUNT), ("bytes", COUNT)]),
    "versions": _schema(
        [
            ("asset", TEXT),
            ("partition", TEXT),
            ("version", TEXT),
            ("commit", TEXT),
            ("files", COUNT),
            ("bytes", COUNT),
            ("rows", COUNT),
            ("code_version", TEXT),
        ]
    ),
    "files": _schema([("asset", TEXT), ("partition", TEXT), ("path", TEXT), ("bytes", COUNT), ("sha256", TEXT), ("uri", TEXT)]),
    "inputs": _schema(
        [("asset", TEXT), ("partition", TEXT), ("input_asset", TEXT), ("input_partition", TEXT), ("input_version", TEXT)]
    ),
}


def catalogue(snapshot: Snapshot, name: str) -> pa.Table:
    """A catalogue table, whole: the name is one of ``CATALOGUE``."""
    rows = {"tables": _tables, "versions": _versions, "files": _files, "inputs": _inputs}[name](snapshot)
    schema = CATALOGUE[name]
    columns = list(zip(*rows, strict=True)) or [()] * len(schema)
    return pa.table([pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)], schema=schema)


def _all(snapshot: Snapshot) -> Iterator[Version]:
    for asset in snapshot.assets:
        yield from snapshot.versions(asset).values()


def _tables(snapshot: Snapshot) -> Iterator[tuple[object, ...]]:
    for table in snapshot.tables():
        yield table.name, table.asset, table.path, len(table.sizes), sum(table.sizes.values())


def _versions(snapshot: Snapshot) -> Iterator[tuple[object, ...]]:
    commits = snapshot.lake.index.commits()
    for version in _all(snapshot):
        manifest = version.manifest
        rows = manifest.facts.get("rows", manifest.facts.get("frames"))
        yield (
            manifest.asset,
            manifest.partition,
            version.digest,
            commits.get((version.name, version.digest)),
            len(manifest.files) + len(manifest.references),
            sum(entry.bytes for entry in (*manifest.files, *manifest.references)),
            int(rows) if isinstance(rows, (int, float)) else None,
            manifest.code_version,
        )


def _files(snapshot: Snapshot) -> Iterator[tuple[object, ...]]:
    for version in _all(snapshot):
        manifest = version.manifest
        for entry in manifest.files:
            yield manifest.asset, manifest.partition, entry.path, entry.bytes, entry.sha256, None
        for reference in manifest.references:
            yield manifest.asset, manifest.partition, reference.path, reference.bytes, reference.sha256, reference.uri


def _inputs(snapshot: Snapshot) -> Iterator[tuple[object, ...]]:
    for version in _all(snapshot):
        manifest = version.manifest
        for named in manifest.inputs:
            yield manifest.asset, manifest.partition, named.asset, named.partition, named.version


def drive_facts(snapshot: Snapshot) -> dict[str, dict[str, str | None]]:
    """What the SQL of a dataset knows of each drive: ``vehicle`` and every tag; drives that their frames exclude are left out.

    Raises:
        InputError: a tag is named like a column that every row has.
    """
    at_hand: dict[Input, Version] = {}
    for asset in ("signals", "raw_logs"):
        at_hand |= {version.as_input(): version for version in snapshot.versions(asset).values()}

    def find(named: Input) -> Version:
        # frames may have been made from logs that were replaced since
        return at_hand.get(named) or snapshot.lake.version(named)

    facts: dict[str, dict[str, str | None]] = {}
    for drive, frames in snapshot.versions("sensor_frames").items():
        if not frames.manifest.facts["excluded"]:
            raw = find(find(frames.manifest.input("signals")).manifest.input("raw_logs")).manifest.facts
            tags = raw["tags"]
            assert isinstance(tags, dict), "raw_logs publishes tags as a mapping"
            clash = sorted(name for name in tags if name.casefold() in {"drive", "vehicle"})
            if clash:
                raise InputError(
                    f"Tag {clash[0]} of {drive} has the name of a column.",
                    next_step="rename it in drive.yaml; sensor_frames has the rows without tags",
                )
            facts[drive] = {"vehicle": str(raw["vehicle"]), **{name: str(value) for name, value in tags.items()}}
    names = ["vehicle", *sorted({name for known in facts.values() for name in known} - {"vehicle"})]
    return {drive: {name: known.get(name) for name in names} for drive, known in facts.items()}
