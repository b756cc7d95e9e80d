"""The data streams of an MDF 4 file, as the pieces that they are stored in. Belongs here: chains of data blocks, and inflating.

Never here: records, untransposing, what a stream holds.

Format: ASAM MDF 4.1 and 4.2, DT, SD, RD, DV, DZ, DL, HL and LD blocks. A list says how long its blocks are or where in the
stream they begin, and each block says it as well: the two are compared, so that a length that changed cannot shift what
follows it.
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import NamedTuple

from drivelake.errors import LogDamaged
from drivelake.logs.findings import RESTORE, Findings
from drivelake.logs.mdf.blocks import LAST_DL_OPEN, LAST_DT_OPEN, Block, Head, MdfFile
from drivelake.logs.mdf.model import Piece

__all__ = ["INFLATED_MAX", "LOST", "PLAIN", "inflate", "packed_piece", "pieces_of"]

LOST = -2  # packing of a piece that cannot be read, though its size is known
PLAIN = -1
DEFLATE_KINDS = DEFLATED, TRANSPOSED = 0, 1
INFLATED_MAX = 256 << 20
# deflate packs at most 1032 to 1
SWELL_MAX = 1032
DZ_HEAD = struct.Struct("<2sBxIQQ")
LIST_HEAD = struct.Struct("<II")
ALIGNMENT = 8
STREAMS = ("DT", "SD", "RD", "DV")
DZ_KINDS = (b"DT", b"SD", b"RD", b"DV", b"DI", b"RV", b"RI")
EQUAL_LENGTH = 1  # dl_flags, ld_flags
INVALIDATION = 1 << 31  # ld_flags: links to invalidation bytes follow those to the data


class _Entry(NamedTuple):
    """A data block as its list names it.

    Attributes:
        link: to the block.
        place: in the stream where the list says that it begins; None where it does not say.
    """

    link: int
    place: int | None


def pieces_of(file: MdfFile, link: int, findings: Findings, what: str) -> tuple[Piece, ...]:
    """The pieces of a stream, in order and without gaps: each begins where the one before it ends.

    A piece that cannot be read but whose size its list gives has the packing :data:`LOST`; inflating it raises. Where the
    size is not known either, the stream ends, and that is told. The last block of an unfinalised file reaches to the block
    behind it or to the end of the file.

    Args:
        file: the file.
        link: to the first block of the stream, 0 for none.
        findings: takes what is wrong with the chain.
        what: the stream belongs to, for sentences: ``group 3``.

    Raises:
        LogDamaged: from strict findings.
    """
    return _Chain(file, findings, what).pieces(link) if link else ()


def inflate(file: MdfFile, piece: Piece) -> memoryview:
    """The bytes of a whole piece, checked against its Adler-32; transposed pieces stay transposed.

    Plain pieces are views of the mapped file, not copied; :meth:`MdfFile.release` lets go of the memory behind them.

    Raises:
        LogDamaged: it does not inflate to the bytes it declares, or is lost.
    """
    if piece.packing == LOST:
        raise LogDamaged(
            f"{piece.size} bytes from byte {piece.place} of the stream on are lost with the block at offset {piece.offset}.",
            next_step=RESTORE,
        )
    stored = file.bytes_at(piece.offset, piece.stored)
    if piece.packing == PLAIN:
        return stored
    import deflate

    try:
        whole = deflate.zlib_decompress(stored, max(piece.size, 1))
    except deflate.DeflateError as error:
        raise LogDamaged(
            f"The compressed data at offset {piece.offset} is damaged: {error}; it declares {piece.size} bytes.",
            next_step=RESTORE,
        ) from None
    file.release(piece.offset, piece.stored)
    if len(whole) != piece.size:
        raise LogDamaged(
            f"The compressed data at offset {piece.offset} inflates to {len(whole)} bytes, it declares {piece.size}.",
            next_step=RESTORE,
        )
    return memoryview(whole)


def packed_piece(file: MdfFile, head: Head) -> Piece:
    """What a DZ block holds, by whatever method it is packed; its place in a stream is not known here.

    Raises:
        LogDamaged: its fields contradict each other.
    """
    data = file.block(head.offset, "DZ").data
    name = f"The DZ block at offset {head.offset}"
    if len(data) < DZ_HEAD.size:
        raise LogDamaged(f"{name} has {len(data)} bytes of content, its fields need {DZ_HEAD.size}.", next_step=RESTORE)
    kind, packing, columns, size, stored = DZ_HEAD.unpack_from(data)
    if stored > len(data) - DZ_HEAD.size:
        raise LogDamaged(f"{name} declares {stored} bytes of data, it holds {len(data) - DZ_HEAD.size}.", next_step=RESTORE)
    if kind not in DZ_KINDS:
        raise LogDamaged(f"{name} says it replaces a block {kind!r}, which holds no data.", next_step=RESTORE)
    if packing in DEFLATE_KINDS and size > SWELL_MAX * stored:
        raise LogDamaged(f"{name} declares {size} bytes out of {stored}, deflate packs {SWELL_MAX} to 1.", next_step=RESTORE)
    if packing == TRANSPOSED and not columns:
        raise LogDamaged(f"{name} is transposed and does not say how long its rows are.", next_step=RESTORE)
    return Piece(kind.decode(), head.content + DZ_HEAD.size, stored, size, packing, columns, 0)


class _Chain:
    """The blocks of one stream."""

    def __init__(self, file: MdfFile, findings: Findings, what: str) -> None:
        self._file = file
        self._findings = findings
        self._what = what

    def pieces(self, link: int) -> tuple[Piece, ...]:
        try:
            head = self._file.head(link, *STREAMS, "DZ", "DL", "HL", "LD")
            if head.id == "HL":
                if not head.links or not head.links[0]:
                    return ()
                head = self._file.head(head.links[0], "DL", "LD")
        except LogDamaged as error:
            self._tell(error)
            return ()
        entries = list(self._entries(head)) if head.id in ("DL", "LD") else [_Entry(head.offset, 0)]
        if not entries:
            return ()
        found = [self._found(entry.link, last=i == len(entries) - 1) for i, entry in enumerate(entries)]
        return tuple(self._placed(entries, found))

    def _tell(self, error: LogDamaged) -> None:
        self._findings.damaged(f"The data of {self._what}: {error.message}")

    def _entries(self, head: Head) -> Iterator[_Entry]:
        """The data blocks of all lists of a chain."""
        offset, seen, count = head.offset, set[int](), 0
        while offset:
            if offset in seen:
                self._tell(LogDamaged(f"The list that passes offset {offset} runs in a circle."))
                return
            seen.add(offset)
            is_open = bool(self._file.unfinalised & LAST_DL_OPEN)
            try:
                following, entries = _list_fields(self._file.block(offset, head.id), count, is_open=is_open)
            except LogDamaged as error:
                self._tell(error)
                return
            if is_open and not following:
                strays = self._strays(entries[-1].link if entries else offset)
                entries.extend(_Entry(link, None) for link in strays)
            yield from entries
            count += len(entries)
            offset = following

    def _strays(self, offset: int) -> Iterator[int]:
        """Data blocks behind the last one that an open list names, written before the list was."""
        while True:
            try:
                offset = _aligned(offset + self._file.head(offset).length)
                if offset >= self._file.size or self._file.next_block(offset - 1) == offset:
                    return
                self._file.head(offset, *STREAMS, "DZ")
            except LogDamaged:
                # what stands there is no data block: the list has no more
                return
            yield offset

    def _found(self, link: int, *, last: bool) -> Piece | LogDamaged:
        """A data block as a piece whose place is not known yet, or what is wrong with it."""
        try:
            head = self._file.head(link, *STREAMS, "DZ")
            if head.id == "DZ":
                return self._inflatable(packed_piece(self._file, head))
            end = head.offset + head.length
            if last and self._file.unfinalised & LAST_DT_OPEN:
                end = self._open_end(head)
            piece = Piece(head.id, head.content, end - head.content, end - head.content, PLAIN, 0, 0)
        except LogDamaged as error:
            return error
        return piece

    def _open_end(self, head: Head) -> int:
        """Where a block ends whose length may never have been written."""
        limit = self._file.next_block(head.offset)
        written = _aligned(head.offset + head.length) == limit and limit < self._file.size
        return head.offset + head.length if written else limit

    def _inflatable(self, piece: Piece) -> Piece:
        """A packed piece, if it can be inflated here."""
        name = f"The packed data at offset {piece.offset}"
        if piece.packing not in DEFLATE_KINDS:
            raise LogDamaged(f"{name} are packed by method {piece.packing}, expected one of {DEFLATE_KINDS}.")
        if piece.size > INFLATED_MAX:
            raise LogDamaged(f"{name} declare {piece.size} bytes, expected at most {INFLATED_MAX}.")
        if not piece.size:
            # it gives no piece that a reader would verify
            inflate(self._file, piece)
        return piece

    def _placed(self, entries: Sequence[_Entry], found: Sequence[Piece | LogDamaged]) -> Iterator[Piece]:
        """The pieces at their places; a stream ends where the size of a lost piece is not known."""
        kinds = Counter(piece.kind for piece in found if isinstance(piece, Piece))
        kind = max(kinds, key=kinds.__getitem__, default=STREAMS[0])
        place = 0
        for entry, piece, size in zip(entries, found, self._sizes(entries, found), strict=True):
            sound = self._sound(piece, size, kind)
            if isinstance(sound, LogDamaged):
                self._tell(sound)
                kept = self._kept(piece, size, kind)
                if kept:
                    assert isinstance(piece, Piece)
                    yield replace(piece, stored=kept, size=kept, place=place)
                if not size or entry is entries[-1]:
                    # nothing behind it needs a place, and nothing confirms its size
                    return
                yield Piece(kind, entry.link, 0, size - kept, LOST, 0, place + kept)
                place += size
            elif sound.size:
                yield replace(sound, place=place)
                place += sound.size

    def _sound(self, piece: Piece | LogDamaged, size: int | None, kind: str) -> Piece | LogDamaged:
        """The piece if all sources agree on it, or what is wrong with it."""
        if isinstance(piece, LogDamaged):
            return piece
        if piece.kind != kind:
            return LogDamaged(f"At offset {piece.offset} stand {piece.kind} data, the stream holds {kind} data.")
        if size != piece.size:
            said = "otherwise" if size is None else size
            return LogDamaged(f"The block with its data at offset {piece.offset} holds {piece.size} bytes, its list says {said}.")
        if piece.offset + piece.stored > self._file.size:
            return LogDamaged(
                f"The block with its data at offset {piece.offset} holds {piece.stored} bytes, "
                f"the file ends after {self._file.size - piece.offset} of them."
            )
        return piece

    def _kept(self, piece: Piece | LogDamaged, size: int | None, kind: str) -> int:
        """Bytes that are there of a plain block that the end of the file cuts."""
        if isinstance(piece, LogDamaged) or piece.packing != PLAIN or piece.kind != kind or size != piece.size:
            return 0
        return max(0, self._file.next_block(piece.offset) - piece.offset)

    def _sizes(self, entries: Sequence[_Entry], found: Sequence[Piece | LogDamaged]) -> list[int | None]:
        """Bytes of each block where a block and its list agree, or where it is clear which of them is wrong."""
        said = [_between(entry, after) for entry, after in pairwise(entries)] + [None]
        held = [piece.size if isinstance(piece, Piece) else None for piece in found]
        off = [0 if listed is None or size is None else listed - size for listed, size in zip(said, held, strict=True)]
        agreed = {listed for listed, size, wrong in zip(said, held, off, strict=True) if size is not None and not wrong}
        # a length of all blocks that fits none of them, while they fit each other
        list_wrong = len(off) > 2 and off[0] != 0 and len(set(off[:-1])) == 1
        sizes: list[int | None] = []
        for i, (piece, wrong) in enumerate(zip(found, off, strict=True)):
            if not wrong:
                sizes.append(said[i] if held[i] is None else held[i])
                continue
            # one wrong beginning makes one block too long and its neighbour too short by the same
            shifted = wrong in (-off[i + 1], -off[i - 1] if i else 0)
            if list_wrong or shifted or (isinstance(piece, Piece) and self._inflates(piece)):
                self._findings.damaged(
                    f"The data of {self._what}: the list says that the block at offset {entries[i].link} "
                    f"holds {said[i]} bytes, it holds {held[i]}."
                )
                sizes.append(held[i])
            else:
                # without a block behind it that confirms the list, nothing says which of the two is wrong
                certain = i < len(off) - 2 or said[i] in agreed
                sizes.append(said[i] if certain else None)
        return [size if size is None or size >= 0 else None for size in sizes]

    def _inflates(self, piece: Piece) -> bool:
        """Whether a packed block is what it says to be; nothing speaks for a plain one."""
        if piece.packing == PLAIN:
            return False
        try:
            inflate(self._file, piece)
        except LogDamaged:
            # told where the piece is placed
            return False
        return True


def _between(entry: _Entry, after: _Entry) -> int | None:
    return None if entry.place is None or after.place is None else after.place - entry.place


def _list_fields(block: Block, before: int, *, is_open: bool) -> tuple[int, list[_Entry]]:
    """Link to the next list, and the data blocks of a DL or LD block.

    Args:
        block: the list.
        before: data blocks in the lists before it.
        is_open: the logger may not have completed the last list.

    Raises:
        LogDamaged: its numbers contradict each other.
    """
    name = f"The {block.id} block at offset {block.offset}"
    if not block.links or len(block.data) < LIST_HEAD.size:
        raise LogDamaged(f"{name} has {len(block.links)} links and {len(block.data)} bytes, its fields need more.")
    flags, count = LIST_HEAD.unpack_from(block.data)
    following, links = block.links[0], block.links[1:]
    if block.id == "LD" and flags & INVALIDATION:
        links = links[:count]
    if is_open and not following:
        return 0, [_Entry(link, None) for link in links if link]
    if count != len(links):
        raise LogDamaged(f"{name} says that it lists {count} blocks, it has {len(links)} links to data.")
    lengths = 1 if flags & EQUAL_LENGTH else count
    if len(block.data) < LIST_HEAD.size + 8 * lengths:
        raise LogDamaged(f"{name} has {len(block.data)} bytes, its {lengths} lengths do not fit.")
    values = struct.unpack_from(f"<{lengths}Q", block.data, LIST_HEAD.size)
    places = [(before + i) * values[0] for i in range(count)] if flags & EQUAL_LENGTH else values
    return following, [_Entry(link, place) for link, place in zip(links, places, strict=True)]


def _aligned(offset: int) -> int:
    return -(-offset // ALIGNMENT) * ALIGNMENT
