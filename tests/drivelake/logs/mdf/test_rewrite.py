"""Rewriting MDF 4: metadata follows its groups, and what is damaged or has no place is left out."""

import hashlib
import struct
from io import BytesIO

import numpy as np
import pytest
from asammdf import MDF

from drivelake.errors import UnsupportedLog
from drivelake.logs import Findings, inspect_log, read_log
from drivelake.logs.mdf.blocks import MdfFile
from drivelake.logs.mdf.parse import parse
from drivelake.logs.mdf.pieces import pieces_of
from drivelake.logs.mdf.rewrite import rewrite_mdf
from drivelake.logs.mdf.rows import unpacked
from tests.drivelake.logs.mdf.mdf_blocks import (
    Block,
    chained,
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

MASTER, VIRTUAL_MASTER = 2, 3
FLOAT = 4


def rewritten(path, findings=None, damage=()):
    """Records by table, and the new file."""
    file = BytesIO()
    counts = rewrite_mdf(path, file, findings or Findings(), damage)
    out = path.with_name("out.mf4")
    out.write_bytes(file.getvalue())
    assert inspect_log(out).damage == ()
    return counts, out


def rows(path, table):
    found = [batch.batch for batch in read_log(path, channels=[table], findings=Findings())]
    return [row for batch in found for row in batch.to_pylist()]


def time_channel(**options):
    return channel("t", kind=MASTER, sync=1, data_type=FLOAT, bits=64, **options)


def records(count, first=0.0):
    return b"".join(struct.pack("<dB", first + i, i % 256) for i in range(count))


def speed_group(count, name="motion", **options):
    speed = channel("speed", at=8, links={4: conversion(1, [1.0, 0.5]), 6: text("m/s")})
    return group([time_channel(), speed], record_bytes=9, cycles=count, name=text(name), **options)


def attachment(data, *, md5=None):
    digest = hashlib.md5(data, usedforsecurity=False).digest() if md5 is None else md5
    fields = struct.pack("<HH4x16sQQ", 1 | 4, 0, digest, len(data), len(data)) + data
    return Block("AT", [None, text("note.txt"), text("text/plain"), None], fields + bytes(-len(data) % 8))


def write(path, groups, *, header=(), **options):
    """Sorted data groups; ``header``: links of the HD block by number."""
    first = chained(groups)[0]
    hidden = [block for _, block in header]
    write_blocks(path, first, **options)
    if hidden:
        end = path.stat().st_size + -path.stat().st_size % 8
        order, waiting = [], list(hidden)
        while waiting:
            block = waiting.pop(0)
            if block not in order:
                order.append(block)
                waiting += [link for link in block.links if isinstance(link, Block) and not link.offset]
        for block in order:
            block.offset = end
            end += -(-block.size // 8) * 8
        data = bytearray(path.read_bytes())
        data += bytes(-len(data) % 8)
        for number, block in header:
            struct.pack_into("<Q", data, 64 + 24 + 8 * number, block.offset)
        for block in order:
            data += block.bytes().ljust(-(-block.size // 8) * 8, b"\0")
        path.write_bytes(data)
    return path


def test_units_conversions_comments_and_names_follow_their_group(tmp_path):
    states = conversion(7, [0, 1], [text("off"), text("on"), text("odd")])
    state = channel("state", at=8, links={4: states, 7: text("what it does")})
    one = group([time_channel(), state], record_bytes=9, cycles=3, name=text("states"))
    one.links[5] = text("all about states")
    path = write(tmp_path / "in.mf4", [data_group([one], plain(records(3)))])
    counts, out = rewritten(path)
    assert counts == {"states": 3}
    assert [row["state"] for row in rows(out, "states")] == ["off", "on", "odd"]
    with MDF(out) as log:
        assert log.groups[0].channels[1].comment == "what it does"
        assert log.groups[0].channel_group.comment == "all about states"


def test_the_history_gains_one_entry_that_says_what_was_salvaged(tmp_path):
    first = Block("FH", [None, text("<FHcomment><TX>made</TX></FHcomment>")], struct.pack("<QhhB3x", 5, 0, 0, 0))
    first.links[1].name = "MD"
    path = write(tmp_path / "in.mf4", [data_group([speed_group(3)], plain(records(3)))], header=[(1, first)])
    _, out = rewritten(path, damage=[f"Damage <{i}>." for i in range(30)])
    with MDF(out) as log:
        old, new = log.file_history
    assert "made" in old.comment
    assert "Salvaged: 3 records of 1 groups. Damage &lt;0&gt;." in new.comment
    assert "10 more." in new.comment
    again = out.rename(tmp_path / "again.mf4")
    _, out = rewritten(again)
    with MDF(out) as log:
        assert len(log.file_history) == 3
        assert "Nothing was damaged." in log.file_history[-1].comment


def test_a_damaged_attachment_is_left_out_and_the_others_stay(tmp_path):
    kept = [attachment(b"the first"), attachment(b"wrong", md5=bytes(16)), attachment(b"the last one")]
    chained(kept)
    path = write(tmp_path / "in.mf4", [data_group([speed_group(3)], plain(records(3)))], header=[(3, kept[0])])
    assert any("MD5" in sentence for sentence in inspect_log(path).damage)
    _, out = rewritten(path)
    with MDF(out) as log:
        assert [bytes(log.extract_attachment(index=i)[0]) for i in range(len(log.attachments))] == [b"the first", b"the last one"]


def test_a_group_that_is_named_by_its_number_keeps_that_name(tmp_path):
    """The group before it is damaged and left out, so the numbers move."""
    damaged = speed_group(3, "gone")
    damaged.data = damaged.data[:8]
    nameless = speed_group(4)
    nameless.links[2] = None
    twins = [speed_group(2, "twin"), speed_group(5, "twin")]
    groups = [data_group([one], plain(records(n))) for one, n in [(damaged, 3), (nameless, 4), (twins[0], 2), (twins[1], 5)]]
    path = write(tmp_path / "in.mf4", groups)
    before = {channel.name: channel.messages for channel in inspect_log(path).channels}
    assert before == {"group_1": 4, "group_2": 2, "group_3": 5}
    counts, out = rewritten(path)
    assert counts == before
    assert {channel.name: channel.messages for channel in inspect_log(out).channels} == before


def test_a_lost_piece_costs_its_records_and_the_others_keep_their_times(tmp_path):
    pieces = [packed(records(100, first)) for first in (0.0, 100.0, 200.0)]
    pieces[1].data = pieces[1].data[:60] + bytes([pieces[1].data[60] ^ 4]) + pieces[1].data[61:]
    path = write(tmp_path / "in.mf4", [data_group([speed_group(300)], equal_list(pieces, 900))])
    counts, out = rewritten(path)
    assert counts == {"motion": 200}
    stamps = [row["t_ns"] for row in rows(out, "motion")]
    assert [(stamp - 1_700_000_000 * 10**9) // 10**9 for stamp in stamps] == [*range(100), *range(200, 300)]


def test_a_group_that_counts_its_records_ends_where_one_is_lost(tmp_path):
    """Behind the loss every record would get another number, and so another time."""
    pieces = [packed(bytes(range(100))) for _ in range(3)]
    pieces[1].data = pieces[1].data[:30] + bytes([pieces[1].data[30] ^ 4]) + pieces[1].data[31:]
    clock = channel("t", kind=VIRTUAL_MASTER, sync=1, data_type=FLOAT, bits=0, links={4: conversion(1, [0.0, 0.01])})
    one = group([clock, channel("x")], record_bytes=1, cycles=300, name=text("counted"))
    path = write(tmp_path / "in.mf4", [data_group([one], equal_list(pieces, 100))])
    findings = Findings()
    counts, out = rewritten(path, findings)
    assert counts == {"counted": 100}
    assert any("numbers its records" in why for why in findings.reasons["counted"])
    assert [row["x"] for row in rows(out, "counted")] == list(range(100))


def test_a_version_before_packed_blocks_gets_plain_ones(tmp_path):
    path = write(tmp_path / "in.mf4", [data_group([speed_group(50)], plain(records(50)))], version=400)
    _, out = rewritten(path)
    data = out.read_bytes()
    assert b"##DZ" not in data
    assert b"##HL" not in data
    assert len(rows(out, "motion")) == 50


def test_record_bytes_that_belong_to_no_channel_stay(tmp_path):
    rng = np.random.default_rng(0)
    stream = b"".join(struct.pack("<d", i) + rng.bytes(12) for i in range(40))
    one = group([time_channel(), channel("x", at=9)], record_bytes=18, invalid_bytes=2, cycles=40, name=text("wide"))
    path = write(tmp_path / "in.mf4", [data_group([one], plain(stream))])
    _, out = rewritten(path)
    with MdfFile(out) as file:
        link = parse(file, Findings()).data_groups[0].data
        assert b"".join(unpacked(file, piece).tobytes() for piece in pieces_of(file, link, Findings(), "it")) == stream


def test_the_file_is_finalised_and_sorted(tmp_path):
    path = write(
        tmp_path / "in.mf4",
        [data_group([speed_group(0)], plain(records(20)[:-4], length=24))],
        unfinalised=1 | 4,
        last=(),
    )
    with MdfFile(path) as file:
        assert parse(file, Findings()).unfinalised
    counts, out = rewritten(path)
    with MdfFile(out) as file:
        mdf = parse(file, Findings(strict=True))
    assert mdf.unfinalised == 0
    assert [found.id_bytes for found in mdf.data_groups] == [0]
    assert mdf.data_groups[0].groups[0].cycles == counts["motion"]


SIZES = {"HD": 104, "DG": 64, "CG": 104, "SI": 56, "CN": 160, "FH": 56}


def raw_blocks(path):
    """Kind, length and fields of every block, one behind the other; each must begin where the one before it ends."""
    data, place, found = path.read_bytes(), 64, []
    while place < len(data):
        name, length, links = struct.unpack_from("<4s4xQQ", data, place)
        assert name[:2] == b"##"
        found.append((name[2:].decode(), length, data[place + 24 + 8 * links : place + length]))
        place += -(-length // 8) * 8
    return found


@pytest.mark.parametrize("kind", ["CG", "CN", "DG", "CC", "SI"])
@pytest.mark.parametrize("more", [8, 4096])
def test_blocks_are_written_at_the_length_of_their_kind(tmp_path, kind, more):
    """A length that changed is not copied: asammdf finds the channels and records that are there."""
    source = Block("SI", [text("s"), None, None], bytes(8))
    path = write(tmp_path / "in.mf4", [data_group([speed_group(3, source=source)], plain(records(3)))])
    data = bytearray(path.read_bytes() + bytes(8192))
    at = data.index(b"##" + kind.encode())
    (length,) = struct.unpack_from("<Q", data, at + 8)
    struct.pack_into("<Q", data, at + 8, length + more)
    path.write_bytes(data)
    counts, out = rewritten(path)
    assert counts == {"motion": 3}
    blocks = raw_blocks(out)
    assert [struct.unpack_from("<Q", fields, 8)[0] for name, _, fields in blocks if name == "CG"] == [3]
    assert all(SIZES.get(name, length) == length for name, length, _ in blocks)
    assert max(length for _, length, _ in blocks) < 1000
    with MDF(out) as log:
        assert [group.channel_group.cycles_nr for group in log.groups] == [3]
        assert log.get("speed").samples.tolist() == [1.0, 1.5, 2.0]


def test_a_channel_whose_name_is_damaged_is_written_under_a_stand_in(tmp_path):
    one = speed_group(3)
    one.links[1].links[0].links[2] = 12345678
    path = write(tmp_path / "in.mf4", [data_group([one], plain(records(3)))])
    counts, out = rewritten(path)
    assert counts == {"motion": 3}
    assert [row["channel_1"] for row in rows(out, "motion")] == [1.0, 1.5, 2.0]


def test_data_that_nobody_here_can_unpack_is_refused(tmp_path):
    path = write(tmp_path / "in.mf4", [data_group([speed_group(3)], packed(records(3), method=7))])
    with pytest.raises(UnsupportedLog, match="cannot be written again"):
        rewrite_mdf(path, BytesIO(), Findings(), [])
