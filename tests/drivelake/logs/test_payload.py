import sqlite3

import pytest

from drivelake.errors import LogDamaged
from drivelake.logs import PayloadReader, read_log
from drivelake.logs.bags.ros1 import read_ros1
from drivelake.logs.bags.sqlite import read_sqlite
from drivelake.logs.findings import Findings
from drivelake.logs.payload import CACHE_CHUNKS
from tests.drivelake.logs.bags.making import picture, write_db3, write_ros1
from tests.drivelake.logs.making import drive_mcap

BAGS = ("ros1", "ros1 bz2", "ros1 lz4", "ros2", "ros2 zstd")


@pytest.fixture
def log(tmp_path):
    path = tmp_path / "log.mcap"
    path.write_bytes(drive_mcap(enable_data_crcs=False))
    return path


def pointers(path):
    return [
        (row["payload_chunk"], row["payload_offset"], row["payload_bytes"])
        for batch in read_log(path, channels=["/camera"])
        for row in batch.batch.to_pylist()
    ]


def test_a_chunk_that_rotted_after_the_signals_were_made_is_refused(log):
    first = pointers(log)[0]
    data = bytearray(log.read_bytes())
    data[first[0] + 200] ^= 1
    log.write_bytes(data)
    with PayloadReader(log) as reader, pytest.raises(LogDamaged, match=f"chunk at offset {first[0]}"):
        reader.read(*first)


def test_a_pointer_beyond_its_chunk_is_refused(log):
    chunk, offset, size = pointers(log)[0]
    with PayloadReader(log) as reader, pytest.raises(LogDamaged, match=r"ends after \d+ bytes"):
        reader.read(chunk, offset + (1 << 20), size)
    with PayloadReader(log) as reader, pytest.raises(LogDamaged, match="ends after 0 bytes"):
        reader.read(-1, 1 << 40, 10)


def test_a_pointer_to_something_else_than_a_chunk_is_refused(log):
    with PayloadReader(log) as reader:
        with pytest.raises(LogDamaged, match="expected a chunk"):
            reader.read(8, 0, 1)
        with pytest.raises(LogDamaged, match="The file ends before"):
            reader.read(1 << 40, 0, 1)


def test_only_a_few_chunks_are_kept_and_order_does_not_matter(log):
    places = pointers(log)
    assert len({chunk for chunk, _, _ in places}) > CACHE_CHUNKS
    with PayloadReader(log) as reader:
        forward = [reader.read(*place) for place in places]
        assert len(reader._chunks) == CACHE_CHUNKS
        assert [reader.read(*place) for place in reversed(places)] == forward[::-1]


@pytest.fixture(params=BAGS)
def bag(request, tmp_path):
    """A bag with 20 pictures, and their pointers."""
    form, _, compression = request.param.partition(" ")
    if form == "ros1":
        path, read = write_ros1(tmp_path / "a.bag", compression=compression.upper() or None), read_ros1
    else:
        path, read = write_db3(tmp_path / "bag", compressed=bool(compression)), read_sqlite
    batches = list(read(path, wanted="/camera".__eq__, batch_rows=6, leftovers=None, findings=Findings(strict=True)))
    rows = [row for batch in batches for row in batch.batch.to_pylist()]
    return path, [(row["payload_chunk"], row["payload_offset"], row["payload_bytes"]) for row in rows]


def test_pointers_into_bags_lead_to_the_pictures_in_any_order(bag):
    path, places = bag
    truth = [picture(number).data.tobytes() for number in range(1, 60, 3)]
    with PayloadReader(path) as reader:
        assert [reader.read(*place) for place in places] == truth
        assert [reader.read(*place) for place in reversed(places)] == truth[::-1]
        assert len(reader._chunks) <= CACHE_CHUNKS


def test_a_pointer_beyond_its_message_or_to_nothing_is_refused_in_bags(bag):
    path, [(chunk, offset, size), *_] = bag
    with PayloadReader(path) as reader:
        for place in (
            (chunk, offset + (1 << 30), size),
            (chunk, offset, 1 << 30),
            (1 << 40, 0, 1),
            (-5, 0, 1),
            (5000, 0, 1),
            (chunk, -1, 1),
            (chunk, 0, -1),
        ):
            with pytest.raises(LogDamaged):
                reader.read(*place)
        assert len(reader.read(chunk, offset, size)) == size


def test_a_chunk_of_a_bag_that_rotted_after_the_signals_were_made_is_refused(tmp_path):
    path = write_ros1(tmp_path / "a.bag", compression="BZ2")
    batches = read_ros1(path, wanted="/camera".__eq__, batch_rows=99, leftovers=None, findings=Findings(strict=True))
    row = next(iter(batches)).batch.to_pylist()[0]
    data = bytearray(path.read_bytes())
    data[row["payload_chunk"] + 600] ^= 1
    path.write_bytes(data)
    with PayloadReader(path) as reader, pytest.raises(LogDamaged, match=r"does not decompress|opens to"):
        reader.read(row["payload_chunk"], row["payload_offset"], row["payload_bytes"])


def test_pointers_into_a_cut_bag_lead_to_what_was_recovered(tmp_path):
    for path, read in ((write_ros1(tmp_path / "a.bag"), read_ros1), (write_db3(tmp_path / "bag", 300), read_sqlite)):
        data = path.read_bytes()
        path.write_bytes(data[: len(data) * 2 // 3])
        batches = list(read(path, wanted="/camera".__eq__, batch_rows=999, leftovers=None, findings=Findings()))
        rows = [row for batch in batches for row in batch.batch.to_pylist()]
        assert rows
        truth = {picture(number).data.tobytes() for number in range(1, 300, 3)}
        with PayloadReader(path) as reader:
            assert {reader.read(row["payload_chunk"], row["payload_offset"], row["payload_bytes"]) for row in rows} <= truth


def test_a_damaged_message_behind_a_sound_start_is_refused(tmp_path):
    path = write_db3(tmp_path / "bag", compressed=True)
    content = b"\x28\xb5\x2f\xfd" + bytes(60_000)
    with sqlite3.connect(path) as bag:
        bag.execute("UPDATE messages SET data = ? WHERE id = 2", (content,))
    data = bytearray(path.read_bytes())
    overflow = [page for page in range(len(data) // 4096) if not any(data[page * 4096 + 4 : page * 4096 + 4096])]
    data[overflow[3] * 4096 : overflow[3] * 4096 + 4] = (1 << 24).to_bytes(4, "big")
    path.write_bytes(data)
    with PayloadReader(path) as reader, pytest.raises(LogDamaged, match="Row 2 of the messages cannot be read"):
        reader.read(2, 0, 10)
