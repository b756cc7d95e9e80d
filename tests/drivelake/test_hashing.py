"""Hashing gives SHA-256 of the bytes, reads no finished file twice, and takes no changed file for the old one."""

import hashlib
import multiprocessing
import os
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake import hashing
from drivelake.errors import InputError, StoreError
from drivelake.hashing import Digest, Ledger, hash_files, read_ahead


@pytest.fixture
def settled(monkeypatch):
    """Files count as settled at once: the tests would wait otherwise."""
    monkeypatch.setattr(hashing, "SETTLED_S", -1e9)


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "hashes.sqlite")


@pytest.fixture
def read(monkeypatch):
    """Names of the files whose bytes were read, in order."""
    names, hash_one = [], hashing._hash

    def noting(name, path, ledger):
        names.append(name)
        return hash_one(name, path, ledger)

    monkeypatch.setattr(hashing, "_hash", noting)
    return names


def files(tmp_path, **contents):
    (tmp_path / "files").mkdir(exist_ok=True)
    paths = {name: tmp_path / "files" / name for name in contents}
    for name, path in paths.items():
        path.write_bytes(contents[name])
    return paths


def plain(paths):
    return {name: Digest(path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest()) for name, path in paths.items()}


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_digests_are_those_of_the_bytes_for_any_number_of_threads(tmp_path, monkeypatch, threads):
    monkeypatch.setattr(hashing, "PART_BYTES", 1000)
    paths = files(tmp_path, **{f"f{size}": os.urandom(size) for size in (0, 1, 999, 1000, 1001, 12_345)})
    assert hash_files(paths, threads=threads) == plain(paths)
    assert list(hash_files(paths, threads=threads)) == list(paths)


@settings(max_examples=50, deadline=None)
@given(data=st.binary(max_size=200), part=st.integers(1, 50), threads=st.integers(1, 4))
def test_parts_read_ahead_are_the_bytes_in_order(data, part, threads):
    assert b"".join(read_ahead(lambda start, stop: data[start:stop], len(data), part, threads=threads)) == data


def test_no_more_parts_are_held_than_said():
    held, used, most = [], [], []

    def read(start, stop):
        held.append(start)
        return b"x"

    for part in read_ahead(read, 100, 1, threads=3):
        used.append(part)
        most.append(len(held) - len(used) + 1)
    assert max(most) <= 5


def test_what_stands_in_the_ledger_is_not_read_again(tmp_path, ledger, settled, read):
    paths = files(tmp_path, a=b"1", b=b"22")
    first = hash_files(paths, ledger)
    assert sorted(read) == ["a", "b"]
    paths |= files(tmp_path, c=b"333")
    assert hash_files(paths, Ledger(tmp_path / "hashes.sqlite")) == plain(paths)
    assert sorted(read) == ["a", "b", "c"]
    assert hash_files({"a": paths["a"]})["a"] == first["a"]  # without a ledger every byte is read
    assert read[-1] == "a"


def test_a_folder_that_moved_is_not_read_again(tmp_path, ledger, settled, read):
    paths = files(tmp_path, a=b"1")
    hash_files(paths, ledger)
    moved = (tmp_path / "files").rename(tmp_path / "moved") / "a"
    assert hash_files({"a": moved}, ledger) == plain({"a": moved})
    assert read == ["a"]


def in_place(path):
    """Other bytes of the same size in the same inode, with the old time of modification put back."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"X")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def replaced(path):
    """Another file of the same size and time of modification under the same name."""
    before = path.stat()
    fresh = path.with_name("fresh")
    fresh.write_bytes(b"Y" * before.st_size)
    os.utime(fresh, ns=(before.st_atime_ns, before.st_mtime_ns))
    fresh.replace(path)


def longer(path):
    with path.open("ab") as file:
        file.write(b"more")


@pytest.mark.parametrize("change", [in_place, replaced, longer])
def test_a_changed_file_is_never_taken_for_the_old_one(tmp_path, ledger, settled, change):
    paths = files(tmp_path, a=b"12345")
    before = hash_files(paths, ledger)
    time.sleep(0.02)  # past the tick of the kernel's clock; younger changes are what SETTLED_S is for
    change(paths["a"])
    after = hash_files(paths, ledger)
    assert after == plain(paths) != before


def test_a_file_written_a_moment_ago_is_not_noted(tmp_path, ledger, read):
    paths = files(tmp_path, a=b"1")
    hash_files(paths, ledger)
    hash_files(paths, ledger)
    assert read == ["a", "a"]


def test_a_file_that_grows_meanwhile_is_refused_and_not_noted(tmp_path, ledger, settled, monkeypatch):
    paths = files(tmp_path, a=b"12345")
    read_part = hashing._read

    def growing(descriptor, start, stop):
        longer(paths["a"])
        return read_part(descriptor, start, stop)

    monkeypatch.setattr(hashing, "_read", growing)
    with pytest.raises(InputError, match="changed while it was hashed: 5 bytes before, 9 after"):
        hash_files(paths, ledger)
    monkeypatch.undo()
    assert hash_files(paths, ledger) == plain(paths)


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(InputError, match="absent cannot be read: No such file"):
        hash_files({"a": tmp_path / "absent"})
    with pytest.raises(InputError, match=f"{tmp_path.name} cannot be read"):
        hash_files({"a": tmp_path})


def test_a_ledger_that_is_none_is_refused_with_the_way_out(tmp_path):
    (tmp_path / "hashes.sqlite").write_bytes(b"no database" * 100)
    with pytest.raises(StoreError, match="delete it"):
        Ledger(tmp_path / "hashes.sqlite")


def _hash_until_killed(paths, database, after):
    hashing.SETTLED_S = -1e9
    hash_one, done = hashing._hash, []

    def dying(name, path, ledger):
        if len(done) == after:
            os._exit(9)
        done.append(name)
        return hash_one(name, path, ledger)

    hashing._hash = dying
    hash_files(paths, Ledger(database), threads=1)


@pytest.mark.parametrize("after", [0, 1, 3])
def test_a_killed_job_does_not_hash_finished_files_again(tmp_path, settled, read, after):
    paths = files(tmp_path, **{f"f{i}": os.urandom(100 + i) for i in range(4)})
    child = multiprocessing.get_context("fork").Process(
        target=_hash_until_killed, args=(paths, tmp_path / "hashes.sqlite", after)
    )
    child.start()
    child.join()
    assert child.exitcode == 9
    assert hash_files(paths, Ledger(tmp_path / "hashes.sqlite")) == plain(paths)
    assert len(read) == len(paths) - after
