import hashlib
import struct
import zlib
from itertools import pairwise

import numpy as np
import pytest

from drivelake.errors import LogDamaged
from drivelake.logs.findings import Findings
from drivelake.logs.mdf import check
from drivelake.logs.mdf.blocks import MdfFile
from drivelake.logs.mdf.check import check_blocks
from drivelake.logs.mdf.pieces import pieces_of
from tests.drivelake.logs.mdf.mdf_blocks import Block, channel, data_group, equal_list, group, packed, plain, text, write_blocks

WORDS = [b"", b"a", b"some text", bytes(300)]
VALUES = b"".join(struct.pack("<I", len(word)) + word for word in WORDS)


def written(tmp_path, data, **options):
    return write_blocks(tmp_path / "log.mf4", data_group([], data), **options)


def with_values(tmp_path, data):
    """A file with a channel of varying length whose values are ``data``."""
    return write_blocks(tmp_path / "log.mf4", data_group([group([channel("a", kind=1, data_type=7, links={5: data})])]))


def checked(path, **options):
    findings = Findings()
    return check_blocks(path, findings, **options), findings.sentences


def attachment(content, *, flags, md5=None):
    stored = zlib.compress(content) if flags & 2 else content
    digest = hashlib.md5(content).digest() if md5 is None else md5
    return Block("AT", [None] * 4, struct.pack("<HH4x16sQQ", flags, 0, digest, len(content), len(stored)) + stored)


def test_every_recorded_file_is_sound(shared_data):
    paths = [path for path in sorted(shared_data.rglob("*")) if path.suffix.lower() == ".mf4" and path.stat().st_size > 64]
    assert len(paths) > 50
    for path in paths:
        report, sentences = checked(path)
        assert (report.sound, sentences) == (True, ()), path


def test_checksums_are_counted(tmp_path):
    path = written(tmp_path, equal_list([packed(bytes(8)), plain(bytes(8)), packed(bytes(8)), packed(bytes(8), method=2)], 8))
    report, sentences = checked(path)
    assert (report.compressed, report.plain, report.sound, sentences) == (2, 2, True, ())


@pytest.mark.parametrize("whole", [check.WHOLE_BYTES_MAX, 0])
@pytest.mark.parametrize("place", range(2, 40, 5))
def test_a_flipped_bit_of_packed_data_is_named(tmp_path, monkeypatch, place, whole):
    monkeypatch.setattr(check, "WHOLE_BYTES_MAX", whole)
    block = packed(np.random.default_rng(3).integers(0, 4, 100, np.uint8).tobytes())
    path = written(tmp_path, block)
    assert checked(path)[1] == ()
    data = bytearray(path.read_bytes())
    data[block.offset + 48 + place % (block.size - 48)] ^= 4
    path.write_bytes(data)
    report, sentences = checked(path)
    assert not report.sound
    assert f"The compressed data at offset {block.offset + 48}" in sentences[0]


@pytest.mark.parametrize("whole", [check.WHOLE_BYTES_MAX, 0])
@pytest.mark.parametrize("size", [0, 999, 1001])
def test_packed_data_of_another_size_than_declared_are_named(tmp_path, monkeypatch, size, whole):
    monkeypatch.setattr(check, "WHOLE_BYTES_MAX", whole)
    report, sentences = checked(written(tmp_path, packed(np.random.default_rng(4).bytes(1000), size=size)))
    assert (report.sound, len(sentences)) == (False, 1)
    assert str(size) in sentences[0]


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 3 << 20])
def test_packed_data_of_every_size_around_a_part_are_sound(tmp_path, monkeypatch, size):
    monkeypatch.setattr(check, "WHOLE_BYTES_MAX", -1)
    assert checked(written(tmp_path, packed(np.random.default_rng(5).bytes(size))))[1] == ()


def test_data_that_a_reader_verifies_are_left_to_it(tmp_path):
    block = packed(bytes(100))
    path = written(tmp_path, block)
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)
    file = MdfFile(path)
    (piece,) = pieces_of(file, block.offset, Findings(strict=True), "x")
    assert len(checked(file)[1]) == 1
    assert checked(file, verified={piece.offset})[1] == ()


@pytest.mark.parametrize("flags", [1, 3, 5, 7])
def test_attachments_are_what_their_checksum_says(tmp_path, flags):
    assert checked(written(tmp_path, attachment(b"notes" * 50, flags=flags)))[1] == ()
    block = attachment(b"notes" * 50, flags=flags, md5=bytes(16))
    _, sentences = checked(written(tmp_path, block))
    assert bool(sentences) == bool(flags & 4)
    if sentences:
        assert f"The attachment at offset {block.offset} has MD5" in sentences[0]


def test_an_attachment_longer_than_its_block_is_named(tmp_path):
    block = attachment(b"notes", flags=1)
    block.data = block.data[:-1]
    assert "declares 5 bytes of data, it holds 4" in checked(written(tmp_path, block))[1][0]


@pytest.mark.parametrize("cuts", [(), (1,), (3, 4, 9), (15, 20), tuple(range(1, len(VALUES)))])
@pytest.mark.parametrize("store", [plain, packed])
def test_values_of_varying_length_end_where_their_data_do(tmp_path, cuts, store):
    ends = [0, *cuts, len(VALUES)]
    parts = [store(VALUES[first:last], "SD") for first, last in pairwise(ends)]
    offsets = Block("DL", [None, *parts], struct.pack(f"<B3xI{len(parts)}Q", 0, len(parts), *ends[:-1]))
    data = offsets if cuts else parts[0]
    assert checked(with_values(tmp_path, data))[1] == ()


@pytest.mark.parametrize("data", [VALUES[:-1], VALUES + b"\1\0\0\0", VALUES + b"\0\0", b"\xff\xff\xff\xff"])
def test_values_that_end_elsewhere_are_named(tmp_path, data):
    report, sentences = checked(with_values(tmp_path, plain(data, "SD")))
    assert not report.sound
    assert f"bytes behind the {len(data)} of their data" in sentences[0]


@pytest.mark.parametrize(
    ("link", "reason"), [(7, "should stand at offset 7"), (1 << 60, "the file ends"), (70, "expected a block")]
)
def test_a_link_to_nothing_is_named_with_its_block(tmp_path, link, reason):
    holder = data_group([], link)
    report, sentences = checked(write_blocks(tmp_path / "log.mf4", holder))
    assert (report.sound, len(sentences)) == (False, 1)
    assert reason in sentences[0]
    assert f"It is linked from offset {holder.offset}." in sentences[0]


def test_an_unknown_block_is_named(tmp_path):
    assert "stands 'QQ', expected a known block" in checked(written(tmp_path, Block("QQ")))[1][0]


def test_a_block_that_reaches_into_another_is_named(tmp_path):
    first, second = plain(bytes(64)), text("second")
    holder = data_group([], first)
    holder.links[3] = second
    first.length = 24 + 64 + 8
    report, sentences = checked(write_blocks(tmp_path / "log.mf4", holder, last=[first, second]))
    assert not report.sound
    assert f"another block stands at offset {second.offset}" in sentences[0]


def test_a_list_that_runs_in_a_circle_is_named_and_ends(tmp_path):
    ring = data_group([])
    ring.links[0] = ring
    report, sentences = checked(write_blocks(tmp_path / "log.mf4", ring))
    assert not report.sound
    assert sentences == (f"The list that passes offset {ring.offset} runs in a circle.",)


def test_a_file_that_was_not_finalised_is_not_damaged_by_that(tmp_path):
    block = plain(bytes(100), length=24)
    report, sentences = checked(written(tmp_path, block, last=[block], unfinalised=37))
    assert (report.sound, report.plain, sentences) == (True, 1, ())


def test_a_file_that_was_cut_is_named(tmp_path):
    block = plain(bytes(100))
    path = written(tmp_path, block, last=[block])
    path.write_bytes(path.read_bytes()[:-10])
    assert "the file ends after 114 of them" in checked(path)[1][0]
    for size in (0, 63, 64, 100):
        path.write_bytes(path.read_bytes()[:size])
        assert len(checked(path)[1]) == 1


def test_strict_findings_raise(tmp_path):
    with pytest.raises(LogDamaged, match="linked from offset"):
        check_blocks(written(tmp_path, 7), Findings(strict=True))
