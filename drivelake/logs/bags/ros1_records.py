"""Records of a ROS 1 bag. Belongs here: their framing and their fields, each length checked before it is followed.

Never here: the order of records, messages inside chunks, compression.

Format: https://wiki.ros.org/Bags/Format/2.0. A record is a length and a header of ``name=value`` fields, a length and data.
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BAG_HEADER",
    "CHUNK",
    "CHUNK_INFO",
    "CONNECTION",
    "INDEX",
    "INDEX_ENTRY",
    "MAGIC",
    "MESSAGE",
    "OPS",
    "BagHeader",
    "ChunkInfo",
    "Connection",
    "IndexRecord",
    "Record",
    "RecordBroken",
    "bag_header",
    "chunk_fields",
    "chunk_info",
    "connection",
    "index_record",
    "message_head",
    "read_head",
    "read_record",
    "stamp_ns",
]

MAGIC = b"#ROSBAG V2.0\n"
MESSAGE, BAG_HEADER, INDEX, CHUNK, CHUNK_INFO, CONNECTION = 2, 3, 4, 5, 6, 7
OPS = {
    MESSAGE: "message",
    BAG_HEADER: "bag header",
    INDEX: "index data",
    CHUNK: "chunk",
    CHUNK_INFO: "chunk info",
    CONNECTION: "connection",
}
HEADER_BYTES_MAX = 1 << 20
FIELDS_MAX = 256
CONNECTION_BYTES_MAX = 16 << 20
NS = 1_000_000_000

INDEX_ENTRY = np.dtype([("sec", "<u4"), ("nsec", "<u4"), ("offset", "<u4")])
COUNT_ENTRY = np.dtype([("connection", "<u4"), ("count", "<u4")])

_U32 = struct.Struct("<I")


class RecordBroken(Exception):
    """A record that cannot be followed; the text says what was found. Never leaves this folder."""


class Record(NamedTuple):
    """One record.

    Attributes:
        op: what it is.
        fields: of its header, ``op`` left out.
        offset: where it begins.
        start: where its data begins.
        end: where its data ends, and the next record begins.
    """

    op: int
    fields: dict[bytes, bytes]
    offset: int
    start: int
    end: int


class BagHeader(NamedTuple):
    """What the first record promises; ``index_pos`` 0 means that the bag was never closed."""

    index_pos: int
    connections: int
    chunks: int
    encryptor: str


class Connection(NamedTuple):
    """One publisher of one topic.

    Attributes:
        number: id inside the bag.
        topic: as recorded.
        type: ``sensor_msgs/Imu``.
        md5: digest of the definition as ROS computes it; ``*`` where the recorder did not know it.
        definition: text with the definitions it depends on.
    """

    number: int
    topic: str
    type: str
    md5: str
    definition: bytes


class IndexRecord(NamedTuple):
    """Where the messages of one connection stand in the chunk before it.

    Attributes:
        offset: of this record.
        connection: its id.
        stamps_ns: (n,) int64.
        offsets: (n,) int64, inside the decompressed chunk.
    """

    offset: int
    connection: int
    stamps_ns: NDArray[np.int64]
    offsets: NDArray[np.int64]


class ChunkInfo(NamedTuple):
    """What the index at the end of a bag says about one chunk.

    Attributes:
        offset: of this record.
        chunk: file offset of the chunk record.
        first_ns: the earliest stamp in it.
        last_ns: the latest one.
        counts: messages by connection.
    """

    offset: int
    chunk: int
    first_ns: int
    last_ns: int
    counts: dict[int, int]


def read_head(data: memoryview, position: int, end: int) -> tuple[int, dict[bytes, bytes], int, int]:
    """Op and fields of the record that begins at ``position``, where its data begins and how long it says that is.

    Raises:
        RecordBroken: its header does not fit before ``end``, or has no valid fields.
    """
    header_end = position + 4 + _u32(data, position, end, "length of a header")
    if header_end - position > HEADER_BYTES_MAX or header_end + 4 > end:
        raise RecordBroken(
            f"a header of {header_end - position - 4} bytes, at most {min(HEADER_BYTES_MAX, end - position - 8)} fit"
        )
    fields = _fields(bytes(data[position + 4 : header_end]))
    op = fields.pop(b"op", b"")
    if len(op) != 1 or op[0] not in OPS:
        raise RecordBroken(f"a header with op {op!r}, expected one byte from 2 to 7")
    return op[0], fields, header_end + 4, _u32(data, header_end, end, "length of data")


def read_record(data: memoryview, position: int, end: int) -> Record:
    """The record that begins at ``position``.

    Raises:
        RecordBroken: it does not fit before ``end``, or its header has no valid fields.
    """
    op, fields, start, length = read_head(data, position, end)
    if length > end - start:
        raise RecordBroken(f"a {OPS[op]} record of {length} bytes, {end - start} are left")
    return Record(op, fields, position, start, start + length)


def bag_header(record: Record) -> BagHeader:
    """The fields of the first record.

    Raises:
        RecordBroken: it is another record, or a field is missing or too long.
    """
    if record.op != BAG_HEADER:
        raise RecordBroken(f"a {OPS[record.op]} record, expected the bag header")
    return BagHeader(
        _number(record, b"index_pos", 8),
        _number(record, b"conn_count", 4),
        _number(record, b"chunk_count", 4),
        record.fields.get(b"encryptor", b"").decode("ascii", "replace"),
    )


def chunk_fields(fields: dict[bytes, bytes]) -> tuple[str, int]:
    """Compression of a chunk, and its size once decompressed.

    Raises:
        RecordBroken: a field is missing or too long.
    """
    return fields.get(b"compression", b"").decode("ascii", "replace"), _number(Record(CHUNK, fields, 0, 0, 0), b"size", 4)


def connection(data: memoryview, record: Record) -> Connection:
    """The connection that a record declares; its data is a header of its own.

    Raises:
        RecordBroken: a field is missing, too long, or no UTF-8.
    """
    if record.end - record.start > CONNECTION_BYTES_MAX:
        raise RecordBroken(f"a connection of {record.end - record.start} bytes, at most {CONNECTION_BYTES_MAX} are read")
    fields = _fields(bytes(data[record.start : record.end]))
    missing = [name for name in (b"type", b"md5sum", b"message_definition") if name not in fields]
    if missing or not record.fields.get(b"topic"):
        raise RecordBroken(f"a connection without {(missing or [b'topic'])[0].decode()}")
    try:
        texts = [text.decode("utf-8") for text in (record.fields[b"topic"], fields[b"type"], fields[b"md5sum"])]
    except UnicodeDecodeError as error:
        raise RecordBroken(f"a connection whose {error.object!r} is no UTF-8") from None
    topic, kind, md5 = texts
    return Connection(_number(record, b"conn", 4), topic, kind, md5, fields[b"message_definition"])


def index_record(data: memoryview, record: Record) -> IndexRecord:
    """The entries of an index record.

    Raises:
        RecordBroken: another version, or its count and its bytes disagree.
    """
    entries = _entries(data, record, INDEX_ENTRY)
    return IndexRecord(
        record.offset,
        _number(record, b"conn", 4),
        entries["sec"].astype(np.int64) * NS + entries["nsec"],
        entries["offset"].astype(np.int64),
    )


def chunk_info(data: memoryview, record: Record) -> ChunkInfo:
    """The promise of a chunk info record.

    Raises:
        RecordBroken: another version, a connection twice, or its count and its bytes disagree.
    """
    entries = _entries(data, record, COUNT_ENTRY)
    counts = dict(zip(entries["connection"].tolist(), entries["count"].tolist(), strict=True))
    if len(counts) != len(entries):
        raise RecordBroken("a chunk info that names a connection twice")
    return ChunkInfo(
        record.offset,
        _number(record, b"chunk_pos", 8),
        stamp_ns(_field(record, b"start_time", 8)),
        stamp_ns(_field(record, b"end_time", 8)),
        counts,
    )


def message_head(record: Record) -> tuple[int, int]:
    """Connection and stamp, UTC ns, of a message record.

    Raises:
        RecordBroken: a field is missing or too long.
    """
    return _number(record, b"conn", 4), stamp_ns(_field(record, b"time", 8))


def stamp_ns(field: bytes) -> int:
    """A ROS 1 stamp: seconds and nanoseconds, both 32 bits.

    Raises:
        RecordBroken: its nanoseconds make a second or more.
    """
    seconds, nanoseconds = _U32.unpack_from(field)[0], _U32.unpack_from(field, 4)[0]
    if nanoseconds >= NS:
        raise RecordBroken(f"a stamp with {nanoseconds} nanoseconds, expected less than a second")
    return int(seconds * NS + nanoseconds)


def _entries(data: memoryview, record: Record, kind: np.dtype[np.void]) -> NDArray[np.void]:
    version, count = _number(record, b"ver", 4), _number(record, b"count", 4)
    if version != 1:
        raise RecordBroken(f"a {OPS[record.op]} record of version {version}, expected 1")
    if count * kind.itemsize != record.end - record.start:
        raise RecordBroken(
            f"a {OPS[record.op]} record of {count} entries in {record.end - record.start} bytes, expected {count * kind.itemsize}"
        )
    return np.frombuffer(data[record.start : record.end], kind)


def _fields(header: bytes) -> dict[bytes, bytes]:
    fields: dict[bytes, bytes] = {}
    position = 0
    while position < len(header):
        if position + 4 > len(header):
            raise RecordBroken("a header that ends inside the length of a field")
        end = position + 4 + _U32.unpack_from(header, position)[0]
        name, equals, value = header[position + 4 : end].partition(b"=")
        if end > len(header) or not equals or not name or name in fields or len(fields) == FIELDS_MAX:
            raise RecordBroken(f"a header whose field at byte {position} of {len(header)} cannot be read")
        fields[name] = value
        position = end
    return fields


def _field(record: Record, name: bytes, size: int) -> bytes:
    value = record.fields.get(name, b"")
    if len(value) != size:
        raise RecordBroken(f"a {OPS[record.op]} record with {len(value)} bytes of {name.decode()}, expected {size}")
    return value


def _number(record: Record, name: bytes, size: int) -> int:
    return int.from_bytes(_field(record, name, size), "little")


def _u32(data: memoryview, position: int, end: int, what: str) -> int:
    if position + 4 > end:
        raise RecordBroken(f"{end - position} bytes, the {what} alone needs 4")
    return int(_U32.unpack_from(data, position)[0])
