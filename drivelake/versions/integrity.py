"""Whether git's own files still hold what their names say. Belongs here: visiting every object below a commit.

Never here: the versions' data (the manifest's SHA-256 is for that), repairing, deciding what follows.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from drivelake.versions.gitobjects import GitObjects

__all__ = ["walk_verified"]


def walk_verified(objects: GitObjects, commit: str) -> Iterator[Path]:
    """Each file that git keeps the objects below ``commit`` in, once it was found to hold what its name says.

    An object that stands alone is checked by its own hash. Where one is in a pack, all packs and their indexes are
    checked whole against the SHA-1 at their ends, and the object itself as well.

    Raises:
        StoreError: a file is missing or damaged; names it.
    """
    packed = False
    waiting, seen = [commit], {commit}
    while waiting:
        oid = waiting.pop()
        alone = objects.file(oid).exists()
        if not alone and not packed:
            packed = True
            yield from objects.packs()
        found = [child for child in objects.children(oid) if child not in seen]
        if alone:
            yield objects.file(oid)
        seen.update(found)
        waiting += found
