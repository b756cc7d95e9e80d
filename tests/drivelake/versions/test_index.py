"""The index gives what reading the whole history would give, after whatever became of main."""

import errno
import hashlib
import heapq
import multiprocessing
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from drivelake.errors import StoreError
from drivelake.versions import index as module
from drivelake.versions.index import VersionIndex
from drivelake.versions.store import MAIN, VERSION_TRAILER, HistoryEntry

START = datetime(2026, 1, 1, tzinfo=UTC)


class History:
    """The part of a version store that has a history: any graph of commits, walked as the embedded store walks."""

    def __init__(self, *, tells_parents=True):
        self.commits = {}
        self.heads = {}
        self.read = 0
        self.tells_parents = tells_parents

    def commit(self, parents, trailer="", time_s=0):
        name = f"{len(self.commits):040x}"
        metadata = {VERSION_TRAILER: trailer} if trailer else {}
        told = tuple(parents) if self.tells_parents else None
        self.commits[name] = (tuple(parents), HistoryEntry(name, START + timedelta(seconds=time_s), "", metadata, told))
        self.heads[MAIN] = name
        return name

    def resolve(self, ref):
        return self.heads.get(ref, ref)

    def history(self, ref=MAIN):
        first = self.resolve(ref)
        waiting, seen = [(-self.commits[first][1].time.timestamp(), 0, first)], {first}
        while waiting:
            *_, name = heapq.heappop(waiting)
            self.read += 1
            yield self.commits[name][1]
            for parent in self.commits[name][0]:
                if parent not in seen:
                    seen.add(parent)
                    heapq.heappush(waiting, (-self.commits[parent][1].time.timestamp(), len(seen), parent))


def named(number):
    return f"raw_logs/drive_{number}", hashlib.sha256(str(number).encode()).hexdigest()


def trailer(number):
    return " ".join(named(number))


def from_the_whole(history):
    found = {}
    for entry in history.history():
        if VERSION_TRAILER in entry.metadata:
            found.setdefault(tuple(entry.metadata[VERSION_TRAILER].split(" ")), entry.commit)
    return found


COMMITS = st.lists(
    st.tuples(
        st.lists(st.integers(0, 30), min_size=1, max_size=2),  # parents, counted back from the newest
        st.integers(0, 4),  # which version it publishes; 0 none
        st.integers(0, 20),  # when, by a clock that is often wrong
        st.booleans(),  # whether the index is brought up to main now
    ),
    max_size=25,
)


@given(COMMITS)
@settings(max_examples=60, deadline=None)
def test_the_index_grown_step_by_step_says_what_the_whole_history_says(tmp_path_factory, made):
    """Branches, merges, clocks that jump, versions published twice, and now and then a main that is rewritten."""
    history = History()
    history.commit([])
    file = tmp_path_factory.mktemp("index") / "versions.sqlite"
    index = VersionIndex(file, history)
    for back, version, time_s, asked in made:
        every = list(history.commits)
        parents = dict.fromkeys(every[-1 - min(n, len(every) - 1)] for n in back)
        history.commit(parents, trailer(version) if version else "", time_s)
        if asked:
            assert dict(index.commits()) == from_the_whole(history)
    whole = from_the_whole(history)
    assert dict(index.commits()) == dict(VersionIndex(file, history).commits()) == whole
    assert list(index.commits()) == sorted(whole)
    for number in range(1, 6):
        assert index.find(*named(number)) == whole.get(named(number))


@pytest.fixture
def history():
    history = History()
    head = history.commit([])
    for number in range(1, 50):
        head = history.commit([head], trailer(number), number)
    return history


@pytest.fixture
def file(tmp_path):
    return tmp_path / "versions.sqlite"


def test_what_is_known_is_not_read_again(history, file):
    VersionIndex(file, history).commits()
    history.read = 0
    index = VersionIndex(file, history)
    assert len(index.commits()) == 49
    assert history.read == 0
    history.commit([history.heads[MAIN]], trailer(99), 99)
    assert index.find(*named(99)) == history.heads[MAIN]
    assert history.read == 1
    assert index.find(*named(1)) == f"{1:040x}"
    assert index.find("raw_logs/drive_1", "0" * 64) is None
    with pytest.raises(KeyError):
        index.commits()["raw_logs/drive_1", "0" * 64]


def test_a_branch_that_was_merged_long_after_it_was_made_is_met(history, file):
    VersionIndex(file, history).commits()
    main = history.heads[MAIN]
    late = history.commit([f"{3:040x}"], trailer(77), 3)
    history.commit([main, late], "", 100)
    assert VersionIndex(file, history).find(*named(77)) == late


def test_a_rewritten_main_takes_along_what_only_the_old_one_held(history, file):
    index = VersionIndex(file, history)
    index.commits()
    history.heads[MAIN] = f"{20:040x}"
    assert dict(index.commits()) == from_the_whole(history)
    history.commit([f"{10:040x}"], trailer(88), 100)
    assert dict(index.commits()) == from_the_whole(history)
    assert len(index.commits()) == 11


def test_a_backend_that_tells_no_parents_is_read_whole(file):
    history = History(tells_parents=False)
    first = history.commit([])
    index = VersionIndex(file, history)
    history.commit([first], trailer(1), 1)
    assert index.find(*named(1)) is not None
    old = history.commit([first], trailer(2), 0)
    history.commit([history.heads[MAIN], old], trailer(3), 3)
    assert dict(index.commits()) == from_the_whole(history)


def test_trailers_that_name_no_version_are_passed_over(history, file):
    for wild in ("", "raw_logs/drive_1", "raw_logs/drive_1 123", "a b c", f"x {'g' * 64}"):
        history.commit([history.heads[MAIN]], wild, 60)
    assert len(VersionIndex(file, history).commits()) == 49


@pytest.mark.parametrize("damage", ["garbage", "empty", "cut", "overwritten", "another form", "another program's"])
def test_a_file_that_is_damaged_or_foreign_is_made_again(history, file, damage):
    VersionIndex(file, history).commits()
    raw = file.read_bytes()
    match damage:
        case "garbage":
            file.write_bytes(b"no database at all" * 100)
        case "empty":
            file.write_bytes(b"")
        case "cut":
            file.write_bytes(raw[: len(raw) // 2])
        case "overwritten":
            file.write_bytes(raw[:200] + b"\xff" * (len(raw) - 200))
        case "another form":
            with module.closing(module._database(file)) as database:
                database.execute("PRAGMA user_version = 7")
        case _:
            file.unlink()
            with module.closing(module._database(file)) as database:
                database.execute("CREATE TABLE theirs (a)")
    assert dict(VersionIndex(file, history).commits()) == from_the_whole(history)
    assert dict(VersionIndex(file, history).commits()) == from_the_whole(history)


def test_a_file_damaged_under_an_open_index_is_made_again(history, file):
    index = VersionIndex(file, history)
    commits = index.commits()
    shutil.copy(file, file.with_name("old"))
    file.write_bytes(b"\0" * file.stat().st_size)
    history.commit([history.heads[MAIN]], trailer(99), 99)
    assert dict(index.commits()) == dict(commits) == from_the_whole(history)


def test_where_nothing_can_be_written_the_index_is_kept_in_memory(history, file, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "open", refuse)  # as the lock is taken
    index = VersionIndex(file, history)
    assert dict(index.commits()) == from_the_whole(history)
    history.commit([history.heads[MAIN]], trailer(99), 99)
    assert index.find(*named(99)) == history.heads[MAIN]
    assert not file.exists()


def test_a_history_that_cannot_be_read_leaves_the_index_as_it_was(history, file, monkeypatch):
    index = VersionIndex(file, history)
    index.commits()
    history.commit([history.heads[MAIN]], trailer(98), 98)
    history.commit([history.heads[MAIN]], trailer(99), 99)

    def broken(ref=MAIN):
        yield next(History.history(history, ref))
        raise StoreError("damaged")

    with monkeypatch.context() as patch:
        patch.setattr(history, "history", broken)
        with pytest.raises(StoreError, match="damaged"):
            index.find(*named(99))
    assert dict(index.commits()) == from_the_whole(history)


def _look(file, history, number, answers):
    answers.put((number, VersionIndex(file, history).find(*named(number)) == f"{number:040x}"))


def test_many_processes_make_it_at_once(history, file):
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    processes = [context.Process(target=_look, args=(file, history, number, answers)) for number in range(1, 9)]
    for process in processes:
        process.start()
    assert sorted(answers.get(timeout=30) for _ in processes) == [(number, True) for number in range(1, 9)]
    for process in processes:
        process.join()
    assert sorted(path.name for path in file.parent.iterdir()) == [file.name]


def test_an_index_goes_on_in_a_forked_process(history, file):
    index = VersionIndex(file, history)
    index.commits()
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=lambda: answers.put(len(index.commits())))
    process.start()
    assert answers.get(timeout=30) == 49
    process.join()
    assert len(index.commits()) == 49
