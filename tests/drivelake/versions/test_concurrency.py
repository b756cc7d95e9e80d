"""Many writers at once, each a process on a machine of its own where the store is shared.

Each is published or gets a Conflict, and main reads as if they had gone one after another.
"""

from collections import Counter

import pytest

from drivelake.errors import Conflict
from drivelake.versions import MAIN, EmbeddedStore, publish
from tests.drivelake.versions.backends import all_at_once

WRITERS = 24


def one_after_another(store, path):
    """The versions of a path in the order in which main took them; every commit is reachable and whole."""
    versions = [store.read(entry.commit, path, "manifest.json") for entry in store.history(MAIN, path)][::-1]
    assert versions[-1] == store.read(MAIN, path, "manifest.json")
    return versions


def test_different_paths_are_all_published(store, site, make, content, branches):
    folders = [make({"own": bytes([n]), "shared": b"the same object", "empty": b""}) for n in range(WRITERS)]

    def work(n):
        return publish(site.another(), f"raw_logs/drive_{n}", folders[n], b"m%d" % n, message="m", metadata={})

    got = all_at_once(work, WRITERS)
    assert [outcome for _, outcome, _ in got] == ["ok"] * WRITERS, got
    elsewhere = site.another()
    assert len(elsewhere.list(MAIN, "raw_logs")) == WRITERS
    for n, _, commit in got:
        assert elsewhere.read(MAIN, f"raw_logs/drive_{n}", "manifest.json") == b"m%d" % n
        assert [entry.commit for entry in elsewhere.history(MAIN, f"raw_logs/drive_{n}")] == [commit]
    assert content(elsewhere, MAIN, "raw_logs/drive_7") == {"own": b"\x07", "shared": b"the same object", "empty": b""}
    assert branches(store) == ["main"]
    assert store.check() > 0
    assert list(store.strangers()) == []


def test_the_same_path_with_different_bytes_is_published_or_conflicts(store, site, make, content, put_up, branches):
    path = "raw_logs/drive_01"
    put_up(path, {"a": b"first"}, manifest=b"first")
    folders = [make({"a": bytes([n])}) for n in range(WRITERS)]

    def work(n):
        return publish(site.another(), path, folders[n], b"m%d" % n, message="m", metadata={})

    got = all_at_once(work, WRITERS)
    counts = Counter(outcome for _, outcome, _ in got)
    assert counts["ok"] >= 1
    assert counts["ok"] + counts["Conflict"] == WRITERS, got
    published = {b"m%d" % n for n, outcome, _ in got if outcome == "ok"}
    order = one_after_another(store, path)
    assert order[0] == b"first"
    assert set(order[1:]) == published
    assert len(order) == 1 + len(published), "one commit a version: nobody was published twice or lost"
    assert content(store, MAIN, path) == {"a": bytes([int(order[-1][1:])])}
    assert branches(store) == ["main"]


def test_the_same_path_with_the_same_bytes_is_one_commit_for_all(store, site, make, branches):
    path = "raw_logs/drive_01"
    writers = WRITERS if site.local else 8
    folders = [make({"a": b"same", "empty": b""}) for _ in range(writers)]

    def work(n):
        return publish(site.another(), path, folders[n], b"same", message="m", metadata={})

    got = all_at_once(work, writers)
    (made,) = [entry.commit for entry in store.history(MAIN, path)]
    assert {(outcome, commit) for _, outcome, commit in got} == {("ok", made)}
    assert one_after_another(store, path) == [b"same"]
    assert branches(store) == ["main"]


def test_a_store_is_made_once_however_many_make_it(site, branches):
    got = all_at_once(lambda _: site.create().resolve(MAIN), 6)
    assert {outcome for _, outcome, _ in got} == {"ok"}, got
    assert {commit for _, _, commit in got} == {site.another().resolve(MAIN)}
    assert branches(site.another()) == ["main"]


def test_an_embedded_store_made_by_many_holds_nothing_of_their_attempts(tmp_path):
    all_at_once(lambda _: EmbeddedStore.create(tmp_path / "store").resolve(MAIN), 8)
    assert sorted(p.name for p in (tmp_path / "store").iterdir()) == ["files", "locks", "repo.git"]


@pytest.mark.parametrize("moving", [False, True])
def test_one_of_many_makes_or_moves_a_tag(moving, store, site, put_up):
    """Each writer to a commit of its own: one gets through, and the others hear where the tag is now."""
    start, *targets = [put_up("raw_logs/drive_01", {"a": bytes([n])}) for n in range(5)]
    expected = start if moving else None
    if moving:
        store.tag("prod", start)

    def work(n):
        site.another().tag("prod", targets[n], expected=expected)
        return targets[n]

    got = all_at_once(work, len(targets))
    at = store.resolve("prod")
    assert [target for _, outcome, target in got if outcome == "ok"] == [at]
    assert {outcome for _, outcome, _ in got} == {"ok", Conflict.__name__}
    assert all(at[:12] in text for _, outcome, text in got if outcome != "ok"), got


def test_reverts_and_merges_that_meet_all_get_through(store, site, put_up, make, content):
    """A publisher never takes back what a revert did meanwhile, and the other way round."""
    commits = [put_up(f"raw_logs/drive_{n}", {"a": b"old"}, manifest=b"old") for n in range(6)]
    reverted = [put_up(f"raw_logs/drive_{n}", {"a": b"bad"}, manifest=b"bad") for n in range(3)]
    folders = [make({"a": b"new"}) for _ in range(6)]

    def work(n):
        if n < 3:
            return site.another().revert(reverted[n])
        return publish(site.another(), f"raw_logs/drive_{n}", folders[n], b"new", message="m", metadata={})

    got = all_at_once(work, 6)
    assert {outcome for _, outcome, _ in got} == {"ok"}, got
    manifests = [store.read(MAIN, f"raw_logs/drive_{n}", "manifest.json") for n in range(6)]
    assert manifests == [b"old"] * 3 + [b"new"] * 3
    assert store.diff(commits[-1], MAIN) == tuple(f"raw_logs/drive_{n}" for n in range(3, 6))
