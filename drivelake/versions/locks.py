"""Locks between processes that die with their holder. Belongs here: taking, waiting for and clearing locks.

Never here: what they protect.
"""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from drivelake.errors import StoreError

__all__ = ["exclusive", "owning_lock_file", "shared"]


@contextmanager
def exclusive(path: Path, *, keep: bool = False, wait: bool = True) -> Iterator[IO[bytes]]:
    """Hold an advisory lock on ``path`` for the block; the kernel lets go of it when the process dies, however it dies.

    Args:
        path: the lock's file, made when missing.
        keep: leave the file behind; else it is removed, so that a lock a path does not become a file a path for ever.
        wait: for other holders.

    Yields:
        The open file.

    Raises:
        BlockingIOError: another holds it, and ``wait`` is false.
        StoreError: the file cannot be made.
    """
    with _locked(path, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB) as handle:
        try:
            yield handle
        finally:
            if not keep:
                path.unlink(missing_ok=True)


@contextmanager
def shared(path: Path) -> Iterator[None]:
    """The same lock, held beside any number of others who share it, and beside nobody who holds it alone."""
    with _locked(path, fcntl.LOCK_SH) as handle:
        try:
            yield
        finally:
            # The last one out takes the file along. Whoever opened it meanwhile finds that it is gone, and makes another.
            with suppress(BlockingIOError):
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _stands_at(handle, path):
                    path.unlink()


@contextmanager
def _locked(path: Path, how: int) -> Iterator[IO[bytes]]:
    while True:
        with _opened(path) as handle:
            fcntl.flock(handle, how)
            if not _stands_at(handle, path):
                continue  # the holder before us removed the file; whoever opens it next would lock another one
            yield handle
        return


def _opened(path: Path) -> IO[bytes]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)  # here and not when the store is opened: reading it writes nothing
        return path.open("a+b", buffering=0)
    except OSError as error:
        raise StoreError(f"The lock {path} cannot be made: {error}.", next_step="check the disk's space and rights") from error


@contextmanager
def owning_lock_file(record: Path, lock_file: Path) -> Iterator[None]:
    """Let a library take and release ``lock_file`` within the block, after removing one that a killed holder left.

    A lock file as git makes it has no owner: one left by a killed process blocks everyone, and nobody can tell it from one
    in use. So its path is written into ``record`` first, under a lock that the kernel frees. Whoever gets that lock and
    finds a path there knows that its writer died inside the block. A lock file that stands in no record is somebody
    else's (``git gc`` at work, say) and is left alone.

    Raises:
        OSError: the record cannot be written; ``lock_file`` was not touched.
    """
    with exclusive(record, keep=True) as handle:
        handle.seek(0)
        left = handle.read().decode()
        if left:
            Path(left).unlink(missing_ok=True)
            handle.truncate(0)
        name = os.fsencode(lock_file)
        try:
            if handle.write(name) != len(name):
                raise OSError(errno.ENOSPC, "no room for the whole record", str(record))
            yield
        finally:
            handle.truncate(0)


def _stands_at(handle: IO[bytes], path: Path) -> bool:
    try:
        found = path.stat()
    except FileNotFoundError:
        return False
    mine = os.fstat(handle.fileno())
    return (found.st_dev, found.st_ino) == (mine.st_dev, mine.st_ino)
