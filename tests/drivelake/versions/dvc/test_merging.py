"""Commits are in order whatever the clocks said, and a merge finds what both sides have in common."""

import random

import pytest

from drivelake.errors import Conflict
from drivelake.versions import MAIN
from drivelake.versions.dvc import graph
from drivelake.versions.dvc.gitobjects import BLOB
from drivelake.versions.dvc.merging import History
from drivelake.versions.dvc.paths import place

YEAR_S = 365 * 24 * 3600
NOW_S = 1_900_000_000


@pytest.fixture
def clock(monkeypatch):
    """clock.s: what the machine's clock says."""

    class Clock:
        s = NOW_S

    monkeypatch.setattr(graph.time, "time", lambda: Clock.s)
    return Clock


@pytest.fixture
def store(embedded):
    return embedded


@pytest.fixture
def made(store):
    """made({place: text}, *parents) -> a commit on these that holds those beside what the first one holds."""
    trees = store._graph

    def go(files, *parents):
        entries = {at: (trees.objects.write_blob(text.encode()), BLOB) for at, text in files.items()}
        return trees.write_commit(trees.graft(trees.root(parents[0]), entries), parents, "m")

    return go


JUMPS = [(0, 10 * YEAR_S), (10 * YEAR_S, 0), (0, -30 * YEAR_S), (0, 0)]


@pytest.mark.parametrize(("first_s", "then_s"), JUMPS)
def test_versions_come_back_in_the_order_of_publishing_when_the_clock_jumps(first_s, then_s, clock, put_up, store):
    clock.s = NOW_S + first_s
    made = [put_up("raw_logs/drive_01", {"a": b"0"})]
    clock.s = NOW_S + then_s
    made += [put_up("raw_logs/drive_01", {"a": bytes([n])}) for n in range(1, 4)]
    entries = list(store.history(MAIN, "raw_logs/drive_01"))
    assert [entry.commit for entry in entries] == made[::-1]
    times = [entry.time for entry in entries]
    assert times == sorted(times, reverse=True), "no version reads older than one before it"
    assert times[0].timestamp() == max(NOW_S + first_s, NOW_S + then_s), "and none is newer than what a clock said"


def test_the_newest_change_of_a_path_comes_first_however_long_the_way_to_it(clock, store, made):
    # By a clock that stands still: the old version is two commits away from the merge, the new one three.
    at = place("raw_logs/drive_01")
    old = made({at: "old"}, store.resolve(MAIN))
    beside = made({"other/00/x": "x"}, old)
    new = made({at: "new"}, old)
    after = made({"z/00/z": "z"}, made({"y/00/y": "y"}, new))
    top = made({"other/00/x": "x"}, after, beside)
    history = History(store._graph)
    assert [commit.id for commit in history.walk_changes(top, at)] == [new, old]
    walked = [commit.id for commit in history.walk(top)]
    assert walked.index(old) > max(walked.index(new), walked.index(beside))


@pytest.mark.parametrize("seed", range(6))
def test_in_a_random_history_children_come_before_parents_and_the_base_is_a_nearest_one(seed, clock, store, made):
    dice = random.Random(seed)
    history, commits, parents = History(store._graph), [store.resolve(MAIN)], {}
    for n in range(40):
        clock.s = NOW_S + dice.choice([-20 * YEAR_S, -1, 0, 0, 1, 20 * YEAR_S])
        chosen = dice.sample(commits[-6:], min(len(commits[-6:]), dice.choice([1, 1, 2])))
        commits.append(made({f"a/00/{n}": str(n)}, *chosen))
        parents[commits[-1]] = chosen

    def reached(commit):
        return {commit}.union(*(reached(parent) for parent in parents.get(commit, ())))

    for commit in commits[-3:]:
        walked = [found.id for found in history.walk(commit)]
        assert sorted(walked) == sorted(reached(commit))
        assert all(walked.index(child) < walked.index(p) for child in walked for p in parents.get(child, ()))
    for a, b in [dice.sample(commits, 2) for _ in range(20)]:
        both = reached(a) & reached(b)
        base = history.merge_base(a, b)
        assert base in both
        assert not any(base in reached(other) for other in both - {base}), "no newer one descends from it"


def test_a_merge_is_right_when_the_branch_was_made_by_a_clock_years_behind(clock, store, make, put_up, content):
    put_up("raw_logs/drive_01", {"a": b"0"})
    store.branch("work")
    clock.s = NOW_S - 20 * YEAR_S
    store.put("work", "raw_logs/drive_02", make({"b": b"1"}), {"manifest.json": b"m"})
    store.commit("work", "m", {})
    clock.s = NOW_S
    put_up("raw_logs/drive_01", {"a": b"2"})
    store.merge("work")
    assert content(store, MAIN, "raw_logs/drive_01") == {"a": b"2"}
    assert content(store, MAIN, "raw_logs/drive_02") == {"b": b"1"}
    store.put("work", "raw_logs/drive_01", make({"a": b"3"}), {"manifest.json": b"m"})
    store.commit("work", "m", {})
    with pytest.raises(Conflict):
        store.merge("work")


def test_adding_and_taking_away_again_gives_the_same_tree(store):
    trees = store._graph
    root = trees.root(trees.resolve(MAIN))
    blob = (trees.objects.write_blob(b"x"), BLOB)
    added = trees.graft(root, {"a/00/b/c": blob, "a/01/b": blob})
    assert trees.graft(trees.graft(added, {"a/00/b/c": None}), {"a/01/b": None}) == root
