import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from drivelake.logs import arrow

WORDS = st.lists(st.binary(max_size=9), max_size=20)
DTYPES = st.sampled_from([f"{order}{kind}" for order in "<>" for kind in ("u1", "i2", "u4", "i8", "f2", "f4", "f8")])


def joined(words):
    return np.frombuffer(b"".join(words), np.uint8), np.array([len(word) for word in words], np.int64)


def nulled(values, invalid):
    return [None if gone else value for value, gone in zip(values, invalid, strict=True)]


@given(data=st.data(), dtype=DTYPES, count=st.integers(0, 40))
def test_numbers_are_the_values_of_the_array_in_any_byte_order(data, dtype, count):
    values = data.draw(hnp.arrays(np.dtype(dtype), count))
    invalid = data.draw(hnp.arrays(bool, count))
    column = arrow.numbers(values, invalid)
    column.validate(full=True)
    assert str(column.to_pylist()) == str(nulled(values.tolist(), invalid))
    assert arrow.values_of(column).tobytes() == values.astype(values.dtype.newbyteorder("=")).tobytes()


def test_numbers_share_the_memory_of_a_native_array():
    values = np.arange(5.0)
    assert arrow.numbers(values).buffers()[1].address == values.ctypes.data


def test_truth_values_are_bits():
    assert arrow.numbers(np.array([True, False, True] * 5)).to_pylist() == [True, False, True] * 5


@given(values=hnp.arrays(np.float32, st.tuples(st.integers(0, 9), st.integers(1, 3), st.integers(1, 3))), start=st.integers(0, 9))
def test_lists_keep_their_elements_in_c_order_and_give_them_back(values, start):
    column = arrow.fixed_lists(values)
    column.validate(full=True)
    assert str(column.to_pylist()) == str([row.reshape(-1).tolist() for row in values])
    part = column.slice(start)
    assert arrow.values_of(part).tobytes() == values[start:].tobytes()


@given(words=WORDS, data=st.data())
def test_bytes_come_back_as_they_were(words, data):
    invalid = data.draw(hnp.arrays(bool, len(words)))
    column = arrow.binaries(*joined(words), invalid)
    column.validate(full=True)
    assert column.to_pylist() == nulled(words, invalid)


def test_lengths_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="2 values of 7 bytes together, 6 bytes are given"):
        arrow.binaries(np.zeros(6, np.uint8), np.array([3, 4]))


@settings(max_examples=150, deadline=None)
@given(words=WORDS, encoding=st.sampled_from(["utf-8", "latin-1", "utf-16-le", "utf-16-be"]), data=st.data())
def test_text_is_what_python_decodes_and_wrong_bytes_stay_visible(words, encoding, data):
    invalid = data.draw(hnp.arrays(bool, len(words)))
    column = arrow.texts(*joined(words), encoding, invalid)
    column.validate(full=True)
    decoded = [word.decode(encoding, errors="backslashreplace") for word in words]
    assert column.to_pylist() == nulled(decoded, invalid)


@settings(deadline=None)
@given(words=st.lists(st.text(max_size=4), max_size=12), data=st.data())
def test_masks_add_up(words, data):
    first, second = (data.draw(hnp.arrays(bool, len(words))) for _ in range(2))
    start = data.draw(st.integers(0, len(words)))
    once = arrow.masked(arrow.texts_of(words), first)
    assert arrow.masked(once.slice(start), second[start:]).to_pylist() == nulled(words[start:], (first | second)[start:])


@given(words=st.lists(st.binary(min_size=5, max_size=5), min_size=1, max_size=12), data=st.data())
def test_packed_rows_are_the_starts_of_the_rows(words, data):
    lengths = np.array(data.draw(st.lists(st.integers(0, 5), min_size=len(words), max_size=len(words))))
    rows = np.frombuffer(b"".join(words), np.uint8).reshape(-1, 5)
    kept = b"".join(word[:length] for word, length in zip(words, lengths.tolist(), strict=True))
    assert arrow.pack(rows, lengths).tobytes() == kept


@given(
    data=st.data(),
    long=st.sampled_from([1, 2, 8, 1 << 14]),
    tile=st.sampled_from([1, 7, 1 << 18]),
    alike=st.sampled_from([1, 2, 1 << 8]),
)
def test_picked_stretches_are_those_of_the_data(data, long, tile, alike):
    text = bytes(range(256)) * 2
    starts = np.array(data.draw(st.lists(st.integers(0, 400), max_size=12)), np.int64)
    some = st.sampled_from([0, 8, 12]) if data.draw(st.booleans()) else st.integers(0, 100)
    lengths = np.array([data.draw(some) for _ in starts], data.draw(st.sampled_from([np.int64, np.uint64, np.uint8])))
    wanted = b"".join(text[start : start + length] for start, length in zip(starts.tolist(), lengths.tolist(), strict=True))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(arrow, "LONG_BYTES", long)
        patch.setattr(arrow, "TILE_BYTES", tile)
        patch.setattr(arrow, "ALIKE_MIN", alike)
        assert arrow.pick(np.frombuffer(text, np.uint8), starts, lengths).tobytes() == wanted


@pytest.mark.parametrize("dtype", ["u1", "u2", "u4", "u8", "i1", "i2", "i4", "i8", "f2", "f4", "f8"])
def test_the_type_of_a_column_is_the_one_that_arrow_gives(dtype):
    assert arrow.type_of(np.dtype(dtype)) == pa.from_numpy_dtype(np.dtype(dtype))


def test_columns_of_numbers_and_bytes_do_not_import_pandas():
    code = """if True:
        import sys
        import numpy as np
        from drivelake.logs import arrow
        gone = np.array([True, False])
        arrow.numbers(np.arange(2), gone), arrow.fixed_lists(np.zeros((2, 3)), gone)
        arrow.texts(np.frombuffer(b"ab", np.uint8), np.array([1, 1]), "utf-8", gone)
        assert "pandas" not in sys.modules
    """
    subprocess.run([sys.executable, "-c", code], check=True)
