"""Git's objects as bytes: reading with verification, parsing, writing. Belongs here: commits, trees and blobs, one at a time.

Never here: refs, walking, merging, what a path in a tree means, how a bucket is spoken to (``gitbucket``).

Loose objects are read here and not by libgit2: 1.9.7 loops for ever on one that is cut short (libgit2 issue 7342), and a
store must fail on damage, by the name of the file. For the same reason objects are written as bytes, without libgit2
reading those they point at. The format is the one of git's documentation, gitformat-pack and hash-object.

Beside a bucket the repository is this machine's cache of it: what is missing or damaged here is fetched, compared with its
hash and kept, and what is written here is sent by ``send``.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pygit2
from pygit2.enums import ObjectType

from drivelake.errors import StoreError
from drivelake.versions.dvc.gitbucket import GitBucket

__all__ = ["BLOB", "TREE", "Commit", "Entry", "GitObjects"]

BLOB, TREE = 0o100644, 0o040000
Entry = tuple[str, int]  # what a tree holds under a name: an object's id and its file mode

TREE_ENTRY = re.compile(rb"([0-7]+) ([^\0]+)\0(.{20})", re.DOTALL)
KINDS = {"commit": ObjectType.COMMIT, "tree": ObjectType.TREE, "blob": ObjectType.BLOB}
AUTHOR = "drivelake <store@drivelake.invalid>"
DIGEST_BYTES = 20
CHUNK_BYTES = 1 << 20
# A read at a path meets the root, the asset, the shard and the version; a walk meets them once a commit.
TREES_KEPT, COMMITS_KEPT = 32, 4096


class Commit(NamedTuple):
    """A commit.

    Attributes:
        id: its own.
        tree: what it holds.
        parents: what it follows.
        time_s: its author's, seconds since 1970 UTC; of our commits when they were made, never before a parent.
        order: its committer's time; of our commits always greater than a parent's, so that it puts them in order whatever
            the clocks said.
        message: as written.
    """

    id: str
    tree: str
    parents: tuple[str, ...]
    time_s: int
    order: int
    message: str


class GitObjects:
    """The objects of the repository in the folder ``repository``; with ``remote``, of the bucket that it caches."""

    def __init__(self, repository: Path, remote: GitBucket | None = None) -> None:
        pygit2.settings.enable_fsync_gitdir()  # an object's file and its folder are synced before write() returns
        self._folder = repository
        self._git = pygit2.Repository(str(repository))
        self._remote = remote
        # tree(oid): what a tree holds by name. Content never changes under its id, so remembering it is always right.
        self.tree = lru_cache(TREES_KEPT)(self.read_tree)
        # commit(oid): a commit, parsed.
        self.commit = lru_cache(COMMITS_KEPT)(self._commit)

    def file(self, oid: str) -> Path:
        """Where the object is if it stands alone, and not in a pack."""
        return self._folder / "objects" / oid[:2] / oid[2:]

    def read(self, oid: str) -> tuple[str, bytes]:
        """Kind and content of an object, after its hash was compared with its name.

        Raises:
            StoreError: missing or damaged, also on the bucket if there is one; names the file.
        """
        try:
            return self._read(oid)
        except StoreError:
            if self._remote is None:
                raise
        self._keep(oid, self._remote.get(oid))
        return self._read(oid)

    def _read(self, oid: str) -> tuple[str, bytes]:
        file = self.file(oid)
        try:
            raw = zlib.decompress(file.read_bytes())
        except FileNotFoundError:
            raw = self._packed(oid)
        except (zlib.error, OSError) as error:
            raise _damaged(file, f"cannot be read: {error}") from error
        if hashlib.sha1(raw, usedforsecurity=False).hexdigest() != oid:
            raise _damaged(file, "does not hash to its name")
        header, _, content = raw.partition(b"\0")
        return header.split(b" ")[0].decode(), content

    def _packed(self, oid: str) -> bytes:
        try:
            kind, content = self._git.read(oid)
        except KeyError:
            raise _damaged(self.file(oid), "is missing, and no pack holds it") from None
        except pygit2.GitError as error:
            for _ in self.packs():
                pass  # names the pack, if its checksum shows the damage
            raise _damaged(self.file(oid), f"is in a pack that cannot be read: {error}") from error
        return f"{ObjectType(kind).name.lower()} {len(content)}\0".encode() + content

    def packs(self) -> Iterator[Path]:
        """Each pack and each index of one, after the SHA-1 at its end was compared with the rest.

        Raises:
            StoreError: they differ; names the file.
        """
        for file in sorted((self._folder / "objects" / "pack").glob("pack-*.*")):
            if file.suffix in {".pack", ".idx"}:
                digest = hashlib.sha1(usedforsecurity=False)
                left = file.stat().st_size - DIGEST_BYTES
                with file.open("rb") as handle:
                    while left > 0 and (block := handle.read(min(left, CHUNK_BYTES))):
                        digest.update(block)
                        left -= len(block)
                    if digest.digest() != handle.read():
                        raise _damaged(file, "does not match the SHA-1 at its end")
                yield file

    def _read_as(self, oid: str, kind: str) -> bytes:
        found, content = self.read(oid)
        if found != kind:
            raise _damaged(self.file(oid), f"is a {found}, expected a {kind}")
        return content

    def blob(self, oid: str) -> bytes:
        """Bytes of a file."""
        return self._read_as(oid, "blob")

    def read_tree(self, oid: str) -> Mapping[str, Entry]:
        """As ``tree``, not remembered: for one of very many that are read once."""
        return _parse_tree(self._read_as(oid, "tree"))

    def _commit(self, oid: str) -> Commit:
        return _parse_commit(oid, self._read_as(oid, "commit"))

    def children(self, oid: str) -> list[str]:
        """Ids that an object points at, after it was read and compared."""
        kind, content = self.read(oid)
        if kind == "commit":
            commit = _parse_commit(oid, content)
            return [commit.tree, *commit.parents]
        return [child for child, _ in _parse_tree(content).values()] if kind == "tree" else []

    def tagged(self, oid: str) -> str:
        """The commit behind an id that a tag names: the id itself, or what an annotated tag points at."""
        kind, content = self.read(oid)
        return self.tagged(content[len("object ") :][:40].decode()) if kind == "tag" else oid

    def write_blob(self, data: bytes) -> str:
        """Store a file; gives its id."""
        return self._write("blob", data)

    def write_tree(self, entries: Mapping[str, Entry]) -> str:
        """Store a tree; gives its id."""
        # Git sorts a folder as if its name ended in a slash.
        ordered = sorted((name.encode(errors="surrogateescape"), oid, mode) for name, (oid, mode) in entries.items())
        ordered.sort(key=lambda entry: entry[0] + b"/" if entry[2] == TREE else entry[0])
        return self._write("tree", b"".join(b"%o %b\0%b" % (mode, name, bytes.fromhex(oid)) for name, oid, mode in ordered))

    def write_commit(self, tree: str, parents: Sequence[str], message: str, time_s: int, order: int) -> str:
        """Store a commit; gives its id. See ``Commit`` for ``time_s`` and ``order``."""
        links = "".join([f"tree {tree}\n", *(f"parent {parent}\n" for parent in parents)])
        people = f"author {AUTHOR} {time_s} +0000\ncommitter {AUTHOR} {order} +0000\n"
        return self._write("commit", f"{links}{people}\n{message}\n".encode())

    def _write(self, kind: str, content: bytes) -> str:
        try:
            oid = str(self._git.write(KINDS[kind], content))
        except (pygit2.GitError, OSError) as error:
            raise StoreError(
                f"A git {kind} could not be written: {error}.", next_step="check the disk's space and rights"
            ) from error
        if self._remote is not None:
            self._remote.note(oid, kind)
        return oid

    # --- the bucket

    def held(self, oid: str) -> bool:
        """Whether the object is on this machine, alone or in a pack; its bytes are not compared."""
        return self.file(oid).exists() or oid in self._git

    def fetch(self, oids: Iterable[str]) -> int:
        """Get those that are not on this machine from the bucket, many at once; gives how many. Without a bucket: none."""
        if self._remote is None:
            return 0
        missing = [oid for oid in dict.fromkeys(oids) if not self.held(oid)]
        for oid, raw in self._remote.get_each(missing):
            self._keep(oid, raw)
        return len(missing)

    def send(self, commit: str) -> None:
        """Bring what was written here to the bucket, before a ref there names ``commit``. Without a bucket: nothing.

        Raises:
            StoreError: ``commit`` was written by another process, which did not live to send it.
        """
        if self._remote is not None:
            self._remote.send(self.read)
            self._remote.require(commit)

    def _keep(self, oid: str, raw: bytes) -> None:
        file = self.file(oid)
        fresh = file.with_name(f"tmp_obj_{secrets.token_hex(8)}")  # git gc clears these names
        try:
            file.parent.mkdir(exist_ok=True)
            fresh.write_bytes(raw)
            fresh.chmod(0o444)
            fresh.replace(file)
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise StoreError(
                f"git object {file} could not be written: {error}.", next_step="check the disk's space and rights"
            ) from error


def _parse_tree(content: bytes) -> dict[str, Entry]:
    return {m[2].decode(errors="surrogateescape"): (m[3].hex(), int(m[1], 8)) for m in TREE_ENTRY.finditer(content)}


def _parse_commit(oid: str, content: bytes) -> Commit:
    header, _, message = content.partition(b"\n\n")
    lines = [line.split(b" ", 1) for line in header.split(b"\n")]
    links = {name: [rest.decode() for key, rest in lines if key == name] for name in (b"tree", b"parent")}
    time_s, order = (next(int(rest.rsplit(b" ", 2)[1]) for key, rest in lines if key == who) for who in (b"author", b"committer"))
    return Commit(oid, links[b"tree"][0], tuple(links[b"parent"]), time_s, order, message.decode(errors="replace"))


def _damaged(file: Path, what: str) -> StoreError:
    return StoreError(
        f"git object {file} {what}.",
        next_step="restore that file from a copy of the store, or the object from a clone with git",
    )
