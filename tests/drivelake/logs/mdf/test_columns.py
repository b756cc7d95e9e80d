"""Bytes of records become the values that the format says they are, whatever their layout."""

import json
import struct
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from drivelake.logs.mdf.cells import cell_of, decode, gather, odd, plain_type
from drivelake.logs.mdf.columns import columns_of, conversion_json, master_of, unread
from drivelake.logs.mdf.decoding import GroupColumns, Window
from drivelake.logs.mdf.model import Channel, Conversion, Group
from drivelake.logs.mdf.naming import column_names, table_names
from drivelake.logs.mdf.physical import to_physical
from drivelake.logs.mdf.stamps import stamps_ns

START_NS = 1_700_000_000 * 10**9
TIME = Channel("t", 2, 1, 4, 0, 0, 64, None, None, "s", 0, (), (), (), 1, "")
LETTERS = st.characters(exclude_characters="\0", exclude_categories=["Cs"])
VALUE = replace(TIME, name="x", kind=0, sync=0, data_type=0, byte_offset=8, bit_count=8, unit="", offset=2)


def channel(**changes):
    return replace(VALUE, **changes)


def group(*channels, record_bytes=40, invalid_bytes=0):
    return Group(0, "", 0, record_bytes, invalid_bytes, 0, 0, 0, 0, (TIME, *channels), 0)


def rows_of(records, *, transposed):
    """(n, bytes), in memory row by row or column by column."""
    rows = np.frombuffer(b"".join(records), np.uint8).reshape(len(records), -1)
    return np.ascontiguousarray(rows.T).T if transposed else rows


def table(columns, records, *, transposed=False, streams=None):
    """All records through the columns of a group, as a batch."""
    cells = columns.empty(len(records))
    columns.gather(rows_of(records, transposed=transposed), cells, 0)
    found = columns.decode(Window(cells, 0, len(records)), streams or {})
    found.batch.validate(full=True)
    return found


def columns_for(*channels, **sizes):
    made = group(*channels, **sizes)
    return GroupColumns(made, TIME, columns_of(made, None), START_NS, 1000)


def one_column(found, records, **sizes):
    """Values of the one channel of a group."""
    return table(columns_for(found, **sizes), records).batch.column(1)


def records(count, size=40):
    return st.lists(st.binary(min_size=size, max_size=size), min_size=count, max_size=count)


@settings(max_examples=200, deadline=None)
@given(
    found=records(6, 20),
    at=st.integers(0, 8),
    bit=st.integers(0, 7),
    bits=st.integers(1, 64),
    kind=st.integers(0, 3),
    transposed=st.booleans(),
)
def test_integers_at_any_bit_are_what_python_reads(found, at, bit, bits, kind, transposed):
    one = channel(byte_offset=at, bit_offset=bit, bit_count=bits, data_type=kind)
    assert odd(one) == ""
    cell = cell_of(one)
    out = cell.empty(len(found))
    gather(rows_of(found, transposed=transposed), [cell], [out], 0)
    size = -(-(bit + bits) // 8)
    order = "big" if kind in (1, 3) else "little"
    values = [int.from_bytes(record[at : at + size], order) >> bit & (1 << bits) - 1 for record in found]
    if kind in (2, 3):
        values = [value - (1 << bits) if value >> bits - 1 else value for value in values]
    assert decode(one, out).tolist() == values


@settings(deadline=None)
@given(found=records(5, 12), bits=st.sampled_from([16, 32, 64]), big=st.booleans(), bit=st.integers(0, 7))
def test_floats_are_what_struct_unpacks(found, bits, big, bit):
    one = channel(byte_offset=1, bit_offset=bit, bit_count=bits, data_type=5 if big else 4)
    cell = cell_of(one)
    out = cell.empty(len(found))
    gather(rows_of(found, transposed=False), [cell], [out], 0)
    order, size = "big" if big else "little", -(-(bit + bits) // 8)
    whole = [int.from_bytes(record[1 : 1 + size], order) >> bit & (1 << bits) - 1 for record in found]
    values = [struct.unpack("<" + {16: "e", 32: "f", 64: "d"}[bits], value.to_bytes(bits // 8, "little"))[0] for value in whole]
    assert np.array_equal(decode(one, out), np.array(values, f"f{bits // 8}"), equal_nan=True)


@settings(deadline=None)
@given(data=st.data(), count=st.integers(1, 50), tile=st.integers(1, 60), transposed=st.booleans())
def test_values_do_not_depend_on_tiles_and_on_where_rows_begin(data, count, tile, transposed):
    rows = data.draw(hnp.arrays(np.uint8, (count, 24)))
    layout = np.ascontiguousarray(rows.T).T if transposed else rows
    cells = [
        cell_of(channel(byte_offset=at, bit_count=bits, data_type=kind))
        for at, bits, kind in ((0, 16, 0), (3, 16, 1), (5, 24, 0), (8, 24, 3), (11, 64, 4), (19, 8, 2), (2, 72, 10))
    ]
    cut = data.draw(st.integers(0, count))
    out = [cell.empty(count) for cell in cells]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("drivelake.logs.mdf.cells.PLANE_TILE_ROWS", tile)
        patch.setattr("drivelake.logs.mdf.cells.ROW_TILE_BYTES", tile)
        gather(layout[:cut], cells, out, 0)
        gather(layout[cut:], cells, out, cut)
    for cell, found in zip(cells, out, strict=True):
        whole = rows[:, cell.offset : cell.offset + cell.width]
        assert found.view(np.uint8).reshape(count, -1)[:, cell.inset : cell.inset + cell.width].tolist() == whole.tolist()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"data_type": 4, "bit_count": 24}, "it is of data type 4 and has 24 bits at bit 0"),
        ({"data_type": 0, "bit_count": 72, "bit_offset": 1}, "it is of data type 0 and has 72 bits at bit 1"),
        ({"data_type": 7, "bit_count": 12}, "it is of data type 7 and has 12 bits at bit 0"),
        ({"data_type": 15, "bit_count": 32}, "it is of data type 15 and has 32 bits at bit 0"),
        ({"kind": 1, "data_type": 4, "bit_count": 64}, "its values vary in length and are of data type 4"),
        ({"shape": (3,), "strides": (2,), "bit_count": 12}, "it is an array, and it is of data type 0 and has 12 bits at bit 0"),
        ({"kind": 9}, "it is of channel type 9"),
        ({"unread": "for a reason"}, "for a reason"),
        (
            {"data_type": 10, "conversion": Conversion(1, (0.0, 2.0), (), "")},
            "it is of data type 10 and has a conversion of type 1",
        ),
        (
            {"data_type": 15, "bit_count": 64, "conversion": Conversion(1, (0.0, 2.0), (), "")},
            "it is of data type 15 and has a conversion of type 1",
        ),
        ({"conversion": Conversion(11, (), (), "")}, "a conversion of type 11"),
    ],
)
def test_what_is_not_read_here_says_why(change, reason):
    assert unread(channel(**change)) == reason


@pytest.mark.parametrize("kind", range(6))
@pytest.mark.parametrize("bits", [8, 16, 32, 64])
def test_values_that_are_their_bytes_are_given_without_a_copy(kind, bits):
    one = channel(data_type=kind, bit_count=bits)
    if kind in (4, 5) and bits == 8:
        assert plain_type(one) is None
        return
    found = [bytes(8) + struct.pack(">Q", 0x4031_2243_3441_5162 >> 64 - bits << 64 - bits).ljust(32, b"\0")] * 3
    columns = columns_for(one)
    cells = columns.empty(3)
    columns.gather(rows_of(found, transposed=True), cells, 0)
    column = columns.decode(Window(cells, 0, 3), {}).batch.column(1)
    shared = any(column.buffers()[1].address == cell.ctypes.data for cell in cells)
    assert shared == (kind in (0, 2, 4) or bits == 8)
    assert column.to_pylist() == [np.frombuffer(found[0][8 : 8 + bits // 8], plain_type(one))[0]] * 3


def test_channels_in_the_same_byte_do_not_use_up_each_others_bits():
    flags = [channel(name=f"f{bit}", bit_offset=bit, bit_count=1, offset=10 + bit) for bit in range(8)]
    whole = channel(name="all", offset=20)
    columns = columns_for(*flags, whole)
    batch = table(columns, [bytes(8) + bytes([value]) + bytes(31) for value in (0b1010_0110, 0b0000_0001)]).batch
    assert [batch.column(f"f{bit}").to_pylist() for bit in range(8)] == [
        [0, 1],
        [1, 0],
        [1, 0],
        [0, 0],
        [0, 0],
        [1, 0],
        [0, 0],
        [1, 0],
    ]
    assert batch.column("all").to_pylist() == [0b1010_0110, 1]


@given(
    words=st.lists(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=4), min_size=1, max_size=6)
)
@pytest.mark.parametrize(("kind", "encoding"), [(7, "utf-8"), (8, "utf-16-le"), (9, "utf-16-be")])
@settings(deadline=None, max_examples=30)
def test_fixed_text_ends_at_its_closing_zeros(words, kind, encoding):
    found = [bytes(8) + word.encode(encoding).ljust(32, b"\0") for word in words]
    assert one_column(channel(data_type=kind, bit_count=256), found).to_pylist() == words


def test_latin_1_text_and_bytes_that_are_no_utf_8_stay_visible():
    found = [bytes(8) + b"Gr\xfc\xdfe".ljust(32, b"\0")]
    assert one_column(channel(data_type=6, bit_count=64), found).to_pylist() == ["Grüße"]
    assert one_column(channel(data_type=7, bit_count=64), found).to_pylist() == ["Gr\\xfc\\xdfe"]


def test_invalid_samples_are_null_and_no_others():
    one = channel(invalid_bit=11)
    found = [bytes(9) + bytes([0, invalid << 3 | 0b111]) for invalid in (0, 1, 1, 0)]
    column = one_column(one, found, record_bytes=9, invalid_bytes=2)
    assert column.to_pylist() == [0, None, None, 0]
    assert one_column(replace(one, invalid_bit=-1), found, record_bytes=9, invalid_bytes=2).to_pylist() == [None] * 4


def test_an_array_with_gaps_is_a_list_in_the_order_of_its_dimensions():
    values = np.arange(12, dtype=">i2").reshape(2, 6)
    one = channel(data_type=3, bit_count=16, shape=(2, 2), strides=(2, 6))
    found = [bytes(8) + row.tobytes().ljust(32, b"\0") for row in values]
    assert one_column(one, found).to_pylist() == [[0, 3, 1, 4], [6, 9, 7, 10]]


def test_an_array_of_bytes_without_conversion_is_bytes():
    one = channel(bit_count=8, shape=(3,), strides=(1,))
    assert one_column(one, [bytes(8) + b"abc".ljust(32)]).to_pylist() == [b"abc"]
    scaled = replace(one, conversion=Conversion(1, (1.0, 2.0), (), ""))
    batch = to_physical(table(columns_for(scaled), [bytes(8) + b"\1\2\3".ljust(32)]).batch)
    assert batch.column("x").to_pylist() == [[3.0, 5.0, 7.0]]


def test_complex_numbers_are_two_columns():
    found = [bytes(8) + struct.pack(">ff", 1.5, -2.0).ljust(32, b"\0")]
    batch = table(columns_for(channel(data_type=16, bit_count=64, unit="A")), found).batch
    assert batch.to_pydict() == {"t_ns": [START_NS], "x.real": [1.5], "x.imag": [-2.0]}
    assert batch.schema.field("x.imag").metadata[b"source_unit"] == b"A"


def test_canopen_dates_and_times_have_all_their_bits():
    date = bytes(8) + struct.pack("<HBBBBB", 59_999, 0xC0 | 59, 0x80 | 23, 5 << 5 | 31, 0xC0 | 12, 0x80 | 99).ljust(32, b"\0")
    time = bytes(8) + struct.pack("<IH", 0xF000_0000 | 86_399_999, 15_000).ljust(32, b"\0")
    found = table(columns_for(channel(data_type=13, bit_count=56)), [date]).batch.to_pylist()[0]
    assert [found[f"x.{part}"] for part in ("ms", "min", "hour", "day", "month", "year")] == [59_999, 59, 23, 31, 12, 99]
    assert (found["x.summer_time"], found["x.day_of_week"]) == (1, 5)
    found = table(columns_for(channel(data_type=14, bit_count=48)), [time]).batch.to_pylist()[0]
    assert (found["x.ms"], found["x.days"]) == (86_399_999, 15_000)


def test_maximum_length_data_end_where_another_channel_says():
    size = channel(name="size", bit_count=8, offset=5)
    data = channel(name="data", kind=5, data_type=10, byte_offset=9, bit_count=32, data=5, offset=6)
    words = channel(name="words", kind=5, data_type=7, byte_offset=9, bit_count=32, data=5, offset=7)
    found = [bytes(8) + bytes([length]) + b"abcd".ljust(31) for length in (0, 3, 4, 5)]
    decoded = table(columns_for(size, data, words), found)
    assert decoded.batch.to_pydict()["data"] == [b"", b"abc", b"abcd"]
    assert decoded.batch.to_pydict()["words"] == ["", "abc", "abcd"]
    assert ("Channel 'data' of group 0 has no value where record 3 says that it is.", 1) in decoded.wrong


def test_a_record_with_an_impossible_time_is_left_out_and_told():
    found = [struct.pack("<dB31x", seconds, i) for i, seconds in enumerate((0.0, float("nan"), 2.0, 1e300, float("-inf")))]
    decoded = table(columns_for(VALUE), found)
    assert decoded.batch.column("x").to_pylist() == [0, 2]
    sentence = "Group 0 has the time nan s at record 1. 3 of the records 0 to 4 have no possible time."
    assert decoded.wrong == ((sentence, 3),)


@given(seconds=hnp.arrays(np.float64, st.integers(0, 40), elements=st.floats(-1e9, 1e9)), start=st.integers(0, 2 * 10**18))
def test_stamps_keep_the_nanosecond(seconds, start):
    whole = np.floor(seconds)
    exact = [start + int(w) * 10**9 + int(np.rint((s - w) * 1e9)) for s, w in zip(seconds.tolist(), whole.tolist(), strict=True)]
    assert stamps_ns(start, seconds).tolist() == exact
    assert stamps_ns(start, seconds.copy(), overwrite=True).tolist() == exact


def test_columns_are_named_as_in_the_file_and_repeats_are_told_apart():
    names = ["x", "x", "t_ns", "x"]
    channels = [channel(name=name, offset=i + 5) for i, name in enumerate(names)]
    structure = channel(name="s", offset=90, members=(channel(name="a", offset=91), channel(name="x", offset=92)))
    found = columns_of(group(*channels, structure), None)
    assert [column.name for column in found] == ["x", "x#2", "t_ns#2", "x#3", "a", "x#4"]
    assert [column.name for column in columns_of(group(*channels, structure), {"x#2", "a"})] == ["x#2", "a"]


@given(names=st.lists(st.sampled_from(["x", "x#2", "x#2#2", "t_ns", "group_0", "group_1", ""]), max_size=9))
def test_no_two_tables_and_no_two_columns_share_a_name(names):
    found = list(column_names(names))
    assert len({*found, "t_ns"}) == len(names) + 1
    assert len(set(table_names(names))) == len(names)


def test_a_group_is_named_by_its_acquisition_where_that_is_its_own():
    assert table_names(["CAN", "", "IMU", "CAN", "group_1"]) == ["group_0", "group_1", "IMU", "group_3", "group_4"]
    assert table_names(["group_1", "group_2", "a"]) == ["group_1", "group_2", "a"]


def test_a_part_of_a_channel_selects_the_channel():
    one = channel(data_type=15, bit_count=64)
    assert [column.name for column in columns_of(group(one), {"x.imag"})] == ["x"]


def test_the_last_of_several_masters_is_the_time():
    other = replace(TIME, name="other", offset=9)
    assert master_of(group(other)) is other
    assert master_of(replace(group(), channels=(VALUE,))) is None


def test_a_virtual_master_counts_records():
    virtual = replace(TIME, kind=3, bit_count=0, conversion=Conversion(1, (5.0, 0.5), (), "s"))
    made = replace(group(VALUE), channels=(virtual, VALUE))
    columns = GroupColumns(made, virtual, columns_of(made, None), START_NS, 3)
    assert [ns - START_NS for ns in table(columns, [bytes(40)] * 3).batch.column(0).to_pylist()] == [
        5 * 10**9,
        55 * 10**8,
        6 * 10**9,
    ]
    alone = GroupColumns(made, virtual, (), START_NS, 3)
    assert alone.decode(Window([], 4, 2), {}).batch.column(0).to_pylist() == [START_NS + 7 * 10**9, START_NS + 75 * 10**8]


@given(st.floats(allow_nan=False), st.floats(allow_nan=False))
def test_a_conversion_is_written_as_json_and_is_applied_from_there(offset, factor):
    nested = Conversion(7, (1.0, 2.0), ("one", Conversion(1, (offset, factor), (), ""), None), "km/h")
    text = json.loads(conversion_json(nested))
    assert [text["kind"], text["values"], text["texts"][0], text["texts"][2]] == [7, [1.0, 2.0], "one", None]
    assert [float(value) for value in text["texts"][1]["values"]] == [offset, factor]
    assert json.loads(conversion_json(None)) is None


def test_tables_of_one_shape_and_different_conversions_are_not_mixed_up():
    found = [bytes(8) + b"\2".ljust(32)]
    for factor in (2.0, 3.0):
        scaled = channel(conversion=Conversion(1, (0.0, factor), (), ""))
        assert to_physical(table(columns_for(scaled), found).batch).column("x").to_pylist() == [2 * factor]


def test_to_physical_leaves_what_is_physical_alone():
    scaled = channel(conversion=Conversion(1, (0.0, 3.6), (), "km/h"), unit="km/h")
    raw = table(columns_for(scaled), [bytes(8) + b"\2".ljust(32)]).batch
    assert raw.schema.field("x").metadata[b"unit"] == b""
    once = to_physical(raw)
    assert once.column("x").to_pylist() == pytest.approx([2.0])
    assert once.schema.field("x").metadata == {b"unit": b"m/s", b"source_unit": b"km/h"}
    assert to_physical(once) == once
    assert pa.types.is_uint8(raw.schema.field("x").type)
