"""The summary section of an MCAP file, read from the file's end before the pass begins.

Belongs here: what a summary with a right CRC-32 vouches for. Never here: a summary without one, the data section.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import deflate
from mcap.opcode import Opcode
from mcap.records import AttachmentIndex, Channel, DataEnd, Footer, MetadataIndex, Schema, Statistics

from drivelake.errors import LogDamaged
from drivelake.logs.mcap.framing import Frame
from drivelake.logs.mcap.records import FRAME, MAGIC, parse, parse_chunk_index

__all__ = ["Summary", "read_summary"]

FOOTER_SIZE = FRAME.size + 20
DATA_END_SIZE = FRAME.size + 4
DATA_END_HEAD = FRAME.pack(Opcode.DATA_END, 4)
FOOTER_HEAD = FRAME.pack(Opcode.FOOTER, 20)
IN_SUMMARY = {
    Opcode.SCHEMA,
    Opcode.CHANNEL,
    Opcode.STATISTICS,
    Opcode.CHUNK_INDEX,
    Opcode.ATTACHMENT_INDEX,
    Opcode.METADATA_INDEX,
    Opcode.SUMMARY_OFFSET,
    Opcode.FOOTER,
}
INDEXES = {Opcode.CHUNK_INDEX, Opcode.ATTACHMENT_INDEX, Opcode.METADATA_INDEX}
SEARCH_BYTES = 1 << 20
# The closing magic is looked for here, so that bytes behind it cost nothing but a sentence.
TAIL_BYTES = 64 << 10


@dataclass
class Summary:
    """What the end of a file says about the rest of it; all of it empty where no checksum vouches for it.

    Attributes:
        data_end: offset of the record that ends the data section, None if it cannot be found.
        data_crc: CRC-32 that this record declares, 0 if it declares none. Nothing vouches for these two.
        vouched: whether the CRC-32 of the summary is right, or none was written.
        known: where records stand, by offset: chunks, attachments, metadata, the end of the data section, the summary itself.
        schemas: repeated in the summary, by id.
        channels: repeated in the summary, by id.
        chunk_channels: ids of the channels with messages in a chunk, by offset of the chunk; absent where it is not said.
        channel_sets: every different set of ``chunk_channels``.
        statistics: counts; absent if none were written.
    """

    data_end: int | None = None
    data_crc: int = 0
    vouched: bool = False
    known: dict[int, Frame] = field(default_factory=dict)
    schemas: dict[int, Schema] = field(default_factory=dict)
    channels: dict[int, Channel] = field(default_factory=dict)
    chunk_channels: dict[int, frozenset[int]] = field(default_factory=dict)
    channel_sets: dict[frozenset[int], frozenset[int]] = field(default_factory=dict)
    statistics: Statistics | None = None

    @cached_property
    def complete(self) -> bool:
        """Whether every channel of the file is repeated, each topic once, so that chunks can be left closed."""
        topics = [channel.topic for channel in self.channels.values()]
        return (
            self.statistics is not None
            and self.statistics.channel_count == len(topics) == len(set(topics))
            and all(channel.schema_id in {0, *self.schemas} for channel in self.channels.values())
        )


def read_summary(view: memoryview) -> Summary:
    """The summary of a file; an empty one if the file does not end in a footer, or its CRC-32 is wrong or was not written.

    Where bytes before it are gone or too many, it does not stand where its footer says. It is then believed if its CRC-32
    is right where it does stand, but for the offsets that it names.
    """
    at, closed = _footer(view)
    if at is None:
        return Summary()
    footer = parse(Footer, view[at + FRAME.size : at + FOOTER_SIZE], at)
    start = footer.summary_start or at
    inside = len(MAGIC) + DATA_END_SIZE <= start <= at
    data_end, data_crc = _data_end(view, start if inside else at, at)
    if not footer.summary_crc:
        return Summary(data_end, data_crc, vouched=True) if inside and closed else Summary()
    for begin in dict.fromkeys((start, at if data_end is None else data_end + DATA_END_SIZE)):
        if len(MAGIC) <= begin <= at and deflate.crc32(view[begin : at + FOOTER_SIZE - 4]) == footer.summary_crc:
            summary = Summary(data_end, data_crc, vouched=True)
            try:
                _fill(summary, view, begin, at + FOOTER_SIZE, moved=begin != start)
            except LogDamaged:
                # the checksum is right and a record is not: the pass tells it, and nothing is vouched for
                break
            return summary
    return Summary(data_end, data_crc) if inside and closed else Summary()


def _footer(view: memoryview) -> tuple[int | None, bool]:
    """Where the footer stands, and whether the closing magic follows it."""
    tail = bytes(view[-TAIL_BYTES:])
    before = len(view) - len(tail)
    at = before + tail.rfind(MAGIC) - FOOTER_SIZE
    if at >= len(MAGIC) and FRAME.unpack_from(view, at) == (Opcode.FOOTER, 20):
        return at, True
    at = before + tail.rfind(FOOTER_HEAD)
    return (at, False) if len(MAGIC) <= max(at, before) == at <= len(view) - FOOTER_SIZE else (None, False)


def _data_end(view: memoryview, start: int, footer: int) -> tuple[int | None, int]:
    """Where the data section ends, and the CRC-32 declared there.

    Right before the summary; where the summary was moved by bytes that are gone or too many, the last place before the
    footer that looks like it.
    """
    at = start - DATA_END_SIZE
    if not _ends_data(view, at):
        begin = max(len(MAGIC), footer - SEARCH_BYTES)
        at = begin + bytes(view[begin:footer]).rfind(DATA_END_HEAD)
        if at < begin or not _ends_data(view, at):
            return None, 0
    return at, parse(DataEnd, view[at + FRAME.size : at + DATA_END_SIZE], at).data_section_crc


def _ends_data(view: memoryview, at: int) -> bool:
    """Whether a record stands here that ends the data section, and behind it one of the summary."""
    return bytes(view[at : at + FRAME.size]) == DATA_END_HEAD and view[at + DATA_END_SIZE] in IN_SUMMARY


def _fill(summary: Summary, view: memoryview, start: int, end: int, *, moved: bool) -> None:
    """Everything from the start of the summary to the end of the footer; no places if it was moved: they are searched for.

    Raises:
        LogDamaged: a record does not hold its fields, or they leave no room for each other.
    """
    at = start
    if not moved and summary.data_end == at - DATA_END_SIZE:
        summary.known[summary.data_end] = Frame(Opcode.DATA_END, summary.data_end, at - 4, at)
    while at < end:
        opcode, length = FRAME.unpack_from(view, at)
        frame = Frame(opcode, at, at + FRAME.size, at + FRAME.size + length)
        if frame.end > end:
            raise LogDamaged(f"The record at offset {at} needs {length} bytes, the summary ends before.")
        if not moved:
            summary.known[at] = frame
        if not (moved and opcode in INDEXES):
            _take(summary, frame, view[frame.start : frame.end], start)
        at = frame.end


def _take(summary: Summary, frame: Frame, body: memoryview, data_end: int) -> None:
    def knows(opcode: Opcode, offset: int, length: int) -> None:
        if not (len(MAGIC) <= offset and FRAME.size <= length <= data_end - offset):
            raise LogDamaged(f"The index at offset {frame.offset} names {length} bytes at offset {offset}.")
        summary.known[offset] = Frame(opcode, offset, offset + FRAME.size, offset + length)

    if frame.opcode == Opcode.SCHEMA:
        schema = parse(Schema, body, frame.offset)
        summary.schemas[schema.id] = schema
    elif frame.opcode == Opcode.CHANNEL:
        channel = parse(Channel, body, frame.offset)
        summary.channels[channel.id] = channel
    elif frame.opcode == Opcode.STATISTICS:
        summary.statistics = parse(Statistics, body, frame.offset)
    elif frame.opcode == Opcode.CHUNK_INDEX:
        chunk = parse_chunk_index(body, frame.offset)
        knows(Opcode.CHUNK, chunk.chunk_start_offset, chunk.chunk_length)
        if chunk.message_index_offsets:
            ids = frozenset(chunk.message_index_offsets)
            # most chunks hold the same channels: one set for all of them
            summary.chunk_channels[chunk.chunk_start_offset] = summary.channel_sets.setdefault(ids, ids)
    elif frame.opcode == Opcode.ATTACHMENT_INDEX:
        attachment = parse(AttachmentIndex, body, frame.offset)
        knows(Opcode.ATTACHMENT, attachment.offset, attachment.length)
    elif frame.opcode == Opcode.METADATA_INDEX:
        metadata = parse(MetadataIndex, body, frame.offset)
        knows(Opcode.METADATA, metadata.offset, metadata.length)
