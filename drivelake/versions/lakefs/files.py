"""The files of versions in a lakeFS repository, and this machine's copies. Belongs here: staging a folder, fetching, addresses.

Never here: how bytes travel (see lakefs.transfer), commits, refs.

    <cache>/objects/<2 digits>/<sha256>    by content, read-only, each whole or not there; safe to delete
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Literal

from lakefs_sdk.models.object_error_list import ObjectErrorList
from lakefs_sdk.models.path_list import PathList

from drivelake.errors import NotFound, StoreError
from drivelake.versions.folders import regular_files
from drivelake.versions.lakefs.calls import PAGE, THREADS
from drivelake.versions.lakefs.refs import Refs
from drivelake.versions.lakefs.restoring import Restoring
from drivelake.versions.lakefs.transfer import Fetch, Hashed, Transfer
from drivelake.versions.lakefs.tree import DATA, Held, Tree, inside
from drivelake.versions.store import Address

__all__ = ["Files", "check_small", "same"]

READ_ONLY = 0o444


class Files:
    """Folders on their way to branches, and files on their way to this machine.

    Args:
        refs: of the repository.
        tree: the same repository's.
        transfer: the same repository's.
        cache: this machine's folder.
        addresses_as: ``http`` for signed addresses, ``s3`` for the storage's own.
        endpoint: of an S3 other than that of AWS.
    """

    def __init__(
        self,
        refs: Refs,
        tree: Tree,
        transfer: Transfer,
        cache: Path,
        *,
        addresses_as: Literal["http", "s3"] = "http",
        endpoint: str | None = None,
    ) -> None:
        self._server, self._tree, self._transfer = refs.server, tree, transfer
        self._cache = cache
        self._addresses_as = addresses_as
        self.restoring = Restoring(refs, self.cached, endpoint)

    # --- staging

    def hashed(self, folder: Path) -> dict[str, Hashed]:
        """Every file below a folder by its path inside, read-only from now on, and hashed.

        Raises:
            StoreError: one is no regular file, or cannot be read.
        """
        try:
            names = sorted(regular_files(folder))
            for name in names:
                (folder / name).chmod(READ_ONLY)
            with ThreadPoolExecutor(THREADS) as pool:
                return dict(zip(names, pool.map(lambda name: Hashed.of(folder / name), names), strict=True))
        except OSError as error:
            raise StoreError(f"{folder} could not be read: {error}.", next_step="set the rights, and run again") from error

    def stage(self, branch: str, path: str, folder: Path, files: Mapping[str, Hashed], small: Mapping[str, bytes]) -> None:
        """Make ``asset/partition`` on a branch hold these files and no others; what it holds with these bytes is not sent.

        The files become this machine's copies as well, by hard link where they stand on one file system with the cache.
        """
        wanted = {f"{DATA}/{name}": what for name, what in files.items()}
        wanted |= {name: Hashed.of(data) for name, data in small.items()}
        there = self._tree.version(branch, path)
        fresh = {name: what for name, what in wanted.items() if name not in there or not same(there[name], what)}
        self._transfer.send(branch, {f"{path}/{name}": what for name, what in sorted(fresh.items())})
        self.delete(branch, [f"{path}/{name}" for name in there if name not in wanted])
        for name, what in files.items():
            self._keep(folder / name, what)
        # What was there is relied on now; a collection may have taken its bytes since.
        self.restoring.restore([held for name, held in there.items() if name in wanted and name not in fresh], branch)

    def delete(self, branch: str, names: Sequence[str]) -> None:
        """Stage the absence of objects."""
        server = self._server
        for start in range(0, len(names), PAGE):
            some = PathList(paths=list(names[start : start + PAGE]))
            answer: ObjectErrorList = server.call(
                f"DELETE on {branch}",
                partial(server.sdk.objects_api.delete_objects, server.repository, branch, some, **server.limits),
            )
            if answer.errors:
                first = answer.errors[0]
                raise StoreError(f"{first.path} was not removed: {first.message}.", next_step="run again")

    def _keep(self, file: Path, what: Hashed) -> None:
        name = self.cached(what.sha256)
        if _has_size(name, what.size):
            return
        name.parent.mkdir(parents=True, exist_ok=True)
        # Only a copy for later reading: another file system, or another process that did the same, is no reason to fail.
        with suppress(OSError):
            os.link(file, name)

    # --- reading

    def data(self, commit: str, path: str, *, signed: bool = False) -> dict[str, Held]:
        """The files of a version by their path inside the folder that was put. Raises NotFound."""
        version = self._tree.version(commit, path, signed=signed)
        if not version:
            raise NotFound(f"{path} is not there at {commit[:12]}.", next_step="check the path and the ref")
        below = f"{DATA}/"
        return {
            inside(name.removeprefix(below), f"{path} at {commit[:12]}"): held
            for name, held in version.items()
            if name.startswith(below)
        }

    def local(self, commit: str, path: str) -> dict[str, Path]:
        """See ``VersionStore.files``."""
        held = self.data(commit, path)
        names = {name: self.cached(one.sha256 or _other_name(one)) for name, one in held.items()}
        missing = {names[name]: one for name, one in held.items() if not _has_size(names[name], one.size)}
        self._transfer.fetch(_fetches(commit, missing))
        return names

    def addresses(self, commit: str, path: str) -> dict[str, Address]:
        """See ``VersionStore.addresses``.

        Where the server signs nothing and its storage is no S3, nothing but the server can give the bytes, and only to who
        has credentials: there the files are fetched, and their paths on this machine are the addresses.
        """
        storage = self._server.storage
        signed = bool(storage.pre_sign_support) and self._addresses_as == "http"
        if not signed and storage.blockstore_type != "s3":
            return {name: Address(str(file), file.stat().st_size) for name, file in self.local(commit, path).items()}
        return {name: Address(one.address, one.size) for name, one in self.data(commit, path, signed=signed).items()}

    def forget(self, name: str) -> None:
        """Remove this machine's copy of a SHA-256, if there is one."""
        self.cached(name).unlink(missing_ok=True)

    def cached(self, name: str) -> Path:
        """Where the copy of a SHA-256 is on this machine, or would be."""
        return self._cache / "objects" / name[:2] / name


def check_small(small: Iterable[str]) -> None:
    """See that small files have names that lie beside the data. Raises StoreError."""
    bad = next((name for name in small if "/" in name or name in {"", ".", "..", DATA}), None)
    if bad is not None:
        raise StoreError(f"{bad!r} cannot name a small file.", next_step=f"use a plain file name other than {DATA}")


def same(held: Held, what: Hashed) -> bool:
    """Whether an object was sent with these bytes."""
    return (held.size, held.sha256) == (what.size, what.sha256)


def _fetches(commit: str, missing: Mapping[Path, Held]) -> Iterable[Fetch]:
    return [Fetch(one.path, commit, one.size, one.sha256, one.checksum, target) for target, one in missing.items()]


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _other_name(held: Held) -> str:
    """What an object is called in the cache that has no SHA-256 of its own."""
    return sha256(f"{held.checksum}:{held.size}:{held.path}".encode()).hexdigest() + "-other"
