"""Where a path of the interface stands in the tree of a commit of the embedded store. Belongs here: the fan-out, both ways.

Never here: what stands there, reading or writing trees.

``asset/partition`` stands at ``asset/<shard>/partition``; the shard is the first two hex digits of the SHA-256 of the
partition. So a commit into an asset of a million partitions writes a tree of 256 entries and one of about 4,000, and not
one of a million.
"""

from __future__ import annotations

import hashlib

__all__ = ["place", "shard", "standing"]


def shard(partition: str) -> str:
    """The folder that a partition of an asset stands in."""
    return hashlib.sha256(partition.encode(errors="surrogateescape")).hexdigest()[:2]


def place(path: str) -> str:
    """Where ``asset/partition`` stands in a tree."""
    asset, _, partition = path.partition("/")
    return f"{asset}/{shard(partition)}/{partition}"


def standing(place: str) -> str | None:
    """The path that ``place`` gave; None for a place that it gives for no path."""
    asset, *below = place.split("/")
    return f"{asset}/{below[1]}" if len(below) == 2 and shard(below[1]) == below[0] else None
