"""Landing and reading a drive: what arrives is kept, what is damaged is told, and nothing is touched when it cannot be used."""

import json
import os
import re
import shutil
from pathlib import Path

import pytest
import yaml

from drivelake import hashing
from drivelake.errors import EmptyDrive, InputError, LogDamaged, MissingChannel, NotFound
from drivelake.evidence.notary import LakeNotary, establish_trust
from drivelake.frames.stage import SENSOR_FRAMES
from drivelake.lake import Lake
from drivelake.logs.stages import RAW_LOGS, SIGNALS
from drivelake.manifest import hash_file
from drivelake.references import stands_at
from drivelake.stage import materialise, stale_because
from tests.drivelake.logs.making import rechunk
from tests.support import small_declaration


@pytest.fixture
def lake(tmp_path):
    made = Lake.create(tmp_path / "lake", small_declaration())
    establish_trust(made)
    return made


def arrive(lake, source, name):
    shutil.copytree(source, lake.inbox / name)
    return lake.inbox / name


def make(lake, drive, *stages):
    notary = LakeNotary(lake)
    return [materialise(stage, lake, drive, notary).version for stage in stages or (RAW_LOGS, SIGNALS, SENSOR_FRAMES)]


@pytest.fixture(scope="module")
def once(generated, tmp_path_factory):
    """A lake with one sound drive, its tables and its frames; read only."""
    lake = Lake.create(tmp_path_factory.mktemp("once") / "lake", small_declaration())
    establish_trust(lake)
    arrive(lake, generated / "inbox" / "signals_01", "signals_01")
    make(lake, "signals_01")
    return lake


@pytest.fixture
def landed(once, tmp_path):
    """The same lake, to be changed."""
    shutil.copytree(once.root, tmp_path / "lake", symlinks=True)
    return Lake(tmp_path / "lake")


def test_what_landed_is_what_arrived_and_its_digests_are_signed_for(once, generated):
    raw = once.head("raw_logs", "signals_01")
    there = {e.path: (e.bytes, e.sha256) for e in raw.manifest.files if e.path.startswith("logs/")}
    assert there == {f"logs/{p.name}": hash_file(p) for p in (generated / "inbox" / "signals_01").iterdir()}


def test_the_tags_of_a_drive_are_facts_of_its_version(once, generated):
    sidecar = yaml.safe_load((generated / "inbox" / "signals_01" / "drive.yaml").read_text())
    assert once.head("raw_logs", "signals_01").manifest.facts["tags"] == sidecar["tags"]


def test_the_sound_part_of_a_damaged_log_is_used_and_the_damage_is_told_everywhere(lake, generated):
    folder = arrive(lake, generated / "inbox" / "signals_01", "signals_01")
    rechunk(folder / "camera.mcap")
    os.truncate(folder / "camera.mcap", (folder / "camera.mcap").stat().st_size * 6 // 10)
    raw, signals, frames = make(lake, "signals_01")
    assert (raw.manifest.facts["quarantined"], list(raw.manifest.facts["salvaged"])) == ({}, ["camera.mcap"])
    health = json.loads(raw.path("health.json").read_bytes())
    report = health["logs"]["camera.mcap"]
    assert (report["verdict"], report["damage"][0]) == ("salvaged", health["salvaged"]["camera.mcap"])
    assert "the file ends" in report["damage"][0]
    index = json.loads(signals.path("index.json").read_bytes())
    assert [entry["log"] for entry in index["salvaged"]] == signals.manifest.facts["salvaged"] == ["camera.mcap"]
    read = {entry["channel"]: entry["rows"] for entry in index["tables"] if entry["log"] == "camera.mcap"}
    assert read == {channel["name"]: channel["messages"] for channel in report["channels"]}
    truth = json.loads((generated / "truth" / "signals_01.json").read_text())["channels"]["camera.mcap"]
    assert all(0.4 < rows / truth[channel]["recorded"] < 0.7 for channel, rows in read.items())
    assert 0 < frames.manifest.facts["frames"] <= read["/camera/front/image/compressed"]


def test_a_log_of_which_nothing_can_be_read_is_quarantined_with_the_reason_and_the_rest_goes_on(lake, generated):
    folder = arrive(lake, generated / "inbox" / "signals_01", "signals_01")
    with (folder / "camera.mcap").open("r+b") as log:
        log.truncate(100)
    raw, signals, frames = make(lake, "signals_01")
    assert list(raw.manifest.facts["quarantined"]) == ["camera.mcap"]
    assert "logs/camera.mcap" in raw.files, "the damaged bytes are kept"
    index = json.loads(signals.path("index.json").read_bytes())
    assert {t["log"] for t in index["tables"]} == {"can.mf4"}
    assert index["quarantined"][0]["reason"] == raw.manifest.facts["quarantined"]["camera.mcap"]
    assert "quarantined" in frames.manifest.facts["excluded"]
    assert frames.manifest.facts["frames"] == 0


def test_a_log_that_lost_more_than_is_declared_is_quarantined(tmp_path, generated):
    lake = Lake.create(tmp_path / "lake", small_declaration(keep_salvaged_share=1.0))
    establish_trust(lake)
    folder = arrive(lake, generated / "inbox" / "signals_01", "signals_01")
    rechunk(folder / "camera.mcap")
    data = bytearray((folder / "camera.mcap").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "camera.mcap").write_bytes(data)
    raw, signals = make(lake, "signals_01", RAW_LOGS, SIGNALS)
    assert re.search(r"9\d\.\d% of the promised messages could be read", raw.manifest.facts["quarantined"]["camera.mcap"])
    assert signals.manifest.facts["quarantined"] == ["camera.mcap"]


def test_what_decides_whether_a_log_is_used_makes_its_versions_stale(landed):
    for key in ("keep_salvaged_share", "reader_memory_mb", "reader_seconds", "reader_seconds_per_gb"):
        changed = Lake.create(landed.root, small_declaration(**{key: 300 if key != "keep_salvaged_share" else 0.9}))
        for stage in (RAW_LOGS, SIGNALS):
            assert stale_because(stage, changed, "signals_01") == f"the declaration changed: {key}"


def test_a_drive_without_a_log_is_refused_and_says_where_logs_go(lake):
    (lake.inbox / "signals_09").mkdir()
    with pytest.raises(EmptyDrive, match=r"holds 0 file\(s\) and no log"):
        make(lake, "signals_09", RAW_LOGS)
    assert lake.partitions("raw_logs") == []


@pytest.mark.parametrize("target", ["/proc/self/mem", "/nowhere", "../../keys/runner.pem", "../signals_02"])
def test_a_link_in_a_drive_is_refused_and_nothing_it_leads_to_is_taken(lake, generated, target):
    folder = arrive(lake, generated / "inbox" / "signals_01", "signals_01")
    (folder / "notes.txt").symlink_to(target)
    with pytest.raises(InputError, match=r"notes\.txt is a link"):
        make(lake, "signals_01", RAW_LOGS)
    assert lake.partitions("raw_logs") == []


def test_a_file_that_cannot_be_read_is_named(lake, generated, monkeypatch):
    arrive(lake, generated / "inbox" / "signals_01", "signals_01")
    opened = Path.open

    def refused(path, *how, **more):
        if path.name == "camera.mcap" and "inbox" in path.parts:
            raise PermissionError(13, "Permission denied", str(path))
        return opened(path, *how, **more)

    monkeypatch.setattr(Path, "open", refused)
    with pytest.raises(InputError, match=r"camera\.mcap cannot be read: .*Permission denied"):
        make(lake, "signals_01", RAW_LOGS)
    assert lake.partitions("raw_logs") == []


def test_a_drive_that_changes_while_it_is_read_is_refused(lake, generated, monkeypatch):
    folder = arrive(lake, generated / "inbox" / "signals_01", "signals_01")
    from drivelake.logs import stages

    read = stages.in_readers

    def meanwhile(*asked):
        (folder / "late.txt").write_text("x")
        return read(*asked)

    monkeypatch.setattr(stages, "in_readers", meanwhile)
    with pytest.raises(InputError, match="changed while it was read"):
        make(lake, "signals_01", RAW_LOGS)


def test_a_missing_channel_names_the_nearest_and_keeps_what_was_published(landed):
    at = landed.store.resolve("main")
    file = landed.root / "lakehouse.yaml"
    file.write_text(file.read_text().replace("channel: SteeringAngle\n", "channel: SteeringAngel\n"))
    with pytest.raises(MissingChannel, match="SteeringAngle"):
        make(Lake(landed.root), "signals_01", SENSOR_FRAMES)
    assert landed.store.resolve("main") == at


def test_a_sidecar_with_unknown_keys_is_refused(lake, generated):
    folder = arrive(lake, generated / "inbox" / "signals_01", "signals_01")
    (folder / "drive.yaml").write_text("vehicel: car\n")
    with pytest.raises(InputError, match="vehicel"):
        make(lake, "signals_01", RAW_LOGS)


def test_a_drive_that_is_not_in_the_inbox_says_where_it_should_be(lake):
    with pytest.raises(NotFound, match="There is no drive 'signals_01'"):
        make(lake, "signals_01", RAW_LOGS)


def test_a_drive_gone_from_the_inbox_stays_current(landed):
    shutil.rmtree(landed.inbox / "signals_01")
    assert RAW_LOGS.changed_outside(landed, "signals_01") is None
    assert stale_because(SIGNALS, landed, "signals_01") is None


class TestARegisteredLog:
    """A log above the declared size stays where it is and is verified whenever it is read."""

    @pytest.fixture
    def lake(self, tmp_path):
        made = Lake.create(tmp_path / "lake", small_declaration(copy_up_to_mb=0.05))
        establish_trust(made)
        return made

    def test_it_is_not_copied_and_reads_the_same(self, lake, generated):
        folder = arrive(lake, generated / "inbox" / "signals_01", "signals_01")
        raw, _, frames = make(lake, "signals_01")
        assert [r.path for r in raw.manifest.references] == ["logs/camera.mcap"]
        assert "logs/camera.mcap" not in raw.files
        assert stands_at(raw.manifest.references[0], lake.inbox) == folder / "camera.mcap"
        assert frames.manifest.facts["frames"] > 100

    def test_a_changed_byte_stops_the_next_read(self, lake, generated):
        folder = arrive(lake, generated / "inbox" / "signals_01", "signals_01")
        make(lake, "signals_01", RAW_LOGS)
        log = folder / "camera.mcap"
        raw = bytearray(log.read_bytes())
        raw[1000] ^= 1
        log.write_bytes(raw)
        with pytest.raises(LogDamaged, match="was registered with"):
            make(lake, "signals_01", SIGNALS)

    def test_landing_it_again_does_not_hash_it_again_unless_it_changed(self, lake, generated, monkeypatch):
        monkeypatch.setattr(hashing, "SETTLED_S", -1e9)
        hashed, hash_one = [], hashing._hash
        monkeypatch.setattr(hashing, "_hash", lambda name, *rest: hashed.append(name) or hash_one(name, *rest))
        log = arrive(lake, generated / "inbox" / "signals_01", "signals_01") / "camera.mcap"
        (first,) = make(lake, "signals_01", RAW_LOGS)
        (again,) = make(lake, "signals_01", RAW_LOGS)
        assert (hashed, again.digest) == (["inbox:signals_01/camera.mcap"], first.digest)
        log.write_bytes(log.read_bytes()[:-1])
        (changed,) = make(lake, "signals_01", RAW_LOGS)
        assert len(hashed) == 2
        assert (changed.manifest.references[0].bytes, changed.manifest.references[0].sha256) == hash_file(log)

    def test_a_lake_that_moved_with_its_inbox_reads_it_at_the_new_place(self, lake, generated, tmp_path):
        arrive(lake, generated / "inbox" / "signals_01", "signals_01")
        (raw,) = make(lake, "signals_01", RAW_LOGS)
        moved = Lake(lake.root.rename(tmp_path / "moved"))
        assert stands_at(raw.manifest.references[0], moved.inbox) == tmp_path / "moved" / "inbox" / "signals_01" / "camera.mcap"
        _, frames = make(moved, "signals_01", SIGNALS, SENSOR_FRAMES)
        assert frames.manifest.facts["frames"] > 100
