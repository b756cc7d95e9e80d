"""The law of a collection on real stores: random histories, a publisher at work meanwhile, and kill -9 in its midst."""

import itertools
import time
from contextlib import suppress

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from drivelake.errors import Conflict
from drivelake.retention import collect
from drivelake.versions.store import MAIN
from drivelake.withdrawal import withdraw
from tests.drivelake.histories import Story, steps_in_real_time
from tests.drivelake.versions.backends import all_at_once, die, in_a_child

QUIET = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture, HealthCheck.data_too_large]
EXAMPLES = {"dvc-local": 20, "dvc-s3": 3, "lakefs-s3": 3}
WITHOUT_SHRINKING = (Phase.explicit, Phase.reuse, Phase.generate)  # on a server it would take minutes
KINDS = tuple(EXAMPLES)
LEASE_S = 3.0


@pytest.fixture
def opened(request):
    """opened(site, machine) -> the store as that machine sees it, a new one by default; on lakeFS whatever its age is garbage."""

    def go(site, machine=None):
        if site.kind != "lakefs-s3":
            return site.another(machine)
        from drivelake.versions.lakefs.store import LakeFSStore

        url, repository, endpoint = site.declared.url, site.declared.repository, request.getfixturevalue("s3")
        store = LakeFSStore(url, repository, machine or site.machine(), s3_endpoint=endpoint, young_s=0.0)
        store._garbage._lease_s = LEASE_S
        return store

    return go


@pytest.fixture
def new_story(new_site, opened, tmp_path):
    """new_story(kind) -> a Story on an empty store, and its site."""
    numbers = itertools.count()

    def go(kind):
        site = new_site(kind)
        site.create()
        return Story(opened(site), tmp_path / f"story_{next(numbers)}", fresh=lambda: opened(site)), site

    return go


@pytest.fixture
def short_lease(monkeypatch):
    """A collector's lease that a test can wait for; processes that are forked have it too."""
    monkeypatch.setattr("drivelake.versions.dvc.collection.LEASE_S", LEASE_S)
    monkeypatch.setattr("drivelake.versions.dvc.collection.RENEW_S", 0.5)
    monkeypatch.setattr("drivelake.versions.dvc.collection.POLL_S", 0.1)
    monkeypatch.setattr("drivelake.versions.lakefs.refs.GC_LEASE_S", LEASE_S)


@pytest.mark.parametrize("kind", KINDS)
def test_after_any_history_what_a_root_reaches_reads_back_and_all_else_is_gone(kind, new_story):
    @settings(max_examples=EXAMPLES[kind], deadline=None, suppress_health_check=QUIET, phases=WITHOUT_SHRINKING)
    @given(told=steps_in_real_time)
    def law(told):
        story, _ = new_story(kind)
        story.tell(told)
        story.collect(-1)

    law()


@pytest.mark.parametrize("kind", KINDS)
def test_a_drive_that_is_withdrawn_leaves_no_bytes_and_keeps_its_manifest(kind, new_story, opened):
    story, site = new_story(kind)
    raw = story.put_up("raw_logs", "d1", {"log": b"of a person"})
    other = story.put_up("raw_logs", "d2", {"log": b"of nobody"})
    story.store.tag("v1", MAIN)
    elsewhere = opened(site)
    assert story.readable(MAIN, raw, elsewhere)
    withdraw(story.store, "d1", reason="consent withdrawn", authority="privacy officer")
    assert collect(story.store, 30, dry_run=False, grace_s=0).removed.bytes == 11
    assert not story.readable(MAIN, raw, opened(site))
    assert not story.readable(MAIN, raw)
    collect(elsewhere, 30, dry_run=False, grace_s=0)  # another machine keeps copies of its own until it collects as well
    assert not story.readable(MAIN, raw, elsewhere)
    assert story.readable(MAIN, other, opened(site))
    assert story.store.read(MAIN, raw.path, "manifest.json")


@pytest.mark.parametrize("kind", KINDS)
def test_a_collection_that_is_killed_loses_nothing_and_is_finished_by_the_next(kind, new_story, opened, short_lease, monkeypatch):
    monkeypatch.setattr("drivelake.retention.BATCH", 1)
    story, site = new_story(kind)
    for n in range(5):
        story.put_up("signals", "d1", {"a": bytes([n]) * 9, "same": b"shared"})
    head = story.order[-1][1]
    machine = site.machine()

    def killed():
        collect(opened(site, machine), -1, dry_run=False, grace_s=0, said=lambda done, _: die() if done == 2 else None)

    assert in_a_child(killed) == -9
    assert story.readable(MAIN, head, opened(site))
    store, until = opened(site), time.monotonic() + 60
    while True:
        with suppress(Conflict):
            rest = collect(store, -1, dry_run=False, grace_s=0)
            break
        assert time.monotonic() < until, "the dead collector's lock outlived its lease"
        time.sleep(0.2)
    assert rest.removed.objects >= 2
    assert story.readable(MAIN, head, opened(site))
    assert collect(store, -1, grace_s=0).ids == ()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_published_while_others_collect_is_whole_afterwards(kind, new_story, opened, short_lease, tmp_path):
    story, site = new_story(kind)
    story.put_up("signals", "d0", {"a": b"odd" * 9, "b": b"even" * 9, "z": b"lone"})
    story.put_up("signals", "d0", {"c": b"neither"})  # what is published below stands there, and nothing keeps it

    machines = [site.machine() for _ in range(3)]

    def work(n):
        store, rounds = opened(site, machines[n]), 6
        if n == 0:
            collected = 0
            for _ in range(rounds):
                with suppress(Conflict):
                    collected += collect(store, -1, dry_run=False, grace_s=0).removed.objects
            return collected
        mine = Story(store, tmp_path / f"worker_{n}")
        for turn in range(rounds):
            mine.put_up("signals", f"d{n}", {"a": b"odd" * 9} if turn % 2 else {"b": b"even" * 9})
        return rounds

    outcomes = all_at_once(work, 3)
    assert [(n, how) for n, how, _ in outcomes] == [(0, "ok"), (1, "ok"), (2, "ok")], outcomes
    assert outcomes[0][2] >= 1
    fresh = opened(site)
    for n in (1, 2):
        files = {name: path.read_bytes() for name, path in fresh.files(MAIN, f"signals/d{n}").items()}
        assert files == {"a": b"odd" * 9}
