"""query, diff, log, checkout, tag as a person runs them: exit codes, one JSON value, and a store that reading leaves alone."""

import csv
import io
import json
import shutil

import pyarrow.parquet as pq
import pytest

from drivelake.lake import Lake
from drivelake.manifest import hash_file
from tests.drivelake.cli.running import drivelake, process
from tests.drivelake.snapshots.tabled import frames, put, put_drive, tabled_lake

# runs the command line with dagster and the network out of reach
ALONE = """
import socket, sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"dagster", "definitions", "assets", "sensors", "resources"}:
            raise ImportError(f"{name} was imported")
sys.meta_path.insert(0, Refuse())
def refuse(*a, **k): raise OSError("the network was asked for")
socket.socket.connect = refuse
socket.getaddrinfo = refuse
from drivelake.cli import main
main()
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A lake with a tag ``first`` before its last changes; read only."""
    lake = tabled_lake(tmp_path_factory.mktemp("versions") / "lake")
    lake.store.tag("first", "main")
    put_drive(lake, "d1", 1, rows=5)
    put_drive(lake, "d4", 4)
    return lake


@pytest.fixture
def own(made, tmp_path):
    """The same lake as bytes of its own."""
    shutil.copytree(made.root, tmp_path / "lake", symlinks=True)
    return Lake(tmp_path / "lake")


def run(lake, *words):
    return drivelake(*words, "--lake", lake.root)


def answer(lake, *words):
    done = run(lake, *words, "--json")
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def state(folder):
    """Every file and link below, with its bytes and rights."""
    return {
        path.relative_to(folder).as_posix(): (path.stat().st_mode, path.read_bytes() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("words", [("query", "SELECT count(*) AS n FROM frames"), ("diff", "first"), ("log",), ("tag",)])
def test_reading_a_lake_of_one_machine_needs_neither_dagster_nor_a_network(made, words):
    done = process(*words, "--lake", made.root, "--json", code=ALONE)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)


# --- query


def test_a_query_shows_its_rows_and_says_how_many_more_there_are(made):
    done = run(made, "query", "SELECT drive, frame, 1 / 3 AS third FROM frames ORDER BY drive, frame", "--limit", "2")
    assert done.returncode == 0, done.stderr
    title, header, *rows = done.stdout.splitlines()
    assert title == f"at {made.store.resolve('main')[:12]}"
    assert header.split() == ["drive", "frame", "third"]
    assert [row.split() for row in rows] == [["d1", "0", "0.333333333"], ["d1", "1", "0.333333333"]]
    assert "9 more rows" in done.stderr
    assert "more rows" not in run(made, "query", "SELECT 1").stderr


def test_a_query_at_a_tag_or_commit_gives_the_rows_of_then(made):
    sql = "SELECT count(*) AS n FROM frames"
    first = made.store.resolve("first")
    for ref, rows in (("main", 11), ("first", 6), (first, 6), (first[:9], 6)):
        assert answer(made, "query", sql, "--at", ref)["rows"] == [{"n": rows}]
    assert answer(made, "query", sql, "--at", "first")["commit"] == first


def test_json_keeps_types_that_json_has_no_word_for(made):
    sql = """SELECT 9007199254740993 AS big, sum(9223372036854775807) AS huge, 1.5 AS decimal, 'nan'::DOUBLE AS nan,
        NULL AS nothing, [1.0::DOUBLE, NULL] AS list, {'a': 'ä'} AS struct, 'x'::BLOB AS blob,
        DATE '2026-01-02' AS day, true AS yes FROM range(2)"""
    done = answer(made, "query", sql)
    assert done["rows"] == [
        {
            "big": 9007199254740993,
            "huge": 18446744073709551614,
            "decimal": 1.5,
            "nan": "nan",
            "nothing": None,
            "list": [1.0, None],
            "struct": {"a": "ä"},
            "blob": "78",
            "day": "2026-01-02",
            "yes": True,
        }
    ]
    assert done["columns"][1] == {"name": "huge", "type": "HUGEINT"}


def test_csv_reads_back_as_the_rows(made):
    done = run(
        made, "query", "SELECT drive, frame, [frame] AS list, NULL AS none FROM frames ORDER BY ALL", "--csv", "--limit", "2"
    )
    assert list(csv.reader(io.StringIO(done.stdout))) == [
        ["drive", "frame", "list", "none"],
        ["d1", "0", "[0]", ""],
        ["d1", "1", "[1]", ""],
    ]


def test_a_parquet_file_is_written_once_and_never_over_another(made, tmp_path):
    out = tmp_path / "out.parquet"
    assert answer(made, "query", "SELECT drive, frame FROM frames ORDER BY ALL", "--out", out)["rows"] == 11
    assert pq.read_table(out)["drive"].to_pylist() == ["d1"] * 5 + ["d2"] * 3 + ["d4"] * 3
    again = run(made, "query", "SELECT 1", "--out", out)
    assert again.returncode == 3
    assert "is there already" in again.stderr
    failed = run(made, "query", "SELECT error('x') FROM frames", "--out", tmp_path / "other.parquet")
    assert failed.returncode == 3
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


@pytest.mark.parametrize(
    ("sql", "code", "words"),
    [
        ("SELECT * FROM frame", 4, ["no table 'frame'", "frames"]),
        ("SELECT * FROM signals.imo", 4, ["signals.imu"]),
        ("SELECT fram FROM frames", 3, ['Referenced column "fram" not found', '"frame"']),
        ("SELEC 1", 3, ["syntax error"]),
        ("SELECT 'x'::INT FROM frames", 3, ["Could not convert string 'x' to INT32"]),
        ("COPY frames TO '/tmp/x'", 3, ["one SELECT"]),
        ("ATTACH '/tmp/x'", 3, ["one SELECT"]),
        ("INSTALL spatial", 3, ["one SELECT"]),
        ("SELECT * FROM read_csv('/etc/passwd')", 3, ["Cannot access file"]),
        ("SELECT * FROM '/etc/passwd'", 4, ["no table '/etc/passwd'"]),
        ("SELECT 1 AS a, 2 AS a", 3, ["Two columns"]),
    ],
)
def test_a_query_that_cannot_be_says_why_and_what_next(made, sql, code, words):
    done = run(made, "query", sql, "--json")
    assert done.returncode == code
    said = json.loads(done.stdout)
    assert said["exit_code"] == code
    assert said["next_step"]
    for word in words:
        assert word in said["message"] + said["next_step"]


def test_an_error_after_the_first_rows_leaves_no_half_of_an_answer(made):
    sql = "SELECT CASE WHEN range < 29999 THEN 1 ELSE error('late') END AS x FROM range(30000)"
    for how in ("--csv", "--json"):
        done = run(made, "query", sql, how)
        assert done.returncode == 3
        assert "late" in done.stdout + done.stderr
        assert not done.stdout or json.loads(done.stdout)["error"] == "InputError"


def test_a_ref_that_is_nothing_exits_with_4(made):
    for words in (
        ("query", "SELECT 1", "--at", "nowhere"),
        ("diff", "nowhere"),
        ("log", "nowhere"),
        ("checkout", "nowhere", "x"),
    ):
        assert run(made, *words).returncode == 4


# --- diff, log


def test_a_diff_tells_partitions_files_and_row_counts(made):
    found = answer(made, "diff", "first", "main")
    assert (found["a"], found["b"]) == (made.store.resolve("first"), made.store.resolve("main"))
    assert found["assets"] == {
        "raw_logs": {"added": ["d4"], "removed": [], "changed": []},
        "sensor_frames": {"added": ["d4"], "removed": [], "changed": ["d1"]},
        "signals": {"added": ["d4"], "removed": [], "changed": ["d1"]},
    }
    assert found["tables"]["sensor_frames.frames"] == {"before": 3, "after": 8}
    (changed,) = [c for c in found["changes"] if (c["asset"], c["partition"]) == ("sensor_frames", "d1")]
    assert changed["files"] == ["frames.parquet"]
    assert changed["tables"] == {"sensor_frames.frames": {"before": 3, "after": 5}}


def test_a_diff_the_other_way_round_swaps_both_sides(made):
    there, back = answer(made, "diff", "first", "main"), answer(made, "diff", "main", "first")
    assert back["assets"]["raw_logs"]["removed"] == there["assets"]["raw_logs"]["added"]
    assert back["tables"] == {name: {"before": n["after"], "after": n["before"]} for name, n in there["tables"].items()}
    assert answer(made, "diff", "main", "main")["changes"] == []
    assert "no difference" in run(made, "diff", "main").stdout


def test_a_version_that_differs_in_what_made_it_only_is_told_so(own):
    before = own.store.resolve("main")
    put(own, "sensor_frames", "d2", {"frames.parquet": frames(200)}, excluded="", frames=3, note="made anew")
    (change,) = answer(own, "diff", before)["changes"]
    assert (change["how"], change["files"], change["tables"]) == ("changed", [], {})
    assert "only its inputs, code or parameters" in run(own, "diff", before).stdout


def test_the_log_names_version_run_and_tags_newest_first(made):
    newest, *_ = found = answer(made, "log", "--number", "3")
    assert len(found) == 3
    version = made.head("sensor_frames", "d4")
    assert (newest["path"], newest["version"], newest["run"]) == ("sensor_frames/d4", version.digest, "run-d4")
    tagged = answer(made, "log", "first", "--number", "1")[0]
    assert (tagged["tags"], tagged["commit"]) == (["first"], made.store.resolve("first"))
    of_one = answer(made, "log", "--path", "sensor_frames/d1")
    assert [entry["path"] for entry in of_one] == ["sensor_frames/d1"] * 2
    assert "run-d4" in run(made, "log").stdout
    assert run(made, "log", "--path", "sensor_frames/nobody").returncode == 4


# --- checkout


def test_a_checkout_holds_the_bytes_that_the_manifests_name_and_leaves_the_store_alone(own, tmp_path):
    before, folder = state(own.root / "store" / "files"), tmp_path / "out" / "all"
    done = answer(own, "checkout", "first", folder)
    assert done["commit"] == own.store.resolve("first")
    files = 0
    for name, digest in done["versions"].items():
        asset, partition = name.split("/")
        version = own.head(asset, partition, "first")
        assert version.digest == digest
        assert (folder / name / "manifest.json").read_bytes() == version.manifest.canonical()
        for entry in version.manifest.files:
            assert hash_file(folder / name / entry.path) == (entry.bytes, entry.sha256)
            files += 1
    assert files == done["files"] == sum(p.is_file() for p in folder.rglob("*")) - len(done["versions"])
    for path in folder.rglob("*"):
        if path.is_file():
            assert path.stat().st_nlink == 1
            path.write_bytes(b"changed by its owner")
    assert state(own.root / "store" / "files") == before


def test_a_checkout_of_named_things_holds_those_only(made, tmp_path):
    done = answer(made, "checkout", "main", tmp_path / "x", "sensor_frames/d1", "curated_datasets")
    assert sorted(done["versions"]) == ["curated_datasets/lanes", "sensor_frames/d1"]
    assert pq.read_metadata(tmp_path / "x" / "sensor_frames" / "d1" / "frames.parquet").num_rows == 5
    for wrong in ("nothing", "sensor_frames/nobody"):
        assert run(made, "checkout", "main", tmp_path / "y", wrong).returncode == 4
    assert [path.name for path in tmp_path.iterdir()] == ["x"]


def test_a_checkout_takes_an_empty_folder_and_refuses_any_other(made, tmp_path):
    (tmp_path / "empty").mkdir()
    assert run(made, "checkout", "main", tmp_path / "empty", "curated_datasets").returncode == 0
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    done = run(made, "checkout", "main", tmp_path / "full", "curated_datasets")
    assert done.returncode == 3
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine"]


def test_a_checkout_of_damaged_bytes_names_the_file_and_leaves_nothing(own, tmp_path):
    (path,) = own.head("sensor_frames", "d2").files.values()
    path.chmod(0o644)
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    done = run(own, "checkout", "main", tmp_path / "out")
    assert done.returncode == 4
    assert "sensor_frames/d2/frames.parquet" in done.stderr
    assert not [path for path in tmp_path.iterdir() if "out" in path.name]


# --- tag


def test_a_tag_is_made_moved_and_removed_only_by_who_knows_where_it_points(own):
    main, first = own.store.resolve("main"), own.store.resolve("first")
    assert answer(own, "tag", "release/1", "first") == {"name": "release/1", "commit": first, "was": None}
    assert answer(own, "tag") == [{"name": "first", "commit": first}, {"name": "release/1", "commit": first}]
    assert run(own, "tag", "release/1", "main").returncode == 4, "it is there already"
    assert run(own, "tag", "release/1", "main", "--move-from", main).returncode == 4
    assert run(own, "tag", "release/1", "main", "--move-from", "release/1").returncode == 2, "it says nothing of what was seen"
    assert answer(own, "tag", "release/1", "main", "--move-from", first[:8])["commit"] == main
    assert run(own, "tag", "release/1", "--delete").returncode == 2
    assert run(own, "tag", "release/1", "--delete", "--at", first).returncode == 4
    assert answer(own, "tag", "release/1", "--delete", "--at", main)["was"] == main
    assert [found["name"] for found in answer(own, "tag")] == ["first"]
    assert answer(own, "query", "SELECT 1 AS x", "--at", "first")["commit"] == first


@pytest.mark.parametrize("command", ["query", "diff", "log", "checkout", "tag"])
def test_every_command_takes_json(command):
    assert "--json" in drivelake(command, "--help").stdout


def test_the_whole_chain_can_be_asked(chain):
    frames_of = answer(chain, "query", "SELECT drive, vehicle, weather, count(*) AS n FROM frames GROUP BY ALL ORDER BY drive")
    assert {row["drive"] for row in frames_of["rows"]} < set(chain.partitions("sensor_frames"))
    joined = answer(
        chain, "query", "SELECT count(*) AS n FROM curated_datasets.rows r JOIN checkpoints.predictions p USING (drive, frame)"
    )
    assert joined["rows"][0]["n"] > 0
    assert {c["name"] for c in answer(chain, "query", "SELECT * FROM signals.imu_data LIMIT 1")["columns"]} >= {"drive", "t_ns"}


def test_rows_of_a_query_come_out_the_same_twice(made):
    sql = "SELECT * FROM frames"
    assert [row["drive"] for row in answer(made, "query", sql)["rows"]] == ["d1"] * 5 + ["d2"] * 3 + ["d4"] * 3
    assert answer(made, "query", sql) == answer(made, "query", sql)
