"""A kill at any moment: main shows the old version or the new one, and running again heals the rest."""

import contextlib
import http.client
import itertools
import signal

import pytest

from tests.drivelake.versions.backends import SHARED, die
from tests.drivelake.versions.replacing import heals, is_old_or_new, publish_in_a_process, put_old

STEPS = ["branched", "objects staged", "committed on branch", "merged", "branch deleted"]


@pytest.fixture
def old(put_up):
    return put_old(put_up)


@pytest.mark.parametrize("step", STEPS)
def test_after_a_kill_between_steps_main_is_old_or_new_and_running_again_heals(step, old, store, site, make, put_up, content):
    assert publish_in_a_process(site.another, make, dying_at=step) == -signal.SIGKILL
    expected = "new" if STEPS.index(step) >= STEPS.index("merged") else "old"
    assert is_old_or_new(store, content) == expected
    heals(site.another(), put_up, content)
    assert is_old_or_new(store, content) == "new"


@contextlib.contextmanager
def dying_at_change(nth):
    """Kill the process when the head of the server's answer to its n-th changing request is there, before it is used."""
    begin, numbers = http.client.HTTPResponse.begin, itertools.count(1)

    def wrapped(answer):
        begin(answer)
        if answer._method not in {"GET", "HEAD"} and next(numbers) == nth:
            die()

    http.client.HTTPResponse.begin = wrapped
    yield


@pytest.mark.slow
@pytest.mark.parametrize("site", SHARED, indirect=True)
def test_after_a_kill_at_any_request_main_is_old_or_new_and_running_again_heals(store, site, make, put_up, content):
    """Between answers to requests that change something, the server is in no state that these kills do not leave."""
    found = []
    for nth in itertools.count(1):
        path = f"raw_logs/killed_at_{nth}"
        put_old(put_up, path)
        exit_code = publish_in_a_process(site.another, make, path=path, sabotage=lambda nth=nth: dying_at_change(nth))
        if exit_code == 0:
            break
        assert exit_code == -signal.SIGKILL
        found.append(is_old_or_new(store, content, path))
        heals(site.another() if nth % 2 else store, put_up, content, path)
    assert len(found) >= 4, "a branch, objects, a commit and a merge"
    assert found == sorted(found, reverse=True), "old until main moves, then new"
    assert set(found) == {"old", "new"}
