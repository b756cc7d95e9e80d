"""A network that fails at any one call of a publisher: what it did is found, the same version stands, nothing is left behind."""

import hashlib

import pytest

from drivelake.errors import StoreError, Unavailable
from drivelake.versions import MAIN, publish
from drivelake.versions.lakefs.store import LakeFSStore
from tests.servers.faults import FaultProxy

PATH = "raw_logs/drive_01"
FILES = {"a": b"1" * 1000, "b": b"2"}
# every call that changes something, by the method and path that it has
CHANGES = [
    ("POST", r"/branches$"),
    ("POST", r"/branches/[^/]+/objects\?"),
    ("POST", r"/objects/delete"),
    ("POST", r"/commits$"),
    ("POST", r"/merge/"),
    ("DELETE", r"/branches/"),
    ("POST", r"/tags$"),
    ("DELETE", r"/tags/"),
    ("POST", r"/revert"),
]


@pytest.fixture
def fragile(lakefs_local, monkeypatch, tmp_path):
    """(store behind a proxy, that proxy, the same store without it)."""
    for name, value in lakefs_local.environment.items():
        monkeypatch.setenv(name, value)
    repository = lakefs_local.repository("fragile")
    with FaultProxy(lakefs_local.endpoint) as proxy:
        yield (
            LakeFSStore(proxy.endpoint, repository, tmp_path / "one", patience_s=10.0, lease_s=1.0),
            proxy,
            LakeFSStore(lakefs_local.endpoint, repository, tmp_path / "two", patience_s=10.0),
        )


def do_all(store, make):
    """A publication, another that replaces it, its reversal, a tag that moves and goes; gives what a reader sees after."""
    first = publish(store, PATH, make({**FILES, "c": b"old"}), b"one", message="one", metadata={"Drivelake-Run": "r"})
    second = publish(store, PATH, make(FILES), b"two", message="two", metadata={})
    store.tag("prod", first)
    store.tag("prod", second, expected=first)
    store.tag("gone", first)
    store.untag("gone", first)
    head = store.revert(second)
    return first, second, head


@pytest.mark.parametrize("kind", ["lost", "reset", "503"])
@pytest.mark.parametrize(("method", "path"), CHANGES)
def test_an_answer_that_is_lost_changes_nothing_of_the_result(fragile, make, kind, method, path):
    store, proxy, plain = fragile
    fault = proxy.plan(kind, method=method, path=path, nth=1)
    first, second, head = do_all(store, make)
    assert fault.happened == 1, "the plan met its call"
    assert plain.resolve(MAIN) == head
    assert plain.read(MAIN, PATH, "manifest.json") == b"one"
    assert {name: file.read_bytes() for name, file in plain.files(MAIN, PATH).items()} == {**FILES, "c": b"old"}
    entries = list(plain.history(MAIN, PATH))
    assert [entry.commit for entry in entries[1:]] == [second, first], "each made once"
    assert plain.find(PATH, hashlib.sha256(b"two").hexdigest()) == second
    assert dict(plain.tags()) == {"prod": second}
    assert list(plain.branches()) == [MAIN]
    assert len(list(plain.history(MAIN))) == 6, "the first, two that published, two merges, the reversal"


@pytest.mark.parametrize("kind", ["cut", "slow"])
def test_answers_that_are_cut_or_late_are_asked_for_again(fragile, make, kind):
    store, proxy, plain = fragile
    commit = publish(plain, PATH, make(FILES), b"one", message="one", metadata={})
    fault = proxy.plan(kind, method="GET", path=r"/objects", times=2, seconds=0.2)
    assert store.read(commit, PATH, "manifest.json") == b"one"
    assert {name: file.read_bytes() for name, file in store.files(commit, PATH).items()} == FILES
    assert fault.happened == 2


@pytest.mark.parametrize("call", range(1, 24, 3))
def test_a_network_that_vanishes_for_good_leaves_the_old_or_the_new_version_and_running_again_gives_it(
    fragile, make, call, monkeypatch
):
    store, proxy, plain = fragile
    old = publish(plain, PATH, make(FILES), b"old", message="old", metadata={})
    monkeypatch.setattr(store.server, "patience_s", 0.2)
    fault = proxy.plan("reset", nth=call, times=10_000)
    try:
        publish(store, PATH, make({"a": b"new"}), b"new", message="new", metadata={})
    except Unavailable:
        pass
    except StoreError as other:
        pytest.fail(f"not Unavailable: {other!r}")
    assert plain.read(MAIN, PATH, "manifest.json") in {b"old", b"new"}
    fault.times = 0
    made = publish(plain, PATH, make({"a": b"new"}), b"new", message="new", metadata={})
    assert plain.read(MAIN, PATH, "manifest.json") == b"new"
    assert [entry.commit for entry in plain.history(MAIN, PATH)] == [made, old]
    plain.sweep(0)
    assert list(plain.branches()) == [MAIN]
