"""One version replaced by another, by a publisher that comes to harm. Belongs here: the two, the child, what heals.

Never here: the harm.
"""

import contextlib

from drivelake.versions import MAIN, publish
from tests.drivelake.versions.backends import die, in_a_child

PATH = "raw_logs/drive_01"


OLD = {"a": b"old", "b": b"same in both", "c": b""}
NEW = {"a": b"new", "b": b"same in both", "d/e": b"more"}


def put_old(put_up):
    return put_up(PATH, OLD, manifest=b"old")


def numbered(n):
    """The files of the n-th version in a row, and its manifest; some of its bytes were never stored before."""
    return {"a": b"version %d" % n, "b": b"same in all", "d/e": b"more of %d" % n}, b"%d" % n


def publish_in_a_process(opened, make, version=(NEW, b"new"), *, dying_at="", sabotage=contextlib.nullcontext):
    """Publish a version in a child into the store that ``opened()`` gives; gives its exit code, negative for a signal."""
    files, manifest = version
    folder = make(files)

    def child():
        store = opened()
        with sabotage():
            publish(store, PATH, folder, manifest, message="new", metadata={}, on_step=lambda s: s == dying_at and die())

    return in_a_child(child)


def is_old_or_new(store, content):
    version = (store.read(MAIN, PATH, "manifest.json"), content(store, MAIN, PATH))
    assert version in [(b"old", OLD), (b"new", NEW)]
    return version[0].decode()


def heals(store, put_up, content):
    """Publishing again on ``store`` gives the new version, once, and leaves nothing that does not belong."""
    commit = put_up(PATH, NEW, manifest=b"new", into=store)
    assert put_up(PATH, NEW, manifest=b"new", into=store) == commit
    assert is_old_or_new(store, content) == "new"
    assert [store.read(entry.commit, PATH, "manifest.json") for entry in store.history(MAIN, PATH)] == [b"new", b"old"]
    assert next(store.history(MAIN, PATH)).commit == commit
    assert list(store.strangers()) == []


def stands_at(store, content, n):
    """Whether the n-th version stands, whole; else the one before does."""
    stands = int(store.read(MAIN, PATH, "manifest.json"))
    assert stands in {n - 1, n}
    assert content(store, MAIN, PATH) == numbered(stands)[0]
    return stands == n


def follows_once(store, n):
    """Versions 0 to n stand in the history of the path, one commit each."""
    assert [store.read(entry.commit, PATH, "manifest.json") for entry in store.history(MAIN, PATH)] == [
        b"%d" % m for m in range(n, -1, -1)
    ]
