"""Locks die with their holder, and leave no file behind."""

import contextlib
import multiprocessing
import os
import signal
import threading

from drivelake.versions.locks import exclusive, owning_lock_file


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
