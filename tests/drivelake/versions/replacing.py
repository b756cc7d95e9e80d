"""One version replaced by another, by a publisher that comes to harm. Belongs here: the two, the child, what heals.

Never here: the harm.
"""

import contextlib

from drivelake.versions import MAIN, publish
from tests.drivelake.versions.backends import die, in_a_child

PATH = "raw_logs/drive_01"


def old_of(path):
    """The files of the version that stands; no other path's version holds the same bytes, but for ``c``."""
    return {"a": b"old " + path.encode(), "b": b"same in both " + path.encode(), "c": b""}


def new_of(path):
    """The files of the version that replaces it."""
    return {"a": b"new " + path.encode(), "b": b"same in both " + path.encode(), "d/e": b"more " + path.encode()}


def put_old(put_up, path=PATH):
    return put_up(path, old_of(path), manifest=b"old")


def publish_in_a_process(opened, make, *, path=PATH, dying_at="", sabotage=contextlib.nullcontext):
    """Publish the new version in a child into the store that ``opened()`` gives; gives its exit code, negative for a signal."""
    folder = make(new_of(path))

    def child():
        store = opened()
        with sabotage():
            publish(store, path, folder, b"new", message="new", metadata={}, on_step=lambda s: s == dying_at and die())

    return in_a_child(child)


def is_old_or_new(store, content, path=PATH):
    version = (store.read(MAIN, path, "manifest.json"), content(store, MAIN, path))
    assert version in [(b"old", old_of(path)), (b"new", new_of(path))]
    return version[0].decode()


def heals(store, put_up, content, path=PATH):
    """Publishing again on ``store`` gives the new version, once, and leaves nothing that does not belong."""
    commit = put_up(path, new_of(path), manifest=b"new", into=store)
    assert put_up(path, new_of(path), manifest=b"new", into=store) == commit
    assert is_old_or_new(store, content, path) == "new"
    assert [store.read(entry.commit, path, "manifest.json") for entry in store.history(MAIN, path)] == [b"new", b"old"]
    assert next(store.history(MAIN, path)).commit == commit
    assert list(store.strangers()) == []
