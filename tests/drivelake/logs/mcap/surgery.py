"""Cutting MCAP files open, for the tests that damage them."""

import struct
from collections import Counter
from typing import NamedTuple

import zstandard

from drivelake.logs.findings import Findings
from drivelake.logs.mcap.log import inspect_mcap, read_mcap
from drivelake.logs.report import Leftovers

CHUNK, MESSAGE_INDEX, CHUNK_INDEX, DATA_END, STATISTICS, FOOTER = 6, 7, 8, 15, 11, 2


class Record(NamedTuple):
    """One record of the file: its opcode, where it begins, where its body begins and where that ends."""

    opcode: int
    offset: int
    start: int
    end: int


def records(data):
    """Every record of a sound file; chunks are one record."""
    found, at = [], 8
    while at < len(data) - 8:
        opcode, length = struct.unpack_from("<BQ", data, at)
        found.append(Record(opcode, at, at + 9, at + 9 + length))
        at += 9 + length
    return found


def of(data, opcode):
    """Every record of one kind."""
    return [record for record in records(data) if record.opcode == opcode]


def content(data, chunk):
    """What a zstd chunk holds."""
    size, _, width = struct.unpack_from("<QII", data, chunk.start + 16)
    return zstandard.decompress(data[chunk.start + 32 + width + 8 : chunk.end], max_output_size=size)


def messages(data, chunk):
    """Messages of a zstd chunk by channel id."""
    inside, at, found = content(data, chunk), 0, Counter()
    while at < len(inside):
        opcode, length, channel = struct.unpack_from("<BQH", inside, at)
        found[channel] += opcode == 5
        at += 9 + length
    return +found


def overwritten(data, at, new):
    """The same bytes with others in one place."""
    return data[:at] + new + data[at + len(new) :]


class Seen(NamedTuple):
    """What inspecting and reading in salvage mode give."""

    findings: Findings
    counts: dict[str, int]
    rows: dict[str, list[dict[str, object]]]


def salvaged(path):
    """Inspect and read a file without stopping at damage; both must find the same."""
    findings = Findings()
    _, channels = inspect_mcap(path, findings)
    again, rows = Findings(), {}
    batches = read_mcap(path, wanted=lambda _: True, batch_rows=1000, leftovers=Leftovers(), findings=again)
    for batch in batches:
        rows.setdefault(batch.channel, []).extend(batch.batch.to_pylist())
    assert again.sentences == findings.sentences
    assert again.lost == findings.lost
    counts = {channel.name: channel.messages for channel in channels}
    assert {name: len(found) for name, found in rows.items()} == counts
    return Seen(findings, counts, rows)
