"""What was landed and what was tried, a drive a row. Belongs here: the lake's own memory of the inbox.

Never here: anything that evidence rests on; losing this file costs one look at every drive, nothing else.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Catalogue", "Row", "drive_files", "signature"]

SCHEMA = """
CREATE TABLE IF NOT EXISTS drives (
    drive TEXT PRIMARY KEY, seen TEXT NOT NULL, seen_s REAL NOT NULL,
    attempts INTEGER NOT NULL DEFAULT 0, landed TEXT NOT NULL DEFAULT '')
"""


@dataclass(frozen=True)
class Row:
    """Signature at the last look and since when; runs asked for, ever; the signature that is published."""

    seen: str
    seen_s: float
    attempts: int
    landed: str


def drive_files(folder: Path) -> list[Path]:
    """Files of a drive, sorted by path; hidden ones (a transfer's own) are not the drive's."""
    files = (
        p for p in folder.rglob("*") if p.is_file() and not any(part.startswith(".") for part in p.relative_to(folder).parts)
    )
    return sorted(files)


def signature(folder: Path) -> str:
    """Digest over names, sizes and modification times of a drive's files: changes when any of them is replaced."""
    digest = hashlib.sha256()
    for path in drive_files(folder):
        stat = path.stat()
        digest.update(f"{path.relative_to(folder).as_posix()}\0{stat.st_size}\0{stat.st_mtime_ns}\n".encode())
    return digest.hexdigest()


class Catalogue:
    """One SQLite file; every call is its own transaction, so that processes may share it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._open() as database:
            database.execute(SCHEMA)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self._path, timeout=60)) as connection, connection:
            yield connection

    def row(self, drive: str) -> Row | None:
        """What is known of a drive."""
        with self._open() as database:
            found = database.execute("SELECT seen, seen_s, attempts, landed FROM drives WHERE drive = ?", (drive,)).fetchone()
        return Row(*found) if found else None

    def look(self, drive: str, seen: str, now_s: float) -> Row:
        """Note the signature just seen; ``seen_s`` stays while it does not change."""
        with self._open() as database:
            found = database.execute(
                "INSERT INTO drives (drive, seen, seen_s) VALUES (?, ?, ?) ON CONFLICT (drive) DO UPDATE SET "
                "seen_s = CASE WHEN seen = excluded.seen THEN seen_s ELSE excluded.seen_s END, seen = excluded.seen "
                "RETURNING seen, seen_s, attempts, landed",
                (drive, seen, now_s),
            ).fetchone()
        return Row(*found)

    def request(self, drive: str) -> int:
        """Note that a run is asked for; the number counts up for ever."""
        with self._open() as database:
            found = database.execute(
                "UPDATE drives SET attempts = attempts + 1 WHERE drive = ? RETURNING attempts", (drive,)
            ).fetchone()
        return int(found[0])

    def land(self, drive: str, landed: str, now_s: float) -> None:
        """Note that this signature is published."""
        with self._open() as database:
            database.execute(
                "INSERT INTO drives (drive, seen, seen_s, landed) VALUES (?, ?, ?, ?) "
                "ON CONFLICT (drive) DO UPDATE SET landed = excluded.landed",
                (drive, landed, now_s, landed),
            )
