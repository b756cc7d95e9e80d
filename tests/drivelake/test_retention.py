"""What a collection keeps and what it removes, over histories that are made up; clocks and killed publishers included."""

import tempfile
from collections import Counter
from datetime import timedelta

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from drivelake.errors import Conflict, NotFound, VerificationFailed
from drivelake.publications import Key
from drivelake.retention import GRACE_S, collect, plan
from drivelake.versions.store import MAIN
from drivelake.withdrawal import withdraw
from tests.drivelake.histories import Story, steps
from tests.drivelake.remembered import START, RememberedStore

DAY = timedelta(days=1)
LATER = START + 400 * DAY


@pytest.fixture(params=[False, True], ids=["by content", "by address"])
def story(request, tmp_path):
    return Story(RememberedStore(addresses=request.param), tmp_path)


def going(found):
    return {each.version: each.reason for each in found.going}


def replaced(story, days=1):
    """A version of signals that another one took the place of; gives both."""
    old = story.put_up("signals", "d1", {"a": b"old", "b": b"both"})
    story.clock(days)
    return old, story.put_up("signals", "d1", {"a": b"new", "b": b"both"})


def made(asset, content, upstream=0, partition="d1"):
    return ("publish", asset, partition, {content}, upstream)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(told=steps, addresses=st.booleans(), days=st.sampled_from((-1, -1, 0, 3, 40)))
@example(told=[made("signals", 1), made("signals", 2), made("signals", 1), ("tag", "v1", 2)], addresses=True, days=-1)
@example(told=[made("raw_logs", 1), made("signals", 2, 1), made("raw_logs", 3)], addresses=False, days=-1)
@example(told=[made("raw_logs", 1), made("evidence", 2, 1), ("withdraw", "d1")], addresses=False, days=40)
@example(told=[made("signals", 1), made("signals", 2), ("leave", "d1", 0), ("tag", "v1", 2)], addresses=True, days=-1)
def test_after_any_history_what_a_root_reaches_reads_back_and_all_else_is_gone(told, addresses, days):
    with tempfile.TemporaryDirectory() as scratch:
        story = Story(RememberedStore(addresses=addresses), scratch)
        story.tell(told)
        story.collect(days)


def test_a_replaced_version_goes_and_is_named_with_its_bytes_and_the_reason(story):
    old, new = replaced(story)
    story.clock(9)
    story.put_up("signals", "d2", {"x": b"newest"})
    found = plan(story.store, 3, now=story.store.now, grace_s=0)
    row = next(each for each in found.going if each.version == old)
    assert row.reason == (
        f"replaced by {new.version[:12]} on 2026-01-02; published 2026-01-01; no branch, tag, evidence or release needs it"
    )
    assert not row.withdrawn
    shares = not story.store.addresses
    assert (row.goes.objects, row.goes.bytes) == ((1, 3) if shares else (2, 7))
    assert (row.shared.objects, row.shared.bytes) == ((1, 4) if shares else (0, 0))
    assert found.removed.bytes == row.goes.bytes


def test_a_version_that_was_taken_back_says_so(story):
    story.put_up("signals", "d2", {"x": b"first"})
    old = story.put_up("signals", "d1", {"a": b"old"})
    story.store.revert(story.order[-1][0])
    assert going(plan(story.store, -1, grace_s=0))[old].startswith("taken back; published 2026-01-01;")


def test_what_a_kept_version_was_made_from_is_kept(story):
    raw = story.put_up("raw_logs", "d1", {"log": b"first"})
    story.put_up("signals", "d1", {"t": b"table"}, [raw])
    story.put_up("raw_logs", "d1", {"log": b"second"})
    kept = {each.version: each.reasons for each in plan(story.store, -1).kept}
    assert kept[raw][0].startswith("went into signals/d1 ")


def test_a_published_artefact_and_evidence_keep_their_chain_when_main_has_moved_on(story):
    raw = story.put_up("raw_logs", "d1", {"log": b"first"})
    data = story.put_up("curated_datasets", "lane", {"rows": b"r"}, [raw])
    artefact = story.put_up("soc_artefacts", "steer@soc", {"bin": b"1"}, [data])
    signed = story.put_up("evidence", "steer@soc", {"report": b"1"}, [artefact])
    for n, (asset, partition) in enumerate(
        [("raw_logs", "d1"), ("curated_datasets", "lane"), ("soc_artefacts", "steer@soc"), ("evidence", "steer@soc")]
    ):
        story.put_up(asset, partition, {"other": bytes([n])})
    kept = {each.version: each.reasons for each in plan(story.store, -1).kept}
    assert kept[artefact] == ("a release",)
    assert kept[signed] == ("signed evidence",)
    assert {raw, data} <= kept.keys()


def test_a_tag_and_a_branch_keep_every_path_at_them_until_they_are_gone(story):
    old, _ = replaced(story)
    first = story.order[0][0]
    story.store.tag("v1", first)
    story.store.branch("mine", at=first)
    kept = {each.version: each.reasons for each in plan(story.store, -1).kept}
    assert kept[old] == ("stands at branch mine and 1 more",)
    story.store.delete_branch("mine")
    assert old not in going(plan(story.store, -1, grace_s=0))
    story.store.untag("v1", first)
    assert old in going(plan(story.store, -1, grace_s=0))


def test_a_clock_that_jumped_ahead_removes_nothing(story):
    replaced(story)
    assert collect(story.store, 30, dry_run=False, now=LATER + 10_000 * DAY, grace_s=0).ids == ()


def test_a_commit_from_the_future_is_inside_the_days_and_does_not_push_others_out(story):
    old, _ = replaced(story)
    story.clock(3000)
    far = story.put_up("signals", "d3", {"x": b"1"})
    story.put_up("signals", "d3", {"x": b"2"})
    story.store.now = START + 2 * DAY
    found = plan(story.store, 30, now=START + 2 * DAY, grace_s=0)
    assert found.ids == ()
    assert {old, far} <= {each.version for each in found.kept}


def test_days_beyond_the_calendar_keep_everything(story):
    replaced(story)
    assert plan(story.store, 1e9, grace_s=0).ids == ()


def test_what_is_younger_than_the_grace_by_the_keepers_clock_waits(story):
    old, _ = replaced(story)
    story.store.keeper += timedelta(seconds=GRACE_S - 1)
    found = collect(story.store, -1, dry_run=False, now=LATER)
    assert found.ids == ()
    assert [(each.version, each.waits.bytes) for each in found.going] == [(old, 3 if not story.store.addresses else 7)]
    assert found.waiting == found.going[0].waits
    story.store.keeper += timedelta(seconds=2)
    assert collect(story.store, -1, dry_run=False, now=LATER).removed == found.waiting


def test_bytes_that_no_version_ever_named_go_with_that_reason(story):
    story.put_up("signals", "d1", {"a": b"old"})
    _, folder = story.manifest("signals", "d9", {"a": b"never committed"})
    story.store.branch("publish-killed")
    story.store.put("publish-killed", "signals/d9", folder, {})
    found = collect(story.store, -1, dry_run=False, grace_s=0)
    assert (found.unnamed.objects, found.unnamed.bytes) == (1, 15)
    assert found.publishing == ("publish-killed",)
    assert found.going == ()


def test_what_stands_at_a_ref_and_is_no_version_stays(story):
    _, folder = story.manifest("signals", "d1", {"a": b"by hand"})
    story.store.branch("hand")
    story.store.put("hand", "signals/d1", folder, {"notes.txt": b"x"})
    story.store.commit("hand", "by hand", {})
    assert plan(story.store, -1, grace_s=0).ids == ()
    story.store.merge("hand")
    assert plan(story.store, -1, grace_s=0).ids == ()


def test_a_version_that_no_commit_message_names_is_kept_where_it_stands(story):
    manifest, folder = story.manifest("signals", "d1", {"a": b"moved in"})
    story.store.branch("hand")
    story.store.put("hand", "signals/d1", folder, {"manifest.json": manifest.canonical()})
    story.store.commit("hand", "no trailer", {})
    story.store.merge("hand")
    assert plan(story.store, -1, grace_s=0).ids == ()


def test_nothing_is_removed_when_a_manifest_cannot_be_read(story):
    replaced(story)
    _, folder = story.manifest("signals", "d2", {"a": b"x"})
    story.store.branch("hand")
    story.store.put("hand", "signals/d2", folder, {"manifest.json": b"{}"})
    story.store.commit("hand", "m", {})
    before = dict(story.store.bytes)
    with pytest.raises(VerificationFailed, match="names no inputs that can be read"):
        collect(story.store, -1, dry_run=False, grace_s=0)
    assert story.store.bytes == before


def test_nothing_is_removed_when_the_history_of_a_kept_version_is_not_all_there(story):
    manifest, _ = story.manifest("raw_logs", "d1", {"a": b"elsewhere"})
    story.put_up("signals", "d2", {"t": b"t"}, [Key("raw_logs", "d1", manifest.version)])
    replaced(story)
    with pytest.raises(NotFound, match="no commit published"):
        collect(story.store, -1, dry_run=False, grace_s=0)


def test_a_tag_that_is_set_while_bytes_go_stops_the_collection(story, monkeypatch):
    monkeypatch.setattr("drivelake.retention.BATCH", 1)
    for n in range(4):
        story.put_up("signals", "d1", {"a": bytes([n])})
    discard = story.store.discard

    def tagged_meanwhile(ids):
        discard(ids)
        story.store.tag("late", story.order[0][0])

    monkeypatch.setattr(story.store, "discard", tagged_meanwhile)
    with pytest.raises(Conflict, match="tag late moved"):
        collect(story.store, -1, dry_run=False, grace_s=0)
    assert len(story.store.bytes) == 3
    monkeypatch.undo()
    collect(story.store, -1, dry_run=False, grace_s=0)
    assert len(story.store.bytes) <= 2  # main's, and the tag's where it was not gone before it was set


def test_a_collection_that_is_broken_off_goes_on_when_it_is_run_again(story, monkeypatch):
    monkeypatch.setattr("drivelake.retention.BATCH", 1)
    for n in range(6):
        story.put_up("signals", "d1", {"a": bytes([n])})
    expected = set(plan(story.store, -1, grace_s=0).ids)
    said = []

    def die_at_three(done, of):
        said.append((done, of))
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        collect(story.store, -1, dry_run=False, grace_s=0, said=die_at_three)
    assert said == [(1, 5), (2, 5), (3, 5)]
    rest = collect(story.store, -1, dry_run=False, grace_s=0)
    assert len(rest.ids) == 2
    assert set(rest.ids) < expected
    assert story.readable(story.store.resolve(MAIN), story.order[-1][1])


def test_withdrawn_bytes_go_although_a_tag_and_evidence_name_them_and_say_by_whose_authority(story):
    raw = story.put_up("raw_logs", "d1", {"log": b"of a person"})
    story.put_up("evidence", "steer@soc", {"report": b"1"}, [raw])
    story.store.tag("v1", MAIN)
    withdraw(story.store, "d1", reason="consent withdrawn", authority="privacy officer, ticket 7", now=START)
    found = collect(story.store, 30, dry_run=False, grace_s=0)
    assert going(found) == {raw: "withdrawn on 2026-01-01 by privacy officer, ticket 7: consent withdrawn"}
    assert found.going[0].withdrawn
    assert b"of a person" not in story.store.bytes.values()
    assert story.store.read(MAIN, raw.path, "manifest.json")


def test_bytes_that_a_kept_version_shares_with_a_withdrawn_one_stay(tmp_path):
    story = Story(RememberedStore(), tmp_path)
    story.put_up("raw_logs", "d1", {"log": b"mine", "map": b"everybody's"})
    other = story.put_up("raw_logs", "d2", {"map": b"everybody's"})
    withdraw(story.store, "d1", reason="r", authority="a")
    found = collect(story.store, -1, dry_run=False, grace_s=0)
    assert (found.going[0].goes.bytes, found.going[0].shared.bytes) == (4, 11)
    assert story.readable(story.store.resolve(MAIN), other)


def test_withdrawn_bytes_that_the_store_lacks_are_discarded_again_for_a_machines_own_copies_unless_they_are_young(story):
    raw = story.put_up("raw_logs", "d1", {"log": b"of a person"})
    withdraw(story.store, "d1", reason="r", authority="a")
    story.store.bytes.clear()
    held = set(story.store.objects(MAIN, raw.path))
    young = plan(story.store, -1, now=START + timedelta(hours=23))
    assert young.echoes == ()
    found = plan(story.store, -1, now=START + DAY)
    assert (set(found.echoes), found.ids, found.going) == (held, (), ())


def test_the_work_grows_with_the_versions_and_not_with_tags_times_versions(story):
    for n in range(30):
        story.put_up("signals", f"d{n}", {"a": bytes([n])})
    for n in range(20):
        story.store.tag(f"v{n}", story.order[n][0])
    story.store.calls = Counter()
    plan(story.store, -1)
    assert story.store.calls["objects"] <= 2 * 30


@pytest.mark.slow
def test_a_lake_that_verifies_still_verifies_when_all_that_may_go_is_gone(chain_copy):
    from drivelake.evidence.lineage import find_version
    from drivelake.evidence.verify import verify

    story = Story(chain_copy.store, chain_copy.root / "scratch" / "story")
    for data in (b"once", b"twice"):
        story.put_up("calibrations", "spare", {"calibration": data})
    assert collect(chain_copy.store, -1, dry_run=False, grace_s=0).removed.bytes == len(b"once")
    result = verify(chain_copy, find_version(chain_copy, None))
    assert result.problems == []
    assert result.verified
