"""Single MCAP records: parsed without ever being short, chunks decompressed and verified.

Belongs here: one record and its own checksum. Never here: the order of records, files.
"""

from __future__ import annotations

import struct
import zlib
from io import BytesIO
from typing import Protocol, TypeVar

import lz4.frame
import zstandard
from mcap.data_stream import ReadDataStream
from mcap.exceptions import EndOfFile, McapError
from mcap.records import Chunk

from drivelake.errors import LogDamaged

__all__ = ["FRAME", "MAGIC", "RESTORE", "open_chunk", "parse"]

MAGIC = b"\x89MCAP0\r\n"
FRAME = struct.Struct("<BQ")
CHUNK_BYTES_MAX = 1 << 30
RESTORE = "restore the log from its source, or leave the drive out"

Record_co = TypeVar("Record_co", covariant=True)


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


def parse(parser: type[_Parser[Record_co]], body: bytes, offset: int) -> Record_co:
    """The record in ``body``.

    Raises:
        LogDamaged: its fields do not fit into its bytes.
    """
    try:
        return parser.read(ReadDataStream(_Exact(body)))
    except (McapError, struct.error, UnicodeDecodeError) as error:
        raise LogDamaged(
            f"The {parser.__name__} record at offset {offset} ({len(body)} bytes) does not hold its own fields"
            f" ({type(error).__name__}).",
            next_step=RESTORE,
        ) from None


def open_chunk(chunk: Chunk, offset: int) -> bytes:
    """The decompressed records of a chunk, verified against the size and the CRC it declares.

    Raises:
        LogDamaged: it does not decompress, or size or CRC-32 differ from what the chunk declares.
    """
    size = chunk.uncompressed_size
    if size > CHUNK_BYTES_MAX:
        raise LogDamaged(
            f"The chunk at offset {offset} declares {size} bytes, at most {CHUNK_BYTES_MAX} are read.", next_step=RESTORE
        )
    try:
        data = _decompress(chunk)
    except (zstandard.ZstdError, RuntimeError, ValueError) as error:
        raise LogDamaged(f"The chunk at offset {offset} does not decompress: {error}.", next_step=RESTORE) from None
    if len(data) != size:
        raise LogDamaged(f"The chunk at offset {offset} holds {len(data)} bytes, it declares {size}.", next_step=RESTORE)
    if chunk.uncompressed_crc and (found := zlib.crc32(data)) != chunk.uncompressed_crc:
        raise LogDamaged(
            f"The chunk at offset {offset} has CRC-32 {found:08x}, it declares {chunk.uncompressed_crc:08x}.", next_step=RESTORE
        )
    return data


def _decompress(chunk: Chunk) -> bytes:
    """Never more than one byte above the declared size, whatever the compressed bytes ask for."""
    if not chunk.compression or not chunk.data:
        return chunk.data
    if chunk.compression == "zstd":
        declared = zstandard.frame_content_size(chunk.data)
        if declared not in (-1, zstandard.CONTENTSIZE_UNKNOWN, chunk.uncompressed_size):
            raise ValueError(f"its zstd frame announces {declared} bytes, the chunk {chunk.uncompressed_size}")
        return zstandard.ZstdDecompressor().decompress(chunk.data, max_output_size=chunk.uncompressed_size)
    if chunk.compression == "lz4":
        data: bytes = lz4.frame.LZ4FrameDecompressor().decompress(chunk.data, max_length=chunk.uncompressed_size + 1)
        return data
    raise ValueError(f"compression {chunk.compression!r} is unknown; known are zstd, lz4 and none")
