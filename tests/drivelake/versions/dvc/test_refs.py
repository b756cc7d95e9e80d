"""Refs on a bucket: as git writes them, moved by one of many, mirrored here, and found again after a lost answer."""

import subprocess
import threading

import pytest

from drivelake.errors import Conflict, NotFound, StoreError, Unavailable
from drivelake.versions import MAIN, EmbeddedStore
from drivelake.versions.dvc import embedded
from drivelake.versions.dvc.refs import HEADS, TAGS
from drivelake.versions.s3.bucket import Bucket

PATH = "raw_logs/drive_01"


@pytest.fixture
def bucket(bucket_url, s3):
    return Bucket(bucket_url, s3)


@pytest.fixture
def store(tmp_path, bucket):
    return EmbeddedStore.create(tmp_path / "one", bucket)


@pytest.fixture
def other(store, tmp_path, bucket):
    """The same store as another machine has it."""
    return EmbeddedStore(tmp_path / "two", bucket)


def git(store, *arguments):
    command = ["git", "--git-dir", str(store.root / "repo.git"), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def test_refs_stand_on_the_bucket_as_git_writes_them_and_are_mirrored_here(store, other, put_up, bucket):
    commit = put_up(PATH, {"a": b"1"})
    store.branch("work", at=commit)
    store.tag("release-1", commit)
    for ref in ("heads/main", "heads/work", "tags/release-1"):
        assert bucket.get(f"repo.git/refs/{ref}") == f"{commit}\n".encode()
        assert git(store, "rev-parse", f"refs/{ref}").strip() == commit
    assert dict(other.branches()) == {"main": commit, "work": commit}
    assert dict(other.tags()) == {"release-1": commit}
    assert git(other, "for-each-ref", "--format=%(refname)").split() == [
        "refs/heads/main",
        "refs/heads/work",
        "refs/tags/release-1",
    ]
    store.delete_branch("work")
    store.untag("release-1", commit)
    assert dict(other.branches()) == {"main": commit}
    assert dict(other.tags()) == {}
    assert git(other, "for-each-ref", "--format=%(refname)").split() == ["refs/heads/main"]


def test_a_mirror_that_somebody_changed_is_set_right_by_the_next_look(store, put_up):
    commit = put_up(PATH, {"a": b"1"})
    git(store, "update-ref", "refs/heads/main", f"{commit}~1")
    assert store.resolve(MAIN) == commit
    assert git(store, "rev-parse", "refs/heads/main").strip() == commit


def test_a_ref_that_is_damaged_is_named(store, bucket):
    for raw in (b"", b"nonsense\n", b"0" * 40, b"\xff" * 41):
        bucket.put("repo.git/refs/heads/main", raw)
        with pytest.raises(StoreError, match=r"git ref s3://.*refs/heads/main reads .*expected 40 hex digits"):
            store.resolve(MAIN)


def test_one_of_many_moves_a_ref(store, put_up):
    start = store.resolve(MAIN)
    commits = [put_up(PATH, {"a": bytes([n])}) for n in range(4)]
    refs, won = store._graph.refs, []
    assert refs.move(f"{HEADS}race", None, start)

    def move(commit):
        won.append(refs.move(f"{HEADS}race", start, commit) and commit)

    threads = [threading.Thread(target=move, args=(commit,)) for commit in commits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [commit for commit in won if commit] == [refs.target(f"{HEADS}race")]


def test_a_ref_that_left_and_came_back_can_be_moved_from_where_it_is(store, other, put_up):
    one, two = put_up(PATH, {"a": b"1"}), put_up(PATH, {"a": b"2"})
    store.tag("prod", one)
    refs = store._graph.refs
    assert refs.target(f"{TAGS}prod") == one
    other.tag("prod", two, expected=one)
    other.tag("prod", one, expected=two)
    assert refs.move(f"{TAGS}prod", one, two)
    assert refs.target(f"{TAGS}prod") == two


def test_a_call_whose_answer_was_lost_may_be_repeated(store, other, bucket, monkeypatch):
    def losing(name):
        original = getattr(bucket, name)

        def call(*args):
            monkeypatch.setattr(bucket, name, original)
            original(*args)
            raise Unavailable("The answer was lost.", next_step="run again")

        monkeypatch.setattr(bucket, name, call)

    main = store.resolve(MAIN)
    for act, name, again in (
        (lambda: store.branch("work"), "put_if", Conflict),
        (lambda: store.delete_branch("work"), "delete_if", NotFound),
        (lambda: store.tag("prod", main), "put_if", None),
        (lambda: store.untag("prod", main), "delete_if", NotFound),
    ):
        losing(name)
        with pytest.raises(Unavailable):
            act()
        act()
        if again is not None:
            with pytest.raises(again):
                act()  # it was heard by now, so this one is another's
    assert list(other.branches()) == ["main"]
    assert dict(other.tags()) == {}
    with pytest.raises(NotFound):
        other.delete_branch("work")


def test_old_branches_of_publishers_are_swept_by_the_next_publisher_and_young_ones_are_not(store, put_up, monkeypatch, other):
    mine = f"publish-{'0' * 20}-r1-00000000"
    store.branch(mine)
    store.branch("work")
    put_up(PATH, {"a": b"1"})
    assert list(other.branches()) == ["main", mine, "work"]
    monkeypatch.setattr(embedded, "ABANDONED_S", -1.0)
    put_up(PATH, {"a": b"2"})
    assert list(other.branches()) == ["main", "work"]
