"""A withdrawal: what the tombstone says, that it is written once, that reading is refused, and whom it affects."""

import json

import pytest
from pydantic import ValidationError

from drivelake.errors import Conflict, DeclarationError, NotFound, VerificationFailed, Withdrawn
from drivelake.manifest import Input
from drivelake.publications import Key
from drivelake.versions.store import MAIN, TOMBSTONE
from drivelake.withdrawal import Tombstone, Withdrawals, prepare, withdraw, withdrawals
from tests.drivelake.histories import Story
from tests.drivelake.remembered import START, RememberedStore

WORDS = {"reason": "consent withdrawn", "authority": "privacy officer, ticket 7"}


@pytest.fixture
def story(tmp_path):
    return Story(RememberedStore(), tmp_path)


@pytest.fixture
def chain(story):
    """A drive with two versions of its logs, a dataset of it and another drive, an artefact, and one that left it out."""
    made = {"first": story.put_up("raw_logs", "d1", {"log": b"one"})}
    made["raw"] = story.put_up("raw_logs", "d1", {"log": b"two"})
    made["table"] = story.put_up("signals", "d1", {"t": b"t"}, [made["raw"]])
    made["other"] = story.put_up("raw_logs", "d2", {"log": b"other"})
    made["mixed"] = story.put_up("curated_datasets", "lane", {"rows": b"m"}, [made["table"], made["other"]])
    made["without"] = story.put_up(
        "curated_datasets", "night", {"rows": b"n"}, [made["raw"], made["other"]], facts={"left_out": {"d1": "too bright"}}
    )
    made["model"] = story.put_up("checkpoints", "steer", {"w": b"w"}, [made["mixed"]])
    made["clean"] = story.put_up("checkpoints", "night", {"w": b"c"}, [made["without"]])
    return made


def test_every_version_that_holds_the_drive_alone_is_named_and_nothing_is_written(story, chain):
    before = story.store.resolve(MAIN)
    found = prepare(story.store, "d1", **WORDS, now=START)
    keys = [Key(i.asset, i.partition, i.version) for i in found.tombstone.versions]
    assert keys == [*sorted([chain["first"], chain["raw"]]), chain["table"]]
    assert not found.standing
    assert story.store.resolve(MAIN) == before


def test_what_mixed_the_drive_with_others_is_told_for_a_person_and_what_left_it_out_is_not(story, chain):
    found = prepare(story.store, "d1", **WORDS)
    assert [(each.version, each.at_main) for each in found.affected] == [(chain["mixed"], True), (chain["model"], True)]
    story.put_up("checkpoints", "steer", {"w": b"trained again"})
    assert prepare(story.store, "d1", **WORDS).affected[1].at_main is False


def test_a_tombstone_stands_at_main_and_names_each_version(story, chain):
    done = withdraw(story.store, "d1", **WORDS, now=START)
    assert done.standing
    read = Tombstone.parse(story.store.read(MAIN, "withdrawals/d1", TOMBSTONE), "d1")
    assert read == done.tombstone
    assert set(withdrawals(story.store)) == {chain["first"], chain["raw"], chain["table"]}
    assert story.store.branches().keys() == {MAIN}


def test_the_same_again_changes_nothing_and_keeps_the_time(story, chain):
    withdraw(story.store, "d1", **WORDS, now=START)
    stands = story.store.resolve(MAIN)
    again = withdraw(story.store, "d1", **WORDS)
    assert again.standing
    assert again.tombstone.requested == START
    assert story.store.resolve(MAIN) == stands


def test_versions_that_came_since_are_added_by_the_same_again(story, chain):
    withdraw(story.store, "d1", **WORDS, now=START)
    late = story.put_up("sensor_frames", "d1", {"f": b"f"}, [chain["table"]])
    assert not prepare(story.store, "d1", **WORDS).standing
    done = withdraw(story.store, "d1", **WORDS)
    assert late in withdrawals(story.store)
    assert done.tombstone.requested == START


def test_another_reason_or_authority_for_what_is_withdrawn_is_a_conflict(story, chain):
    withdraw(story.store, "d1", **WORDS)
    with pytest.raises(Conflict, match="by privacy officer, ticket 7: consent withdrawn"):
        withdraw(story.store, "d1", reason="other", authority="privacy officer, ticket 7")


def test_a_race_for_one_tombstone_ends_with_one_that_names_everything(story, chain, monkeypatch):
    merge, late = story.store.merge, []

    def overtaken(source, into=MAIN):
        if not late:
            late.append(None)
            late.append(story.put_up("sensor_frames", "d1", {"f": b"f"}, [chain["table"]]))
            withdraw(story.store, "d1", **WORDS, now=START)
        return merge(source, into)

    monkeypatch.setattr(story.store, "merge", overtaken)
    done = withdraw(story.store, "d1", **WORDS)
    assert late[1] in withdrawals(story.store)
    assert done.tombstone.requested == START
    assert story.store.branches().keys() == {MAIN}


def test_reading_is_refused_while_the_bytes_are_still_there_and_other_versions_read(story, chain):
    gate = Withdrawals(story.store)
    gate.refuse(*chain["raw"])
    withdraw(story.store, "d1", **WORDS, now=START)
    expected = (
        f"ABSENT-AUTHORISED: the bytes of raw_logs/d1 (version {chain['raw'].version[:12]}) were withdrawn on 2026-01-01 by "
        "privacy officer, ticket 7: consent withdrawn."
    )
    with pytest.raises(Withdrawn) as refused:
        gate.refuse(*chain["raw"])
    assert refused.value.message == expected
    for name in ("other", "mixed", "model"):
        gate.refuse(*chain[name])
    with pytest.raises(Withdrawn, match="ABSENT-AUTHORISED: drive 'd1' was withdrawn"):
        gate.refuse_drive("d1")
    gate.refuse_drive("d2")


def test_tombstones_are_read_once_a_state_of_main(story, chain, monkeypatch):
    gate, reads = Withdrawals(story.store), []
    read_each = story.store.read_each
    monkeypatch.setattr(story.store, "read_each", lambda *words: reads.append(words) or read_each(*words))
    for _ in range(3):
        gate.refuse(*chain["raw"])
    assert len(reads) == 1
    story.put_up("signals", "d9", {"x": b"x"})
    gate.refuse(*chain["raw"])
    assert len(reads) == 2


def test_logs_that_stand_outside_are_left_to_their_owner(story):
    reference = {"path": "logs/big.mcap", "bytes": 5, "sha256": "a" * 64, "uri": "inbox:d1/big.mcap"}
    story.put_up("raw_logs", "d1", {"log": b"one"}, references=[reference])
    registered = prepare(story.store, "d1", **WORDS).tombstone.registered
    assert [(each.uri, each.bytes) for each in registered] == [("inbox:d1/big.mcap", 5)]


def test_a_drive_that_was_never_landed_cannot_be_withdrawn(story):
    with pytest.raises(NotFound, match="'d7'"):
        withdraw(story.store, "d7", **WORDS)


@pytest.mark.parametrize("words", [{"reason": " "}, {"authority": ""}, {"reason": "two\nlines"}, {"authority": "x" * 501}])
def test_a_reason_and_an_authority_are_each_one_line(story, chain, words):
    with pytest.raises(DeclarationError, match=next(iter(words))):
        prepare(story.store, "d1", **{**WORDS, **words})


def test_a_tombstone_reaches_no_version_but_the_drives_own():
    version = {"version": "a" * 64}
    fields = {"drive": "d1", "requested": START, **WORDS}
    for asset, partition in [("curated_datasets", "d1"), ("raw_logs", "d2")]:
        named = Input.model_validate({"asset": asset, "partition": partition, **version})
        with pytest.raises(ValidationError, match="alone"):
            Tombstone(versions=(named,), **fields)


@pytest.mark.parametrize(
    "change",
    [lambda t: {**t, "drive": "d2"}, lambda t: {**t, "more": 1}, lambda t: {k: v for k, v in t.items() if k != "reason"}],
)
def test_a_tombstone_that_was_changed_is_refused(story, chain, change):
    raw = withdraw(story.store, "d1", **WORDS).tombstone.canonical()
    assert Tombstone.parse(raw, "d1").canonical() == raw
    with pytest.raises(VerificationFailed, match="withdrawals/d1/tombstone"):
        Tombstone.parse(json.dumps(change(json.loads(raw))).encode(), "d1")
    with pytest.raises(VerificationFailed, match="canonical"):
        Tombstone.parse(raw + b"\n", "d1")
