"""A short fuzz run of every format, and that the run sees what it looks for. The long one is ``make fuzz``."""

import pytest

from tests.fuzz import dying, oracle, run
from tests.fuzz.corpus import Seed, corpus
from tests.fuzz.mutations import MUTATIONS, Damaged, generator, mutate

CASES = 300


@pytest.fixture(scope="module")
def seeds(tmp_path_factory):
    return {seed.name: seed for seed in corpus(tmp_path_factory.mktemp("corpus"))}


@pytest.mark.slow
def test_no_damage_ends_a_reader_or_gives_a_value_that_a_checksum_could_have_caught():
    outcome = run.fuzz(CASES)
    assert outcome.broken == []
    assert outcome.died == []
    assert outcome.cases == CASES
    assert {kind.split()[0] for kind in outcome.kinds} == {".mcap", ".mf4", ".mdf", ".bag", ".db3"}


def test_the_same_number_is_the_same_damage(seeds):
    data, other = seeds["zstd.mcap"].data, seeds["lz4.bag"].data
    first, again = ([mutate(data, generator(0, i), other) for i in range(100)] for _ in range(2))
    assert first == again
    assert {one.kind for one in first} == {mutation.__name__ for mutation in MUTATIONS}
    assert sum(one.data != data for one in first) > 90


def test_a_change_in_place_touches_nothing_beside_it(seeds):
    data = seeds["plain.mf4"].data
    for number in range(200):
        one = mutate(data, generator(1, number), data)
        if one.in_place:
            assert one.data[: one.begin] == data[: one.begin]
            assert one.data[one.end :] == data[one.end :]


def test_a_wrong_value_is_seen(seeds, tmp_path, monkeypatch):
    """A reader that trusts bytes in spite of their checksum is caught."""
    judge = oracle.Oracle(seeds["plain.mf4"], tmp_path)
    trusting = Seed("plain.mf4", judge.seed.data, ((0, len(judge.seed.data)),))
    monkeypatch.setattr(judge, "seed", trusting)
    place = judge.seed.data.index(b"##DT") + 24 + 8  # behind the first stamp; plain data has no checksum
    changed = bytearray(judge.seed.data)
    changed[place] ^= 1
    broken = judge.judge(Damaged(bytes(changed), "flip", "", place, place + 1), salvage=False)
    assert any("the sound log has" in sentence for sentence in broken)


def test_an_exception_that_is_none_of_ours_is_seen(seeds, tmp_path, monkeypatch):
    judge = oracle.Oracle(seeds["zstd.mcap"], tmp_path)

    def fails(path):
        raise IndexError("list index out of range")

    monkeypatch.setattr(oracle, "inspect_log", fails)
    broken = judge.judge(mutate(judge.seed.data, generator(0), b"x"), salvage=False)
    assert broken[0].startswith("IndexError at test_fuzz.py")


def test_a_reader_that_dies_or_hangs_costs_its_case_only(monkeypatch):
    start = "import sys; sys.path.insert(0, sys.argv.pop(1)); from tests.fuzz.dying import serve; serve()"
    monkeypatch.setattr(run, "COMMAND", (*run.COMMAND[:2], start, str(run.ROOT)))
    monkeypatch.setattr(run, "corpus", lambda _: [])
    monkeypatch.setattr(run, "CAPS", run.Caps(seconds=3))
    monkeypatch.setattr(run, "CAPS_ALONE", run.Caps(seconds=2))
    outcome = run.fuzz(75)
    assert [number for number, _ in outcome.died] == [dying.DIES_AT, dying.HANGS_AT]
    assert outcome.cases == 75
