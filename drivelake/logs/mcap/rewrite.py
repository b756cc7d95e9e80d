"""A clean MCAP file out of sound records. Belongs here: writing chunks, checksums, indexes and the summary.

Never here: reading, deciding which records are sound, publishing the file.

Format: https://mcap.dev/spec. Every chunk is packed with zstd, has a CRC-32 and a message index a channel; data section and
summary have theirs. Same records, same bytes. Memory: one chunk, and what the summary says of each.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import BinaryIO, TypeVar

import zstandard
from mcap.data_stream import RecordBuilder
from mcap.opcode import Opcode
from mcap.records import (
    Attachment,
    AttachmentIndex,
    Channel,
    Chunk,
    ChunkIndex,
    DataEnd,
    Footer,
    Header,
    McapRecord,
    Message,
    MessageIndex,
    Metadata,
    MetadataIndex,
    Schema,
    Statistics,
    SummaryOffset,
)

from drivelake.logs.mcap.records import MAGIC

__all__ = ["LIBRARY", "McapWriter"]

LIBRARY = "drivelake salvage"
CHUNK_BYTES = 1 << 20
LEVEL = 3  # zstd's own default
MESSAGE = struct.Struct("<BQHIQQ")
MESSAGE_FIELDS = MESSAGE.size - 9  # without opcode and length

Declared = TypeVar("Declared", Schema, Channel)


class McapWriter:
    """Writes records in the order they are added; ids and stamps stay as they are.

    A schema or a channel that was added before is not written again.

    Args:
        file: where to write, from its start.
        profile: of the header.
    """

    def __init__(self, file: BinaryIO, profile: str) -> None:
        self._file = file
        self._offset = 0
        self._crc = 0
        self._chunk = bytearray()
        self._indexes: defaultdict[int, list[tuple[int, int]]] = defaultdict(list)
        self._first_ns = self._last_ns = 0
        self._schemas: dict[int, Schema] = {}
        self._channels: dict[int, Channel] = {}
        self._chunk_indexes: list[ChunkIndex] = []
        self._attachments: list[AttachmentIndex] = []
        self._metadata: list[MetadataIndex] = []
        self._counts: Counter[int] = Counter()
        self._span_ns: tuple[int, int] | None = None
        self._write(MAGIC)
        self._write(_bytes([Header(profile=profile, library=LIBRARY)]))

    def add(self, record: McapRecord) -> None:
        """One more record of the data section."""
        if isinstance(record, Message):
            self._message(record)
        elif isinstance(record, Schema):
            self._declare(self._schemas, record)
        elif isinstance(record, Channel):
            self._declare(self._channels, record)
        elif isinstance(record, Attachment):
            self._attachment(record)
        elif isinstance(record, Metadata):
            start = self._offset
            self._write(_bytes([record]))
            self._metadata.append(MetadataIndex(offset=start, length=self._offset - start, name=record.name))
        else:
            raise TypeError(f"{type(record).__name__} records are written by the writer itself")

    def finish(self) -> None:
        """Close the last chunk, write summary and footer."""
        self._close_chunk()
        self._write(_bytes([DataEnd(data_section_crc=self._crc)]))
        start = self._offset
        first_ns, last_ns = self._span_ns or (0, 0)
        statistics = Statistics(
            attachment_count=len(self._attachments),
            channel_count=len(self._channels),
            channel_message_counts={number: self._counts[number] for number in self._channels},
            chunk_count=len(self._chunk_indexes),
            message_count=self._counts.total(),
            message_end_time=last_ns,
            message_start_time=first_ns,
            metadata_count=len(self._metadata),
            schema_count=len(self._schemas),
        )
        parts: list[tuple[Opcode, Iterable[McapRecord]]] = [
            (Opcode.SCHEMA, self._schemas.values()),
            (Opcode.CHANNEL, self._channels.values()),
            (Opcode.STATISTICS, [statistics]),
            (Opcode.CHUNK_INDEX, self._chunk_indexes),
            (Opcode.ATTACHMENT_INDEX, self._attachments),
            (Opcode.METADATA_INDEX, self._metadata),
        ]
        summary, offsets = bytearray(), list[McapRecord]()
        for opcode, records in parts:
            if part := _bytes(records):
                offsets.append(SummaryOffset(group_opcode=opcode, group_start=start + len(summary), group_length=len(part)))
                summary += part
        offset_start = start + len(summary)
        summary += _bytes(offsets)
        # the checksum covers the footer's own fields before it
        head = struct.pack("<BQQQ", Opcode.FOOTER, 20, start, offset_start)
        footer = Footer(summary_start=start, summary_offset_start=offset_start, summary_crc=zlib.crc32(head, zlib.crc32(summary)))
        self._write(summary)
        self._write(_bytes([footer]))
        self._write(MAGIC)

    def _write(self, data: bytes | bytearray) -> None:
        self._file.write(data)
        self._offset += len(data)
        self._crc = zlib.crc32(data, self._crc)

    def _declare(self, known: dict[int, Declared], record: Declared) -> None:
        if record.id not in known:
            known[record.id] = record
            self._chunk += _bytes([record])

    def _message(self, message: Message) -> None:
        size = MESSAGE_FIELDS + len(message.data)
        if self._indexes and len(self._chunk) + size > CHUNK_BYTES:
            self._close_chunk()
        stamp_ns = message.log_time
        if not self._indexes:
            self._first_ns = self._last_ns = stamp_ns
        self._first_ns, self._last_ns = min(self._first_ns, stamp_ns), max(self._last_ns, stamp_ns)
        self._indexes[message.channel_id].append((stamp_ns, len(self._chunk)))
        self._counts[message.channel_id] += 1
        self._chunk += MESSAGE.pack(Opcode.MESSAGE, size, message.channel_id, message.sequence, stamp_ns, message.publish_time)
        self._chunk += message.data

    def _close_chunk(self) -> None:
        if not self._chunk:
            return
        if not self._indexes:  # declarations alone
            self._first_ns = self._last_ns = 0
        data = zstandard.ZstdCompressor(level=LEVEL).compress(self._chunk)
        chunk = Chunk(
            compression="zstd",
            data=data,
            message_end_time=self._last_ns,
            message_start_time=self._first_ns,
            uncompressed_crc=zlib.crc32(self._chunk),
            uncompressed_size=len(self._chunk),
        )
        start = self._offset
        self._write(_bytes([chunk]))
        end, places = self._offset, {}
        for number in sorted(self._indexes):
            places[number] = self._offset
            self._write(_bytes([MessageIndex(channel_id=number, records=self._indexes[number])]))
        self._chunk_indexes.append(
            ChunkIndex(
                chunk_length=end - start,
                chunk_start_offset=start,
                compression="zstd",
                compressed_size=len(data),
                message_end_time=self._last_ns,
                message_index_length=self._offset - end,
                message_index_offsets=places,
                message_start_time=self._first_ns,
                uncompressed_size=len(self._chunk),
            )
        )
        if self._indexes:
            first_ns, last_ns = self._span_ns or (self._first_ns, self._last_ns)
            self._span_ns = min(first_ns, self._first_ns), max(last_ns, self._last_ns)
        self._chunk.clear()
        self._indexes.clear()

    def _attachment(self, record: Attachment) -> None:
        start = self._offset
        self._write(_bytes([record]))
        self._attachments.append(
            AttachmentIndex(
                offset=start,
                length=self._offset - start,
                log_time=record.log_time,
                create_time=record.create_time,
                data_size=len(record.data),
                name=record.name,
                media_type=record.media_type,
            )
        )


def _bytes(records: Iterable[McapRecord]) -> bytes:
    builder = RecordBuilder()
    for record in records:
        record.write(builder)
    return bytes(builder.end())  # type: ignore[no-untyped-call]  # the library leaves it without types
