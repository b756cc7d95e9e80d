"""How lakeFS merges, reverts and looks back; see test_stand_in.py for where this runs and how it is to be read."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import lakefs_sdk
import pytest
from lakefs_sdk.exceptions import ApiException

from tests.servers.lakefs.here import Here, refused


@pytest.fixture
def disk(on_disk):
    return Here(on_disk)


# --- merging, reverting


def test_merging_is_by_object_and_names_both_parents(disk):
    disk.committed("main", a=b"1", b=b"1")
    disk.branch("x")
    theirs, mine = disk.committed("x", a=b"2"), disk.committed("main", b=b"2")
    merge = disk.merge("x", message="one", metadata={"k": "v"})
    known = disk.sdk.commits_api.get_commit(disk.name, merge)
    assert known.parents == [mine, theirs]
    assert known.message == "one"
    assert known.metadata["k"] == "v"
    assert (disk.read("main", "a"), disk.read("main", "b")) == (b"2", b"2")
    base = disk.sdk.refs_api.find_merge_base(disk.name, "x", "main")
    assert base.base_commit_id == theirs


def test_one_object_changed_on_both_sides_is_a_conflict_and_nothing_moves(disk):
    disk.committed("main", a=b"1")
    disk.branch("x")
    disk.committed("x", a=b"2", other=b"1")
    mine = disk.committed("main", a=b"3")
    assert "conflict" in refused(409, disk.merge, "x")
    assert disk.head() == mine
    assert disk.paths("main") == ["a"]
    kinds = {change.path: change.type for change in disk.sdk.refs_api.diff_refs(disk.name, "main", "x").results}
    assert kinds == {"a": "conflict", "other": "added"}
    disk.merge("x", strategy="dest-wins")
    assert disk.read("main", "a") == b"3"
    assert disk.read("main", "other") == b"1"


def test_strategy_source_wins_takes_theirs(disk):
    disk.committed("main", a=b"1")
    disk.branch("x")
    disk.committed("x", a=b"2")
    disk.committed("main", a=b"3")
    disk.merge("x", strategy="source-wins")
    assert disk.read("main", "a") == b"2"


def test_the_same_change_on_both_sides_merges_without_conflict(disk):
    """Assumed: lakeFS makes a merge commit of it, though nothing differs from the destination."""
    disk.committed("main", a=b"1")
    disk.branch("x")
    disk.put("x", "a", b"2")
    disk.put("main", "a", b"2")
    theirs, mine = disk.commit("x", "theirs"), disk.commit("main", "mine")
    merge = disk.merge("x")
    assert disk.sdk.commits_api.get_commit(disk.name, merge).parents == [mine, theirs]


def test_the_same_commit_made_twice_within_a_second_is_one_commit(disk):
    """Taken from lakeFS' sources: a commit's id follows from its content, its parents and its time in seconds."""
    disk.committed("main", a=b"1")
    for branch in ("x", "y"):
        disk.put(disk.branch(branch), "a", b"2")
    one, other = (disk.commit(branch, "m", var_date=1_700_000_000) for branch in ("x", "y"))
    assert one == other
    disk.merge("x")
    assert "no changes" in refused(400, disk.merge, "y")


def test_merging_what_changed_nothing_is_refused_unless_asked_for(disk):
    before = disk.committed("main", a=b"1")
    disk.branch("x")
    assert "no changes" in refused(400, disk.merge, "x")
    assert disk.head() == before
    merge = disk.merge("x", allow_empty=True)
    assert disk.sdk.commits_api.get_commit(disk.name, merge).parents[0] == before


def test_merging_into_a_branch_with_staged_objects_is_refused(disk):
    disk.branch("x")
    disk.committed("x", a=b"1")
    disk.put("main", "b", b"1")
    assert "uncommitted" in refused(400, disk.merge, "x")


def test_a_squashed_merge_forgets_the_source(disk):
    before = disk.committed("main", a=b"1")
    disk.branch("x")
    disk.committed("x", a=b"2")
    disk.committed("x", a=b"3")
    merge = disk.merge("x", squash_merge=True)
    assert disk.sdk.commits_api.get_commit(disk.name, merge).parents == [before]
    assert disk.read("main", "a") == b"3"


def test_a_commit_id_merges_as_a_branch_does(disk):
    disk.branch("x")
    made = disk.committed("x", a=b"1")
    disk.sdk.branches_api.delete_branch(disk.name, "x")
    disk.merge(made)
    assert disk.read("main", "a") == b"1"


def test_reverting_gives_back_what_was_there_before(disk):
    disk.committed("main", a=b"1", b=b"1")
    second = disk.committed("main", a=b"2", c=b"2")
    disk.committed("main", b=b"3")
    disk.revert(second)
    assert disk.paths("main") == ["a", "b"]
    assert (disk.read("main", "a"), disk.read("main", "b")) == (b"1", b"3")


def test_reverting_what_was_changed_again_is_a_conflict(disk):
    disk.committed("main", a=b"1")
    second = disk.committed("main", a=b"2")
    third = disk.committed("main", a=b"3")
    refused(409, disk.revert, second)
    assert disk.head() == third


def test_a_merge_is_reverted_against_a_parent_that_is_named(disk):
    disk.committed("main", a=b"1")
    disk.branch("x")
    disk.committed("x", b=b"2")
    disk.committed("main", c=b"3")
    merge = disk.merge("x")
    refused(409, disk.revert, merge)
    refused(400, disk.revert, merge, 3)
    disk.revert(merge, 1)
    assert disk.paths("main") == ["a", "c"]


def test_cherry_picking_brings_one_commit_and_says_from_where(disk):
    disk.committed("main", a=b"1")
    disk.branch("x")
    disk.committed("x", b=b"2")
    wanted = disk.committed("x", c=b"3")
    picked = disk.sdk.branches_api.cherry_pick(disk.name, "main", lakefs_sdk.CherryPickCreation(ref=wanted))
    assert picked.metadata["cherry-pick-origin"] == wanted
    assert disk.paths("main") == ["a", "c"]


# --- looking back


def log(here, ref="main", **given):
    return [commit.message for commit in here.sdk.refs_api.log_commits(here.name, ref, **given).results]


def story(here):
    """a, then a branch with b merged, then c; each commit at a second of its own."""
    messages = {}
    for second, (branch, name) in enumerate([("main", "a"), ("x", "b"), ("main", "c")]):
        if branch == "x":
            here.branch("x")
        here.put(branch, name, b"1")
        messages[name] = here.commit(branch, name, var_date=1_700_000_000 + second)
    here.merge("x", message="merge")
    return messages


def test_the_log_is_newest_first_and_comes_in_pages(disk):
    made = story(disk)
    assert log(disk) == ["merge", "c", "b", "a", "Repository created"]
    assert log(disk, first_parent=True) == ["merge", "c", "a", "Repository created"]
    page = disk.sdk.refs_api.log_commits(disk.name, "main", first_parent=True, amount=2)
    assert page.pagination.has_more
    assert page.pagination.next_offset == made["c"]
    assert log(disk, first_parent=True, after=made["c"]) == ["a", "Repository created"]
    assert log(disk, first_parent=True, stop_at=made["c"]) == ["merge", "c"]
    since = datetime.fromtimestamp(1_700_000_001, UTC)
    assert log(disk, since=since) == ["merge", "c", "b"]
    limited = disk.sdk.refs_api.log_commits(disk.name, "main", amount=1, limit=True)
    assert (len(limited.results), limited.pagination.has_more) == (1, False)


def test_the_log_of_a_path_leaves_merge_commits_out(disk):
    """Taken from lakeFS' sources: with objects or prefixes, commits with two parents are skipped."""
    story(disk)
    disk.committed("main", dir_b=b"1")
    assert log(disk, objects=["b"]) == ["b"]
    assert log(disk, prefixes=["dir"]) == ["dir_b"]
    assert sorted(log(disk, objects=["a"], prefixes=["dir"])) == ["a", "dir_b"]
    assert log(disk, objects=["nothing"]) == []


def test_two_dots_compare_states_and_three_dots_what_the_right_side_did(disk):
    disk.committed("main", a=b"1", b=b"1")
    disk.branch("x")
    disk.committed("x", a=b"2")
    disk.committed("main", b=b"2", c=b"1")

    def kinds(kind, **given):
        found = disk.sdk.refs_api.diff_refs(disk.name, "main", "x", type=kind, **given).results
        return [(change.type, change.path) for change in found]

    assert kinds("two_dot") == [("changed", "a"), ("changed", "b"), ("removed", "c")]
    assert kinds("three_dot") == [("changed", "a")]
    assert kinds("two_dot", prefix="c") == [("removed", "c")]
    page = disk.sdk.refs_api.diff_refs(disk.name, "main", "x", type="two_dot", amount=1)
    assert page.pagination.has_more
    assert kinds("two_dot", after=page.pagination.next_offset) == [("changed", "b"), ("removed", "c")]
    assert disk.sdk.refs_api.diff_refs(disk.name, "x", "x").results == []
    refused(404, disk.sdk.refs_api.diff_refs, disk.name, "main", "nowhere")


# --- many at once


def raced(disk, path_of):
    """Ten writers, each with a client of its own: branch, put, commit, merge. Gives the statuses of the merges."""

    def write(number):
        mine = disk.server.sdk()
        name, path = f"writer-{number}", path_of(number)
        mine.branches_api.create_branch(disk.name, lakefs_sdk.BranchCreation(name=name, source=base))
        mine.objects_api.upload_object(disk.name, name, path, content=name.encode())
        mine.commits_api.commit(disk.name, name, lakefs_sdk.CommitCreation(message=name))
        try:
            mine.refs_api.merge_into_branch(disk.name, name, "main")
        except ApiException as refusal:
            return refusal.status
        return 200

    base = disk.head()
    with ThreadPoolExecutor(10) as pool:
        return list(pool.map(write, range(10)))


def test_writers_of_different_objects_all_get_in(disk):
    """On a real server a contended branch may answer 429; nothing that was answered 200 is lost."""
    statuses = raced(disk, lambda number: f"drive_{number}")
    won = [f"drive_{number}" for number, status in enumerate(statuses) if status == 200]
    assert disk.paths("main") == won
    assert set(statuses) <= ({200} if disk.server.kind == "stand-in" else {200, 429})


def test_of_writers_of_one_object_one_gets_in(disk):
    statuses = raced(disk, lambda _: "same")
    assert statuses.count(200) == 1
    assert disk.read("main", "same") == f"writer-{statuses.index(200)}".encode()
    assert set(statuses) <= {200, 409, 429}
