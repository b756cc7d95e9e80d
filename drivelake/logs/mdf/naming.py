"""Names of tables and columns of an MDF file. Belongs here: the rules, for our own reader and for asammdf alike.

Never here: what stands in a table.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from drivelake.logs.arrow import T_NS

__all__ = ["column_names", "table_names"]


def table_names(acquired: Sequence[str]) -> list[str]:
    """Names of all groups of a file, each of them once: how a group was acquired where only it was, else ``group_<index>``."""
    uses = Counter(acquired)
    by_number = {index for index, name in enumerate(acquired) if not name or uses[name] > 1}
    while True:
        numbers = {f"group_{index}": index for index in by_number}
        # a group that was acquired under the number of another one
        more = {index for index, name in enumerate(acquired) if numbers.get(name, index) != index} - by_number
        if not more:
            return [f"group_{index}" if index in by_number else name for index, name in enumerate(acquired)]
        by_number |= more


def column_names(channels: Iterable[str]) -> Iterator[str]:
    """Names of the columns of a table beside ``t_ns``, each of them once; the second channel of a name becomes ``name#2``."""
    uses, taken = Counter({T_NS.name: 1}), {T_NS.name}
    for name in channels:
        uses[name] += 1
        unique = name if uses[name] == 1 else f"{name}#{uses[name]}"
        while unique in taken:
            uses[name] += 1
            unique = f"{name}#{uses[name]}"
        taken.add(unique)
        yield unique
