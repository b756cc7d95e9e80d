"""The table of offsets. Belongs here: what it says, and what is wrong with it in which line. Never: mapping stamps."""

import csv
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.errors import DeclarationError
from drivelake.frames.clocks import DRIFT_LIMIT_PPM, OFFSET_LIMIT_NS, STAMP_LIMIT_NS
from drivelake.frames.offsets import COLUMNS, OffsetRow, rows_of


@pytest.fixture
def table(tmp_path):
    """table(text) -> the path of a file that holds it."""

    def write(text):
        path = tmp_path / "offsets.csv"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_a_drive_has_its_own_rows_in_the_order_of_the_file(table):
    path = table("drive,from_ns,offset_ns,drift_ppm\na,,5,\nb,10,-7,1.5\na,3,6,\n\n a , 2 , +8 , -2e-1 \n")
    assert rows_of(path, "a") == (OffsetRow(None, 5, 0.0), OffsetRow(3, 6, 0.0), OffsetRow(2, 8, -0.2))
    assert rows_of(path, "b") == (OffsetRow(10, -7, 1.5),)
    assert rows_of(path, "c") == ()


def test_columns_stand_in_any_order_and_only_two_are_needed(table):
    assert rows_of(table("offset_ns,drive\n-37000000000,a\n"), "a") == (OffsetRow(None, -37_000_000_000, 0.0),)
    assert rows_of(table(b"\xef\xbb\xbfdrive,offset_ns\r\na,1\r\n"), "a") == (OffsetRow(None, 1, 0.0),)
    assert rows_of(table("drive,offset_ns\n"), "a") == ()


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("", 1, "'drive' is missing"),
        ("drive,from_ns\n", 1, "'offset_ns' is missing"),
        ("drive,ofset_ns\n", 1, "did you mean 'offset_ns'"),
        ("drive,offset_ns,offset_ns\n", 1, "stands twice"),
        ("drive,offset_ns\na,1\nb,1,2\n", 3, "3 cells, the header names 2"),
        ("drive,offset_ns\n,1\n", 2, "no drive is named"),
        ("drive,offset_ns\na,\n", 2, "offset_ns is ''"),
        ("drive,offset_ns\na,1.5\n", 2, "expected whole ns"),
        ("drive,offset_ns\na,1e3\n", 2, "expected whole ns"),
        ("drive,offset_ns\na,1_000\n", 2, "expected whole ns"),
        ("drive,offset_ns\na,٣\n", 2, "expected whole ns"),
        ("drive,offset_ns\na," + "9" * 5000 + "\n", 2, "expected whole ns"),
        (f"drive,offset_ns\na,{OFFSET_LIMIT_NS + 1}\n", 2, "expected at most"),
        ("drive,from_ns,offset_ns\na,-1,0\n", 2, "from_ns is -1"),
        (f"drive,from_ns,offset_ns\na,{STAMP_LIMIT_NS},0\n", 2, "from_ns is"),
        ("drive,from_ns,offset_ns,drift_ppm\na,1,0,1001\n", 2, "drift_ppm is 1001"),
        ("drive,from_ns,offset_ns,drift_ppm\na,1,0,nan\n", 2, "expected a number"),
        ("drive,from_ns,offset_ns,drift_ppm\na,1,0,fast\n", 2, "expected a number"),
        ("drive,from_ns,offset_ns,drift_ppm\na,,0,3\n", 2, "drift_ppm without from_ns"),
        ('drive,offset_ns\n"a\nb",1\na,1\na,2\n', 5, "has a row before"),
    ],
)
def test_what_is_wrong_is_said_with_its_line_whichever_drive_is_asked_for(table, text, line, words):
    path = table(text)
    for drive in ("a", "another"):
        with pytest.raises(DeclarationError) as caught:
            rows_of(path, drive)
        assert f"offsets.csv, line {line}:" in caught.value.message
        assert words in caught.value.message
        assert caught.value.next_step


@pytest.mark.parametrize("content", [b"drive,offset_ns\n\xff\xfe,1\n", b'drive,offset_ns\n"a,1\n', b'drive,offset_ns\n"a"b,1\n'])
def test_what_is_no_csv_is_refused(table, content):
    with pytest.raises(DeclarationError, match=r"offsets\.csv is no CSV in UTF-8"):
        rows_of(table(content), "a")


def test_a_table_that_is_not_there_or_a_folder_is_refused(tmp_path):
    with pytest.raises(DeclarationError, match=r"no table of offsets absent\.csv"):
        rows_of(tmp_path / "absent.csv", "a")
    with pytest.raises(DeclarationError, match="cannot be read"):
        rows_of(tmp_path, "a")


rows = st.tuples(
    st.sampled_from(["a", "b,", 'c"', "d e"]),
    st.integers(0, STAMP_LIMIT_NS - 1),
    st.integers(-OFFSET_LIMIT_NS, OFFSET_LIMIT_NS),
    st.floats(-DRIFT_LIMIT_PPM, DRIFT_LIMIT_PPM),
)


@settings(max_examples=50, deadline=None)
@given(written=st.lists(rows, max_size=8))
def test_what_was_written_is_read_to_the_last_nanosecond(tmp_path_factory, written):
    sink = io.StringIO()
    csv.writer(sink).writerows([COLUMNS, *((d, f, o, repr(p)) for d, f, o, p in written)])
    path = tmp_path_factory.mktemp("offsets") / "offsets.csv"
    path.write_text(sink.getvalue(), encoding="utf-8", newline="")
    for drive in ("a", "b,", 'c"', "d e"):
        assert rows_of(path, drive) == tuple(OffsetRow(f, o, p) for d, f, o, p in written if d == drive)


@settings(max_examples=100, deadline=None)
@given(content=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_any_bytes_are_a_table_or_an_error_of_the_declaration(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("offsets") / "offsets.csv"
    path.write_bytes(b"drive,from_ns,offset_ns,drift_ppm\n" + content)
    try:
        told = repr(rows_of(path, "a"))
    except DeclarationError as error:
        told = error.message
    assert told.startswith(("(", "offsets.csv, line ", "The table of offsets offsets.csv is no CSV"))
