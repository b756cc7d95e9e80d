"""The SQL of a dataset sees the frames of all drives and nothing else on the machine."""

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from drivelake.datasets.select import DriveFrames, selection
from drivelake.declaration import Dataset
from drivelake.errors import DatasetError


def drives(folder):
    made = []
    for name, tags, extra in (("b", {"weather": "rain"}, {}), ("a", {}, {"speed_mps": [1.0, 2.0]})):
        columns = {"frame": [0, 1], "t_ns": [10, 20], "steering_rad": [0.1, -0.1], **extra}
        pq.write_table(pa.table(columns), folder / name)
        made.append(DriveFrames(name, folder / name, "car", tags))
    return made


def rows(sql, tmp_path, slices=None):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    dataset = Dataset(sql=sql, payload="camera", slices=slices or {})
    with selection(dataset, drives(tmp_path), scratch, batch_rows=100) as reader:
        return reader.read_all().to_pylist()


def test_rows_come_by_drive_and_frame_with_tags_and_absent_columns_as_null(tmp_path):
    found = rows("SELECT * FROM frames", tmp_path)
    assert [(r["drive"], r["frame"], r["weather"], r["speed_mps"]) for r in found] == [
        ("a", 0, None, 1.0), ("a", 1, None, 2.0), ("b", 0, "rain", None), ("b", 1, "rain", None),
    ]  # fmt: skip


def test_a_slice_is_an_expression_over_the_selection(tmp_path):
    found = rows(
        "SELECT * FROM frames WHERE drive = 'a'", tmp_path, {"side": "CASE WHEN steering_rad > 0 THEN 'left' ELSE 'right' END"}
    )
    assert [r["slice_side"] for r in found] == ["left", "right"]


@pytest.mark.parametrize(
    "sql",
    [
        "SELECT *, (SELECT count(*) FROM read_text('/etc/hostname')) FROM frames",
        "SELECT * FROM read_csv('/etc/passwd')",
        "SELECT * FROM frames; COPY frames TO '/tmp/stolen.csv'",
    ],
)
def test_reading_or_writing_anything_else_is_refused(sql, tmp_path):
    with pytest.raises(DatasetError, match="does not run"):
        rows(sql, tmp_path)


def test_another_drives_table_that_is_not_given_cannot_be_read(tmp_path):
    pq.write_table(pa.table({"frame": [0]}), tmp_path / "hidden")
    with pytest.raises(DatasetError, match="does not run"):
        rows(f"SELECT * FROM read_parquet('{tmp_path / 'hidden'}')", tmp_path)


def test_a_wrong_column_is_named_with_the_next_step(tmp_path):
    with pytest.raises(DatasetError, match="sped_mps") as caught:
        rows("SELECT * FROM frames WHERE sped_mps > 1", tmp_path)
    assert "lakehouse.yaml" in caught.value.next_step


def test_a_selection_without_its_keys_is_refused(tmp_path):
    with pytest.raises(DatasetError, match="lacks t_ns"):
        rows("SELECT drive, frame FROM frames", tmp_path)


def test_a_random_sample_is_the_same_every_time(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
    sql = "SELECT *, random() AS r FROM frames"
    assert rows(sql, tmp_path / "one") == rows(sql, tmp_path / "two")


def test_a_tag_named_like_a_column_is_refused(tmp_path):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    clash = [DriveFrames(d.drive, d.frames, d.vehicle, {"t_ns": "x"}) for d in drives(tmp_path)]
    with (
        pytest.raises(DatasetError, match=r"Tag\(s\) t_ns"),
        selection(Dataset(sql="SELECT * FROM frames", payload="camera"), clash, scratch, batch_rows=10),
    ):
        pass
