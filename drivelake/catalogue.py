"""What was seen, landed and framed, a drive a row. Belongs here: the lake's own memory of the inbox.

Never here: anything that evidence rests on; losing this file costs one look at every drive, nothing else.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import stat
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from drivelake.errors import InputError, StoreError

__all__ = ["Catalogue", "Row", "drive_files", "signature"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS inbox (
    drive TEXT PRIMARY KEY, seen TEXT NOT NULL, seen_s REAL NOT NULL,
    landed TEXT NOT NULL DEFAULT '', landed_version TEXT NOT NULL DEFAULT '', framed TEXT NOT NULL DEFAULT '')
"""


@dataclass(frozen=True)
class Row:
    """One drive.

    Attributes:
        seen: signature at the last look.
        seen_s: since when it is that, seconds since the epoch.
        landed: the signature whose raw logs are published.
        landed_version: the ``raw_logs`` version that they are.
        framed: the ``raw_logs`` version that the published frames descend from.
    """

    seen: str
    seen_s: float
    landed: str
    landed_version: str
    framed: str

    @property
    def done(self) -> bool:
        """Whether what was last seen is landed, and frames of that very version are published."""
        return self.landed == self.seen and self.framed == self.landed_version != ""


def drive_files(folder: Path) -> list[Path]:
    """Files of a drive, sorted by path; hidden ones (a transfer's own) are not the drive's.

    Raises:
        InputError: a link, a pipe or a device, since what it leads to was not recorded with the drive; an unreadable folder.
    """
    found: list[Path] = []
    for parent, folders, names in os.walk(folder, onerror=_unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [Path(parent, name) for name in (*folders, *names) if not name.startswith(".")]
        for path in paths:
            mode = path.lstat().st_mode
            if stat.S_ISREG(mode):
                found.append(path)
            elif not stat.S_ISDIR(mode):
                raise InputError(
                    f"{path} is a link, a pipe or a device, no file of a drive.",
                    next_step="put the file itself there, or remove it",
                )
    return sorted(found)


def _unreadable(error: OSError) -> NoReturn:
    what = f"{error.filename} cannot be read: {error.strerror}."
    raise InputError(what, next_step="check its rights and the disk") from None


def signature(folder: Path) -> str:
    """Digest over names, sizes and modification times of a drive's files: changes when any of them is replaced."""
    digest = hashlib.sha256()
    for path in drive_files(folder):
        found = path.stat()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{found.st_size}\0{found.st_mtime_ns}\n".encode())
    return digest.hexdigest()


class Catalogue:
    """One SQLite file; every call is its own transaction, so that processes may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as database:
            database.execute(SCHEMA)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        try:
            with closing(sqlite3.connect(self._path, timeout=60)) as connection, connection:
                yield connection
        except sqlite3.DatabaseError as error:
            raise StoreError(
                f"{self._path} cannot be used: {error}.", next_step="delete it: every drive is then looked at once more"
            ) from None

    def row(self, drive: str) -> Row | None:
        """What is known of a drive."""
        with self._open() as database:
            found = database.execute(
                "SELECT seen, seen_s, landed, landed_version, framed FROM inbox WHERE drive = ?", (drive,)
            ).fetchone()
        return Row(*found) if found else None

    def look(self, seen: Mapping[str, str], now_s: float) -> dict[str, Row]:
        """Note the signature just seen of each drive, in one transaction; ``seen_s`` stays while it does not change."""
        with self._open() as database:
            return {
                drive: Row(
                    *database.execute(
                        "INSERT INTO inbox (drive, seen, seen_s) VALUES (?, ?, ?) ON CONFLICT (drive) DO UPDATE SET "
                        "seen_s = CASE WHEN seen = excluded.seen THEN seen_s ELSE excluded.seen_s END, seen = excluded.seen "
                        "RETURNING seen, seen_s, landed, landed_version, framed",
                        (drive, now, now_s),
                    ).fetchone()
                )
                for drive, now in seen.items()
            }

    def land(self, drive: str, landed: str, version: str, now_s: float) -> None:
        """Note that this signature is published, as this version of ``raw_logs``."""
        with self._open() as database:
            database.execute(
                "INSERT INTO inbox (drive, seen, seen_s, landed, landed_version) VALUES (?, ?, ?, ?, ?) "
                "ON CONFLICT (drive) DO UPDATE SET landed = excluded.landed, landed_version = excluded.landed_version",
                (drive, landed, now_s, landed, version),
            )

    def frame(self, drive: str, version: str) -> None:
        """Note that frames are published that descend from this version of ``raw_logs``; a drive never landed stays unknown."""
        with self._open() as database:
            database.execute("UPDATE inbox SET framed = ? WHERE drive = ?", (version, drive))
