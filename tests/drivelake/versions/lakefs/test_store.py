"""The lakeFS store operation by operation, and what only it can get wrong."""

import os
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from drivelake.errors import Conflict, Denied, GateClosed, NotFound, StoreError, Unavailable
from drivelake.versions import MAIN, publish
from drivelake.versions.lakefs import garbage
from drivelake.versions.lakefs.calls import Server
from drivelake.versions.lakefs.store import LakeFSStore
from drivelake.versions.lakefs.tags import TAG_LOCK
from tests.servers.lakefs.hooks import Refused, equivalents

PATH = "raw_logs/drive_01"


@pytest.fixture
def opened(tmp_path, monkeypatch):
    """opened(server, repository=None, machine="one", **options) -> a store on a repository of that server."""

    def go(server, repository=None, machine="one", url=None, **options):
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        options = {"patience_s": 20.0, **options}
        return LakeFSStore(url or server.endpoint, repository or server.repository("lake"), tmp_path / machine, **options)

    return go


@pytest.fixture
def store(opened, lakefs_local):
    return opened(lakefs_local)


def again(store, machine, **options):
    return LakeFSStore(store.server.url, store.server.repository, store.cache.parent / machine, patience_s=20.0, **options)


@pytest.mark.parametrize("name", ["LAKEFS_ACCESS_KEY_ID", "LAKEFS_SECRET_ACCESS_KEY"])
def test_without_credentials_opening_is_denied_and_says_which_are_missing(store, monkeypatch, name):
    monkeypatch.delenv(name)
    with pytest.raises(Denied, match=f"{name} is not set.*Next: set LAKEFS"):
        again(store, "two")


def test_wrong_credentials_are_denied(store, monkeypatch):
    monkeypatch.setenv("LAKEFS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(Denied):
        again(store, "two")


def test_the_url_may_end_as_the_servers_api_does(store):
    for url in (f"{store.server.url}/", f"{store.server.url}/api/v1", f"{store.server.url}/api/v1/"):
        assert Server(url, "lake").url == store.server.url


def test_a_repository_that_is_not_there_is_not_found(lakefs_local, opened):
    with pytest.raises(NotFound, match=r"no repository 'nobodys-lake'.*drivelake init"):
        opened(lakefs_local, "nobodys-lake")


def test_many_who_make_one_repository_at_once_make_one_with_a_protected_main(lakefs_local, opened, tmp_path, make):
    opened(lakefs_local)
    name = f"made-{os.urandom(4).hex()}"
    namespace = f"{lakefs_local.namespace}/{name}"

    def create(n):
        return LakeFSStore.create(lakefs_local.endpoint, name, tmp_path / str(n), storage_namespace=namespace)

    with ThreadPoolExecutor(8) as pool:
        stores = list(pool.map(create, range(8)))
    assert len({store.resolve(MAIN) for store in stores}) == 1
    rules = lakefs_local.sdk().repositories_api.get_branch_protection_rules(name)
    assert [rule.pattern for rule in rules] == [MAIN]
    assert publish(stores[0], PATH, make({"a": b"1"}), b"m", message="m", metadata={})
    with pytest.raises(StoreError, match="no storage namespace"):
        LakeFSStore.create(lakefs_local.endpoint, f"{name}-2", tmp_path / "x")


def test_main_is_written_by_merging_alone(store, make):
    for act in (
        lambda: store.put(MAIN, PATH, make({"a": b"1"}), {}),
        lambda: store.remove(MAIN, PATH),
        lambda: store.commit(MAIN, "m", {}),
        lambda: store.delete_branch(MAIN),
    ):
        with pytest.raises(StoreError, match="main is written by merge alone"):
            act()


@pytest.mark.parametrize("ref", ["main~1", "main^", "main@", "main$", "lock-gc", "", "a..b", "0" * 64, "abcdef1"])
def test_expressions_and_locks_are_no_refs(store, ref):
    with pytest.raises(NotFound):
        store.resolve(ref)


def test_the_same_bytes_are_not_sent_again(lakefs_local, opened, make):
    store = opened(lakefs_local)
    stand_in = lakefs_local.stand_in
    files = {"a": b"1" * 1000, "b/c": b"2" * 1000}
    first = publish(store, PATH, make(files), b"m", message="m", metadata={})
    sent = stand_in.requests("POST", "/objects")
    elsewhere = again(store, "two")
    assert publish(elsewhere, PATH, make(files), b"m", message="m", metadata={"Drivelake-Run": "2"}) == first
    assert stand_in.requests("POST", "/objects") == sent
    publish(store, PATH, make({**files, "a": b"3" * 1000}), b"m2", message="m", metadata={})
    assert stand_in.requests("POST", "/objects") == sent + 2, "the file that changed, and the manifest"


def test_a_merge_carries_the_metadata_to_the_server_and_shows_none(store, lakefs_local, make):
    publish(store, PATH, make({"a": b"1"}), b"m", message="m", metadata={"Drivelake-Run": "r1"})
    merge = store.resolve(MAIN)
    assert next(store.history(MAIN)).metadata == {}
    seen = lakefs_local.sdk().commits_api.get_commit(store.server.repository, merge).metadata
    assert seen["Drivelake-Run"] == "r1"
    assert seen["Drivelake-Version"].startswith(PATH)


def test_two_sides_that_change_different_files_of_one_path_conflict_though_the_server_would_merge_them(store, make):
    publish(store, PATH, make({"a": b"1", "b": b"1"}), b"m", message="m", metadata={})
    for name, files in (("one", {"a": b"2", "b": b"1"}), ("two", {"a": b"1", "b": b"2"})):
        store.branch(name)
        store.put(name, PATH, make(files), {"manifest.json": b"m"})
        store.commit(name, name, {})
    store.merge("one")
    head = store.resolve(MAIN)
    with pytest.raises(Conflict, match=f"{PATH} by commit [0-9a-f]{{12}} on main"):
        store.merge("two")
    assert store.resolve(MAIN) == head


def test_what_another_staged_on_a_branch_is_not_committed(store, make):
    store.branch("work")
    other = again(store, "two")
    other.put("work", "raw_logs/theirs", make({"a": b"1"}), {})
    assert store.commit("work", "nothing of mine", {}) == store.resolve("work") == store.resolve(MAIN)
    store.put("work", PATH, make({"a": b"1"}), {})
    with pytest.raises(Conflict, match="raw_logs/theirs on branch 'work' was staged by another"):
        store.commit("work", "m", {})
    assert store.list("work") == (), "what is staged is not read"


def test_what_comes_back_from_the_server_is_the_same_on_another_machine(store, make):
    files = {"a": b"1", "deep/er/b": os.urandom(200_000), "empty": b""}
    commit = publish(store, PATH, make(files), b"m", message="m", metadata={})
    found = again(store, "two").files(commit, PATH)
    assert {name: file.read_bytes() for name, file in found.items()} == files
    assert all(file.stat().st_mode & 0o777 == 0o444 for file in found.values())


def test_thirty_two_who_publish_different_paths_at_once_all_get_through(store, make):
    folders = [make({"a": bytes([n])}) for n in range(32)]
    stores = [again(store, f"machine_{n}") for n in range(4)]

    def one(n):
        path = f"raw_logs/drive_{n:02d}"
        return publish(stores[n % 4], path, folders[n], b"m%d" % n, message=path, metadata={"Drivelake-Run": str(n)})

    with ThreadPoolExecutor(32) as pool:
        commits = list(pool.map(one, range(32)))
    assert len(store.list(MAIN, "raw_logs")) == 32
    assert dict(store.read_each(MAIN, "raw_logs", "manifest.json")) == {f"drive_{n:02d}": b"m%d" % n for n in range(32)}
    assert {entry.commit for entry in store.history(MAIN)} >= set(commits)
    assert list(store.branches()) == [MAIN]


def test_sweeping_removes_what_killed_publishers_left_and_nothing_that_is_worked_on(store, make):
    publish(store, PATH, make({"a": b"1"}), b"m", message="m", metadata={})
    for name in ("publish-committed-1", "publish-staged-1", "publish-empty-1", "mine"):
        store.branch(name)
    store.put("publish-committed-1", PATH, make({"a": b"2"}), {"manifest.json": b"2"})
    store.commit("publish-committed-1", "m", {})
    store.put("publish-staged-1", PATH, make({"a": b"3"}), {"manifest.json": b"3"})
    assert store.sweep(3600) == []
    assert len(store.branches()) == 5
    assert store.sweep(0) == ["publish-committed-1", "publish-empty-1", "publish-staged-1"]
    assert list(store.branches()) == [MAIN, "mine"]
    assert store.strangers() == ["refs/heads/mine"]


def test_sweeping_takes_no_branch_on_which_somebody_has_just_staged_a_removal_beside_older_paths(store, make):
    for path in (PATH, f"{PATH}0"):
        publish(store, path, make({"a": b"1"}), b"m", message="m", metadata={})
    time.sleep(2.1)  # the server's clock counts whole seconds
    store.branch("publish-removing-1")
    store.remove("publish-removing-1", PATH)
    assert store.sweep(2) == []
    assert "publish-removing-1" in store.branches()


def test_sweeping_leaves_the_branch_alone_on_which_a_mover_of_a_tag_just_makes_its_lock(store):
    scratch = f"{TAG_LOCK}{b'prod'.hex()}-0011aabb"
    store._refs.create(scratch, store.resolve(MAIN))
    time.sleep(2.1)  # the commit it stands at is old, the branch is not
    assert store.sweep(2) == []
    assert store._refs.head(scratch) is not None


def test_who_collects_sweeps_what_killed_publishers_left(store, monkeypatch):
    store.branch("publish-dead-1")
    store.branch("mine")
    with store.collecting():
        assert "publish-dead-1" in store.branches(), "young"
    monkeypatch.setattr(garbage, "DAY_S", 0.0)
    with store.collecting():
        assert list(store.branches()) == [MAIN, "mine"]


def test_a_collector_that_was_held_up_removes_nothing_more(opened, lakefs_s3, s3, make):
    store = opened(lakefs_s3, s3_endpoint=s3)
    commit = publish(store, PATH, make({"a": b"1"}), b"m", message="m", metadata={})
    ids = store.objects(commit, PATH)
    with pytest.raises(StoreError, match="nobody keeps publishers waiting"):
        store.discard(ids)
    with store.collecting():
        store._garbage._renewed_s -= 400.0
        with pytest.raises(StoreError, match="was not renewed for 300 s"):
            store.discard(ids)
    assert store.addresses(commit, PATH)["a"].size == 1
    assert again(store, "two", s3_endpoint=s3).files(commit, PATH)["a"].read_bytes() == b"1"


def test_credentials_in_the_url_are_refused_and_not_repeated(store):
    with pytest.raises(StoreError, match="holds credentials") as refused:
        Server("http://somebody:hushhush@lakefs.example", "lake")
    assert "hushhush" not in str(refused.value)


GATES = b"""
name: gates
on:
  pre-merge:
    branches: [main]
hooks:
  - id: test_gate
    type: lua
    properties:
      script: error("written for the stand-in in Python")
"""


def test_hooks_are_installed_once_and_are_no_strangers(store):
    elsewhere = GATES.replace(b"[main]", b"[nowhere]")
    head = store.install_actions({"gates.yaml": elsewhere})
    assert store.install_actions({"gates.yaml": elsewhere}) == head
    assert store.strangers() == []
    assert store.list(MAIN) == ()
    with pytest.raises(StoreError, match="no file of a hook"):
        store.install_actions({"../x": b""})


def test_a_gate_that_closes_says_the_hooks_words_and_sees_the_metadata(lakefs_local, opened, make, monkeypatch):
    assert lakefs_local.stand_in, "the gate is written in Python"
    seen = []

    def gate(event, *_):
        seen.append(dict(event.metadata))
        if len(seen) > 1:
            raise Refused("gate latency_ms is 31, at most 20")

    monkeypatch.setitem(equivalents, "test_gate", gate)
    store = opened(lakefs_local)
    store.install_actions({"gates.yaml": GATES})
    with pytest.raises(GateClosed, match="gate latency_ms is 31"):
        publish(store, PATH, make({"a": b"1"}), b"m", message="m", metadata={"Drivelake-Run": "r1"})
    assert seen[1]["Drivelake-Run"] == "r1"
    assert store.list(MAIN) == ()
    assert list(store.branches()) == [MAIN]


def test_strangers_are_named(store, lakefs_local, make):
    api = lakefs_local.client()
    publish(store, PATH, make({"a": b"1"}), b"m", message="m", metadata={})
    store.branch("work")
    import lakefs

    branch = lakefs.Repository(store.server.repository, client=api).branch("work")
    for name in ("README.md", "raw_logs/drive_02/data/x", f"{PATH}/notes.txt", "Other/x/manifest.json"):
        branch.object(name).upload(b"x", pre_sign=False)
    branch.commit("strange")
    assert store.strangers("work") == [
        "Other/x/manifest.json",
        "README.md",
        f"{PATH}/notes.txt",
        "raw_logs/drive_02",
        "refs/heads/work",
    ]
    assert store.check("work") == 4


def test_lists_of_many_pages_are_whole(opened, make):
    from tests.servers.lakefs.fixtures import lakefs_server

    with lakefs_server("local", page=3) as server:
        store = opened(server)
        store.branch("work")
        for n in range(8):
            store.put("work", f"raw_logs/drive_{n}", make({"a": bytes([n]), "b": b"b", "c": b"c"}), {"manifest.json": b"%d" % n})
        commit = store.commit("work", "m", {})
        store.merge(commit)
        assert store.list(MAIN, "raw_logs") == tuple(f"drive_{n}" for n in range(8))
        assert len(list(store.read_each(MAIN, "raw_logs", "manifest.json"))) == 8
        assert len(store.diff(MAIN, next(iter(reversed(list(store.history())))).commit)) == 8
        for n in range(7):
            store.tag(f"t{n}", commit)
        assert len(store.tags()) == 7


def test_bytes_that_a_collection_took_are_put_back_by_who_publishes_them_again(opened, lakefs_s3, s3, make):
    store = opened(lakefs_s3, s3_endpoint=s3)
    files = {"a": b"1" * 100_000}
    commit = publish(store, PATH, make(files), b"m", message="m", metadata={})
    with store.collecting():
        store.discard(store.objects(commit, PATH))
    with pytest.raises(StoreError):
        again(store, "two", s3_endpoint=s3).files(commit, PATH)
    assert publish(store, PATH, make(files), b"m", message="m", metadata={}) == commit
    found = again(store, "three", s3_endpoint=s3).files(commit, PATH)
    assert {name: file.read_bytes() for name, file in found.items()} == files


def test_manifests_and_what_is_staged_are_never_given_to_a_collector(opened, lakefs_s3, s3, make):
    store = opened(lakefs_s3, s3_endpoint=s3, young_s=0)
    first = publish(store, PATH, make({"a": b"1"}), b"one", message="m", metadata={})
    publish(store, PATH, make({"a": b"2"}), b"two", message="m", metadata={})
    store.branch("publish-x")
    store.put("publish-x", PATH, make({"a": b"3"}), {"manifest.json": b"three"})
    stored = {one.id: one.size for one in store.stored()}
    assert stored == dict.fromkeys(store.objects(first, PATH) | store.objects(MAIN, PATH), 1)
    with pytest.raises(StoreError, match="holds no version's bytes"):
        store.discard([f"{lakefs_s3.namespace}/other/_lakefs/x"])


def test_where_lakefs_collects_itself_discarding_says_so(store, make):
    commit = publish(store, PATH, make({"a": b"1"}), b"m", message="m", metadata={})
    for act in (lambda: list(store.stored()), lambda: store.discard(store.objects(commit, PATH))):
        with pytest.raises(StoreError, match=r"SKIPPED: .*Next: let lakeFS collect"):
            act()


def test_a_server_that_is_gone_is_unavailable_after_the_patience_and_found_again(opened, lakefs_local, make):
    store = opened(lakefs_local, patience_s=0.5)
    commit = publish(store, PATH, make({"a": b"1"}), b"m", message="m", metadata={})
    lakefs_local.stand_in.stop()
    try:
        with pytest.raises(Unavailable):
            store.resolve(MAIN)
    finally:
        lakefs_local.stand_in.start()
    shutil.rmtree(store.cache)
    assert store.files(commit, PATH)["a"].read_bytes() == b"1"


def test_a_store_works_in_a_child_after_fork_and_from_many_threads(store, make):
    publish(store, PATH, make({"a": b"1"}), b"m", message="m", metadata={})
    child = os.fork()
    if child == 0:
        os._exit(0 if store.read(MAIN, PATH, "manifest.json") == b"m" else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    seen = []
    threads = [threading.Thread(target=lambda: seen.append(store.resolve(MAIN))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == [store.resolve(MAIN)] * 8


def test_a_commit_has_a_page(store):
    assert store.link("ab" * 32) == f"{store.server.url}/repositories/{store.server.repository}/commits/{'ab' * 32}"
