"""One log as Parquet: every value back as it was read, in row groups of a bounded size, through few open files."""

import resource

import duckdb
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from asammdf import Signal

from drivelake.logs import LogBatch, read_log, tables
from drivelake.logs.tables import write_tables
from tests.drivelake.logs.making import drive_mcap, write_mdf

KINDS = {
    "t_ns": pa.int64(),
    "flag": pa.bool_(),
    "u1": pa.uint8(),
    "i2": pa.int16(),
    "u4": pa.uint32(),
    "u8": pa.uint64(),
    "i8": pa.int64(),
    "half": pa.float16(),
    "single": pa.float32(),
    "double": pa.float64(),
    "word": pa.string(),
    "raw": pa.binary(),
    "list": pa.list_(pa.int16()),
    "texts": pa.list_(pa.string()),
    "matrix": pa.list_(pa.float64(), 3),
    "deep": pa.list_(pa.list_(pa.float32(), 2)),
}


def every_kind(rows, seed=0):
    """A batch with a column of each type that a reader gives, nulls included."""
    rng = np.random.default_rng(seed)
    values = {
        "t_ns": np.arange(rows) + 1,
        "flag": rng.random(rows) > 0.5,
        "u1": rng.integers(0, 1 << 8, rows, np.uint8),
        "i2": rng.integers(-(1 << 15), 1 << 15, rows, np.int16),
        "u4": rng.integers(0, 1 << 32, rows, np.uint32),
        "u8": rng.integers(0, 1 << 64, rows, np.uint64),
        "i8": rng.integers(-(1 << 63), 1 << 63, rows, np.int64),
        **{name: rng.normal(size=rows) for name in ("half", "single", "double")},
    }
    values["half"] = values["half"].astype(np.float16)
    columns = {
        name: pa.array(array, KINDS[name], mask=(rng.random(rows) < 0.1) & (name != "t_ns")) for name, array in values.items()
    }
    columns["word"] = pa.array([f"w{i % 5}" if i % 7 else None for i in range(rows)])
    columns["raw"] = pa.array([bytes([i % 256]) for i in range(rows)])
    columns["list"] = pa.array([[i % 100] * (i % 4) for i in range(rows)], KINDS["list"])
    columns["texts"] = pa.array([["a", str(i)] if i % 3 else None for i in range(rows)])
    columns["matrix"] = pa.array([[float(i), 0.5, -1.0] for i in range(rows)], KINDS["matrix"])
    columns["deep"] = pa.array([[[float(i), 2.0]] * (i % 3) for i in range(rows)], KINDS["deep"])
    schema = pa.schema([pa.field(name, kind, metadata={"unit": "m/s"}) for name, kind in KINDS.items()])
    return pa.record_batch([columns[name] for name in KINDS], schema)


def give(monkeypatch, batches):
    """A log that is read as these batches."""
    monkeypatch.setattr(tables, "read_log", lambda path, **more: iter(batches))


def groups(file):
    metadata = pq.read_metadata(file)
    return [metadata.row_group(i).num_rows for i in range(metadata.num_row_groups)]


def test_every_type_comes_back_as_it_was_read(tmp_path, monkeypatch):
    batches = [LogBatch("c", "t", every_kind(rows, rows)) for rows in (40, 1, 300)]
    give(monkeypatch, batches)
    (entry,) = write_tables("a.mf4", tmp_path / "a.mf4", tmp_path)["tables"]
    read = pq.read_table(tmp_path / entry["table"])
    assert read.equals(pa.Table.from_batches([batch.batch for batch in batches]))
    assert read.schema.equals(batches[0].batch.schema, check_metadata=True)
    assert groups(tmp_path / entry["table"]) == [341]


@pytest.mark.parametrize("kind", [pa.struct([]), pa.list_(pa.struct([]), 3), pa.struct([("inner", pa.list_(pa.struct([])))])])
def test_a_column_without_members_costs_only_itself_and_is_told(tmp_path, monkeypatch, kind):
    whole = every_kind(3)
    give(monkeypatch, [LogBatch("c", "t", whole.append_column(pa.field("bare", kind), pa.nulls(3, kind)))])
    written = write_tables("a.mf4", tmp_path / "a.mf4", tmp_path)
    (entry,) = written["tables"]
    assert pq.read_table(tmp_path / entry["table"]).equals(pa.Table.from_batches([whole]))
    assert [told["channel"] for told in written["unsupported"]] == ["c.bare"]


def test_another_tool_reads_the_same_numbers(tmp_path, monkeypatch):
    batch = every_kind(500)
    give(monkeypatch, [LogBatch("c", "t", batch)])
    (entry,) = write_tables("a.mf4", tmp_path / "a.mf4", tmp_path)["tables"]
    names = ["t_ns", "flag", "u1", "i2", "u4", "u8", "i8", "single", "double", "word"]
    found = duckdb.read_parquet(str(tmp_path / entry["table"])).select(", ".join(names)).fetchall()
    assert found == list(zip(*(batch.column(name).to_pylist() for name in names), strict=True))


@pytest.mark.parametrize(
    ("bound", "value", "expected"),
    [("GROUP_ROWS", 100, [120, 120, 60]), ("GROUP_BYTES", 1 << 14, [180, 120]), ("PENDING_BYTES", 1, [60] * 5)],
)
def test_row_groups_end_at_a_number_of_rows_or_bytes(tmp_path, monkeypatch, bound, value, expected):
    monkeypatch.setattr(tables, bound, value)
    give(monkeypatch, [LogBatch("c", "t", every_kind(60, i)) for i in range(5)])
    (entry,) = write_tables("a.mf4", tmp_path / "a.mf4", tmp_path)["tables"]
    assert groups(tmp_path / entry["table"]) == expected
    assert entry["rows"] == 300


def test_the_largest_table_makes_room_when_all_together_hold_too_much(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "PENDING_BYTES", 80_000)
    small, large = every_kind(10), every_kind(400)
    give(monkeypatch, [LogBatch("small", "t", small), *[LogBatch("large", "t", large)] * 3, LogBatch("small", "t", small)])
    written = write_tables("a.mf4", tmp_path / "a.mf4", tmp_path)["tables"]
    found = {entry["channel"]: groups(tmp_path / entry["table"]) for entry in written}
    assert found["small"] == [20]
    assert sum(found["large"]) == 1200
    assert len(found["large"]) > 1


def test_a_table_without_rows_is_a_file_with_columns(tmp_path):
    log = tmp_path / "a.mcap"
    log.write_bytes(drive_mcap())
    entries = {entry["channel"]: entry for entry in write_tables("a.mcap", log, tmp_path / "out")["tables"]}
    silent, imu = (pq.read_table(tmp_path / "out" / entries[name]["table"]) for name in ("/silent", "/imu"))
    assert (silent.num_rows, silent.schema) == (0, imu.schema)


def test_tables_hold_what_reading_the_log_gives(tmp_path):
    log = tmp_path / "a.mcap"
    log.write_bytes(drive_mcap())
    given = {}
    for batch in read_log(log):
        given.setdefault(batch.channel, []).append(batch.batch)
    for entry in write_tables("a.mcap", log, tmp_path / "out", threads=2)["tables"]:
        assert pq.read_table(tmp_path / "out" / entry["table"]).equals(pa.Table.from_batches(given[entry["channel"]]))


def test_a_log_of_many_groups_holds_few_files_open(tmp_path):
    log = write_mdf(tmp_path / "many.mf4", [(f"g{i}", [Signal(np.zeros(2), np.arange(2.0), name="x")]) for i in range(120)])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (80, hard))
    try:
        written = write_tables("many.mf4", log, tmp_path / "out")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert len(written["tables"]) == 120


def test_a_channel_that_gave_no_table_was_not_read_unless_its_frames_became_others(tmp_path, monkeypatch):
    def read(path, *, findings, leftovers, **more):
        for name in ("silent", "can", "odd"):
            findings.promise(name, 10)
        findings.damaged("cut", channel="can", lost=3)
        findings.damaged("gone", channel="silent", lost=10)
        leftovers.unsupported["odd"] = "no reader"
        return iter([LogBatch("Motion", "can.message", pa.record_batch({"t_ns": np.arange(7)}))])

    monkeypatch.setattr(tables, "read_log", read)
    with_databases = write_tables("a.mf4", tmp_path / "a.mf4", tmp_path, databases=[tmp_path / "car.dbc"])
    found = {c["channel"]: (c["recovered"], c["lost"]) for c in with_databases["channels"]}
    assert found == {"silent": (0, 10), "can": (7, 3), "odd": (10, 0), "Motion": (7, 0)}
    without = {c["channel"]: c["recovered"] for c in write_tables("a.mf4", tmp_path / "a.mf4", tmp_path)["channels"]}
    assert without == {"silent": 0, "can": 0, "odd": 10, "Motion": 7}
