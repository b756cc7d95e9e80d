"""The bytes of every version, by content: DVC's object database on local disk. Belongs here: taking folders in, finding files.

Never here: commits, paths in the lake, who may see what.

DVC hashes and lists a folder; giving files their names in the database is done here. DVC's own transfer first tries a
reflink by truncating the final name, so of two processes that add one object the later empties what the earlier has
published already. Here a name appears in one step, for bytes that are whole, read-only and synced, and so every name that
is seen can be relied on after a power cut; ``stage`` syncs the folders of the names before it returns.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import yaml

from drivelake.errors import StoreError
from drivelake.versions.durable import sync, sync_one

__all__ = ["DATA", "Objects", "Staged"]

MD5 = re.compile(r"[0-9a-f]{32}")
DATA = "data"  # the one output of a .dvc file: a folder of this name beside it
RESTORE = "restore it from a copy of the store, or publish the same version again"
NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}


@dataclass(frozen=True)
class Staged:
    """A folder in the object database.

    Attributes:
        md5: of its listing, ending in ``.dir`` as DVC writes it.
        size: of all files, in bytes.
        nfiles: how many there are.
    """

    md5: str
    size: int
    nfiles: int

    def as_dvc(self) -> bytes:
        """The ``.dvc`` file that stock DVC reads."""
        return f"outs:\n- md5: {self.md5}\n  size: {self.size}\n  nfiles: {self.nfiles}\n  hash: md5\n  path: {DATA}\n".encode()

    @classmethod
    def parse(cls, raw: bytes, where: str) -> Staged:
        """What ``as_dvc`` wrote.

        Raises:
            StoreError: anything else.
        """
        try:
            (out,) = yaml.safe_load(raw)["outs"]
            found = cls(md5=str(out["md5"]), size=int(out["size"]), nfiles=int(out["nfiles"]))
        except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
            raise StoreError(
                f"{where} is no .dvc file of one folder: {error}.", next_step="restore it from a copy of the store"
            ) from error
        if not MD5.fullmatch(found.md5.removesuffix(".dir")) or not found.md5.endswith(".dir"):
            raise StoreError(
                f"{where} names {found.md5!r}, expected an MD5 and .dir.", next_step="restore it from a copy of the store"
            )
        return found


class Objects:
    """The database below ``root``, in the layout of a DVC remote: ``files/md5/<2 digits>/<30 digits>``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._files = root / "files" / "md5"

    def path(self, md5: str) -> Path:
        """Where the object of a digest is, or would be."""
        return self._files / md5[:2] / md5[2:]

    def stage(self, folder: Path) -> Staged:
        """Take every file below ``folder`` in, by hard link where the file system allows it, else by copy.

        The files become read-only. Objects that are there already are kept.

        Raises:
            StoreError: the folder holds something that is no regular file, or the disk refused.
        """
        # Half a second to import, and reading never needs it.
        from dvc_data.hashfile.build import IgnoreInCollectedDirError, build
        from dvc_data.hashfile.db.local import LocalHashFileDB
        from dvc_data.hashfile.tree import Tree
        from dvc_objects.fs.local import LocalFileSystem

        disk = LocalFileSystem()  # type: ignore[no-untyped-call]  # DVC leaves these two untyped
        database = LocalHashFileDB(disk, str(self._files))  # type: ignore[no-untyped-call]
        try:
            sources = _regular_files(folder)
            for path in sources:
                os.chmod(path, 0o444)  # noqa: PTH101 - as _regular_files
            sync(sources)
            _, _, listing = build(database, str(folder), disk, "md5")
            assert isinstance(listing, Tree), "a folder gives a listing"
            listing.fs.remove(listing.path)  # DVC keeps it in a memory that lives as long as the process
            for key, meta, entry in listing:
                self._add(entry.value, meta.size, folder.joinpath(*key))
            self._add(listing.oid, len(listing.as_bytes()), listing.as_bytes())
            names = [self.path(entry.value) for _, _, entry in listing] + [self.path(listing.oid)]
            sync({name.parent for name in names} | {self._files})
        except IgnoreInCollectedDirError as error:
            raise StoreError(f"{folder} cannot be stored: {error}.", next_step="leave .dvcignore out of the folder") from error
        except OSError as error:
            raise StoreError(f"{folder} could not be stored: {error}.", next_step="free disk space or set the rights") from error
        return Staged(md5=listing.oid, size=sum(meta.size for _, meta, _ in listing), nfiles=len(listing))

    def _add(self, md5: str, size: int, source: Path | bytes) -> None:
        name = self.path(md5)
        if _has_size(name, size):
            return  # one of another size is what a broken disk or an interrupted copy of the store left: replaced below
        name.parent.mkdir(exist_ok=True)
        fresh = name.with_name(f".{secrets.token_hex(8)}.tmp")
        try:
            if isinstance(source, bytes):
                fresh.write_bytes(source)
            elif not _linked(source, fresh):
                shutil.copyfile(source, fresh)
            if fresh.stat().st_nlink == 1:  # no link, so not synced with the sources
                fresh.chmod(0o444)
                sync_one(fresh)
            fresh.replace(name)
        finally:
            fresh.unlink(missing_ok=True)

    def files(self, staged: Staged) -> dict[str, Path]:
        """The objects of a staged folder by path inside it, sorted. Their bytes are not read here; the listing's are.

        Raises:
            StoreError: the listing is damaged or of another form than DVC's, or an object it names is gone.
        """
        listing = self.path(staged.md5)
        try:
            raw = listing.read_bytes()
        except OSError as error:
            raise StoreError(f"Object {listing} cannot be read: {error}.", next_step=RESTORE) from error
        found = hashlib.md5(raw, usedforsecurity=False).hexdigest()
        if f"{found}.dir" != staged.md5:
            raise StoreError(f"Object {listing} has MD5 {found}, expected {staged.md5.removesuffix('.dir')}.", next_step=RESTORE)
        files = {relpath: self.path(md5) for relpath, md5 in _parse_listing(raw, listing).items()}
        gone = next((path for path in files.values() if not path.exists()), None)
        if gone is not None:
            raise StoreError(f"Object {gone} is missing; {listing} names it.", next_step=RESTORE)
        return files


def _regular_files(folder: Path) -> list[str]:
    found = []
    for parent, folders, files in os.walk(folder, onerror=_raise):
        for name in (*folders, *files):
            path = os.path.join(parent, name)  # noqa: PTH118 - a Path for each of 20,000 files costs more than the walk
            mode = os.lstat(path).st_mode
            if stat.S_ISREG(mode):
                found.append(path)
            elif not stat.S_ISDIR(mode):
                raise StoreError(
                    f"{path} is a link or a special file, expected regular files.", next_step="copy what it points at"
                )
    return found


def _linked(source: Path, name: Path) -> bool:
    try:
        os.link(source, name)
    except OSError as error:
        if error.errno in NO_LINK:
            return False
        raise
    return True


def _raise(error: OSError) -> None:
    raise error


def _has_size(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


def _parse_listing(raw: bytes, listing: Path) -> dict[str, str]:
    """MD5 by path. Its own MD5 only says that the listing is the one that a commit names, not that DVC wrote it."""
    try:
        entries = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"Object {listing} is no JSON: {error}.", next_step=RESTORE) from error
    if not isinstance(entries, list):
        raise StoreError(f"Object {listing} holds a {type(entries).__name__}, expected a list of files.", next_step=RESTORE)
    found: dict[str, str] = {}
    for entry in entries:
        match entry:
            case {"md5": str(md5), "relpath": str(relpath)} if len(entry) == 2:
                pass
            case _:
                raise StoreError(f"Object {listing} holds {entry!r:.200}, expected md5 and relpath.", next_step=RESTORE)
        if not MD5.fullmatch(md5):
            raise StoreError(
                f"Object {listing} gives {relpath!r} the MD5 {md5!r:.200}, expected 32 lowercase hex digits.", next_step=RESTORE
            )
        if relpath in found:
            raise StoreError(f"Object {listing} names {relpath!r} twice.", next_step=RESTORE)
        found[_inside(relpath, listing)] = md5
    return found


def _inside(relpath: str, listing: Path) -> str:
    path = PurePosixPath(relpath)
    if path.is_absolute() or ".." in path.parts:
        raise StoreError(f"Object {listing} names {relpath!r}, which is outside of the version.", next_step=RESTORE)
    if str(path) != relpath or relpath == "." or "\0" in relpath:
        raise StoreError(f"Object {listing} names {relpath!r}, which is no path of a file.", next_step=RESTORE)
    return relpath
