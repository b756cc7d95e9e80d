"""Stock DVC and git read the store, from a clone anywhere on the machine."""

import os
import subprocess
import sys

import pytest

from drivelake.versions import EmbeddedStore
from drivelake.versions.dvc.paths import place

PATH = "soc_artefacts/perception_small@orin=1"
FILES = {"model.onnx": b"weights" * 1000, "deep/er/report.json": b"{}", "empty": b""}


@pytest.fixture
def store(embedded):
    return embedded


@pytest.fixture
def run(tmp_path):
    quiet = {
        "DVC_NO_ANALYTICS": "1",
        "DVC_SITE_CACHE_DIR": str(tmp_path / "site"),
        "HOME": str(tmp_path),
        "GIT_CONFIG_NOSYSTEM": "1",
    }

    def go(*command, cwd):
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, **quiet}, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    return go


def dvc(*arguments):
    return (sys.executable, "-W", "ignore", "-m", "dvc", *arguments)


def below(folder):
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.mark.slow
def test_clone_and_pull_give_every_file_at_any_commit_and_after_the_store_moved(tmp_path, put_up, run):
    store = EmbeddedStore.create(tmp_path / 'a "lake" with #signs' / "store")
    first = put_up(PATH, FILES, manifest=b'{"n":1}', into=store)
    put_up(PATH, {"model.onnx": b"other"}, manifest=b'{"n":2}', into=store)
    clone = tmp_path / "elsewhere" / "clone"
    clone.parent.mkdir()
    run("git", "clone", "-q", str(store.root / "repo.git"), str(clone), cwd=tmp_path)
    run(*dvc("pull", "-q"), cwd=clone)
    assert below(clone / place(PATH) / "data") == {"model.onnx": b"other"}
    assert (clone / place(PATH) / "manifest.json").read_bytes() == b'{"n":2}'

    moved = store.root.rename(tmp_path / "moved")
    run("git", "checkout", "-q", first, cwd=clone)
    run(*dvc("remote", "modify", "--local", "store", "url", str(moved)), cwd=clone)
    run(*dvc("pull", "-q"), cwd=clone)
    assert below(clone / place(PATH) / "data") == FILES


@pytest.mark.slow
def test_a_store_inside_a_users_own_dvc_repository_leaves_it_alone(tmp_path, put_up, run):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    run("git", "init", "-q", cwd=theirs)
    run(*dvc("init", "-q"), cwd=theirs)
    (theirs / "mine.bin").write_bytes(b"mine")
    run(*dvc("add", "-q", "mine.bin"), cwd=theirs)
    before = below(theirs / ".dvc") | {"mine.bin.dvc": (theirs / "mine.bin.dvc").read_bytes()}
    store = EmbeddedStore.create(theirs / "lake" / "store")
    put_up(PATH, FILES, manifest=b'{"n":1}', into=store)
    assert below(theirs / ".dvc") | {"mine.bin.dvc": (theirs / "mine.bin.dvc").read_bytes()} == before
    assert "up to date" in run(*dvc("status"), cwd=theirs)
