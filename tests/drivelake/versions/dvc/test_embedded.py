"""The embedded store, operation by operation."""

import hashlib
import json
import stat
import subprocess
import time
from pathlib import Path

import pygit2
import pytest

from drivelake.errors import Conflict, NotFound, StoreError
from drivelake.versions import MAIN, EmbeddedStore
from drivelake.versions.dvc import intake, objects, refs
from drivelake.versions.dvc.paths import place

PATH = "raw_logs/drive_01"


@pytest.fixture
def store(embedded):
    return embedded


def test_creating_a_store_twice_opens_it(tmp_path):
    first = EmbeddedStore.create(tmp_path / "store").resolve(MAIN)
    assert EmbeddedStore.create(tmp_path / "store").resolve(MAIN) == first


def test_opening_what_is_not_there_says_what_to_do(tmp_path):
    with pytest.raises(NotFound, match=r"no version store at .*nowhere.*Next: "):
        EmbeddedStore(tmp_path / "nowhere")
    assert not (tmp_path / "nowhere").exists()


def test_a_store_half_made_by_a_killed_process_is_made_again(tmp_path):
    draft = tmp_path / "store" / "repo.git.new"
    draft.mkdir(parents=True)
    (draft / "HEAD").write_text("garbage")
    assert EmbeddedStore.create(tmp_path / "store").resolve(MAIN)
    assert not draft.exists()


def test_a_ref_is_a_branch_a_tag_or_a_commit_of_at_least_seven_digits(store, put_up):
    commit = put_up(PATH, {"a": b"1"})
    store.branch("work", at=commit)
    store.tag("release-1", commit)
    for ref in (MAIN, "work", "release-1", commit, commit[:7], commit[:20]):
        assert store.resolve(ref) == commit
    tree = str(pygit2.Repository(str(store.root / "repo.git"))[commit].tree_id)
    for ref in ("nothing", commit[:6], "0" * 40, tree, "", "a..b", "refs/heads/main", "HEAD~1", "@{-1}"):
        with pytest.raises(NotFound, match="No branch, tag or commit"):
            store.resolve(ref)


@pytest.mark.parametrize("digits", [40, 39, 12, 7])
def test_a_branch_or_tag_named_like_a_commit_changes_nothing(store, put_up, digits):
    old, new = put_up(PATH, {"a": b"old"}, manifest=b"old"), put_up(PATH, {"a": b"new"}, manifest=b"new")
    name = new[:digits]
    for kind in ("heads", "tags"):
        git = ["git", "--git-dir", str(store.root / "repo.git"), "update-ref", f"refs/{kind}/{name}", old]
        subprocess.run(git, check=True)
    for ref in (name, name.upper()):
        assert store.resolve(ref) == new
        assert store.read(ref, PATH, "manifest.json") == b"new"
    assert next(store.history(name)).commit == new
    store.delete_branch(name)
    assert store.resolve(name) == new


@pytest.mark.parametrize("name", ["0" * 40, "f" * 40, "20260101", "DEADBEE", "badcafe"])
def test_a_name_that_reads_like_a_commit_is_none_for_a_branch_or_a_tag(store, name, branches):
    for make_it in (store.branch, lambda name: store.tag(name, MAIN)):
        with pytest.raises(StoreError, match=r"read like a commit id.*Next: "):
            make_it(name)
    with pytest.raises(NotFound):
        store.resolve(name)
    assert branches(store) == ["main"]


def test_a_branch_is_made_once_and_deleted_once(store):
    store.branch("work")
    with pytest.raises(Conflict, match="there already"):
        store.branch("work")
    store.delete_branch("work")
    with pytest.raises(NotFound, match="no branch 'work'"):
        store.delete_branch("work")
    with pytest.raises(StoreError, match="cannot be a branch"):
        store.branch("a..b")


def test_main_is_written_by_merge_alone(store, make):
    for act in (
        lambda: store.put(MAIN, PATH, make({"a": b"1"}), {}),
        lambda: store.commit(MAIN, "m", {}),
        lambda: store.delete_branch(MAIN),
    ):
        with pytest.raises(StoreError, match="main is written by merge alone"):
            act()


def test_put_and_commit_need_the_branch(store, make):
    with pytest.raises(NotFound, match="no branch 'ghost'"):
        store.put("ghost", PATH, make({"a": b"1"}), {})
    with pytest.raises(NotFound, match="no branch 'ghost'"):
        store.commit("ghost", "m", {})


def test_what_is_staged_is_seen_after_the_commit_only(store, make, content):
    store.branch("work")
    store.put("work", PATH, make({"a": b"1"}), {"manifest.json": b"m"})
    assert store.list("work") == ()
    store.commit("work", "m", {})
    assert content(store, "work", PATH) == {"a": b"1"}
    assert store.list(MAIN) == ()


def test_a_commit_of_nothing_new_is_the_old_head(store, make):
    store.branch("work")
    head = store.resolve("work")
    assert store.commit("work", "nothing", {}) == head
    store.put("work", PATH, make({"a": b"1"}), {})
    made = store.commit("work", "something", {})
    store.put("work", PATH, make({"a": b"1"}), {})
    assert store.commit("work", "the same", {}) == made != head


def test_what_was_staged_on_a_deleted_branch_is_gone(store, make):
    store.branch("work")
    store.put("work", PATH, make({"a": b"1"}), {})
    store.delete_branch("work")
    store.branch("work")
    assert store.commit("work", "nothing", {}) == store.resolve(MAIN)


def test_one_branch_brings_many_paths_and_the_merge_is_all_or_nothing(store, make, put_up):
    store.branch("batch")
    for name in ("drive_01", "drive_02"):
        store.put("batch", f"raw_logs/{name}", make({"a": name.encode()}), {})
    store.commit("batch", "two drives", {})
    put_up("raw_logs/drive_02", {"a": b"somebody else's"})
    head = store.resolve(MAIN)
    with pytest.raises(Conflict, match=r"1 path\(s\).*raw_logs/drive_02"):
        store.merge("batch")
    assert store.resolve(MAIN) == head
    assert store.list(MAIN, "raw_logs") == ("drive_02",)


def test_merging_twice_changes_nothing_the_second_time(store, make):
    store.branch("work")
    store.put("work", PATH, make({"a": b"1"}), {})
    store.commit("work", "m", {})
    head = store.merge("work")
    assert store.merge("work") == head == store.resolve(MAIN)


def test_diff_names_the_paths_that_changed(store, put_up):
    start = store.resolve(MAIN)
    one = put_up(PATH, {"a": b"1"})
    two = put_up("signals/drive_01", {"a": b"1"})
    three = put_up(PATH, {"a": b"2"})
    assert store.diff(start, one) == (PATH,)
    assert store.diff(one, two) == ("signals/drive_01",)
    assert store.diff(start, three) == store.diff(three, start) == (PATH, "signals/drive_01")
    assert store.diff(three, MAIN) == ()


def test_a_tag_moves_only_from_where_it_is_expected(store, put_up):
    one, two = put_up(PATH, {"a": b"1"}), put_up(PATH, {"a": b"2"})
    store.tag("prod", one)
    with pytest.raises(Conflict, match=f"at {one[:12]}, expected none; it was to move to {two[:12]}"):
        store.tag("prod", two)
    with pytest.raises(Conflict, match=f"at {one[:12]}, expected it at {two[:12]}"):
        store.tag("prod", two, expected=two)
    assert store.resolve("prod") == one
    store.tag("prod", two, expected=one)
    assert store.resolve("prod") == two
    with pytest.raises(Conflict, match="not there"):
        store.tag("other", two, expected=one)


def test_objects_are_read_only_and_linked_not_copied(store, make):
    folder = make({"a": b"bytes"})
    store.branch("work")
    store.put("work", PATH, folder, {})
    store.commit("work", "m", {})
    object_file = store.files("work", PATH)["a"]
    assert stat.S_IMODE(object_file.stat().st_mode) == 0o444
    assert object_file.stat().st_ino == (folder / "a").stat().st_ino


def test_an_object_that_another_process_adds_meanwhile_is_never_emptied(store, make, monkeypatch, content):
    store.branch("work")
    theirs, mine = make({"a": b"the same"}), make({"a": b"the same"})
    store.put("work", PATH, theirs, {})
    monkeypatch.setattr(intake, "_has_size", lambda *_: False)  # as if it was not there yet when it was looked for
    store.put("work", "raw_logs/drive_02", mine, {})
    store.commit("work", "m", {})
    assert (theirs / "a").read_bytes() == b"the same", "a reader may still have that one open"
    assert content(store, "work", PATH) == {"a": b"the same"}
    assert not list((store.root / "files").rglob("*.tmp"))


def test_a_folder_on_another_file_system_is_copied(store, content, tmp_path_factory):
    import shutil
    import tempfile

    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == store.root.stat().st_dev:
        pytest.skip("no second file system to copy from")
    folder = Path(tempfile.mkdtemp(dir=memory))
    try:
        (folder / "a").write_bytes(b"1")
        (folder / "b").write_bytes(b"2")
        store.branch("work")
        store.put("work", PATH, folder, {})
        store.commit("work", "m", {})
    finally:
        shutil.rmtree(folder)
    assert content(store, "work", PATH) == {"a": b"1", "b": b"2"}
    assert stat.S_IMODE(store.files("work", PATH)["a"].stat().st_mode) == 0o444


def test_an_object_that_a_power_cut_left_empty_is_written_again(store, put_up, content):
    put_up(PATH, {"a": b"the bytes", "b": b""})
    object_file = store.files(MAIN, PATH)["a"]
    object_file.unlink()
    object_file.touch(mode=0o444)
    put_up(PATH, {"a": b"the bytes", "b": b""})
    assert content(store, MAIN, PATH) == {"a": b"the bytes", "b": b""}


def test_a_missing_or_damaged_object_is_named_and_publishing_again_brings_it_back(store, put_up, content):
    put_up(PATH, {"a": b"1"})
    gone = store.files(MAIN, PATH)["a"]
    gone.unlink()
    with pytest.raises(StoreError, match=f"{gone} is missing"):
        store.files(MAIN, PATH)
    put_up(PATH, {"a": b"1"})
    assert content(store, MAIN, PATH) == {"a": b"1"}
    listing = next((store.root / "files").rglob("*.dir"))
    listing.chmod(0o644)
    listing.write_bytes(listing.read_bytes().replace(b'"a"', b'"b"'))
    with pytest.raises(StoreError, match=f"{listing} has MD5"):
        store.files(MAIN, PATH)


@pytest.fixture
def listed(store):
    """listed(raw) puts these bytes in place of a listing, with a commit that names them; gives the object's file."""

    def go(raw):
        md5 = hashlib.md5(raw, usedforsecurity=False).hexdigest()
        file = store.root / "files" / "md5" / md5[:2] / f"{md5[2:]}.dir"
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(raw)
        graph = store._graph
        head = graph.resolve(MAIN)
        named = graph.objects.write_blob(objects.Staged(f"{md5}.dir", 1, 1).as_dvc())
        root = graph.graft(graph.root(head), {f"{place(PATH)}/data.dvc": (named, 0o100644)})
        graph.move("refs/heads/main", head, graph.write_commit(root, [head], "by hand"))
        return file

    return go


MD5_OF_1 = "c4ca4238a0b923820dcc509a6f75849b"


def entry(**other):
    return [{"md5": MD5_OF_1, "relpath": "a", **other}]


@pytest.mark.parametrize(
    ("raw", "what"),
    [
        (b"nonsense", "is no JSON"),
        (b"", "is no JSON"),
        (b"\xff\xfe\xfd", "is no JSON"),
        (b"[" * 100_000, "is no JSON"),
        ({}, "holds a dict, expected a list"),
        (None, "holds a NoneType, expected a list"),
        ([1], "holds 1, expected md5 and relpath"),
        ([{"relpath": "a"}], "expected md5 and relpath"),
        (entry(md5=1), "expected md5 and relpath"),
        (entry(size=1), "expected md5 and relpath"),
        (entry(md5="..//etc/passwd"), "expected 32 lowercase hex digits"),
        (entry(md5="../../../../../../../../etc/passwd"), "expected 32 lowercase hex digits"),
        (entry(md5=MD5_OF_1.upper()), "expected 32 lowercase hex digits"),
        (entry(md5=f"{MD5_OF_1}.dir"), "expected 32 lowercase hex digits"),
        (entry(md5=f"{MD5_OF_1}\n"), "expected 32 lowercase hex digits"),
        (entry() * 2, "names 'a' twice"),
        (entry(relpath="../a"), "outside of the version"),
        (entry(relpath="/a"), "outside of the version"),
        (entry(relpath=""), "no path of a file"),
        (entry(relpath="."), "no path of a file"),
        (entry(relpath="b//a"), "no path of a file"),
    ],
)
def test_a_listing_that_dvc_did_not_write_is_named(store, put_up, listed, raw, what):
    put_up(PATH, {"a": b"1"})
    file = listed(raw if isinstance(raw, bytes) else json.dumps(raw).encode())
    with pytest.raises(StoreError, match=f"Object {file} .*{what}"):
        store.files(MAIN, PATH)


def test_a_listing_of_the_right_form_is_read(store, put_up, listed, content):
    put_up(PATH, {"a": b"1"})
    listed(json.dumps(entry()).encode())
    assert content(store, MAIN, PATH) == {"a": b"1"}


def test_a_small_file_cannot_take_the_place_of_the_data(store, make):
    store.branch("work")
    for name in ("data", "data.dvc", "a/b", "..", ""):
        with pytest.raises(StoreError, match="cannot name a small file"):
            store.put("work", PATH, make({"a": b"1"}), {name: b""})


def test_a_lock_left_by_a_killed_git_is_named(store, put_up, monkeypatch):
    monkeypatch.setattr(refs, "LOCK_WAIT_S", 0.1)
    lock = store.root / "repo.git" / "refs" / "heads" / "main.lock"
    lock.touch()
    with pytest.raises(StoreError, match=rf"{lock}.*delete that file"):
        put_up(PATH, {"a": b"1"})
    lock.unlink()
    assert put_up(PATH, {"a": b"1"}) == store.resolve(MAIN)


def test_a_lock_that_git_releases_in_time_is_waited_for(store, put_up):
    import threading

    lock = store.root / "repo.git" / "refs" / "heads" / "main.lock"
    lock.touch()
    threading.Timer(0.3, lock.unlink).start()
    assert put_up(PATH, {"a": b"1"}) == store.resolve(MAIN)


def test_a_moved_store_works_where_it_is_now(store, put_up, content):
    commit = put_up(PATH, {"a": b"1"})
    moved = EmbeddedStore(store.root.rename(store.root.with_name("moved")))
    assert content(moved, commit, PATH) == {"a": b"1"}
    put_up(PATH, {"a": b"2"}, into=moved)
    assert content(moved, MAIN, PATH) == {"a": b"2"}


def test_two_thousand_small_files_are_published_within_seconds(store, put_up):
    files = {f"frames/{n:04d}.bin": n.to_bytes(4, "big") * 100 for n in range(2000)}
    began_s = time.process_time()  # not the wall clock: other work on the machine says nothing about this
    put_up(PATH, files)
    assert time.process_time() - began_s < 5
    assert len(store.files(MAIN, PATH)) == 2000


def test_a_commit_into_an_asset_of_many_partitions_writes_kilobytes(store, put_up):
    put_up(PATH, {"a": b"0"})
    trees = store._graph
    head = trees.resolve(MAIN)
    version = trees.at(trees.root(head), place(PATH))
    many = trees.graft(trees.root(head), {place(f"raw_logs/other_{n:05d}"): version for n in range(50_000)})
    assert trees.move("refs/heads/main", head, trees.write_commit(many, [head], "by hand"))
    objects_there = set((store.root / "repo.git" / "objects").glob("??/*"))
    commit = put_up("raw_logs/other_00007", {"a": b"1"})
    new = set((store.root / "repo.git" / "objects").glob("??/*")) - objects_there
    assert len(new) <= 7, "commit, root, asset, shard, version, and two small files"
    assert sum(file.stat().st_size for file in new) < 30_000
    assert store.diff(head, commit) == tuple(sorted(f"raw_logs/other_{n:05d}" for n in range(50_000)))
    assert len(store.list(MAIN, "raw_logs")) == 50_001
