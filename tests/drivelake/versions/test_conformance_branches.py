"""Laws of branches, staging, merging and reverting, on every backend."""

import threading
from contextlib import suppress

import pytest

from drivelake.errors import Conflict, InputError, NotFound, StoreError
from drivelake.versions import MAIN

PATH, OTHER = "raw_logs/drive_01", "raw_logs/drive_02"
ONE, TWO, THREE = {"a": b"1"}, {"a": b"2"}, {"a": b"3", "b": b"more"}


def below(store, ref):
    """What a ref holds: small files by path."""
    paths = [f"{asset}/{name}" for asset in store.list(ref) for name in store.list(ref, asset)]
    return {path: {name: store.read(ref, path, name) for name in store.list(ref, path)} for path in paths}


@pytest.fixture
def branch(store):
    """branch(name) starts a branch at main and gives its name."""

    def go(name, at=MAIN):
        store.branch(name, at)
        return name

    return go


# --- refs and branches


def test_a_ref_is_a_branch_a_tag_or_a_commit_of_at_least_seven_digits(store, put_up, branch):
    commit = put_up(PATH, ONE)
    branch("work", at=commit)
    store.tag("release-1", commit)
    for ref in ("work", "release-1", commit, commit[:7], commit[:20]):
        assert store.resolve(ref) == commit
    for ref in ("nothing", commit[:6], "0" * 40, "0" * 64, "", "a..b", "refs/heads/main", "HEAD~1", "@{-1}", "main~1", "main^"):
        with pytest.raises(NotFound):
            store.resolve(ref)


def test_a_name_that_reads_like_a_commit_is_none_for_a_branch_or_a_tag(store):
    for name in ("0" * 40, "f" * 64, "20260101", "DEADBEE"):
        with pytest.raises(StoreError):
            store.branch(name)
        with pytest.raises(StoreError):
            store.tag(name, MAIN)
        with pytest.raises(NotFound):
            store.resolve(name)
    assert list(store.branches()) == [MAIN]
    assert dict(store.tags()) == {}


def test_a_name_that_no_backend_can_hold_is_refused(store):
    for name in ("", "a..b", "a b", "a~1", "a@{1}", "../a", "a\n", "über:x", "x.lock/", "a*"):
        with pytest.raises(StoreError):
            store.branch(name)
        with pytest.raises(StoreError):
            store.tag(name, MAIN)
    assert list(store.branches()) == [MAIN]
    assert dict(store.tags()) == {}


def test_a_branch_is_made_once_and_deleted_once(store, branch, put_up, reopen):
    start = store.resolve(MAIN)
    branch("work")
    commit = put_up(PATH, ONE)
    with pytest.raises(Conflict):  # at the same commit it cannot be told from a call whose answer was lost
        store.branch("work", at=commit)
    assert dict(reopen(store).branches()) == {"main": store.resolve(MAIN), "work": start}
    store.delete_branch("work")
    with pytest.raises(NotFound):
        store.delete_branch("work")
    with pytest.raises(NotFound):
        store.resolve("work")
    with pytest.raises(NotFound):
        store.branch("new", at="nowhere")
    assert list(reopen(store).branches()) == [MAIN]


def test_branches_are_listed_sorted_with_their_commits(store, branch, put_up):
    start = store.resolve(MAIN)
    names = [branch(name) for name in ("z", "b", "a-1", "work")]
    put_up(PATH, ONE)
    assert list(store.branches()) == sorted([MAIN, *names])
    assert dict(store.branches()) == {MAIN: store.resolve(MAIN), **dict.fromkeys(names, start)}


def test_every_call_refuses_a_ref_that_resolves_to_nothing(store, branch, make, put_up):
    put_up(PATH, ONE)
    branch("work")
    calls = [
        lambda: store.list("gone"),
        lambda: store.read("gone", PATH, "manifest.json"),
        lambda: list(store.read_each("gone", "raw_logs", "manifest.json")),
        lambda: store.files("gone", PATH),
        lambda: store.addresses("gone", PATH),
        lambda: list(store.history("gone")),
        lambda: store.find(PATH, "0" * 64, "gone"),
        lambda: store.diff("gone", MAIN),
        lambda: store.diff(MAIN, "gone"),
        lambda: store.tag("t", "gone"),
        lambda: store.merge("gone"),
        lambda: store.merge(MAIN, into="gone"),
        lambda: store.revert("gone"),
        lambda: store.revert(MAIN, into="gone"),
        lambda: store.put("gone", PATH, make(ONE), {}),
        lambda: store.remove("gone", PATH),
        lambda: store.commit("gone", "m", {}),
        lambda: store.objects("gone", PATH),
        lambda: store.check("gone"),
        lambda: store.strangers("gone"),
    ]
    refused = []
    for n, call in enumerate(calls):
        with suppress(NotFound):
            call()
            continue
        refused.append(n)
    assert refused == list(range(len(calls)))


def test_main_is_written_by_merge_and_revert_alone(store, put_up, make):
    put_up(PATH, ONE)
    head = store.resolve(MAIN)
    for act in (
        lambda: store.put(MAIN, PATH, make(TWO), {}),
        lambda: store.remove(MAIN, PATH),
        lambda: store.commit(MAIN, "m", {}),
        lambda: store.delete_branch(MAIN),
    ):
        with pytest.raises(StoreError, match="main"):
            act()
    assert store.resolve(MAIN) == head


# --- staging


def test_what_is_staged_is_seen_after_the_commit_and_on_its_branch_alone(store, branch, commit_on, make, content, reopen):
    branch("work")
    store.put("work", PATH, make(ONE), {"manifest.json": b"m"})
    assert store.list("work") == reopen(store).list("work") == ()
    commit = store.commit("work", "m", {})
    assert content(reopen(store), "work", PATH) == content(store, commit, PATH) == ONE
    assert store.list(MAIN) == ()
    assert dict(store.branches())["work"] == commit


def test_a_commit_of_nothing_new_is_the_old_head(store, branch, commit_on):
    branch("work")
    head = store.resolve("work")
    assert store.commit("work", "nothing", {}) == head
    made = commit_on("work", {PATH: ONE})
    assert commit_on("work", {PATH: ONE}) == made != head
    assert [entry.commit for entry in store.history("work")].count(made) == 1


def test_what_was_staged_on_a_deleted_branch_is_gone(store, branch, make):
    branch("work")
    store.put("work", PATH, make(ONE), {})
    store.delete_branch("work")
    branch("work")
    assert store.commit("work", "nothing", {}) == store.resolve(MAIN)


def test_putting_gives_a_path_its_whole_new_content(store, branch, commit_on, content):
    branch("work")
    first = commit_on("work", {PATH: THREE, OTHER: ONE}, small={"manifest.json": b"m", "statement.json": b"s"})
    second = commit_on("work", {PATH: ONE}, small={"manifest.json": b"n"})
    assert below(store, first)[PATH] == {"manifest.json": b"m", "statement.json": b"s"}
    assert below(store, second) == {PATH: {"manifest.json": b"n"}, OTHER: {"manifest.json": b"m", "statement.json": b"s"}}
    assert content(store, second, PATH) == ONE
    assert content(store, first, PATH) == THREE, "a commit never changes"


def test_of_several_puts_and_removals_before_a_commit_the_last_one_counts(store, branch, commit_on, make, content):
    branch("work")
    commit_on("work", {PATH: ONE, OTHER: ONE})
    store.put("work", PATH, make(TWO), {"manifest.json": b"2"})
    store.put("work", PATH, make(THREE), {"manifest.json": b"3"})
    store.put("work", OTHER, make(TWO), {})
    store.remove("work", OTHER)
    store.commit("work", "m", {})
    assert below(store, "work") == {PATH: {"manifest.json": b"3"}}
    assert content(store, "work", PATH) == THREE
    store.remove("work", PATH)
    store.put("work", PATH, make(ONE), {"manifest.json": b"1"})
    store.commit("work", "m", {})
    assert content(store, "work", PATH) == ONE


def test_a_removed_path_is_gone_from_there_on_and_stands_at_the_commits_before(store, put_up, branch, commit_on, content):
    before = put_up(PATH, ONE)
    put_up(OTHER, TWO)
    branch("work")
    removed = commit_on("work", {PATH: None})
    assert store.list("work", "raw_logs") == ("drive_02",)
    assert store.list(MAIN, "raw_logs") == ("drive_01", "drive_02")
    store.merge("work")
    assert store.list(MAIN, "raw_logs") == ("drive_02",)
    assert store.list(MAIN, PATH) == ()
    for read in (store.files, store.addresses):
        with pytest.raises(NotFound):
            read(MAIN, PATH)
    assert content(store, before, PATH) == ONE
    assert store.diff(before, removed) == (PATH, OTHER)
    with pytest.raises(NotFound):
        store.remove("work", PATH)
    with pytest.raises(NotFound):
        store.remove("work", "signals/drive_01")


def test_a_path_that_is_not_asset_and_partition_is_refused_by_each_call(store, make, branch):
    branch("work")
    calls = (
        lambda path: store.put("work", path, make(ONE), {}),
        lambda path: store.remove("work", path),
        lambda path: store.files(MAIN, path),
        lambda path: store.addresses(MAIN, path),
        lambda path: store.read(MAIN, path, "manifest.json"),
    )
    for path in ("raw_logs", "raw_logs/", "/drive", "raw_logs/a/b", "../x/y", "raw_logs/..", ".dvc/config", ""):
        for call in calls:
            with pytest.raises((StoreError, InputError)):
                call(path)
    assert store.commit("work", "m", {}) == store.resolve(MAIN)


def test_a_small_file_is_named_by_a_plain_name_other_than_the_datas(store, make, branch):
    branch("work")
    for name in ("data", "a/b", "..", "."):
        with pytest.raises(StoreError):
            store.put("work", PATH, make(ONE), {name: b""})
    assert store.commit("work", "m", {}) == store.resolve(MAIN)


# --- merging


def test_one_branch_brings_many_paths_and_the_merge_is_all_or_nothing(store, branch, commit_on, put_up):
    branch("batch")
    commit_on("batch", {PATH: ONE, OTHER: ONE, "signals/drive_01": ONE})
    put_up(OTHER, TWO)
    head, refs = store.resolve(MAIN), dict(store.branches())
    with pytest.raises(Conflict, match=OTHER):
        store.merge("batch")
    assert store.resolve(MAIN) == head
    assert store.list(MAIN, "raw_logs") == ("drive_02",)
    assert dict(store.branches()) == refs


def test_a_reader_never_sees_a_part_of_a_merge(store, branch, reopen, make):
    branch("batch")
    names = tuple(f"drive_{n:02}" for n in range(50))
    empty = make({})
    for name in names:
        store.put("batch", f"raw_logs/{name}", empty, {"manifest.json": name.encode()})
    store.commit("batch", "fifty", {})
    seen, merged = [store.list(MAIN, "raw_logs")], threading.Event()
    reader = reopen(store)

    def poll():
        while not merged.is_set():
            seen.append(reader.list(MAIN, "raw_logs"))
        seen.append(reader.list(MAIN, "raw_logs"))

    thread = threading.Thread(target=poll)
    thread.start()
    try:
        store.merge("batch")
    finally:
        merged.set()
        thread.join(30)
    assert set(seen) == {(), names}
    assert seen == sorted(seen), "once it is seen it stays"


def test_merging_twice_changes_nothing_the_second_time(store, branch, commit_on):
    branch("work")
    commit = commit_on("work", {PATH: ONE})
    head = store.merge("work")
    assert store.merge("work") == store.merge(commit) == head == store.resolve(MAIN)
    assert commit in [entry.commit for entry in store.history(MAIN)]


def test_a_branch_takes_mains_changes_in_and_only_it_moves(store, branch, commit_on, put_up, content):
    branch("work")
    commit_on("work", {PATH: ONE})
    put_up(OTHER, TWO)
    head = store.resolve(MAIN)
    assert store.merge(MAIN, into="work") == store.resolve("work")
    assert store.resolve(MAIN) == head
    assert content(store, "work", PATH) == ONE
    assert content(store, "work", OTHER) == TWO
    assert store.merge("work") == store.resolve(MAIN)
    assert store.diff(MAIN, "work") == ()


SIDES = {"change": TWO, "delete": None, "another change": THREE}


def test_a_path_changed_on_both_sides_conflicts_naming_both_commits_and_the_path(store, branch, commit_on):
    start = store.merge(commit_and_name(branch("start"), commit_on, {PATH: ONE, OTHER: ONE}))
    commits = {side: commit_on(branch(f"to-{n}", start), {PATH: files}) for n, (side, files) in enumerate(SIDES.items())}
    for n, (ours, theirs) in enumerate([("change", "another change"), ("change", "delete"), ("delete", "change")]):
        into = branch(f"into-{n}", commits[ours])
        with pytest.raises(Conflict) as caught:
            store.merge(commits[theirs], into=into)
        for named in (PATH, commits[ours][:12], commits[theirs][:12]):
            assert named in str(caught.value)
        assert OTHER not in str(caught.value)
        assert store.resolve(into) == commits[ours]


def commit_and_name(name, commit_on, changes):
    commit_on(name, changes)
    return name


def test_a_path_given_the_same_bytes_on_both_sides_is_agreement(store, branch, commit_on):
    paths = {PATH: TWO, OTHER: None, "raw_logs/drive_03": {}, "raw_logs/drive_04": ONE}
    store.merge(commit_and_name(branch("start"), commit_on, dict.fromkeys([PATH, OTHER], ONE)))
    for name in ("ours", "theirs"):
        commit_on(branch(name), {**paths, f"signals/{name}": ONE})
    store.merge("ours")
    store.merge("theirs")
    assert store.list(MAIN, "signals") == ("ours", "theirs")
    assert store.list(MAIN, "raw_logs") == ("drive_01", "drive_03", "drive_04")


def test_a_path_is_merged_whole_and_never_file_by_file(store, branch, commit_on, put_up, content):
    put_up(PATH, {"a": b"0", "b": b"0"})
    for name in ("a", "b"):
        branch(f"only-{name}")
        commit_on(f"only-{name}", {PATH: {"a": b"0", "b": b"0", name: b"1"}})
    store.merge("only-a")
    with pytest.raises(Conflict, match=PATH):
        store.merge("only-b")
    assert content(store, MAIN, PATH) == {"a": b"1", "b": b"0"}


def test_a_small_file_counts_for_a_merge_as_the_data_does(store, branch, commit_on):
    for name in ("one", "two"):
        branch(name)
        commit_on(name, {PATH: ONE}, small={"manifest.json": name.encode()})
    store.merge("one")
    with pytest.raises(Conflict, match=PATH):
        store.merge("two")


# --- reverting


def test_reverting_a_version_gives_back_what_stood_there_before(store, put_up, content):
    first = put_up(PATH, ONE)
    put_up(OTHER, ONE)
    second = put_up(PATH, THREE)
    put_up("signals/drive_01", ONE)
    head = store.revert(second)
    assert head == store.resolve(MAIN) != second
    assert content(store, MAIN, PATH) == ONE
    assert store.diff(first, MAIN) == (OTHER, "signals/drive_01")
    commits = [entry.commit for entry in store.history(MAIN)]
    assert {first, second} <= set(commits), "the reverted commit stays in the history"
    assert [entry.commit for entry in store.history(MAIN, PATH)] == [head, second, first]
    assert content(store, second, PATH) == THREE
    assert store.revert(second) == head, "asked again, it finds it done"


def test_reverting_the_first_version_of_a_path_removes_it_and_reverting_that_brings_it_back(store, put_up, content):
    put_up(OTHER, ONE)
    commit = put_up(PATH, THREE)
    undone = store.revert(commit)
    assert store.list(MAIN, "raw_logs") == ("drive_02",)
    store.revert(undone)
    assert content(store, MAIN, PATH) == THREE
    assert store.diff(commit, MAIN) == ()


def test_reverting_a_removal_brings_the_path_back(store, put_up, branch, commit_on, content):
    put_up(PATH, THREE)
    branch("work")
    removed = commit_on("work", {PATH: None})
    store.merge("work")
    store.revert(removed)
    assert content(store, MAIN, PATH) == THREE


def test_reverting_a_merge_takes_back_all_that_it_brought_and_nothing_else(store, put_up, branch, commit_on, content):
    put_up(PATH, ONE)
    branch("work")
    commit_on("work", {PATH: TWO, "signals/drive_01": ONE})
    put_up(OTHER, ONE)
    before = store.resolve(MAIN)
    merge = store.merge("work")
    store.revert(merge)
    assert store.diff(before, MAIN) == ()
    assert content(store, MAIN, PATH) == ONE
    assert store.list(MAIN, "signals") == ()


def test_a_revert_conflicts_when_the_path_changed_again_since(store, put_up, content):
    put_up(PATH, ONE)
    second = put_up(PATH, TWO)
    third = put_up(PATH, THREE)
    head = store.resolve(MAIN)
    with pytest.raises(Conflict) as caught:
        store.revert(second)
    for named in (PATH, second[:12], third[:12]):
        assert named in str(caught.value)
    assert store.resolve(MAIN) == head
    store.revert(third)
    store.revert(second)
    assert content(store, MAIN, PATH) == ONE


def test_a_revert_on_a_branch_leaves_main_alone(store, put_up, branch, content):
    put_up(PATH, ONE)
    second = put_up(PATH, TWO)
    head = store.resolve(MAIN)
    branch("work")
    assert store.revert(second, into="work") == store.resolve("work")
    assert content(store, "work", PATH) == ONE
    assert store.resolve(MAIN) == head


def test_what_was_reverted_can_be_published_again(store, put_up, content):
    first = put_up(PATH, ONE)
    store.revert(first)
    again = put_up(PATH, ONE)
    assert again != first
    assert content(store, MAIN, PATH) == ONE
    assert put_up(PATH, ONE) == again


def test_a_withdrawal_is_not_reverted(store, make):
    store.branch("work")
    store.put("work", "withdrawals/drive_01", make({}), {"tombstone.json": b"{}"})
    commit = store.commit("work", "withdrawn", {})
    store.merge("work")
    before = store.resolve(MAIN)
    with pytest.raises(StoreError, match=r"withdrawals/drive_01; a withdrawal is not reverted"):
        store.revert(commit)
    assert store.resolve(MAIN) == before
