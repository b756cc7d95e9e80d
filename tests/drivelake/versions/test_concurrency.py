"""Many processes at once: each is published or gets a Conflict, and main reads as if they had gone one after another."""

import multiprocessing
from collections import Counter

from drivelake.errors import Conflict, StoreError
from drivelake.versions import MAIN, EmbeddedStore, publish

PROCESSES = 8


def all_at_once(work, count=PROCESSES):
    """Run work(n) in processes that start together; gives what each returned, or the name and text of its error."""
    context = multiprocessing.get_context("fork")
    start, results = context.Barrier(count), context.Queue()

    def child(n):
        start.wait(20)
        try:
            results.put((n, "ok", work(n)))
        except StoreError as error:
            results.put((n, type(error).__name__, str(error)))

    processes = [context.Process(target=child, args=(n,)) for n in range(count)]
    for process in processes:
        process.start()
    got = sorted(results.get(timeout=60) for _ in processes)
    for process in processes:
        process.join(20)
    assert [process.exitcode for process in processes] == [0] * count
    return got


def one_after_another(store, path):
    """The versions of a path in the order in which main took them; every commit is reachable and whole."""
    versions = [store.read(entry.commit, path, "manifest.json") for entry in store.history(MAIN, path)][::-1]
    assert versions[-1] == store.read(MAIN, path, "manifest.json")
    return versions


def test_different_paths_are_all_published(store, make, content, branches):
    folders = [make({"own": bytes([n]), "shared": b"the same object", "empty": b""}) for n in range(PROCESSES)]

    def work(n):
        return publish(EmbeddedStore(store.root), f"raw_logs/drive_{n}", folders[n], b"m%d" % n, message="m", metadata={})

    got = all_at_once(work)
    assert [outcome for _, outcome, _ in got] == ["ok"] * PROCESSES
    for n, _, commit in got:
        assert content(store, MAIN, f"raw_logs/drive_{n}")["own"] == bytes([n])
        assert [entry.commit for entry in store.history(MAIN, f"raw_logs/drive_{n}")] == [commit]
    assert branches(store) == ["main"]
    assert store.check_git(MAIN)


def test_the_same_path_with_different_bytes_is_published_or_conflicts(store, make, content, put_up, branches):
    path = "raw_logs/drive_01"
    put_up(path, {"a": b"first"}, manifest=b"first")
    folders = [make({"a": bytes([n])}) for n in range(PROCESSES)]

    def work(n):
        return publish(EmbeddedStore(store.root), path, folders[n], b"m%d" % n, message="m", metadata={})

    got = all_at_once(work)
    counts = Counter(outcome for _, outcome, _ in got)
    assert counts["ok"] >= 1
    assert counts["ok"] + counts["Conflict"] == PROCESSES
    published = {b"m%d" % n for n, outcome, _ in got if outcome == "ok"}
    order = one_after_another(store, path)
    assert order[0] == b"first"
    assert set(order[1:]) == published
    assert len(order) == 1 + len(published), "one commit a version: nobody was published twice or lost"
    assert content(store, MAIN, path) == {"a": bytes([int(order[-1][1:])])}
    assert branches(store) == ["main"]


def test_the_same_path_with_the_same_bytes_is_one_commit_for_all(store, make, branches):
    path = "raw_logs/drive_01"
    folders = [make({"a": b"same", "empty": b""}) for _ in range(PROCESSES)]

    def work(n):
        return publish(EmbeddedStore(store.root), path, folders[n], b"same", message="m", metadata={})

    got = all_at_once(work)
    assert {(outcome, commit) for _, outcome, commit in got} == {("ok", store.resolve(MAIN))}
    assert one_after_another(store, path) == [b"same"]
    assert branches(store) == ["main"]


def test_a_store_is_made_once_however_many_make_it(tmp_path):
    got = all_at_once(lambda _: EmbeddedStore.create(tmp_path / "store").resolve(MAIN))
    assert {(outcome, commit) for _, outcome, commit in got} == {("ok", got[0][2])}
    assert sorted(p.name for p in (tmp_path / "store").iterdir()) == ["files", "locks", "repo.git"]


def test_one_of_many_moves_a_tag(store, put_up):
    commits = [put_up("raw_logs/drive_01", {"a": bytes([n])}) for n in range(4)]

    def work(n):
        EmbeddedStore(store.root).tag("prod", commits[n])
        return commits[n]

    got = all_at_once(work, count=4)
    winners = [commit for _, outcome, commit in got if outcome == "ok"]
    assert winners == [store.resolve("prod")]
    assert all(f"at {winners[0][:12]}" in text for _, outcome, text in got if outcome == Conflict.__name__)
