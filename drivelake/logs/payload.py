"""The bytes behind a payload pointer. Belongs here: reading them from the log, verified, with a few chunks kept.

Never here: what the bytes are, where pointers come from.
"""

from __future__ import annotations

import struct
from collections import OrderedDict
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Protocol, Self

import numpy as np
from mcap.opcode import Opcode
from numpy.typing import NDArray

from drivelake.errors import LogDamaged
from drivelake.logs.bags.ros1_chunk import ChunkRecord, open_chunk
from drivelake.logs.bags.ros1_records import CHUNK, RecordBroken, chunk_fields, read_head
from drivelake.logs.bags.sqlite_file import BAG_ERRORS, ZSTD_MAGIC, connect
from drivelake.logs.bags.sqlite_file import MAGIC as SQLITE_MAGIC
from drivelake.logs.bags.sqlite_rows import opened
from drivelake.logs.findings import RESTORE
from drivelake.logs.mcap.records import FRAME, decompressed, parse_chunk

__all__ = ["PayloadReader"]

CACHE_CHUNKS = 4
CACHE_BYTES = 64 << 20
BAG_START = b"#ROSBAG"
BAG_HEADER_BYTES = 4096


class _Source(Protocol):
    """A log whose payloads stand in chunks."""

    def direct(self, chunk: int, offset: int, size: int) -> bytes | None:
        """At most ``size`` bytes, where the chunk need not be opened for them."""

    def open(self, chunk: int) -> NDArray[np.uint8]:
        """(bytes,) the content of a chunk, verified."""

    def close(self) -> None: ...


class PayloadReader:
    """Reads the bytes behind the payload pointers of one MCAP file, ROS 1 bag or ROS 2 bag; a context manager.

    Keeps the last decompressed chunks, at most 4 and 64 MiB (one chunk always fits), so reading in file order
    decompresses each chunk once. Not for several threads at a time.

    Args:
        path: the file that the pointers were made from.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._source = _open_source(path)
        self._chunks: OrderedDict[int, NDArray[np.uint8]] = OrderedDict()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file and forget the chunks."""
        self._source.close()
        self._chunks.clear()

    def read(self, chunk: int, offset: int, size: int) -> bytes:
        """The payload.

        Args:
            chunk: ``payload_chunk``: file offset of a chunk, -1 for a message outside of chunks, rowid in a ROS 2 bag.
            offset: ``payload_offset``.
            size: ``payload_bytes``.

        Raises:
            LogDamaged: no chunk there, its checksum is wrong, or the pointer reaches beyond its bytes.
        """
        if min(offset, size) < 0:
            raise LogDamaged(
                f"{self._path.name}: a payload of {size} bytes at byte {offset} was asked for, expected no negative number.",
                next_step="make the signals of this drive again",
            )
        try:
            data = self._source.direct(chunk, offset, size)
            if data is None:
                data = self._chunk(chunk)[offset : offset + size].tobytes()
        except LogDamaged as damage:
            raise LogDamaged(f"{self._path.name}: {damage.message}", next_step=damage.next_step) from None
        if len(data) != size:
            where = f"chunk {chunk}" if chunk >= 0 else "the file"
            raise LogDamaged(
                f"{self._path.name}: a payload of {size} bytes at byte {offset} of {where} ends after {len(data)} bytes.",
                next_step="make the signals of this drive again",
            )
        return data

    def _chunk(self, chunk: int) -> NDArray[np.uint8]:
        if chunk in self._chunks:
            self._chunks.move_to_end(chunk)
            return self._chunks[chunk]
        data = self._source.open(chunk)
        self._chunks[chunk] = data
        while len(self._chunks) > 1 and (
            len(self._chunks) > CACHE_CHUNKS or sum(len(held) for held in self._chunks.values()) > CACHE_BYTES
        ):
            self._chunks.popitem(last=False)
        return data


def _open_source(path: Path) -> _Source:
    file = path.open("rb")
    start = file.read(len(SQLITE_MAGIC))
    if start == SQLITE_MAGIC:
        file.close()
        return _SqliteRows(path)
    size = path.stat().st_size
    return _BagChunks(file, size) if start.startswith(BAG_START) else _McapChunks(file, size)


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    file.seek(offset)
    return file.read(size)


class _McapChunks:
    """Chunks by the file offset of their record."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    def direct(self, chunk: int, offset: int, size: int) -> bytes | None:
        return _at(self._file, offset, size) if chunk < 0 else None

    def open(self, chunk: int) -> NDArray[np.uint8]:
        try:
            opcode, length = FRAME.unpack(_at(self._file, chunk, FRAME.size))
        except struct.error:
            raise LogDamaged(f"The file ends before the chunk at offset {chunk}.", next_step=RESTORE) from None
        left = self._size - chunk - FRAME.size
        if opcode != Opcode.CHUNK or length > left:
            raise LogDamaged(
                f"At offset {chunk} stands a record 0x{opcode:02x} of {length} bytes, expected a chunk of at most {left}.",
                next_step=RESTORE,
            )
        return decompressed(parse_chunk(memoryview(self._file.read(length)), chunk), chunk)

    def close(self) -> None:
        self._file.close()


class _BagChunks:
    """Chunks of a ROS 1 bag by the file offset of their record; uncompressed ones are read in place."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self._file, self._size = file, size

    def direct(self, chunk: int, offset: int, size: int) -> bytes | None:
        record = self._record(chunk)
        if record.compression != "none":
            return None
        # A chunk that was cut or never finished has no length to hold against; its messages end where the file does.
        end = record.end if record.start < record.end <= self._size else self._size
        return _at(self._file, record.start + offset, max(min(size, end - record.start - offset), 0))

    def open(self, chunk: int) -> NDArray[np.uint8]:
        record = self._record(chunk)
        content = _at(self._file, record.start, min(record.end, self._size) - record.start)
        return open_chunk(memoryview(content), record._replace(start=0, end=record.end - record.start))

    def _record(self, chunk: int) -> ChunkRecord:
        head = memoryview(_at(self._file, chunk, BAG_HEADER_BYTES) if chunk >= 0 else b"")
        try:
            op, fields, start, length = read_head(head, 0, len(head))
            if op != CHUNK:
                raise RecordBroken(f"a record of op {op}")  # noqa: TRY301  (as everything else that is no chunk)
            compression, size = chunk_fields(fields)
        except RecordBroken as broken:
            raise LogDamaged(f"At offset {chunk} stands {broken}, expected a chunk.", next_step=RESTORE) from None
        return ChunkRecord(chunk, compression, size, chunk + start, chunk + start + length, ())

    def close(self) -> None:
        self._file.close()


class _SqliteRows:
    """Messages of a ROS 2 bag by rowid; each is a chunk of its own, compressed or read in place."""

    def __init__(self, path: Path) -> None:
        # Pointers lead to messages that were found whole, so a file that was cut behind them may be read.
        self._bag = connect(path, cut=True)

    def direct(self, chunk: int, offset: int, size: int) -> bytes | None:
        try:
            with self._bag.blobopen("messages", "data", chunk, readonly=True) as blob:
                if blob.read(len(ZSTD_MAGIC)) == ZSTD_MAGIC:
                    return None
                blob.seek(min(offset, len(blob)))
                return blob.read(size)
        except (*BAG_ERRORS, OverflowError) as error:
            raise _unreadable(chunk, error) from None

    def open(self, chunk: int) -> NDArray[np.uint8]:
        try:
            with self._bag.blobopen("messages", "data", chunk, readonly=True) as blob:
                data = blob.read()
        except BAG_ERRORS as error:
            raise _unreadable(chunk, error) from None
        return np.frombuffer(opened(data), np.uint8)

    def close(self) -> None:
        self._bag.close()


def _unreadable(row: int, error: Exception) -> LogDamaged:
    return LogDamaged(f"Row {row} of the messages cannot be read: {error}.", next_step=RESTORE)
