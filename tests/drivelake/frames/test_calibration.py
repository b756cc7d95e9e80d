"""A calibration is an input: a changed file makes the frames of its rig's drives stale, and impact names them."""

import json

import pytest
import yaml

from definitions import build_defs, materialize_all
from drivelake.declaration import parse_declaration
from drivelake.errors import DeclarationError, NotFound
from drivelake.evidence.lineage import ancestors, find_version, impact
from drivelake.evidence.notary import LakeNotary
from drivelake.evidence.verify import verify
from drivelake.frames.calibration import CALIBRATIONS, FILE, transforms_of
from drivelake.frames.report import SyncReport
from drivelake.frames.stage import SENSOR_FRAMES
from drivelake.lake import Lake
from drivelake.stage import materialise, stale_because
from tests.support import small_declaration

RIG, DRIVE, OTHER = "signals_rig", "signals_01", "bus_02"
TEXT = """\
frames:
  vehicle: {}
  camera_front:
    parent: vehicle
    translation_m: [1.9, 0.0, 1.4]
    rotation_xyzw: [-0.5, 0.5, -0.5, 0.5]
    source: checkerboard
    date: 2026-03-14
"""


def declare(lake, change):
    file = lake.root / "lakehouse.yaml"
    declared = json.loads(json.dumps(yaml.safe_load(file.read_text())))  # rigs share parts in the file, here they do not
    change(declared)
    file.write_text(yaml.safe_dump(declared, sort_keys=False))
    return Lake(lake.root)


def name_calibration(declared):
    declared["rigs"][RIG]["calibration"] = "calibration.yaml"
    payload = next(s for s in declared["rigs"][RIG]["sensors"].values() if s.get("kind") == "payload")
    payload["frame"] = "camera_front"


@pytest.fixture
def calibrated(chain_copy):
    """A lake in which everything is made, and one rig has just been given a calibration."""
    (chain_copy.root / "calibration.yaml").write_text(TEXT)
    return declare(chain_copy, name_calibration)


def make(stage, lake, partition):
    return materialise(stage, lake, partition, LakeNotary(lake)).version


def test_a_rig_without_a_calibration_has_no_such_input(chain):
    assert [i.asset for i in chain.head("sensor_frames", DRIVE).manifest.inputs] == ["signals"]
    assert chain.partitions("calibrations") == []
    with pytest.raises(NotFound, match="names no calibration"):
        CALIBRATIONS.recipe(chain, RIG)


def test_frames_wait_for_the_calibration_and_stand_on_it(calibrated):
    assert stale_because(SENSOR_FRAMES, calibrated, DRIVE) == f"an input is missing: calibrations/{RIG} is not made yet."
    published = make(CALIBRATIONS, calibrated, RIG)
    assert published.path(FILE).read_text() == TEXT
    assert transforms_of(published).between("camera_front", "vehicle")[0, 3] == 1.9
    frames = make(SENSOR_FRAMES, calibrated, DRIVE)
    assert published.as_input() in frames.manifest.inputs
    assert stale_because(SENSOR_FRAMES, calibrated, DRIVE) is None
    assert stale_because(CALIBRATIONS, calibrated, RIG) is None


def test_a_changed_file_makes_the_frames_of_its_rig_stale_and_no_others(calibrated):
    first = make(CALIBRATIONS, calibrated, RIG)
    make(SENSOR_FRAMES, calibrated, DRIVE)
    (calibrated.root / "calibration.yaml").write_text(TEXT.replace("1.4]", "1.5]"))
    assert stale_because(CALIBRATIONS, calibrated, RIG) == "the declaration changed: sha256"
    second = make(CALIBRATIONS, calibrated, RIG)
    assert second.digest != first.digest
    assert stale_because(SENSOR_FRAMES, calibrated, DRIVE) == f"1 input(s) changed: calibrations/{RIG}"
    assert stale_because(SENSOR_FRAMES, calibrated, OTHER) is None


def test_the_same_file_gives_the_same_version(calibrated):
    first = make(CALIBRATIONS, calibrated, RIG)
    assert make(CALIBRATIONS, calibrated, RIG).digest == first.digest


def test_impact_names_what_a_calibration_went_into_also_after_it_changed(calibrated):
    make(CALIBRATIONS, calibrated, RIG)
    frames = make(SENSOR_FRAMES, calibrated, DRIVE)
    (calibrated.root / "calibration.yaml").write_text(TEXT.replace("1.4]", "1.5]"))
    newest = make(CALIBRATIONS, calibrated, RIG)
    affected = impact(Lake(calibrated.root), f"calibrations/{RIG}")
    assert [a.version for a in affected] == [newest.as_input(), frames.as_input()]
    assert "calibrations" not in {a.version.asset for a in impact(Lake(calibrated.root), DRIVE)}
    with pytest.raises(NotFound, match="No calibration of a rig 'nowhere' was published; 1 are: signals_rig"):
        impact(calibrated, "calibrations/nowhere")


def test_one_pass_through_dagster_makes_the_calibration_first_and_all_of_it_verifies(calibrated):
    outcomes = materialize_all(calibrated)
    assert [o for o in outcomes if o.status == "failed"] == []
    assert (outcomes[0].job, outcomes[0].partition, outcomes[0].status) == ("calibrate", RIG, "made")
    lake = Lake(calibrated.root)
    artefact = find_version(lake, None)
    assert f"calibrations/{RIG}" in {version.name for version in ancestors(lake, artefact).values()}
    assert verify(lake, artefact).verified
    reached = [a.version.asset for a in impact(lake, f"calibrations/{RIG}")]
    assert reached[0] == "calibrations"
    assert {"sensor_frames", "curated_datasets", "checkpoints", "soc_artefacts", "evidence"} <= set(reached)
    assert "signals" not in reached
    summary = json.loads(lake.heads("evidence")[0].path("summary.json").read_bytes())
    assert "calibrations" in json.dumps(summary)
    assert {o.status for o in materialize_all(lake)} == {"current"}


def test_a_file_that_is_no_calibration_is_refused_and_nothing_is_published(calibrated):
    (calibrated.root / "calibration.yaml").write_text(TEXT.replace("-0.5, 0.5]", "0.5, 0.6]"))
    with pytest.raises(DeclarationError, match=r"calibration\.yaml: frames\.camera_front: rotation_xyzw has length"):
        make(CALIBRATIONS, calibrated, RIG)
    assert calibrated.partitions("calibrations") == []


def test_a_file_that_is_absent_or_outside_of_the_lake_is_named(calibrated):
    (calibrated.root / "calibration.yaml").unlink()
    with pytest.raises(NotFound, match=r"names the calibration calibration\.yaml, and there is no such file"):
        CALIBRATIONS.recipe(calibrated, RIG)
    outside = declare(calibrated, lambda d: d["rigs"][RIG].update(calibration="../calibration.yaml"))
    with pytest.raises(DeclarationError, match="leads out of the lake"):
        CALIBRATIONS.recipe(outside, RIG)


def test_a_sensor_with_a_frame_needs_a_calibration():
    declared = yaml.safe_load(small_declaration())
    next(iter(declared["rigs"][RIG]["sensors"].values()))["frame"] = "camera_front"
    with pytest.raises(DeclarationError, match="the rig names no calibration"):
        parse_declaration(yaml.safe_dump(declared))


def test_a_table_of_offsets_is_part_of_the_recipe_and_counts_for_its_drive_alone(chain_copy):
    def offsets(declared):
        clocks = declared["rigs"][RIG]["clocks"]
        next(iter(clocks.values())).update(offsets="offsets.csv")

    table = chain_copy.root / "offsets.csv"
    table.write_text(f"drive,from_ns,offset_ns,drift_ppm\n{DRIVE},,1000000,\n")
    lake = declare(chain_copy, offsets)
    other = SENSOR_FRAMES.recipe(lake, "signals_03").parameters
    before = SENSOR_FRAMES.recipe(lake, DRIVE).parameters
    assert before["offsets"] != {}
    assert "offsets" not in other
    table.write_text(f"drive,from_ns,offset_ns,drift_ppm\n{DRIVE},,1000001,\n")
    assert SENSOR_FRAMES.recipe(lake, DRIVE).parameters != before
    assert SENSOR_FRAMES.recipe(lake, "signals_03").parameters == other


def test_frames_are_made_with_the_offsets_that_their_recipe_names(chain_copy, tmp_path):
    table = chain_copy.root / "offsets.csv"
    table.write_text(f"drive,from_ns,offset_ns,drift_ppm\n{DRIVE},1700000000000000001,1000000,2.5\n")
    lake = declare(chain_copy, lambda declared: declared["rigs"][RIG]["clocks"]["can"].update(offsets="offsets.csv"))
    recipe = SENSOR_FRAMES.recipe(lake, DRIVE)
    table.unlink()
    SENSOR_FRAMES.make(lake, DRIVE, recipe, tmp_path, lambda _: None)
    (segment,) = SyncReport.model_validate_json((tmp_path / "sync.json").read_bytes()).clocks["can"].segments
    assert (segment.method, segment.offset_ns, segment.drift_ppm) == ("declared", 1_000_000, 2.5)
    assert segment.epoch_ns == 1_700_000_000_000_000_001


def test_the_graph_shows_calibrations_before_frames_for_rigs_that_name_one(calibrated):
    assets = build_defs(calibrated.declaration, calibrated.root)
    assert assets.resolve_assets_def("calibrations").partitions_def.get_partition_keys() == [RIG]
    upstream = assets.resolve_assets_def("sensor_frames").asset_deps
    assert {key.to_user_string() for keys in upstream.values() for key in keys} == {"signals", "calibrations"}
