"""A registered log reads as it was registered or not at all, and is never written anywhere a second time."""

import math
import os

import pytest

from drivelake import references
from drivelake.errors import Denied, InputError, LogDamaged, StoreError, Unavailable
from drivelake.manifest import Reference, hash_file
from drivelake.references import bring, register, rehash
from drivelake.versions.s3 import calls as s3_calls
from tests.servers.faults import FaultProxy
from tests.servers.s3 import client, fresh_bucket

DATA = os.urandom(10_000)


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(references, "PART_BYTES", 3_000)


@pytest.fixture
def proxy(s3):
    with FaultProxy(s3) as proxy:
        yield proxy


class Object:
    """One object of a bucket, put and removed past the code under test."""

    def __init__(self, endpoint, *, versioned):
        self.bucket, self.s3 = fresh_bucket(endpoint, versioned=versioned), client(endpoint)
        self.uri = f"s3://{self.bucket}/campaign 7/a#b?.mcap"
        self.put(DATA)

    def put(self, data):
        self.s3.put_object(Bucket=self.bucket, Key="campaign 7/a#b?.mcap", Body=data)

    def delete(self, **version):
        self.s3.delete_object(Bucket=self.bucket, Key="campaign 7/a#b?.mcap", **version)


@pytest.fixture
def versioned(s3):
    return Object(s3, versioned=True)


@pytest.fixture
def plain(s3):
    return Object(s3, versioned=False)


@pytest.fixture(params=["versioned", "plain"])
def either(request):
    return request.getfixturevalue(request.param)


def landed(uri, endpoint, tmp_path):
    return register(uri, endpoint, "logs/a.mcap", tmp_path / "landed")


def test_an_object_is_registered_as_it_is_by_reading_it_once(either, proxy, tmp_path):
    found = landed(either.uri, proxy.endpoint, tmp_path)
    assert (tmp_path / "landed").read_bytes() == DATA
    assert (found.bytes, found.sha256) == hash_file(tmp_path / "landed")
    assert (found.uri, found.path) == (either.uri, "logs/a.mcap")
    head = either.s3.head_object(Bucket=either.bucket, Key="campaign 7/a#b?.mcap")
    assert (found.etag, found.version_id) == (head["ETag"], head.get("VersionId"))
    assert proxy.bytes_got("GET") == len(DATA)
    assert proxy.bytes_sent() == 0
    assert {seen.method for seen in proxy.seen} == {"HEAD", "GET"}


def test_it_is_brought_and_rehashed_with_the_bytes_it_was_registered_with(either, proxy, tmp_path):
    found = landed(either.uri, proxy.endpoint, tmp_path)
    paths = bring([found], tmp_path / "inbox", proxy.endpoint, tmp_path / "view")
    assert paths == {"logs/a.mcap": tmp_path / "view" / "logs" / "a.mcap"}
    assert paths["logs/a.mcap"].read_bytes() == DATA
    assert rehash(found, tmp_path / "inbox", proxy.endpoint) == (found.bytes, found.sha256)
    assert proxy.bytes_sent() == 0
    assert sorted(p.name for p in tmp_path.rglob("*") if p.is_file()) == ["a.mcap", "landed"]  # rehashing kept nothing


@pytest.mark.parametrize("data", [b"X" * len(DATA), b"short", b""])
def test_a_replaced_object_of_a_bucket_with_versions_still_reads_as_registered(versioned, s3, tmp_path, data):
    found = landed(versioned.uri, s3, tmp_path)
    versioned.put(data)
    assert bring([found], tmp_path, s3, tmp_path / "view")["logs/a.mcap"].read_bytes() == DATA
    versioned.delete()
    assert rehash(found, tmp_path, s3) == (found.bytes, found.sha256)


@pytest.mark.parametrize("data", [b"X" * len(DATA), b"short", b""])
def test_a_replaced_object_of_a_bucket_without_versions_is_refused(plain, s3, tmp_path, data):
    found = landed(plain.uri, s3, tmp_path)
    plain.put(data)
    for read in (lambda: bring([found], tmp_path, s3, tmp_path / "view"), lambda: rehash(found, tmp_path, s3)):
        with pytest.raises(LogDamaged) as told:
            read()
        assert f"registered with {len(DATA)} bytes, SHA-256 {found.sha256[:12]}" in told.value.message
        assert f"found {len(data)} bytes" in told.value.message


def test_an_object_replaced_between_two_ranges_is_refused(plain, s3, tmp_path, monkeypatch):
    found = landed(plain.uri, s3, tmp_path)
    monkeypatch.setattr(references, "THREADS", 1)
    original = references.Bucket.range

    def replacing(bucket, head, start, stop):
        if start:
            plain.put(DATA[::-1])
        return original(bucket, head, start, stop)

    monkeypatch.setattr(references.Bucket, "range", replacing)
    with pytest.raises(LogDamaged, match="replaced or removed while it was read"):
        bring([found], tmp_path, s3, tmp_path / "view")
    plain.put(DATA)
    with pytest.raises(InputError, match="replaced or removed while it was read"):
        register(plain.uri, s3, "logs/a.mcap", tmp_path / "again")


def test_a_removed_object_or_version_is_named(either, s3, tmp_path):
    found = landed(either.uri, s3, tmp_path)
    either.delete(**({"VersionId": found.version_id} if found.version_id else {}))
    with pytest.raises(LogDamaged, match="found nothing"):
        bring([found], tmp_path, s3, tmp_path / "view")
    with pytest.raises(LogDamaged, match="found nothing"):
        rehash(found, tmp_path, s3)


def test_other_bytes_under_the_same_size_and_etag_are_still_found(plain, s3, tmp_path):
    found = landed(plain.uri, s3, tmp_path).model_copy(update={"sha256": "0" * 64})
    with pytest.raises(LogDamaged, match=r"SHA-256 000000000000; found 10000 bytes"):
        bring([found], tmp_path, s3, tmp_path / "view")


def test_what_was_never_there_cannot_be_registered(s3, tmp_path):
    with pytest.raises(InputError, match="is not there"):
        landed(f"s3://{fresh_bucket(s3)}/absent.mcap", s3, tmp_path)


@pytest.mark.parametrize("kind", ["cut", "reset", "503"])
def test_a_broken_range_is_read_again_and_the_digest_is_right(either, proxy, tmp_path, kind):
    fault = proxy.plan(kind, method="GET", nth=2)
    found = landed(either.uri, proxy.endpoint, tmp_path)
    assert fault.happened == 1
    assert (found.bytes, found.sha256) == hash_file(tmp_path / "landed")


def test_a_server_that_is_away_or_refuses_is_no_damage(plain, proxy, tmp_path, monkeypatch):
    found = landed(plain.uri, proxy.endpoint, tmp_path)
    monkeypatch.setattr(s3_calls, "PATIENCE_S", 0.2)
    proxy.plan("503", times=math.inf)
    with pytest.raises(Unavailable):
        rehash(found, tmp_path, proxy.endpoint)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(Denied):
        rehash(found, tmp_path, proxy.endpoint)


def test_an_empty_object_is_one_too(s3, tmp_path):
    empty = Object(s3, versioned=False)
    empty.put(b"")
    found = landed(empty.uri, s3, tmp_path)
    assert (found.bytes, found.sha256) == hash_file(tmp_path / "landed")
    assert bring([found], tmp_path, s3, tmp_path / "view")["logs/a.mcap"].read_bytes() == b""


def test_a_disk_that_cannot_be_written_is_not_called_damage(plain, s3, tmp_path):
    (tmp_path / "landed").write_bytes(b"")
    with pytest.raises(StoreError, match="landed cannot be written"):
        landed(plain.uri, s3, tmp_path)


def test_logs_of_the_inbox_are_read_there_and_compared(tmp_path):
    (tmp_path / "d").mkdir()
    log = tmp_path / "d" / "a.mcap"
    log.write_bytes(DATA)
    size, sha256 = hash_file(log)
    found = Reference(path="logs/a.mcap", bytes=size, sha256=sha256, uri="inbox:d/a.mcap")
    assert bring([found], tmp_path, None, tmp_path / "view") == {"logs/a.mcap": log}
    log.write_bytes(DATA[1:])
    with pytest.raises(LogDamaged, match="found 9999 bytes"):
        bring([found], tmp_path, None, tmp_path / "view")
    log.unlink()
    with pytest.raises(LogDamaged, match="found 0 bytes, nothing"):
        bring([found], tmp_path, None, tmp_path / "view")
