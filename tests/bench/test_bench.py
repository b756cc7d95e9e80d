"""The bench on tiny inputs: every variant runs and reads the same. No times are judged here."""

import json

import pytest

from bench import table
from bench.case import Case, Target, Variant, work_of
from bench.cases import CASES, sync
from bench.generate import INPUTS, inputs
from bench.run import Invalid, agree, measure

TINY = 0.01


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("bench")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_all_who_do_the_work_of_a_case_read_the_same(case, cache):
    files = inputs(case.inputs, TINY, cache)
    agree(case, {variant.name: [run(variant, files)] for variant in case.variants})


def run(variant, files):
    with work_of(variant, files) as work:
        return work()


def test_a_variant_is_measured_in_a_process_of_its_own(cache):
    case = next(case for case in CASES if case.name == "cores_camera")
    measured = measure(case, factor=TINY, reps=1, cache=cache)
    assert [one.name for one in measured] == [variant.name for variant in case.variants]
    for one in measured:
        assert 0 < one.cpu_s < one.whole_cpu_s
        assert one.peak_mb > 10


def test_a_variant_that_fails_makes_the_run_invalid(cache, monkeypatch):
    monkeypatch.setattr("bench.run.CASES", ())
    case = Case("no_such_case", "", (), (Variant("ours", "ours", dict),))
    with pytest.raises(Invalid, match="ended with 1"):
        measure(case, factor=TINY, reps=1, cache=cache)


def toy(*targets):
    return Case("toy", "Toy", (), (Variant("a", "ours", dict), Variant("b", "peer", dict), Variant("c", "limit", dict)), targets)


def test_reading_less_is_refused():
    with pytest.raises(Invalid, match="b saw 9 messages, a saw 10"):
        agree(toy(), {"a": [{"messages": 10}], "b": [{"messages": 9}], "c": [{"bytes": 1}]})


def test_reading_less_in_one_run_of_several_is_refused():
    with pytest.raises(Invalid, match="a saw 9 messages, a saw 10"):
        agree(toy(), {"a": [{"messages": 10}, {"messages": 9}], "b": [{"messages": 10}], "c": [{"bytes": 1}]})


def test_reading_nothing_is_refused():
    with pytest.raises(Invalid, match="a saw 0 messages"):
        agree(toy(), {"a": [{"messages": 0}], "b": [{"messages": 0}], "c": [{}]})


def test_a_peer_that_counts_something_else_is_refused():
    with pytest.raises(Invalid, match="b counts nothing that drivelake counts"):
        agree(toy(), {"a": [{"messages": 10}], "b": [{"records": 10}], "c": [{}]})


def measured(name, role, cpu_s, wall_s=1.0, peak_mb=100.0):
    return table.Measured(name, role, cpu_s, wall_s, cpu_s + 1, peak_mb, {"messages": 3_000_000})


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        (Target("a", "cpu", "c", 1.8), 2.0, False),
        (Target("a", "cpu", "c", 2.0), 2.0, True),
        (Target("a", "speed", "b", 5), 5.0, True),
        (Target("a", "speed", "b", 5.1), 5.0, False),
        (Target("a", "wall", "b", 1.6), 2.0, True),
        (Target("a", "rate", "messages", 1), 1.5, True),
        (Target("a", "rate", "messages", 2), 1.5, False),
        (Target("a", "seconds", "messages", 1e-6), 1 / 3e6, True),
        (Target("a", "seconds", "messages", 1e-7), 1 / 3e6, False),
    ],
)
def test_a_target_is_met_or_missed(target, value, met):
    results = {toy(target): [measured("a", "ours", 2.0), measured("b", "peer", 10.0, wall_s=2.0), measured("c", "limit", 1.0)]}
    (_, judged), (_, memory) = table.verdicts(results)
    assert (judged.value, judged.met) == (value, met)
    assert memory.met
    assert ("MISSED" in table.verdict(results)) == (not met)


def test_memory_above_the_cap_is_a_missed_target():
    results = {toy(): [measured("a", "ours", 2.0, peak_mb=513.0), measured("b", "peer", 1.0, peak_mb=9.0)]}
    ((_, memory),) = table.verdicts(results)
    assert not memory.met


def test_the_table_is_written_between_its_marks_and_nowhere_else(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "ROOT", tmp_path)
    monkeypatch.setattr(table, "RESULTS", tmp_path / "results.json")
    readme = tmp_path / "README.md"
    readme.write_text("before\n<!-- bench -->\nold\n<!-- /bench -->\nafter\n", encoding="utf-8")
    results = {
        toy(Target("a", "cpu", "c", 1.8)): [measured("a", "ours", 2.0), measured("b", "peer", 10.0), measured("c", "limit", 1.0)]
    }
    table.publish(results, reps=3)
    text = readme.read_text(encoding="utf-8")
    assert text.startswith("before\n<!-- bench -->\n")
    assert text.endswith("\n<!-- /bench -->\nafter\n")
    assert "old" not in text
    assert "**missed**" in text
    facts = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert facts["cases"][0]["variants"][0]["cpu_s"] == 2.0
    assert facts["cases"][0]["targets"][0]["met"] is False
    assert set(facts["machine"]) == {"processor", "cores", "memory_gb", "system"}


def test_a_readme_without_a_place_for_the_table_is_said(tmp_path, monkeypatch):
    monkeypatch.setattr(table, "ROOT", tmp_path)
    monkeypatch.setattr(table, "RESULTS", tmp_path / "results.json")
    (tmp_path / "README.md").write_text("nothing\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="no place for the table"):
        table.publish({toy(): [measured("a", "ours", 2.0)]}, reps=3)


@pytest.mark.parametrize("name", [name for name in INPUTS if name.endswith((".mf4", ".dbc", "y.mcap", "lz4.mcap", "f.mcap"))])
def test_the_same_size_gives_the_same_bytes(name, cache, tmp_path):
    assert inputs([name], TINY, cache)[name].read_bytes() == inputs([name], TINY, tmp_path)[name].read_bytes()


def test_a_changed_generator_gets_a_new_cache(tmp_path, monkeypatch):
    old = inputs(["can.dbc"], TINY, tmp_path)["can.dbc"]
    monkeypatch.setattr("bench.generate._generation", lambda: "new")
    assert inputs(["can.dbc"], TINY, tmp_path)["can.dbc"].exists()
    assert not old.exists()


def test_synchronisation_and_its_peers_write_the_same_frames(cache, tmp_path):
    import polars as pl

    files = inputs(["drive_20hz"], TINY, cache)
    made = {}
    for name, run in {"ours": sync.drivelake, "polars": sync.polars_asof, "pandas": sync.pandas_asof}.items():
        (tmp_path / name).mkdir()
        run(files, tmp_path / name)
        made[name] = pl.read_parquet(tmp_path / name / "frames.parquet")
    for signal in sync.RULES:
        for column in (signal, f"{signal}_native_ns", f"{signal}_age_ns", f"{signal}_reason"):
            ours, *others = (made[name][column].cast(pl.String if column.endswith("reason") else pl.Float64) for name in made)
            for other in others:
                # pandas writes NaN for a value that is not there
                assert ours.equals(other.fill_nan(None) if column == signal else other)
