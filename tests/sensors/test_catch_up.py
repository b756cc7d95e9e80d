"""One pass makes everything; the next makes nothing; a change makes what depends on it."""

import shutil

import dagster as dg
import pytest

from definitions import dagster_home, materialize_all
from drivelake.lake import Lake


def by_status(outcomes):
    found = {}
    for o in outcomes:
        found.setdefault(o.status, []).append(f"{o.job} {o.partition}")
    return found


def test_a_second_pass_makes_nothing(chain_copy):
    assert set(by_status(materialize_all(chain_copy))) == {"current"}


def test_a_new_drive_goes_through_to_the_evidence(chain_copy, generated):
    shutil.copytree(generated / "inbox" / "signals_06", chain_copy.inbox / "signals_16") if (
        generated / "inbox" / "signals_06"
    ).is_dir() else pytest.skip("the generator gave no drive signals_06")
    (chain_copy.inbox / "signals_16" / "drive.yaml").write_text("vehicle: other\ntags: {weather: rain, light: day, market: de}\n")
    made = by_status(materialize_all(chain_copy))["made"]
    assert made == ["ingest signals_16", "curate lane_keeping", "train steering", "release steering@portable"]


def test_a_changed_declaration_makes_only_what_depends_on_it(chain_copy):
    file = chain_copy.root / "lakehouse.yaml"
    file.write_text(file.read_text().replace("parity_rows: 16", "parity_rows: 8"))
    assert by_status(materialize_all(Lake(chain_copy.root)))["made"] == ["release steering@portable"]


def test_a_closed_gate_publishes_nothing_and_says_the_number(chain_copy):
    before = chain_copy.head("soc_artefacts", "steering@portable").digest
    file = chain_copy.root / "lakehouse.yaml"
    file.write_text(file.read_text().replace("max: 10.0", "max: -1.0"))
    failed = [o for o in materialize_all(Lake(chain_copy.root)) if o.status == "failed"]
    assert [o.partition for o in failed] == ["steering@portable"]
    assert "Gate 'checkpoint' is closed" in failed[0].reason
    assert "expected at most -1" in failed[0].reason
    assert Lake(chain_copy.root).head("soc_artefacts", "steering@portable").digest == before


def test_dagster_knows_every_version_by_its_manifests_digest(chain):
    with dg.DagsterInstance.from_config(str(dagster_home(chain.root))) as instance:
        for asset in ("raw_logs", "signals", "sensor_frames", "curated_datasets", "checkpoints", "soc_artefacts", "evidence"):
            for version in chain.heads(asset):
                event = instance.fetch_materializations(
                    dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[version.manifest.partition]), limit=1
                ).records[0]
                assert event.asset_materialization.tags["dagster/data_version"] == version.digest


def test_the_ui_gets_pictures_tables_and_checks(chain):
    with dg.DagsterInstance.from_config(str(dagster_home(chain.root))) as instance:

        def metadata(asset):
            return instance.get_latest_materialization_event(dg.AssetKey(asset)).asset_materialization.metadata

        assert "data:image/jpeg;base64," in metadata("curated_datasets")["pictures"].value
        assert "data:image/svg+xml;base64," in metadata("sensor_frames")["ages"].value
        assert "| weather |" in metadata("curated_datasets")["slices x splits"].value
        assert any("svg" in str(v.value) for v in metadata("checkpoints").values())
        assert any("svg" in str(v.value) for v in metadata("soc_artefacts").values())
        assert "store/repo.git show" in metadata("raw_logs")["commit"].value
