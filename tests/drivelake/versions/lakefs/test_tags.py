"""Tags on lakeFS: races, movers that die at each step, readers that look meanwhile."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from drivelake.errors import Conflict, NotFound
from drivelake.versions.lakefs.calls import Server
from drivelake.versions.lakefs.refs import Refs
from drivelake.versions.lakefs.tags import FROM, TAG, TAG_LOCK, TO, Tags

STEPS = ["locked", "decided", "deleted", "made", "unlocked"]


@pytest.fixture
def repository(lakefs_local, monkeypatch):
    for name, value in lakefs_local.environment.items():
        monkeypatch.setenv(name, value)
    return lakefs_local.repository("tags")


@pytest.fixture
def tags(lakefs_local, repository):
    """tags(**options) -> Tags over the repository, as another process has them."""

    def go(lease_s=60.0, **options):
        return Tags(Refs(Server(lakefs_local.endpoint, repository, patience_s=20.0)), lease_s=lease_s, **options)

    return go


@pytest.fixture
def commits(lakefs_local, repository):
    refs = Refs(Server(lakefs_local.endpoint, repository, patience_s=20.0))
    refs.create("work", refs.head("main"))
    return [refs.empty_commit("work", str(n), {}) for n in range(17)]


def locks(tags):
    return list(tags._refs.heads("lock-"))


def test_of_sixteen_who_move_one_tag_from_one_place_one_wins_and_no_lock_stays(tags, commits):
    tags().move("prod", commits[16], None)

    def one(n):
        try:
            tags().move("prod", commits[n], commits[16])
        except Conflict:
            return None
        return commits[n]

    with ThreadPoolExecutor(16) as pool:
        won = [commit for commit in pool.map(one, range(16)) if commit]
    assert len(won) == 1
    assert tags().target("prod") == won[0]
    assert locks(tags()) == []


def test_of_sixteen_who_make_one_tag_one_wins(tags, commits):
    def one(n):
        try:
            tags().move("first", commits[n], None)
        except Conflict:
            return None
        return commits[n]

    with ThreadPoolExecutor(16) as pool:
        won = [commit for commit in pool.map(one, range(16)) if commit]
    assert [tags().target("first")] == won


def test_a_mover_is_seen_at_each_step_as_before_or_as_after_and_never_as_lost(tags, commits):
    tags().move("prod", commits[0], None)
    seen = []

    def look(step):
        reader = tags()
        assert reader.target("prod") == reader.targets().get("prod"), step
        seen.append((step, reader.target("prod")))

    tags(on_step=look).move("prod", commits[1], commits[0])
    assert [step for step, _ in seen] == STEPS
    assert [commits.index(found) for _, found in seen] == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("what", ["move", "make", "remove"])
def test_a_mover_that_is_killed_leaves_a_tag_that_reads_and_moves_on(tags, commits, step, what):
    old, new = (commits[0] if what != "make" else None), (commits[1] if what != "remove" else None)
    if old:
        tags().move("prod", old, None)
    child = os.fork()
    if child == 0:
        tags(on_step=lambda at: os.kill(os.getpid(), signal.SIGKILL) if at == step else None).move("prod", new, old)
        os._exit(0)
    os.waitpid(child, 0)
    found = tags().target("prod")
    assert found in {old, new}
    assert tags().targets() == ({"prod": found} if found else {})
    _move_on(tags, commits[2], {old, new})
    assert tags().target("prod") == commits[2]
    assert locks(tags()) == []


def _move_on(tags, to, expected):
    """What the next mover meets is the state before or after; whoever heals decides which."""
    healer = tags(lease_s=0.0)
    for name in locks(healer):
        if "-" not in name.removeprefix(TAG_LOCK):
            healer.heal(name, -1.0)
        else:
            healer._refs.delete(name)
    stands = healer.target("prod")
    assert stands in expected
    tags().move("prod", to, stands)


def test_the_next_mover_heals_what_a_killed_one_left_by_itself(tags, commits):
    tags().move("prod", commits[0], None)
    child = os.fork()
    if child == 0:
        tags(on_step=lambda at: os.kill(os.getpid(), signal.SIGKILL) if at == "deleted" else None).move(
            "prod", commits[1], commits[0]
        )
    os.waitpid(child, 0)
    assert tags().target("prod") == commits[1], "decided, so it is where it goes to"
    tags(lease_s=1.0).move("prod", commits[2], commits[1])
    assert tags().targets() == {"prod": commits[2]}
    assert locks(tags()) == []


def test_a_living_movers_lock_is_respected(tags, commits):
    mover = tags()
    lock = mover._refs.take(f"{TAG_LOCK}{b'prod'.hex()}", {})
    mover.heal(lock.name)
    assert locks(mover) == [lock.name]
    mover.heal(lock.name, -1.0)
    assert locks(mover) == []


def test_of_two_who_heal_one_lock_one_goes_on(tags, commits):
    tags().move("prod", commits[0], None)
    mover = tags()
    taken = mover._refs.take(f"{TAG_LOCK}{b'prod'.hex()}", {})
    lock = mover._refs.write(taken, {TAG: "prod", FROM: commits[0], TO: commits[1]})
    slow, quick = tags(), tags()
    write, healed = slow._refs.write, []

    def late(held, record):  # the other heals, and a third moves on, while this one is on its way
        quick.heal(lock.name, -1.0)
        quick.move("prod", commits[2], commits[1])
        healed.append(held)
        return write(held, record)

    slow._refs.write = late
    slow.heal(lock.name, -1.0)
    assert healed
    assert tags().targets() == {"prod": commits[2]}


def test_a_tag_that_is_gone_cannot_be_removed_and_one_elsewhere_is_kept(tags, commits):
    with pytest.raises(NotFound, match="no tag 'prod'"):
        tags().move("prod", None, commits[0])
    tags().move("prod", commits[0], None)
    with pytest.raises(Conflict, match=f"at {commits[0][:12]}, expected it at {commits[1][:12]}"):
        tags().move("prod", None, commits[1])
    assert tags().targets() == {"prod": commits[0]}
