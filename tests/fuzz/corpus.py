"""The logs that are damaged on purpose: small ones of every format, and which of their bytes a checksum covers.

Belongs here: writing them. Never here: damage (mutations), judging what is read (oracle).
"""

import struct
import zlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from mcap.opcode import Opcode

from bench import bag_files, mdf_files
from tests.drivelake.logs.making import DATABASE, LAYOUTS, START_NS, drive_mcap, write_can, write_mdf

ROWS = 120


@dataclass(frozen=True)
class Seed:
    """One sound log.

    Attributes:
        name: of the file; its suffix says the format.
        data: its bytes.
        checked: (begin, end) of the bytes whose change a checksum of the format tells.
        beside: files that are read with it, by name.
    """

    name: str
    data: bytes
    checked: tuple[tuple[int, int], ...] = ()
    beside: dict[str, bytes] = field(default_factory=dict)

    def covers(self, begin: int, end: int) -> bool:
        """Whether one checksummed stretch holds all of these bytes."""
        return any(low <= begin and end <= high for low, high in self.checked)


def corpus(folder: Path) -> tuple[Seed, ...]:
    """Every seed; the same each time."""
    return (*_mcaps(), *_protobuf(folder), *_mdfs(folder), *_bags(folder))


def _mcaps():
    for name, options in LAYOUTS.items():
        data = drive_mcap(40, attachment=b"a note", chunk_size=8192, enable_crcs=True, **options)
        # without chunks the one checksum of all messages stands behind them, and what destroys both is not told by it
        end = len(data) if options.get("use_chunking", True) else _mcap_data_end(data)
        yield Seed(f"{name.replace(' ', '_')}.mcap", data, ((0, end),))


def _mcap_data_end(data):
    offset = 8
    while data[offset] != Opcode.DATA_END:
        offset += 9 + struct.unpack_from("<Q", data, offset + 1)[0]
    return offset


def _protobuf(folder):
    from bench.mcap_files import write_protobuf

    write_protobuf(folder / "protobuf.mcap", ROWS)
    yield Seed("protobuf.mcap", (folder / "protobuf.mcap").read_bytes())


def _signals(rows=ROWS):
    from asammdf import Signal

    rng, t = np.random.default_rng(1), np.arange(rows) / 100
    mode = {"val_0": 0, "text_0": "off", "val_1": 1, "text_1": "on", "default": "odd"}
    return [
        (
            "motion",
            [
                Signal(np.cumsum(rng.normal(size=rows)), t, name="speed", unit="km/h"),
                Signal(rng.integers(-99, 99, rows).astype("i2"), t, name="angle", unit="deg", conversion={"a": 0.1, "b": -3.0}),
                Signal(rng.integers(0, 3, rows).astype("u1"), t, name="mode", conversion=mode),
                Signal(rng.integers(0, 9, rows).astype("u4"), t, name="valid", invalidation_bits=rng.random(rows) < 0.3),
            ],
        ),
        ("texts", [Signal(np.array([b"x" * (i % 7) for i in range(rows)]), t, name="text", encoding="utf-8")]),
        ("arrays", [Signal(rng.integers(0, 256, (rows, 6)).astype("u1"), t, name="payload")]),
    ]


def _mdfs(folder):
    for packing, name in enumerate(("plain", "deflated", "transposed")):
        path = write_mdf(folder / f"{name}.mf4", _signals(), version="4.11", compression=packing)
        data = path.read_bytes()
        yield Seed(f"{name}.mf4", data, tuple(_deflated(data)))
    write_mdf(folder / "old.mdf", _signals()[:1], version="3.30")
    yield Seed("old.mdf", (folder / "old.mdf").read_bytes())
    beside = {"car.dbc": DATABASE.encode()}
    frames = [(i / 100, 1 + i % 2, (256, 512)[i % 2], bool(i % 2), bytes([i % 2, *range(7)])) for i in range(ROWS)]
    write_can(folder / "can.mf4", frames)
    data = (folder / "can.mf4").read_bytes()
    yield Seed("can.mf4", data, tuple(_deflated(data)), beside)
    mdf_files.write_can_unsorted(folder / "unsorted.mf4", 400)
    data = (folder / "unsorted.mf4").read_bytes()
    yield Seed("unsorted.mf4", data, tuple(_deflated(data)))
    yield Seed("unfinalised.mf4", _unfinalised(folder))


def _unfinalised(folder):
    """As a logger leaves it that lost power: one open data block, counters never written."""
    writer = mdf_files.MdfWriter(folder / "unfinalised.mf4")
    layout = np.dtype([("t", "<f8"), ("speed", "<u2")])
    records = np.zeros(ROWS, layout)
    records["t"], records["speed"] = np.arange(ROWS) / 100, np.arange(ROWS) * 7
    columns = [
        mdf_files.Column("t", layout["t"], 0, "s", kind=2),
        mdf_files.Column("speed", layout["speed"], 8, "km/h", (0.0, 0.01)),
    ]
    group = writer.group("motion", columns, record_bytes=10, cycles=0)
    writer.data_group(group, 0)
    data = writer.block(b"DT", [], records.tobytes())
    writer.link(writer.last_data_group, 2, data)
    writer.patch(data + 8, struct.pack("<Q", 24))
    writer.patch(0, b"UnFinMF ")
    writer.patch(60, struct.pack("<H", 1 | 4))
    writer.close()
    return (folder / "unfinalised.mf4").read_bytes()


def _deflated(data):
    """Where the packed bytes of DZ blocks stand, Adler-32 included."""
    offset = data.find(b"##DZ")
    while offset >= 0:
        packed = struct.unpack_from("<Q", data, offset + 40)[0]
        if zlib.decompress(data[offset + 48 : offset + 48 + packed]):
            yield offset + 48, offset + 48 + packed
        offset = data.find(b"##DZ", offset + 1)


def _bags(folder):
    bag_files.write_ros1(folder / "lz4.bag", 0.3)
    yield Seed("lz4.bag", (folder / "lz4.bag").read_bytes())
    for name in ("none", "bz2"):
        data = _ros1(folder / f"{name}.bag", name)
        yield Seed(f"{name}.bag", data, tuple(_bz2(data)) if name == "bz2" else ())
    bag_files.write_db3(folder / "bag", 0.2)
    yield Seed("bag.db3", next((folder / "bag").glob("*.db3")).read_bytes())


def _ros1(path, compression):
    from rosbags.rosbag1 import Writer
    from rosbags.typesys import Stores, get_typestore

    types = get_typestore(Stores.ROS1_NOETIC)
    vector, point = types.types["geometry_msgs/msg/Vector3"], types.types["std_msgs/msg/String"]
    writer = Writer(path)
    if compression == "bz2":
        writer.set_compression(Writer.CompressionFormat.BZ2)
    with writer:
        vectors = writer.add_connection("/vector", "geometry_msgs/msg/Vector3", typestore=types)
        texts = writer.add_connection("/text", "std_msgs/msg/String", typestore=types)
        for number in range(ROWS):
            stamp = START_NS + number * 10**7
            writer.write(vectors, stamp, types.serialize_ros1(vector(number, -number / 3, 0.5), vectors.msgtype))
            writer.write(texts, stamp + 1, types.serialize_ros1(point("x" * (number % 9)), texts.msgtype))
    return path.read_bytes()


def _bz2(data):
    """Where bz2 streams stand, behind their first block's magic; each block has a CRC-32."""
    start = data.find(b"BZh")
    while start >= 0:
        size = struct.unpack_from("<I", data, start - 4)[0]
        yield start, start + size
        start = data.find(b"BZh", start + size)
