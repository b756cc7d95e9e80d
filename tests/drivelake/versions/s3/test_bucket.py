import math
import multiprocessing
import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from drivelake.errors import Denied, NotFound, StoreError, Unavailable
from drivelake.versions.s3.bucket import Bucket
from tests.servers.faults import FaultProxy
from tests.servers.s3 import client, fresh_bucket

PATIENT = 20.0
PART = 5 << 20  # less is refused on the way up, as on AWS


@pytest.fixture
def bucket(s3, bucket_url):
    return Bucket(bucket_url, s3)


@pytest.fixture
def proxy(s3):
    with FaultProxy(s3) as proxy:
        yield proxy


@pytest.fixture
def faulty(proxy, bucket_url):
    return Bucket(bucket_url, proxy.endpoint, patience_s=PATIENT, part_bytes=PART)


@pytest.fixture
def impatient(proxy, bucket_url):
    return Bucket(bucket_url, proxy.endpoint, patience_s=0.2)


class TestOneObject:
    def test_what_is_written_is_read_under_the_prefix(self, bucket, bucket_url, s3):
        bucket.put("a/b", b"bytes")
        assert bucket.get("a/b") == b"bytes"
        assert bucket.uri("a/b") == f"{bucket_url}/a/b"
        direct = client(s3).get_object(Bucket=bucket.name, Key="team/lake/a/b")
        assert direct["Body"].read() == b"bytes"
        head = bucket.head("a/b")
        assert (head.key, head.size, head.etag, head.version_id) == ("a/b", 5, direct["ETag"], None)
        assert bucket.get_with_etag("a/b") == (b"bytes", head.etag)

    def test_what_is_absent_is_said_to_be(self, bucket):
        with pytest.raises(NotFound, match="team/lake/absent"):
            bucket.get("absent")
        assert bucket.get_with_etag("absent") is None
        assert bucket.head("absent") is None

    def test_an_absent_bucket_is_no_empty_one(self, s3):
        absent = Bucket("s3://there-is-none", s3)
        with pytest.raises(NotFound, match="bucket is not there"):
            absent.get_with_etag("a")
        with pytest.raises(NotFound, match="bucket is not there"):
            absent.put_if("a", b"", '"etag"')
        with pytest.raises(NotFound):
            list(absent.list())

    def test_a_bucket_without_a_prefix_uses_keys_as_they_are(self, s3):
        whole = Bucket(f"s3://{fresh_bucket(s3)}", s3)
        whole.put("a/b", b"1")
        assert [h.key for h in whole.list()] == ["a/b"]
        assert whole.names("") == ("a",)

    def test_an_address_that_is_none_of_s3_is_refused(self):
        with pytest.raises(StoreError, match="expected s3://"):
            Bucket("/folder")

    def test_the_clock_is_the_servers(self, bucket):
        bucket.put("a", b"")
        assert abs((bucket.now() - bucket.head("a").modified).total_seconds()) < 60

    def test_a_version_that_was_replaced_can_still_be_asked_for(self, s3):
        kept = Bucket(f"s3://{fresh_bucket(s3, versioned=True)}/x", s3)
        kept.put("a", b"old")
        old = kept.head("a")
        kept.put("a", b"newer")
        assert old.version_id
        assert kept.head("a", old.version_id) == old
        assert kept.head("a").size == 5


class TestConditions:
    def test_one_of_many_racing_writers_wins(self, bucket):
        start = threading.Barrier(32)

        def race(expected, writer):
            start.wait()
            return bucket.put_if("ref", f"writer {writer}".encode(), expected)

        with ThreadPoolExecutor(32) as pool:
            for _ in range(2):  # a new key, then one that stands
                _, expected = bucket.get_with_etag("ref") or (b"", None)
                won = list(pool.map(lambda writer, expected=expected: race(expected, writer), range(32)))
                assert sum(won) == 1
                assert bucket.get("ref") == f"writer {won.index(True)}".encode()

    def test_another_content_or_none_is_not_replaced(self, bucket):
        assert not bucket.put_if("ref", b"b", '"00000000000000000000000000000000"')
        assert bucket.put_if("ref", b"a", None)
        assert not bucket.put_if("ref", b"b", None)
        _, etag = bucket.get_with_etag("ref")
        assert bucket.put_if("ref", b"b", etag)
        assert not bucket.put_if("ref", b"c", etag)
        assert bucket.get("ref") == b"b"

    @pytest.mark.parametrize("kind", ["lost", "reset", "500", "503"])
    def test_a_write_whose_answer_was_lost_is_still_known_to_have_won(self, faulty, proxy, kind):
        fault = proxy.plan(kind, method="PUT")
        assert faulty.put_if("ref", b"mine", None)
        assert fault.happened == 1
        assert faulty.get("ref") == b"mine"

    def test_a_lost_answer_to_the_loser_does_not_make_it_win(self, faulty, proxy, bucket):
        bucket.put("ref", b"theirs")
        proxy.plan("lost", method="PUT")
        assert not faulty.put_if("ref", b"mine", None)
        assert bucket.get("ref") == b"theirs"

    def test_deleting_is_conditional_too(self, bucket):
        bucket.put("lock", b"mine")
        _, etag = bucket.get_with_etag("lock")
        bucket.put("lock", b"theirs")
        assert not bucket.delete_if("lock", etag)
        assert bucket.get("lock") == b"theirs"
        assert bucket.delete_if("lock", bucket.head("lock").etag)
        assert bucket.delete_if("lock", etag)  # there is nothing left to delete
        assert bucket.head("lock") is None

    def test_a_deletion_whose_answer_was_lost_happened(self, faulty, proxy):
        faulty.put("lock", b"mine")
        proxy.plan("lost", method="DELETE")
        assert faulty.delete_if("lock", faulty.head("lock").etag)
        assert faulty.head("lock") is None

    def test_a_server_that_ignores_conditions_is_found_out(self, bucket, monkeypatch):
        bucket.require_conditions()
        assert list(bucket.list()) == []
        monkeypatch.setattr(bucket, "put_if", lambda key, data, _: bucket.put(key, data) or True)
        with pytest.raises(StoreError, match="ignores If-None-Match"):
            bucket.require_conditions()
        assert list(bucket.list()) == []


class TestListing:
    def test_more_than_a_page_is_listed_and_removed(self, bucket, s3):
        # moto's own store is filled directly: 1,100 requests would be the test's whole time
        from moto.s3.models import s3_backends

        backend = next(iter(s3_backends[account]["aws"] for account in s3_backends))
        for number in range(1100):
            backend.put_object(bucket.name, f"team/lake/many/{number:04d}", b"x")
        bucket.put("manyfold", b"")
        bucket.put("other/deep/er", b"")
        heads = list(bucket.list("many"))
        assert [h.key for h in heads] == [f"many/{number:04d}" for number in range(1100)]
        assert {h.size for h in heads} == {1}
        assert len(list(bucket.list())) == 1102
        assert bucket.names("") == ("many", "manyfold", "other")
        assert bucket.names("other/") == ("deep",)
        assert len(bucket.names("many")) == 1100
        assert bucket.names("absent") == ()
        bucket.delete(h.key for h in heads)
        bucket.delete(["many/0000", "never"])  # gone already
        assert [h.key for h in bucket.list()] == ["manyfold", "other/deep/er"]

    def test_pages_are_asked_for_as_they_are_read(self, faulty, proxy):
        faulty.put("a", b"")
        listing = faulty.list()
        assert proxy.count("GET") == 0
        assert next(listing).key == "a"


class TestTransfers:
    def test_files_of_all_sizes_come_back_as_they_went(self, faulty, proxy, tmp_path):
        sizes = {"empty": 0, "small": 10, "part": PART, "large": 2 * PART + 1}
        paths = {name: tmp_path / "up" / name for name in sizes}
        (tmp_path / "up").mkdir()
        for name, path in paths.items():
            path.write_bytes(os.urandom(sizes[name]))
        faulty.upload(paths)
        assert {h.key: h.size for h in faulty.list()} == sizes
        assert proxy.count("PUT", "partNumber=") == 3
        down = {name: tmp_path / "down" / "deep" / name for name in sizes}
        faulty.download(down)
        assert {n: p.read_bytes() for n, p in down.items()} == {n: p.read_bytes() for n, p in paths.items()}
        assert sorted(p.name for p in (tmp_path / "down" / "deep").iterdir()) == sorted(sizes)

    @pytest.mark.parametrize("kind", ["cut", "reset", "lost", "500", "503"])
    def test_one_broken_request_of_a_transfer_is_repeated(self, faulty, proxy, tmp_path, kind):
        data = os.urandom(PART + 1)
        (tmp_path / "a").write_bytes(data)
        plans = [proxy.plan(kind, method=m, path=p) for m, p in [("POST", "uploads"), ("PUT", "part"), ("POST", "uploadId")]]
        faulty.upload({"a": tmp_path / "a"})
        fault = proxy.plan(kind, method="GET", nth=2)
        faulty.download({"a": tmp_path / "b"})
        assert (tmp_path / "b").read_bytes() == data
        assert all(f.happened == 1 for f in [*plans, fault])

    def test_nothing_is_left_of_a_download_that_fails(self, faulty, proxy, tmp_path):
        faulty.put("a", b"there")
        with pytest.raises(NotFound, match="absent"):
            faulty.download({"a": tmp_path / "a", "absent": tmp_path / "absent"})
        assert {p.name for p in tmp_path.iterdir()} <= {"a"}

    def test_an_object_replaced_while_it_is_read_is_refused(self, s3, bucket_url, tmp_path):
        ranged = Bucket(bucket_url, s3, part_bytes=4)
        ranged.put("a", b"01234567")
        place = ranged._place("a")
        _, _, etag = place.range(0, 4)
        ranged.put("a", b"abcdefgh")
        with pytest.raises(StoreError, match="team/lake/a"):
            place.range(4, 8, etag)

    def test_ranges_of_many_objects_at_once_do_not_mix(self, s3, bucket_url, tmp_path):
        ranged = Bucket(bucket_url, s3, part_bytes=100)
        contents = {f"k{i}": os.urandom(50 * i) for i in range(8)}
        for key, data in contents.items():
            ranged.put(key, data)
        ranged.download({key: tmp_path / key for key in contents})
        assert {key: (tmp_path / key).read_bytes() for key in contents} == contents

    def test_a_file_that_cannot_be_read_or_written_is_named(self, bucket, tmp_path):
        with pytest.raises(StoreError, match="absent"):
            bucket.upload({"a": tmp_path / "absent"})
        bucket.put("a", b"1")
        (tmp_path / "file").write_bytes(b"")
        with pytest.raises(StoreError, match="cannot be written"):
            bucket.download({"a": tmp_path / "file" / "below"})


class TestErrors:
    @pytest.mark.parametrize("kind", ["reset", "lost", "500", "503", "cut"])
    def test_a_server_that_never_recovers_is_unavailable(self, impatient, proxy, bucket, kind):
        bucket.put("a", b"0123456789")
        proxy.plan(kind, times=math.inf)
        with pytest.raises(Unavailable, match=r"team/lake/a"):
            impatient.get("a")

    def test_a_server_that_answers_too_late_is_unavailable(self, proxy, bucket_url):
        proxy.plan("slow", seconds=3, times=math.inf)
        with pytest.raises(Unavailable):
            Bucket(bucket_url, proxy.endpoint, patience_s=0.5).get("a")

    def test_nobody_at_the_address_is_unavailable(self, bucket_url, s3):
        with pytest.raises(Unavailable):
            Bucket(bucket_url, "http://127.0.0.1:9", patience_s=0.2).get("a")

    def test_no_credentials_are_denied(self, bucket, monkeypatch):
        monkeypatch.delenv("AWS_ACCESS_KEY_ID")
        with pytest.raises(Denied, match="no usable credentials"):
            bucket.get("a")

    @pytest.mark.parametrize(
        ("code", "status", "expected"),
        [
            ("AccessDenied", 403, Denied),
            ("403", 403, Denied),
            ("ExpiredToken", 400, Denied),
            ("InvalidAccessKeyId", 403, Denied),
            ("NoSuchKey", 404, NotFound),
            ("NoSuchBucket", 404, NotFound),
            ("SlowDown", 503, Unavailable),
            ("InternalError", 500, Unavailable),
            ("RequestTimeout", 400, Unavailable),
            ("TooManyRequests", 429, Unavailable),
            ("ConditionalRequestConflict", 409, Unavailable),
            ("InvalidBucketName", 400, StoreError),
            ("PermanentRedirect", 301, StoreError),
        ],
    )
    def test_every_answer_has_one_error(self, impatient, monkeypatch, code, status, expected):
        from botocore.exceptions import ClientError

        def refuse(**_):
            raise ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "GetObject")

        monkeypatch.setattr(impatient._calls.client, "get_object", refuse)
        with pytest.raises(StoreError, match="team/lake/a") as told:
            impatient.get("a")
        assert type(told.value) is expected

    def test_a_key_that_the_server_keeps_is_named(self, bucket, monkeypatch):
        kept = {"Errors": [{"Key": "team/lake/a", "Code": "AccessDenied", "Message": "locked"}]}
        monkeypatch.setattr(bucket._calls.client, "delete_objects", lambda **_: kept)
        with pytest.raises(Denied, match=r"1 of 2 .*team/lake/a"):
            bucket.delete(["a", "b"])


def _in_child(bucket, answers):
    answers.put(bucket.get("a"))


def test_a_forked_child_uses_a_client_of_its_own(bucket):
    bucket.put("a", b"bytes")
    parents = bucket._calls.client
    context = multiprocessing.get_context("fork")
    answers = context.SimpleQueue()
    children = [context.Process(target=_in_child, args=(bucket, answers)) for _ in range(2)]
    for child in children:
        child.start()
    assert [answers.get() for _ in children] == [b"bytes"] * 2
    for child in children:
        child.join()
    assert bucket.get("a") == b"bytes"
    assert bucket._calls.client is parents
