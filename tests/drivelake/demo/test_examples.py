from pathlib import Path

import pytest

from drivelake.datasets.split import SPLITS, split_of
from drivelake.declaration import load_declaration
from drivelake.demo import example
from drivelake.demo.drives import DAMAGED, Plan

RECORDED = Path(__file__).parents[3].parent / "shared" / "data" / "drives_donkeycar"


@pytest.fixture(params=["generated", "donkeycar"])
def declaration(request, tmp_path):
    path = tmp_path / "lakehouse.yaml"
    path.write_text(example(request.param), encoding="utf-8")
    return load_declaration(path)


def test_an_example_loads_and_its_targets_are_sensors(declaration):
    for model in declaration.models.values():
        for rig in declaration.rigs.values():
            assert set(model.targets) <= set(rig.sensors)
    assert declaration.gates.checkpoint
    assert declaration.gates.artefact
    assert {target.kind for target in declaration.targets.values()} == {"portable", "snapdragon"}


def test_every_split_holds_every_weather_light_and_market_even_without_the_damaged_drive(tmp_path):
    (tmp_path / "lakehouse.yaml").write_text(example("generated"), encoding="utf-8")
    split = load_declaration(tmp_path / "lakehouse.yaml").datasets["lane_keeping"].split
    seen = {name: [set(), set(), set()] for name in SPLITS}
    for plan in (Plan(7, index, 40.0) for index in range(10) if index != DAMAGED):
        for values, value in zip(seen[split_of(plan.name, split)], plan.tags, strict=True):
            values.add(value)
    assert all(len(values) == 3 for by_tag in seen.values() for values in by_tag)


def test_both_rigs_of_the_generated_drives_have_the_same_sensors(tmp_path):
    (tmp_path / "lakehouse.yaml").write_text(example("generated"), encoding="utf-8")
    declaration = load_declaration(tmp_path / "lakehouse.yaml")
    signals, bus = declaration.rig_of("signals_01")[1], declaration.rig_of("bus_02")[1]
    assert list(signals.sensors) == list(bus.sensors)
    assert [s.unit for s in signals.sensors.values()] == [s.unit for s in bus.sensors.values()]


def test_the_recorded_drives_hold_what_their_declaration_names(tmp_path):
    if not RECORDED.is_dir():
        pytest.skip("recorded data is absent: drives_donkeycar")
    from asammdf import MDF
    from mcap.reader import make_reader

    (tmp_path / "lakehouse.yaml").write_text(example("donkeycar"), encoding="utf-8")
    declaration = load_declaration(tmp_path / "lakehouse.yaml")
    drives = sorted(RECORDED.iterdir())
    counts = [split_of(drive.name, declaration.datasets["track"].split) for drive in drives if drive.name != "drive_31"]
    assert {name: counts.count(name) for name in SPLITS} == {"train": 12, "validation": 3, "test": 4}
    sensors = declaration.rig_of(drives[0].name)[1].sensors
    with MDF(drives[0] / "control.mf4") as log:
        assert {sensors["steering_norm"].channel, sensors["throttle_norm"].channel} <= set(log.channels_db)
    with (drives[0] / "camera.mcap").open("rb") as stream:
        topics = {channel.topic for channel in make_reader(stream).get_summary().channels.values()}
    assert topics == {sensors["camera_front"].channel}
