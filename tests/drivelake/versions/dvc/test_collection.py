"""A collector and publishers never meet: on one machine by locks, on a bucket by a lease and a second look."""

import shutil
import threading
import time

import pytest

from drivelake.errors import Conflict, StoreError
from drivelake.versions import MAIN, EmbeddedStore, publish
from drivelake.versions.dvc import collection
from drivelake.versions.dvc.collection import Collection
from drivelake.versions.s3.bucket import Bucket

PATH = "raw_logs/drive_01"


@pytest.fixture
def bucket(bucket_url, s3):
    return Bucket(bucket_url, s3)


@pytest.fixture
def machine(tmp_path, bucket):
    """machine(name) -> the store on the bucket as a machine of that name has it."""
    return lambda name: EmbeddedStore.create(tmp_path / name, bucket)


@pytest.fixture(params=["local", "bucket"])
def store(request, embedded):
    return embedded if request.param == "local" else request.getfixturevalue("machine")("one")


def test_nothing_is_discarded_outside_of_a_collection(store, put_up):
    put_up(PATH, {"a": b"1"})
    ids = list(store.objects(MAIN, PATH))
    with pytest.raises(StoreError, match="nobody keeps publishers waiting"):
        store.discard(ids)
    with store.collecting():
        store.discard(ids)
        store.discard(ids)
    assert not {stored.id for stored in store.stored()} & set(ids)


def test_a_merge_outside_of_hold_looks_whether_its_files_are_there(store, make, put_up):
    store.branch("work")
    store.put("work", PATH, make({"a": b"1"}), {"manifest.json": b"m"})
    store.commit("work", "m", {})
    with store.collecting():
        store.discard(list(store.objects("work", PATH)))
    with pytest.raises(StoreError, match="is missing"):
        store.merge("work")
    assert store.list(MAIN) == ()


def test_a_revert_to_files_that_were_collected_is_refused(store, put_up, content):
    put_up(PATH, {"a": b"1"})
    gone = list(store.objects(MAIN, PATH))
    second = put_up(PATH, {"a": b"2"})
    with store.collecting():
        store.discard(gone)
    with pytest.raises(StoreError, match="is missing"):
        store.revert(second)
    assert content(store, MAIN, PATH) == {"a": b"2"}
    assert list(store.branches()) == ["main"]


def test_a_tag_on_files_that_were_collected_is_refused_and_not_made(store, put_up):
    first = put_up(PATH, {"a": b"1"})
    gone = list(store.objects(MAIN, PATH))
    second = put_up(PATH, {"a": b"2"})
    with store.collecting():
        store.discard(gone)
    with pytest.raises(StoreError, match="is missing"):
        store.tag("v1", first)
    assert store.tags() == {}
    store.tag("v2", second)
    with store.collecting():
        store.discard(list(store.objects(MAIN, PATH)))
    store.tag("v3", second)  # what stands at main and is gone nevertheless was withdrawn


def test_a_merge_within_hold_of_what_was_collected_before_is_refused(store, make):
    store.branch("work")
    store.put("work", PATH, make({"a": b"1"}), {"manifest.json": b"m"})
    commit = store.commit("work", "m", {})
    store.delete_branch("work")
    with store.collecting():
        store.discard(list(store.objects(commit, PATH)))
    with store.hold(PATH), pytest.raises(StoreError, match="is missing"):
        store.merge(commit)
    assert store.list(MAIN) == ()


def test_a_collector_waits_for_publishers_and_keeps_new_ones_out(tmp_path):
    locks, order = tmp_path / "locks", []
    inside, waits = threading.Event(), threading.Event()

    def publisher():
        with Collection(locks, None).relying():
            inside.set()
            waits.wait(10)
            time.sleep(0.2)
            order.append("first publisher")

    def collector():
        with Collection(locks, None).collecting():
            order.append("collector")

    def late():
        with Collection(locks, None).relying():
            order.append("late publisher")

    threads = [threading.Thread(target=work) for work in (publisher, collector, late)]
    threads[0].start()
    assert inside.wait(10)
    threads[1].start()
    while not (locks / "gc-door").exists():
        time.sleep(0.01)
    time.sleep(0.1)
    threads[2].start()
    time.sleep(0.1)
    waits.set()
    for thread in threads:
        thread.join(20)
    assert order == ["first publisher", "collector", "late publisher"]
    assert list(locks.iterdir()) == [], "no lock leaves a file"


def test_what_a_collection_took_between_sending_and_merging_is_sent_again(machine, make, content):
    one, other = machine("one"), machine("two")

    def collect(step):
        if step == "objects staged":  # nothing names them yet
            with other.collecting():
                other.discard([stored.id for stored in other.stored()])

    publish(one, PATH, make({"a": b"1", "b": b"2"}), b"m", message="m", metadata={}, on_step=collect)
    assert content(machine("three"), MAIN, PATH) == {"a": b"1", "b": b"2"}


def test_without_a_collection_in_between_nothing_is_asked_for_twice(machine, make, monkeypatch):
    store, asked = machine("one"), []
    ensure = store._objects.ensure
    monkeypatch.setattr(store._objects, "ensure", lambda staged: asked.append(staged) or ensure(staged))
    publish(store, PATH, make({"a": b"1"}), b"m", message="m", metadata={})
    assert len(asked) == 1


def test_a_merge_waits_until_a_collector_elsewhere_is_done(machine, make, monkeypatch):
    monkeypatch.setattr(collection, "POLL_S", 0.05)
    one, other, order = machine("one"), machine("two"), []

    def publishing():
        publish(one, PATH, make({"a": b"1"}), b"m", message="m", metadata={}, on_step=order.append)

    with other.collecting():
        thread = threading.Thread(target=publishing)
        thread.start()
        while "committed on branch" not in order:
            time.sleep(0.01)
        time.sleep(0.3)
        assert other.list(MAIN) == ()
        order.append("collected")
    thread.join(20)
    assert order.index("collected") < order.index("merged")


def test_a_lease_is_renewed_while_its_holder_lives_and_taken_over_when_it_died(tmp_path, bucket, monkeypatch):
    # The server's clock counts whole seconds.
    for name, seconds in (("LEASE_S", 3.0), ("RENEW_S", 0.2), ("POLL_S", 0.05)):
        monkeypatch.setattr(collection, name, seconds)
    living, other = Collection(tmp_path / "a", bucket), Collection(tmp_path / "b", bucket)
    with living.collecting():
        time.sleep(4.5)
        living.require()
        with pytest.raises(Conflict, match="Another collection is at work on s3://"), other.collecting():
            pass
    with other.collecting():
        other.require()
    bucket.put("gc.lock", b"held by one that died")
    assert Collection(tmp_path / "c", bucket).wait() is None
    with other.collecting():
        other.require()
    assert other.epoch() not in (None, "never")


def test_a_collector_whose_lease_was_taken_over_removes_nothing_more(tmp_path, bucket, monkeypatch):
    for name, seconds in (("LEASE_S", 1.0), ("RENEW_S", 0.1)):
        monkeypatch.setattr(collection, name, seconds)
    slow = Collection(tmp_path / "a", bucket)
    with slow.collecting():
        bucket.put("gc.lock", b"held by another")
        time.sleep(0.8)
        with pytest.raises(StoreError, match="was not renewed"):
            slow.require()
    assert bucket.get("gc.lock") == b"held by another"


def test_a_lease_that_lapsed_while_its_holder_slept_is_not_renewed(tmp_path, bucket, monkeypatch):
    monkeypatch.setattr(collection, "RENEW_S", 0.1)
    now_s, slept_s = collection._now_s, [0.0]
    monkeypatch.setattr(collection, "_now_s", lambda: now_s() + slept_s[0])
    sleeper = Collection(tmp_path / "a", bucket)
    with sleeper.collecting():
        sleeper.require()
        slept_s[0] = collection.LEASE_S
        time.sleep(0.5)  # awake again, with time for several renewals
        with pytest.raises(StoreError, match="was not renewed"):
            sleeper.require()


def test_a_lease_is_renewed_and_given_back_where_the_same_bytes_get_another_etag(tmp_path, bucket, monkeypatch):
    for name, seconds in (("LEASE_S", 2.0), ("RENEW_S", 0.1)):
        monkeypatch.setattr(collection, name, seconds)
    put_if, get, writes = bucket.put_if, bucket.get_with_etag, []

    def written(key, data, expected):
        done = expected in (None, f"etag {len(writes)}") and put_if(key, data, get(key)[1] if expected else None)
        writes.extend([data] if done else [])
        return done

    def read(key):
        found = get(key)
        return None if found is None else (found[0], f"etag {len(writes)}")

    monkeypatch.setattr(bucket, "put_if", written)
    monkeypatch.setattr(bucket, "get_with_etag", read)
    collector = Collection(tmp_path / "a", bucket)
    with collector.collecting():
        time.sleep(1.5)
        collector.require()
    assert bucket.get("gc.lock").startswith(b"free ")


def test_a_tag_that_met_a_dead_collectors_lock_is_looked_at_again(machine, put_up, store, monkeypatch):
    if store._bucket is None:
        pytest.skip("on one machine a lock dies with its holder")
    monkeypatch.setattr(collection, "LEASE_S", -10.0)
    first = put_up(PATH, {"a": b"1"})
    put_up(PATH, {"a": b"2"})
    store._bucket.put("gc.lock", b"held by one that died")
    looked, rely_on = [], store._rely_on
    monkeypatch.setattr(store, "_rely_on", lambda *commits: looked.append(commits) or rely_on(*commits))
    store.tag("v1", first)
    assert len(looked) == 2, "another may have begun to collect, and its lock reads as the dead one's"


def test_a_commit_that_another_process_never_sent_is_not_merged(machine, make, monkeypatch):
    one = machine("one")
    one.branch("work")
    one.put("work", PATH, make({"a": b"1"}), {"manifest.json": b"m"})
    monkeypatch.setattr(one._graph, "move", lambda *_: True)  # killed between writing the commit and sending it
    one.commit("work", "m", {})
    (commit,) = (
        oid
        for oid in map(str, one._graph._repository)
        if one._graph.objects.read(oid)[0] == "commit" and (one._bucket.head(one._graph.remote.key(oid)) is None)
    )
    publish(machine("two"), "raw_logs/drive_02", make({"b": b"2"}), b"m2", message="m", metadata={})
    with pytest.raises(StoreError, match="on this machine alone"):
        machine("one").merge(commit)
    assert machine("three").list(MAIN, "raw_logs") == ("drive_02",)


def test_a_tag_waits_for_a_collector_and_one_that_met_it_is_looked_at(machine, put_up, store, monkeypatch):
    if store._bucket is None:
        pytest.skip("on one machine the tag waits for the lock")
    put_up(PATH, {"a": b"1"})
    old, other = store.resolve(MAIN), machine("two")
    gone = list(store.objects(old, PATH))
    put_up(PATH, {"a": b"2"})
    shutil.rmtree(store.root / "files" / "md5")
    (store.root / "files" / "md5").mkdir()
    move = store._graph.move

    def meanwhile(*args):
        with other.collecting():
            other.discard(gone)
        return move(*args)

    monkeypatch.setattr(store._graph, "move", meanwhile)
    with pytest.raises(StoreError, match="is missing"):
        store.tag("late", old)


def test_a_collector_may_publish_and_tag_itself(store, put_up, content):
    with store.collecting():
        store.tag("kept", put_up(PATH, {"a": b"1"}))
    assert content(store, "kept", PATH) == {"a": b"1"}
