"""The embedded store on a bucket that machines share: what stands there, what a machine fetches, and how it is repaired."""

import os
import shutil
import subprocess
import sys
import threading
import zlib
from collections import Counter

import pytest

from drivelake.errors import NotFound, StoreError
from drivelake.versions import MAIN, EmbeddedStore
from drivelake.versions.s3.bucket import Bucket

PATH = "raw_logs/drive_01"
FILES = {"a.bin": b"bytes" * 100, "deep/er/b.json": b"{}", "empty": b""}


class Counting(Bucket):
    """Notes what is written and read."""

    def __init__(self, *args):
        super().__init__(*args)
        self.calls = []

    def get(self, key):
        self.calls.append(("get", key))
        return super().get(key)

    def put(self, key, data):
        self.calls.append(("put", key))
        super().put(key, data)

    def upload(self, files):
        self.calls += [("put", key) for key in files]
        super().upload(files)

    def download(self, files):
        self.calls += [("get", key) for key in files]
        super().download(files)


@pytest.fixture
def bucket(bucket_url, s3):
    return Counting(bucket_url, s3)


@pytest.fixture
def machine(tmp_path, bucket):
    """machine(name) -> the store as a machine of that name has it."""
    return lambda name: EmbeddedStore(tmp_path / name, bucket)


@pytest.fixture
def store(tmp_path, bucket):
    return EmbeddedStore.create(tmp_path / "one", bucket)


def below(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def keys(bucket, under="repo.git/objects"):
    return sorted(head.key for head in bucket.list(under))


def test_git_objects_stand_on_the_bucket_as_git_keeps_them(store, put_up, bucket):
    put_up(PATH, FILES)
    store.check()
    here = {f"repo.git/objects/{p.parent.name}/{p.name}": p for p in (store.root / "repo.git" / "objects").glob("??/*")}
    assert keys(bucket) == sorted(here)
    assert all(zlib.decompress(bucket.get(key)) == zlib.decompress(file.read_bytes()) for key, file in here.items())


def test_a_machine_with_an_empty_folder_reads_and_publishes(store, machine, put_up, content):
    first = put_up(PATH, FILES)
    other = machine("two")
    assert content(other, MAIN, PATH) == FILES
    assert other.list(MAIN, "raw_logs") == ("drive_01",)
    assert [entry.commit for entry in other.history(MAIN, PATH)] == [first]
    second = put_up("raw_logs/drive_02", {"b": b"2"}, into=other)
    assert store.resolve(MAIN) == second
    assert [store.resolve(second[:digits]) for digits in (7, 12, 39, 40)] == [second] * 4
    assert content(store, MAIN, "raw_logs/drive_02") == {"b": b"2"}
    assert dict(store.read_each(MAIN, "raw_logs", "manifest.json")).keys() == {"drive_01", "drive_02"}
    assert store.strangers() == other.strangers() == []


def test_nothing_is_sent_or_fetched_twice(store, machine, put_up, bucket, content):
    put_up(PATH, FILES)
    put_up("signals/drive_01", FILES)
    other = machine("two")
    content(other, MAIN, PATH)
    content(other, MAIN, "signals/drive_01")
    assert other.check() > 0
    content(machine("two"), MAIN, PATH)
    moved = Counter(call for call in bucket.calls if "/refs/" not in call[1])
    assert {call: n for call, n in moved.items() if n > 1} == {}
    assert any(kind == "put" and "files/md5" in key for kind, key in moved)


def test_there_is_no_store_where_none_was_made(tmp_path, bucket):
    with pytest.raises(NotFound, match=r"no version store at s3://.*Next: "):
        EmbeddedStore(tmp_path / "one", bucket)
    assert not (tmp_path / "one").exists()


def test_of_many_who_make_the_store_at_once_all_have_the_same(tmp_path, bucket):
    made = []
    work = lambda n: made.append(EmbeddedStore.create(tmp_path / str(n % 4), bucket).resolve(MAIN))  # noqa: E731 - one line
    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(made) == 8
    assert set(made) == {EmbeddedStore(tmp_path / "later", bucket).resolve(MAIN)}


def test_a_folder_belongs_to_one_store(tmp_path, store, bucket, s3):
    elsewhere = Bucket(f"{bucket.url}-other", s3)
    for wrong in (lambda: EmbeddedStore(store.root), lambda: EmbeddedStore.create(store.root, elsewhere)):
        with pytest.raises(StoreError, match=f"this machine's part of {bucket.url}, expected"):
            wrong()
    alone = EmbeddedStore.create(tmp_path / "alone")
    with pytest.raises(StoreError, match=r"a store of its own, expected this machine's part of s3://"):
        EmbeddedStore(alone.root, bucket)
    assert keys(elsewhere, "repo.git/refs") == []


def test_a_damaged_git_object_here_is_fetched_again_and_one_on_the_bucket_is_named(store, machine, put_up, bucket):
    put_up(PATH, FILES)
    for damage in (b"", b"nonsense"):
        for file in store.git_objects():
            file.chmod(0o644)
            file.write_bytes(damage)
        assert EmbeddedStore(store.root, bucket).check() == len(keys(bucket))
    key = keys(bucket)[0]
    whole = bucket.get(key)
    for raw, what in ((whole[: len(whole) // 2], "cannot be read"), (zlib.compress(b"blob 1\0x"), "does not hash to its name")):
        bucket.put(key, raw)
        with pytest.raises(StoreError, match=f"git object {bucket.uri(key)} {what}"):
            machine("two").check()
        shutil.rmtree(store.root.with_name("two"))
    bucket.delete([key])
    with pytest.raises(StoreError, match=f"git object {bucket.uri(key)} is missing"):
        machine("two").check()


def test_a_commit_that_its_maker_did_not_live_to_send_moves_no_ref(store, make):
    graph = store._graph
    head = graph.resolve(MAIN)
    lost = graph.write_commit(graph.root(head), [head], "never sent")
    later = EmbeddedStore(store.root, store._bucket)
    with pytest.raises(StoreError, match=f"Commit {lost[:12]} is on this machine alone"):
        later.branch("work", at=lost)
    assert list(later.branches()) == ["main"]
    later.push(lost)
    later.branch("work", at=lost)
    assert later.resolve("work") == lost


def test_push_sends_what_the_bucket_lost_and_says_how_much(store, machine, put_up, bucket, content):
    put_up(PATH, FILES)
    put_up("raw_logs/drive_02", {"a.bin": b"2"})
    assert store.push().git_objects_moved == 0
    objects, files = keys(bucket), keys(bucket, "files/md5")
    bucket.delete([*objects[::3], *files])
    bucket.put(objects[1], b"cut short")
    done = store.push()
    assert done.git_objects == len(objects)
    assert done.git_objects_moved == len(objects[::3]) + 1
    assert (done.versions, done.files) == (2, 4)
    assert keys(bucket) == objects
    assert keys(bucket, "files/md5") == files
    other = machine("two")
    assert content(other, MAIN, PATH) == FILES
    assert other.check() == len(objects)


def test_push_names_what_neither_side_has(store, put_up, bucket):
    put_up(PATH, FILES)
    key = keys(bucket, "files/md5")[0]
    bucket.delete([key])
    (store.root / key).unlink()
    with pytest.raises(StoreError, match=f"{bucket.uri(key)} is missing"):
        store.push()


def test_pull_brings_everything_and_then_nothing(store, machine, put_up, bucket, content):
    put_up(PATH, {"a.bin": b"old"})
    put_up(PATH, FILES)
    put_up("raw_logs/drive_02", {"a.bin": b"2"})
    other = machine("two")
    done = other.pull()
    assert (done.git_objects, done.versions, done.files) == (len(keys(bucket)), 2, 4)
    assert done.git_objects_moved > 0
    assert other.pull().git_objects_moved == 0
    before = len(bucket.calls)
    assert content(other, store.resolve(MAIN), PATH) == FILES
    assert bucket.calls[before:] == []
    git = ["git", "--git-dir", str(other.root / "repo.git"), "fsck", "--strict", "--full"]
    checked = subprocess.run(git, capture_output=True, text=True, check=True)
    assert "error" not in checked.stdout + checked.stderr


def test_a_store_without_a_bucket_has_nothing_to_push_to(embedded):
    for act in (embedded.push, embedded.pull):
        with pytest.raises(StoreError, match="no cache of a bucket"):
            act()


@pytest.mark.slow
def test_stock_git_and_dvc_read_it_from_the_bucket(store, machine, put_up, tmp_path):
    first = put_up(PATH, FILES)
    put_up(PATH, {"a.bin": b"other"})
    other = machine("two")
    other.pull()
    quiet = {
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(tmp_path / "site"),
        "HOME": str(tmp_path),
        "GIT_CONFIG_NOSYSTEM": "1",
    }
    clone = tmp_path / "clone"
    environment = {name: value for name, value in os.environ.items() if name != "AWS_CONFIG_FILE"}  # dvc cannot read /dev/null

    def run(*command, cwd=clone):
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**environment, **quiet}, check=False)
        assert done.returncode == 0, done.stderr

    run("git", "clone", "-q", str(other.root / "repo.git"), str(clone), cwd=tmp_path)
    shutil.rmtree(other.root)
    place = clone / "raw_logs" / next(path.name for path in (clone / "raw_logs").iterdir()) / "drive_01"
    dvc_pull = (sys.executable, "-W", "ignore", "-m", "dvc", "pull", "-q")
    run(*dvc_pull)
    assert below(place / "data") == {"a.bin": b"other"}
    run("git", "checkout", "-q", first)
    run(*dvc_pull)
    assert below(place / "data") == FILES
