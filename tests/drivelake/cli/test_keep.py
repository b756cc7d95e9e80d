"""gc and withdraw as a person runs them: nothing happens without --delete or --yes, and all is said before."""

import json
import shlex

import pytest

from drivelake.versions.store import MAIN
from tests.drivelake.cli.running import drivelake
from tests.drivelake.histories import Story
from tests.drivelake.toy import tiny_lake

WORDS = ("--reason", "consent withdrawn", "--authority", "privacy officer, ticket 7")


@pytest.fixture
def story(tmp_path):
    """Two drives; the logs of the first were replaced."""
    lake = tiny_lake(tmp_path / "lake")
    story = Story(lake.store, tmp_path / "scratch")
    story.root = lake.root
    story.old = story.put_up("raw_logs", "d1", {"log": b"old" * 100})
    story.new = story.put_up("raw_logs", "d1", {"log": b"new" * 100})
    other = story.put_up("raw_logs", "d2", {"log": b"other"})
    story.mixed = story.put_up("curated_datasets", "lane", {"rows": b"mixed"}, [story.new, other])
    return story


def stored(story):
    return {each.id for each in story.store.stored()}


def run(story, *words):
    return drivelake(*words, "--lake", story.root)


def test_gc_by_default_keeps_the_declared_days_and_what_is_younger_than_a_day(story):
    result = run(story, "gc")
    assert result.returncode == 0, result.stderr
    assert "KEPT     4 versions (3 at a branch or a tag, 1 published lately), 4 objects" in result.stdout
    assert "30 days" in result.stdout
    assert "DRY RUN  there is nothing to remove" in result.stdout


def test_gc_without_delete_removes_nothing_and_names_the_command_that_does(story, monkeypatch):
    before = stored(story)
    # within one second every version is as new as the newest commit
    monkeypatch.setattr("drivelake.retention._since", lambda now, newest, days: now)
    result = run(story, "gc", "--days", "0", "--grace-hours", "0")
    assert result.returncode == 0, result.stderr
    assert stored(story) == before
    line = next(line for line in result.stdout.splitlines() if line.startswith(f"raw_logs/d1 {story.old.version[:12]}"))
    assert "300 B" in line
    assert f"replaced by {story.new.version[:12]} on " in line
    assert "no branch, tag, evidence or release needs it" in line
    command = result.stdout.splitlines()[-1].strip()
    assert command == f"drivelake gc --delete --days 0 --grace-hours 0 --lake {story.root}"

    removed = drivelake(*shlex.split(command)[1:])
    assert removed.returncode == 0, removed.stderr
    assert "REMOVED  1 objects, 300 B" in removed.stdout
    assert len(before - stored(story)) == 1
    assert story.readable(MAIN, story.new)


def test_gc_says_what_waits_for_its_age(story, monkeypatch):
    monkeypatch.setattr("drivelake.retention._since", lambda now, newest, days: now)
    result = run(story, "gc", "--delete")
    assert "WAITING  1 objects, 300 B stored less than 24 hours ago" in result.stdout
    assert "REMOVED  0 objects" in result.stdout


def test_gc_as_json_is_one_value_that_says_everything(story, monkeypatch):
    monkeypatch.setattr("drivelake.retention._since", lambda now, newest, days: now)
    told = json.loads(run(story, "gc", "--grace-hours", "0", "--json").stdout)
    assert told["deleted"] is False
    assert told["removed"] == {"bytes": 300, "objects": 1}
    assert [(g["asset"], g["partition"], g["version"], g["goes"]["bytes"]) for g in told["going"]] == [(*story.old, 300)]
    assert {k["version"] for k in told["kept"]} == {
        story.new.version,
        story.mixed.version,
        *(k.version for k in story.versions if k.partition == "d2"),
    }
    assert json.loads(run(story, "gc", "--grace-hours", "0", "--delete", "--json").stdout)["deleted"] is True
    assert json.loads(run(story, "gc", "--grace-hours", "0", "--json").stdout)["removed"]["objects"] == 0


def test_withdraw_without_yes_shows_what_goes_and_who_is_affected_and_writes_nothing(story):
    before = story.store.resolve(MAIN)
    result = run(story, "withdraw", "d1", *WORDS)
    assert result.returncode == 0, result.stderr
    for version in (story.old, story.new):
        assert any(line.split()[:2] == ["raw_logs/d1", version.version[:12]] for line in result.stdout.splitlines())
    assert any(line.split() == ["curated_datasets/lane", story.mixed.version[:12], "yes"] for line in result.stdout.splitlines())
    assert "DRY RUN  nothing was withdrawn" in result.stdout
    assert story.store.resolve(MAIN) == before


def test_withdraw_with_yes_and_then_gc_take_the_bytes_and_say_by_whose_authority(story):
    result = run(story, "withdraw", "d1", *WORDS, "--yes")
    assert result.returncode == 0, result.stderr
    assert "WITHDRAWN  d1" in result.stdout
    gone = run(story, "gc", "--delete", "--grace-hours", "0")
    assert "by privacy officer, ticket 7: consent withdrawn" in gone.stdout
    assert "REMOVED  2 objects, 600 B" in gone.stdout
    assert not story.readable(MAIN, story.new)
    assert story.readable(MAIN, story.mixed)


def test_withdraw_as_json_holds_the_tombstone_and_what_is_affected(story):
    told = json.loads(run(story, "withdraw", "d1", *WORDS, "--json").stdout)
    assert told["withdrawn"] is False
    assert [v["version"] for v in told["versions"]] == sorted([story.old.version, story.new.version])
    assert [a["asset"] for a in told["affected"]] == ["curated_datasets"]
    assert (told["reason"], told["authority"]) == (WORDS[1], WORDS[3])


def test_a_drive_that_was_never_landed_ends_with_the_stores_code(story):
    result = run(story, "withdraw", "d9", *WORDS, "--yes")
    assert result.returncode == 4
    assert "d9" in result.stderr


def test_a_reason_and_an_authority_must_be_given(story):
    assert run(story, "withdraw", "d1", "--yes").returncode == 2
    assert run(story, "withdraw", "d1", "--reason", "", "--authority", "a", "--yes").returncode == 2
