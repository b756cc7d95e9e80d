"""Laws of tags, on every backend: they move only from where they are expected."""

import pytest

from drivelake.errors import Conflict, NotFound, StoreError
from drivelake.versions import MAIN

PATH = "raw_logs/drive_01"


@pytest.fixture
def commits(put_up):
    return [put_up(PATH, {"a": bytes([n])}) for n in range(3)]


def test_a_tag_moves_only_from_where_it_is_expected(store, commits, reopen):
    one, two, three = commits
    store.tag("prod", one)
    for expected in (None, two, three):
        with pytest.raises(Conflict) as caught:
            store.tag("prod", three, expected=expected)
        assert one[:12] in str(caught.value)
        assert three[:12] in str(caught.value)
    assert store.resolve("prod") == one
    store.tag("prod", two, expected=one)
    assert store.resolve("prod") == reopen(store).resolve("prod") == two
    with pytest.raises(Conflict):
        store.tag("other", two, expected=one)
    with pytest.raises(NotFound):
        store.resolve("other")


def test_a_tag_set_again_to_where_it_is_stays_there(store, commits):
    one, two, _ = commits
    for _ in range(2):
        store.tag("prod", one)
    for _ in range(2):
        store.tag("prod", two, expected=one)
    assert dict(store.tags()) == {"prod": two}


def test_tags_are_listed_sorted_and_name_commits_whatever_ref_they_were_given(store, commits, reopen):
    one, two, three = commits
    store.branch("work", at=two)
    store.tag("z", one[:10])
    store.tag("release-1", "work")
    store.tag("a", "z")
    store.tag("m", three)
    store.delete_branch("work")
    assert list(reopen(store).tags().items()) == [("a", one), ("m", three), ("release-1", two), ("z", one)]


def test_a_tag_stays_where_it_is_while_its_branch_goes_on(store, commits, put_up, content):
    store.tag("prod", MAIN)
    at = store.resolve("prod")
    put_up(PATH, {"a": b"later"})
    assert store.resolve("prod") == at
    assert content(store, "prod", PATH) == {"a": b"\x02"}


def test_a_tag_keeps_a_commit_that_no_branch_has_any_more(store, make, content, reopen):
    store.branch("work")
    store.put("work", PATH, make({"a": b"kept"}), {"manifest.json": b"m"})
    commit = store.commit("work", "m", {})
    store.tag("keep", commit)
    store.delete_branch("work")
    assert content(reopen(store), "keep", PATH) == {"a": b"kept"}
    assert store.resolve(commit[:12]) == commit


def test_a_tag_is_removed_only_from_where_it_is_expected(store, commits, reopen):
    one, two, _ = commits
    store.tag("prod", one)
    with pytest.raises(Conflict) as caught:
        store.untag("prod", two)
    assert one[:12] in str(caught.value)
    assert store.resolve("prod") == one
    store.untag("prod", one)
    assert dict(reopen(store).tags()) == {}
    with pytest.raises(NotFound):
        store.untag("prod", one)
    store.tag("prod", two)
    assert store.resolve("prod") == two


def test_a_tag_and_a_branch_of_one_name_are_two_things(store, commits):
    one, two, _ = commits
    store.branch("same", at=one)
    try:
        store.tag("same", two)
    except StoreError:
        assert dict(store.tags()) == {}, "refused, and so not there"
    else:
        assert (store.branches()["same"], store.tags()["same"]) == (one, two)
    assert store.resolve("same") == one
