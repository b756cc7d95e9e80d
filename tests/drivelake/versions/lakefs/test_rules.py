"""The rules that a repository on lakeFS gets. On a real server (see tests/servers/lakefs/fixtures.py) the Lua itself is run."""

import json
import re

import lakefs_sdk
import pytest
import yaml

from drivelake.versions.lakefs.setup import RULES
from tests.servers.lakefs import hooks
from tests.servers.lakefs.fixtures import on_disk
from tests.servers.lakefs.here import Here, refused

__all__ = ["on_disk"]

ACTION = "_lakefs_actions/drivelake_pre_merge.yaml"
TOLD = {"Drivelake-Version": "raw_logs/drive_1 0", "Drivelake-Run": "run-1"}
MANIFEST, DATA = "raw_logs/drive_1/manifest.json", "raw_logs/drive_1/data/log.mcap"
# what lakeFS' Lua documents and offers: its standard library has no string patterns
OFFERED = {
    "lakefs": {
        "create_tag",
        "diff_branch",
        "diff_refs",
        "get_object",
        "list_objects",
        "stat_object",
        "update_object_user_metadata",
    },
    "strings": {"split", "trim", "replace", "has_prefix", "has_suffix", "contains"},
    "table": {"insert", "sort", "concat", "remove", "unpack", "pack"},
}


@pytest.fixture
def guarded(on_disk):
    """A repository with the hook and a protected main, installed as rules/README.md says."""
    here = Here(on_disk)
    here.branch("install-rules")
    here.put("install-rules", ACTION, (RULES / "drivelake_pre_merge.yaml").read_bytes())
    here.commit("install-rules", "Rules for merges into main")
    here.merge("install-rules")
    here.sdk.branches_api.delete_branch(here.name, "install-rules")
    rules = [
        lakefs_sdk.BranchProtectionRule.from_dict(rule) for rule in json.loads((RULES / "branch_protection.json").read_text())
    ]
    here.sdk.repositories_api.set_branch_protection_rules(here.name, rules)
    return here


def brought(here, branch, *added, removed=()):
    here.branch(branch)
    for path in added:
        here.put(branch, path, f"{branch} {path}".encode())
    for path in removed:
        here.sdk.objects_api.delete_object(here.name, branch, path)
    here.commit(branch, branch)
    return branch


def test_a_version_that_says_what_it_is_comes_in_and_goes_out_whole(guarded):
    guarded.merge(brought(guarded, "first", MANIFEST, DATA), metadata=TOLD)
    guarded.merge(brought(guarded, "again", MANIFEST), metadata=TOLD)
    guarded.merge(brought(guarded, "gone", removed=[MANIFEST, DATA]), metadata=TOLD)
    assert guarded.paths("main") == [ACTION]


@pytest.mark.parametrize("lacking", sorted(TOLD))
def test_a_merge_that_lacks_metadata_is_refused_and_names_it(guarded, lacking):
    told = {key: value for key, value in TOLD.items() if key != lacking}
    said = refused(412, guarded.merge, brought(guarded, "first", MANIFEST, DATA), metadata=told)
    assert "pre-merge hook aborted" in said
    assert f"no metadata {lacking}" in said
    assert guarded.paths("main") == [ACTION]


def test_a_commit_that_says_it_is_not_enough(guarded):
    """A pre-merge hook sees the metadata of the merge alone."""
    guarded.branch("first")
    guarded.put("first", MANIFEST, b"{}")
    guarded.commit("first", "m", metadata=TOLD)
    refused(412, guarded.merge, "first")
    guarded.merge("first", metadata=TOLD)


def test_bytes_without_a_new_manifest_are_refused(guarded):
    assert "manifest.json" in refused(412, guarded.merge, brought(guarded, "bare", DATA), metadata=TOLD)
    guarded.merge(brought(guarded, "first", MANIFEST, DATA), metadata=TOLD)
    assert "manifest.json" in refused(412, guarded.merge, brought(guarded, "later", DATA), metadata=TOLD)
    assert "manifest.json" in refused(412, guarded.merge, brought(guarded, "half", removed=[MANIFEST]), metadata=TOLD)


def test_what_lies_in_no_partition_is_refused(guarded):
    assert "README" in refused(412, guarded.merge, brought(guarded, "stray", "README"), metadata=TOLD)


def test_a_withdrawal_brings_a_tombstone_and_needs_no_version(guarded):
    assert "tombstone.json" in refused(412, guarded.merge, brought(guarded, "odd", "withdrawals/drive_1/note.txt"))
    guarded.merge(brought(guarded, "right", "withdrawals/drive_1/tombstone.json"))


def test_main_takes_nothing_but_merges(guarded):
    refused(403, guarded.put, "main", MANIFEST, b"{}")
    refused(403, guarded.commit, "main", allow_empty=True)


def test_other_branches_merge_as_they_like(guarded):
    guarded.branch("team")
    guarded.merge(brought(guarded, "stray", "README"), into="team")
    assert guarded.paths("team") == ["README", ACTION]


def test_a_refusal_can_be_looked_up_afterwards(guarded):
    refused(412, guarded.merge, brought(guarded, "first", MANIFEST))
    run = guarded.sdk.actions_api.list_repository_runs(guarded.name, branch="main").results[0]
    assert (run.event_type, run.status) == ("pre-merge", "failed")
    hook = guarded.sdk.actions_api.list_run_hooks(guarded.name, run.run_id).results[0]
    assert (hook.hook_id, hook.status) == ("drivelake_pre_merge", "failed")


# --- the files


def lua():
    return yaml.safe_load((RULES / "drivelake_pre_merge.yaml").read_text())["hooks"][0]["properties"]["script"]


def test_the_action_has_what_lakefs_requires():
    action = hooks.parse((RULES / "drivelake_pre_merge.yaml").read_bytes())
    assert action.on == {"pre-merge": ["main"]}
    assert [hook["id"] for hook in action.hooks] == ["drivelake_pre_merge"]


def test_the_lua_uses_only_what_lakefs_offers():
    code = re.sub(r"--[^\n]*", "", lua())
    assert set(re.findall(r'require\("([^"]+)"\)', code)) == {"lakefs", "strings"}
    for library, name in re.findall(r"\b(\w+)\.(\w+)\(", code):
        assert name in OFFERED[library], f"{library}.{name}"
    assert not re.findall(r"\bstring\.|\w:\w+\(", code), "lakeFS' Lua has no string patterns"


def test_the_lua_closes_what_it_opens():
    code = re.sub(r"--[^\n]*|\"[^\"]*\"", "", lua())
    words = re.findall(r"\b(function|if|do|end)\b", code)
    assert words.count("end") == len(words) - words.count("end")
    assert all(code.count(one) == code.count(other) for one, other in ("()", "{}", "[]"))


def test_the_metadata_that_the_hook_asks_for_is_what_publishing_gives():
    from drivelake.versions.store import MANIFEST, RUN_TRAILER, TOMBSTONE, VERSION_TRAILER, WITHDRAWALS

    for word in (VERSION_TRAILER, RUN_TRAILER, MANIFEST, TOMBSTONE, f"{WITHDRAWALS}/"):
        assert f'"{word}"' in lua()


def test_the_other_rules_are_of_the_form_that_lakefs_takes(on_disk):
    rules = json.loads((RULES / "branch_protection.json").read_text())
    assert [lakefs_sdk.BranchProtectionRule.from_dict(rule).pattern for rule in rules] == ["main"]
    here = Here(on_disk)
    asked = lakefs_sdk.GarbageCollectionRules.from_dict(json.loads((RULES / "gc_rules.json").read_text()))
    here.sdk.repositories_api.set_gc_rules(here.name, asked)
    assert here.sdk.repositories_api.get_gc_rules(here.name) == asked


def test_lakefs_own_collection_takes_nothing_that_was_ever_committed():
    """It does not look at tags: a short time would take what a tag or signed evidence names."""
    rules = json.loads((RULES / "gc_rules.json").read_text())
    assert min(rules["default_retention_days"], *(rule["retention_days"] for rule in rules["branches"])) >= 36500
