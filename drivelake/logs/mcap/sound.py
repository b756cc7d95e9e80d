"""The records of an MCAP file as the mcap library's types, one by one: all of them, or what is sound of a damaged file.

Belongs here: records for rewriting and comparing files. Never here: tables, for which this way is too slow.
"""

from __future__ import annotations

from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

import numpy as np
from mcap.opcode import Opcode
from mcap.records import (
    Attachment,
    AttachmentIndex,
    Channel,
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
from numpy.typing import NDArray

from drivelake.errors import LogDamaged
from drivelake.logs.findings import RESTORE, Findings
from drivelake.logs.mcap.content import HEAD, Content, by_scan, of_messages
from drivelake.logs.mcap.framing import Broken, Chunked, Frame, Stretch, frames, mapped
from drivelake.logs.mcap.messages import Messages
from drivelake.logs.mcap.records import FRAME, decompressed, parse, parse_attachment, parse_chunk
from drivelake.logs.mcap.walk import McapWalk

__all__ = ["SoundRecord", "records", "sound_records"]

SoundRecord = Header | Schema | Channel | Message | Attachment | Metadata

PARSERS = {
    Opcode.HEADER: Header,
    Opcode.SCHEMA: Schema,
    Opcode.CHANNEL: Channel,
    Opcode.MESSAGE_INDEX: MessageIndex,
    Opcode.CHUNK_INDEX: ChunkIndex,
    Opcode.ATTACHMENT_INDEX: AttachmentIndex,
    Opcode.METADATA: Metadata,
    Opcode.METADATA_INDEX: MetadataIndex,
    Opcode.STATISTICS: Statistics,
    Opcode.SUMMARY_OFFSET: SummaryOffset,
    Opcode.DATA_END: DataEnd,
    Opcode.FOOTER: Footer,
}


def sound_records(path: Path, findings: Findings) -> Iterator[SoundRecord]:
    """What is sound of a file, in file order, so that it can be written again.

    Schemas and channels are given once, before the first message that needs them; ids, stamps and sequence numbers are
    those of the file. Messages of channels that no sound record declares are left out, and told. Where the checksum of the
    data section is wrong, header and metadata records are left out, since nothing else vouches for them.

    Args:
        path: the file.
        findings: told every contradiction.

    Raises:
        LogDamaged: at the first contradiction, if the findings are strict.
    """
    walk = McapWalk(path, findings)
    for event in walk.events():
        if isinstance(event, Messages):
            for source, content in event.parts():
                yield from _messages(source.buffer, content)
        elif isinstance(event, Schema | Channel):
            yield event
        elif event.opcode == Opcode.ATTACHMENT:
            yield parse_attachment(_body(walk.view, event), event.offset)
        elif findings.strict or walk.trusted:
            yield parse(Header if event.opcode == Opcode.HEADER else Metadata, _body(walk.view, event), event.offset)
        else:
            findings.note(f"The record at offset {event.offset} is left out: the checksum of the data section is wrong.")


def records(path: Path) -> Iterator[McapRecord]:
    """Every record of a file in order, chunks opened in place; records of unknown kinds pass by.

    Raises:
        LogDamaged: the framing or a checksum of a chunk or an attachment is wrong. Nothing else is verified.
    """
    view = memoryview(mapped(path) or b"")
    for frame in frames(view, {}):
        if isinstance(frame, Broken):
            raise LogDamaged(frame.sentence, next_step=RESTORE)
        if isinstance(frame, Stretch):
            whole = np.frombuffer(view, np.uint8)
            yield from _messages(whole, of_messages(whole, frame.offsets))
        elif isinstance(frame, Chunked):
            yield from _in_chunk(decompressed(parse_chunk(_body(view, frame.chunk), frame.chunk.offset), frame.chunk.offset))
            yield from _indexes(view, frame)
        elif frame.opcode == Opcode.ATTACHMENT:
            yield parse_attachment(_body(view, frame), frame.offset)
        elif frame.opcode in PARSERS:
            yield parse(PARSERS[Opcode(frame.opcode)], _body(view, frame), frame.offset)


def _body(view: memoryview, frame: Frame) -> memoryview:
    return view[frame.start : frame.end]


def _indexes(view: memoryview, chunk: Chunked) -> Iterator[MessageIndex]:
    at = chunk.chunk.end
    while at < chunk.end:
        start, offset = at + FRAME.size, at
        at = start + FRAME.unpack_from(view, at)[1]
        yield parse(MessageIndex, view[start:at], offset)


def _in_chunk(buffer: NDArray[np.uint8]) -> Iterator[McapRecord]:
    """Schemas, channels and messages in the order of their places."""
    content = by_scan(buffer)
    found: list[tuple[int, McapRecord]] = [
        (begin, parse(PARSERS[Opcode(opcode)], buffer.data[begin:end], begin))
        for opcode, begin, end in content.others
        if opcode in PARSERS
    ]
    found += zip(np.sort(content.offsets).tolist(), _messages(buffer, content), strict=True)
    yield from (record for _, record in sorted(found, key=itemgetter(0)))


def _messages(buffer: NDArray[np.uint8], content: Content) -> Iterator[Message]:
    """Messages in the order of their places."""
    data = buffer.data
    order = np.argsort(content.offsets)
    for offset, head in zip(content.offsets[order].tolist(), content.heads[order].tolist(), strict=True):
        _, length, channel, sequence, log_ns, publish_ns = head
        body = data[offset + HEAD.itemsize : offset + FRAME.size + length]
        yield Message(channel, log_ns, bytes(body), publish_ns, sequence)
