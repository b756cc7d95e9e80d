"""What a commit holds, and what differs between two. Belongs here: listing objects, telling versions from their names.

Never here: bytes, changing anything.

``asset/partition`` stands as ``asset/partition/manifest.json`` (and other small files) and ``asset/partition/data/...``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import NamedTuple

from drivelake.errors import StoreError
from drivelake.versions.lakefs.calls import Server
from drivelake.versions.lakefs.transfer import SHA256

__all__ = ["DATA", "Held", "Tree", "path_of"]

DATA = "data"


class Held(NamedTuple):
    """One object, as the server describes it.

    Attributes:
        path: in the repository.
        size: in bytes.
        checksum: the server's, mostly an ETag.
        sha256: as its sender gave it; None where this store did not send it.
        mtime_s: when it was staged, seconds since 1970 by the server's clock.
        address: ``s3://...`` and the like, or a signed ``http(s)://...`` where that was asked for.
    """

    path: str
    size: int
    checksum: str
    sha256: str | None
    mtime_s: int
    address: str

    @property
    def content(self) -> tuple[int, str]:
        """Equal for equal bytes, whichever way they were sent."""
        return self.size, self.sha256 or self.checksum


class Tree:
    """The objects of one repository's commits."""

    def __init__(self, server: Server) -> None:
        self._server = server

    def held(self, ref: str, prefix: str = "", *, signed: bool = False) -> Iterator[Held]:
        """Every object whose path begins so, in the order of paths; of a branch, with what is staged on it."""
        api, repository = self._server.sdk.objects_api, self._server.repository
        found = self._server.pages(
            f"LIST {prefix or '/'} at {ref[:12]}",
            lambda **given: api.list_objects(repository, ref, user_metadata=True, presign=signed, **given),
            prefix=prefix,
        )
        for stats in found:
            sha256 = (stats.metadata or {}).get(SHA256)
            checksum = str(stats.checksum).strip('"')
            yield Held(stats.path, stats.size_bytes or 0, checksum, sha256, stats.mtime, stats.physical_address)

    def names(self, ref: str, prefix: str) -> Iterator[str]:
        """What stands directly below ``prefix``, in the order of names, folders with a slash at their end."""
        api, repository = self._server.sdk.objects_api, self._server.repository
        found = self._server.pages(
            f"LIST {prefix or '/'} at {ref[:12]}",
            lambda **given: api.list_objects(repository, ref, user_metadata=False, **given),
            prefix=prefix,
            delimiter="/",
        )
        for stats in found:
            yield str(stats.path).removeprefix(prefix)

    def version(self, ref: str, path: str, *, signed: bool = False) -> dict[str, Held]:
        """The objects of ``asset/partition`` by their path inside it; empty when there is none."""
        below = f"{path}/"
        return {held.path.removeprefix(below): held for held in self.held(ref, below, signed=signed)}

    def contents(self, ref: str, path: str) -> dict[str, tuple[int, str]]:
        """What tells whether two refs hold the same bytes at ``asset/partition``."""
        return {name: held.content for name, held in self.version(ref, path).items()}

    def changed(self, a: str, b: str, prefix: str = "") -> Iterator[str]:
        """Objects that differ between two commits, in the order of paths."""
        api, repository = self._server.sdk.refs_api, self._server.repository
        found = self._server.pages(
            f"DIFF {a[:12]} {b[:12]}",
            lambda **given: api.diff_refs(repository, a, b, type="two_dot", **given),  # three dots are the default
            prefix=prefix,
        )
        for difference in found:
            yield str(difference.path)

    def changed_paths(self, a: str, b: str) -> list[str]:
        """``asset/partition`` of everything that differs between two commits, sorted."""
        return sorted({path for name in self.changed(a, b) if (path := path_of(name)) is not None})

    def staged(self, branch: str) -> Iterator[str]:
        """Objects that differ between a branch's head and what is staged on it."""
        api, repository = self._server.sdk.branches_api, self._server.repository
        found = self._server.pages(f"STAGED on {branch}", lambda **given: api.diff_branch(repository, branch, **given))
        for difference in found:
            yield str(difference.path)


def path_of(name: str) -> str | None:
    """``asset/partition`` that an object belongs to; None for what is none of a version's."""
    asset, *below = name.split("/", 2)
    return f"{asset}/{below[0]}" if len(below) == 2 and not asset.startswith((".", "_")) else None


def inside(relpath: str, where: str) -> str:
    """The path of a file inside a version, if it stays inside.

    Raises:
        StoreError: it leads elsewhere; anybody who may write to the repository can name an object so.
    """
    path = PurePosixPath(relpath)
    if path.is_absolute() or ".." in path.parts or str(path) != relpath or "\0" in relpath:
        raise StoreError(f"{where} names {relpath!r}, which is no path of a file in it.", next_step="remove that object")
    return relpath
