"""Locks between processes that die with their holder. Belongs here: taking, waiting for and clearing locks.

Never here: what they protect.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

__all__ = ["exclusive", "owning_lock_file"]


@contextmanager
def exclusive(path: Path, *, keep: bool = False) -> Iterator[IO[bytes]]:
    """Hold an advisory lock on ``path`` for the block; the kernel lets go of it when the process dies, however it dies.

    Args:
        path: the lock's file, made when missing.
        keep: leave the file behind; else it is removed, so that a lock a path does not become a file a path for ever.

    Yields:
        The open file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)  # here and not when the store is opened: reading it writes nothing
    while True:
        with path.open("a+b") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            if not _stands_at(handle, path):
                continue  # the holder before us removed the file; whoever opens it next would lock another one
            try:
                yield handle
            finally:
                if not keep:
                    path.unlink(missing_ok=True)
        return


@contextmanager
def owning_lock_file(record: Path, lock_file: Path) -> Iterator[None]:
    """Let a library take and release ``lock_file`` within the block, after removing one that a killed holder left.

    A lock file as git makes it has no owner: one left by a killed process blocks everyone, and nobody can tell it from one
    in use. So its path is written into ``record`` first, under a lock that the kernel frees. Whoever gets that lock and
    finds a path there knows that its writer died inside the block. A lock file that stands in no record is somebody
    else's (``git gc`` at work, say) and is left alone.
    """
    with exclusive(record, keep=True) as handle:
        handle.seek(0)
        left = handle.read().decode()
        if left:
            Path(left).unlink(missing_ok=True)
            handle.truncate(0)
        handle.write(os.fsencode(lock_file))
        handle.flush()
        try:
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
