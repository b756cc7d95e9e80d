"""A lake is found, made once, and never loses what is in it."""

from pathlib import Path

import pytest

from drivelake.errors import DeclarationError, NotFound
from drivelake.lake import LAKE_ENV, Lake, find_lake
from tests.drivelake.toy import DECLARATION, tiny_lake


def test_a_folder_that_is_no_lake_says_what_makes_one(tmp_path):
    with pytest.raises(NotFound, match="drivelake demo makes one"):
        Lake(tmp_path)


def test_making_it_again_keeps_it_and_replaces_a_changed_declaration(tmp_path):
    lake = tiny_lake(tmp_path / "lake")
    at = lake.store.resolve("main")
    again = Lake.create(tmp_path / "lake", DECLARATION.replace("lakehouse: tiny", "lakehouse: other"))
    assert again.declaration.lakehouse == "other"
    assert again.store.resolve("main") == at


def test_a_wrong_declaration_replaces_nothing(tmp_path):
    tiny_lake(tmp_path / "lake")
    with pytest.raises(DeclarationError):
        Lake.create(tmp_path / "lake", DECLARATION + "unknown: 1\n")
    assert Lake(tmp_path / "lake").declaration.lakehouse == "tiny"


def test_the_named_lake_comes_before_the_environment_and_that_before_this_folder(tmp_path, monkeypatch):
    for name in ("named", "environment", "here"):
        tiny_lake(tmp_path / name)
    monkeypatch.chdir(tmp_path / "here")
    assert find_lake() == tmp_path / "here"
    monkeypatch.setenv(LAKE_ENV, str(tmp_path / "environment"))
    assert find_lake() == tmp_path / "environment"
    assert find_lake(tmp_path / "named") == tmp_path / "named"


def test_no_lake_anywhere_says_where_it_looked(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(NotFound, match="neither --lake nor DRIVELAKE_LAKE is set"):
        find_lake()


def test_the_scratch_of_a_dead_process_is_swept_and_that_of_a_living_one_is_not(tmp_path):
    lake = tiny_lake(tmp_path / "lake")
    dead = lake.root / "scratch" / "dead"
    dead.mkdir()
    (dead / ".lock").touch()
    (lake.root / "scratch" / "killed_before_its_lock").mkdir()
    with lake.scratch("living") as living, lake.scratch("mine") as mine:
        assert mine.is_dir()
        assert living.is_dir()
        assert {p.name for p in (lake.root / "scratch").iterdir()} == {living.name, mine.name}
    assert not mine.exists()
    assert not living.exists()


def test_an_absolute_inbox_is_taken_as_it_is(tmp_path):
    lake = Lake.create(tmp_path / "lake", DECLARATION + f"ingest: {{inbox: {tmp_path / 'elsewhere'}}}\n")
    assert lake.inbox == tmp_path / "elsewhere"
    assert Path(tiny_lake(tmp_path / "other").inbox) == tmp_path / "other" / "inbox"
