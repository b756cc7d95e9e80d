"""Taking a folder's files in. Belongs here: their MD5s, and giving bytes a name that can be relied on.

Never here: what a name is, listings, buckets.

DVC's own transfer first tries a reflink by truncating the final name, so of two processes that add one object the later
empties what the earlier has published already. Here a name appears in one step, for bytes that are whole, read-only and
synced, and so every name that is seen can be relied on after a power cut.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path

from drivelake.versions.durable import THREADS, sync_one
from drivelake.versions.locks import exclusive

__all__ = ["finished", "hash_each", "name_it", "room", "sealed"]

NO_LINK = {errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP, errno.ENOSYS}
CHUNK_BYTES = 1 << 20
READ_ONLY = 0o444


def sealed(path: str) -> tuple[str, int]:
    """MD5 and size in bytes of a file, once it is read-only and on the disk.

    Raises:
        OSError: it cannot be read or synced.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.chmod(descriptor, READ_ONLY)  # noqa: PTH101 - a Path cannot name an open file
        found = _md5(descriptor)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return found


def hash_each(paths: Iterable[str], *, seal: bool) -> dict[str, tuple[str, int]]:
    """MD5 and size in bytes of each file; with ``seal``, each is read-only and on the disk then.

    Raises:
        OSError: one cannot be read or synced.
    """
    waiting = list(paths)
    one = sealed if seal else _md5_of_file
    with ThreadPoolExecutor(THREADS) as pool:
        shares = pool.map(lambda start: [one(path) for path in waiting[start::THREADS]], range(THREADS))
        return {
            path: made for start, share in enumerate(shares) for path, made in zip(waiting[start::THREADS], share, strict=True)
        }


def _md5_of_file(path: str) -> tuple[str, int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return _md5(descriptor)
    finally:
        os.close(descriptor)


def _md5(descriptor: int) -> tuple[str, int]:
    digest, size = hashlib.md5(usedforsecurity=False), 0
    while block := os.read(descriptor, CHUNK_BYTES):
        digest.update(block)
        size += len(block)
    return digest.hexdigest(), size


def name_it(source: str, name: str, size: int, aside: Path) -> None:
    """Give a sealed file another name in one step, by hard link where the file system allows it, else by copy.

    What has the name already is kept where it is of that size; one of another size is what a broken disk or an interrupted
    copy of the store left, and is replaced. The name's folder is not synced here.

    Args:
        source: the file.
        name: what it gets.
        size: of the file, bytes.
        aside: a ``room`` on the file system of ``name``.

    Raises:
        OSError: the disk refused.
    """
    try:
        _link(source, name)
    except FileExistsError:
        if _has_size(name, size):
            return
        fresh = aside / secrets.token_hex(8)
        try:
            os.link(source, fresh)
        except OSError as error:
            if error.errno not in NO_LINK:
                raise
            _copy(source, fresh)
        finished(fresh, name)
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        if not _has_size(name, size):
            fresh = aside / secrets.token_hex(8)
            _copy(source, fresh)
            finished(fresh, name)


def finished(fresh: Path, name: str | Path) -> None:
    """Move a sealed file of one's own to its name."""
    try:
        fresh.replace(name)
    except FileNotFoundError:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        fresh.replace(name)


def _link(source: str, name: str) -> None:
    try:
        os.link(source, name)  # the one call that a file of ten thousand costs
    except FileNotFoundError:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        os.link(source, name)


def _copy(source: str, fresh: Path) -> None:
    shutil.copyfile(source, fresh)
    fresh.chmod(READ_ONLY)
    sync_one(fresh)


def _has_size(path: str, size: int) -> bool:
    try:
        return os.stat(path).st_size == size  # noqa: PTH116 - a Path for each of 20,000 files costs more than the call
    except FileNotFoundError:
        return False


@contextmanager
def room(rooms: Path, lock: Path) -> Iterator[Path]:
    """A folder of one's own below ``rooms``, gone afterwards; what dead processes left there is swept first.

    A kernel's lock on each folder tells the living from the dead, since process ids mean nothing across containers.
    """
    mine = rooms / secrets.token_hex(8)
    with ExitStack() as held:
        with exclusive(lock):  # nobody sweeps what is just being made
            rooms.mkdir(parents=True, exist_ok=True)
            for left in rooms.iterdir():
                _sweep(left)
            mine.mkdir()
            fcntl.flock(held.enter_context(_opened(mine)), fcntl.LOCK_EX)
        try:
            yield mine
        finally:
            shutil.rmtree(mine)


@contextmanager
def _opened(folder: Path) -> Iterator[int]:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def _sweep(left: Path) -> None:
    """Remove a dead process's room; a living one's is left alone."""
    try:
        with _opened(left) as descriptor:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(left)
    except (BlockingIOError, FileNotFoundError):
        return  # its owner lives, or removed it just now
