"""What differs between two commits. Belongs here: partitions, files and row counts of both sides.

Never here: rows. Counts come from manifests and from the metadata of Parquet files.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from drivelake.lake import Lake
from drivelake.manifest import Manifest
from drivelake.snapshots.snapshot import Snapshot
from drivelake.snapshots.tables import SUFFIX, Table, quoted
from drivelake.versions import MANIFEST

__all__ = ["Change", "Comparison", "Rows", "compare"]

How = Literal["added", "removed", "changed"]


class Rows(NamedTuple):
    """Rows of one table on both sides: None where it is not there, or where its bytes were withdrawn."""

    before: int | None
    after: int | None


@dataclass(frozen=True)
class Change:
    """One partition that differs.

    Attributes:
        asset: whose partition.
        partition: which.
        how: what happened to it.
        files: paths inside the version whose bytes differ, sorted; none where only its inputs, code or parameters do.
        tables: rows of each table among them, by a name that SQL knows it by.
    """

    asset: str
    partition: str
    how: How
    files: tuple[str, ...]
    tables: dict[str, Rows] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """Everything that differs between commits ``a`` and ``b``, by asset and partition."""

    a: str
    b: str
    changes: tuple[Change, ...]

    def assets(self) -> dict[str, dict[How, list[str]]]:
        """Partitions by asset and by what happened to them."""
        found: dict[str, dict[How, list[str]]] = {}
        for change in self.changes:
            found.setdefault(change.asset, {"added": [], "removed": [], "changed": []})[change.how].append(change.partition)
        return found

    def totals(self) -> dict[str, tuple[int, int]]:
        """Rows of each table before and after, over the partitions that differ; what is not there counts as none."""
        sums: dict[str, tuple[int, int]] = {}
        for change in self.changes:
            for name, rows in change.tables.items():
                before, after = sums.get(name, (0, 0))
                sums[name] = (before + (rows.before or 0), after + (rows.after or 0))
        return dict(sorted(sums.items()))


def compare(lake: Lake, a: str, b: str) -> Comparison:
    """What differs between two refs; no data of any table is read.

    Raises:
        NotFound: a ref resolves to nothing.
        Denied, Unavailable, StoreError: the metadata of a file cannot be read.
    """
    sides = Snapshot(lake, a), Snapshot(lake, b)
    changes: list[Change] = []
    # for each side and table, the sizes of its files that have to be looked at, by partition
    wanted: tuple[defaultdict[tuple[str, str], dict[str, int]], ...] = (defaultdict(dict), defaultdict(dict))
    for path in lake.store.diff(sides[0].commit, sides[1].commit):
        asset, _, partition = path.partition("/")
        files = [_files(lake, side.commit, path) for side in sides]
        there = [side or {} for side in files]
        differ = tuple(name for name in sorted({*there[0], *there[1]}) if there[0].get(name) != there[1].get(name))
        how: How = "added" if files[0] is None else "removed" if files[1] is None else "changed"
        changes.append(Change(asset, partition, how, differ))
        for file in differ:
            for side, sizes in zip(there, wanted, strict=True):
                if file in side and file.endswith(SUFFIX):
                    sizes[asset, file][partition] = side[file][0]
    counted = [
        {
            (table, partition): rows
            for table, sizes in tables.items()
            for partition, rows in side.rows(Table(*table, name=_name(*table), sizes=sizes)).items()
        }
        for side, tables in zip(sides, wanted, strict=True)
    ]
    for change in changes:
        for file in change.files:
            if file.endswith(SUFFIX):
                at = ((change.asset, file), change.partition)
                change.tables[_name(*at[0])] = Rows(counted[0].get(at), counted[1].get(at))
    return Comparison(sides[0].commit, sides[1].commit, tuple(changes))


def _name(asset: str, file: str) -> str:
    return f"{asset}.{quoted(file.removesuffix(SUFFIX))}"


def _files(lake: Lake, commit: str, path: str) -> Mapping[str, tuple[int, str]] | None:
    """Size and SHA-256 of each file of what stands at a path; None where nothing does."""
    small = lake.store.list(commit, path)
    if MANIFEST not in small:
        return {} if small else None
    manifest = Manifest.parse(lake.store.read(commit, path, MANIFEST), where=f"{path}/{MANIFEST} at {commit[:12]}")
    return {entry.path: (entry.bytes, entry.sha256) for entry in (*manifest.files, *manifest.references)}
