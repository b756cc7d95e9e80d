"""Names of tables and columns of an MDF file. Belongs here: the rules, for our own reader and for asammdf alike.

Never here: what stands in a table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from drivelake.logs.arrow import T_NS

__all__ = ["column_names", "table_names"]


def table_names(acquired: Sequence[str]) -> list[str]:
    """Names of all groups of a file: how they were acquired where that is unique, else ``group_<index>``."""
    uses = Counter(acquired)
    return [name if name and uses[name] == 1 else f"group_{index}" for index, name in enumerate(acquired)]


def column_names(channels: Iterable[str]) -> Iterator[str]:
    """Names of the columns of a table beside ``t_ns``; the second channel of a name becomes ``name#2``."""
    names = Counter({T_NS.name: 1})
    for name in channels:
        names[name] += 1
        yield name if names[name] == 1 else f"{name}#{names[name]}"
