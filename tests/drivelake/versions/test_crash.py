"""A kill at any moment: main shows the old version or the new one, and running again heals the rest."""

import contextlib
import multiprocessing
import os
import signal

import pygit2
import pytest

from drivelake.versions import MAIN, EmbeddedStore, publish

PATH = "raw_logs/drive_01"
OLD = {"a": b"old", "b": b"same in both", "c": b""}
NEW = {"a": b"new", "b": b"same in both", "d/e": b"more"}
STEPS = ["branched", "objects staged", "committed on branch", "merged", "branch deleted"]


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def publish_in_a_process(root, folder, *, dying_at="", sabotage=contextlib.nullcontext):
    """Publish NEW in a child; gives its exit code, negative for a signal."""

    def child():
        with sabotage():
            publish(
                EmbeddedStore(root), PATH, folder, b"new", message="new", metadata={}, on_step=lambda s: s == dying_at and die()
            )

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join(30)
    return process.exitcode


@contextlib.contextmanager
def dying_in(owner, name, call):
    """Replace a function by one that kills the process at its n-th call, before (n > 0) or after (n < 0) its work."""
    original, calls = getattr(owner, name), []

    def wrapped(*args, **kwargs):
        calls.append(name)
        if len(calls) == call:
            die()
        result = original(*args, **kwargs)
        if len(calls) == -call:
            die()
        return result

    setattr(owner, name, wrapped)
    yield


MOMENTS = {
    "while objects are linked": (os, "link", 2),
    "while objects get their mode": (os, "chmod", 1),
    "before git objects are written": (pygit2.Repository, "write", 1),
    "between git objects": (pygit2.Repository, "write", 3),
    "holding the branch's lock as it is made": (pygit2.ReferenceTransaction, "set_target", 1),
    "holding the branch's lock as it moves": (pygit2.ReferenceTransaction, "set_target", 2),
    "holding main's lock before the move": (pygit2.ReferenceTransaction, "set_target", -3),
    "after main moved, its record still there": (pygit2.ReferenceTransaction, "commit", -3),
    "holding the branch's lock as it is deleted": (pygit2.ReferenceTransaction, "remove", 1),
}


@pytest.fixture
def old(put_up):
    return put_up(PATH, OLD, manifest=b"old")


def is_old_or_new(store, content):
    version = (store.read(MAIN, PATH, "manifest.json"), content(store, MAIN, PATH))
    assert version in [(b"old", OLD), (b"new", NEW)]
    return version[0].decode()


def heals(store, put_up, content, branches):
    commit = put_up(PATH, NEW, manifest=b"new", into=EmbeddedStore(store.root))
    assert is_old_or_new(store, content) == "new"
    assert next(store.history(MAIN, PATH)).commit == commit
    assert [entry.metadata["Drivelake-Version"].split()[0] for entry in store.history(MAIN, PATH)] == [PATH, PATH]
    assert branches(store) == ["main"]
    assert not list((store.root / "repo.git").rglob("*.lock"))
    assert [p.name for p in (store.root / "locks").iterdir()] == ["refs"]
    assert store.check_git(MAIN)


@pytest.mark.parametrize("step", STEPS)
def test_after_a_kill_between_steps_main_is_old_or_new_and_running_again_heals(step, old, store, make, put_up, content, branches):
    assert publish_in_a_process(store.root, make(NEW), dying_at=step) == -signal.SIGKILL
    expected = "new" if STEPS.index(step) >= STEPS.index("merged") else "old"
    assert is_old_or_new(store, content) == expected
    heals(store, put_up, content, branches)


@pytest.mark.parametrize("moment", MOMENTS)
def test_after_a_kill_inside_a_step_main_is_old_or_new_and_running_again_heals(
    moment, old, store, make, put_up, content, branches
):
    assert publish_in_a_process(store.root, make(NEW), sabotage=lambda: dying_in(*MOMENTS[moment])) == -signal.SIGKILL
    is_old_or_new(store, content)
    heals(store, put_up, content, branches)


def test_a_stale_branch_of_the_path_is_replaced_by_the_next_version_too(old, store, make, put_up, content, branches):
    publish_in_a_process(store.root, make(NEW), dying_at="committed on branch")
    assert len(branches(store)) == 2
    put_up(PATH, {"z": b"another"}, manifest=b"another")
    assert content(store, MAIN, PATH) == {"z": b"another"}
    assert branches(store) == ["main"]


def test_a_killed_publish_of_one_path_does_not_hold_up_another(old, store, make, put_up, content):
    publish_in_a_process(store.root, make(NEW), sabotage=lambda: dying_in(*MOMENTS["holding main's lock before the move"]))
    assert (store.root / "repo.git" / "refs" / "heads" / "main.lock").exists(), "the kill left git's lock behind"
    put_up("raw_logs/drive_02", {"a": b"1"})
    assert content(store, MAIN, "raw_logs/drive_02") == {"a": b"1"}
    assert content(store, MAIN, PATH) == OLD
