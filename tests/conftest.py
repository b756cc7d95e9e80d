"""What several tests share: recorded data where it is there, and one small lake with the whole chain made once."""

import os
import shutil
from pathlib import Path

import pytest

from tests.support import small_declaration

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


@pytest.fixture(scope="session")
def generated(tmp_path_factory):
    """Six generated drives of six seconds, with their truth beside them; copy before you change anything."""
    from drivelake.demo import generate_drives

    folder = tmp_path_factory.mktemp("generated")
    generate_drives(folder / "inbox", seed=7, drives=DRIVES, seconds=SECONDS, truth_folder=folder / "truth")
    return folder


@pytest.fixture(scope="session")
def chain(generated, tmp_path_factory):
    """A lake in which everything is made, through Dagster: read only, see ``chain_copy``."""
    from definitions import materialize_all
    from drivelake.lake import Lake

    root = tmp_path_factory.mktemp("chain") / "lake"
    lake = Lake.create(root, small_declaration())
    shutil.copytree(generated / "inbox", lake.inbox, dirs_exist_ok=True)
    outcomes = materialize_all(lake)
    assert [o for o in outcomes if o.status == "failed"] == []
    return Lake(root)


@pytest.fixture
def chain_copy(chain, tmp_path):
    """The same lake as bytes of its own, to be damaged."""
    from drivelake.lake import Lake

    shutil.copytree(chain.root, tmp_path / "lake", symlinks=True)
    return Lake(tmp_path / "lake")
