"""One byte changes anywhere in a small MDF 4 file: it is told, or every row is what it was, or nothing could have told."""

import struct

import numpy as np
import pytest
from asammdf import Signal
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from drivelake.errors import LogDamaged
from drivelake.logs.findings import Findings
from drivelake.logs.mdf.blocks import Head, MdfFile
from drivelake.logs.mdf.reader import inspect_mdf, read_mdf
from tests.drivelake.logs.making import mdf_signals, write_mdf
from tests.drivelake.logs.mdf.mdf_blocks import (
    channel,
    conversion,
    data_group,
    equal_list,
    group,
    packed,
    plain,
    text,
    write_blocks,
)

# fields that say what samples mean, and that nothing else in a file repeats
MEANING = {"HD", "CG", "CN", "CC", "CA", "SI", "TX", "MD"}
PLAIN = {"DT", "SD", "RD"}


def by_asammdf(path):
    """Sorted, packed, with texts, units and conversions."""
    speed = Signal(np.arange(7.0), np.arange(7.0), name="speed", unit="m/s")
    return write_mdf(path, [("first", mdf_signals(40)), ("second", [speed])], version="4.11", compression=2)


def sorted_file(path):
    """A list of packed pieces."""
    speed = channel("speed", at=8, links={4: conversion(1, [1.0, 0.5]), 6: text("m/s")})
    time = channel("t", kind=2, sync=1, data_type=4, bits=64)
    rows = b"".join(struct.pack("<dB", i, i) for i in range(30))
    pieces = [packed(rows[at : at + 90]) for at in range(0, len(rows), 90)]
    one = group([time, speed], record_bytes=9, cycles=30, name=text("motion"))
    return write_blocks(path, data_group([one], equal_list(pieces, 90)))


def unsorted_groups():
    """Two groups, one with values of varying length; and their records."""

    def numbered(number, one):
        one.data = struct.pack("<Q", number) + one.data[8:]
        return one

    values = numbered(3, group([], flags=1, record_bytes=0))
    time = [channel("t", kind=2, sync=1, data_type=4, bits=64) for _ in range(2)]
    pointer = channel("w", kind=1, data_type=10, at=8, bits=64, links={5: values})
    groups = [
        numbered(1, group([time[0], channel("x", at=8, bits=16)], record_bytes=10, name=text("a"))),
        numbered(2, group([time[1], pointer], record_bytes=16, name=text("v"))),
        values,
    ]
    stream, place = bytearray(), 0
    for i in range(20):
        word = b"word" * (1 + i % 3)
        stream += b"\1" + struct.pack("<dH", i, i)
        stream += b"\2" + struct.pack("<dQ", i, place) + b"\3" + struct.pack("<I", len(word)) + word
        place += 4 + len(word)
    return groups, bytes(stream), {0: 20, 1: 20, 2: 20}, place


def unsorted_file(path):
    groups, stream, counts, place = unsorted_groups()
    for index, one in enumerate(groups):
        size = (place, 0) if index == 2 else struct.unpack_from("<II", one.data, 24)
        one.data = one.data[:8] + struct.pack("<Q", counts[index]) + one.data[16:24] + struct.pack("<II", *size)
    return write_blocks(path, data_group(groups, packed(stream), id_bytes=1))


def unfinalised_file(path):
    groups, stream, _, _ = unsorted_groups()
    data = plain(stream, length=24)
    return write_blocks(path, data_group(groups, data, id_bytes=1), last=[data], unfinalised=0x25)


FILES = {"asammdf": by_asammdf, "sorted": sorted_file, "unsorted": unsorted_file, "unfinalised": unfinalised_file}


def rows(path, findings):
    """Rows by table, in their order; without names, which may be stand-ins."""
    found = {}
    for batch in read_mdf(path, wanted=lambda _: True, batch_rows=1000, leftovers=None, findings=findings):
        found.setdefault(batch.channel, []).extend(batch.batch.to_pylist())
    return found


def unseen(path):
    """Places of bytes whose change nothing in a file can tell: identification, meaning, plain data, padding."""
    places = set(range(64)) | set(range(path.stat().st_size))
    with MdfFile(path) as file:
        for offset, _, head in file.walk():
            assert isinstance(head, Head)
            labels = [offset + 24 + 8 * i for i, link in enumerate(head.links) if link and file.head(link).id in {"TX", "MD"}]
            # four reserved bytes stand between the id and the length
            places -= set(range(offset, offset + 4)) | set(range(offset + 8, head.content))
            if head.id not in MEANING | PLAIN:
                places -= set(range(head.content, offset + max(head.length, head.content - offset)))
            # which text a label is, and how long the rows of a transposed piece are, is said once
            places.update(at + i for at in labels for i in range(8))
            places.update(head.content + i for i in range(4, 8) if head.id == "DZ")
    return places


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """By name: the bytes, the rows, and the places whose change cannot be told."""
    folder = tmp_path_factory.mktemp("flips")
    found = {}
    for name, make in FILES.items():
        path = make(folder / f"{name}.mf4")
        found[name] = path.read_bytes(), rows(path, Findings(strict=True)), unseen(path)
    return found


def told(path):
    """What inspecting and reading find, and the rows."""
    findings, found = Findings(), {}
    try:
        inspect_mdf(path, findings)
        found = rows(path, findings)
    except LogDamaged as error:
        return [error.message], found
    return [*findings.sentences], found


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(sorted(FILES)), place=st.integers(0, 1 << 20), bit=st.integers(0, 7))
@example(name="unfinalised", place=0, bit=0)
def test_one_changed_bit_is_told_or_changes_no_row(files, tmp_path_factory, name, place, bit):
    data, sound, hidden = files[name]
    place %= len(data)
    path = tmp_path_factory.mktemp("flip") / "log.mf4"
    changed = bytearray(data)
    changed[place] ^= 1 << bit
    path.write_bytes(changed)
    sentences, found = told(path)
    assert sentences or found == sound or place in hidden
