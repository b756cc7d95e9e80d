"""Which drive falls into which split. Belongs here: the assignment by name, nothing else.

Never here: rows. A drive never changes sides as the lake grows, and all of its rows stand on one side.
"""

from __future__ import annotations

import hashlib
from fnmatch import fnmatchcase
from typing import Literal

from drivelake.declaration import Split

__all__ = ["SPLITS", "SplitName", "split_of"]

SplitName = Literal["train", "validation", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "validation", "test")


def split_of(drive: str, declared: Split) -> SplitName:
    """The split of a drive: put by hand where a glob matches, else by a hash of seed and name, uniform in [0, 1)."""
    for pattern, name in declared.assign.items():
        if fnmatchcase(drive, pattern):
            return name
    digest = hashlib.sha256(f"{declared.seed}:{drive}".encode()).digest()
    position = int.from_bytes(digest[:8], "big") / 2**64
    if position < declared.train:
        return "train"
    return "validation" if position < declared.train + declared.validation else "test"
