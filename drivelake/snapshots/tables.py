"""The tables of a commit and what SQL calls them. Belongs here: from manifests to tables, from a name to its table.

Never here: DuckDB, Arrow, addresses.

Every Parquet file path inside the versions of an asset is one table over all partitions that have it. It is named

    <asset>."<path without .parquet>"   always, as in signals."camera.mcap/imu_data"
    <asset>.<last part of the path>     where no other table of the asset ends so, as in signals.imu_data
    <asset>                             where the asset has one table, as in sensor_frames
    frames                              sensor_frames as the SQL of a dataset sees them
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import PurePosixPath

from drivelake.errors import InputError, NotFound
from drivelake.manifest import Manifest

__all__ = ["FRAMES", "SUFFIX", "Table", "find_table", "quoted", "tables_of", "unknown"]

DRIVE_ASSETS = frozenset({"raw_logs", "signals", "sensor_frames"})
SUFFIX = ".parquet"
FRAMES, FRAMES_OF = "frames", "sensor_frames"
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
NEAREST = 5


@dataclass(frozen=True, eq=False)
class Table:
    """One table of a snapshot.

    Attributes:
        asset: whose versions hold it.
        path: of its file inside a version.
        name: the shortest that SQL knows it by.
        sizes: bytes of its file, by partition, sorted.
    """

    asset: str
    path: str
    name: str
    sizes: Mapping[str, int]

    @property
    def partition_column(self) -> str:
        """The column that says which partition a row came from."""
        return "drive" if self.asset in DRIVE_ASSETS else "partition"

    @property
    def stem(self) -> str:
        """The path without its suffix: the name that it always has in the asset's schema."""
        return self.path.removesuffix(SUFFIX)

    @property
    def last(self) -> str:
        """The last part of the stem."""
        return PurePosixPath(self.stem).name


def tables_of(asset: str, manifests: Iterable[Manifest]) -> tuple[Table, ...]:
    """The tables of an asset, by path."""
    sizes: defaultdict[str, dict[str, int]] = defaultdict(dict)
    for manifest in manifests:
        for entry in manifest.files:
            if entry.path.endswith(SUFFIX):
                sizes[entry.path][manifest.partition] = entry.bytes
    found = [Table(asset, path, "", dict(sorted(sizes[path].items()))) for path in sorted(sizes)]
    often = Counter(table.last.casefold() for table in found)
    named = []
    for table in found:
        own = table.last if often[table.last.casefold()] == 1 else table.stem
        name = asset if len(found) == 1 else f"{asset}.{quoted(own)}"
        named.append(Table(asset, table.path, name, table.sizes))
    return tuple(named)


def find_table(schema: str, name: str, assets: Iterable[str], tables: Callable[[str], Sequence[Table]]) -> Table | None:
    """The table that SQL calls so, or None.

    Args:
        schema: as written, empty where none is.
        name: as written; case counts only where it tells two tables apart.
        assets: those that there are.
        tables: gives the tables of an asset.

    Raises:
        NotFound: the asset has no table of that name, or no table at all; names those that it has.
        InputError: the name fits several.
    """
    by_name = {asset.casefold(): asset for asset in assets}
    if schema.casefold() in {"", "main"}:
        if name.casefold() == FRAMES and FRAMES_OF in by_name:
            return find_table(FRAMES_OF, FRAMES, assets, tables)
        asset = by_name.get(name.casefold())
        if asset is None:
            return None
        there = tables(asset)
        if len(there) == 1:
            return there[0]
        raise NotFound(
            f"{asset} holds {len(there)} tables, none of its own name.",
            next_step=f"ask for one of {_listed(there, name)}" if there else "SELECT * FROM tables",
        )
    asset = by_name.get(schema.casefold())
    if asset is None:
        return None
    there = tables(asset)
    for names in ({table: table.stem for table in there}, {table: table.last for table in there}):
        fits = [table for table in there if names[table].casefold() == name.casefold()]
        exact = [table for table in fits if names[table] == name] or fits
        if len(exact) == 1:
            return exact[0]
        if exact:
            raise InputError(f"{schema}.{name} fits {len(exact)} tables.", next_step=f"ask for one of {_listed(exact, name)}")
    raise NotFound(
        f"{asset} has no table {name!r} at this commit.",
        next_step=f"ask for one of {_listed(there, name)}" if there else "SELECT * FROM tables",
    )


def unknown(name: str, tables: Iterable[Table], others: Iterable[str]) -> NotFound:
    """The error for a name that fits nothing."""
    known = [*others, FRAMES, *(table.name for table in tables)]
    # people leave the schema out
    lasts = {table.last.casefold(): table.name for table in tables}
    near = [lasts[n] for n in get_close_matches(name.casefold(), lasts, 2)] + get_close_matches(name, known, 3, cutoff=0.5)
    guess = ", ".join(dict.fromkeys(near))
    return NotFound(
        f"There is no table {name!r} at this commit.",
        next_step=f"is it {guess}? SELECT * FROM tables lists all" if guess else "SELECT * FROM tables lists all",
    )


def quoted(name: str) -> str:
    """An identifier as SQL writes it."""
    return name if PLAIN.fullmatch(name) else '"' + name.replace('"', '""') + '"'


def _listed(tables: Sequence[Table], near: str) -> str:
    names = {table.last: table.name for table in tables}
    order = get_close_matches(near, names, NEAREST, cutoff=0.3) or sorted(names)[:NEAREST]
    rest = len(tables) - len(order)
    return ", ".join(names[last] for last in order) + (f", and {rest} more: SELECT * FROM tables" if rest > 0 else "")
