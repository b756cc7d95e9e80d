"""Questions to the manifests: what is meant, what it came from, what it went into."""

import shutil

import pytest

from compile.stage import SOC_ARTEFACTS
from drivelake.datasets.stage import CURATED_DATASETS
from drivelake.errors import NotFound
from drivelake.evidence.lineage import ancestors, find_version, impact
from drivelake.evidence.notary import LakeNotary
from drivelake.evidence.verify import verify
from drivelake.frames.stage import SENSOR_FRAMES
from drivelake.lake import Lake
from drivelake.logs.stages import RAW_LOGS, SIGNALS
from drivelake.manifest import ASSETS
from drivelake.stage import materialise

# the generated rigs name no calibration
UNCALIBRATED = [asset for asset in ASSETS if asset != "calibrations"]


@pytest.mark.parametrize("named", [None, "steering@portable", "soc_artefacts/steering@portable"])
def test_an_artefact_is_found_by_every_name_a_person_uses(chain, named):
    assert find_version(chain, named).name == "soc_artefacts/steering@portable"


def test_an_artefact_is_found_by_its_digest_and_by_a_copy_of_its_binary(chain, tmp_path):
    artefact = find_version(chain, None)
    assert find_version(chain, artefact.digest[:9]).digest == artefact.digest
    binary = next(p for p in artefact.files if p.endswith(".onnx"))
    shutil.copy(artefact.path(binary), tmp_path / "from_the_vehicle.bin")
    assert find_version(chain, str(tmp_path / "from_the_vehicle.bin")).digest == artefact.digest


def test_a_changed_binary_belongs_to_no_artefact(chain, tmp_path):
    (tmp_path / "x.bin").write_bytes(b"changed")
    with pytest.raises(NotFound, match="No artefact ever published here holds a file"):
        find_version(chain, str(tmp_path / "x.bin"))


def test_an_unknown_name_lists_what_is_there(chain):
    with pytest.raises(NotFound, match="artefacts at main: steering@portable"):
        find_version(chain, "steerin")


def test_the_ancestors_of_an_artefact_reach_every_drive(chain):
    found = ancestors(chain, find_version(chain, None)).values()
    drives = {v.manifest.partition for v in found if v.manifest.asset == "raw_logs"}
    assert drives == set(chain.partitions("raw_logs"))
    assert {v.manifest.asset for v in found} == set(UNCALIBRATED) - {"evidence"}


def test_the_impact_of_a_drive_reaches_the_evidence_in_the_order_the_data_flows(chain):
    affected = impact(chain, "signals_01")
    assert [a.version.asset for a in affected] == UNCALIBRATED
    assert all(a.left_out is None for a in affected)


def test_a_drive_that_was_left_out_is_told_apart_from_one_that_is_contained(chain):
    affected = {a.version.asset: a for a in impact(chain, "signals_04")}
    assert "curated_datasets" in affected
    assert affected["curated_datasets"].left_out
    assert "checkpoints" not in affected


def test_a_drive_that_never_landed_is_named(chain):
    with pytest.raises(NotFound, match="No drive 'nowhere' was landed; 6 are"):
        impact(chain, "nowhere")


@pytest.fixture
def replaced(chain_copy, generated):
    """A lake in which a drive's log was replaced, and nothing after its frames was made again."""
    shutil.copy(generated / "inbox" / "signals_03" / "can.mf4", chain_copy.inbox / "signals_01" / "can.mf4")
    for stage in (RAW_LOGS, SIGNALS, SENSOR_FRAMES):
        materialise(stage, chain_copy, "signals_01", LakeNotary(chain_copy))
    return Lake(chain_copy.root)


def test_the_impact_of_a_replaced_drive_still_reaches_what_holds_its_old_version(replaced):
    assert [a.version.asset for a in impact(replaced, "signals_01")] == UNCALIBRATED


def test_the_impact_survives_a_dataset_made_again(replaced):
    materialise(CURATED_DATASETS, replaced, "lane_keeping", LakeNotary(replaced))
    assert [a.version.asset for a in impact(Lake(replaced.root), "signals_01")] == UNCALIBRATED


def test_a_binary_in_a_vehicle_is_found_after_a_newer_one_was_released(chain_copy, tmp_path):
    old = find_version(chain_copy, None)
    shutil.copy(old.path("model.onnx"), tmp_path / "vehicle.bin")
    file = chain_copy.root / "lakehouse.yaml"
    file.write_text(file.read_text().replace("parity_rows: 16", "parity_rows: 8"))
    lake = Lake(chain_copy.root)
    materialise(SOC_ARTEFACTS, lake, "steering@portable", LakeNotary(lake))
    assert find_version(lake, None).digest != old.digest
    assert find_version(lake, old.digest[:12]).digest == old.digest
    holder = find_version(lake, str(tmp_path / "vehicle.bin"))
    assert "model.onnx" in holder.files
    assert verify(lake, holder).verified
