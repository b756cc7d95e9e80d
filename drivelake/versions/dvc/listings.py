"""What DVC writes about a folder: its ``.dvc`` file and its listing. Belongs here: those two formats, read and written.

Never here: the files that they are about, where anything is kept.

A listing is DVC's ``.dir`` object: JSON, a list of ``{"md5", "relpath"}`` sorted by path; sizes are not in it. It is written
here and not by dvc_data, which takes half a second to import and builds an object a file; the bytes are the same.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

import yaml

from drivelake.errors import StoreError

__all__ = ["DATA", "RESTORE", "Staged", "md5_of", "parse_listing", "write_listing"]

MD5 = re.compile(r"[0-9a-f]{32}")
DATA = "data"  # the one output of a .dvc file: a folder of this name beside it
RESTORE = "restore it from a copy of the store, or publish the same version again"


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


def md5_of(data: bytes) -> str:
    """As DVC names bytes; integrity rests on the SHA-256 of the manifest."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def write_listing(md5s: Mapping[str, str]) -> bytes:
    """The listing of a folder, byte for byte as dvc_data writes it.

    Args:
        md5s: by path inside the folder, with slashes.
    """
    return json.dumps([{"md5": md5s[relpath], "relpath": relpath} for relpath in sorted(md5s)]).encode()


def parse_listing(raw: bytes, where: str) -> dict[str, str]:
    """MD5 by path. Its own MD5 only says that the listing is the one that a commit names, not that DVC wrote it.

    Raises:
        StoreError: it is of another form than DVC's, or names a path outside of the version.
    """
    try:
        entries = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise StoreError(f"Object {where} is no JSON: {error}.", next_step=RESTORE) from error
    if not isinstance(entries, list):
        raise StoreError(f"Object {where} holds a {type(entries).__name__}, expected a list of files.", next_step=RESTORE)
    found: dict[str, str] = {}
    for entry in entries:
        match entry:
            case {"md5": str(md5), "relpath": str(relpath)} if len(entry) == 2:
                pass
            case _:
                raise StoreError(f"Object {where} holds {entry!r:.200}, expected md5 and relpath.", next_step=RESTORE)
        if not MD5.fullmatch(md5):
            raise StoreError(
                f"Object {where} gives {relpath!r} the MD5 {md5!r:.200}, expected 32 lowercase hex digits.", next_step=RESTORE
            )
        if relpath in found:
            raise StoreError(f"Object {where} names {relpath!r} twice.", next_step=RESTORE)
        found[_inside(relpath, where)] = md5
    return found


def _inside(relpath: str, where: str) -> str:
    path = PurePosixPath(relpath)
    if path.is_absolute() or ".." in path.parts:
        raise StoreError(f"Object {where} names {relpath!r}, which is outside of the version.", next_step=RESTORE)
    if str(path) != relpath or relpath == "." or "\0" in relpath:
        raise StoreError(f"Object {where} names {relpath!r}, which is no path of a file.", next_step=RESTORE)
    return relpath
