"""A finalised, sorted MDF 4 file out of what is sound of another. Belongs here: which blocks are written again, and their links.

Never here: writing blocks (writing), records (recopy), deciding what is damaged, publishing the file.

Metadata is copied block by block with its links set anew. A link to what is damaged, to data, or to what has no place in the
new file (record ids, sample reductions) becomes empty. Every group stands in a data group of its own.

Format: ASAM MDF 4.1.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Callable, Iterator, Sequence
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO
from xml.sax.saxutils import escape

from drivelake.errors import LogDamaged, UnsupportedLog
from drivelake.logs.findings import RESTORE, Findings
from drivelake.logs.mdf.blocks import FIELD_BYTES, FIRST_BLOCK, Block, MdfFile
from drivelake.logs.mdf.model import Channel, Mdf
from drivelake.logs.mdf.naming import table_names
from drivelake.logs.mdf.parse import parse
from drivelake.logs.mdf.recopy import Copied, copy_records
from drivelake.logs.mdf.writing import BlockWriter

__all__ = ["rewrite_mdf"]

# Blocks that are copied wherever a link leads to them; lists of groups and channels are made anew.
COPIED = frozenset({"TX", "MD", "SI", "CC", "CA", "AT", "EV", "CH", "FH"})
FINAL = b"MDF     "
AT_HEAD = struct.Struct("<HH4x16sQQ")
CC_VALUES = struct.Struct("<6xH")  # cc_val_count
AT_EMBEDDED, AT_COMPRESSED, AT_MD5 = 1, 2, 4
FH = struct.Struct("<QhhB3s")
VLSD, SYNC, MLSD = 1, 4, 5  # cn_type
CG_RECORD_ID, CG_CYCLES = slice(0, 8), slice(8, 16)  # in the fields of a CG block
DG_ID_BYTES = 0  # in the fields of a DG block
TOLD_MAX = 20


def rewrite_mdf(path: Path, file: BinaryIO, findings: Findings, damage: Sequence[str]) -> dict[str, int]:
    """Write what is sound of an MDF 4 file.

    Args:
        path: the file.
        file: where to write, from its start; seekable.
        findings: takes what is wrong with the source.
        damage: what the history entry of the new file says of the source.

    Returns:
        Records written, by table.

    Raises:
        LogDamaged: the header is damaged, so that nothing can be read.
        UnsupportedLog: a group in column storage, or packed in a way that is not read here.
    """
    with MdfFile(path) as source:
        mdf = parse(source, findings)
        for data_group in mdf.data_groups:
            if data_group.unread:
                raise UnsupportedLog(
                    f"The data group at offset {data_group.offset} cannot be written again: {data_group.unread}.",
                    next_step="take the log as it is; drivelake inspect tells what can be read of it",
                )
        identification = bytearray(source.bytes_at(0, FIRST_BLOCK))
        identification[:8], identification[60:64] = FINAL, bytes(4)
        return _Rewrite(source, mdf, BlockWriter(file, bytes(identification)), findings).run(damage)


class _Rewrite:
    def __init__(self, source: MdfFile, mdf: Mdf, writer: BlockWriter, findings: Findings) -> None:
        self._source = source
        self._mdf = mdf
        self._writer = writer
        self._findings = findings
        self._places: dict[int, int] = {0: 0}
        self._pending: list[tuple[int, Sequence[int], frozenset[int]]] = []

    def run(self, damage: Sequence[str]) -> dict[str, int]:
        header = self._source.block(FIRST_BLOCK, "HD")
        # written first: its place is fixed
        new = self._writer.block("HD", [0] * len(header.links), self._content(header))
        self._places[FIRST_BLOCK] = new
        groups, counts = self._groups()
        _, history, tree, attachments, events, *comments = header.links
        firsts = [
            self._chain(groups),
            self._chain([*self._listed(history, "FH"), self._history(damage, counts)]),
            self._chain(list(self._listed(tree, "CH"))),
            self._chain(list(self._listed(attachments, "AT", self._is_sound))),
            self._chain(list(self._listed(events, "EV"))),
            *(self._copy(link) for link in comments),
        ]
        for number, first in enumerate(firsts):
            self._writer.link(new, number, first)
        self._resolve()
        self._writer.finish()
        return counts

    def _chain(self, blocks: Sequence[int]) -> int:
        for block, following in pairwise(blocks):
            self._writer.link(block, 0, following)
        return blocks[0] if blocks else 0

    def _listed(self, link: int, kind: str, keep: Callable[[Block], bool] = lambda _: True) -> Iterator[int]:
        """Copies of the blocks of a list, their links to each other left open; it ends at the first damaged one."""
        seen = set[int]()
        while link and link not in seen:
            seen.add(link)
            try:
                block = self._source.block(link, kind)
                self._places[link] = self._write(block, made={0}) if keep(block) else 0
            except LogDamaged as error:
                self._findings.damaged(error.message)
                return
            if new := self._places[link]:
                yield new
            link = block.links[0] if block.links else 0

    def _copy(self, link: int) -> int:
        """Where the copy of a block stands; 0 where there is none."""
        if link not in self._places:
            self._places[link] = 0
            try:
                head = self._source.head(link)
                block = self._source.block(link) if head.id in COPIED else None
                if block is not None and (block.id != "AT" or self._is_sound(block)):
                    self._write(block)
            except LogDamaged as error:
                self._findings.damaged(error.message)
        return self._places[link]

    def _write(self, block: Block, *, made: Sequence[int] | set[int] = (), content: bytes | None = None) -> int:
        """Copy one block; its links are set when everything stands, but for those that the caller makes."""
        content = self._content(block) if content is None else content
        new = self._writer.block(block.id, [0] * len(block.links), content)
        self._places[block.offset] = new
        self._pending.append((new, block.links, frozenset(made)))
        return new

    def _content(self, block: Block) -> bytes:
        """The fields of a block, at the length that its kind has and not at the one that it says.

        Raises:
            LogDamaged: its kind has more fields.
        """
        data = block.data[: max(0, self._source.next_block(block.offset) - block.offset - block.length + len(block.data))]
        size = FIELD_BYTES.get(block.id, len(data))
        if len(data) < size:
            raise LogDamaged(
                f"The {block.id} block at offset {block.offset} has {len(data)} bytes of content, its fields need {size}.",
                next_step=RESTORE,
            )
        if block.id == "CC":
            size += 8 * CC_VALUES.unpack_from(data)[0]
        elif block.id == "AT":
            flags, _, _, _, stored = AT_HEAD.unpack_from(data)
            size = len(data) if not flags & AT_EMBEDDED else size + stored
        elif block.id == "CA":
            size = len(data)
        elif block.id in {"TX", "MD"}:
            return bytes(data).split(b"\0", 1)[0] + b"\0"
        return bytes(data[:size])

    def _resolve(self) -> None:
        """Set the links of all copies, which may ask for more copies."""
        while self._pending:
            new, links, made = self._pending.pop()
            for number, link in enumerate(links):
                if link and number not in made and (place := self._copy(link)):
                    self._writer.link(new, number, place)

    def _groups(self) -> tuple[list[int], dict[str, int]]:
        """The new data groups, and records by table."""
        names = self._names()
        written, counts = list[int](), dict[str, int]()
        for data_group in self._mdf.data_groups:
            try:
                block = self._source.block(data_group.offset, "DG")
            except LogDamaged as error:
                self._findings.damaged(error.message)
                continue
            for copied in copy_records(self._source, self._mdf, data_group, names, self._writer, self._findings):
                group = self._group(copied, names[copied.group.index], len(written))
                fields = bytearray(self._content(block))
                fields[DG_ID_BYTES] = 0
                new = self._write(block, made={0, 1, 2}, content=bytes(fields))
                self._writer.link(new, 1, group)
                self._writer.link(new, 2, copied.data)
                written.append(new)
                counts[names[copied.group.index]] = copied.records
        return written, counts

    def _names(self) -> dict[int, str]:
        """Table by number of the group."""
        groups = [group for data_group in self._mdf.data_groups for group in data_group.groups]
        acquired = [""] * (max((group.index for group in groups), default=-1) + 1)
        for group in groups:
            acquired[group.index] = group.name
        return dict(enumerate(table_names(acquired)))

    def _group(self, copied: Copied, table: str, index: int) -> int:
        """The CG block of a group with its channels. One whose table is named by its number keeps that name."""
        group = copied.group
        block = self._source.block(group.offset, "CG")
        fields = bytearray(self._content(block))
        fields[CG_RECORD_ID], fields[CG_CYCLES] = bytes(8), struct.pack("<Q", copied.records)
        renamed = table != group.name and index != group.index
        new = self._write(block, made={0, 1, 4, *({2} if renamed else ())}, content=bytes(fields))
        self._writer.link(new, 1, self._channels(group.channels, copied))
        if renamed:
            self._writer.link(new, 2, self._text("TX", table))
        return new

    def _channels(self, channels: Sequence[Channel], copied: Copied) -> int:
        return self._chain([self._channel(channel, copied) for channel in channels])

    def _channel(self, channel: Channel, copied: Copied) -> int:
        block = self._source.block(channel.offset, "CN")
        named = self._is_text(block.links[2])
        made = {0, *({1} if channel.members else ()), *(() if named else (2,)), *(() if channel.kind in {SYNC, MLSD} else (5,))}
        new = self._write(block, made=made)
        if not named:
            self._writer.link(new, 2, self._text("TX", channel.name))
        if channel.members:
            self._writer.link(new, 1, self._channels(channel.members, copied))
        if channel.kind == VLSD:
            self._writer.link(new, 5, copied.values.get(channel.offset, 0))
        return new

    def _is_text(self, link: int) -> bool:
        try:
            self._source.text(link)
        except LogDamaged:
            # told where the channel was parsed
            return False
        return True

    def _text(self, kind: str, text: str) -> int:
        data = text.encode() + b"\0"
        return self._writer.block(kind, [], data + bytes(-len(data) % 8))

    def _history(self, damage: Sequence[str], counts: dict[str, int]) -> int:
        """The entry that says what was salvaged; stamped with the start of the measurement, so that it stays the same."""
        told = [*damage[:TOLD_MAX], *([f"{len(damage) - TOLD_MAX} more."] if len(damage) > TOLD_MAX else [])]
        words = f"Salvaged: {sum(counts.values())} records of {len(counts)} groups. {' '.join(told) or 'Nothing was damaged.'}"
        tool = (
            f"<tool_id>drivelake</tool_id><tool_vendor>drivelake</tool_vendor><tool_version>{version('drivelake')}</tool_version>"
        )
        comment = self._text("MD", f"<FHcomment><TX>{escape(words)}</TX>{tool}</FHcomment>")
        return self._writer.block("FH", [0, comment], FH.pack(self._mdf.start_ns, 0, 0, 0, b""))

    def _is_sound(self, block: Block) -> bool:
        """Whether an embedded attachment is what its checksums say."""
        if len(block.data) < AT_HEAD.size:
            return False
        flags, _, md5, size, stored = AT_HEAD.unpack_from(block.data)
        if not flags & AT_EMBEDDED:
            return True
        data = bytes(block.data[AT_HEAD.size : AT_HEAD.size + stored])
        if flags & AT_COMPRESSED:
            inflater = zlib.decompressobj()
            try:
                data = inflater.decompress(data, size + 1)
            except zlib.error:
                return False
            if len(data) != size or not inflater.eof:
                return False
        return len(data) == size and (not flags & AT_MD5 or hashlib.md5(data, usedforsecurity=False).digest() == md5)
