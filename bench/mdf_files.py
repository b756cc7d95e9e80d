"""MDF 4 files for the bench, written block by block. Belongs here: measured signals, bus logging, and their database.

Never here: reading, timing; MCAP (mcap_files). Format: ASAM MDF 4.1. Same arguments, same bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import deflate
import numpy as np
from numpy.typing import NDArray

__all__ = ["MdfWriter", "write_can", "write_can_unsorted", "write_database", "write_signals"]

START_NS = 1_700_000_000_000_000_000
FRAGMENT_BYTES = 4 << 20
LEVEL = 6  # zlib's own default, what most tools write

# record of a sorted CAN_DataFrame group: stamp s, bus, id, ide, dlc, length, payload
FRAME = np.dtype(
    {
        "names": ["t", "bus", "id", "ide", "dlc", "length", "data"],
        "formats": ["<f8", "u1", "<u4", "u1", "u1", "u1", "(8,)u1"],
        "offsets": [0, 8, 9, 13, 14, 15, 16],
        "itemsize": 24,
    }
)
BUS_EVENT = 0x400  # cn_flags
BUS_GROUP = 0x6  # cg_flags: bus event, plain


class Column(NamedTuple):
    """One channel of a group: its CN block.

    Attributes:
        name: cn_tx_name.
        dtype: of the sample in the record; ``V`` for bytes.
        offset: cn_byte_offset.
        unit: cn_md_unit.
        linear: offset and factor of its conversion, or None.
        kind: cn_type: 0 value, 1 VLSD, 2 master.
        data: cn_data: where variable length values stand.
        members: of a structure.
    """

    name: str
    dtype: np.dtype
    offset: int
    unit: str = ""
    linear: tuple[float, float] | None = None
    kind: int = 0
    data: int = 0
    members: tuple[Column, ...] = ()
    flags: int = 0


class MdfWriter:
    """Writes blocks one behind the other; links to later blocks are set when those are there."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("wb")
        self._end = 0
        self._texts: dict[tuple[bytes, str], int] = {}
        self._append(struct.pack("<8s8s8sIH30sHH", b"MDF     ", b"4.11    ", b"bench   ", 0, 411, b"", 0, 0))
        self.header = self.block(b"HD", [0] * 6, struct.pack("<QhhBBBBdd", START_NS, 0, 0, 0, 0, 0, 0, 0.0, 0.0))
        tool = "<tool_id>bench</tool_id><tool_vendor>-</tool_vendor><tool_version>1</tool_version>"
        comment = f"<FHcomment><TX>written for the bench</TX>{tool}</FHcomment>"
        history = self.block(b"FH", [0, self.text(comment, b"MD")], struct.pack("<QhhB3s", START_NS, 0, 0, 0, b""))
        self.link(self.header, 1, history)
        self._last = (self.header, 0)

    def _append(self, data: bytes) -> None:
        self._file.seek(self._end)
        self._file.write(data)
        self._end += len(data)

    def block(self, kind: bytes, links: Sequence[int], body: bytes) -> int:
        """A block at the next multiple of 8; its offset."""
        self._append(b"\0" * (-self._end % 8))
        offset = self._end
        head = struct.pack(f"<4sIQQ{len(links)}Q", b"##" + kind, 0, 24 + 8 * len(links) + len(body), len(links), *links)
        self._append(head + body)
        return offset

    def patch(self, offset: int, data: bytes) -> None:
        """Overwrite what stands at ``offset``."""
        self._file.seek(offset)
        self._file.write(data)

    def link(self, block: int, number: int, target: int) -> None:
        """Set one link of a block."""
        self.patch(block + 24 + 8 * number, struct.pack("<Q", target))

    def text(self, text: str, kind: bytes = b"TX") -> int:
        """A text block, written once."""
        if not text:
            return 0
        if (kind, text) not in self._texts:
            data = text.encode() + b"\0"
            self._texts[kind, text] = self.block(kind, [], data + b"\0" * (-len(data) % 8))
        return self._texts[kind, text]

    def channel(self, column: Column, source: int = 0) -> int:
        """The CN block of a column, those of its members behind it."""
        types = {"u": 0, "i": 2, "f": 4, "V": 10}
        conversion = 0
        if column.linear is not None:
            body = struct.pack("<BBHHHdddd", 1, 0, 0, 0, 2, 0.0, 0.0, *column.linear)
            conversion = self.block(b"CC", [0, 0, 0, 0], body)
        members = self._chain([self.channel(member, source) for member in column.members])
        links = [0, members, self.text(column.name), source, conversion, column.data, self.text(column.unit), 0]
        body = struct.pack(
            "<BBBBIIIIBBH6d",
            *(column.kind, int(column.kind == 2), types[column.dtype.kind], 0, column.offset, column.dtype.itemsize * 8),
            *(column.flags, 0, 0, 0, 0, *[0.0] * 6),
        )
        return self.block(b"CN", links, body)

    def _chain(self, blocks: Sequence[int]) -> int:
        for left, right in pairwise(blocks):
            self.link(left, 0, right)
        return blocks[0] if blocks else 0

    def group(
        self,
        name: str,
        columns: Sequence[Column],
        *,
        record_bytes: int,
        cycles: int,
        record_id: int = 0,
        flags: int = 0,
        source: int = 0,
        following: int = 0,
    ) -> int:
        """A CG block with its channels; flags 6 mark bus logging."""
        first = self._chain([self.channel(column, source) for column in columns])
        body = struct.pack("<QQHHIII", record_id, cycles, flags, 0x2E if flags else 0, 0, record_bytes, 0)
        return self.block(b"CG", [following, first, self.text(name), source, 0, 0], body)

    def data_group(self, group: int, data: int, id_bytes: int = 0) -> None:
        """A DG block behind those written so far."""
        block = self.block(b"DG", [0, group, data, 0], struct.pack("<B7s", id_bytes, b""))
        self.link(*self._last, block)
        self._last = (block, 0)

    @property
    def last_data_group(self) -> int:
        """The DG block written last."""
        return self._last[0]

    def deflated(self, fragments: Iterable[bytes], *, columns: int = 0) -> int:
        """A list of DZ blocks; transposed if ``columns``, the bytes of a record, is given."""
        blocks, sizes = [], []
        for fragment in fragments:
            whole = len(fragment) // columns * columns if columns else 0
            table = np.frombuffer(fragment, np.uint8, whole).reshape(-1, columns or 1)
            stream = table.T.tobytes() + fragment[whole:] if columns else fragment
            packed = bytes(deflate.zlib_compress(stream, LEVEL))
            head = struct.pack("<2sBBIQQ", b"DT", int(columns > 0), 0, columns, len(fragment), len(packed))
            blocks.append(self.block(b"DZ", [], head + packed))
            sizes.append(len(fragment))
        places = np.concatenate(([0], np.cumsum(sizes)[:-1])).astype("<u8")
        listed = self.block(b"DL", [0, *blocks], struct.pack("<B3sI", 0, b"", len(blocks)) + places.tobytes())
        return self.block(b"HL", [listed], struct.pack("<HB5s", 0, int(columns > 0), b""))

    def close(self) -> None:
        """Pad the last block."""
        self._append(b"\0" * (-self._end % 8))
        self._file.close()


def _fragments(data: NDArray[np.void] | bytes, unit: int) -> Iterable[bytes]:
    """Stretches of whole units of at most 4 MiB."""
    raw = data if isinstance(data, bytes) else data.tobytes()
    step = FRAGMENT_BYTES // unit * unit
    return (raw[start : start + step] for start in range(0, len(raw), step))


def write_signals(path: Path, seconds: float) -> None:
    """Measured signals: 200 groups of 5 to 20 channels at 10 to 1000 Hz, linear conversions, transposed DZ blocks."""
    rng = np.random.default_rng(7)
    rates = np.array([10] * 40 + [20] * 30 + [50] * 40 + [100] * 70 + [1000] * 20)
    rng.shuffle(rates)
    writer = MdfWriter(path)
    for number, rate in enumerate(rates.tolist()):
        rows = int(seconds * rate)
        names = [f"g{number:03d}_s{place:02d}" for place in range(int(rng.integers(5, 21)))]
        kinds = rng.choice(["u1", "<u2", "<i2", "<u4", "<f4", "<f8"], len(names), p=[0.25, 0.3, 0.2, 0.05, 0.15, 0.05])
        layout = np.dtype([("t", "<f8"), *zip(names, kinds.tolist(), strict=True)])
        records = np.zeros(rows, layout)
        records["t"] = np.arange(rows) / rate + rng.uniform(0, 1e-4, rows)
        columns = [Column("t", layout["t"], 0, "s", kind=2)]
        for name in names:
            kind = layout[name]
            records[name] = _walk(rng, rows, kind)
            linear = (-10.0, 0.01) if kind.kind != "f" and kind.itemsize > 1 else None
            columns.append(Column(name, kind, layout.fields[name][1], "m/s" if kind.kind == "f" else "deg", linear))
        group = writer.group(f"rate{rate}", columns, record_bytes=layout.itemsize, cycles=rows)
        writer.data_group(group, writer.deflated(_fragments(records, layout.itemsize), columns=layout.itemsize))
    writer.close()


def _walk(rng: np.random.Generator, rows: int, kind: np.dtype) -> NDArray[np.generic]:
    """A random walk in the range of a type; bytes take few values, as states do."""
    walk = np.cumsum(rng.normal(0, 1, rows))
    walk -= walk.min()
    if kind.kind == "f":
        return (np.round(walk * 0.01, 2) if rng.random() < 0.5 else walk * 0.01).astype(kind)
    walk *= min(np.iinfo(kind).max, 30_000) * 0.9 / (walk.max() + 1e-9)
    return (np.round(walk / 20) if kind.itemsize == 1 else walk).astype(kind)


def _ids(rng: np.random.Generator) -> NDArray[np.uint32]:
    return np.sort(rng.choice(np.arange(0x80, 0x7E0), 100, replace=False)).astype(np.uint32)


def write_database(path: Path) -> None:
    """A DBC of 100 messages that fill their 8 bytes, a third of them in Motorola order."""
    rng = np.random.default_rng(11)
    ids = _ids(rng)
    lines = ['VERSION ""', "", "NS_ :", "", "BS_:", "", "BU_: ECU", ""]
    for number, frame_id in enumerate(ids.tolist()):
        lines.append(f"BO_ {frame_id} MSG_{number:03d}: 8 ECU")
        bit = place = 0
        while bit < 64:
            width = int(rng.choice([1, 2, 4, 8, 10, 12, 16, 20, 32], p=[0.08, 0.08, 0.1, 0.22, 0.08, 0.16, 0.2, 0.03, 0.05]))
            width = min(width, 64 - bit)
            sign = "-" if rng.random() < 0.3 and width > 1 else "+"
            factor, offset = (float(rng.choice([0.1, 0.01, 0.5, 0.0625])), float(rng.choice([0, -40, -100])))
            scale = "(1,0)" if width < 4 else f"({factor},{offset})"
            motorola = number % 3 == 0  # its start bit is the most significant one
            start = bit // 8 * 8 + 7 - bit % 8 if motorola else bit
            lines.append(f' SG_ S{number:03d}_{place:02d} : {start}|{width}@{int(not motorola)}{sign} {scale} [0|0] "u" ECU')
            bit, place = bit + width, place + 1
        lines.append("")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _frames(count: int) -> NDArray[np.void]:
    """About ``count`` frames of the messages of :func:`write_database`, cyclic, in the order of their stamps."""
    ids, rng = _ids(np.random.default_rng(11)), np.random.default_rng(12)
    cycles = rng.choice([0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0], len(ids), p=[0.2, 0.2, 0.15, 0.2, 0.1, 0.1, 0.05])
    seconds = count / np.sum(1 / cycles)
    parts = []
    for frame_id, cycle in zip(ids.tolist(), cycles.tolist(), strict=True):
        rows = max(1, int(seconds / cycle))
        part = np.zeros(rows, FRAME)
        part["t"] = (np.arange(rows) + rng.random()) * cycle + rng.uniform(0, 5e-4, rows)
        part["id"] = frame_id
        choices = (
            lambda n: np.full(n, rng.integers(0, 256)),
            lambda n: np.arange(n) & 0xF,
            lambda n: np.cumsum(rng.integers(-1, 2, n)) & 0xFF,
            lambda n: rng.integers(0, 256, n),
        )
        for byte in range(8):
            part["data"][:, byte] = choices[int(rng.integers(0, 4))](rows)
        parts.append(part)
    frames = np.concatenate(parts)
    frames["bus"], frames["dlc"], frames["length"] = 1, 8, 8
    return frames[np.argsort(frames["t"], kind="stable")]


def _frame_columns(payload: Column) -> list[Column]:
    members = tuple(
        Column(f"CAN_DataFrame.{name}", FRAME[field], FRAME.fields[field][1], flags=BUS_EVENT)
        for name, field in (("BusChannel", "bus"), ("ID", "id"), ("IDE", "ide"), ("DLC", "dlc"), ("DataLength", "length"))
    )
    whole = np.dtype(f"V{16 + payload.dtype.itemsize - 8}")
    structure = Column("CAN_DataFrame", whole, 8, members=(*members, payload), flags=BUS_EVENT)
    return [Column("Timestamp", FRAME["t"], 0, "s", kind=2), structure]


def _can_source(writer: MdfWriter) -> int:
    name = writer.text("CAN1")
    return writer.block(b"SI", [name, name, 0], struct.pack("<BBB5s", 2, 2, 0, b""))  # a bus, CAN


def write_can(path: Path, count: int) -> None:
    """Sorted bus logging: one CAN_DataFrame group, transposed DZ blocks."""
    frames = _frames(count)
    writer = MdfWriter(path)
    payload = Column("CAN_DataFrame.DataBytes", np.dtype("V8"), 16, flags=BUS_EVENT)
    group = writer.group(
        "CAN1", _frame_columns(payload), record_bytes=24, cycles=len(frames), flags=BUS_GROUP, source=_can_source(writer)
    )
    writer.data_group(group, writer.deflated(_fragments(frames, 24), columns=24))
    writer.close()


def write_can_unsorted(path: Path, count: int) -> None:
    """Bus logging as a logger streams it: records and their variable length payloads in turn, one byte of record id."""
    frames = _frames(count)
    rng = np.random.default_rng(3)
    odd = rng.random(len(frames)) < 0.1
    lengths = np.where(odd, rng.choice([12, 16, 24, 64], len(frames)), 8).astype(np.uint8)
    places = np.concatenate(([0], np.cumsum(lengths.astype(np.int64) + 4)))
    writer = MdfWriter(path)
    source = _can_source(writer)
    payloads = writer.group("", [], record_bytes=0, cycles=len(frames), record_id=2, flags=1)
    writer.patch(payloads + 24 + 48 + 24, struct.pack("<Q", int(places[-1])))  # of a VLSD group: bytes of its values
    payload = Column("CAN_DataFrame.DataBytes", np.dtype("V8"), 16, kind=1, data=payloads, flags=BUS_EVENT)
    group = writer.group(
        "CAN1",
        _frame_columns(payload),
        record_bytes=24,
        cycles=len(frames),
        record_id=1,
        flags=BUS_GROUP,
        source=source,
        following=payloads,
    )
    head, value = struct.Struct("<BdBIBBBQ"), struct.Struct("<BI")
    stream = bytearray()
    rows = zip(frames["t"].tolist(), frames["id"].tolist(), lengths.tolist(), places.tolist(), frames["data"], strict=False)
    for t, frame_id, length, place, data in rows:
        stream += head.pack(1, t, 1, frame_id, 0, min(length, 9), length, place)
        stream += value.pack(2, length) + data.tobytes().ljust(length, b"\0")
    writer.data_group(group, writer.deflated(_fragments(bytes(stream), 1)), id_bytes=1)
    writer.close()
