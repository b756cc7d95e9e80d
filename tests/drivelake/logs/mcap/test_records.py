"""One record at a time: nothing is short, nothing grows beyond what was declared."""

import struct
import tracemalloc
import zlib

import lz4.frame
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from mcap.data_stream import RecordBuilder
from mcap.records import Channel, ChunkIndex

from drivelake.errors import LogDamaged
from drivelake.logs.mcap.records import (
    CHUNK_BYTES_MAX,
    Chunk,
    decompressed,
    open_chunk,
    parse,
    parse_chunk,
    parse_chunk_index,
    parse_index,
)

COMPRESS = {"zstd": zstandard.compress, "lz4": lz4.frame.compress, "": bytes}


def chunk(data, compression, /, **wrong):
    fields = {"uncompressed_size": len(data), "uncompressed_crc": zlib.crc32(data), "compression": compression, **wrong}
    fields.setdefault("data", memoryview(COMPRESS[compression](data)))
    return Chunk(**fields)


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=3000), compression=st.sampled_from(sorted(COMPRESS)), checked=st.booleans())
def test_what_was_compressed_comes_back(data, compression, checked):
    made = chunk(data, compression) if checked else chunk(data, compression, uncompressed_crc=0)
    assert decompressed(made, 0).tobytes() == data == open_chunk(made, 0)


@settings(max_examples=120, deadline=None)
@given(data=st.binary(min_size=1, max_size=500), compression=st.sampled_from(["zstd", "lz4"]), place=st.integers(0, 1 << 20))
def test_one_flipped_bit_is_damage_or_changes_nothing(data, compression, place):
    bits = bytearray(COMPRESS[compression](data))
    bits[place // 8 % len(bits)] ^= 1 << place % 8
    told, found = "", data
    try:
        found = decompressed(chunk(data, compression, data=memoryview(bits)), 7).tobytes()
    except LogDamaged as damage:
        told = damage.message
    assert found == data
    assert told.startswith("The chunk at offset 7 " if told else "")


@pytest.mark.parametrize("compression", ["zstd", "lz4", ""])
@pytest.mark.parametrize("difference", [-1, 1])
@pytest.mark.parametrize("checked", [True, False])
def test_a_size_that_is_not_the_declared_one_is_damage_with_or_without_checksum(compression, difference, checked):
    data = bytes(range(200))
    wrong = {"uncompressed_size": 200 + difference} | ({} if checked else {"uncompressed_crc": 0})
    with pytest.raises(LogDamaged, match="at offset 7"):
        decompressed(chunk(data, compression, **wrong), 7)


@pytest.mark.parametrize("compression", ["zstd", "lz4"])
def test_a_bomb_is_not_inflated(compression):
    bomb = memoryview(COMPRESS[compression](bytes(1 << 26)))
    tracemalloc.start()
    with pytest.raises(LogDamaged, match="The chunk at offset 7 "):
        decompressed(chunk(bytes(1000), compression, data=bomb), 7)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 1 << 20


def test_a_declared_size_above_the_cap_is_refused_before_memory_is_asked_for():
    with pytest.raises(LogDamaged, match=f"declares {CHUNK_BYTES_MAX + 1} bytes, at most {CHUNK_BYTES_MAX} are read"):
        decompressed(chunk(b"abc", "zstd", uncompressed_size=CHUNK_BYTES_MAX + 1), 7)


def test_an_unknown_compression_is_named():
    with pytest.raises(LogDamaged, match="compression 'br' is unknown; known are zstd, lz4 and none"):
        decompressed(chunk(b"abc", "", compression="br"), 7)


@settings(max_examples=100, deadline=None)
@given(body=st.binary(max_size=120))
def test_any_bytes_are_a_record_or_damage(body):
    for read in (parse_chunk, parse_index, parse_chunk_index, lambda body, at: parse(Channel, body, at)):
        told = "at offset 7"
        try:
            read(memoryview(body), 7)
        except LogDamaged as damage:
            told = damage.message
        assert "at offset 7" in told


@settings(max_examples=50, deadline=None)
@given(
    numbers=st.lists(st.integers(0, 2**64 - 1), min_size=7, max_size=7),
    offsets=st.dictionaries(st.integers(0, 2**16 - 1), st.integers(0, 2**64 - 1), max_size=5),
    compression=st.text(max_size=5),
)
def test_a_chunk_index_is_read_as_the_reference_library_reads_it(numbers, offsets, compression):
    start, length, compressed, end, index_length, begin, size = numbers
    index = ChunkIndex(length, start, compression, compressed, end, index_length, offsets, begin, size)
    builder = RecordBuilder()
    index.write(builder)
    body = builder.end()[9:]
    assert parse_chunk_index(memoryview(body), 0) == index == parse(ChunkIndex, body, 0)


def test_an_index_whose_entries_are_no_whole_number_is_damage():
    with pytest.raises(LogDamaged, match="its entries of 16 bytes take 17"):
        parse_index(memoryview(struct.pack("<HI", 1, 17) + bytes(32)), 7)


def test_an_lz4_frame_without_its_end_is_damage_where_no_checksum_vouches_for_it():
    data = b"some telemetry " * 40
    whole = lz4.frame.compress(data)
    cut = chunk(data, "lz4", uncompressed_crc=0, data=memoryview(whole[:-4]))
    with pytest.raises(LogDamaged, match="frame does not end"):
        decompressed(cut, 0)
