"""The command that shows: what it says, what it writes, what it refuses."""

import json

import pytest

from drivelake.cli.view import _seconds
from drivelake.errors import DeclarationError
from tests.drivelake.cli.running import drivelake, process
from tests.drivelake.cli.test_cli import ISOLATED

DRIVE = "signals_01"


def test_a_drive_is_written_beside_the_person_who_asks(chain, tmp_path):
    done = drivelake("look", DRIVE, "--lake", chain.root, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{DRIVE}.mcap", f"{DRIVE}.mcap.layout.json"]
    assert "camera_front" in done.stdout
    assert f"written  {DRIVE}.mcap" in done.stdout
    assert f"layout   {DRIVE}.mcap.layout.json" in done.stdout


def test_looking_needs_neither_dagster_nor_a_network(chain, tmp_path):
    done = process("look", DRIVE, "--lake", chain.root, "--out", tmp_path / "a.mcap", "--json", code=ISOLATED)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["bytes"] == (tmp_path / "a.mcap").stat().st_size


def test_json_says_what_is_shown_of_every_sensor(chain, tmp_path):
    done = drivelake("look", DRIVE, "--lake", chain.root, "--out", tmp_path / "a.mcap", "--seconds", "1:2", "--json")
    told = json.loads(done.stdout)
    assert told["drive"] == DRIVE
    assert told["bytes"] == (tmp_path / "a.mcap").stat().st_size
    assert 0.9e9 < told["last_ns"] - told["first_ns"] < 1e9
    declared = chain.declaration.rig_of(DRIVE)[1].sensors
    assert {sensor["sensor"] for sensor in told["sensors"]} == set(declared)
    assert all(sensor["shown"] > 0 and sensor["outside"] > 0 for sensor in told["sensors"])


def test_a_file_that_is_there_stays_and_the_exit_code_is_3(chain, tmp_path):
    (tmp_path / "a.mcap").write_bytes(b"mine")
    done = drivelake("look", DRIVE, "--lake", chain.root, "--out", tmp_path / "a.mcap", "--json")
    assert done.returncode == 3
    assert json.loads(done.stdout)["error"] == "InputError"
    assert (tmp_path / "a.mcap").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nowhere"], 4, "sensor_frames/nowhere is not made yet"),
        ([DRIVE, "--out", "a.bag"], 2, "expected .mcap"),
        ([DRIVE, "--out", "nowhere/a.mcap"], 4, "There is no folder nowhere"),
        ([DRIVE, "--seconds", "5"], 2, "expected FROM:TO"),
        ([DRIVE, "--seconds", "1000:"], 3, "Nothing of signals_01"),
    ],
)
def test_what_cannot_be_shown_is_refused_and_leaves_nothing_behind(chain, tmp_path, words, code, said):
    done = drivelake("look", *words, "--lake", chain.root, cwd=tmp_path)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("asked", "span"), [("10:25.5", (10, 25.5)), ("10:", (10, None)), (":30", (None, 30)), (":", (None, None)), ("-1:2", (-1, 2))]
)
def test_seconds_are_from_and_to(asked, span):
    assert _seconds(asked) == span


@pytest.mark.parametrize("asked", ["", "5", "5:5", "6:5", "a:b", "1:2:3", "nan:", ":inf"])
def test_seconds_that_are_no_span_are_refused(asked):
    with pytest.raises(DeclarationError, match="expected FROM:TO"):
        _seconds(asked)
