"""What a code location shows, and that many processes may open its Dagster home at once."""

import subprocess
import sys
from pathlib import Path

import pytest

from definitions import _load
from drivelake.errors import DeclarationError
from drivelake.lake import Lake
from tests.support import small_declaration

REPOSITORY = Path(__file__).parents[1]
OPEN = """
import sys
from pathlib import Path
import dagster as dg
from definitions import dagster_home
print("ready", flush=True)
sys.stdin.readline()
with dg.DagsterInstance.from_config(str(dagster_home(Path(sys.argv[1])))) as instance:
    print(instance.get_runs_count(), flush=True)
"""


def test_two_processes_may_open_a_fresh_home_at_once(tmp_path):
    command = [sys.executable, "-c", OPEN, str(tmp_path)]
    pipe = subprocess.PIPE
    both = [
        subprocess.Popen(command, cwd=REPOSITORY, stdin=pipe, stdout=pipe, stderr=pipe, text=True),
        subprocess.Popen(command, cwd=REPOSITORY, stdin=pipe, stdout=pipe, stderr=pipe, text=True),
    ]
    for process in both:
        assert process.stdout.readline() == "ready\n"
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        said, complained = process.communicate(timeout=60)
        assert (said, process.returncode) == ("0\n", 0), complained


def test_a_folder_without_a_lake_shows_the_graph_of_the_example(tmp_path, monkeypatch):
    monkeypatch.setenv("DRIVELAKE_LAKE", str(tmp_path / "nothing"))
    assert "lane_keeping" in _load().resolve_assets_def("curated_datasets").partitions_def.get_partition_keys()


def test_a_lake_shows_its_own_declaration(tmp_path, monkeypatch):
    Lake.create(tmp_path / "lake", small_declaration().replace("lane_keeping", "other_rows"))
    monkeypatch.setenv("DRIVELAKE_LAKE", str(tmp_path / "lake"))
    assert _load().resolve_assets_def("curated_datasets").partitions_def.get_partition_keys() == ["other_rows"]


def test_a_declaration_that_is_there_and_wrong_is_an_error_and_never_the_example(tmp_path, monkeypatch):
    (tmp_path / "lakehouse.yaml").write_text("lakehouse: demo\n")
    monkeypatch.setenv("DRIVELAKE_LAKE", str(tmp_path))
    with pytest.raises(DeclarationError):
        _load()
