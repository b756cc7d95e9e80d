"""Locks die with their holder, and leave no file behind."""

import contextlib
import multiprocessing
import os
import resource
import signal
import threading

import pytest

from drivelake.errors import StoreError
from drivelake.versions.locks import exclusive, owning_lock_file, shared


def in_a_child(work):
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(20)
    return process.exitcode


def test_only_one_at_a_time_and_no_file_is_left(tmp_path):
    inside, most = [], []

    def enter():
        for _ in range(20):
            with exclusive(tmp_path / "lock"):
                inside.append(1)
                most.append(len(inside))
                inside.pop()

    threads = [threading.Thread(target=enter) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(most) == 80
    assert set(most) == {1}
    assert list(tmp_path.iterdir()) == []


def test_a_killed_holder_holds_nothing(tmp_path):
    def take_and_die():
        with exclusive(tmp_path / "lock"):
            os.kill(os.getpid(), signal.SIGKILL)

    assert in_a_child(take_and_die) == -signal.SIGKILL
    with exclusive(tmp_path / "lock"):
        assert (tmp_path / "lock").exists()
    assert not (tmp_path / "lock").exists()


def test_a_lock_file_is_cleared_only_when_its_own_holder_died(tmp_path):
    record, mine, foreign = (tmp_path / name for name in ("record", "mine.lock", "foreign.lock"))

    def take_and_die():
        with owning_lock_file(record, mine):
            mine.touch()
            os.kill(os.getpid(), signal.SIGKILL)

    foreign.touch()
    assert in_a_child(take_and_die) == -signal.SIGKILL
    assert mine.exists()
    with owning_lock_file(record, foreign):
        assert not mine.exists()
    assert foreign.exists(), "nobody wrote it down, so it may be in use"


def test_a_holder_that_failed_but_lived_leaves_nothing_to_clear(tmp_path):
    record, mine = tmp_path / "record", tmp_path / "mine.lock"
    with contextlib.suppress(ZeroDivisionError), owning_lock_file(record, mine):
        1 / 0  # noqa: B018
    mine.touch()
    with owning_lock_file(record, mine):
        assert mine.exists()
    assert record.read_bytes() == b""


def test_a_record_that_finds_no_room_on_the_disk_names_no_other_file(tmp_path):
    record, lock_file = tmp_path / "record", tmp_path / "a" / "name.lock"
    victim = tmp_path / "a" / "n"
    victim.parent.mkdir()
    victim.touch()

    def write_too_much():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (len(str(victim)), resource.RLIM_INFINITY))
        with pytest.raises(OSError, match="no room"), owning_lock_file(record, lock_file):
            raise AssertionError("must not go on without a record")

    assert in_a_child(write_too_much) == 0
    with owning_lock_file(record, lock_file):
        assert victim.exists()


def test_shared_holders_go_together_and_the_last_one_takes_the_file_along(tmp_path):
    lock = tmp_path / "lock"
    with shared(lock):
        with shared(lock), pytest.raises(BlockingIOError), exclusive(lock, wait=False):
            pass
        assert lock.exists()
        with pytest.raises(BlockingIOError), exclusive(lock, wait=False):
            pass
    assert not lock.exists()
    with exclusive(lock, wait=False), pytest.raises(BlockingIOError), exclusive(lock, wait=False):
        pass


def test_shared_and_sole_holders_never_meet(tmp_path):
    lock, readers, bad = tmp_path / "lock", [], []

    def share():
        for _ in range(30):
            with shared(lock):
                readers.append(1)
                readers.pop()

    def alone():
        for _ in range(30):
            with exclusive(lock):
                bad.extend(readers)

    threads = [threading.Thread(target=work) for work in (share, share, alone, alone)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert bad == []
    assert not lock.exists()


def test_a_lock_that_cannot_be_made_says_so(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match=r"The lock .*file/lock cannot be made"), exclusive(tmp_path / "file" / "lock"):
        pass
