import numpy as np
import pytest

from drivelake.errors import LogDamaged
from drivelake.logs.mdf.blocks import Head, MdfFile
from tests.drivelake.logs.mdf.mdf_blocks import Block, data_group, group, plain, text, write_blocks


def file_of(tmp_path, block, **options):
    """A file whose first data group links to a block as its comment."""
    holder = Block("DG", [None, None, None, block], bytes(8))
    return MdfFile(write_blocks(tmp_path / "log.mf4", holder, **options))


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("TX", b"speed\0\0\0", "speed"),
        ("TX", b" \tkm/h\r\n\0rest", "km/h"),
        ("TX", "Übergröße\0".encode(), "Übergröße"),
        ("TX", b"\0", ""),
        ("MD", b"<CNunit xmlns='http://www.asam.net/mdf/v4'>\n <TX>m/s &lt;2&gt;</TX>\n</CNunit>\0", "m/s <2>"),
        ("MD", b"<CNunit><other>1</other></CNunit>\0", ""),
        ("MD", b"plain\0", "plain"),
    ],
)
def test_a_text_is_read_without_what_surrounds_it(tmp_path, name, data, expected):
    block = Block(name, [], data)
    assert file_of(tmp_path, block).text(block.offset) == expected


@pytest.mark.parametrize(("links", "data"), [([], b""), ([], b"a name that is cu"), ([0], b"me behind a link\0")])
def test_a_text_whose_length_or_links_are_wrong_is_no_text(tmp_path, links, data):
    block = Block("TX", links, data)
    with pytest.raises(LogDamaged, match=r"no zero that closes it|links, expected none"):
        file_of(tmp_path, block).text(block.offset)


def test_no_link_is_no_text(tmp_path):
    assert file_of(tmp_path, None).text(0) == ""


def test_a_text_that_is_not_utf_8_is_taken_as_latin_1_and_counted(tmp_path):
    block = Block("TX", [], b"\xb0C\0")
    file = file_of(tmp_path, block)
    assert [file.text(block.offset), file.text(block.offset)] == ["°C", "°C"]
    assert file.odd_texts == 1


def test_a_block_is_whole_or_refused(tmp_path):
    sound = Block("TX", [], b"12345678")
    block = file_of(tmp_path, sound).block(sound.offset, "TX")
    assert (block.id, block.length, block.links, bytes(block.data)) == ("TX", 32, (), b"12345678")
    cut = Block("TX", [], b"12345678", length=33)
    file = file_of(tmp_path, cut)
    assert file.head(cut.offset, "TX").length == 33
    with pytest.raises(LogDamaged, match="has 33 bytes, the file ends after 32 of them"):
        file.block(cut.offset)


@pytest.mark.parametrize("offset", [-1, 0, 63, 10**18, (1 << 64) - 1])
def test_a_link_out_of_the_file_is_refused(tmp_path, offset):
    with pytest.raises(LogDamaged, match="should stand at offset"):
        file_of(tmp_path, None).head(offset)


def test_a_block_of_another_kind_is_refused_with_its_name(tmp_path):
    block = text("x")
    with pytest.raises(LogDamaged, match=r"stands b'##TX', expected a CN or CA block"):
        file_of(tmp_path, block).head(block.offset, "CN", "CA")
    with pytest.raises(LogDamaged, match="expected a block"):
        file_of(tmp_path, block).head(72)


@pytest.mark.parametrize("links", [3, 1 << 61, (1 << 64) - 1])
def test_links_that_do_not_fit_are_refused_before_they_are_read(tmp_path, links):
    block = text("x")
    file = file_of(tmp_path, block)
    data = bytearray(file.path.read_bytes())
    data[block.offset + 16 : block.offset + 24] = links.to_bytes(8, "little")
    file.path.write_bytes(data)
    with pytest.raises(LogDamaged, match=f"its {links} links do not fit"):
        MdfFile(file.path).head(block.offset)


def test_views_stay_valid_behind_the_end_of_the_file(tmp_path):
    block = text("kept")
    with file_of(tmp_path, block) as file:
        view = np.frombuffer(file.block(block.offset).data, np.uint8)
    assert view.tobytes() == b"kept\0"


def test_released_bytes_are_read_again(tmp_path):
    data = np.random.default_rng(1).bytes(100_000)
    block = plain(data)
    file = file_of(tmp_path, block)
    view = file.bytes_at(block.offset + 24, len(data))
    file.release(block.offset, 10 * len(data))
    assert bytes(view) == data


def test_the_walk_passes_every_block_once_and_ends_in_a_circle(tmp_path):
    first, second = text("a"), Block("TX", [], b"b")
    ring = data_group([group([], name=first), group([], name=second)])
    ring.links[0] = ring
    ring.links[3] = 7
    file = MdfFile(write_blocks(tmp_path / "log.mf4", ring))
    found = list(file.walk())
    assert len({offset for offset, _, _ in found}) == len(found)
    assert sorted(head.id for _, _, head in found if isinstance(head, Head)) == ["CG", "CG", "DG", "HD", "TX", "TX"]
    assert [(offset, source) for offset, source, head in found if isinstance(head, LogDamaged)] == [(7, ring.offset)]


def test_the_next_block_ends_a_block_of_unknown_length(tmp_path):
    block = plain(bytes(16))
    file = file_of(tmp_path, block, last=[block])
    assert file.next_block(64) > 64
    assert file.next_block(block.offset) == file.size


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (0, b"MDG     ", "The file begins with b'MDG     '"),
        (8, b"3.30    " + bytes(12) + b"\x4a\x01", "says that its version is b'3.30'"),
    ],
)
def test_another_kind_of_file_is_refused(tmp_path, place, value, reason):
    file = file_of(tmp_path, None)
    data = bytearray(file.path.read_bytes())
    data[place : place + len(value)] = value
    file.path.write_bytes(data)
    with pytest.raises(LogDamaged, match=reason):
        MdfFile(file.path)


def test_a_file_of_a_few_bytes_is_refused(tmp_path):
    for size in (0, 1, 63):
        path = tmp_path / "short.mf4"
        path.write_bytes(b"MDF     "[:size].ljust(size, b"\0"))
        with pytest.raises(LogDamaged, match=f"The file has {size} bytes"):
            MdfFile(path)


def test_an_unfinalised_file_that_does_not_say_what_is_open_has_everything_open(tmp_path):
    assert file_of(tmp_path, None, unfinalised=37).unfinalised == 37
    assert file_of(tmp_path, None, name=b"UnFinMF ").unfinalised == 0b111_1111
    assert file_of(tmp_path, None).unfinalised == 0
