"""The inbox is looked at as a whole, each time, and what is seen is remembered in the catalogue."""

import sqlite3

import pytest

from drivelake.catalogue import Catalogue, signature
from drivelake.errors import NotFound, StoreError
from drivelake.inbox import look
from tests.drivelake.toy import tiny_lake


@pytest.fixture
def lake(tmp_path):
    return tiny_lake(tmp_path / "lake")


def put(lake, drive, name="a.mcap", text="x"):
    folder = lake.inbox / drive
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(text)
    return folder


def test_drives_come_sorted_and_files_beside_them_are_none(lake):
    put(lake, "b")
    put(lake, "a")
    (lake.inbox / "notes.txt").touch()
    assert [a.drive for a in look(lake, 0)] == ["a", "b"]


def test_a_drive_is_quiet_for_the_declared_time_since_it_last_changed(lake):
    put(lake, "a")
    assert look(lake, 100)[0].waiting == "quiet for 0 s of 30 s"
    assert look(lake, 129)[0].waiting == "quiet for 29 s of 30 s"
    assert look(lake, 130)[0].waiting == ""
    put(lake, "a", text="changed")
    assert look(lake, 140)[0].waiting == "quiet for 0 s of 30 s"


def test_a_drive_is_done_once_frames_of_what_landed_are_published_and_until_a_file_changes(lake):
    folder = put(lake, "a")
    catalogue = Catalogue(lake.root / "catalogue.sqlite")
    assert not look(lake, 0)[0].done
    catalogue.land("a", signature(folder), "1" * 64, 0)
    assert not look(lake, 0)[0].done
    catalogue.frame("a", "1" * 64)
    assert look(lake, 0)[0].done
    catalogue.land("a", signature(folder), "2" * 64, 0)
    assert not look(lake, 0)[0].done
    catalogue.frame("a", "2" * 64)
    assert look(lake, 0)[0].done
    put(lake, "a", name="b.mcap")
    assert not look(lake, 0)[0].done


def test_frames_of_a_drive_that_never_landed_here_say_nothing(lake):
    put(lake, "a")
    Catalogue(lake.root / "catalogue.sqlite").frame("a", "1" * 64)
    assert not look(lake, 0)[0].done


def test_one_look_is_one_transaction_however_many_drives_there_are(lake, monkeypatch):
    for number in range(20):
        put(lake, f"drive_{number:02d}")
    opened = []
    connect = sqlite3.connect
    monkeypatch.setattr("drivelake.catalogue.sqlite3.connect", lambda *a, **k: opened.append(a) or connect(*a, **k))
    assert len(look(lake, 0)) == 20
    assert len(opened) == 2  # the table, the look


def test_hidden_files_are_a_transfers_own_and_do_not_count(lake):
    folder = put(lake, "a")
    before = signature(folder)
    put(lake, "a", name=".a.mcap.part")
    assert signature(folder) == before


def test_a_missing_inbox_is_named(lake):
    lake.inbox.rmdir()
    with pytest.raises(NotFound, match="does not exist"):
        look(lake, 0)


def test_a_damaged_catalogue_says_that_it_may_be_deleted(lake):
    put(lake, "a")
    (lake.root / "catalogue.sqlite").write_bytes(b"x" * 5000)
    with pytest.raises(StoreError, match="delete it"):
        look(lake, 0)


def test_a_drive_with_a_link_is_told_and_the_others_are_looked_at(lake):
    (put(lake, "a") / "b.mcap").symlink_to("/etc/hostname")
    put(lake, "b")
    refused, sound = look(lake, 100)
    assert "is a link" in refused.refused
    assert sound.refused == ""
