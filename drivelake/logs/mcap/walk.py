"""One pass over an MCAP file, chunk by chunk, checking all that says which messages there are and what their bytes must be.

Belongs here: what records mean for each other: indexes, checksums of sections, what damage costs.
Never here: framing, decompression, the search for messages, what a message says, tables, statistics of channels.

Format: https://mcap.dev/spec. Not compared are spans of time and sizes that indexes and statistics repeat for seeking: no
value depends on them. The pass runs from the first byte to the last, so files without summary, index or chunks need no
second way of reading. Memory: the file is mapped and let go of behind the pass; about 8 MiB of chunks are held decompressed,
at least one, and what other threads decompress ahead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import deflate
import numpy as np
from mcap.opcode import Opcode
from mcap.records import (
    AttachmentIndex,
    Channel,
    DataEnd,
    Footer,
    Header,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
)

from drivelake.errors import LogDamaged
from drivelake.logs.findings import Findings
from drivelake.logs.mcap.chunks import Opened, opened
from drivelake.logs.mcap.content import FIELDS_SIZE, Content, Index, agreed, by_scan, disagreeing, of_messages
from drivelake.logs.mcap.declarations import Declarations
from drivelake.logs.mcap.framing import Broken, Chunked, Frame, Item, Stretch, frames
from drivelake.logs.mcap.ledger import Ledger
from drivelake.logs.mcap.listing import Listing, by_index, listing
from drivelake.logs.mcap.losses import Losses
from drivelake.logs.mcap.messages import Messages, believed, place
from drivelake.logs.mcap.records import FRAME, MAGIC, name_of, parse, parse_attachment, parse_chunk_index
from drivelake.logs.mcap.section import DataSection
from drivelake.logs.mcap.summary import read_summary
from drivelake.logs.messages.block import Source

__all__ = ["McapWalk"]

DATA_ONLY = {Opcode.CHUNK, Opcode.MESSAGE_INDEX, Opcode.ATTACHMENT, Opcode.METADATA}


class McapWalk:
    """The pass. Iterate :meth:`events`; the other attributes fill while it runs.

    Args:
        path: the file.
        findings: told every contradiction. If it does not raise, the pass goes on with what is sound behind it.
        wanted: whether the messages of a table are asked for. Chunks that hold none of them, as the summary says it, stay
            closed if the summary's CRC-32 is right and it repeats every channel: their checksums, and that of the data
            section, are then not verified. None opens everything.
        threads: how many decompress.

    Attributes:
        view: the file.
        declared: schemas, channels and the names of their tables.
        ledger: what was read.
    """

    def __init__(self, path: Path, findings: Findings, *, wanted: Callable[[str], bool] | None = None, threads: int = 1) -> None:
        self._section = DataSection(path)
        self.view = self._section.view
        self.ledger = Ledger(findings.damaged)
        self._findings = findings
        self._wanted = wanted
        self._threads = threads
        self._whole = np.frombuffer(self.view, np.uint8)
        self._summary = read_summary(self.view)
        self._losses = losses = Losses()
        # the function must not hold this walk: a circle would keep the file mapped until it is collected
        self.declared = Declarations(findings.damaged, self._summary.schemas, self._summary.channels, lambda: losses.incomplete)
        self._statistics: Statistics | None = None
        self._data_end: int | None = None
        self._closed: set[int] = set()
        self._asked: dict[frozenset[int], bool] = {}
        self._trusted: bool | None = None

    def events(self) -> Iterator[Messages | Schema | Channel | Frame]:
        """Declarations and messages in file order; header, attachments and metadata as verified frames."""
        items = self._summed(frames(self.view, self._summary.known))
        first = True
        for item in opened(self.view, items, self._threads):
            if first and not isinstance(item, Broken) and not (isinstance(item, Frame) and item.opcode == Opcode.HEADER):
                self._findings.damaged(f"The first record, at offset {len(MAGIC)}, is no header.")
            first = False
            yield from self._chunks(item) if isinstance(item, list) else self._item(item)
        yield from self._settle()

    @property
    def trusted(self) -> bool:
        """Whether nothing says that the bytes outside of chunks are damaged.

        Their one checksum is that of the data section. Where it is wrong, nothing tells which of them are sound.
        """
        if self._trusted is None:
            end, declared = self._summary.data_end, self._summary.data_crc
            self._trusted = not declared or end is None or self._section.crc_anew(end) == declared
        return self._trusted

    def _opens(self, chunk: Frame) -> bool:
        """Whether a chunk holds messages that are asked for, or may."""
        ids = self._summary.chunk_channels.get(chunk.offset)
        if self._wanted is None or ids is None or not self._summary.complete:
            return True
        if ids not in self._asked:
            channels = [self._summary.channels.get(i) for i in sorted(ids)]
            self._asked[ids] = any(channel is None or self._wanted(channel.topic) for channel in channels)
        return self._asked[ids]

    def _summed(self, items: Iterator[Item]) -> Iterator[tuple[Item, bool]]:
        """Each item and whether it is a chunk to open.

        The data section is summed before its chunks are opened, so that its bytes come out of the memory once; it ends where
        a chunk stays closed.
        """
        summing = self._summary.data_crc != 0
        for item in items:
            opens = isinstance(item, Chunked) and self._opens(item.chunk)
            summing &= opens or not (isinstance(item, Chunked) or (isinstance(item, Frame) and item.opcode == Opcode.DATA_END))
            if summing:
                self._section.add(item.end)
            yield item, opens

    def _item(self, item: Frame | Stretch | Broken) -> Iterator[Messages | Schema | Channel | Frame]:
        if isinstance(item, Stretch):
            yield from self._stretch(item)
        elif isinstance(item, Broken):
            if self._data_end is None:
                self._losses.unknown(item.sentence)
            self._findings.damaged(item.sentence)
        else:
            self.ledger.passed(item)
            try:
                yield from self._record(item)
            except LogDamaged as damage:
                self._findings.damaged(damage.message)
        self._section.release(item.end)

    def _chunks(self, chunks: list[Opened]) -> Iterator[Messages | Schema | Channel]:
        """Chunks that stand one behind the other; the list is emptied, so that none is held longer than it takes."""
        for chunk in chunks:
            for sentence in chunk.complaints:
                self._findings.damaged(sentence)
            self.ledger.indexed(chunk.chunk, {index.channel: index.offset for index in chunk.indexes})
        listed = [(chunk.buffer, chunk.indexes) for chunk in chunks if chunk.listed]
        found = listing(listed)
        if found and len(listed) == len(chunks) and self._plain(found):
            del listed
            yield self._together(chunks, found)
            return
        contents = iter(found.split(listed) if found else by_index(listed))
        del listed, found
        while chunks:
            chunk = chunks.pop(0)
            yield from self._chunk(chunk, next(contents) if chunk.listed else None)

    def _plain(self, found: Listing) -> bool:
        """Whether nothing has to be said of chunks but what messages they hold."""
        content = found.content
        return (
            found.gapless
            and self._data_end is None
            and not self._losses.incomplete
            and all(number in self.declared.names for number, _ in content.runs)
            and bool(((content.log_ns | content.publish_ns) >= 0).all())
        )

    def _together(self, chunks: list[Opened], found: Listing) -> Messages:
        """The messages of chunks, which are taken out of the list."""
        for chunk in chunks:
            self.ledger.passed(chunk.chunk)
        self._losses.unchecked("chunks", sum(not chunk.crc for chunk in chunks))
        self._section.release(chunks[-1].chunk.offset)
        self._count(found.content)
        sources = tuple([Source(chunk.buffer, chunk.chunk.offset, 0) for chunk in chunks])
        chunks.clear()
        return Messages(sources, found.content, found.pieces)

    def _count(self, content: Content) -> None:
        for number, run in content.runs:
            self.ledger.counts[number] += run.stop - run.start

    def _chunk(self, opened: Opened, content: Content | None) -> Iterator[Messages | Schema | Channel]:
        """``content``: as the indexes list it, if the chunk agrees with them."""
        frame, indexes, _, asked, crc, buffer, damage = opened
        self.ledger.passed(frame)
        self._only_in_data(frame)
        self._section.release(frame.offset)
        if not asked:
            self._closed.update(self._summary.chunk_channels[frame.offset])
            self._losses.incomplete = True
        elif damage:
            self._lose(damage, indexes)
        else:
            self._losses.unchecked("chunks", int(not crc and len(buffer) > 0))
            if content is None:
                content = self._compared(frame, indexes, by_scan(buffer), verified=crc != 0)
            yield from self._take(Source(buffer, frame.offset, 0), content, verified=crc != 0)

    def _compared(self, chunk: Frame, indexes: Sequence[Index], content: Content, *, verified: bool) -> Content:
        """The message indexes behind a chunk against what it was found to hold; what of it is sound."""
        wrong = list(disagreeing(content, indexes))
        for index, found in wrong:
            sentence = (
                f"The message index at offset {index.offset} lists {index.listed} messages of channel {index.channel},"
                f" the chunk before it holds {found}, and they do not stand where it says."
            )
            self._findings.damaged(sentence)
            if not verified:
                self._losses.messages(index.channel, index.listed - len(agreed(content, index)), sentence)
        listed = {index.channel for index in indexes}
        if listed and (missing := [number for number, _ in content.runs if number not in listed]):
            self._findings.damaged(
                f"Behind the chunk at offset {chunk.offset} stand message indexes of {len(listed)} channels, none of channel"
                f" {', '.join(map(str, missing))}, of which it holds messages."
            )
        if verified or not wrong:
            return content
        rows = np.unique(np.concatenate([agreed(content, index) for index in indexes]))
        return content.rows(rows)

    def _lose(self, sentence: str, indexes: Sequence[Index]) -> None:
        """A chunk that cannot be opened costs the messages that its indexes list, or an unknown number."""
        self._findings.damaged(sentence)
        places = [offset for index in indexes for _, offset in index.places]
        if not places or len(set(places)) < len(places):
            self._losses.unknown(sentence)
            return
        for index in indexes:
            self._losses.messages(index.channel, index.listed, sentence)

    def _stretch(self, stretch: Stretch) -> Iterator[Messages | Schema | Channel]:
        """Messages outside of chunks."""
        self.ledger.records[Opcode.MESSAGE] += len(stretch.offsets)
        if self._data_end is not None:
            self._findings.damaged(f"{len(stretch.offsets)} messages stand behind the data section, at offset {stretch.begin}.")
        content = of_messages(self._whole[stretch.begin : stretch.end], stretch.offsets - stretch.begin)
        if not self._findings.strict and not self.trusted:
            sentence = "The checksum of the data section is wrong, so that no message outside of chunks is known to be sound."
            for number, run in content.runs:
                self._losses.messages(number, run.stop - run.start, sentence)
            return
        self._losses.unchecked("messages outside of chunks", 0 if self._summary.data_crc else len(stretch.offsets))
        buffer = self._whole[stretch.begin : stretch.end]
        yield from self._take(Source(buffer, -1, stretch.begin), content, verified=False)

    def _take(self, source: Source, content: Content, *, verified: bool) -> Iterator[Messages | Schema | Channel]:
        """Declarations, then messages without those that contradict something."""
        late: dict[int, int] = {}
        data, names = source.buffer.data, self.declared.names
        for opcode, begin, end in content.others:
            for new in self._declare(opcode, data[begin:end], source.chunk, verified=verified):
                yield new
                if isinstance(new, Channel):
                    late[new.id] = begin
        if content.broken >= 0:
            sentence = f"The record at {place(source, content.broken)} reaches beyond its {len(source.buffer)} bytes."
            self._findings.damaged(sentence)
            self._losses.unknown(sentence)
        for offset in content.short:
            length = FRAME.unpack_from(data, offset)[1]
            sentence = f"The message at {place(source, offset)} has {length} bytes, its header alone needs {FIELDS_SIZE}."
            self._findings.damaged(sentence)
            self._losses.unknown(sentence)
        if self._losses.incomplete:
            for number, _ in content.runs:
                if number not in names:
                    yield from self.declared.adopt(number)
        content = believed(source, content, late, names, self._findings)
        self._count(content)
        yield Messages.of(source, content)

    def _declare(self, opcode: int, body: memoryview, offset: int, *, verified: bool) -> Iterator[Schema | Channel]:
        try:
            yield from self.declared.read(opcode, body, offset, verified=verified)
        except LogDamaged as damage:
            self._findings.damaged(damage.message)

    def _record(self, frame: Frame) -> Iterator[Schema | Channel | Frame]:
        """Any record but chunks and messages.

        Raises:
            LogDamaged: it does not hold its own fields, or its checksum is wrong.
        """
        opcode, offset, body = frame.opcode, frame.offset, self.view[frame.start : frame.end]
        self._only_in_data(frame)
        if opcode in {Opcode.SCHEMA, Opcode.CHANNEL}:
            if self._findings.strict or (self.trusted if self._data_end is None else self._summary.vouched):
                yield from self.declared.read(opcode, body, offset, verified=False)
            else:
                self._losses.incomplete = True
        elif opcode == Opcode.ATTACHMENT:
            parse_attachment(body, offset, content=False)
            yield frame
        elif opcode == Opcode.METADATA:
            parse(Metadata, body, offset)
            yield frame
        elif opcode == Opcode.HEADER:
            parse(Header, body, offset)
            yield frame
        elif opcode == Opcode.MESSAGE_INDEX:
            if not self._losses.incomplete:
                self._findings.damaged(f"The message index at offset {offset} stands behind no chunk.")
        elif opcode == Opcode.DATA_END:
            self._end_data(frame, parse(DataEnd, body, offset))
        elif opcode == Opcode.FOOTER:
            self._footer(frame, parse(Footer, body, offset))
        else:
            self._index(opcode, body, offset)

    def _index(self, opcode: int, body: memoryview, offset: int) -> None:
        """Indexes of the summary, and statistics; others pass by, as the format asks for unknown records."""
        if opcode == Opcode.CHUNK_INDEX:
            self.ledger.check_chunk_index(offset, parse_chunk_index(body, offset))
        elif opcode == Opcode.ATTACHMENT_INDEX:
            self.ledger.check_attachment_index(offset, parse(AttachmentIndex, body, offset))
        elif opcode == Opcode.METADATA_INDEX:
            self.ledger.check_metadata_index(offset, parse(MetadataIndex, body, offset))
        elif opcode == Opcode.STATISTICS:
            self._statistics = parse(Statistics, body, offset)

    def _only_in_data(self, frame: Frame) -> None:
        if self._data_end is not None and frame.opcode in DATA_ONLY:
            self._findings.damaged(
                f"The {name_of(frame.opcode)} record at offset {frame.offset} stands behind the end of the data section,"
                f" at offset {self._data_end}."
            )

    def _end_data(self, frame: Frame, record: DataEnd) -> None:
        """The checksum of everything before."""
        self._data_end = frame.end
        declared = record.data_section_crc
        if not declared or self._closed:
            return
        if (crc := self._section.crc(frame.offset)) != declared:
            self._findings.damaged(
                f"The data section up to offset {frame.offset} has CRC-32 {crc:08x}, its end record declares {declared:08x}."
            )

    def _footer(self, frame: Frame, footer: Footer) -> None:
        """Summary checksum (over all of the footer before itself), counts, closing magic, and that nothing follows."""
        if self._data_end is None:
            self._findings.damaged(f"The footer at offset {frame.offset} comes without the record that ends the data section.")
        elif footer.summary_start not in {0, self._data_end}:
            self._findings.damaged(
                f"The footer at offset {frame.offset} puts the summary at {footer.summary_start}, it is at {self._data_end}."
            )
        start = self._data_end or footer.summary_start
        if footer.summary_crc and (found := deflate.crc32(self.view[start : frame.start + 16])) != footer.summary_crc:
            self._findings.damaged(
                f"The summary before offset {frame.offset} has CRC-32 {found:08x}, the footer declares {footer.summary_crc:08x}."
            )
        if self._statistics:
            opened = [i for i in self.declared.names if i not in self._closed] if self._closed else None
            self.ledger.check_counts(self._statistics, self.declared.names, only=opened)
        magic = bytes(self.view[frame.end : frame.end + len(MAGIC)])
        if len(magic) < len(MAGIC):
            self._findings.damaged(
                f"The file ends at offset {len(self.view)}, {len(MAGIC) - len(magic)} bytes into the closing magic are missing."
            )
        elif magic != MAGIC:
            self._findings.damaged(f"The file closes with {magic!r} at offset {frame.end}, expected the MCAP magic {MAGIC!r}.")
        if behind := max(len(self.view) - frame.end - len(MAGIC), 0):
            self._findings.damaged(f"{behind} bytes follow the closing magic at offset {frame.end + len(MAGIC)}, expected none.")

    def _settle(self) -> Iterator[Schema | Channel]:
        """What is known when the pass is over: losses by channel, promises, and how far the checks reached."""
        promised = self._statistics.channel_message_counts if self._statistics and self._summary.vouched else {}
        for number in sorted({*promised, *self._losses.channels} if self._losses.incomplete else ()):
            if number not in self.declared.names:
                yield from self.declared.adopt(number)
        self._losses.settle(self._findings, self.declared.names, promised)
