import zlib
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivelake.errors import LogDamaged
from drivelake.logs.findings import Findings
from drivelake.logs.mdf.blocks import MdfFile
from drivelake.logs.mdf.pieces import LOST, PLAIN, inflate, pieces_of
from tests.drivelake.logs.mdf.mdf_blocks import Block, data_group, equal_list, offset_list, packed, plain, text, write_blocks

PARTS = [bytes([number]) * 40 for number in range(1, 6)]


def opened(tmp_path, data, **options):
    return MdfFile(write_blocks(tmp_path / "log.mf4", data_group([], data), **options))


def read(file, data):
    """Findings, pieces, and the bytes of the stream; None for lost ones."""
    findings = Findings()
    found = pieces_of(file, data.offset, findings, "group 0")
    assert [piece.place for piece in found] == np.cumsum([0, *(piece.size for piece in found)])[:-1].tolist()
    return findings, found, [None if piece.packing == LOST else bytes(inflate(file, piece)) for piece in found]


def offsets(parts):
    return np.cumsum([0, *map(len, parts)])[:-1].tolist()


def test_no_link_is_no_stream(tmp_path):
    file = opened(tmp_path, plain(b"x"))
    assert pieces_of(file, 0, Findings(strict=True), "group 0") == ()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    parts=st.lists(st.tuples(st.binary(min_size=0, max_size=200), st.sampled_from([-1, 0, 1])), min_size=1, max_size=8),
    equal=st.booleans(),
    split=st.integers(0, 8),
    wrapped=st.booleans(),
)
def test_a_stream_is_whole_however_it_is_stored(tmp_path, parts, equal, split, wrapped):
    if equal:
        parts = [(data[:9].ljust(9), method) for data, method in parts[:-1]] + [(parts[-1][0][:9], parts[-1][1])]
    blocks = [plain(data) if method == -1 else packed(data, method=method, columns=1) for data, method in parts]
    places = offsets([data for data, _ in parts])
    second = equal_list(blocks[split:], 9) if equal else offset_list(blocks[split:], places[split:])
    first = (
        equal_list(blocks[:split], 9, following=second)
        if equal
        else offset_list(blocks[:split], places[:split], following=second)
    )
    data = Block("HL", [first], bytes(8)) if wrapped else first
    file = opened(tmp_path, data)
    findings, _, found = read(file, data)
    assert findings.sentences == ()
    assert b"".join(found) == b"".join(data for data, _ in parts)


def test_plain_data_are_a_view_and_packed_ones_know_their_rows(tmp_path):
    blocks = [plain(b"ab"), packed(b"cdefgh", method=1, columns=3)]
    data = offset_list(blocks, [0, 2])
    file = opened(tmp_path, data)
    _, (first, second), _ = read(file, data)
    assert (first.packing, first.stored, first.offset) == (PLAIN, 2, blocks[0].offset + 24)
    assert (second.packing, second.columns, second.size, second.kind) == (1, 3, 6, "DT")


@pytest.mark.parametrize("place", range(0, 60, 7))
def test_no_flipped_bit_of_packed_data_passes(tmp_path, place):
    whole = np.random.default_rng(2).integers(0, 4, 200, np.uint8).tobytes()
    block = packed(whole)
    file = opened(tmp_path, block)
    (piece,) = pieces_of(file, block.offset, Findings(strict=True), "group 0")
    raw = bytearray(file.path.read_bytes())
    raw[piece.offset + place % piece.stored] ^= 1 << place % 8
    file.path.write_bytes(raw)
    try:
        found = zlib.decompress(raw[piece.offset : piece.offset + piece.stored])
    except zlib.error:
        found = None
    if found == whole:
        # bits of the zlib header that say nothing about the data
        assert bytes(inflate(MdfFile(file.path), piece)) == whole
    else:
        with pytest.raises(LogDamaged, match="compressed data at offset"):
            inflate(MdfFile(file.path), piece)


@pytest.mark.parametrize("size", [0, 1, 199, 201, 10_000])
def test_packed_data_of_another_size_than_declared_are_refused(tmp_path, size):
    block = packed(bytes(200))
    file = opened(tmp_path, block)
    (piece,) = pieces_of(file, block.offset, Findings(strict=True), "group 0")
    with pytest.raises(LogDamaged, match=f"declares {size}"):
        inflate(file, replace(piece, size=size))


@pytest.mark.parametrize("listed", ["equal", "offsets"])
def test_a_lost_block_whose_size_the_list_knows_shifts_nothing(tmp_path, listed):
    blocks = [packed(part) for part in PARTS]
    blocks[2] = text("no data")
    data = equal_list(blocks, 40) if listed == "equal" else offset_list(blocks, offsets(PARTS))
    file = opened(tmp_path, data)
    findings, _, found = read(file, data)
    assert found == [PARTS[0], PARTS[1], None, PARTS[3], PARTS[4]]
    assert len(findings.sentences) == 1
    assert "The data of group 0: At offset" in findings.sentences[0]


def test_a_lost_piece_says_so_when_it_is_inflated(tmp_path):
    blocks = [text("no data"), plain(PARTS[0]), plain(PARTS[1])]
    data = equal_list(blocks, 40)
    file = opened(tmp_path, data)
    with pytest.raises(
        LogDamaged, match=f"40 bytes from byte 0 of the stream on are lost with the block at offset {blocks[0].offset}"
    ):
        inflate(file, pieces_of(file, data.offset, Findings(), "group 0")[0])


def test_the_last_block_of_a_list_can_be_lost_with_what_it_held(tmp_path):
    blocks = [*map(plain, PARTS[:3]), text("no data")]
    data = equal_list(blocks, 40)
    findings, _, found = read(opened(tmp_path, data), data)
    assert found == PARTS[:3]
    assert len(findings.sentences) == 1


def test_one_wrong_offset_in_a_list_is_told_and_costs_nothing(tmp_path):
    places = offsets(PARTS)
    places[2] += 13
    data = offset_list([*map(plain, PARTS)], places)
    findings, _, found = read(opened(tmp_path, data), data)
    assert found == PARTS
    assert "the list says that the block" in findings.sentences[0]


def test_one_wrong_length_of_all_blocks_is_told_and_costs_nothing(tmp_path):
    data = equal_list([*map(plain, PARTS)], 41)
    findings, _, found = read(opened(tmp_path, data), data)
    assert found == PARTS
    assert "holds 41 bytes, it holds 40" in findings.sentences[0]


def test_packed_data_that_inflate_are_right_against_their_list(tmp_path):
    parts = [*PARTS[:3], PARTS[3] + b"more", PARTS[4]]
    data = equal_list([*map(packed, parts)], 40)
    findings, _, found = read(opened(tmp_path, data), data)
    assert found == parts
    assert len(findings.sentences) == 1


@pytest.mark.parametrize("length", [24, 40, 63, 65, 72, 1 << 40, (1 << 64) - 1])
def test_a_block_with_a_wrong_length_is_lost_and_shifts_nothing(tmp_path, length):
    blocks = [*map(plain, PARTS)]
    blocks[1].length = length
    data = offset_list(blocks, offsets(PARTS))
    findings, _, found = read(opened(tmp_path, data), data)
    assert found == [PARTS[0], None, *PARTS[2:]]
    assert "its list says 40" in findings.sentences[0]


def test_a_stream_ends_where_nothing_says_which_of_two_lengths_is_wrong(tmp_path):
    data = offset_list([plain(PARTS[0]), plain(PARTS[1]), plain(PARTS[2])], [0, 40, 88])
    findings, _, found = read(opened(tmp_path, data), data)
    assert found == PARTS[:1]
    assert len(findings.sentences) == 1


def test_data_of_another_kind_are_lost(tmp_path):
    data = equal_list([plain(PARTS[0]), plain(PARTS[1], "SD"), plain(PARTS[2])], 40)
    findings, _, found = read(opened(tmp_path, data), data)
    assert found == [PARTS[0], None, PARTS[2]]
    assert "stand SD data, the stream holds DT data" in findings.sentences[0]


@pytest.mark.parametrize("following", ["itself", "text", "outside"])
def test_a_broken_chain_of_lists_keeps_what_came_before(tmp_path, following):
    data = equal_list([plain(PARTS[0]), plain(PARTS[1])], 40)
    data.links[0] = {"itself": data, "text": text("no list"), "outside": 1 << 50}[following]
    findings, _, found = read(opened(tmp_path, data), data)
    assert found == PARTS[:2]
    assert len(findings.sentences) == 1


def test_a_list_that_lists_another_number_is_refused(tmp_path):
    data = equal_list([plain(PARTS[0])], 40, count=2)
    findings, found, _ = read(opened(tmp_path, data), data)
    assert found == ()
    assert "says that it lists 2 blocks, it has 1 links" in findings.sentences[0]


def test_strict_findings_raise_at_the_first_contradiction(tmp_path):
    data = equal_list([plain(PARTS[0]), text("no data"), plain(PARTS[1])], 40)
    file = opened(tmp_path, data)
    with pytest.raises(LogDamaged, match="The data of group 0"):
        pieces_of(file, data.offset, Findings(strict=True), "group 0")


@pytest.mark.parametrize(
    ("block", "reason"),
    [
        (packed(bytes(100), size=1 << 50), "deflate packs 1032 to 1"),
        (packed(bytes(100), method=1, columns=0), "does not say how long its rows are"),
        (packed(bytes(100), method=4), "packed by method 4"),
        (packed(bytes(100), "CN"), "says it replaces a block b'CN'"),
        (Block("DZ", [], bytes(10)), "has 10 bytes of content"),
    ],
)
def test_packed_data_that_cannot_be_are_refused_before_they_are_inflated(tmp_path, block, reason):
    findings, found, _ = read(opened(tmp_path, block), block)
    assert found == ()
    assert reason in findings.sentences[0]


def test_a_plain_block_that_the_end_of_the_file_cuts_keeps_what_is_there(tmp_path):
    block = plain(bytes(range(100)))
    file = opened(tmp_path, block, last=[block])
    file.path.write_bytes(file.path.read_bytes()[:-30])
    findings, _, found = read(MdfFile(file.path), block)
    assert found == [bytes(range(70))]
    assert "holds 100 bytes, the file ends after 70 of them" in findings.sentences[0]


def test_an_open_last_block_reaches_to_the_end_of_the_file(tmp_path):
    block = plain(bytes(range(100)), length=24)
    file = opened(tmp_path, block, last=[block], unfinalised=4)
    findings, _, found = read(file, block)
    assert (found, findings.sentences) == ([bytes(range(100))], ())
    file = opened(tmp_path, block, last=[block])
    assert read(file, block)[2] == []


def test_an_open_block_ends_where_the_next_one_begins(tmp_path):
    block, behind = plain(bytes(range(96)), length=24), text("behind")
    holder = data_group([], block)
    holder.links[3] = behind
    file = MdfFile(write_blocks(tmp_path / "log.mf4", holder, last=[block, behind], unfinalised=4))
    assert read(file, block)[2] == [bytes(range(96))]


def test_blocks_that_an_open_list_does_not_name_yet_are_found(tmp_path):
    blocks = [packed(part) for part in PARTS]
    data = offset_list([*blocks[:2], None, None], [0, 40, 0, 0])
    file = opened(tmp_path, data, last=blocks, unfinalised=16)
    findings, _, found = read(file, data)
    assert (found, findings.sentences) == (PARTS, ())
