"""Which commit published which version, remembered between processes. Belongs here: that index, kept up with main.

Never here: deciding what a version is, reading one.

It is a cache: the store's history says everything that stands in it, and reading 100,000 commits for that takes long. A
file that is damaged, of another form, or of another history is made again without a word; what it gives is only where to
look, and what is found there is judged by its own digest. Deleting it costs time and nothing else.
"""

from __future__ import annotations

import errno
import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TypeVar

from drivelake.errors import StoreError
from drivelake.versions.locks import exclusive
from drivelake.versions.store import MAIN, VERSION_TRAILER, HistoryEntry, VersionStore

__all__ = ["VersionIndex"]

FORM = 0x646C6931  # SQLite's user_version; another number is another form of this file
SCHEMA = f"""
    BEGIN;
    CREATE TABLE seen (commit_id TEXT PRIMARY KEY) WITHOUT ROWID;
    CREATE TABLE published (path TEXT, version TEXT, commit_id TEXT, PRIMARY KEY (path, version, commit_id)) WITHOUT ROWID;
    CREATE TABLE newest (path TEXT, version TEXT, commit_id TEXT, PRIMARY KEY (path, version)) WITHOUT ROWID;
    CREATE TABLE head (commit_id TEXT NOT NULL, settled INTEGER NOT NULL);
    PRAGMA user_version = {FORM};
    COMMIT;
"""
TRAILER = re.compile(r"(\S+) ([0-9a-f]{64})")
WAIT_S = 600.0  # while another process reads the whole history for the first time
PAGE = 1000
DAMAGED = {sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB}
NOT_WRITABLE = {sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN}
FORBIDDEN = {errno.EROFS, errno.EACCES, errno.EPERM}

Found = TypeVar("Found")


class VersionIndex:
    """The commits of main by what they published, in a file; any number of processes and threads may use it at once.

    Where the file cannot be written, as on a medium that is read only, the index lives as long as this object.

    Args:
        file: where it is kept.
        store: whose history it follows.
    """

    def __init__(self, file: Path, store: VersionStore) -> None:
        self._file = file
        self._store = store
        self._lock = threading.RLock()
        self._opened: tuple[int, sqlite3.Connection] | None = None
        self._in_memory = False

    def commits(self) -> Mapping[tuple[str, str], str]:
        """The commit of every version that main ever held, by path and version, in that order.

        Brought up to main now; it goes along when this index does later. Of several commits that published one version: the
        newest in ``history``, as in ``VersionStore.find``.

        Raises:
            StoreError: the history cannot be read, or the file not be used.
        """
        self._ask(self._follow)
        return _Commits(self)

    def find(self, path: str, version: str) -> str | None:
        """One entry of ``commits``; None when no commit of main published that version."""
        self._ask(self._follow)
        return self._get(path, version)

    # --- reading

    def _get(self, path: str, version: str) -> str | None:
        def get(database: sqlite3.Connection) -> str | None:
            found = database.execute(
                "SELECT commit_id FROM published WHERE path = ? AND version = ? LIMIT 2", (path, version)
            ).fetchall()
            if len(found) > 1:
                self._settle(database)
                found = database.execute(
                    "SELECT commit_id FROM newest WHERE path = ? AND version = ?", (path, version)
                ).fetchall()
            return str(found[0][0]) if found else None

        return self._ask(get)

    def _keys(self) -> Iterator[tuple[str, str]]:
        last = ("", "")
        while True:

            def page(database: sqlite3.Connection, after: tuple[str, str] = last) -> list[tuple[str, str]]:
                return database.execute(
                    "SELECT DISTINCT path, version FROM published WHERE (path, version) > (?, ?) ORDER BY path, version LIMIT ?",
                    (*after, PAGE),
                ).fetchall()

            found = self._ask(page)
            yield from found
            if len(found) < PAGE:
                return
            last = found[-1]

    def _count(self) -> int:
        query = "SELECT count(*) FROM (SELECT DISTINCT path, version FROM published)"
        return int(self._ask(lambda database: database.execute(query).fetchone())[0])

    # --- following main

    def _follow(self, database: sqlite3.Connection) -> None:
        if _head(database) == self._store.resolve(MAIN):
            return
        with _writing(database):
            # Asked again: whoever had the file before may have read further than we would have.
            head = self._store.resolve(MAIN)
            if head == _head(database) or self._extend(database, head):
                return
            _empty(database)
            self._extend(database, head)

    def _extend(self, database: sqlite3.Connection, head: str) -> bool:
        """Read what main holds beyond the index; False when the index may hold what main does not, as after a rewrite.

        Everything below a commit that is known is known, so reading ends once all parents of what is new were met. Those
        may be older than what is known already: a branch can be merged long after it was made.
        """
        old = _head(database)
        grown = old is None
        waiting = {head}
        for entry in self._store.history(head):
            waiting.discard(entry.commit)
            if not _seen(database, entry.commit):
                if entry.parents is None and old is not None:
                    return False  # where to stop cannot be told
                parents = entry.parents or ()
                grown |= old in parents
                waiting.update(parent for parent in parents if not _seen(database, parent))
                _add(database, entry)
            if not waiting and old is not None:
                break
        if grown:
            database.execute("DELETE FROM head")
            database.execute("INSERT INTO head VALUES (?, 0)", (head,))
        return grown

    def _settle(self, database: sqlite3.Connection) -> None:
        """Of each version that several commits published, note the newest. Only the history itself knows its order."""
        with _writing(database):
            head, settled = database.execute("SELECT commit_id, settled FROM head").fetchone()
            if settled:
                return
            several = "SELECT path, version FROM published GROUP BY path, version HAVING count(*) > 1"
            twice = {(str(path), str(version)) for path, version in database.execute(several)}
            for entry in self._store.history(head):
                named = _published(entry)
                if named in twice:
                    database.execute("INSERT OR REPLACE INTO newest VALUES (?, ?, ?)", (*named, entry.commit))
                    twice.remove(named)
                    if not twice:
                        break
            database.execute("UPDATE head SET settled = 1")

    # --- the file

    def _ask(self, work: Callable[[sqlite3.Connection], Found]) -> Found:
        with self._lock:
            try:
                return work(self._connection())
            except sqlite3.Error as error:
                self._start_over(error)
            try:
                self._follow(self._connection())
                return work(self._connection())
            except sqlite3.Error as error:
                raise self._unusable(error) from error

    def _start_over(self, error: sqlite3.Error) -> None:
        """Take away what is damaged, or turn to memory where nothing can be written; raise where neither helps."""
        code = error.sqlite_errorcode & 0xFF  # the rest of it says more than is asked here
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None
        if code in DAMAGED:
            with exclusive(self._file.with_suffix(".lock")):
                if not _whole(self._file):  # else another process made it anew meanwhile
                    for file in (self._file, self._file.with_name(f"{self._file.name}-journal")):
                        file.unlink(missing_ok=True)
        elif code in NOT_WRITABLE:
            self._in_memory = True
        else:
            raise self._unusable(error) from error

    def _unusable(self, error: Exception) -> StoreError:
        return StoreError(
            f"{self._file} cannot be used: {error}.", next_step="free disk space, or delete that file: it is made again"
        )

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None or self._opened[0] != os.getpid():  # a connection does not outlive a fork
            self._opened = (os.getpid(), self._connect())
        return self._opened[1]

    def _connect(self) -> sqlite3.Connection:
        if self._in_memory:
            database = _database(":memory:")
            database.executescript(SCHEMA)
            return database
        if not self._file.exists():
            self._make()
        database = _database(self._file)
        if _form(database) != FORM:
            database.close()
            raise _Foreign(f"{self._file} is of another form")
        return database

    def _make(self) -> None:
        try:
            with exclusive(self._file.with_suffix(".lock")):
                if not self._file.exists():
                    database = _database(self._file)
                    database.executescript(SCHEMA)
                    database.close()
        except (OSError, StoreError) as error:
            reason = error.__cause__ if isinstance(error, StoreError) else error  # the lock's says why in its cause
            if isinstance(reason, OSError) and reason.errno in FORBIDDEN:
                raise _Forbidden(str(error)) from error
            raise self._unusable(error) from error


class _Foreign(sqlite3.DatabaseError):
    sqlite_errorcode = sqlite3.SQLITE_NOTADB


class _Forbidden(sqlite3.OperationalError):
    sqlite_errorcode = sqlite3.SQLITE_CANTOPEN


class _Commits(Mapping[tuple[str, str], str]):
    def __init__(self, index: VersionIndex) -> None:
        self._index = index

    def __getitem__(self, named: tuple[str, str]) -> str:
        found = self._index._get(*named)  # noqa: SLF001 - one thing in two classes
        if found is None:
            raise KeyError(named)
        return found

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return self._index._keys()  # noqa: SLF001 - as above

    def __len__(self) -> int:
        return self._index._count()  # noqa: SLF001 - as above


def _database(file: Path | str) -> sqlite3.Connection:
    return sqlite3.connect(file, timeout=WAIT_S, isolation_level=None, check_same_thread=False)  # a lock is held by all callers


def _form(database: sqlite3.Connection) -> int:
    return int(database.execute("PRAGMA user_version").fetchone()[0])


def _whole(file: Path) -> bool:
    try:
        with closing(_database(file)) as database:
            return _form(database) == FORM and database.execute("PRAGMA quick_check").fetchone() == ("ok",)
    except sqlite3.Error:
        return False


@contextmanager
def _writing(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        if database.in_transaction:  # SQLite ends it on its own when the disk is full
            database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _head(database: sqlite3.Connection) -> str | None:
    found = database.execute("SELECT commit_id FROM head").fetchone()
    return None if found is None else str(found[0])


def _seen(database: sqlite3.Connection, commit: str) -> bool:
    return database.execute("SELECT 1 FROM seen WHERE commit_id = ?", (commit,)).fetchone() is not None


def _published(entry: HistoryEntry) -> tuple[str, str] | None:
    named = TRAILER.fullmatch(entry.metadata.get(VERSION_TRAILER, ""))
    return None if named is None else (named[1], named[2])


def _add(database: sqlite3.Connection, entry: HistoryEntry) -> None:
    database.execute("INSERT INTO seen VALUES (?)", (entry.commit,))
    if (named := _published(entry)) is not None:
        database.execute("INSERT INTO published VALUES (?, ?, ?)", (*named, entry.commit))


def _empty(database: sqlite3.Connection) -> None:
    for table in ("seen", "published", "newest", "head"):
        database.execute(f"DELETE FROM {table}")
