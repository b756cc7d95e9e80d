"""Laws of reading at a ref, on every backend: the same bytes, everywhere, for ever."""

import hashlib
import urllib.parse
import urllib.request
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from drivelake.errors import NotFound, StoreError
from drivelake.versions import MAIN

PATH, OTHER = "raw_logs/drive_01", "raw_logs/drive_02"

ODD_NAMES = {
    "with space.bin": b"1",
    "über/日本/ключ.bin": b"2",
    "e\u0301 and \u00e9": b"3",
    "#?%+&=;,@!$'()[]{}~^`": b"4",
    "%2F%20..%00": b"5",
    "a=1/b=2/part-0.parquet": b"6",
    '"quoted" \\ back': b"7",
    "-dash": b"8",
    ".hidden": b"9",
    "data/data/manifest.json": b"10",
    "..double.dots..": b"11",
    "empty": b"",
    "folder/empty": b"",
    "/".join(f"level_{n:02}" for n in range(30)) + "/deep": b"12",
    "x" * 200: b"13",
}


def fetched(site, address):
    """The bytes at an address, read as a stranger to the store would."""
    if address.uri.startswith("s3://"):
        import boto3

        parts = urllib.parse.urlsplit(address.uri)
        bucket, key = address.uri.removeprefix("s3://").split("/", 1)
        assert parts.netloc == bucket
        return boto3.client("s3", endpoint_url=site.declared.s3_endpoint).get_object(Bucket=bucket, Key=key)["Body"].read()
    if address.uri.startswith(("http://", "https://")):
        with urllib.request.urlopen(address.uri) as answer:
            return answer.read()
    assert address.uri.startswith("/"), address.uri
    return Path(address.uri).read_bytes()


def test_odd_names_empty_files_and_thirty_folders_come_back_everywhere(store, site, put_up, content, reopen):
    commit = put_up(PATH, ODD_NAMES)
    elsewhere = reopen(store)
    assert content(store, commit, PATH) == content(elsewhere, commit, PATH) == ODD_NAMES
    addresses = elsewhere.addresses(commit, PATH)
    assert list(addresses) == sorted(addresses)
    assert {name: fetched(site, address) for name, address in addresses.items()} == ODD_NAMES
    assert all(address.size in {None, len(ODD_NAMES[name])} for name, address in addresses.items())


def test_a_large_file_comes_back_whole_on_another_machine(store, site, put_up, reopen):
    large = hashlib.shake_128(b"seed").digest(9_000_001)
    put_up(PATH, {"large.bin": large, "copy/of.bin": large, "small": b"1"})
    elsewhere = reopen(store)
    files = elsewhere.files(MAIN, PATH)
    assert files["large.bin"].read_bytes() == files["copy/of.bin"].read_bytes() == large
    assert fetched(site, elsewhere.addresses(MAIN, PATH)["large.bin"]) == large


def test_files_and_addresses_of_what_is_not_there_say_so(store, put_up):
    put_up(PATH, {"a": b"1"})
    for read in (store.files, store.addresses, store.objects):
        with pytest.raises(NotFound, match=OTHER):
            read(MAIN, OTHER)


def test_lists_are_sorted_and_hold_what_was_put_and_nothing_of_the_backends_own(store, put_up, commit_on):
    partitions = ("10", "9", "Z", "a", "drive=1@orin", "drive_01")
    store.branch("work")
    commit_on("work", {f"signals/{name}": {"x/y": b"1"} for name in partitions} | {PATH: {"a": b"1"}})
    store.merge("work")
    assert store.list(MAIN) == ("raw_logs", "signals")
    assert store.list(MAIN, "signals") == tuple(sorted(partitions))
    assert store.list(MAIN, PATH) == ("manifest.json",)
    assert store.list(MAIN, "signals/nothing") == store.list(MAIN, "frames") == ()
    assert store.list("work", "raw_logs") == ("drive_01",)


def test_one_name_that_begins_like_another_is_never_taken_for_it(store, commit_on, content):
    store.branch("work")
    commit_on("work", {"raw_logs/drive_1": {"a": b"1"}, "raw_logs/drive_10": {"a": b"10"}, "raw_logs/drive_1-b": {"a": b"b"}})
    removed = commit_on("work", {"raw_logs/drive_1": None})
    assert store.list(removed, "raw_logs") == ("drive_1-b", "drive_10")
    assert store.list(removed, "raw_logs/drive_1") == ()
    assert content(store, removed, "raw_logs/drive_10") == {"a": b"10"}
    with pytest.raises(NotFound):
        store.files(removed, "raw_logs/drive_1")


def test_small_files_of_an_asset_come_by_partition_sorted(store, commit_on):
    names = [f"drive_{n}" for n in range(12)]
    store.branch("work")
    commit_on("work", {f"raw_logs/{name}": {"a": name.encode()} for name in names}, small={"manifest.json": b"m", "s.json": b"s"})
    first = commit_on("work", {"raw_logs/drive_3": {}}, small={"manifest.json": b"other", "s.json": b"t"})
    assert list(store.read_each("work", "raw_logs", "manifest.json")) == [
        (name, b"other" if name == "drive_3" else b"m") for name in sorted(names)
    ]
    assert dict(store.read_each(first, "raw_logs", "s.json"))["drive_3"] == b"t"
    assert list(store.read_each("work", "signals", "manifest.json")) == []


def test_a_small_file_holds_any_bytes(store, commit_on):
    small = {"manifest.json": bytes(range(256)) * 3, "empty": b"", "lines.txt": b"a\r\nb\n", "statement.json": "ü".encode()}
    store.branch("work")
    commit = commit_on("work", {PATH: {}}, small=small)
    assert {name: store.read(commit, PATH, name) for name in store.list(commit, PATH)} == small


def test_a_commit_reads_the_same_for_ever(store, put_up, content, reopen):
    """Whatever comes after it: new versions, removals, reverts, other branches, deleted branches."""
    commit = put_up(PATH, {"a": b"1", "b/c": b"2"})

    def look(reader):
        return content(reader, commit, PATH), reader.list(commit), list(reader.history(commit)), reader.diff(commit, commit)

    seen = look(store)
    put_up(PATH, {"a": b"other"})
    store.revert(put_up(OTHER, {"a": b"1"}))
    store.branch("work", at=commit)
    store.remove("work", PATH)
    store.merge(store.commit("work", "gone", {}), into=store_branch(store, "side", commit))
    store.delete_branch("work")
    assert look(store) == look(reopen(store)) == seen


def store_branch(store, name, at):
    store.branch(name, at)
    return name


# --- history


def test_history_is_newest_first_and_a_paths_history_names_what_changed_it(store, put_up, commit_on):
    one, two, three = put_up(PATH, {"a": b"1"}), put_up(OTHER, {"a": b"1"}), put_up(PATH, {"a": b"2"})
    store.branch("work")
    gone = commit_on("work", {PATH: None}, message="gone", metadata={"Why": "a test"})
    store.merge("work")
    order = [entry.commit for entry in store.history() if entry.commit in {one, two, three, gone}]
    assert order == [gone, three, two, one]
    assert [entry.commit for entry in store.history(MAIN, PATH)] == [gone, three, one]
    assert [entry.commit for entry in store.history(two, PATH)] == [one]
    assert list(store.history(MAIN, "raw_logs/never")) == []
    entry = next(store.history(gone))
    assert (entry.commit, entry.message, dict(entry.metadata)) == (gone, "gone", {"Why": "a test"})
    assert abs(datetime.now(UTC) - entry.time) < timedelta(minutes=5)
    assert entry.time.utcoffset() == timedelta(0)


def test_what_is_on_another_branch_is_no_history_of_main(store, put_up, commit_on):
    put_up(PATH, {"a": b"1"})
    store.branch("work")
    commit = commit_on("work", {PATH: {"a": b"2"}}, metadata={"Drivelake-Version": f"{PATH} abc"})
    assert commit not in {entry.commit for entry in store.history(MAIN)}
    assert store.find(PATH, "abc") is None
    assert store.find(PATH, "abc", "work") == commit
    assert store.find(OTHER, "abc", "work") is None


def test_of_two_sides_that_a_merge_brought_together_both_are_in_the_history(store, commit_on):
    made = []
    for name in ("one", "two"):
        store.branch(name, at=list(store.history(MAIN))[-1].commit)
        made.append(commit_on(name, {f"raw_logs/{name}": {"a": b"1"}}))
    for name in ("one", "two"):
        store.merge(name)
    assert set(made) <= {entry.commit for entry in store.history(MAIN)}
    for name, commit in zip(("one", "two"), made, strict=True):
        assert [entry.commit for entry in store.history(MAIN, f"raw_logs/{name}")] == [commit]


def test_diff_names_the_paths_that_differ_both_ways(store, put_up):
    start = store.resolve(MAIN)
    one = put_up(PATH, {"a": b"1"})
    two = put_up("signals/drive_01", {"a": b"1"})
    three = put_up(PATH, {"a": b"2"})
    back = put_up(PATH, {"a": b"1"})
    assert store.diff(start, one) == (PATH,)
    assert store.diff(one, two) == ("signals/drive_01",)
    assert store.diff(start, three) == store.diff(three, start) == (PATH, "signals/drive_01")
    assert store.diff(two, back) == store.diff(back, MAIN) == ()


def test_a_link_names_the_commit(store, put_up):
    commit = put_up(PATH, {"a": b"1"})
    assert commit[:12] in store.link(commit)


KEYS = st.from_regex(r"[A-Za-z][A-Za-z0-9-]{0,20}", fullmatch=True)
LINES = st.text(st.characters(blacklist_categories=("Cs", "Cc", "Zl", "Zp", "Zs")), min_size=1, max_size=60)


def test_messages_and_metadata_come_back_as_given(store, make, reopen):
    store.branch("work")
    given_, folder = {}, make({})

    @settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
    @given(message=LINES, metadata=st.dictionaries(KEYS, LINES, max_size=4))
    def each(message, metadata):
        store.put("work", PATH, folder, {"manifest.json": str(len(given_)).encode()})
        given_[store.commit("work", message, metadata)] = (message, metadata)

    each()
    assert len(given_) > 1
    found = {e.commit: (e.message, dict(e.metadata)) for e in reopen(store).history("work") if e.commit in given_}
    assert found == given_


def test_metadata_that_could_not_come_back_is_refused_and_nothing_is_committed(store, make):
    store.branch("work")
    store.put("work", PATH, make({"a": b"1"}), {})
    for metadata in ({"two words": "v"}, {"": "v"}, {"k:": "v"}, {"k": "two\nlines"}, {"ü": "v"}):
        with pytest.raises(StoreError):
            store.commit("work", "m", metadata)
    assert store.resolve("work") == store.resolve(MAIN)


# --- looking after itself


def test_a_sound_store_checks_out_and_holds_no_strangers(store, put_up, reopen):
    commit = put_up(PATH, {"a": b"1"})
    put_up("soc_artefacts/steering@portable", {"model.onnx": b"2"})
    store.tag("release-1", commit)
    for reader in (store, reopen(store)):
        assert reader.check(commit) > 0
        assert reader.check() >= reader.check(commit)
        assert list(reader.strangers()) == list(reader.strangers(commit)) == []


def test_a_branch_and_a_path_that_no_publisher_made_are_named_as_strangers(store, put_up, commit_on):
    put_up(PATH, {"a": b"1"})
    store.branch("somebody-elses")
    commit_on("somebody-elses", {"raw_logs/no_manifest": {"a": b"1"}, "nothing_of_ours/x": {"a": b"1"}}, small={"s.json": b""})
    assert any("somebody-elses" in name for name in store.strangers())
    found = " ".join(store.strangers("somebody-elses"))
    assert "no_manifest" in found
    assert "nothing_of_ours" in found
    assert "drive_01" not in found
