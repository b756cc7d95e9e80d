"""Hashing many and large files: several at once, each read ahead, none twice. Belongs here: SHA-256 of files, and its ledger.

Never here: what the files are, where logs stand (see references), hashing what must be seen to be intact now: that never asks
the ledger.

SHA-256 goes from a file's first byte to its last, so one file cannot be shared out. Several files are hashed at once, one a
thread (hashlib works outside the interpreter's lock), and each is read by a second thread ahead of the hashing.

A killed run does not start over: each finished file stands in the ledger and is not read again. Within one file it does
start over, since the state of OpenSSL's SHA-256 cannot be kept; that costs at most a second for each 1.5 GB.
"""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import NamedTuple

from drivelake.errors import InputError, StoreError

__all__ = ["Digest", "Ledger", "file_state", "hash_files", "read_ahead"]

PART_BYTES = 4 << 20
THREADS = 8  # at most; a disk gives no more to more of them
# A write within the clock's tick of the last one leaves the times as they are: what is so young is hashed again.
SETTLED_S = 2.0

SCHEMA = (
    "CREATE TABLE IF NOT EXISTS hashes (name TEXT PRIMARY KEY, state TEXT NOT NULL, size INTEGER NOT NULL, sha256 TEXT NOT NULL)"
)


class Digest(NamedTuple):
    """What a file's bytes are.

    Attributes:
        size: in bytes.
        sha256: 64 hex digits.
    """

    size: int
    sha256: str


class Ledger:
    """Digests of files hashed before, by name, in one SQLite file that processes may share; losing it costs hashing again.

    A digest counts while the file's *state* is what it was: size, time of modification, time of change (ctime), both in
    nanoseconds, and inode. It is trusted that whoever changes a file changes one of them. Writing in place and setting the
    modification time back is seen, since ctime cannot be set. Not seen are bytes that went bad on the disk, a machine whose
    clock was set back to the very nanosecond, and file systems without a real ctime or inode. So the ledger is asked only
    when a file is registered; what reads or verifies it later hashes the bytes themselves, and would find the difference.
    """

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
                f"{self._path} cannot be used: {error}.", next_step="delete it: large logs are then hashed once more"
            ) from None

    def find(self, name: str, state: str) -> Digest | None:
        """The digest noted for this name in this state."""
        with self._open() as database:
            found = database.execute("SELECT size, sha256 FROM hashes WHERE name = ? AND state = ?", (name, state)).fetchone()
        return Digest(*found) if found else None

    def note(self, name: str, state: str, digest: Digest) -> None:
        """Keep a digest, in the place of the one kept for the name's earlier state."""
        with self._open() as database:
            database.execute("INSERT OR REPLACE INTO hashes VALUES (?, ?, ?, ?)", (name, state, *digest))


def file_state(found: os.stat_result) -> str:
    """What the ledger compares, see there."""
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {found.st_ino}"


def hash_files(files: Mapping[str, Path], ledger: Ledger | None = None, *, threads: int | None = None) -> dict[str, Digest]:
    """Size and SHA-256 of each file, several at once.

    Args:
        files: by a name that stays the file's when the lake is moved.
        ledger: files that stand in it in their present state are not read; None: every byte is read.
        threads: files at once; None: one a core, at most 8.

    Raises:
        InputError: a file cannot be read, or changed while it was hashed; names it.
    """
    threads = threads or min(THREADS, len(os.sched_getaffinity(0)))
    found: dict[str, Digest] = {}
    waiting: dict[str, int] = {}
    for name, path in files.items():
        try:
            state = path.stat()
        except OSError as error:
            raise _unreadable(path, error) from None
        known = ledger.find(name, file_state(state)) if ledger else None
        if known:
            found[name] = known
        else:
            waiting[name] = state.st_size
    with ThreadPoolExecutor(threads) as pool:
        # the largest first: one begun last would keep all others waiting
        begun = {
            name: pool.submit(_hash, name, files[name], ledger) for name, _ in sorted(waiting.items(), key=lambda each: -each[1])
        }
        try:
            found |= {name: future.result() for name, future in begun.items()}
        finally:
            for future in begun.values():
                future.cancel()
    return {name: found[name] for name in files}


def _hash(name: str, path: Path, ledger: Ledger | None) -> Digest:
    started = time.time()
    sha256, size = hashlib.sha256(), 0
    try:
        with path.open("rb", buffering=0) as file:
            before = os.fstat(file.fileno())
            parts = read_ahead(partial(_read, file.fileno()), before.st_size, PART_BYTES, threads=1)
            with closing(parts):
                for part in parts:
                    sha256.update(part)
                    size += len(part)
            after = os.fstat(file.fileno())
    except OSError as error:
        raise _unreadable(path, error) from None
    if size != before.st_size or file_state(before) != file_state(after):
        raise InputError(
            f"{path} changed while it was hashed: {before.st_size} bytes before, {after.st_size} after, {size} read.",
            next_step="wait until its transfer ends, and run again",
        )
    digest = Digest(size, sha256.hexdigest())
    if ledger and started - after.st_ctime >= SETTLED_S:
        ledger.note(name, file_state(after), digest)
    return digest


def _unreadable(path: Path, error: OSError) -> InputError:
    return InputError(f"{path} cannot be read: {error.strerror}.", next_step="check its rights and the disk")


def _read(descriptor: int, start: int, stop: int) -> bytes:
    """The bytes of a part; fewer where the file ends early."""
    data = os.pread(descriptor, stop - start, start)
    while data and len(data) < stop - start:  # a read may give less than it could
        more = os.pread(descriptor, stop - start - len(data), start + len(data))
        if not more:
            break
        data += more
    return data


def read_ahead(read: Callable[[int, int], bytes], size: int, part_bytes: int, *, threads: int) -> Generator[bytes]:
    """A file's parts in order, read by threads ahead of their use; ``threads`` + 2 parts are in memory at most.

    Args:
        read: the bytes from a start to a stop; called by several threads at once.
        size: of the whole, in bytes.
        part_bytes: of each part but the last.
        threads: readers at once.
    """
    ahead: deque[Future[bytes]] = deque()
    pool = ThreadPoolExecutor(threads)
    try:
        for start in range(0, size, part_bytes):
            if len(ahead) > threads:
                yield ahead.popleft().result()
            ahead.append(pool.submit(read, start, min(start + part_bytes, size)))
        while ahead:
            yield ahead.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
