"""Laws of columns that wait for each other. Belongs here: memory or files, the same rows and bytes. Never: what columns hold."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drivelake.frames import parts as module
from drivelake.frames.columns import REASON
from drivelake.frames.matching import REASONS
from drivelake.frames.parts import Parts, write_frames

GROUPS = 5
ROWS = 40


def batches(name):
    """Numbers and reasons; the first groups have none, as where every tick holds a sample."""
    for group in range(GROUPS):
        codes = pa.nulls(ROWS, pa.int8()) if group < 2 else pa.array([group, None] * (ROWS // 2), type=pa.int8())
        reasons = pa.DictionaryArray.from_arrays(codes, pa.array(REASONS))
        numbers = pa.array(range(group * ROWS, (group + 1) * ROWS), type=pa.int64())
        yield pa.record_batch([numbers, reasons], schema=pa.schema([(name, pa.int64()), (f"{name}_reason", REASON)]))


def written(folder, held_bytes, monkeypatch):
    monkeypatch.setattr(module, "HELD_BYTES", held_bytes)
    folder.mkdir()
    parts = Parts(folder)
    for name in "abc":
        parts.add(batches(name))
    schema = pa.unify_schemas([next(batches(name)).schema for name in "abc"])
    waiting = len(list(folder.iterdir()))
    write_frames(folder / "frames.parquet", schema, (pa.record_batch(columns, schema=schema) for columns in parts.joined()))
    return waiting, (folder / "frames.parquet").read_bytes()


def test_columns_that_waited_in_files_are_written_as_those_that_waited_in_memory(tmp_path, monkeypatch):
    waiting, in_memory = written(tmp_path / "memory", 1 << 20, monkeypatch)
    assert waiting == 0
    files = []
    for held in (0, 3000, 6000):
        waiting, data = written(tmp_path / str(held), held, monkeypatch)
        files.append(waiting)
        assert data == in_memory
    assert files[0] == 3
    assert files == sorted(files, reverse=True)
    assert 0 < files[-1] < 3
    found = pq.read_table(tmp_path / "memory" / "frames.parquet")
    assert found["b"].to_pylist() == list(range(GROUPS * ROWS))
    assert found["b_reason"].to_pylist()[80:82] == [REASONS[2], None]


def test_without_batches_there_is_the_schema_alone(tmp_path):
    schema = pa.schema([("a", pa.int64()), ("a_reason", REASON)])
    write_frames(tmp_path / "frames.parquet", schema, iter(()))
    assert pq.read_table(tmp_path / "frames.parquet").num_rows == 0
    assert pq.read_schema(tmp_path / "frames.parquet").equals(schema)


@pytest.mark.parametrize("ticks", [0, 1, 7, 8, 9])
def test_row_groups_cover_every_tick_once(ticks, monkeypatch):
    monkeypatch.setattr(module, "ROW_GROUP_ROWS", 4)
    assert [at for rows in module.groups(ticks) for at in range(rows.start, rows.stop)] == list(range(ticks))
