"""What the UI shows of a version: its digest as Dagster's data version, and its commit where the store has a page for it."""

import shutil

import dagster as dg
import pytest
import yaml

from definitions import dagster_home, materialize_all
from drivelake.evidence.verify import verify
from drivelake.lake import Lake
from tests.servers.lakefs.fixtures import lakefs_server
from tests.support import small_declaration

DRIVE = "signals_01"


@pytest.fixture
def shared(tmp_path, generated, monkeypatch):
    """A lake on lakeFS with one drive in its inbox."""
    with lakefs_server("local") as server:
        for name, value in server.environment.items():
            monkeypatch.setenv(name, value)
        store = {"kind": "lakefs", "url": server.endpoint, "repository": server.repository()}
        lake = Lake.create(tmp_path / "lake", small_declaration() + yaml.safe_dump({"store": store}))
        shutil.copytree(generated / "inbox" / DRIVE, lake.inbox / DRIVE)
        yield lake


def shown(lake, asset):
    """Metadata and data version of an asset's newest materialization."""
    with dg.DagsterInstance.from_config(str(dagster_home(lake.root))) as instance:
        event = instance.get_latest_materialization_event(dg.AssetKey(asset))
    return event.asset_materialization.metadata, event.asset_materialization.tags["dagster/data_version"]


def test_a_run_on_lakefs_publishes_verifies_and_links_to_the_page_of_its_commit(shared):
    outcomes = materialize_all(shared, jobs=("ingest",))
    assert [outcome.status for outcome in outcomes] == ["made"]
    declared = shared.declaration.store
    for asset in ("raw_logs", "signals", "sensor_frames"):
        metadata, version = shown(shared, asset)
        head = shared.head(asset, DRIVE)
        assert version == head.digest
        assert metadata["commit"].value.startswith(f"{declared.url}/repositories/{declared.repository}/commits/")
    made = next(shared.store.history("main", f"sensor_frames/{DRIVE}"))
    assert metadata["commit"].value.endswith(f"/{made.commit}")
    assert made.metadata["Drivelake-Version"] == f"sensor_frames/{DRIVE} {version}"
    assert len(made.metadata["Drivelake-Code"]) == 64
    assert verify(shared, shared.head("sensor_frames", DRIVE), scope="main").problems == []
    assert materialize_all(shared, jobs=("ingest",))[0].status == "current"


def test_a_store_without_pages_shows_the_command_that_shows_the_commit(chain):
    metadata, _ = shown(chain, "raw_logs")
    assert "git --git-dir" in metadata["commit"].value
