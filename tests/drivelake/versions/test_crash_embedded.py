"""A kill inside a step of the embedded store: its own machine tells a dead publisher from a living one, and leaves no trace."""

import os
import signal

import pygit2
import pytest

from drivelake.versions import EmbeddedStore
from tests.drivelake.versions.backends import calling, die
from tests.drivelake.versions.replacing import OLD, PATH, heals, is_old_or_new, publish_in_a_process, put_old


@pytest.fixture
def store(embedded):
    return embedded


@pytest.fixture
def old(put_up):
    return put_old(put_up)


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


def dying_in(owner, name, call):
    """Kill the process at the n-th call of a function, before (n > 0) or after (n < 0) its work."""
    return calling(owner, name, before=lambda n: n == call and die(), after=lambda n: n == -call and die())


def publish_and_die(root, make, *, moment=None, step=""):
    sabotage = {"sabotage": lambda: dying_in(*MOMENTS[moment])} if moment else {}
    assert publish_in_a_process(lambda: EmbeddedStore(root), make, dying_at=step, **sabotage) == -signal.SIGKILL


def heals_without_a_trace(root, put_up, content, branches):
    store = EmbeddedStore(root)
    heals(store, put_up, content)
    assert branches(store) == ["main"]
    assert not list((root / "repo.git").rglob("*.lock"))
    assert not [name for name in root.rglob("*.tmp") if "locks" not in name.parts]
    assert store.check() > 0


@pytest.mark.parametrize("step", ["branched", "objects staged", "committed on branch", "merged", "branch deleted"])
def test_after_a_kill_between_steps_running_again_leaves_no_trace(step, old, store, make, put_up, content, branches):
    publish_and_die(store.root, make, step=step)
    heals_without_a_trace(store.root, put_up, content, branches)


@pytest.mark.parametrize("moment", MOMENTS)
def test_after_a_kill_inside_a_step_main_is_old_or_new_and_running_again_heals(
    moment, old, store, make, put_up, content, branches
):
    publish_and_die(store.root, make, moment=moment)
    is_old_or_new(store, content)
    heals_without_a_trace(store.root, put_up, content, branches)


def test_a_stale_branch_of_the_path_is_swept_by_the_next_version_too(old, store, make, put_up, content, branches):
    publish_and_die(store.root, make, step="committed on branch")
    assert len(branches(store)) == 2
    put_up(PATH, {"z": b"another"}, manifest=b"another")
    assert content(store, "main", PATH) == {"z": b"another"}
    assert branches(store) == ["main"]


def test_a_killed_publish_of_one_path_does_not_hold_up_another(old, store, make, put_up, content):
    publish_and_die(store.root, make, moment="holding main's lock before the move")
    assert (store.root / "repo.git" / "refs" / "heads" / "main.lock").exists(), "the kill left git's lock behind"
    put_up("raw_logs/drive_02", {"a": b"1"})
    assert content(store, "main", "raw_logs/drive_02") == {"a": b"1"}
    assert content(store, "main", PATH) == OLD
