"""Laws of what the bytes are kept in, on every backend: named, counted, kept from a collection while somebody relies on them."""

import threading

import pytest

from drivelake.errors import Conflict, StoreError
from drivelake.versions import MAIN
from tests.drivelake.versions.backends import held

PATH, OTHER = "raw_logs/drive_01", "raw_logs/drive_02"
FILES = {"a": b"first" * 1000, "b/c": b"second" * 1000}


def listed(store):
    """What ``stored`` gives; the test stops where that is the server's own affair."""
    found = held(store)
    if found is None:
        pytest.skip("this block store is collected by its server alone: nothing is listed or removed from here")
    return found


def test_the_objects_of_a_version_are_stored_with_their_sizes(store, put_up, reopen):
    commit = put_up(PATH, FILES)
    named = store.objects(commit, PATH)
    assert reopen(store).objects(MAIN, PATH) == named
    stands = listed(store)
    sizes = {found.id: found.size for found in stands}
    assert sum(sizes[name] for name in named) >= sum(map(len, FILES.values()))
    assert all(found.age_s is None or -60 < found.age_s < 600 for found in stands)


def test_versions_of_other_bytes_share_no_object(store, put_up):
    one, two = put_up(PATH, {"a": b"1" * 100}), put_up(PATH, {"a": b"2" * 100})
    assert not store.objects(one, PATH) & store.objects(two, PATH)
    assert store.objects(one, PATH) | store.objects(two, PATH) <= {found.id for found in listed(store)}


def test_what_is_discarded_is_gone_and_named_and_publishing_again_brings_it_back(store, put_up, content, reopen):
    commit = put_up(PATH, FILES)
    put_up(OTHER, {"z": b"stays"})
    named = store.objects(commit, PATH)
    listed(store)
    with store.collecting():
        store.discard(named)
    assert not {found.id for found in listed(store)} & named
    assert store.objects(commit, PATH) == named, "given also when the bytes are gone"
    with pytest.raises(StoreError):
        content(reopen(store), commit, PATH)
    assert content(reopen(store), MAIN, OTHER) == {"z": b"stays"}
    with store.collecting():
        store.discard(named)
    assert put_up(PATH, FILES) == commit
    assert content(reopen(store), commit, PATH) == FILES


def test_two_never_collect_at_once_and_the_next_may_when_the_first_is_done(store, reopen):
    elsewhere = reopen(store)
    with store.collecting(), pytest.raises(Conflict), elsewhere.collecting():
        pass
    with elsewhere.collecting():
        pass
    with pytest.raises(ZeroDivisionError), store.collecting():
        1 / 0  # noqa: B018 - a collection that fails lets go as well
    with elsewhere.collecting():
        pass


def test_a_publisher_that_meets_a_collection_gets_through_and_relies_on_nothing_that_goes(store, put_up, content, reopen):
    """The same bytes stood in the store before and are taken out just then: they are stored again."""
    first = put_up(PATH, FILES)
    store.branch("work")
    store.remove("work", PATH)
    store.commit("work", "gone", {})
    store.merge("work")
    store.delete_branch("work")
    elsewhere, done = reopen(store), []
    publisher = threading.Thread(target=lambda: done.append(put_up(PATH, FILES, into=elsewhere)))
    with store.collecting():
        named = store.objects(first, PATH)
        publisher.start()
        publisher.join(0.3)
        if held(store) is not None:
            store.discard(named)
    publisher.join(60)
    assert len(done) == 1
    assert content(reopen(store), MAIN, PATH) == FILES


def test_reading_goes_on_while_somebody_collects(store, put_up, content, reopen):
    put_up(PATH, FILES)
    elsewhere = reopen(store)
    with store.collecting():
        assert content(elsewhere, MAIN, PATH) == FILES
        assert elsewhere.resolve(MAIN) == store.resolve(MAIN)
