"""Records of a ROS 1 bag outside of its chunks. Belongs here: the index at its end, the chain of chunks, and the search for the
next chunk where that chain is broken.

Never here: the inside of chunks, what the index promises against what is found.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from drivelake.logs.bags.ros1_chunk import ChunkRecord
from drivelake.logs.bags.ros1_records import (
    CHUNK,
    CHUNK_INFO,
    CONNECTION,
    INDEX,
    MESSAGE,
    OPS,
    ChunkInfo,
    Connection,
    IndexRecord,
    RecordBroken,
    chunk_fields,
    chunk_info,
    connection,
    index_record,
    read_head,
    read_record,
)
from drivelake.logs.findings import Findings

__all__ = ["Index", "read_chunks", "read_index"]

CHUNK_OP = re.compile(rb"\x04\x00\x00\x00op=\x05")
CHUNK_HEADER_BYTES_MAX = 64
COMPRESSIONS = frozenset({"none", "bz2", "lz4"})


class Index(NamedTuple):
    """What stands behind the chunks of a bag.

    Attributes:
        connections: all of the bag.
        infos: one for each chunk.
        begin: where the index begins, and the chunks end.
    """

    connections: tuple[Connection, ...]
    infos: tuple[ChunkInfo, ...]
    begin: int


def read_index(file: memoryview, position: int, findings: Findings) -> Index:
    """The index that begins at ``position``, up to the end of the file or to its first contradiction."""
    connections: list[Connection] = []
    infos: list[ChunkInfo] = []
    begin = position
    while position < len(file):
        try:
            record = read_record(file, position, len(file))
            if record.op == CONNECTION:
                connections.append(connection(file, record))
            elif record.op == CHUNK_INFO:
                infos.append(chunk_info(file, record))
            else:
                raise RecordBroken(f"a {OPS[record.op]} record")  # noqa: TRY301  (one sentence for all that is no index)
        except RecordBroken as broken:
            findings.damaged(
                f"At offset {position} of the index stands {broken}; {len(file) - position} bytes of it are left out."
            )
            break
        position = record.end
    # An offset that leads to nothing of an index says nothing about where the chunks end either.
    return Index(tuple(connections), tuple(infos), begin if connections or infos else len(file))


def read_chunks(file: memoryview, begin: int, end: int, infos: Sequence[ChunkInfo]) -> Iterator[ChunkRecord | Connection | str]:
    """Chunks, connections that stand between them, and a sentence for each contradiction, in the order of the file.

    Args:
        file: the bag.
        begin: behind the bag header.
        end: where the index begins, or the end of the file.
        infos: where chunks should stand; used where the chain of records is broken.
    """
    position = begin
    places: list[int] | None = None
    while position < end:
        try:
            record = read_record(file, position, end)
            if record.op == CHUNK:
                compression, size = chunk_fields(record.fields)
            elif record.op == CONNECTION:
                yield connection(file, record)
        except RecordBroken as broken:
            places = _places(file, end, infos) if places is None else places
            after = _next_chunk(file, position + 1, end, places)
            yield f"At offset {position} stands {broken}; expected a chunk. Reading goes on at offset {after}."
            if cut := _cut_chunk(file, position, after):
                yield cut
            position = after
            continue
        position = record.end
        if record.op == CHUNK and not size and record.start == record.end and _has_content(file, position, end):
            places = _places(file, end, infos) if places is None else places
            position = _next_chunk(file, position, end, places)
            yield f"The chunk at offset {record.offset} was never finished; {position - record.end} bytes of it are there."
            yield ChunkRecord(record.offset, compression, 0, record.start, position, (), whole=False)
        elif record.op == CHUNK:
            listing, position, broken_index = _listing(file, position, end)
            if broken_index:
                yield f"Behind the chunk at offset {record.offset} stands {broken_index}."
            yield ChunkRecord(record.offset, compression, size, record.start, record.end, listing)
        elif record.op not in {CONNECTION, CHUNK_INFO}:
            yield f"At offset {record.offset} stands a {OPS[record.op]} record outside of where the format has one."


def _listing(file: memoryview, position: int, end: int) -> tuple[tuple[IndexRecord, ...], int, str]:
    """The index records behind a chunk, where they end, and what is wrong with one of them: then none of them counts."""
    listing = []
    why = ""
    while position < end:
        try:
            record = read_record(file, position, end)
        except RecordBroken:
            break  # told by whoever reads the next record
        if record.op != INDEX:
            break
        try:
            listing.append(index_record(file, record))
        except RecordBroken as broken:
            why = why or str(broken)
        position = record.end
    return (() if why else tuple(listing)), position, why


def _has_content(file: memoryview, position: int, end: int) -> bool:
    """Whether records of a chunk follow a chunk without length: the recorder writes lengths when it closes a chunk."""
    try:
        return read_head(file, position, end)[0] in {MESSAGE, CONNECTION}
    except RecordBroken:
        return False


def _cut_chunk(file: memoryview, position: int, end: int) -> ChunkRecord | None:
    """The chunk at ``position`` whose length reaches beyond what is there."""
    try:
        op, fields, start, _ = read_head(file, position, end)
        compression, size = chunk_fields(fields)
    except RecordBroken:
        return None
    if op != CHUNK:
        return None
    return ChunkRecord(
        position, compression, size, start, min(end, start + size) if compression == "none" else end, (), whole=False
    )


def _places(file: memoryview, end: int, infos: Sequence[ChunkInfo]) -> list[int]:
    """Where the index says that chunks begin, and they do."""
    return [place for place in sorted({info.chunk for info in infos}) if place < end and _is_chunk(file, place, end)]


def _next_chunk(file: memoryview, position: int, end: int, places: Sequence[int]) -> int:
    """Where the next chunk begins: where the index says that one does, else the first bytes that can only be one."""
    if (row := bisect_left(places, position)) < len(places):
        return places[row]
    for hit in CHUNK_OP.finditer(file, position, end):
        for place in range(max(position, hit.start() - CHUNK_HEADER_BYTES_MAX), hit.start() - 3):
            if _is_chunk(file, place, end):
                return place
    return end


def _is_chunk(file: memoryview, position: int, end: int) -> bool:
    """Whether a whole chunk record stands here, with a record or the end behind it."""
    try:
        record = read_record(file, position, end)
        compression, size = chunk_fields(record.fields)
        if record.end < end:
            read_head(file, record.end, end)
    except RecordBroken:
        return False
    return record.op == CHUNK and compression in COMPRESSIONS and bool(size) and len(record.fields) == 2
