"""Every block of an MDF 4 file that a link leads to, and every checksum. Belongs here: what contradicts the block format.

Never here: what blocks mean to a reader (parse, pieces), samples, an MDF library.

Format: ASAM MDF 4.x, "block structure". The format has two checksums, the Adler-32 inside compressed blocks and the MD5 of
embedded attachments; both are verified. Bits of an uncompressed data block can flip unseen: the count of such blocks is
given, so that a report can say how far its check reaches. Memory: one compressed block of at most 64 MiB.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from drivelake.errors import LogDamaged
from drivelake.logs.findings import Findings
from drivelake.logs.mdf.blocks import FIRST_BLOCK, LAST_DT_OPEN, Block, Head, MdfFile
from drivelake.logs.mdf.pieces import DEFLATE_KINDS, TRANSPOSED, inflate, packed_piece, pieces_of

__all__ = ["BlockReport", "check_blocks"]

AT_HEAD = struct.Struct("<HH4x16sQQ")
AT_EMBEDDED, AT_COMPRESSED, AT_MD5 = 1, 2, 4
LENGTH = struct.Struct("<I")
READ_BYTES = 1 << 20
WHOLE_BYTES_MAX = 64 << 20  # of a block that is inflated at once
CN_DATA, CN_VLSD = 5, 1  # link to the data of a channel; cn_type of values that vary in length

# id: index of the link to the next block of the same list, where there is one
BLOCKS: dict[str, int | None] = {
    "HD": None, "MD": None, "TX": None, "FH": 0, "CH": 0, "AT": 0, "EV": 0, "DG": 0, "CG": 0, "SI": None, "CN": 0, "CC": None,
    "CA": None, "DT": None, "SR": 0, "RD": None, "SD": None, "DL": 0, "DZ": None, "HL": None, "DV": None, "DI": None, "LD": 0,
    "RV": None, "RI": None, "GD": None,
}  # fmt: skip
SIGNAL_DATA = ("SD", "DZ", "DL", "HL")
DATA = frozenset({"DT", "SD", "RD", "DV", "DI", "RV", "RI"})


@dataclass
class BlockReport:
    """What the walk found.

    Attributes:
        sound: whether every block reached is whole and no list runs in a circle, so that any reader terminates.
        compressed: data blocks that carry an Adler-32.
        plain: data blocks that carry no checksum that can be verified.
    """

    sound: bool = True
    compressed: int = 0
    plain: int = 0


def check_blocks(source: MdfFile | Path, findings: Findings, *, verified: Collection[int] = frozenset()) -> BlockReport:
    """Walk every block that can be reached from the header, and verify its checksum.

    A file that the logger did not finalise is not damaged by that: the last data block may have any length.

    Args:
        source: the file.
        findings: takes what contradicts the format.
        verified: where compressed bytes begin that a reader inflates anyway (``Piece.offset``); they are left to it.

    Raises:
        LogDamaged: from strict findings.
    """
    if isinstance(source, MdfFile):
        return _Walk(source, findings, set(verified)).run()
    try:
        file = MdfFile(source)
    except LogDamaged as error:
        findings.damaged(error.message)
        return BlockReport(sound=False)
    with file:
        return _Walk(file, findings, set(verified)).run()


class _Walk:
    def __init__(self, file: MdfFile, findings: Findings, verified: set[int]) -> None:
        self._file = file
        self._findings = findings
        self._verified = verified
        self._report = BlockReport()
        self._next: dict[int, int] = {}
        self._streams: dict[int, int] = {}

    def run(self) -> BlockReport:
        ends: list[tuple[int, int, str]] = []
        packed: list[Head] = []
        for offset, linked_from, head in self._file.walk():
            try:
                if isinstance(head, LogDamaged):
                    raise head
                self._block(head, packed)
                ends.append((offset, offset + head.length, head.id))
            except LogDamaged as error:
                self._damage(f"{error.message} It is linked from offset {linked_from}.")
        for link, channel in self._streams.items():
            self._values(link, channel)
        for head in packed:
            self._packed(head)
        self._find_overlaps(ends)
        self._find_circles()
        return self._report

    def _damage(self, sentence: str) -> None:
        self._report.sound = False
        self._findings.damaged(sentence)

    def _block(self, head: Head, packed: list[Head]) -> None:
        if head.id not in BLOCKS or (head.offset == FIRST_BLOCK and head.id != "HD"):
            expected = "the header block" if head.offset == FIRST_BLOCK else "a known block"
            raise LogDamaged(f"At offset {head.offset} stands {head.id!r}, expected {expected}.")
        following = BLOCKS[head.id]
        if following is not None and len(head.links) > following and head.links[following]:
            self._next[head.offset] = head.links[following]
        if head.id in DATA and self._file.unfinalised & LAST_DT_OPEN:
            self._report.plain += 1
            return
        block = self._file.block(head.offset)
        self._report.plain += head.id in DATA
        if head.id == "DZ":
            packed.append(head)
        elif head.id == "AT":
            self._attachment(block)
        elif head.id == "CN" and len(head.links) > CN_DATA and head.links[CN_DATA] and block.data[:1] == bytes([CN_VLSD]):
            self._streams.setdefault(head.links[CN_DATA], head.offset)

    def _packed(self, head: Head) -> None:
        try:
            piece = packed_piece(self._file, head)
            if piece.packing not in DEFLATE_KINDS:
                self._report.plain += 1
                return
            self._report.compressed += 1
            if piece.offset in self._verified:
                return
            if piece.size > WHOLE_BYTES_MAX:
                self._inflate(piece.offset, piece.stored, piece.size, lambda _: None)
            else:
                inflate(self._file, piece)
        except LogDamaged as error:
            self._damage(error.message)

    def _inflate(self, offset: int, stored: int, size: int, use: Callable[[bytes], None]) -> None:
        """Inflate in parts, so that a block that swells cannot fill the memory."""
        inflater, found = zlib.decompressobj(), 0
        try:
            for start in range(offset, offset + stored, READ_BYTES):
                rest, part = bytes(self._file.bytes_at(start, min(READ_BYTES, offset + stored - start))), b""
                # a full part may leave output behind even when the input is used up
                while not inflater.eof and (rest or len(part) == READ_BYTES):
                    part = inflater.decompress(rest, READ_BYTES)
                    use(part)
                    found += len(part)
                    rest = inflater.unconsumed_tail
                    if found > size:
                        raise LogDamaged(f"The data at offset {offset} inflate to more than the {size} bytes they declare.")
                self._file.release(start, READ_BYTES)
        except zlib.error as error:
            raise LogDamaged(f"The compressed data at offset {offset} is damaged: {error}.") from None
        if not inflater.eof or found != size:
            raise LogDamaged(f"The compressed data at offset {offset} inflates to {found} bytes, it declares {size}.")

    def _attachment(self, block: Block) -> None:
        if len(block.data) < AT_HEAD.size:
            raise LogDamaged(
                f"The AT block at offset {block.offset} has {len(block.data)} bytes of content, its fields need {AT_HEAD.size}."
            )
        flags, _, md5, size, stored = AT_HEAD.unpack_from(block.data)
        if not flags & AT_EMBEDDED:
            return
        if stored > len(block.data) - AT_HEAD.size:
            raise LogDamaged(
                f"The AT block at offset {block.offset} declares {stored} bytes of data, "
                f"it holds {len(block.data) - AT_HEAD.size}."
            )
        offset = block.offset + block.length - len(block.data) + AT_HEAD.size
        digest = hashlib.md5(usedforsecurity=False)
        if flags & AT_COMPRESSED:
            self._inflate(offset, stored, size, digest.update)
        else:
            digest.update(self._file.bytes_at(offset, stored))
        if flags & AT_MD5 and digest.digest() != md5:
            raise LogDamaged(f"The attachment at offset {block.offset} has MD5 {digest.hexdigest()}, it declares {md5.hex()}.")

    def _values(self, link: int, channel: int) -> None:
        """Values of varying length, each behind its length: they must end where their stream does."""
        try:
            if self._file.head(link).id not in SIGNAL_DATA:
                return
        except LogDamaged:
            # told by the walk
            return
        what = f"the channel at offset {channel}"
        held, awaited = 0, 0
        head = b""
        for piece in pieces_of(self._file, link, self._findings, what):
            if piece.packing == TRANSPOSED:
                return
            try:
                data = inflate(self._file, piece)
            except LogDamaged as error:
                self._damage(error.message)
                return
            self._verified.add(piece.offset)
            awaited, head = _follow(data, awaited, head)
            held += len(data)
        if awaited or head:
            self._damage(
                f"The values of {what} reach {awaited or LENGTH.size - len(head)} bytes behind the {held} of their data."
            )

    def _find_overlaps(self, ends: list[tuple[int, int, str]]) -> None:
        """No block reaches into another."""
        for (offset, end, name), (following, _, _) in pairwise(sorted(ends)):
            if end > following:
                self._damage(f"The {name} block at offset {offset} ends at {end}, another block stands at offset {following}.")

    def _find_circles(self) -> None:
        """A reader follows lists to their end: each must have one. Every block is passed once."""
        done: set[int] = set()
        for start in self._next:
            here, path = start, set[int]()
            while here in self._next and here not in done and here not in path:
                path.add(here)
                here = self._next[here]
            if here in path:
                self._damage(f"The list that passes offset {here} runs in a circle.")
            done |= path


def _follow(data: memoryview, awaited: int, head: bytes) -> tuple[int, bytes]:
    """Go from value to value of a part of a stream.

    Args:
        data: the part.
        awaited: bytes of a value that began before it.
        head: bytes of a length that began before it.

    Returns:
        What the next part continues: ``awaited`` and ``head``.
    """
    place, size = awaited, len(data)
    if head:
        missing = LENGTH.size - len(head)
        head += data[:missing]
        if len(head) < LENGTH.size:
            return 0, head
        place = missing + LENGTH.unpack(head)[0]
    last, unpack = size - LENGTH.size, LENGTH.unpack_from
    while place <= last:
        place += LENGTH.size + unpack(data, place)[0]
    return (place - size, b"") if place >= size else (0, bytes(data[place:]))
