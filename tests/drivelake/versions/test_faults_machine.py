"""A disk that is full and a clock that jumps, on the machine of a publisher: nothing half visible, nothing lost."""

import contextlib
import ctypes
import os
import resource
import signal
import sys
import time
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from drivelake.errors import Conflict, StoreError
from drivelake.versions import MAIN, publish
from tests.drivelake.versions.backends import SHARED, in_a_child
from tests.drivelake.versions.replacing import NEW, heals, is_old_or_new, put_old

PATH = "raw_logs/drive_01"
NEWNS, NEWUSER, PRIVATE = 0x00020000, 0x10000000, 0x40000 | 0x4000
NOT_ALLOWED = 77  # exit code of a child that may not mount


def small_disk(folder, kibibytes):
    """Put a file system of its own under ``folder``, seen by this process alone; exits where the kernel does not allow that."""
    libc = ctypes.CDLL(None, use_errno=True)
    user, group = os.getuid(), os.getgid()
    if libc.unshare(NEWNS) != 0:
        if libc.unshare(NEWNS | NEWUSER) != 0:
            os._exit(NOT_ALLOWED)
        Path("/proc/self/setgroups").write_text("deny")
        Path("/proc/self/uid_map").write_text(f"0 {user} 1")
        Path("/proc/self/gid_map").write_text(f"0 {group} 1")
    folder.mkdir(parents=True, exist_ok=True)
    private = libc.mount(None, b"/", None, PRIVATE, None)
    if private != 0 or libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, f"size={kibibytes}k".encode()) != 0:
        os._exit(NOT_ALLOWED)


def in_a_child_that_may_mount(work):
    exit_code = in_a_child(work)
    if exit_code == NOT_ALLOWED:
        pytest.skip("this machine lets no process mount a small disk: the limit on a file's size is tested all the same")
    assert exit_code == 0, "see the child's traceback"


def fill(folder, leave_kibibytes):
    """Take all of a disk but so much, in a file; gives it."""
    filler = folder / "filler"
    stat = os.statvfs(folder)
    filler.write_bytes(bytes(max(0, stat.f_bavail * stat.f_frsize - leave_kibibytes * 1024)))
    return filler


@pytest.mark.slow
def test_a_disk_that_fills_up_at_any_moment_of_a_publish(site, make, put_up, content):
    """However much room is left: main is old or new, and with room again the same publish gives the new version."""
    shared = None if site.local else site.create()

    def child():
        machine = site.machine()
        small_disk(machine.parent, 3072)
        store = site.create() if site.local else site.another(machine)
        outcomes = []
        for room in (0, 4, 8, 12, 16, 24, 32, 48, 64, 96, 128) if site.local else (0, 8, 32):
            path = f"raw_logs/room_{room}"
            put_up(path, {"a": b"old " + path.encode()}, manifest=b"old", into=store)
            files = {f"a/{n}": bytes([n]) * 4096 + path.encode() for n in range(6)}
            folder, again = make(files), make(files)
            filler = fill(machine.parent, room)
            with contextlib.suppress(StoreError):
                publish(store, path, folder, b"new", message="new", metadata={})
                outcomes.append(room)
            reader = shared or store
            stands = reader.read(MAIN, path, "manifest.json")
            assert stands in {b"old", b"new"}
            filler.unlink()
            assert content(reader, MAIN, path) == (files if stands == b"new" else {"a": b"old " + path.encode()})
            commit = publish(store, path, again, b"new", message="new", metadata={})
            assert next(store.history(MAIN, path)).commit == commit
            assert content(store, MAIN, path) == files
            assert list(store.strangers()) == []
        assert site.kind.startswith("lakefs") or 0 not in outcomes, "nothing was full"

    in_a_child_that_may_mount(child)


@contextlib.contextmanager
def no_file_larger_than(size):
    """The limit of a process on a file's size stands for a full disk: a write fails in the middle of a file, by EFBIG."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


@pytest.mark.parametrize("site", SHARED, indirect=True)
def test_a_file_that_finds_no_room_on_this_machine_is_never_taken_for_whole(store, site, put_up, content):
    files = {"large": os.urandom(1_000_000), "small": b"1"}
    put_up(PATH, files)

    def child():
        client = site.another()
        with no_file_larger_than(200_000), pytest.raises(StoreError):
            client.files(MAIN, PATH)
        assert content(client, MAIN, PATH) == files

    assert in_a_child(child) == 0, "see the child's traceback"


@pytest.mark.parametrize("size", [0, 50, 1000])
def test_what_cannot_be_written_leaves_main_old_or_new_and_running_again_heals(size, store, site, make, put_up, content):
    put_old(put_up)
    folder = make(NEW)

    def child():
        client = site.another()
        with no_file_larger_than(size), contextlib.suppress(StoreError):
            publish(client, PATH, folder, b"new", message="new" * 1000, metadata={"Random": os.urandom(2000).hex()})
            assert not site.local, "the commit cannot have been written"

    assert in_a_child(child) == 0, "see the child's traceback"
    is_old_or_new(store, content)
    heals(site.another(), put_up, content)


# --- clocks


@contextlib.contextmanager
def clock_moved(years):
    """Every clock that the store's modules ask shows another time; the server's own clocks go on as they are."""
    seconds = years * 365.25 * 86400
    asked, asked_ns = time.time, time.time_ns

    class Moved(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(seconds=seconds)

    modules = [module for name, module in sys.modules.items() if name.startswith("drivelake.")]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "time", lambda: asked() + seconds)
        patch.setattr(time, "time_ns", lambda: asked_ns() + int(seconds * 1e9))
        for module in modules:
            if getattr(module, "datetime", None) is datetime:
                patch.setattr(module, "datetime", Moved)
        yield


def years_off(years, work):
    def child():
        with clock_moved(years):
            work()

    assert in_a_child(child) == 0, "see the child's traceback"


def test_versions_follow_each_other_in_the_order_in_which_they_were_published_whatever_the_clocks_say(
    store, site, put_up, content
):
    made = [put_up(PATH, {"a": b"0"}, manifest=b"0")]
    for n, years in enumerate((10, -10, 30, -3), 1):
        years_off(years, lambda n=n: put_up(PATH, {"a": b"%d" % n}, manifest=b"%d" % n, into=site.another()))
        made.append(next(store.history(MAIN, PATH)).commit)
    made.append(put_up(PATH, {"a": b"5"}, manifest=b"5"))
    assert [entry.commit for entry in store.history(MAIN, PATH)] == made[::-1]
    assert [entry.commit for entry in store.history(MAIN) if entry.commit in made] == made[::-1]
    assert [store.read(commit, PATH, "manifest.json") for commit in made] == [b"%d" % n for n in range(6)]
    assert content(store, MAIN, PATH) == {"a": b"5"}
    years_off(-20, lambda: site.another().revert(made[-1]))
    assert content(store, MAIN, PATH) == {"a": b"4"}


def test_conflicts_and_tags_do_not_ask_the_clock(store, site, put_up, content):
    base = put_up(PATH, {"a": b"0"})

    def from_another_time():
        client = site.another()
        client.tag("prod", base)
        put_up(PATH, {"a": b"1"}, into=client)
        put_up("raw_logs/drive_02", {"a": b"2"}, into=client)

    years_off(-15, from_another_time)
    with pytest.raises(Conflict, match=PATH):
        put_up(PATH, {"a": b"mine"}, base=base)
    with pytest.raises(Conflict):
        store.tag("prod", MAIN)
    store.tag("prod", MAIN, expected=base)
    assert content(store, "prod", PATH) == {"a": b"1"}
    assert put_up("raw_logs/drive_02", {"a": b"2"}, base=base) == next(store.history(MAIN, "raw_logs/drive_02")).commit


@pytest.mark.parametrize("years", [10, -10])
def test_a_machine_years_off_takes_nobody_living_for_dead(years, store, site, put_up, content):
    """Neither a publisher between two steps nor a collection at work."""

    def meanwhile(step):
        if step == "committed on branch":
            years_off(years, lambda: put_up("raw_logs/drive_02", {"a": b"2"}, into=site.another()))

    put_up(PATH, {"a": b"1"}, on_step=meanwhile)
    assert content(store, MAIN, PATH) == {"a": b"1"}
    assert content(store, MAIN, "raw_logs/drive_02") == {"a": b"2"}

    def collect():
        with pytest.raises(Conflict), site.another().collecting():
            pass

    with store.collecting():
        years_off(years, collect)
