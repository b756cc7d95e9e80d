"""MDF 4 files of any blocks, sound or not, for the tests of the readers of blocks."""

import struct
import zlib
from itertools import pairwise

START_NS = 1_700_000_000 * 10**9


class Block:
    """A block with its links: other blocks, None, or raw offsets. ``length`` replaces the true one."""

    def __init__(self, name, links=(), data=b"", *, length=None):
        self.name, self.links, self.data, self.length, self.offset = name, list(links), data, length, 0

    @property
    def size(self):
        return 24 + 8 * len(self.links) + len(self.data)

    def bytes(self):
        links = [link.offset if isinstance(link, Block) else link or 0 for link in self.links]
        length = self.size if self.length is None else self.length
        return struct.pack(f"<4s4xQQ{len(links)}Q", b"##" + self.name.encode(), length, len(links), *links) + self.data


def write_blocks(path, first, *, last=(), start_ns=START_NS, time_flags=2, unfinalised=0, name=None, version=410):
    """A file whose header links to the data group ``first``; the blocks ``last`` stand at its end, in that order."""
    header = Block("HD", [first, None, None, None, None, None], struct.pack("<QhhBBBxdd", start_ns, 0, 0, time_flags, 0, 0, 0, 0))
    order, waiting = [], [header]
    while waiting:
        block = waiting.pop()
        if block in order:
            continue
        order.append(block)
        waiting += [link for link in reversed(block.links) if isinstance(link, Block)]
    order = [block for block in order if block not in last] + list(last)
    offset = 64
    for block in order:
        block.offset = offset
        offset += -(-block.size // 8) * 8
    name = name or (b"UnFinMF " if unfinalised else b"MDF     ")
    text = f"{version // 100}.{version % 100:02d}".encode()
    head = struct.pack("<8s8s8s4xH30xHH", name, text, b"tests", version, unfinalised, 0)
    body = b"".join(block.bytes().ljust(-(-block.size // 8) * 8, b"\0") for block in order[:-1]) + order[-1].bytes()
    path.write_bytes(head + body)
    return path


def text(value):
    return Block("TX", [], value.encode() + b"\0")


def data_group(groups, data=None, *, id_bytes=0):
    chained(groups)
    return Block("DG", [None, groups[0] if groups else None, data, None], struct.pack("<B7x", id_bytes))


def group(channels, *, record_bytes=8, cycles=0, invalid_bytes=0, flags=0, name=None, source=None):
    chained(channels)
    fields = struct.pack("<QQHHIII", 0, cycles, flags, ord("."), 0, record_bytes, invalid_bytes)
    return Block("CG", [None, channels[0] if channels else None, name, source, None, None], fields)


def channel(name, *, kind=0, sync=0, data_type=0, at=0, bit=0, bits=8, flags=0, invalid_at=0, links=()):
    """``links``: by index; 1 composition, 4 conversion, 5 data, 6 unit."""
    fields = struct.pack("<BBBBIIIIBBH6d", kind, sync, data_type, bit, at, bits, flags, invalid_at, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    found = Block("CN", [None, None, text(name), None, None, None, None, None], fields)
    for index, link in dict(links).items():
        found.links[index] = link
    return found


def conversion(kind, values=(), references=(), *, unit=None):
    letter = "Q" if kind == 11 else "d"
    fields = struct.pack(f"<BBHHHdd{len(values)}{letter}", kind, 0, 0, len(references), len(values), 0, 0, *values)
    return Block("CC", [None, unit, None, None, *references], fields)


def chained(blocks):
    """A list: each block links to the next."""
    for block, following in pairwise([*blocks, None]):
        block.links[0] = following
    return blocks


def plain(data, name="DT", *, length=None):
    return Block(name, [], data, length=length)


def packed(data, name="DT", *, size=None, method=0, columns=0):
    stored = zlib.compress(data)
    fields = struct.pack("<2sBxIQQ", name.encode(), method, columns, len(data) if size is None else size, len(stored))
    return Block("DZ", [], fields + stored)


def equal_list(blocks, length, *, following=None, count=None):
    fields = struct.pack("<B3xIQ", 1, len(blocks) if count is None else count, length)
    return Block("DL", [following, *blocks], fields)


def offset_list(blocks, offsets, *, following=None):
    return Block("DL", [following, *blocks], struct.pack(f"<B3xI{len(offsets)}Q", 0, len(blocks), *offsets))
