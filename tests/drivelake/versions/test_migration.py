"""Moving a history: the same versions byte for byte in another store, whatever interrupts it."""

import hashlib
from pathlib import Path

import pytest

from drivelake.errors import Conflict
from drivelake.versions import MAIN, publish
from drivelake.versions.migration import migrate

ONE, TWO, GONE = "raw_logs/drive_01", "signals/drive_01", "raw_logs/drive_02"
PAIRS = [("dvc-local", "dvc-s3"), ("dvc-local", "lakefs-local"), ("dvc-local", "lakefs-s3"), ("lakefs-local", "dvc-local")]
Stopped = KeyboardInterrupt  # what a person does to a long migration


@pytest.fixture
def site(request, new_site):
    return new_site(getattr(request, "param", "dvc-local"))


@pytest.fixture
def history(store, put_up, commit_on):
    """Versions replaced, reverted, removed and made side by side; a tag on main and one beside it."""
    start = put_up(ONE, {"a": b"1", "same": b"shared"})
    store.tag("first", start)
    aside = put_up(TWO, {"deep/b": b"2", "empty": b""}, base=start)
    put_up(ONE, {"a": b"other", "same": b"shared"}, base=start)
    put_up(GONE, {"c": b"3"})
    store.branch("remove", at=MAIN)
    commit_on("remove", {GONE: None})
    store.merge("remove")
    store.delete_branch("remove")
    replaced = put_up(ONE, {"a": b"wrong"}, manifest=b"wrong")
    store.revert(replaced)
    store.tag("beside", aside)
    return store


@pytest.fixture
def scratch(tmp_path):
    room = tmp_path / "lake" / "scratch" / "room"
    room.mkdir(parents=True)
    return room


def holds(store, ref):
    """What stands at a ref, with every byte."""
    found = {}
    for asset in store.list(ref):
        for partition in store.list(ref, asset):
            path = f"{asset}/{partition}"
            small = {name: store.read(ref, path, name) for name in store.list(ref, path)}
            found[path] = (small, {name: Path(file).read_bytes() for name, file in store.files(ref, path).items()})
    return found


@pytest.mark.parametrize(("site", "target"), PAIRS, indirect=["site"])
def test_main_the_tags_and_every_version_of_the_history_are_moved_byte_for_byte(site, target, history, new_site, scratch):
    into = new_site(target).create()
    before = history.resolve(MAIN)
    moved = migrate(history, into, scratch)
    assert (moved.versions, moved.copied, moved.tags) == (5, 5, 2)
    assert history.resolve(MAIN) == before
    for ref in (MAIN, "first", "beside"):
        assert holds(into, ref) == holds(history, ref)
    for entry in history.history():
        if named := entry.metadata.get("Drivelake-Version"):
            path, version = named.split()
            commit = into.find(path, version)
            assert hashlib.sha256(into.read(commit, path, "manifest.json")).hexdigest() == version
            assert holds(into, commit)[path] == holds(history, entry.commit)[path]
    again = migrate(history, into, scratch)
    assert (again.versions, again.copied, again.tags) == (5, 0, 2)
    assert not list(scratch.iterdir())


@pytest.mark.parametrize("target", ["dvc-local", "lakefs-local"])
def test_interrupted_anywhere_it_goes_on(target, history, new_site, scratch):
    into = new_site(target).create()
    for stop_at in range(1, 6):
        told = []

        def tell(said, told=told, stop_at=stop_at):
            told.append(said)
            if said.startswith(f"{stop_at} of"):
                raise Stopped

        with pytest.raises(Stopped):
            migrate(history, into, scratch, tell)
        assert len(told) == 1 + (stop_at > 1), "what was copied by an earlier try is passed over"
    assert migrate(history, into, scratch).copied == 1
    assert holds(into, MAIN) == holds(history, MAIN)


def test_a_target_with_versions_of_its_own_is_refused_and_untouched(history, new_site, make, scratch):
    into = new_site("dvc-local").create()
    own = publish(into, ONE, make({"a": b"own"}), b"own", message="own", metadata={})
    with pytest.raises(Conflict, match=r"holds raw_logs/drive_01 .* not moved there"):
        migrate(history, into, scratch)
    assert into.resolve(MAIN) == own


def test_a_source_that_moves_on_meanwhile_is_told_and_the_next_try_brings_the_rest(history, put_up, new_site, scratch):
    into = new_site("dvc-local").create()

    def publish_more(said):
        if said.startswith("5 of"):
            put_up("signals/late", {"l": b"late"})

    with pytest.raises(Conflict, match="while it was moved"):
        migrate(history, into, scratch, publish_more)
    assert migrate(history, into, scratch).copied == 1
    assert holds(into, MAIN) == holds(history, MAIN)
