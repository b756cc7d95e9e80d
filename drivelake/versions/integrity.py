"""Whether git's own files still hold what their names say. Belongs here: reading and hashing every object below a commit.

Never here: the versions' data (the manifest's SHA-256 is for that), repairing, deciding what follows.
"""

from __future__ import annotations

import hashlib
import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import pygit2

from drivelake.versions.graph import damaged

__all__ = ["walk_verified"]

LINK = re.compile(rb"^(?:tree|parent) ([0-9a-f]{40})$", re.MULTILINE)
TREE_ENTRY = re.compile(rb"[0-7]+ [^\0]+\0(.{20})", re.DOTALL)
DIGEST_BYTES = 20
CHUNK_BYTES = 1 << 20


def walk_verified(repository: Path, commit: str) -> Iterator[Path]:
    """Each file that git keeps the objects below ``commit`` in, once it was found to hold what its name says.

    Loose objects are read from the disk here, each by its own file; packed ones by libgit2, and then every pack and its
    index is checked against the SHA-1 at its end. A fresh repository is opened, since libgit2 remembers what it once read.

    Raises:
        StoreError: a file is missing or damaged; names it.
    """
    fresh = pygit2.Repository(str(repository))
    packed = False
    waiting, seen = [commit], {commit}
    while waiting:
        name = waiting.pop()
        file = repository / "objects" / name[:2] / name[2:]
        loose = file.exists()
        content = _loose(file) if loose else _packed(fresh, file, name)
        if hashlib.sha1(content, usedforsecurity=False).hexdigest() != name:
            raise damaged(file, "does not hash to its name")
        if loose:
            yield file
        elif not packed:
            packed = True
            yield from _packs(repository)
        fresh_children = [child for child in _children(content) if child not in seen]
        seen.update(fresh_children)
        waiting += fresh_children


def _loose(file: Path) -> bytes:
    try:
        return zlib.decompress(file.read_bytes())
    except (zlib.error, OSError) as error:
        raise damaged(file, f"cannot be read: {error}") from error


def _packed(repository: pygit2.Repository, file: Path, name: str) -> bytes:
    try:
        kind, data = repository.read(name)
    except KeyError:
        raise damaged(file, "is missing, and no pack holds it") from None
    except pygit2.GitError as error:
        for _ in _packs(Path(repository.path)):
            pass  # names the damaged pack, if its checksum shows the damage
        raise damaged(file, f"is in a pack that cannot be read: {error}") from error
    return f"{pygit2.enums.ObjectType(kind).name.lower()} {len(data)}\0".encode() + data


def _packs(repository: Path) -> Iterator[Path]:
    """The packs and their indexes, each after its closing SHA-1 was compared."""
    for file in sorted((repository / "objects" / "pack").glob("pack-*.*")):
        if file.suffix in {".pack", ".idx"}:
            digest = hashlib.sha1(usedforsecurity=False)
            left = file.stat().st_size - DIGEST_BYTES
            with file.open("rb") as handle:
                while left > 0 and (block := handle.read(min(left, CHUNK_BYTES))):
                    digest.update(block)
                    left -= len(block)
                if digest.digest() != handle.read():
                    raise damaged(file, "does not match the SHA-1 at its end")
            yield file


def _children(content: bytes) -> list[str]:
    """Ids that an object with its header names: the tree and the parents of a commit, the entries of a tree."""
    header, _, body = content.partition(b"\0")
    if header.startswith(b"commit "):
        return [match[1].decode() for match in LINK.finditer(body.partition(b"\n\n")[0])]
    if header.startswith(b"tree "):
        return [match[1].hex() for match in TREE_ENTRY.finditer(body)]
    return []
