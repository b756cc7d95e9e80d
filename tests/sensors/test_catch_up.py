"""One pass makes everything; the next makes nothing; a change makes what depends on it."""

import shutil

import dagster as dg

from definitions import dagster_home, materialize_all
from drivelake.lake import Lake
from drivelake.logs.stages import RAW_LOGS
from drivelake.stage import stale_because


def by_status(outcomes):
    found = {}
    for o in outcomes:
        found.setdefault(o.status, []).append(f"{o.job} {o.partition}")
    return found


def test_a_second_pass_makes_nothing(chain_copy):
    assert set(by_status(materialize_all(chain_copy))) == {"current"}


def test_a_new_drive_goes_through_to_the_evidence(chain_copy, generated):
    shutil.copytree(generated / "inbox" / "signals_01", chain_copy.inbox / "signals_16")
    (chain_copy.inbox / "signals_16" / "drive.yaml").write_text("vehicle: other\ntags: {weather: rain, light: day, market: de}\n")
    made = by_status(materialize_all(chain_copy))["made"]
    assert made == ["ingest signals_16", "curate lane_keeping", "train steering", "release steering@portable"]


def test_a_changed_declaration_makes_only_what_depends_on_it(chain_copy):
    file = chain_copy.root / "lakehouse.yaml"
    file.write_text(file.read_text().replace("parity_rows: 16", "parity_rows: 8"))
    assert by_status(materialize_all(Lake(chain_copy.root)))["made"] == ["release steering@portable"]


def test_a_drive_taken_out_of_the_inbox_stays_current(chain_copy):
    shutil.rmtree(chain_copy.inbox / "signals_01")
    assert stale_because(RAW_LOGS, chain_copy, "signals_01") is None
    assert set(by_status(materialize_all(chain_copy))) == {"current"}


def test_a_changed_rig_reaches_the_frames_of_a_drive_that_is_gone_from_the_inbox(chain_copy):
    shutil.rmtree(chain_copy.inbox / "signals_01")
    raw, frames = (chain_copy.head(asset, "signals_01").digest for asset in ("raw_logs", "sensor_frames"))
    file = chain_copy.root / "lakehouse.yaml"
    file.write_text(file.read_text().replace("tolerance_ms: 60", "tolerance_ms: 50"))
    made = by_status(materialize_all(Lake(chain_copy.root), jobs=["ingest"]))["made"]
    assert "ingest signals_01" in made
    assert chain_copy.head("raw_logs", "signals_01").digest == raw
    assert chain_copy.head("sensor_frames", "signals_01").digest != frames


def test_a_drive_that_is_neither_in_the_inbox_nor_landed_is_told(chain_copy):
    [outcome] = materialize_all(chain_copy, jobs=["ingest"], drives=["nowhere_01"])
    assert (outcome.status, outcome.reason) == ("skipped", "it is not in the inbox")


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
