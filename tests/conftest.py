"""What several tests share: recorded data where it is there, and one small lake with the whole chain made once."""

import os
import shutil
from pathlib import Path

import pytest

from drivelake.versions.locks import exclusive
from tests.support import small_declaration

pytest_plugins = ["tests.servers.s3"]

os.environ["DVC_NO_ANALYTICS"] = "1"
os.environ.pop("DRIVELAKE_LAKE", None)
os.environ.pop("DAGSTER_HOME", None)

REPOSITORY = Path(__file__).parents[1]
SHARED_DATA = REPOSITORY.parent / "shared" / "data"
DRIVES, SECONDS = 6, 6.0


@pytest.fixture(scope="session")
def shared_data():
    """Recorded drives and damaged files; they stand beside the repository and are never part of it."""
    if not SHARED_DATA.is_dir():
        pytest.skip("recorded data is absent: ../shared/data")
    return SHARED_DATA


def made_once(tmp_path_factory, name, make):
    """A folder that ``make(folder)`` fills once for all workers of a run; each gets a copy of its own."""
    own = tmp_path_factory.mktemp(name) / name
    if "PYTEST_XDIST_WORKER" not in os.environ:
        own.mkdir()
        make(own)
        return own
    shared = tmp_path_factory.getbasetemp().parent / name
    with exclusive(shared.with_suffix(".lock"), keep=True):
        if not shared.is_dir():
            unfinished = shared.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(shared)
    shutil.copytree(shared, own, symlinks=True)
    return own


@pytest.fixture(scope="session")
def generated(tmp_path_factory):
    """Six generated drives of six seconds, with their truth beside them; copy before you change anything."""
    from drivelake.demo import generate_drives

    def make(folder):
        generate_drives(folder / "inbox", seed=7, drives=DRIVES, seconds=SECONDS, truth_folder=folder / "truth")

    return made_once(tmp_path_factory, "generated", make)


@pytest.fixture(scope="session")
def empty(tmp_path_factory):
    """A lake with nothing in it but Dagster's home, which takes seconds to make; copy it."""
    from definitions import dagster_home
    from drivelake.lake import Lake

    lake = Lake.create(tmp_path_factory.mktemp("empty") / "lake", small_declaration())
    dagster_home(lake.root)
    return lake.root


@pytest.fixture(scope="session")
def chain(generated, tmp_path_factory):
    """A lake in which everything is made, through Dagster: read only, see ``chain_copy``."""
    from drivelake.lake import Lake

    def make(folder):
        from definitions import materialize_all

        lake = Lake.create(folder / "lake", small_declaration())
        shutil.copytree(generated / "inbox", lake.inbox, dirs_exist_ok=True)
        outcomes = materialize_all(lake)
        assert [o for o in outcomes if o.status == "failed"] == []

    return Lake(made_once(tmp_path_factory, "chain", make) / "lake")


@pytest.fixture
def chain_copy(chain, tmp_path):
    """The same lake as bytes of its own, to be damaged."""
    from drivelake.lake import Lake

    shutil.copytree(chain.root, tmp_path / "lake", symlinks=True)
    return Lake(tmp_path / "lake")


def pytest_collection_modifyitems(items):
    """What takes longest begins first: at the end it would keep one worker busy and the other waiting."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)
