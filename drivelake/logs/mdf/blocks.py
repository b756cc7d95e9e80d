"""The blocks of an MDF 4 file, by offset. Belongs here: mapping the file, block headers, links and texts, all of them checked.

Never here: what a block means, chains of data, decompression. Nothing is read before it is known to stand in the file.

Format: ASAM MDF 4.1 and 4.2, "block structure": every block has an id, its length and its links; then come its fields.
"""

from __future__ import annotations

import mmap
import re
import struct
from bisect import bisect_right
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from drivelake.errors import LogDamaged
from drivelake.logs.findings import RESTORE

__all__ = ["CYCLES_UNKNOWN", "FIELD_BYTES", "FIRST_BLOCK", "LAST_DL_OPEN", "LAST_DT_OPEN", "Block", "Head", "MdfFile"]

ID_BYTES = 64
FIRST_BLOCK = ID_BYTES  # the header stands behind the identification
ID_FINAL, ID_UNFINALISED = b"MDF     ", b"UnFinMF "
VERSIONS = range(400, 500)
HEAD = struct.Struct("<4s4xQQ")
LINKS = [struct.Struct(f"<{count}Q") for count in range(16)]
BLOCK_NAME = re.compile(rb"##[A-Z]{2}")
NAMES = {b"##" + name.encode(): name for name in ("CN", "TX", "CC", "MD", "SI", "CG", "DG", "DT", "DZ", "DL", "SD")}
# Fields of blocks of one size. Those of a CC block end with 8 bytes for each of its values; a later minor version may add.
FIELD_BYTES = {"HD": 32, "FH": 16, "CH": 8, "EV": 32, "DG": 8, "CG": 32, "SI": 8, "CN": 72, "CC": 24, "AT": 40, "CA": 16}
# a text is a name, a unit or a comment; what is longer is no text of a measurement
TEXT_BYTES_MAX = 16 << 20
XML_TEXT = re.compile(r"<TX\b[^>]*>(.*?)</TX>", re.DOTALL)

# id_unfin_flags
CYCLES_UNKNOWN = 1 << 0
LAST_DT_OPEN = 1 << 2
LAST_DL_OPEN = 1 << 4
# a file that calls itself unfinalised without saying how: nothing that may be open is relied on
ALL_OPEN = 0b111_1111


class Head(NamedTuple):
    """The header of a block, whose content may reach beyond the file.

    Attributes:
        id: two letters, such as ``CN``.
        offset: of the block.
        length: of the whole block, as it says.
        links: file offsets, 0 for none.
        content: file offset of what stands behind the links.
    """

    id: str
    offset: int
    length: int
    links: tuple[int, ...]
    content: int


class Block(NamedTuple):
    """A whole block.

    Attributes:
        id: two letters, such as ``CN``.
        offset: of the block.
        length: of the whole block.
        links: file offsets, 0 for none.
        data: its fields, behind the links; a view of the mapped file.
    """

    id: str
    offset: int
    length: int
    links: tuple[int, ...]
    data: memoryview


class MdfFile:
    """An MDF 4 file, mapped read-only. A context manager; views that it gave stay valid behind its end.

    Args:
        path: the file.

    Attributes:
        path: the file.
        size: bytes.
        version: 400 to 499.
        unfinalised: id_unfin_flags; 0 for a finalised file.
        custom_unfinalised: id_custom_unfin_flags.
        odd_texts: texts that were not UTF-8 and were taken as Latin-1.

    Raises:
        LogDamaged: too short, or not an MDF 4 file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        if self.size < ID_BYTES:
            raise LogDamaged(
                f"The file has {self.size} bytes, the identification block alone needs {ID_BYTES}.", next_step=RESTORE
            )
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self.size = len(self._map)
        self._view = memoryview(self._map)
        self._texts: dict[int, str] = {0: ""}
        self._reached: tuple[int, ...] | None = None
        self.odd_texts = 0
        self.version, self.unfinalised, self.custom_unfinalised = self._identify()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Let go of the file; the map itself ends with the last view of it."""
        self._view = memoryview(b"")
        del self._map

    def _identify(self) -> tuple[int, int, int]:
        name = bytes(self._view[:8])
        text = bytes(self._view[8:16]).rstrip(b" \0")
        (number,) = struct.unpack_from("<H", self._view, 28)
        standard, custom = struct.unpack_from("<HH", self._view, 60)
        if name not in (ID_FINAL, ID_UNFINALISED):
            raise LogDamaged(f"The file begins with {name!r}, expected {ID_FINAL!r} or {ID_UNFINALISED!r}.", next_step=RESTORE)
        if number not in VERSIONS:
            digits = text.replace(b".", b"")
            number = int(digits) if digits.isdigit() else 0
        if number not in VERSIONS:
            raise LogDamaged(f"The file says that its version is {text!r}, expected 4.", next_step=RESTORE)
        if name == ID_UNFINALISED and not standard:
            standard = ALL_OPEN
        return number, standard, custom

    def bytes_at(self, offset: int, size: int) -> memoryview:
        """A stretch of the file, not copied.

        Raises:
            LogDamaged: it does not stand in the file.
        """
        if offset < 0 or size < 0 or offset + size > self.size:
            raise LogDamaged(f"{size} bytes should stand at offset {offset}, the file ends at {self.size}.", next_step=RESTORE)
        return self._view[offset : offset + size]

    def head(self, offset: int, *ids: str) -> Head:
        """The header of a block and its links; the block itself may be cut.

        Args:
            offset: of the block.
            ids: what may stand there; any block without.

        Raises:
            LogDamaged: no such block, or its links do not fit.
        """
        if offset < ID_BYTES or offset + HEAD.size > self.size:
            raise LogDamaged(
                f"A{_or(ids)} block should stand at offset {offset}, the file ends at {self.size}.", next_step=RESTORE
            )
        name, length, count = HEAD.unpack_from(self._view, offset)
        text = NAMES.get(name) or _name(name)
        if not text or (ids and text not in ids):
            raise LogDamaged(f"At offset {offset} stands {name!r}, expected a{_or(ids)} block.", next_step=RESTORE)
        content = offset + HEAD.size + 8 * count
        if HEAD.size + 8 * count > length or content > self.size:
            raise LogDamaged(
                f"The {text} block at offset {offset} has {length} bytes, its {count} links do not fit.", next_step=RESTORE
            )
        links = LINKS[count] if count < len(LINKS) else struct.Struct(f"<{count}Q")
        return Head(text, offset, length, links.unpack_from(self._view, offset + HEAD.size), content)

    def block(self, offset: int, *ids: str) -> Block:
        """A whole block.

        Args:
            offset: of the block.
            ids: what may stand there; any block without.

        Raises:
            LogDamaged: no such block, or it does not fit into the file.
        """
        head = self.head(offset, *ids)
        if head.length > self.size - offset:
            raise LogDamaged(
                f"The {head.id} block at offset {offset} has {head.length} bytes, "
                f"the file ends after {self.size - offset} of them.",
                next_step=RESTORE,
            )
        return Block(head.id, offset, head.length, head.links, self._view[head.content : offset + head.length])

    def text(self, link: int) -> str:
        """A text (TX), or the text inside an XML comment (MD); "" for no link. Without the blanks around it.

        Raises:
            LogDamaged: no such block, longer than 16 MiB, or without its end.
        """
        if (known := self._texts.get(link)) is not None:
            return known
        block = self.block(link, "TX", "MD")
        if block.links:
            raise LogDamaged(f"The text at offset {link} has {len(block.links)} links, expected none.", next_step=RESTORE)
        if len(block.data) > TEXT_BYTES_MAX:
            raise LogDamaged(
                f"The text at offset {link} has {len(block.data)} bytes, expected at most {TEXT_BYTES_MAX}.", next_step=RESTORE
            )
        raw, closed, _ = bytes(block.data).partition(b"\0")
        if not closed:
            raise LogDamaged(f"The text at offset {link} has {len(raw)} bytes and no zero that closes it.", next_step=RESTORE)
        raw = raw.strip(b" \r\t\n")
        try:
            text = raw.decode()
        except UnicodeDecodeError:
            text = raw.decode("latin-1")
            self.odd_texts += 1
        if text.startswith("<") and block.id == "MD":
            found = XML_TEXT.search(text)
            text = unescape(found[1]).strip() if found else ""
        self._texts[link] = text
        return text

    def release(self, offset: int, size: int) -> None:
        """Let go of the memory that a stretch takes; it is read again from the file when it is used again."""
        first = -(-offset // mmap.PAGESIZE) * mmap.PAGESIZE
        last = min(offset + size, self.size) // mmap.PAGESIZE * mmap.PAGESIZE
        if last > first:
            self._map.madvise(mmap.MADV_DONTNEED, first, last - first)

    def next_block(self, offset: int) -> int:
        """Offset of the first block behind ``offset`` that a link leads to, or the end of the file."""
        if self._reached is None:
            self._reached = tuple(sorted(reached for reached, _, head in self.walk() if isinstance(head, Head)))
        place = bisect_right(self._reached, offset)
        return self._reached[place] if place < len(self._reached) else self.size

    def walk(self) -> Iterator[tuple[int, int, Head | LogDamaged]]:
        """Every block that can be reached from the header, once each, in the order of the links.

        Yields:
            Offset of the block, offset of the block with the link to it, and its header, or what is wrong with it.
        """
        waiting, seen = [(FIRST_BLOCK, 0)], {FIRST_BLOCK}
        while waiting:
            offset, linked_from = waiting.pop()
            try:
                head = self.head(offset)
            except LogDamaged as error:
                yield offset, linked_from, error
                continue
            yield offset, linked_from, head
            fresh = [link for link in dict.fromkeys(head.links) if link and link not in seen]
            seen.update(fresh)
            waiting.extend((link, offset) for link in reversed(fresh))


def _name(name: bytes) -> str:
    """Two letters of a block that is not in :data:`NAMES`, or nothing."""
    return name[2:].decode() if BLOCK_NAME.fullmatch(name) else ""


def _or(ids: tuple[str, ...]) -> str:
    return f" {' or '.join(ids)}" if ids else ""
