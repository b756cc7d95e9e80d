import pytest

from drivelake.errors import LogDamaged
from drivelake.logs import PayloadReader, read_log
from drivelake.logs.payload import CACHE_CHUNKS
from tests.drivelake.logs.making import drive_mcap


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
