"""The object database: DVC's own bytes, and a bucket whose machines have a cache each."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.errors import NotFound, StoreError
from drivelake.versions.dvc import intake, objects
from drivelake.versions.dvc.listings import Staged, md5_of, parse_listing, write_listing
from drivelake.versions.dvc.objects import Objects
from drivelake.versions.s3.bucket import Bucket

FILES = {"a": b"1", "b/c": b"22", "b/d": b"22", "empty": b"", "large": bytes(range(256)) * 256}


@pytest.fixture
def bucket(s3, bucket_url):
    return Bucket(bucket_url, s3)


def folder_of(folder, files):
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture
def machine(tmp_path, bucket):
    """machine(name) -> the Objects of one machine, on a cache of its own, all on one bucket."""
    return lambda name: Objects(tmp_path / name, bucket)


@pytest.fixture
def here(tmp_path):
    (tmp_path / "store" / "files" / "md5").mkdir(parents=True)
    return Objects(tmp_path / "store")


def read(found):
    return {relpath: path.read_bytes() for relpath, path in found.items()}


def temporary(database):
    return [path for path in (database.root / "files").rglob("*") if path.is_file() and path.parent.parent.name != "md5"]


# --- what DVC writes


NAMES = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=8)
RELPATHS = st.lists(NAMES.filter(lambda name: name not in {".", ".."}), min_size=1, max_size=3).map("/".join)


@given(st.dictionaries(RELPATHS, st.binary(max_size=4).map(md5_of), max_size=8))
@settings(max_examples=100, deadline=None)
def test_a_listing_is_byte_for_byte_that_of_dvc(md5s):
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_data.hashfile.meta import Meta
    from dvc_data.hashfile.tree import Tree

    tree = Tree()
    for relpath, md5 in md5s.items():
        tree.add(tuple(relpath.split("/")), Meta(size=1), HashInfo("md5", md5))
    tree.digest()
    raw = write_listing(md5s)
    assert raw == tree.as_bytes()
    assert f"{md5_of(raw)}.dir" == tree.oid
    assert parse_listing(raw, "here") == md5s


def test_dvc_gives_a_folder_the_same_name(here, tmp_path):
    from dvc_data.hashfile.build import build
    from dvc_data.hashfile.db.local import LocalHashFileDB
    from dvc_objects.fs.local import LocalFileSystem

    folder = folder_of(tmp_path / "new", {**FILES, "ü/é ñ.bin": b"x", 'quo"te\\': b"y"})
    disk = LocalFileSystem()
    _, meta, listing = build(LocalHashFileDB(disk, str(tmp_path / "other")), str(folder), disk, "md5")
    staged = here.stage(folder)
    assert staged == Staged(listing.oid, meta.size, meta.nfiles)
    assert here.path(staged.md5).read_bytes() == listing.as_bytes()


def test_a_folder_without_files_can_be_stored(here, tmp_path):
    (tmp_path / "new").mkdir()
    staged = here.stage(tmp_path / "new")
    assert staged.nfiles == staged.size == 0
    assert here.files(staged) == {}


@pytest.mark.parametrize("name", [".dvcignore", "deep/.dvcignore"])
def test_what_dvc_would_read_as_its_own_is_refused(here, tmp_path, name):
    with pytest.raises(StoreError, match=r"DVC does not take .*\.dvcignore"):
        here.stage(folder_of(tmp_path / "new", {"a": b"1", name: b"a"}))


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("a"), os.mkfifo], ids=["link", "pipe"])
def test_only_regular_files_are_taken(here, tmp_path, make):
    folder = folder_of(tmp_path / "new", {"a": b"1"})
    make(folder / "z")
    with pytest.raises(StoreError, match="is a link or a special file"):
        here.stage(folder)


# --- taking in on this machine


def test_the_same_bytes_twice_are_one_object_and_nothing_is_left_over(here, tmp_path):
    first = here.stage(folder_of(tmp_path / "one", FILES))
    again = here.stage(folder_of(tmp_path / "two", FILES))
    assert first == again
    assert read(here.files(first)) == FILES
    names = [path for path in (here.root / "files" / "md5").rglob("*") if path.is_file()]
    assert len(names) == len(set(FILES.values())) + 1
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o444 for path in names)
    assert not temporary(here)


def test_every_name_is_on_the_disk_only_after_its_bytes_and_before_stage_returns(here, tmp_path, monkeypatch):
    """The order that a power cut has to find: bytes synced, then named, then the names' folders synced."""
    done = []
    original_sync, original_link = os.fsync, os.link

    def fsync(descriptor):
        original_sync(descriptor)
        done.append(("synced", str(Path(f"/proc/self/fd/{descriptor}").readlink())))

    def link(source, name):
        original_link(source, name)
        done.append(("named", str(source), str(name)))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "link", link)
    staged = here.stage(folder_of(tmp_path / "new", FILES))
    named = [(at, *event[1:]) for at, event in enumerate(done) if event[0] == "named"]
    assert {name for _, _, name in named} == {str(here.path(md5)) for md5, _ in here.listing(staged).values()} | {
        str(here.path(staged.md5))
    }
    for at, source, name in named:
        assert ("synced", source) in done[:at]
        assert ("synced", str(Path(name).parent)) in done[at:]
    assert done[-1][0] == "synced"


def test_without_hard_links_files_are_copied(here, tmp_path, monkeypatch):
    def no_links(*_):
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    folder = folder_of(tmp_path / "new", FILES)
    staged = here.stage(folder)
    shutil.rmtree(folder)
    assert read(here.files(staged)) == FILES
    assert not temporary(here)


def test_a_full_disk_is_said_and_nothing_half_has_a_name(here, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    folder = folder_of(tmp_path / "new", FILES)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(StoreError, match=r"No space left.*Next: free disk space"):
            here.stage(folder)
    assert not list(here.stored())
    assert not temporary(here)


def _die_with_a_room(root, made):
    with intake.room(root / "files" / "tmp", root / "locks" / "objects") as aside:
        (aside / "half").write_bytes(b"1")
        made.set()
        signal.pause()


def test_what_a_killed_process_left_is_swept_and_what_a_living_one_uses_is_not(here, tmp_path):
    context = multiprocessing.get_context("fork")
    made = context.Event()
    process = context.Process(target=_die_with_a_room, args=(here.root, made))
    process.start()
    assert made.wait(10)
    here.stage(folder_of(tmp_path / "one", {"a": b"1"}))
    assert [path.name for path in temporary(here)] == ["half"]
    process.kill()
    process.join()
    here.stage(folder_of(tmp_path / "two", {"a": b"2"}))
    assert not temporary(here)
    assert not list((here.root / "locks").iterdir())


# --- garbage collection


def test_stored_is_what_was_staged_and_what_is_discarded_is_gone(here, tmp_path):
    kept = here.stage(folder_of(tmp_path / "one", {"a": b"1", "b": b"22"}))
    gone = here.stage(folder_of(tmp_path / "two", {"a": b"1", "c": b"333"}))
    stored = {one.id: one for one in here.stored()}
    assert {one.id for one in stored.values()} == here.ids(kept) | here.ids(gone)
    assert all(0 <= one.age_s < 60 for one in stored.values())
    ids = here.ids(gone) - here.ids(kept)
    here.discard(ids)
    here.discard(ids)
    assert {one.id for one in here.stored()} == here.ids(kept)
    assert read(here.files(kept)) == {"a": b"1", "b": b"22"}
    assert here.ids(gone) >= ids, "what it consisted of is known also when it is gone"
    with pytest.raises(StoreError, match="is missing"):
        here.files(gone)


def test_what_is_collected_while_it_is_listed_is_passed_over(here, tmp_path, monkeypatch):
    gone = here.stage(folder_of(tmp_path / "one", {"a": b"1"}))
    scandir = os.scandir

    def collected_meanwhile(folder):
        entries = list(scandir(folder))
        if any(not entry.name.endswith(".dir") for entry in entries):
            here.discard(here.ids(gone))
        return contextlib.nullcontext(entries)

    monkeypatch.setattr("drivelake.versions.dvc.objects.os.scandir", collected_meanwhile)
    assert list(here.stored()) == []


@pytest.mark.parametrize("wild", ["../../etc/passwd", "", "ab/cd", f"ab/{'0' * 30}.dir", f"ab/{'0' * 30}\n"])
def test_only_ids_of_objects_are_discarded(here, tmp_path, wild):
    staged = here.stage(folder_of(tmp_path / "one", {"a": b"1"}))
    with pytest.raises(StoreError, match="no object's id"):
        here.discard([*here.ids(staged), wild])
    assert here.files(staged)


# --- a bucket


def test_what_one_machine_sent_another_reads_and_has_then(machine, bucket, tmp_path, monkeypatch):
    one, two = machine("one"), machine("two")
    staged = one.stage(folder_of(tmp_path / "new", FILES))
    assert not list(bucket.list())
    one.ensure(staged)
    assert all(address.uri.startswith("s3://") and address.size is None for address in two.addresses(staged).values())
    assert read(two.files(staged)) == FILES
    sizes = {relpath: (md5_of(data), len(data)) for relpath, data in FILES.items()}
    assert two.listing(staged) == sizes
    assert {relpath: address.size for relpath, address in two.addresses(staged).items()} == {
        relpath: len(data) for relpath, data in FILES.items()
    }
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o444 for path in two.files(staged).values())
    assert not temporary(two)
    monkeypatch.setattr(Bucket, "download", lambda *_: pytest.fail("everything is here"))
    assert read(two.files(staged)) == FILES


def test_the_addresses_of_what_is_not_here_name_the_true_objects(machine, bucket, tmp_path):
    one, two = machine("one"), machine("two")
    staged = one.stage(folder_of(tmp_path / "new", FILES))
    one.ensure(staged)
    for relpath, address in two.addresses(staged).items():
        assert bucket.get(address.uri.removeprefix(f"{bucket.url}/")) == FILES[relpath]


@pytest.fixture
def sent(bucket, monkeypatch):
    """The keys that were uploaded since, sorted."""
    keys = []
    original = Bucket.upload
    monkeypatch.setattr(Bucket, "upload", lambda self, files: (keys.extend(files), original(self, files))[1])
    return keys


def test_the_same_bytes_are_sent_once(machine, tmp_path, sent):
    one, two = machine("one"), machine("two")
    for n, database in enumerate((one, two, two)):
        staged = database.stage(folder_of(tmp_path / f"new_{n}", FILES))
        database.ensure(staged)
    assert len(sent) == len(set(sent)) == len(set(FILES.values())) + 1
    assert sent[-1].endswith(".dir"), "the listing last"


@pytest.mark.parametrize("page", [1000, 1])
def test_only_what_the_bucket_lacks_is_sent(machine, bucket, tmp_path, sent, monkeypatch, page):
    """By a list of all (many at a time) and by a question each."""
    monkeypatch.setattr(objects, "PAGE", page)
    monkeypatch.setattr(objects, "REQUESTS", 8)
    files = {f"{n:02d}": str(n).encode() for n in range(40)}
    one = machine("one")
    staged = one.stage(folder_of(tmp_path / "new", files))
    one.ensure(staged)
    lost = sorted(bucket.list(), key=lambda head: head.key)[::7]
    bucket.delete([head.key for head in lost])
    sent.clear()
    one.ensure(staged)
    assert sorted(sent) == [head.key for head in lost]
    shutil.rmtree(one.root)
    machine("two").ensure(staged)  # on a machine that has nothing, what is there suffices


def test_an_object_of_another_size_on_the_bucket_is_mended(machine, bucket, tmp_path):
    one, two = machine("one"), machine("two")
    staged = one.stage(folder_of(tmp_path / "new", {"a": b"the bytes"}))
    one.ensure(staged)
    (key,) = (f"files/md5/{name}" for name in one.ids(staged))
    bucket.put(key, b"short")
    one.ensure(staged)
    assert read(two.files(staged)) == {"a": b"the bytes"}


def test_what_is_neither_here_nor_there_is_named(machine, bucket, tmp_path):
    one, two = machine("one"), machine("two")
    staged = one.stage(folder_of(tmp_path / "new", FILES))
    one.ensure(staged)
    name = next(iter(one.ids(staged)))
    bucket.delete([f"files/md5/{name}"])
    for act in (two.files, two.ensure):
        with pytest.raises(StoreError, match=f"{name} is missing; s3://.*dir names it") as raised:
            act(staged)
        assert not isinstance(raised.value, NotFound)
    one.ensure(staged)
    assert read(two.files(staged)) == FILES


def test_what_comes_back_with_other_bytes_gets_no_name(machine, bucket, tmp_path):
    one, two = machine("one"), machine("two")
    staged = one.stage(folder_of(tmp_path / "new", {"a": b"true"}))
    one.ensure(staged)
    (name,) = one.ids(staged)
    bucket.put(f"files/md5/{name}", b"lies")
    with pytest.raises(StoreError, match=f"{name} has MD5 {md5_of(b'lies')}, expected {name.replace('/', '')}"):
        two.files(staged)
    assert not (two.root / "files" / "md5" / name).exists()
    assert not temporary(two)
    bucket.put(f"files/md5/{staged.md5[:2]}/{staged.md5[2:]}", b"[]")
    with pytest.raises(StoreError, match=f"has MD5 {md5_of(b'[]')}"):
        machine("three").listing(staged)


@pytest.mark.parametrize("damage", [b"", b"longer than it was"])
def test_a_cached_object_of_another_size_is_fetched_again(machine, tmp_path, damage):
    one, two = machine("one"), machine("two")
    staged = one.stage(folder_of(tmp_path / "new", FILES))
    one.ensure(staged)
    victims = [two.files(staged)["large"], two.path(staged.md5)]
    for victim in victims:
        victim.chmod(0o644)
        victim.write_bytes(damage)
    assert read(two.files(staged)) == FILES


def test_a_damaged_cache_is_never_sent(machine, bucket, tmp_path):
    one = machine("one")
    folder = folder_of(tmp_path / "new", {"a": b"true"})
    staged = one.stage(folder)
    shutil.rmtree(folder)
    victim = next(path for path in (one.root / "files" / "md5").rglob("*") if path.is_file() and path.suffix != ".dir")
    victim.chmod(0o644)
    victim.write_bytes(b"lies")
    with pytest.raises(StoreError, match=r"has MD5 .* nothing was sent.*publish the same version again"):
        one.ensure(staged)
    assert not list(bucket.list())
    one.ensure(one.stage(folder_of(tmp_path / "again", {"a": b"true"})))
    assert read(machine("two").files(staged)) == {"a": b"true"}


def test_collecting_on_a_bucket_takes_the_cache_along(machine, bucket, tmp_path):
    one, two = machine("one"), machine("two")
    staged = one.stage(folder_of(tmp_path / "new", FILES))
    one.ensure(staged)
    assert {one.id for one in two.stored()} == one.ids(staged)
    assert all(-5 < found.age_s < 60 for found in two.stored())
    one.discard(one.ids(staged))
    assert [head.key for head in bucket.list()] == [f"files/md5/{staged.md5[:2]}/{staged.md5[2:]}"]
    assert not any(path.exists() for path in map(one.path, (md5 for md5, _ in one.listing(staged).values())))
    assert two.ids(staged) == {f"{md5[:2]}/{md5[2:]}" for md5 in map(md5_of, FILES.values())}


def test_stock_dvc_reads_the_bucket_as_a_remote(machine, bucket, s3, tmp_path, monkeypatch):
    """Its object database over the same keys finds the listing and every file."""
    for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
        (tmp_path / name).touch()  # its client takes no device for a file
        monkeypatch.setenv(name, str(tmp_path / name))
    from dvc_data.hashfile import load
    from dvc_data.hashfile.db import HashFileDB
    from dvc_data.hashfile.hash_info import HashInfo
    from dvc_s3 import S3FileSystem

    one = machine("one")
    staged = one.stage(folder_of(tmp_path / "new", FILES))
    one.ensure(staged)
    database = HashFileDB(S3FileSystem(endpointurl=s3), f"{bucket.url.removeprefix('s3://')}/files/md5")
    tree = load(database, HashInfo("md5", staged.md5))
    found = {"/".join(key): database.fs.cat_file(database.oid_to_path(entry.value)) for key, _, entry in tree}
    assert found == FILES
    assert json.loads(one.path(staged.md5).read_bytes()) == tree.as_list()
