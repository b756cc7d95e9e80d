"""Laws of publishing, on every backend: what main shows before, during and after."""

import hashlib

import pytest

from drivelake.errors import Conflict, InputError, NotFound, StoreError
from drivelake.versions import MAIN, VERSION_TRAILER, VersionStore, publish

PATH = "raw_logs/drive_01"


def test_it_has_every_method_of_a_version_store_and_begins_empty(store, branches):
    missing = [name for name in vars(VersionStore) if not name.startswith("_") and not callable(getattr(store, name, None))]
    assert missing == []
    assert store.resolve(MAIN)
    assert store.list(MAIN) == ()
    assert branches(store) == [MAIN]
    assert dict(store.tags()) == {}


def test_what_was_published_reads_back_byte_for_byte(store, put_up, content):
    files = {"logs/camera.mcap": b"\x89MCAP" * 100, "health.json": b"{}", "empty": b""}
    commit = put_up(PATH, files, manifest=b'{"exact": "bytes"}')
    assert content(store, commit, PATH) == files
    assert store.read(commit, PATH, "manifest.json") == b'{"exact": "bytes"}'
    assert store.list(MAIN) == ("raw_logs",)
    assert store.list(MAIN, "raw_logs") == ("drive_01",)
    assert store.list(MAIN, PATH) == ("manifest.json",)
    assert store.list(MAIN, "signals") == ()


def test_the_same_bytes_again_make_no_new_commit(store, put_up, branches):
    files = {"a": b"1"}
    first = put_up(PATH, files)
    other = put_up("raw_logs/drive_02", files)
    head = store.resolve(MAIN)
    assert put_up(PATH, files, metadata={"Drivelake-Run": "r2"}) == first
    assert put_up("raw_logs/drive_02", files) == other
    assert store.resolve(MAIN) == head
    assert branches(store) == ["main"]


def test_every_version_stays_readable_at_its_commit(store, put_up, content):
    commits = [put_up(PATH, {"a": bytes([n]) * n}) for n in range(1, 4)]
    assert [content(store, commit, PATH)["a"] for commit in commits] == [b"\x01", b"\x02\x02", b"\x03\x03\x03"]
    assert [entry.commit for entry in store.history(MAIN, PATH)] == commits[::-1]


def test_going_back_to_old_bytes_is_a_new_commit_and_find_gives_the_newest(store, put_up):
    version = hashlib.sha256(b"one").hexdigest()
    first = put_up(PATH, {"a": b"1"}, manifest=b"one")
    put_up(PATH, {"a": b"2"}, manifest=b"two")
    assert store.find(PATH, version) == first
    again = put_up(PATH, {"a": b"1"}, manifest=b"one")
    assert again != first
    assert store.find(PATH, version) == again


def test_find_names_the_commit_of_a_version_by_its_trailer(store, put_up):
    commit = put_up(PATH, {"a": b"1"}, manifest=b"one")
    put_up("raw_logs/drive_02", {"a": b"2"}, manifest=b"two")
    version = hashlib.sha256(b"one").hexdigest()
    assert store.find(PATH, version) == commit
    assert store.find(PATH, hashlib.sha256(b"two").hexdigest()) is None
    entry = next(store.history(commit))
    assert entry.metadata == {"Drivelake-Run": "r1", VERSION_TRAILER: f"{PATH} {version}"}
    assert entry.message == f"{PATH}: new"
    assert entry.time.utcoffset().total_seconds() == 0


def test_nothing_is_visible_on_main_before_the_merge(store, put_up, reopen):
    put_up(PATH, {"a": b"old"}, manifest=b"old")
    seen, steps = [], []
    elsewhere = reopen(store)

    def look(step):
        steps.append(step)
        seen.append(elsewhere.read(MAIN, PATH, "manifest.json"))

    put_up(PATH, {"a": b"new"}, manifest=b"new", on_step=look)
    assert steps == ["branched", "objects staged", "committed on branch", "merged", "branch deleted"]
    assert seen == [b"old", b"old", b"old", b"new", b"new"]


def test_a_failure_while_staging_leaves_no_branch_and_main_as_it_was(store, make, put_up, branches):
    put_up(PATH, {"a": b"1"})
    head = store.resolve(MAIN)
    folder = make({"a": b"2"})
    (folder / "link").symlink_to(folder / "a")
    with pytest.raises(StoreError, match=r"link is a link"):
        publish(store, PATH, folder, b"m", message="m", metadata={})
    assert store.resolve(MAIN) == head
    assert branches(store) == ["main"]


def test_other_bytes_published_meanwhile_are_a_conflict_that_names_both_commits(store, make, put_up, content, branches):
    put_up(PATH, {"a": b"0"})
    base, theirs = store.resolve(MAIN), []

    def intrude(step):
        if step == "objects staged":
            store.branch("intruder", at=MAIN)
            store.put("intruder", PATH, make({"a": b"theirs"}), {"manifest.json": b"theirs"})
            theirs.append(store.commit("intruder", "theirs", {}))
            store.merge("intruder")
            store.delete_branch("intruder")

    with pytest.raises(Conflict) as caught:
        put_up(PATH, {"a": b"mine"}, on_step=intrude)
    assert PATH in str(caught.value)
    assert theirs[0][:12] in str(caught.value)
    assert base[:12] in str(caught.value)
    assert content(store, MAIN, PATH) == {"a": b"theirs"}
    assert branches(store) == ["main"]


def test_other_bytes_published_since_the_base_are_a_conflict_that_names_both_commits(store, put_up, content, branches):
    base = put_up(PATH, {"a": b"0"})
    fast = put_up(PATH, {"a": b"of newer inputs"})
    with pytest.raises(Conflict, match=f"{PATH} by commit {fast[:12]} .*by commit [0-9a-f]{{12}}"):
        put_up(PATH, {"a": b"of older ones"}, base=base)
    assert content(store, MAIN, PATH) == {"a": b"of newer inputs"}
    assert [entry.commit for entry in store.history(MAIN, PATH)] == [fast, base]
    assert branches(store) == ["main"]


def test_the_bytes_of_the_base_again_are_a_conflict_once_others_replaced_them(store, put_up, content, branches):
    base = put_up(PATH, {"a": b"old"})
    fast = put_up(PATH, {"a": b"new"})
    with pytest.raises(Conflict, match=f"as commit {base[:12]} had it, but commit {fast[:12]} replaced that"):
        put_up(PATH, {"a": b"old"}, base=base)
    assert content(store, MAIN, PATH) == {"a": b"new"}
    assert branches(store) == ["main"]


def test_the_same_bytes_published_since_the_base_are_agreement(store, put_up):
    base = put_up(PATH, {"a": b"0"})
    fast = put_up(PATH, {"a": b"same"})
    head = store.resolve(MAIN)
    assert put_up(PATH, {"a": b"same"}, base=base) == fast
    assert store.resolve(MAIN) == head


def test_other_paths_published_since_the_base_all_stand(store, put_up, content):
    base = put_up(PATH, {"a": b"0"})
    put_up("raw_logs/drive_02", {"b": b"2"})
    head = store.resolve(MAIN)
    assert put_up(PATH, {"a": b"0"}, base=base) == base
    assert store.resolve(MAIN) == head
    put_up(PATH, {"a": b"1"}, base=base)
    assert content(store, MAIN, PATH) == {"a": b"1"}
    assert content(store, MAIN, "raw_logs/drive_02") == {"b": b"2"}


def test_a_base_that_main_does_not_hold_is_refused(store, make, put_up, branches):
    store.branch("work")
    store.put("work", "raw_logs/drive_02", make({"b": b"not for main"}), {})
    base = store.commit("work", "m", {})
    with pytest.raises(StoreError, match=f"Base {base[:12]} is no commit of main"):
        put_up(PATH, {"a": b"1"}, base=base)
    with pytest.raises(NotFound):
        put_up(PATH, {"a": b"1"}, base="0" * 40)
    assert store.list(MAIN) == ()
    assert branches(store) == ["main", "work"]


def test_the_same_bytes_published_meanwhile_are_agreement(store, make, put_up, branches):
    put_up(PATH, {"a": b"0"})
    theirs = []

    def agree(step):
        if step == "committed on branch":
            store.branch("other", at=MAIN)
            store.put("other", PATH, make({"a": b"same"}), {"manifest.json": b"same"})
            theirs.append(store.commit("other", "theirs", {}))
            store.merge("other")
            store.delete_branch("other")

    assert put_up(PATH, {"a": b"same"}, manifest=b"same", on_step=agree) == theirs[0]
    assert sum(entry.commit == theirs[0] for entry in store.history(MAIN)) == 1
    assert branches(store) == ["main"]


def test_another_path_published_meanwhile_is_merged_and_both_stand(store, put_up, content):
    put_up("signals/drive_00", {"a": b"0"})

    def other(step):
        if step == "committed on branch":
            put_up("raw_logs/drive_02", {"b": b"2"})

    commit = put_up(PATH, {"a": b"1"}, on_step=other)
    assert content(store, MAIN, PATH) == {"a": b"1"}
    assert content(store, MAIN, "raw_logs/drive_02") == {"b": b"2"}
    assert [entry.commit for entry in store.history(MAIN, PATH)] == [commit], "the merge carried it over, it made nothing"
    assert next(store.history(MAIN)).commit != commit, "main is at the merge"


def test_a_partition_key_may_hold_what_the_manifest_allows(store, put_up, content):
    keys = ("0", "a.b_c-d", "perception_small@orin", "vehicle=7-day=2026-01-01")
    for key in keys:
        put_up(f"soc_artefacts/{key}", {"model.bin": key.encode()})
    assert store.list(MAIN, "soc_artefacts") == keys
    for key in keys:
        assert content(store, MAIN, f"soc_artefacts/{key}") == {"model.bin": key.encode()}


def test_a_path_that_is_not_asset_and_partition_is_refused(store, put_up, branches):
    head = store.resolve(MAIN)
    for path in ("raw_logs", "raw_logs/", "/drive", "raw_logs/a/b", "../x/y", "raw_logs/..", ".dvc/config", ""):
        with pytest.raises((StoreError, InputError)):
            put_up(path, {"a": b"1"})
    assert store.resolve(MAIN) == head
    assert branches(store) == ["main"]


def test_a_version_without_files_is_a_version(store, put_up, content):
    put_up(PATH, {}, manifest=b"references only")
    assert content(store, MAIN, PATH) == {}
    assert store.read(MAIN, PATH, "manifest.json") == b"references only"


def test_a_file_that_is_not_there_names_those_that_are(store, put_up):
    put_up(PATH, {"a": b"1"})
    with pytest.raises(NotFound, match=r"holds manifest\.json"):
        store.read(MAIN, PATH, "statement.json")
    with pytest.raises(NotFound, match="holds nothing"):
        store.read(MAIN, "raw_logs/drive_02", "manifest.json")
