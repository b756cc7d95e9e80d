"""Bytes on their way to and from lakeFS: signed and not, in parts and whole, compared on the way back."""

import hashlib
import os

import pytest

from drivelake.errors import StoreError
from drivelake.versions.lakefs.calls import Server
from drivelake.versions.lakefs.refs import Refs
from drivelake.versions.lakefs.transfer import Fetch, Hashed, Transfer
from drivelake.versions.lakefs.tree import Tree
from tests.servers.s3 import client

PART = 5 << 20  # S3 takes no smaller one


class Place:
    """A repository with a branch to send to."""

    def __init__(self, endpoint, repository, **options):
        self.server = Server(endpoint, repository, patience_s=20.0)
        self.transfer, self.tree = Transfer(self.server, **options), Tree(self.server)
        refs = Refs(self.server)
        refs.create("work", refs.head("main"))

    def fetch(self, folder, path, **changed):
        (held,) = [one for one in self.tree.held("work", path) if one.path == path]
        wanted = {
            "path": path,
            "commit": "work",
            "size": held.size,
            "sha256": held.sha256,
            "checksum": held.checksum,
            "target": folder / "got" / path,
        }
        self.transfer.fetch([Fetch(**{**wanted, **changed})])
        return wanted["target"]


@pytest.fixture
def place(monkeypatch):
    """place(server, **options) -> a Place in a fresh repository."""

    def go(server, **options):
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        return Place(server.endpoint, server.repository("bytes"), **options)

    return go


@pytest.mark.parametrize("kind", ["lakefs_local", "lakefs_s3"])
@pytest.mark.parametrize("size", [0, 1, 1000, 300_000])
def test_what_is_sent_comes_back_and_carries_its_sha256(request, place, tmp_path, kind, size):
    here, data = place(request.getfixturevalue(kind), direct_bytes=1000), os.urandom(size)
    source = tmp_path / "source"
    source.write_bytes(data)
    here.transfer.send("work", {"a/b c+%é/file": Hashed.of(source), "a/memory": Hashed.of(data)})
    for path in ("a/b c+%é/file", "a/memory"):
        got = here.fetch(tmp_path, path)
        assert got.read_bytes() == data
        assert got.stat().st_mode & 0o777 == 0o444
    assert {one.sha256 for one in here.tree.held("work")} == {hashlib.sha256(data).hexdigest()}


def test_on_signed_addresses_the_bytes_pass_by_the_server_and_large_files_go_in_parts(place, lakefs_s3, tmp_path):
    here, data = place(lakefs_s3, part_bytes=PART, direct_bytes=100), os.urandom(2 * PART + 7)
    before = lakefs_s3.stand_in.requests("POST", "/objects")
    here.transfer.send("work", {"large": Hashed.of(data), "middle": Hashed.of(data[:1000])})
    assert lakefs_s3.stand_in.requests("POST", "/objects") == before
    held = {one.path: one for one in here.tree.held("work")}
    assert held["large"].checksum.endswith("-3")
    assert held["middle"].checksum == hashlib.md5(data[:1000]).hexdigest()
    assert here.fetch(tmp_path, "large").read_bytes() == data


def test_the_same_bytes_sent_twice_are_no_change_to_the_server(place, lakefs_s3):
    here, data = place(lakefs_s3, part_bytes=PART, direct_bytes=100), os.urandom(PART + 1)
    seen = []
    for _ in range(2):
        here.transfer.send("work", {"large": Hashed.of(data), "small": Hashed.of(b"x"), "middle": Hashed.of(data[:1000])})
        seen.append({one.path: (one.checksum, one.size, one.sha256) for one in here.tree.held("work")})
    assert seen[0] == seen[1]


def test_bytes_that_came_back_other_are_refused_and_leave_nothing(place, lakefs_local, tmp_path):
    here = place(lakefs_local)
    here.transfer.send("work", {"a": Hashed.of(b"right")})
    with pytest.raises(StoreError, match=r"came back with digest .*expected 0000"):
        here.fetch(tmp_path, "a", sha256="0" * 64)
    with pytest.raises(StoreError, match="gave 5 bytes from 0 on, expected 9"):
        here.fetch(tmp_path, "a", size=9)
    assert list((tmp_path / "got").iterdir()) == []


def test_bytes_that_rotted_in_the_storage_are_noticed_on_the_way_back(place, lakefs_s3, s3, tmp_path):
    here = place(lakefs_s3)
    here.transfer.send("work", {"a": Hashed.of(b"right" * 100)})
    (held,) = here.tree.held("work")
    bucket, _, key = held.address.removeprefix("s3://").partition("/")
    client(s3).put_object(Bucket=bucket, Key=key, Body=b"wrong" * 100)
    with pytest.raises(StoreError, match=hashlib.sha256(b"right" * 100).hexdigest()):
        here.fetch(tmp_path, "a")
    client(s3).delete_object(Bucket=bucket, Key=key)
    with pytest.raises(StoreError, match="Object a at work is missing"):
        here.fetch(tmp_path, "a")


def test_a_file_that_was_written_to_while_it_was_sent_is_refused(place, lakefs_local, tmp_path):
    here, source = place(lakefs_local), tmp_path / "source"
    source.write_bytes(b"before")
    hashed = Hashed.of(source)
    source.write_bytes(b"after!")
    with pytest.raises(StoreError, match="nobody writes into the folder"):
        here.transfer.send("work", {"a": hashed})


def test_a_disk_that_takes_no_more_is_said(place, lakefs_local, tmp_path):
    here = place(lakefs_local)
    here.transfer.send("work", {"a": Hashed.of(b"right")})
    (tmp_path / "got").write_bytes(b"a file where a folder should be")
    with pytest.raises(StoreError, match="could not be written"):
        here.fetch(tmp_path, "a")
