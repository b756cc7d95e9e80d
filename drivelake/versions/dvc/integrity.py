"""Whether git's own files still hold what their names say. Belongs here: visiting every object below a commit.

Never here: the versions' data (the manifest's SHA-256 is for that), repairing, deciding what follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from drivelake.versions.dvc.gitobjects import GitObjects

__all__ = ["reachable", "walk_verified"]

BATCH = 256


def reachable(objects: GitObjects, commit: str) -> Iterator[str]:
    """The id of every object below ``commit``, and its own, once it was read and compared with its name.

    What is not on this machine is fetched, many at once.

    Raises:
        StoreError: one is missing or damaged; names it.
    """
    waiting, seen = [commit], {commit}
    while waiting:
        some, waiting = waiting[-BATCH:], waiting[:-BATCH]
        objects.fetch(some)
        for oid in some:
            found = [child for child in dict.fromkeys(objects.children(oid)) if child not in seen]
            seen.update(found)
            waiting += found
            yield oid


def walk_verified(objects: GitObjects, commit: str) -> Iterator[Path]:
    """Each file that git keeps the objects below ``commit`` in, once it was found to hold what its name says.

    Packs and their indexes are checked whole against the SHA-1 at their ends, and every object by its own hash.

    Raises:
        StoreError: a file is missing or damaged; names it.
    """
    yield from objects.packs()
    for oid in reachable(objects, commit):
        file = objects.file(oid)
        if file.exists():
            yield file
