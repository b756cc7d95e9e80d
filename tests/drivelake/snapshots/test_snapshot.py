"""Reading at a ref: every row says its drive, an old commit gives old rows, nothing else can be read and nothing written."""

import http.server
import math
import threading
from pathlib import Path

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from drivelake.errors import Denied, InputError, NotFound, StoreError, Unavailable, Withdrawn
from drivelake.lake import Lake
from drivelake.snapshots.checkout import checkout
from drivelake.snapshots.sandbox import connect, named_tables
from drivelake.snapshots.snapshot import Snapshot
from drivelake.versions import Address
from drivelake.withdrawal import withdraw
from tests.drivelake.snapshots.tabled import declared, frames, put, put_drive, tabled_lake
from tests.servers.faults import FaultProxy
from tests.servers.s3 import fresh_bucket

WIDE_ROWS = 100_000


@pytest.fixture(scope="module")
def lake(tmp_path_factory):
    """Read only."""
    return tabled_lake(tmp_path_factory.mktemp("tables") / "lake")


@pytest.fixture
def own(tmp_path):
    """A lake without a version."""
    return Lake.create(tmp_path / "own", declared())


def ask(lake, sql, ref="main"):
    return Snapshot(lake, ref).sql(sql, threads=1).fetchall()


# --- tables and their names


def test_every_parquet_file_is_a_table_under_its_shortest_clear_name(lake):
    found = {table.name: list(table.sizes) for table in Snapshot(lake).tables()}
    drives = ["d1", "d2", "d3"]
    assert found == {"signals.imu": drives, "signals.speed": drives, "sensor_frames": drives, "curated_datasets": ["lanes"]}


@pytest.mark.parametrize(
    "name", ["signals.imu", 'signals."camera.mcap/imu"', "SIGNALS.IMU", 'main."sensor_frames"', "sensor_frames.frames"]
)
def test_rows_say_which_drive_they_are_of(lake, name):
    assert ask(lake, f"SELECT drive, count(*), min(t_ns) FROM {name} GROUP BY ALL ORDER BY drive") == [
        ("d1", 3, 100),
        ("d2", 3, 200),
        ("d3", 3, 300),
    ]


def test_frames_are_what_the_sql_of_a_dataset_sees(lake):
    found = Snapshot(lake).sql("SELECT DISTINCT drive, vehicle, weather FROM frames ORDER BY drive")
    assert found.fetchall() == [("d1", "car_1", "wet"), ("d2", "car_0", "dry")]


def test_a_table_that_holds_a_column_drive_keeps_it_beside_its_partition(lake, own):
    assert ask(lake, "SELECT partition, drive, split FROM curated_datasets ORDER BY drive") == [
        ("lanes", "d1", "train"),
        ("lanes", "d2", "test"),
    ]
    put(own, "signals", "a", {"can.mf4/gear.parquet": pa.table({"Drive": [7]})})
    snapshot = Snapshot(own)
    assert snapshot.sql("SELECT drive, Drive_of_table FROM signals").fetchall() == [("a", 7)]
    assert snapshot.sql("SELECT Drive_of_table FROM signals WHERE drive = 'b'").fetchall() == []


def test_equal_files_of_two_drives_are_rows_of_both(own):
    for drive in ("a", "b", "c"):
        put(own, "sensor_frames", drive, {"frames.parquet": frames(0 if drive != "c" else 9)})
    assert ask(own, "SELECT drive, min(t_ns), count(*) FROM sensor_frames GROUP BY ALL ORDER BY ALL") == [
        ("a", 0, 3),
        ("b", 0, 3),
        ("c", 9, 3),
    ]
    table = Snapshot(own).arrow("sensor_frames").to_table()
    assert sorted(table["drive"].to_pylist()) == [*"aaabbbccc"]


def test_a_column_that_only_some_drives_have_is_null_elsewhere(own):
    put(own, "sensor_frames", "a", {"frames.parquet": frames(0)})
    put(own, "sensor_frames", "b", {"frames.parquet": frames(0, speed=[1.5, 2.5, 3.5])})
    assert ask(own, "SELECT drive, max(speed) FROM sensor_frames GROUP BY ALL ORDER BY ALL") == [("a", None), ("b", 3.5)]
    table = Snapshot(own).arrow("sensor_frames").to_table(columns=["drive", "speed"])
    assert table.group_by("drive").aggregate([("speed", "max")]).sort_by("drive").to_pylist() == [
        {"drive": "a", "speed_max": None},
        {"drive": "b", "speed_max": 3.5},
    ]


def test_tables_that_end_alike_need_their_whole_path(own):
    table = pa.table({"x": [1]})
    put(own, "signals", "a", {"one.mcap/imu.parquet": table, "two.mcap/imu.parquet": table, 'two.mcap/odd"name.parquet': table})
    snapshot = Snapshot(own)
    assert [t.name for t in snapshot.tables()] == ['signals."one.mcap/imu"', 'signals."two.mcap/imu"', 'signals."odd""name"']
    with pytest.raises(InputError, match=r"signals.imu fits 2 tables"):
        snapshot.sql("SELECT * FROM signals.imu")
    for name in (found.name for found in snapshot.tables()):
        assert snapshot.sql(f"SELECT drive, x FROM {name}").fetchall() == [("a", 1)]


def test_names_that_differ_by_case_only_are_never_mixed_up(own):
    put(own, "signals", "a", {"log/Imu.parquet": pa.table({"x": [1]})})
    put(own, "signals", "b", {"log/imu.parquet": pa.table({"x": [2]})})
    assert ask(own, 'SELECT x FROM signals."log/Imu"') == [(1,)]
    assert ask(own, 'SELECT x FROM signals."log/imu"') == [(2,)]
    with pytest.raises(InputError, match="differ by case only"):
        ask(own, 'SELECT * FROM signals."log/Imu", signals."log/imu"')
    with pytest.raises(InputError, match="fits 2 tables"):
        ask(own, 'SELECT * FROM signals."log/IMU"')


def test_an_unknown_table_is_answered_with_the_nearest(lake):
    with pytest.raises(NotFound) as lost:
        ask(lake, "SELECT * FROM imu")
    assert "signals.imu" in lost.value.next_step
    with pytest.raises(NotFound) as lost:
        ask(lake, "SELECT * FROM signals.sped")
    assert "signals.speed" in lost.value.next_step
    with pytest.raises(NotFound, match="signals holds 2 tables"):
        ask(lake, "SELECT * FROM signals")


def test_an_unknown_column_is_told_in_duckdbs_words(lake):
    with pytest.raises(InputError, match=r'Referenced column "fram" not found(.|\n)*Candidate bindings: "frame"') as lost:
        ask(lake, "SELECT fram FROM frames")
    assert lost.value.exit_code == 3


# --- commits


def test_an_old_commit_gives_old_rows(own):
    put_drive(own, "d1", 1)
    first = own.store.resolve("main")
    own.store.tag("before", first)
    put_drive(own, "d1", 1, rows=5)
    put_drive(own, "d2", 2)
    count = "SELECT count(*), count(DISTINCT drive) FROM frames"
    assert ask(own, count, first) == ask(own, count, "before") == ask(own, count, first[:10]) == [(3, 1)]
    assert ask(own, count) == [(8, 2)]
    assert Snapshot(own, "before").commit == first
    with pytest.raises(NotFound):
        Snapshot(own, "nothing")


def test_the_catalogue_says_what_the_manifests_say(lake):
    snapshot = Snapshot(lake)
    assert ask(lake, "SELECT partition, rows, files FROM versions WHERE asset = 'signals' ORDER BY ALL")[0] == ("d1", 6, 3)
    commits = dict(ask(lake, "SELECT asset || '/' || partition, commit FROM versions"))
    newest = next(lake.store.history("main", "sensor_frames/d2")).commit
    assert commits["sensor_frames/d2"] == newest
    assert ask(lake, "SELECT sha256 FROM files WHERE asset = 'sensor_frames' AND partition = 'd1'") == [
        (snapshot.versions("sensor_frames")["d1"].manifest.files[0].sha256,)
    ]
    assert ask(lake, "SELECT input_asset FROM inputs WHERE asset = 'signals' AND partition = 'd2'") == [("raw_logs",)]
    assert ask(lake, "SELECT count(*) FROM tables") == [(4,)]


# --- what a query names


@pytest.mark.parametrize(
    ("sql", "names"),
    [
        ("SELECT 1", []),
        ("FROM a", ["a"]),
        ("SELECT * FROM a JOIN s.b USING (x), (SELECT * FROM c) WHERE EXISTS (SELECT 1 FROM d)", ["a", "s.b", "c", "d"]),
        ("WITH q AS (SELECT * FROM a) SELECT * FROM q", ["a", "(q)"]),
        ("WITH RECURSIVE q AS (SELECT 1 n UNION ALL SELECT n + 1 FROM q, a) SELECT * FROM q", ["(q)", "a", "(q)"]),
        ("SELECT * FROM a UNION ALL (SELECT * FROM b ORDER BY (SELECT max(x) FROM c))", ["a", "b", "c"]),
        ("SELECT (SELECT count(*) FROM a), sum(x) OVER (ORDER BY (SELECT 1 FROM b)) FROM range(3)", ["a", "b"]),
        ("DESCRIBE a", ["a"]),
        ("SUMMARIZE SELECT * FROM a", ["a"]),
        ("PIVOT a ON x IN (1, 2) USING sum(y)", ["a"]),
    ],
)
def test_all_names_of_tables_are_found_wherever_they_stand(sql, names):
    with connect(1) as connection:
        found = named_tables(connection, sql)
    texts = [".".join(filter(None, (table.schema, table.name))) for table in found]
    assert sorted(f"({t})" if f.perhaps_own else t for t, f in zip(texts, found, strict=True)) == sorted(names)


@pytest.mark.parametrize(
    ("source", "kept"),
    [
        ("frames f JOIN signals.imu i USING (drive) WHERE drive = 'd1'", [{"d1"}, {"d1"}]),
        ("frames f JOIN signals.imu i USING (t_ns) WHERE f.drive = 'd1'", [{"d1"}, None]),
        ("frames f, signals.imu i WHERE f.drive = 'd1' AND i.drive = 'd2'", [{"d1"}, {"d2"}]),
        ("frames f LEFT JOIN signals.imu i USING (drive) WHERE i.drive = 'd1'", [None, None]),
        ("frames f ASOF JOIN signals.imu i ON f.t_ns >= i.t_ns WHERE i.drive = 'd1'", [None, None]),
        ("frames f POSITIONAL JOIN signals.imu i WHERE i.drive = 'd1'", [None, None]),
        ("frames f SEMI JOIN signals.imu i USING (drive) WHERE f.drive = 'd1'", [None, None]),
        ("frames f TABLESAMPLE 10% WHERE drive = 'd1'", [None]),
        ("frames WHERE drive = 'd1' USING SAMPLE 1", [None]),
    ],
)
def test_a_condition_counts_for_the_side_of_a_join_that_it_names(source, kept):
    with connect(1) as connection:
        found = named_tables(connection, f"SELECT * FROM {source}")
    assert [table.equal.get("drive") for table in found] == kept


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        ("drive = 'd1'", {"d1"}),
        ("'d1' = f.drive AND frame > 0", {"d1"}),
        ("drive IN ('d1', 'd2') AND drive <> 'd1'", {"d1", "d2"}),
        ("drive IN ('d1', 'd2') AND drive = 'd2'", {"d2"}),
        ("drive = 'd1' OR frame = 0", None),
        ("NOT drive = 'd1'", None),
        ("drive NOT IN ('d1')", None),
        ("drive = lower('D1')", None),
        ("g.drive = 'd1'", None),
        ("drive = NULL", None),
    ],
)
def test_only_a_condition_that_every_row_must_meet_keeps_files_closed(where, kept):
    with connect(1) as connection:
        (table,) = named_tables(connection, f"SELECT * FROM frames f WHERE {where}")
    assert table.equal.get("drive") == kept


def test_a_condition_on_the_drive_gives_the_rows_that_it_gives_without_the_shortcut(lake):
    for where in ("drive = 'd2'", "drive IN ('d1', 'd3')", "drive = 'nobody'", "drive = 'd1' AND drive = 'd2'"):
        quick, slow = (
            ask(lake, f"SELECT * FROM sensor_frames WHERE {w} ORDER BY ALL") for w in (where, f"({where}) OR FALSE AND frame = 9")
        )
        assert quick == slow
    twice = "SELECT count(*) FROM sensor_frames a, (SELECT * FROM sensor_frames WHERE drive = 'd1') b"
    assert ask(lake, twice) == [(27,)]
    shadowed = "WITH sensor_frames AS (SELECT 'd1' AS drive) SELECT count(*) FROM sensor_frames WHERE drive = 'd1'"
    assert ask(lake, shadowed) == [(1,)]


# --- the sandbox

REFUSED = [
    "COPY frames TO '{out}'",
    "COPY (SELECT 1) TO '{out}' (FORMAT parquet)",
    "ATTACH '{out}'",
    "INSTALL spatial",
    "LOAD spatial",
    "CREATE TABLE x AS SELECT 1",
    "CREATE VIEW x AS SELECT 1",
    "INSERT INTO frames SELECT * FROM frames",
    "DELETE FROM frames",
    "DROP VIEW frames",
    "SET enable_external_access = true",
    "PRAGMA enable_profiling",
    "EXPORT DATABASE '{out}'",
    "CREATE SECRET s (TYPE s3, KEY_ID 'a')",
    "EXPLAIN SELECT 1",
    "SELECT 1; SELECT 2",
    "SELECT 1; COPY frames TO '{out}'",
    "",
    "SHOW TABLES",
    "SELEC 1",
    "SELECT * FROM read_csv('/etc/passwd')",
    "SELECT * FROM read_text('/etc/passwd')",
    "SELECT * FROM read_parquet('{lake}/**')",
    "SELECT * FROM glob('/etc/*')",
    "SELECT * FROM frames, read_blob('{lake}/lakehouse.yaml')",
    "SELECT * FROM query('COPY frames TO ''{out}''')",
    "SELECT * FROM read_csv('http://127.0.0.1:9/x')",
    "SELECT * FROM read_parquet('s3://bucket/x')",
    "SELECT * FROM sqlite_scan('{out}', 'x')",
    "WITH x AS (COPY frames TO '{out}') SELECT * FROM x",
]


@pytest.mark.parametrize("sql", REFUSED)
def test_what_is_not_reading_the_tables_is_refused(lake, tmp_path, sql):
    out = tmp_path / "out"
    with pytest.raises(InputError):
        Snapshot(lake).sql(sql.format(out=out, lake=lake.root)).fetchall()
    assert not out.exists()


@pytest.mark.parametrize("name", ["'/etc/passwd'", "'{lake}/lakehouse.yaml'", "lake", "secret_frame", "'/x/*.parquet'"])
def test_neither_a_file_nor_a_variable_is_a_table(lake, name):
    secret_frame = pa.table({"a": [1]})
    with pytest.raises(NotFound):
        Snapshot(lake).sql(f"SELECT * FROM {name.format(lake=lake.root)}").fetchall()
    assert secret_frame.num_rows == 1


def test_only_the_files_of_the_query_are_open_to_it(lake):
    snapshot = Snapshot(lake)
    (one, other) = (snapshot.addresses(snapshot.table(f"signals.{name}"), ["d1"])["d1"].uri for name in ("imu", "speed"))
    frames_file = snapshot.addresses(snapshot.table("sensor_frames"), ["d1"])["d1"].uri
    assert one == other, "equal bytes"
    with pytest.raises(InputError, match="refused"):
        snapshot.sql(f"SELECT * FROM signals.imu, read_parquet('{frames_file}')")


def test_a_query_nested_deeper_than_can_be_looked_through_is_refused(lake):
    with pytest.raises(InputError):
        ask(lake, "SELECT " + "abs(" * 900 + "1" + ")" * 900)


# --- relations and datasets


def test_a_relation_joins_with_what_else_a_connection_has(lake):
    connection = duckdb.connect()
    connection.execute("CREATE TABLE notes AS SELECT 'd2' AS drive, 'rain' AS note")
    found = Snapshot(lake).relation("frames", connection)
    assert found.columns == ["drive", "vehicle", "weather", "frame", "t_ns"]
    assert connection.sql("SELECT note, count(*) FROM notes JOIN found USING (drive) GROUP BY ALL").fetchall() == [("rain", 3)]
    assert Snapshot(lake).relation("signals.imu").aggregate("count(*)").fetchall() == [(9,)]


def test_an_arrow_dataset_opens_only_the_files_of_the_drives_asked_for(lake):
    found = Snapshot(lake).arrow("frames")
    assert found.schema.names == ["drive", "vehicle", "weather", "frame", "t_ns"]
    some = found.to_table(filter=ds.field("weather") == "dry")
    assert some["drive"].to_pylist() == ["d2"] * 3
    assert len(list(found.get_fragments(filter=ds.field("drive") == "d1"))) == 1


def test_an_arrow_dataset_refuses_a_column_that_it_would_have_to_rename(own):
    put(own, "signals", "a", {"can.mf4/gear.parquet": pa.table({"drive": [7]})})
    with pytest.raises(InputError, match="'drive' of their own"):
        Snapshot(own).arrow("signals")


def test_rows_are_counted_without_reading_them(lake):
    snapshot = Snapshot(lake)
    assert snapshot.rows(snapshot.table("frames")) == {"d1": 3, "d2": 3, "d3": 3}


def test_a_missing_object_is_told_and_not_left_out(own):
    put_drive(own, "d1", 1)
    (path,) = Snapshot(own).files("sensor_frames", "d1").values()
    path.unlink()
    with pytest.raises(StoreError):
        ask(own, "SELECT count(*) FROM frames")


# --- S3


@pytest.fixture(scope="module")
def on_s3(tmp_path_factory, s3):
    """Where a lake on S3 with one wide table was made, its bucket, and a proxy that counts."""
    with FaultProxy(s3) as proxy:
        random = np.random.default_rng(7)
        wide = pa.table({"t_ns": range(WIDE_ROWS), **{f"c{n}": random.random(WIDE_ROWS) for n in range(8)}})
        store = {"kind": "dvc", "bucket": f"s3://{fresh_bucket(s3)}/team/lake", "s3_endpoint": proxy.endpoint}
        lake = Lake.create(tmp_path_factory.mktemp("maker") / "lake", declared(**store))
        for drive in ("d1", "d2", "d3"):
            part = {"frames.parquet": wide.slice(0, WIDE_ROWS if drive == "d1" else 10)}
            put(lake, "sensor_frames", drive, part, excluded="")
        yield store, proxy


@pytest.fixture
def away(tmp_path, on_s3):
    """That lake as a machine sees it that has fetched nothing."""
    store, proxy = on_s3
    proxy.clear()
    return Lake.create(tmp_path / "reader", declared(**store)), proxy


def test_one_column_of_a_table_on_s3_costs_little_more_than_that_column(away):
    lake, proxy = away
    snapshot = Snapshot(lake)
    whole = sum(snapshot.table("sensor_frames").sizes.values())
    proxy.clear()
    found = snapshot.sql("SELECT drive, sum(c3), count(*) FROM sensor_frames GROUP BY drive ORDER BY drive")
    assert [(drive, n) for drive, _, n in found.fetchall()] == [("d1", WIDE_ROWS), ("d2", 10), ("d3", 10)]
    assert 0 < proxy.bytes_got("GET", "files/md5") < whole / 4
    assert not [path for path in (lake.root / "store").rglob("*") if path.is_file() and path.stat().st_size > whole / 4]


def test_a_drive_that_is_not_asked_for_is_not_opened_on_s3(away):
    lake, proxy = away
    snapshot = Snapshot(lake)
    big = snapshot.addresses(snapshot.table("sensor_frames"))["d1"].uri.rsplit("/", 1)[1]
    proxy.clear()
    assert snapshot.sql("SELECT count(*) FROM sensor_frames WHERE drive IN ('d2', 'd3')").fetchall() == [(20,)]
    assert proxy.count(path=big) == 0


def test_an_arrow_dataset_on_s3_reads_the_column_asked_for(away):
    lake, proxy = away
    dataset = Snapshot(lake).arrow("sensor_frames")
    proxy.clear()
    table = dataset.to_table(columns=["drive", "c1"], filter=ds.field("drive") == "d1")
    assert table.num_rows == WIDE_ROWS
    whole = sum(Snapshot(lake).table("sensor_frames").sizes.values())
    assert 0 < proxy.bytes_got("GET", "files/md5") < whole / 4


def test_a_query_on_s3_reads_nothing_else_of_the_bucket_and_learns_no_secret(away):
    lake, _ = away
    snapshot = Snapshot(lake)
    addresses = snapshot.addresses(snapshot.table("sensor_frames"))
    for sql in (
        f"SELECT * FROM (SELECT * FROM sensor_frames WHERE drive = 'd2'), read_parquet('{addresses['d1'].uri}')",
        f"SELECT * FROM sensor_frames, read_text('{addresses['d1'].uri.rsplit('/files', 1)[0]}/**')",
        f"COPY sensor_frames TO '{addresses['d1'].uri}'",
    ):
        with pytest.raises(InputError):
            snapshot.sql(sql).fetchall()
    told = snapshot.sql("SELECT value FROM duckdb_settings(), (SELECT count(*) FROM sensor_frames)").fetchall()
    told += snapshot.sql("SELECT secret_string FROM duckdb_secrets(), (SELECT count(*) FROM sensor_frames)").fetchall()
    assert "redacted" in str(told)
    assert "testing" not in str(told).replace("key_id=testing", "")


def test_a_lake_on_s3_without_credentials_says_so(away, monkeypatch):
    lake, _ = away
    snapshot = Snapshot(lake)
    snapshot.addresses(snapshot.table("sensor_frames"))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(Denied, match="no credentials"):
        snapshot.sql("SELECT count(*) FROM sensor_frames WHERE drive = 'd2'")


@pytest.mark.parametrize("read", [lambda s: s.sql("SELECT count(*) FROM sensor_frames"), lambda s: s.arrow("sensor_frames")])
def test_a_bucket_that_does_not_answer_is_unavailable(away, read):
    lake, proxy = away
    snapshot = Snapshot(lake)
    snapshot.addresses(snapshot.table("sensor_frames"))
    proxy.plan("503", times=math.inf, path="files/md5")
    with pytest.raises(Unavailable):
        read(snapshot)
    proxy.clear()


class Ranged(http.server.SimpleHTTPRequestHandler):
    """Files of a folder, whole or a range, as a signed address gives them."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        data = self.server.files[self.path]
        asked = self.headers.get("Range")
        first, last = (0, len(data) - 1) if asked is None else (int(n) for n in asked.removeprefix("bytes=").split("-"))
        last = min(last, len(data) - 1)
        self.send_response(200 if asked is None else 206)
        self.send_header("Content-Length", str(last - first + 1))
        self.send_header("Content-Range", f"bytes {first}-{last}/{len(data)}")
        self.send_header("Accept-Ranges", "bytes")
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data[first : last + 1])

    do_HEAD = do_GET  # noqa: N815  # the base class finds it by this name


@pytest.fixture
def signed(own, monkeypatch):
    """A lake whose tables stand at addresses with a signature."""
    for number in (1, 2):
        put_drive(own, f"d{number}", number)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Ranged)
    server.files = {}
    local = own.store.addresses

    def addresses(ref, path):
        found = {}
        for file, address in local(ref, path).items():
            at = f"/{path}/{file}?X-Signature=a%2Fb*c"
            server.files[at] = Path(address.uri).read_bytes()
            found[file] = Address(f"http://127.0.0.1:{server.server_address[1]}{at}", None)
        return found

    monkeypatch.setattr(own.store, "addresses", addresses)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield own
    server.shutdown()
    server.server_close()


def test_tables_at_signed_addresses_are_read_in_place(signed):
    assert ask(signed, "SELECT drive, min(t_ns), count(*) FROM frames GROUP BY ALL ORDER BY ALL") == [
        ("d1", 100, 3),
        ("d2", 200, 3),
    ]
    table = Snapshot(signed).arrow("sensor_frames").to_table(columns=["drive", "t_ns"]).sort_by("t_ns")
    assert table["drive"].to_pylist() == ["d1"] * 3 + ["d2"] * 3
    assert Snapshot(signed).rows(Snapshot(signed).table("frames")) == {"d1": 3, "d2": 3}


def test_a_withdrawn_drive_is_left_out_with_the_words_that_stand_for_it_and_refused_where_it_alone_is_asked_for(tmp_path):
    lake = tabled_lake(tmp_path / "lake")
    lake.store.tag("before", "main")
    withdraw(lake.store, "d1", reason="the driver asked for it", authority="privacy office, case 7")
    for ref in ("before", "main"):
        snapshot = lake.open(ref)
        assert snapshot.sql("SELECT DISTINCT drive FROM sensor_frames ORDER BY drive").fetchall() == [("d2",), ("d3",)]
        assert list(snapshot.absent) == ["sensor_frames/d1"]
        assert snapshot.absent["sensor_frames/d1"].startswith("ABSENT-AUTHORISED: ")
        assert snapshot.rows(snapshot.table("sensor_frames"))["d1"] is None
        assert "d1" not in snapshot.arrow("sensor_frames").to_table()["drive"].to_pylist()
        with pytest.raises(Withdrawn, match="privacy office, case 7"):
            snapshot.addresses(snapshot.table("sensor_frames"), ["d1"])
        assert lake.head("sensor_frames", "d1", ref).manifest.partition == "d1", "its manifest stays"


def test_a_checkout_has_the_manifest_of_what_was_withdrawn_and_the_words_that_stand_for_its_bytes(tmp_path):
    lake = tabled_lake(tmp_path / "lake")
    withdraw(lake.store, "d1", reason="the driver asked for it", authority="privacy office, case 7")
    done = checkout(lake, "main", tmp_path / "out", ["sensor_frames"])
    assert list(done.absent) == ["sensor_frames/d1"]
    assert sorted(p.name for p in (tmp_path / "out/sensor_frames/d1").iterdir()) == ["ABSENT-AUTHORISED", "manifest.json"]
    assert sorted(p.name for p in (tmp_path / "out/sensor_frames/d2").iterdir()) == ["frames.parquet", "manifest.json"]
