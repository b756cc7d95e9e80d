"""Single MCAP records: parsed without ever being short, chunks decompressed and verified.

Belongs here: one record and its own checksum. Never here: the order of records, files.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from io import BytesIO
from typing import NamedTuple, Protocol, TypeVar

import deflate
import lz4.frame
import numpy as np
import pyarrow as pa
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import EndOfFile, McapError
from mcap.opcode import Opcode
from mcap.records import Attachment, ChunkIndex
from numpy.typing import NDArray

from drivelake.errors import LogDamaged
from drivelake.logs.findings import RESTORE

__all__ = [
    "CHUNK_BYTES_MAX",
    "FRAME",
    "MAGIC",
    "RESTORE",
    "Chunk",
    "decompressed",
    "name_of",
    "open_chunk",
    "parse",
    "parse_attachment",
    "parse_chunk",
    "parse_chunk_index",
    "parse_index",
    "parse_indexes",
]

MAGIC = b"\x89MCAP0\r\n"
FRAME = struct.Struct("<BQ")
# Compressed chunks that ask for more are refused: one of them must fit into the memory of a reader process.
CHUNK_BYTES_MAX = 256 << 20

NAMES = {opcode.value: opcode.name for opcode in Opcode}
CHUNK_HEAD = struct.Struct("<QQQII")
CHUNK_INDEX_HEAD, CHANNEL_OFFSET = struct.Struct("<QQQQI"), struct.Struct("<HQ")
INDEX_HEAD, INDEX_RECORD = struct.Struct("<HI"), struct.Struct("<BQHI")
CODECS = {"zstd": pa.Codec("zstd"), "lz4": pa.Codec("lz4")}
U32, U64 = struct.Struct("<I"), struct.Struct("<Q")

Record_co = TypeVar("Record_co", covariant=True)


class Chunk(NamedTuple):
    """A chunk record, its content still compressed.

    Attributes:
        uncompressed_size: bytes of the content.
        uncompressed_crc: CRC-32 of the content; 0 means that none was written.
        compression: ``zstd``, ``lz4``, or empty.
        data: the compressed content, a view of the file.
    """

    uncompressed_size: int
    uncompressed_crc: int
    compression: str
    data: memoryview


class _Chunk(Protocol):
    """Any chunk record, this module's or the mcap library's."""

    @property
    def uncompressed_size(self) -> int: ...
    @property
    def uncompressed_crc(self) -> int: ...
    @property
    def compression(self) -> str: ...
    @property
    def data(self) -> memoryview | bytes: ...


class _Parser(Protocol[Record_co]):
    """A record class of the mcap library."""

    @staticmethod
    def read(stream: ReadDataStream) -> Record_co: ...


class _Exact(BytesIO):
    """Never short: the library takes what a read returns, however little it is."""

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        if size is not None and len(data) < size:
            raise EndOfFile
        return data


def name_of(opcode: int) -> str:
    """What the format calls records of this kind, or the number."""
    return NAMES.get(opcode, f"0x{opcode:02x}")


def parse(parser: type[_Parser[Record_co]], body: bytes | memoryview, offset: int) -> Record_co:
    """The record in ``body``.

    Raises:
        LogDamaged: its fields do not fit into its bytes.
    """
    try:
        return parser.read(ReadDataStream(_Exact(body)))
    except (McapError, struct.error, UnicodeDecodeError) as error:
        raise _misfit(parser.__name__, offset, len(body), type(error).__name__) from None


def parse_chunk(body: memoryview, offset: int) -> Chunk:
    """The chunk record in ``body``, without a copy of its content.

    Raises:
        LogDamaged: its fields do not fit into its bytes.
    """
    try:
        _, _, size, crc, width = CHUNK_HEAD.unpack_from(body)
        at = CHUNK_HEAD.size + width
        (length,) = U64.unpack_from(body, at)
        compression = str(body[CHUNK_HEAD.size : at], "utf-8")
    except (struct.error, UnicodeDecodeError) as error:
        raise _misfit("Chunk", offset, len(body), type(error).__name__) from None
    data = body[at + 8 : at + 8 + length]
    if len(data) != length:
        raise _misfit("Chunk", offset, len(body), f"its content needs {length} bytes, {len(data)} follow")
    return Chunk(size, crc, compression, data)


def parse_index(body: memoryview, offset: int) -> tuple[int, memoryview]:
    """The channel of a message index, and its entries: log time in ns and offset into the chunk, 8 bytes each.

    Raises:
        LogDamaged: its fields do not fit into its bytes.
    """
    if len(body) < INDEX_HEAD.size:
        raise _misfit("MessageIndex", offset, len(body), "its head needs 6 bytes")
    channel, size = INDEX_HEAD.unpack_from(body)
    if size % 16 or INDEX_HEAD.size + size > len(body):
        raise _misfit("MessageIndex", offset, len(body), f"its entries of 16 bytes take {size}")
    return channel, body[INDEX_HEAD.size : INDEX_HEAD.size + size]


def parse_indexes(view: memoryview, begin: int, end: int) -> Iterator[tuple[int, memoryview, int] | LogDamaged]:
    """Message indexes one behind the other: as :func:`parse_index` and the offset of each, or what is wrong with it.

    Args:
        view: the file.
        begin: where the first begins.
        end: where the last ends; all of them are whole records.
    """
    at, head, unpack = begin, INDEX_RECORD.size, INDEX_RECORD.unpack_from
    while at < end:
        if at + head <= end:
            _, length, channel, size = unpack(view, at)
            if length >= INDEX_HEAD.size + size and not size % 16:
                yield channel, view[at + head : at + head + size], at
                at += FRAME.size + length
                continue
        start = at + FRAME.size
        behind = start + FRAME.unpack_from(view, at)[1]
        try:
            yield (*parse_index(view[start:behind], at), at)
        except LogDamaged as damage:
            yield damage
        at = behind


def parse_chunk_index(body: memoryview, offset: int) -> ChunkIndex:
    """The chunk index in ``body``; there is one for every chunk, so it is worth a parser of its own.

    Raises:
        LogDamaged: its fields do not fit into its bytes.
    """
    try:
        start_ns, end_ns, start, length, size = CHUNK_INDEX_HEAD.unpack_from(body)
        at = CHUNK_INDEX_HEAD.size + size
        offsets = dict(CHANNEL_OFFSET.iter_unpack(body[CHUNK_INDEX_HEAD.size : at]))
        (index_length,) = U64.unpack_from(body, at)
        compression, at = _text(body, at + 8)
        compressed, uncompressed = U64.unpack_from(body, at)[0], U64.unpack_from(body, at + 8)[0]
    except (struct.error, UnicodeDecodeError) as error:
        raise _misfit("ChunkIndex", offset, len(body), type(error).__name__) from None
    return ChunkIndex(length, start, compression, compressed, end_ns, index_length, offsets, start_ns, uncompressed)


def parse_attachment(body: memoryview, offset: int, *, content: bool = True) -> Attachment:
    """The attachment in ``body``, verified against its CRC-32 (of every field before it; zero means none was written).

    Args:
        body: the record; padding may follow its fields.
        offset: of the record, for sentences.
        content: copy the data, too; otherwise it stays empty.

    Raises:
        LogDamaged: its fields do not fit into its bytes, or its CRC-32 differs.
    """
    try:
        log_ns, create_ns = U64.unpack_from(body, 0)[0], U64.unpack_from(body, 8)[0]
        name, at = _text(body, 16)
        media_type, at = _text(body, at)
        (size,) = U64.unpack_from(body, at)
        start, at = at + 8, at + 8 + size
        (declared,) = U32.unpack_from(body, at)
    except (struct.error, UnicodeDecodeError, OverflowError) as error:
        raise _misfit("Attachment", offset, len(body), type(error).__name__) from None
    if declared and (found := deflate.crc32(body[:at])) != declared:
        raise LogDamaged(
            f"The attachment at offset {offset} has CRC-32 {found:08x}, it declares {declared:08x}.", next_step=RESTORE
        )
    return Attachment(create_ns, log_ns, name, media_type, bytes(body[start:at]) if content else b"")


def decompressed(chunk: _Chunk, offset: int) -> NDArray[np.uint8]:
    """(bytes,) the records of a chunk, verified against the size and the CRC-32 that it declares.

    Raises:
        LogDamaged: it does not decompress, or size or CRC-32 differ from what the chunk declares.
    """
    size, declared = chunk.uncompressed_size, chunk.uncompressed_crc
    if chunk.compression and size > CHUNK_BYTES_MAX:
        raise LogDamaged(
            f"The chunk at offset {offset} declares {size} bytes, at most {CHUNK_BYTES_MAX} are read.", next_step=RESTORE
        )
    if declared and (fast := _decompress_fast(chunk)) is not None and deflate.crc32(fast) == declared:
        return np.frombuffer(memoryview(fast), np.uint8)
    try:
        data = _decompress(chunk)
    except (zstandard.ZstdError, RuntimeError, ValueError) as error:
        raise LogDamaged(f"The chunk at offset {offset} does not decompress: {error}.", next_step=RESTORE) from None
    if len(data) != size:
        raise LogDamaged(f"The chunk at offset {offset} holds {len(data)} bytes, it declares {size}.", next_step=RESTORE)
    if declared and (found := deflate.crc32(data)) != declared:
        raise LogDamaged(f"The chunk at offset {offset} has CRC-32 {found:08x}, it declares {declared:08x}.", next_step=RESTORE)
    return np.frombuffer(data, np.uint8)


def open_chunk(chunk: _Chunk, offset: int) -> bytes:
    """A copy of :func:`decompressed`."""
    return decompressed(chunk, offset).tobytes()


def _decompress_fast(chunk: _Chunk) -> pa.Buffer | None:
    """What Arrow makes of it, or nothing.

    Arrow's allocator keeps its pages, so this costs half of zstandard's and a fifth of lz4's own bindings, whose results
    fault in fresh pages every time. It does not say when an lz4 frame ends early, so a CRC-32 has to vouch for the result.
    """
    if chunk.compression not in CODECS or not len(chunk.data):
        return None
    try:
        return CODECS[chunk.compression].decompress(chunk.data, chunk.uncompressed_size)
    except OSError:
        return None  # the exact way below says why


def _decompress(chunk: _Chunk) -> bytes | memoryview:
    """Never more than one byte above the declared size, whatever the compressed bytes ask for."""
    if not chunk.compression or not len(chunk.data):
        return chunk.data
    if chunk.compression == "zstd":
        declared = zstandard.frame_content_size(chunk.data)
        if declared not in {-1, zstandard.CONTENTSIZE_UNKNOWN, chunk.uncompressed_size}:
            raise ValueError(f"its zstd frame announces {declared} bytes, the chunk {chunk.uncompressed_size}")
        return zstandard.ZstdDecompressor().decompress(chunk.data, max_output_size=chunk.uncompressed_size)
    if chunk.compression == "lz4":
        frame = lz4.frame.LZ4FrameDecompressor()
        data: bytes = frame.decompress(chunk.data, max_length=chunk.uncompressed_size + 1)
        if len(data) == chunk.uncompressed_size and not frame.eof:
            raise ValueError("its lz4 frame does not end")
        return data
    raise ValueError(f"compression {chunk.compression!r} is unknown; known are zstd, lz4 and none")


def _text(body: memoryview, at: int) -> tuple[str, int]:
    """A string with its length before it, and where it ends."""
    (length,) = U32.unpack_from(body, at)
    end = at + 4 + length
    if end > len(body):
        raise struct.error
    return str(body[at + 4 : end], "utf-8"), end


def _misfit(kind: str, offset: int, size: int, why: str) -> LogDamaged:
    return LogDamaged(
        f"The {kind} record at offset {offset} ({size} bytes) does not hold its own fields ({why}).", next_step=RESTORE
    )
