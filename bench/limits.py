"""What no reader of a file can leave out. Belongs here: decompression and nothing else. Never here: what is decompressed.

The files are those of this bench: their blocks and records stand one behind the other, without gaps.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Iterator
from pathlib import Path

__all__ = ["checked", "decompress", "inflate"]


def inflate(path: Path) -> dict[str, int]:
    """Every DZ block of an MDF 4 file, with libdeflate."""
    import deflate

    total = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view, memoryview(view) as data:
        offset = 64
        while offset < len(data):
            kind, length = bytes(data[offset : offset + 4]), struct.unpack_from("<Q", data, offset + 8)[0]
            if kind == b"##DZ":
                size, stored = struct.unpack_from("<QQ", data, offset + 32)
                total += len(deflate.zlib_decompress(data[offset + 48 : offset + 48 + stored], size))
            offset += length + -length % 8
    return {"bytes inflated": total}


def _chunks(data: memoryview) -> Iterator[tuple[str, int, memoryview]]:
    """Compression, size and stored bytes of every chunk."""
    chunk, offset = 6, 8
    while offset < len(data) - 8:
        opcode, length = struct.unpack_from("<BQ", data, offset)
        if opcode == chunk:
            size, _, name = struct.unpack_from("<QII", data, offset + 25)
            stored = offset + 41 + name
            yield str(data[offset + 41 : stored], "ascii"), size, data[stored + 8 : offset + 9 + length]
        offset += 9 + length


def decompress(path: Path, *, check: bool = False) -> dict[str, int]:
    """Every chunk of an MCAP file; with its CRC-32 if ``check``."""
    import deflate
    import pyarrow as pa

    total = 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as view, memoryview(view) as data:
        for compression, size, stored in _chunks(data):
            # the fastest of the ways that were tried: Arrow keeps its pages, others fault in fresh ones for each chunk
            opened = pa.decompress(stored, size, codec=compression) if compression else stored
            total += len(opened)
            if check:
                deflate.crc32(opened)
            del opened, stored  # views of the file, which is about to be closed
    return {"bytes decompressed": total}


def checked(path: Path) -> dict[str, int]:
    """Every chunk of an MCAP file, and its CRC-32."""
    return decompress(path, check=True)
