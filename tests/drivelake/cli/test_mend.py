"""The command that mends: what it says, what it writes, what it refuses."""

import json

import pytest

from drivelake.cli import mend
from drivelake.logs import inspect_log
from tests.drivelake.cli.running import drivelake
from tests.drivelake.logs.making import drive_mcap


@pytest.fixture
def cut(tmp_path):
    """A camera log without its end."""
    data = drive_mcap(200)
    (tmp_path / "camera.mcap").write_bytes(data[: len(data) * 2 // 3])
    return tmp_path / "camera.mcap"


def test_a_cut_log_is_written_whole_beside_the_person_who_asks(cut, tmp_path):
    here = tmp_path / "here"
    here.mkdir()
    done = drivelake("salvage", cut, cwd=here)
    assert done.returncode == 0, done.stderr
    (written,) = here.iterdir()
    assert written.name == "camera.salvaged.mcap"
    report = inspect_log(written)
    assert report.damage == ()
    assert report.messages == inspect_log(cut).messages > 0
    assert f"written  camera.salvaged.mcap  {report.messages} messages" in done.stdout
    assert "DAMAGED" in done.stdout
    assert "it was cut short" in done.stdout


def test_json_says_what_was_recovered_of_each_channel(cut, tmp_path):
    done = drivelake("salvage", cut, "--out", tmp_path / "clean.mcap", "--json")
    told = json.loads(done.stdout)
    assert told["path"] == str(tmp_path / "clean.mcap")
    assert told["written"] == "clean.mcap"
    assert told["bytes"] == (tmp_path / "clean.mcap").stat().st_size
    counts = {channel.name: channel.messages for channel in inspect_log(tmp_path / "clean.mcap").channels}
    assert {channel["channel"]: channel["recovered"] for channel in told["channels"]} == counts
    assert told["damage"]


def test_a_file_that_is_there_stays_and_the_exit_code_is_3(cut, tmp_path):
    (tmp_path / "clean.mcap").write_bytes(b"mine")
    done = drivelake("salvage", cut, "--out", tmp_path / "clean.mcap", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"] == "InputError"
    assert (tmp_path / "clean.mcap").read_bytes() == b"mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["camera.mcap", "clean.mcap"]


def test_a_log_that_holds_nothing_is_refused_and_leaves_nothing_behind(tmp_path):
    (tmp_path / "camera.mcap").write_bytes(drive_mcap(20)[:30])
    done = drivelake("salvage", tmp_path / "camera.mcap", "--out", tmp_path / "clean.mcap")
    assert done.returncode == 3
    assert "Nothing can be recovered of camera.mcap" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["camera.mcap"]


def test_a_reader_out_of_time_leaves_nothing_behind(tmp_path, monkeypatch):
    (tmp_path / "camera.mcap").write_bytes(drive_mcap(2000))
    monkeypatch.setattr(mend, "PASSES", 0.0001)
    done = drivelake("salvage", tmp_path / "camera.mcap", "--out", tmp_path / "clean.mcap")
    assert done.returncode == 3
    assert [path.name for path in tmp_path.iterdir()] == ["camera.mcap"]


@pytest.mark.parametrize("words", [["nowhere.mcap"], ["camera.mcap", "--out", "nowhere/clean.mcap"]])
def test_what_is_not_there_is_said(words, cut):
    done = drivelake("salvage", *words, cwd=cut.parent)
    assert done.returncode == 4
    assert "nowhere" in done.stderr
