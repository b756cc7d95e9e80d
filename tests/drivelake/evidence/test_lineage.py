"""Questions to the manifests: what is meant, what it came from, what it went into."""

import shutil

import pytest

from drivelake.errors import NotFound
from drivelake.evidence.lineage import ancestors, find_version, impact
from drivelake.manifest import ASSETS


@pytest.mark.parametrize("named", [None, "steering@portable", "soc_artefacts/steering@portable"])
def test_an_artefact_is_found_by_every_name_a_person_uses(chain, named):
    assert find_version(chain, named).name == "soc_artefacts/steering@portable"


def test_an_artefact_is_found_by_its_digest_and_by_a_copy_of_its_binary(chain, tmp_path):
    artefact = find_version(chain, None)
    assert find_version(chain, artefact.digest[:9]) == artefact
    binary = next(p for p in artefact.files if p.endswith(".onnx"))
    shutil.copy(artefact.path(binary), tmp_path / "from_the_vehicle.bin")
    assert find_version(chain, str(tmp_path / "from_the_vehicle.bin")) == artefact


def test_a_changed_binary_belongs_to_no_artefact(chain, tmp_path):
    (tmp_path / "x.bin").write_bytes(b"changed")
    with pytest.raises(NotFound, match="No artefact at main holds a file with SHA-256"):
        find_version(chain, str(tmp_path / "x.bin"))


def test_an_unknown_name_lists_what_is_there(chain):
    with pytest.raises(NotFound, match="artefacts: steering@portable"):
        find_version(chain, "steerin")


def test_the_ancestors_of_an_artefact_reach_every_drive(chain):
    found = ancestors(chain, find_version(chain, None)).values()
    drives = {v.manifest.partition for v in found if v.manifest.asset == "raw_logs"}
    assert drives == set(chain.partitions("raw_logs"))
    assert {v.manifest.asset for v in found} == set(ASSETS) - {"evidence"}


def test_the_impact_of_a_drive_reaches_the_evidence_in_the_order_the_data_flows(chain):
    affected = impact(chain, "signals_01")
    assert [a.version.asset for a in affected] == list(ASSETS)
    assert all(a.left_out is None for a in affected)


def test_a_drive_that_was_left_out_is_told_apart_from_one_that_is_contained(chain):
    affected = {a.version.asset: a for a in impact(chain, "signals_04")}
    assert "curated_datasets" in affected
    assert affected["curated_datasets"].left_out
    assert "checkpoints" not in affected


def test_a_drive_that_never_landed_is_named(chain):
    with pytest.raises(NotFound, match="No drive 'nowhere' was landed; 6 are"):
        impact(chain, "nowhere")
