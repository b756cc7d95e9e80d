"""One pass over the records of an MCAP file, chunk by chunk, checking everything that the format lets one check.

Belongs here: framing, checksums of sections, indexes against what they index.
Never here: decompression (mcap_records), what a message says, tables, statistics of channels.

Format: https://mcap.dev/spec. The pass runs from the first byte to the last, so files without summary, index or chunks
need no second way of reading. Memory: one record, and one decompressed chunk.
"""

from __future__ import annotations

import struct
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from mcap.opcode import Opcode
from mcap.records import Channel, Chunk, ChunkIndex, DataEnd, Footer, MessageIndex, Schema, Statistics

from drivelake.errors import LogDamaged
from drivelake.logs.mcap.records import FRAME, MAGIC, open_chunk, parse

__all__ = ["McapWalk", "Message"]

NAMES = {opcode.value: opcode.name for opcode in Opcode}
MESSAGE_HEAD = struct.Struct("<HIQQ")
BLOCK_BYTES = 1 << 20
STAMP_MAX_NS = (1 << 63) - 1


class _Cut(Exception):
    """The framing is lost and the pass ends; the text is the sentence of the report. Never leaves this module."""


class Message(NamedTuple):
    """One message and where its data stands.

    Attributes:
        channel_id: key into :attr:`McapWalk.channels`.
        log_ns: receive stamp, UTC ns.
        publish_ns: publish stamp, UTC ns.
        data: the encoded message; valid until the next message is asked for.
        chunk: file offset of the chunk record, or -1 outside of chunks.
        offset: of ``data`` inside the decompressed chunk, or inside the file.
    """

    channel_id: int
    log_ns: int
    publish_ns: int
    data: memoryview
    chunk: int
    offset: int

    @property
    def place(self) -> str:
        """Where the data stands, for sentences."""
        return f"byte {self.offset}" + (f" of the chunk at offset {self.chunk}" if self.chunk >= 0 else "")


class McapWalk:
    """The pass. Iterate :meth:`messages`; the other attributes fill while it runs.

    Args:
        path: the file.
        damaged: told every contradiction, one sentence each. It may raise to stop there; when it returns, the pass goes
            on behind a damaged chunk, and ends where the framing is lost.

    Attributes:
        schemas: by id.
        channels: by id, in the order they were declared.
        names: table name by channel id: the topic, with ``#2`` and so on where a topic is declared again with another
            schema or encoding.
        counts: readable messages by channel id.
    """

    def __init__(self, path: Path, damaged: Callable[[str], None]) -> None:
        self.schemas: dict[int, Schema] = {}
        self.channels: dict[int, Channel] = {}
        self.names: dict[int, str] = {}
        self.counts: Counter[int] = Counter()
        self._path = path
        self._size = path.stat().st_size
        self._damaged = damaged
        self._records: Counter[int] = Counter()
        self._kinds: dict[str, list[tuple[str, bytes, str]]] = {}
        self._chunks: dict[int, int] = {}
        self._chunk_entries: dict[int, list[tuple[int, int]]] | None = None
        self._statistics: Statistics | None = None
        self._summary_start: int | None = None
        self._offset = 0
        self._crc = 0
        self._file: BinaryIO

    def messages(self) -> Iterator[Message]:
        """Every readable message, in file order."""
        with self._path.open("rb") as self._file:
            try:
                yield from self._walk()
            except _Cut as cut:
                self._damaged(str(cut))

    def _take(self, size: int, what: str) -> bytes:
        data = self._file.read(size)
        if len(data) < size:
            raise _Cut(f"The file ends at offset {self._offset + len(data)}, {size - len(data)} bytes into {what} are missing.")
        self._offset += size
        self._crc = zlib.crc32(data, self._crc)
        return data

    def _walk(self) -> Iterator[Message]:
        if (magic := self._take(8, "the magic")) != MAGIC:
            raise _Cut(f"The file begins with {magic!r}, expected the MCAP magic {MAGIC!r}.")
        while True:
            offset, crc = self._offset, self._crc
            if offset == self._size:
                raise _Cut(f"The file ends at offset {offset} without a footer: it was cut short.")
            opcode, length = FRAME.unpack(self._take(FRAME.size, f"the record at offset {offset}"))
            name = NAMES.get(opcode, f"0x{opcode:02x}")
            if length > self._size - self._offset:
                raise _Cut(
                    f"The {name} record at offset {offset} needs {length} bytes, "
                    f"the file ends {self._size - self._offset} bytes into it: it was cut short or its length is wrong."
                )
            self._records[opcode] += 1
            if opcode == Opcode.ATTACHMENT:
                self._attachment(offset, length)
            elif opcode == Opcode.FOOTER:
                crc = self._crc
                self._footer(offset, self._take(length, name), crc)
                return
            else:
                yield from self._record(opcode, offset, self._take(length, name), crc)

    def _record(self, opcode: int, offset: int, body: bytes, crc: int) -> Iterator[Message]:
        """Any record of the data or summary section; ``crc`` covers the bytes before it."""
        try:
            if opcode == Opcode.CHUNK:
                yield from self._chunk(offset, body)
            elif opcode == Opcode.MESSAGE:
                if message := self._message(memoryview(body), -1, offset + FRAME.size):
                    yield message
            elif opcode == Opcode.MESSAGE_INDEX:
                self._message_index(offset, parse(MessageIndex, body, offset))
            elif opcode == Opcode.CHUNK_INDEX:
                self._chunk_index(offset, parse(ChunkIndex, body, offset))
            elif opcode == Opcode.STATISTICS:
                self._statistics = parse(Statistics, body, offset)
            elif opcode == Opcode.DATA_END:
                self._data_end(offset, parse(DataEnd, body, offset), crc)
            else:
                self._declare(opcode, body, offset)
        except LogDamaged as damage:
            self._damaged(damage.message)

    def _declare(self, opcode: int, body: bytes, offset: int) -> None:
        """Schemas and channels; records that carry neither pass by, as the format asks for unknown ones."""
        if opcode == Opcode.SCHEMA:
            schema = parse(Schema, body, offset)
            self.schemas.setdefault(schema.id, schema)
        elif opcode == Opcode.CHANNEL:
            channel = parse(Channel, body, offset)
            if channel.schema_id and channel.schema_id not in self.schemas:
                self._damaged(
                    f"The channel {channel.topic!r} at offset {offset} names schema {channel.schema_id}, which is not declared."
                )
            elif (known := self.channels.setdefault(channel.id, channel)) != channel:
                self._damaged(
                    f"The channel record at offset {offset} declares id {channel.id} again: {channel.topic!r} after"
                    f" {known.topic!r}."
                )
            elif channel.id not in self.names:
                self.names[channel.id] = self._name(channel)
        elif opcode == 0:
            self._damaged(f"The record at offset {offset} has opcode 0, which the format forbids.")

    def _name(self, channel: Channel) -> str:
        schema = self.schemas.get(channel.schema_id)
        kind = (schema.name if schema else "", schema.data if schema else b"", channel.message_encoding)
        kinds = self._kinds.setdefault(channel.topic, [])
        if kind not in kinds:
            kinds.append(kind)
        place = kinds.index(kind)
        return f"{channel.topic}#{place + 1}" if place else channel.topic

    def _message(self, body: memoryview, chunk: int, offset: int) -> Message | None:
        if len(body) < MESSAGE_HEAD.size:
            self._damaged(f"The message at byte {offset} has {len(body)} bytes, its header alone needs {MESSAGE_HEAD.size}.")
            return None
        channel, _, log_ns, publish_ns = MESSAGE_HEAD.unpack_from(body)
        message = Message(channel, log_ns, publish_ns, body[MESSAGE_HEAD.size :], chunk, offset + MESSAGE_HEAD.size)
        if channel not in self.names:
            self._damaged(f"The message at {message.place} belongs to channel {channel}, which is not declared before it.")
            return None
        if max(log_ns, publish_ns) > STAMP_MAX_NS:
            self._damaged(f"The message at {message.place} is stamped {max(log_ns, publish_ns)} ns, at most {STAMP_MAX_NS} fit.")
            return None
        self.counts[channel] += 1
        return message

    def _chunk(self, offset: int, body: bytes) -> Iterator[Message]:
        self._chunks[offset] = FRAME.size + len(body)
        self._chunk_entries = None
        data = memoryview(open_chunk(parse(Chunk, body, offset), offset))
        entries: dict[int, list[tuple[int, int]]] = {}
        position = 0
        while position < len(data):
            start = position + FRAME.size
            opcode, length = FRAME.unpack_from(data, position) if start <= len(data) else (0, 0)
            if start > len(data) or length > len(data) - start:
                self._damaged(
                    f"The record at byte {position} of the chunk at offset {offset} reaches beyond its {len(data)} bytes."
                )
                return
            if opcode == Opcode.MESSAGE:
                if message := self._message(data[start : start + length], offset, start):
                    entries.setdefault(message.channel_id, []).append((message.log_ns, position))
                    yield message
            else:
                self._declare(opcode, bytes(data[start : start + length]), offset)
            position = start + length
        self._chunk_entries = entries

    def _message_index(self, offset: int, index: MessageIndex) -> None:
        if self._chunk_entries is None:
            return  # behind a chunk that could not be opened, which was told already
        found = self._chunk_entries.get(index.channel_id, [])
        if sorted(index.records) != sorted(found):
            self._damaged(
                f"The message index at offset {offset} lists {len(index.records)} messages of channel {index.channel_id},"
                f" the chunk before it holds {len(found)}, and they do not stand where it says."
            )

    def _chunk_index(self, offset: int, index: ChunkIndex) -> None:
        found = self._chunks.get(index.chunk_start_offset)
        if found != index.chunk_length:
            what = "no chunk stands there" if found is None else f"the chunk there has {found}"
            self._damaged(
                f"The chunk index at offset {offset} names {index.chunk_length} bytes at"
                f" offset {index.chunk_start_offset}, {what}."
            )

    def _attachment(self, offset: int, length: int) -> None:
        """Read in blocks. Its CRC-32 covers every field before it; zero means none was written. Padding may follow."""
        end, crc = self._offset + length, 0

        def field(what: str, size: int) -> int:
            """Pass over ``size`` bytes; their value, which means something for the lengths only."""
            nonlocal crc
            if size > end - self._offset:
                raise _Cut(
                    f"The {what} of the attachment at offset {offset} needs {size} bytes, {end - self._offset} are left in it."
                )
            value = 0
            while size:
                block = self._take(min(size, BLOCK_BYTES), f"the {what} of an attachment")
                crc, size = zlib.crc32(block, crc), size - len(block)
                value = int.from_bytes(block[:8], "little")
            return value

        field("stamps", 16)
        for what, width in (("name", 4), ("media type", 4), ("data", 8)):
            field(what, field(f"length of the {what}", width))
        found, declared = crc, field("CRC", 4)
        if declared not in (0, found):
            self._damaged(f"The attachment at offset {offset} has CRC-32 {found:08x}, it declares {declared:08x}.")
        field("padding", end - self._offset)

    def _data_end(self, offset: int, record: DataEnd, crc: int) -> None:
        if record.data_section_crc not in (0, crc):
            self._damaged(
                f"The data section up to offset {offset} has CRC-32 {crc:08x},"
                f" its end record declares {record.data_section_crc:08x}."
            )
        self._summary_start, self._crc = self._offset, 0

    def _footer(self, offset: int, body: bytes, crc: int) -> None:
        """Summary checksum (over all of the footer before itself), closing magic, and that nothing follows."""
        try:
            footer = parse(Footer, body, offset)
        except LogDamaged as damage:
            raise _Cut(damage.message) from None
        if self._summary_start is None:
            self._damaged(f"The footer at offset {offset} comes without the record that ends the data section.")
        elif footer.summary_start not in (0, self._summary_start):
            self._damaged(
                f"The footer at offset {offset} puts the summary at {footer.summary_start}, it is at {self._summary_start}."
            )
        if footer.summary_crc and (found := zlib.crc32(body[:16], crc)) != footer.summary_crc:
            self._damaged(
                f"The summary before offset {offset} has CRC-32 {found:08x}, the footer declares {footer.summary_crc:08x}."
            )
        if self._statistics:
            self._check_counts(self._statistics)
        if (magic := self._take(8, "the closing magic")) != MAGIC:
            self._damaged(f"The file closes with {magic!r} at offset {self._offset - 8}, expected the MCAP magic {MAGIC!r}.")
        if behind := self._size - self._offset:
            self._damaged(f"{behind} bytes follow the closing magic at offset {self._offset}, expected none.")

    def _check_counts(self, promised: Statistics) -> None:
        """What the statistics promise against what was read. No silent zero."""
        counts = [
            ("messages", promised.message_count, self.counts.total()),
            ("chunks", promised.chunk_count, self._records[Opcode.CHUNK]),
            ("attachments", promised.attachment_count, self._records[Opcode.ATTACHMENT]),
            ("metadata records", promised.metadata_count, self._records[Opcode.METADATA]),
        ]
        ids = sorted({*promised.channel_message_counts, *self.counts}) if promised.channel_message_counts else []
        counts += [
            (f"messages of {self.names.get(i, f'channel {i}')}", promised.channel_message_counts.get(i, 0), self.counts[i])
            for i in ids
        ]
        for what, expected, found in counts:
            if expected != found:
                self._damaged(f"The statistics promise {expected} {what}, {found} can be read.")
