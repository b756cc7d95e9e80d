"""A kill at any moment: main shows the old version or the new one, and running again heals the rest."""

import contextlib
import http.client
import itertools
import signal

import pytest

from drivelake.versions import MAIN
from tests.drivelake.versions.backends import SHARED, die
from tests.drivelake.versions.replacing import (
    PATH,
    follows_once,
    heals,
    is_old_or_new,
    numbered,
    publish_in_a_process,
    put_old,
    stands_at,
)

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
    files, manifest = numbered(0)
    put_up(PATH, files, manifest=manifest)
    machines = [site.machine(), site.machine()]
    found = []
    for n in itertools.count(1):
        files, manifest = numbered(n)
        dying = lambda n=n: dying_at_change(n)  # noqa: E731
        exit_code = publish_in_a_process(lambda: site.another(machines[0]), make, (files, manifest), sabotage=dying)
        if exit_code == 0:
            break
        assert exit_code == -signal.SIGKILL
        found.append(stands_at(store, content, n))
        commit = put_up(PATH, files, manifest=manifest, into=site.another(machines[n % 2]))
        assert next(store.history(MAIN, PATH)).commit == commit
        assert stands_at(store, content, n)
    follows_once(store, n)
    assert list(store.strangers()) == []
    assert len(found) >= 4, "a branch, objects, a commit and a merge"
    assert found == sorted(found), "old until main moves, then new"
    assert set(found) == {False, True}
