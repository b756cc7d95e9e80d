"""The blocks of an MDF 4 file, walked from the header along every link. Belongs here: what contradicts the block format.

Never here: what blocks mean to a reader, samples, an MDF library.

Format: ASAM MDF 4.x, "block structure". The format has two checksums, the Adler-32 inside compressed blocks and the MD5 of
embedded attachments; both are verified. Bits of an uncompressed data block can flip unseen: the count of such blocks is
given, so that a report can say how far its check reaches. Memory: one block header, its links, and blocks of 1 MiB.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

__all__ = ["BlockReport", "check_blocks"]

ID_BYTES = 64
HEAD = struct.Struct("<4s4xQQ")
DZ_HEAD = struct.Struct("<2sBxIQQ")
AT_HEAD = struct.Struct("<HH4x16sQQ")
AT_EMBEDDED, AT_COMPRESSED, AT_MD5 = 1, 2, 4
DEFLATE_KINDS = (0, 1)
READ_BYTES = 1 << 20
CN_DATA, CN_VLSD = 5, b"\x01"  # link to the data of a channel; cn_type of values that vary in length

# id: index of the link to the next block of the same list, where there is one
BLOCKS: dict[bytes, int | None] = {
    b"##HD": None, b"##MD": None, b"##TX": None, b"##FH": 0, b"##CH": 0, b"##AT": 0, b"##EV": 0, b"##DG": 0, b"##CG": 0,
    b"##SI": None, b"##CN": 0, b"##CC": None, b"##CA": None, b"##DT": None, b"##SR": 0, b"##RD": None, b"##SD": None,
    b"##DL": 0, b"##DZ": None, b"##HL": None, b"##DV": None, b"##DI": None, b"##LD": 0, b"##RV": None, b"##RI": None,
    b"##GD": None,
}  # fmt: skip
DATA = frozenset({b"##DT", b"##SD", b"##RD", b"##DV", b"##DI", b"##RV", b"##RI"})


@dataclass
class BlockReport:
    """What the walk found.

    Attributes:
        damage: one sentence each, with offset and numbers.
        sound: whether every block reached is whole and no list runs in a circle, so that a reader terminates.
        compressed: data blocks whose Adler-32 was verified.
        plain: data blocks that carry no checksum that was verified.
    """

    damage: list[str] = field(default_factory=list)
    sound: bool = True
    compressed: int = 0
    plain: int = 0


class _Broken(Exception):
    """A block contradicts the format; the text is the sentence. Never leaves this module."""


def check_blocks(path: Path) -> BlockReport:
    """Walk every block that can be reached from the header, and read its bytes."""
    report = BlockReport()
    with path.open("rb") as file:
        _Walk(file, path.stat().st_size, report).run()
    return report


class _Walk:
    def __init__(self, file: BinaryIO, size: int, report: BlockReport) -> None:
        self._file = file
        self._size = size
        self._report = report
        self._next: dict[int, int] = {}
        self._streams: set[int] = set()

    def run(self) -> None:
        head = self._file.read(ID_BYTES)
        if len(head) < ID_BYTES:
            self._damage(f"The file has {len(head)} bytes, the identification block alone needs {ID_BYTES}.")
            return
        standard, custom = struct.unpack_from("<HH", head, 60)
        if head.startswith(b"UnFinMF ") or standard or custom:
            self._report.damage.append(
                f"The logger did not finalise the file (flags 0x{standard:04x}, custom 0x{custom:04x}): "
                "counters and the length of its last blocks were never written."
            )
        waiting, seen = [(ID_BYTES, 0)], {ID_BYTES}
        while waiting:
            offset, linked_from = waiting.pop()
            try:
                links = self._block(offset)
            except _Broken as broken:
                self._damage(f"{broken} It is linked from offset {linked_from}.")
                continue
            fresh = dict.fromkeys(link for link in links if link and link not in seen)
            seen.update(fresh)
            waiting.extend((link, offset) for link in reversed(fresh))
        self._find_circles()

    def _damage(self, sentence: str) -> None:
        self._report.damage.append(sentence)
        self._report.sound = False

    def _block(self, offset: int) -> tuple[int, ...]:
        """Check one block; its links."""
        if offset + HEAD.size > self._size:
            raise _Broken(f"A block should stand at offset {offset}, the file ends at {self._size}.")
        self._file.seek(offset)
        name, length, count = HEAD.unpack(self._file.read(HEAD.size))
        if name not in BLOCKS or (offset == ID_BYTES and name != b"##HD"):
            raise _Broken(
                f"At offset {offset} stands {name!r}, expected {'the header block' if offset == ID_BYTES else 'a known block'}."
            )
        text = name.decode()[2:]
        if length > self._size - offset:
            raise _Broken(
                f"The {text} block at offset {offset} has {length} bytes, the file ends after {self._size - offset} of them."
            )
        if HEAD.size + 8 * count > length:
            raise _Broken(f"The {text} block at offset {offset} has {length} bytes, its {count} links do not fit.")
        links = struct.unpack(f"<{count}Q", self._file.read(8 * count))
        following = BLOCKS[name]
        if following is not None and count > following and links[following]:
            self._next[offset] = links[following]
        content = self._file.tell()
        if name == b"##CN" and count > CN_DATA and links[CN_DATA] and self._file.read(1) == CN_VLSD:
            self._streams.add(links[CN_DATA])
        self._file.seek(content)
        self._content(name, offset, length - HEAD.size - 8 * count)
        return links

    def _content(self, name: bytes, offset: int, left: int) -> None:
        if name == b"##DZ":
            self._compressed(offset, left)
        elif name == b"##AT":
            self._attachment(offset, left)
        elif name == b"##SD" and offset in self._streams:
            self._report.plain += 1
            self._values(offset, left)
        else:
            self._report.plain += name in DATA
            for _ in self._read(left, offset):
                pass

    def _values(self, offset: int, left: int) -> None:
        """Values of varying length, each behind its length: they must end where the block does."""
        place = 0
        while left - place >= 4:
            size = int.from_bytes(self._file.read(4), "little")
            place += 4 + size
            if place > left:
                break
            self._file.seek(size, 1)
        if place != left:
            raise _Broken(f"The values in the SD block at offset {offset} reach to byte {place} of its {left}.")

    def _read(self, size: int, offset: int) -> Iterator[bytes]:
        while size:
            block = self._file.read(min(size, READ_BYTES))
            if not block:
                raise _Broken(f"The file became shorter while the block at offset {offset} was read.")
            size -= len(block)
            yield block

    def _compressed(self, offset: int, left: int) -> None:
        if left < DZ_HEAD.size:
            raise _Broken(f"The DZ block at offset {offset} has {left} bytes of content, its fields need {DZ_HEAD.size}.")
        of, kind, _, original, packed = DZ_HEAD.unpack(self._file.read(DZ_HEAD.size))
        if packed > left - DZ_HEAD.size:
            raise _Broken(f"The DZ block at offset {offset} declares {packed} bytes of data, it holds {left - DZ_HEAD.size}.")
        if b"##" + of not in DATA:
            raise _Broken(f"The DZ block at offset {offset} says it replaces a block {of!r}, which holds no data.")
        if kind not in DEFLATE_KINDS:
            self._report.plain += 1
            return
        self._inflate(offset, packed, original, lambda _: None)
        self._report.compressed += 1

    def _inflate(self, offset: int, packed: int, original: int, use: Callable[[bytes], None]) -> None:
        """Inflate in pieces, so that a block that swells cannot fill the memory."""
        inflater, found = zlib.decompressobj(), 0
        try:
            for block in self._read(packed, offset):
                rest, piece = block, b""
                # a full piece may leave output behind even when the input is used up
                while not inflater.eof and (rest or len(piece) == READ_BYTES):
                    piece = inflater.decompress(rest, READ_BYTES)
                    use(piece)
                    found += len(piece)
                    rest = inflater.unconsumed_tail
                    if found > original:
                        raise _Broken(f"The data at offset {offset} inflates to more than the {original} bytes it declares.")
        except zlib.error as error:
            raise _Broken(f"The compressed data at offset {offset} is damaged: {error}.") from None
        if not inflater.eof or found != original:
            raise _Broken(f"The compressed data at offset {offset} inflates to {found} bytes, it declares {original}.")

    def _attachment(self, offset: int, left: int) -> None:
        if left < AT_HEAD.size:
            raise _Broken(f"The AT block at offset {offset} has {left} bytes of content, its fields need {AT_HEAD.size}.")
        flags, _, md5, original, embedded = AT_HEAD.unpack(self._file.read(AT_HEAD.size))
        if not flags & AT_EMBEDDED:
            return
        if embedded > left - AT_HEAD.size:
            raise _Broken(f"The AT block at offset {offset} declares {embedded} bytes of data, it holds {left - AT_HEAD.size}.")
        digest = hashlib.md5(usedforsecurity=False)
        if flags & AT_COMPRESSED:
            self._inflate(offset, embedded, original, digest.update)
        else:
            for block in self._read(embedded, offset):
                digest.update(block)
        if flags & AT_MD5 and digest.digest() != md5:
            raise _Broken(f"The attachment at offset {offset} has MD5 {digest.hexdigest()}, it declares {md5.hex()}.")

    def _find_circles(self) -> None:
        """A reader follows lists to their end: each must have one. Every block is passed once."""
        done: set[int] = set()
        for start in self._next:
            here, path = start, set()
            while here in self._next and here not in done and here not in path:
                path.add(here)
                here = self._next[here]
            if here in path:
                self._damage(f"The list that passes offset {here} runs in a circle.")
            done |= path
