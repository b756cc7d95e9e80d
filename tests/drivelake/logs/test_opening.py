from pathlib import Path

import numpy as np
import pytest
from asammdf import Signal

from drivelake.errors import LogDamaged, UnsupportedLog
from drivelake.logs import DATABASE_SUFFIXES, inspect_log, is_log, read_log
from tests.drivelake.logs.making import drive_mcap, write_mdf


@pytest.mark.parametrize("name", ["a.mcap", "A.MCAP", "b.mf4", "b.MF4", "c.mdf", "sub/d.Mf4"])
def test_logs_are_known_by_the_end_of_their_name(name):
    assert is_log(Path(name))


@pytest.mark.parametrize("name", ["vehicle.dbc", "drive.yaml", "mcap", "a.mcap.part"])
def test_other_files_of_a_drive_are_no_logs(name):
    assert not is_log(Path(name))
    assert Path("vehicle.dbc").suffix in DATABASE_SUFFIXES


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("empty.mcap", b"", "The file is empty: 0 bytes."),
        ("text.mcap", b"no log at all", "The file begins with b'no log a', expected b'\\x89MCAP0\\r\\n'."),
        ("text.mf4", b"no log at all", "The file begins with b'no log a', expected b'MDF     ' or b'UnFinMF '."),
        ("short.mcap", b"\x89MCA", "The file begins with b'\\x89MCA', expected b'\\x89MCAP0\\r\\n'."),
    ],
)
def test_a_file_that_is_no_log_is_told_and_never_raises_in_a_report(tmp_path, name, content, sentence):
    path = tmp_path / name
    path.write_bytes(content)
    report = inspect_log(path)
    assert (report.damage, report.format, report.bytes) == ((sentence,), "unknown", len(content))
    with pytest.raises(LogDamaged, match=name):
        next(read_log(path))


def test_a_log_under_a_wrong_name_is_damage_and_is_still_counted(tmp_path):
    path = tmp_path / "camera.mf4"
    path.write_bytes(drive_mcap())
    report = inspect_log(path)
    assert report.damage == ("The name ends in '.mf4', the content is mcap.",)
    assert (report.format, sum(c.messages for c in report.channels)) == ("mcap", 90)
    with pytest.raises(LogDamaged, match=r"the content is mcap"):
        next(read_log(path))


def test_the_report_carries_the_name_inside_the_drive(tmp_path):
    path = tmp_path / "abc123"
    path.write_bytes(drive_mcap())
    report = inspect_log(path, name="front/camera.mcap")
    assert report.readable
    assert (report.name, report.format) == ("front/camera.mcap", "mcap")


def test_a_file_of_an_unknown_kind_has_no_reader(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes(b"hello, world")
    with pytest.raises(UnsupportedLog, match=r"notes.txt"):
        next(read_log(path))


def test_mdf_3_is_named_as_such(tmp_path):
    signal = Signal(np.arange(4.0), np.arange(4.0), name="x", unit="km/h")
    path = write_mdf(tmp_path / "old.mdf", [("g", [signal])], version="3.30")
    report = inspect_log(path)
    assert report.readable
    assert report.format == "mdf3"
    (batch,) = read_log(path)
    assert batch.batch.column("x").to_pylist() == pytest.approx([0, 1 / 3.6, 2 / 3.6, 3 / 3.6])


def test_a_log_that_is_not_there_is_no_damage(tmp_path):
    with pytest.raises(FileNotFoundError):
        inspect_log(tmp_path / "absent.mcap")
