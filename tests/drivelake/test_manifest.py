"""A manifest is its canonical bytes: nothing else may change its digest, and everything in it must."""

import hashlib
import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from drivelake.errors import InputError, VerificationFailed
from drivelake.manifest import FileEntry, Input, Manifest, Reference, check_partition, hash_folder, merkle_root, regular_hash

SHA = "0" * 64


def manifest(**changes):
    fields = {
        "asset": "signals",
        "partition": "drive_1",
        "files": (FileEntry(path="a.parquet", bytes=1, sha256=SHA),),
        "inputs": (Input(asset="raw_logs", partition="drive_1", version=SHA),),
        "code_version": "1",
        "parameters": {"b": 1, "a": [1.5, None]},
        "tools": {"python": "3.11"},
    }
    return Manifest(**{**fields, **changes})


def test_parsing_its_own_bytes_gives_the_same_version():
    made = manifest()
    assert Manifest.parse(made.canonical(), where="here").version == made.version


def test_the_order_of_keys_does_not_count():
    assert manifest(parameters={"a": [1.5, None], "b": 1}).version == manifest().version


@pytest.mark.parametrize(
    "change",
    [
        {"partition": "drive_2"},
        {"files": ()},
        {"inputs": ()},
        {"code_version": "2"},
        {"parameters": {}},
        {"tools": {}},
        {"facts": {"rows": 1}},
        {"references": (Reference(path="b", bytes=1, sha256=SHA, uri="inbox:d/b"),)},
    ],
)
def test_every_field_counts(change):
    assert manifest(**change).version != manifest().version


def test_a_log_of_the_inbox_is_written_as_before_there_were_logs_on_s3():
    inbox = manifest(references=(Reference(path="b", bytes=1, sha256=SHA, uri="inbox:d/b"),), facts={"none": None})
    assert inbox.version == "eebfe263872ae72441d0e10384bb9dade6a6dcbc175485dd910e3478225e9c64"
    assert b'"references":[{"bytes":1,"path":"b","sha256":"' + SHA.encode() + b'","uri":"inbox:d/b"}]' in inbox.canonical()
    assert b'"none":null' in inbox.canonical()


@pytest.mark.parametrize("version_id", [None, "v1"])
def test_a_log_on_s3_is_pinned_by_all_that_its_bucket_said_of_it(version_id):
    def made(**changes):
        fields = {"path": "b", "bytes": 1, "sha256": SHA, "uri": "s3://bucket/b", "etag": '"e"', "version_id": version_id}
        return manifest(references=(Reference(**{**fields, **changes}),))

    assert Manifest.parse(made().canonical(), where="here") == made()
    versions = {made(**change).version for change in ({}, {"uri": "s3://other/b"}, {"etag": '"f"'}, {"version_id": "v2"})}
    assert len(versions) == 4


@pytest.mark.parametrize(
    "fields",
    [
        {"uri": "s3://bucket/b"},
        {"uri": "s3://bucket/b", "version_id": "v1"},
        {"uri": "s3://bucket/", "etag": '"e"'},
        {"uri": "inbox:d/b", "etag": '"e"'},
        {"uri": "inbox:d/b", "version_id": "v1"},
        {"uri": "inbox:d/b", "etag": ""},
    ],
)
def test_only_an_object_on_s3_has_an_etag_and_every_one_has(fields):
    with pytest.raises(ValidationError):
        Reference(path="b", bytes=1, sha256=SHA, **fields)


@pytest.mark.parametrize("change", [{"files": ()}, {"tools": {}}, {"facts": {"rows": 1}}])
def test_what_is_only_known_afterwards_does_not_change_the_recipe(change):
    assert manifest(**change).recipe == manifest().recipe


@pytest.mark.parametrize("change", [{"inputs": ()}, {"code_version": "2"}, {"parameters": {}}, {"partition": "x"}])
def test_what_goes_in_changes_the_recipe(change):
    assert manifest(**change).recipe != manifest().recipe


def test_bytes_that_are_not_canonical_are_refused():
    loose = json.dumps(json.loads(manifest().canonical()), indent=1).encode()
    with pytest.raises(VerificationFailed, match="not in canonical form"):
        Manifest.parse(loose, where="signals/drive_1/manifest.json")


def test_an_unknown_field_is_refused():
    raw = manifest().canonical().replace(b'"tools"', b'"toolz"')
    with pytest.raises(VerificationFailed, match="is not a manifest"):
        Manifest.parse(raw, where="x")


@pytest.mark.parametrize("path", ["../a", "/a", "a/../b", "a//b", "./a", ""])
def test_a_path_that_leaves_the_version_is_refused(path):
    with pytest.raises(ValidationError):
        FileEntry(path=path, bytes=0, sha256=SHA)


@given(st.lists(st.binary(max_size=8), max_size=40))
def test_the_root_equals_the_recursive_definition_of_rfc_6962(leaves):
    def definition(part):
        if not part:
            return hashlib.sha256(b"").digest()
        if len(part) == 1:
            return hashlib.sha256(b"\x00" + part[0]).digest()
        k = 1
        while k * 2 < len(part):
            k *= 2
        return hashlib.sha256(b"\x01" + definition(part[:k]) + definition(part[k:])).digest()

    assert merkle_root(iter(leaves)) == definition(leaves)


@pytest.mark.parametrize("key", ["drive_1", "steering@portable", "2024-01-24T15.43", "a=b"])
def test_ordinary_keys_pass(key):
    assert check_partition(key) == key


@pytest.mark.parametrize(
    "key", ["", ".", "..", "a..b", "a/b", "a b", "a\nb", "Ä", "-a", "a.lock", "a.", "x" * 121, "a\0", "drive.dvc"]
)
def test_odd_keys_are_refused_with_what_is_allowed(key):
    with pytest.raises(InputError, match="expected 1 to 120"):
        check_partition(key)


@given(st.text(max_size=12))
def test_a_key_that_passes_is_one_safe_path_component(key):
    try:
        check_partition(key)
    except InputError:
        return
    assert "/" not in key
    assert key not in {"", ".", ".."}
    assert key.isprintable()
    assert key.isascii()


def test_a_folder_is_hashed_in_the_order_of_paths_and_moving_it_changes_nothing(tmp_path):
    for name in ("b", "a/c", "a.d"):
        file = tmp_path / "one" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(name)
    before = hash_folder(tmp_path / "one")
    (tmp_path / "one").rename(tmp_path / "two")
    assert hash_folder(tmp_path / "two") == before
    assert [e.path for e in before] == ["a.d", "a/c", "b"]


def test_a_reference_names_a_file_of_the_inbox_and_no_place_on_a_machine():
    with pytest.raises(ValidationError):
        Reference(path="x", bytes=0, sha256=SHA, uri="file:///tmp/x")


def test_an_unknown_asset_is_refused():
    with pytest.raises(ValidationError):
        manifest(asset="rawlogs")


@pytest.mark.parametrize("make", [lambda p: p.symlink_to("/etc/hostname"), os.mkfifo])
def test_a_link_or_a_pipe_is_no_file_of_a_store(tmp_path, make):
    make(tmp_path / "x")
    with pytest.raises(OSError, match="is no regular file"):
        regular_hash(tmp_path / "x")


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**80), 2**80))
def test_any_number_reads_back(number):
    made = manifest(parameters={"n": number})
    assert Manifest.parse(made.canonical(), where="x") == made
