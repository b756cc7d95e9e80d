"""A ROS 2 bag in SQLite as a database file. Belongs here: opening it for reading only, and whether its pages are sound.

Never here: which tables a bag has, what rows say.

Format: https://www.sqlite.org/fileformat2.html. SQLite keeps no checksums; its integrity check compares every page, every row
and every entry of the index over the stamps, so a changed stamp is seen and a changed value of a message is not.
"""

from __future__ import annotations

import shutil
import sqlite3
import struct
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from drivelake.errors import InputError, UnsupportedLog
from drivelake.logs.findings import Findings

__all__ = ["BAG_ERRORS", "MAGIC", "MESSAGE_BYTES_MAX", "ZSTD_MAGIC", "connect", "is_sound", "open_bag"]

MAGIC = b"SQLite format 3\x00"
ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
MESSAGE_BYTES_MAX = 256 << 20
ERRORS_MAX = 20
# What reading a damaged database raises; SQLite's message may quote bytes of the file that are no text, and then is none.
BAG_ERRORS = (sqlite3.DatabaseError, UnicodeDecodeError)
COPY_BYTES = 1 << 20


@contextmanager
def open_bag(path: Path, findings: Findings) -> Iterator[sqlite3.Connection]:
    """The database, read only and without locks; texts come as bytes, nothing of the file is trusted.

    Of a file that was cut, a temporary copy is opened that has its whole pages only and says so: SQLite takes what is
    missing of a file for zeros, and would give messages that end in them.

    Raises:
        LogDamaged: its header contradicts the file, if the findings are strict.
        UnsupportedLog: the file is compressed as a whole.
        InputError: there is no room for a copy.
    """
    with path.open("rb") as file:
        head = file.read(100)
    if head.startswith(ZSTD_MAGIC):
        raise UnsupportedLog(
            f"{path.name} is a bag that was compressed as a whole file.", next_step="unpack it with `zstd --decompress`"
        )
    pages = _whole_pages(head, path.stat().st_size, findings)
    for ending in ("-wal", "-journal"):
        beside = path.with_name(path.name + ending)
        if beside.is_file() and (size := beside.stat().st_size):
            findings.damaged(
                f"{beside.name} ({size} bytes) stands beside the bag: the recorder never closed it, and messages in there are"
                " not read. Opening and closing the bag once with `sqlite3` merges them."
            )
    findings.note("SQLite keeps no checksums: a changed value inside a message may go unseen.")
    with ExitStack() as stack:
        if pages is not None:
            path = _shortened(path, pages, Path(stack.enter_context(TemporaryDirectory())))
        yield stack.enter_context(closing(connect(path)))


def connect(path: Path, *, cut: bool = False) -> sqlite3.Connection:
    """The database as it stands, its pages unchecked.

    Args:
        path: the bag.
        cut: read it even if it has fewer pages than its header counts; SQLite then takes what is missing for zeros.
    """
    bag = sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro&immutable=1", uri=True, check_same_thread=False)
    bag.text_factory = bytes
    bag.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, MESSAGE_BYTES_MAX)
    bag.execute("PRAGMA trusted_schema = OFF")
    bag.execute("PRAGMA cell_size_check = ON")
    if cut:
        bag.execute("PRAGMA writable_schema = ON")
    return bag


def is_sound(bag: sqlite3.Connection, findings: Findings) -> bool:
    """Whether every page, row and index entry agrees with the others; what does not is told."""
    sound = True
    try:
        # pages are checked when they are loaded: what a damaged one gives must not depend on which are loaded already
        bag.execute("PRAGMA cache_size = 0")
        for (line,) in bag.execute(f"PRAGMA integrity_check({ERRORS_MAX})"):
            if line != b"ok":
                sound = False
                findings.damaged(f"SQLite's integrity check says: {' '.join(line.decode('utf-8', 'replace').split())}.")
    except BAG_ERRORS as error:
        sound = False
        findings.damaged(f"SQLite's integrity check ends: {error}.")
    return sound


class _Pages(NamedTuple):
    number: int
    size: int


def _whole_pages(head: bytes, size: int, findings: Findings) -> _Pages | None:
    """The pages that a cut file has whole; None where the header does not contradict the size of the file, or is no header."""
    if len(head) < 100 or not head.startswith(MAGIC):
        findings.damaged(f"The file begins with {head[:16]!r} and has {size} bytes, expected {MAGIC!r} and at least 512.")
        return None
    page_bytes, changes = struct.unpack_from(">H", head, 16)[0], struct.unpack_from(">I", head, 24)[0]
    pages, valid_for = struct.unpack_from(">I", head, 28)[0], struct.unpack_from(">I", head, 92)[0]
    page_bytes = 65536 if page_bytes == 1 else page_bytes
    if page_bytes < 512 or page_bytes & (page_bytes - 1):
        findings.damaged(f"The header says that a page has {page_bytes} bytes, expected a power of two from 512 to 65536.")
        return None
    if size % page_bytes or (changes == valid_for and pages * page_bytes != size):
        findings.damaged(
            f"The header counts {pages} pages of {page_bytes} bytes, the file has {size} bytes: {size / page_bytes:g} pages."
        )
        return _Pages(min(pages, size // page_bytes) if changes == valid_for else size // page_bytes, page_bytes)
    return None


def _shortened(path: Path, pages: _Pages, folder: Path) -> Path:
    """A copy of whole pages whose header counts them."""
    needed, free = path.stat().st_size, shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{path.name} is cut, and is read from a copy of {needed} bytes; {free} are free in the temporary folder.",
            next_step="set TMPDIR to a folder with more space",
        )
    copy = folder / "bag.db3"
    with path.open("rb") as source, copy.open("wb") as target:
        shutil.copyfileobj(source, target, COPY_BYTES)
        target.truncate(pages.number * pages.size)
        source.seek(24)
        changes = source.read(4)
        for place, field in ((28, pages.number.to_bytes(4, "big")), (92, changes)):
            target.seek(place)
            target.write(field)
    return copy
