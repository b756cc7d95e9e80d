"""A drive whose logs are in a bucket already: landed from where they are, read as they landed, never put a second time."""

import shutil

import pytest
import yaml

from drivelake.errors import EmptyDrive, InputError, LogDamaged
from drivelake.evidence.notary import LakeNotary, establish_trust
from drivelake.evidence.policy import Policy
from drivelake.evidence.walk import Walk
from drivelake.inbox import look
from drivelake.lake import Lake
from drivelake.logs.stages import RAW_LOGS, SIGNALS
from drivelake.manifest import hash_file
from drivelake.stage import materialise, stale_because
from tests.servers.faults import FaultProxy
from tests.servers.s3 import client, fresh_bucket
from tests.support import small_declaration

DRIVE, LOGS = "signals_01", ("camera.mcap", "can.mf4")


@pytest.fixture(scope="module")
def proxy(s3):
    with FaultProxy(s3) as proxy:
        yield proxy


def lake_at(folder, endpoint):
    declared = {**yaml.safe_load(small_declaration()), "store": {"s3_endpoint": endpoint}}
    lake = Lake.create(folder, yaml.safe_dump(declared, sort_keys=False))
    establish_trust(lake)
    return lake


def make(lake, stage):
    return materialise(stage, lake, DRIVE, LakeNotary(lake)).version


def name_logs(lake, *uris, **more):
    folder = lake.inbox / DRIVE
    folder.mkdir(exist_ok=True)
    (folder / "drive.yaml").write_text(yaml.safe_dump({"vehicle": "car", "logs": list(uris), **more}))
    return folder


def filled(s3, generated, *, versioned):
    bucket = fresh_bucket(s3, versioned=versioned)
    for name in LOGS:
        client(s3).upload_file(str(generated / "inbox" / DRIVE / name), bucket, f"campaign/{name}")
    return bucket


@pytest.fixture(scope="module")
def landed(s3, proxy, generated, tmp_path_factory):
    """A lake with one drive in a bucket without versions, its raw logs and tables; and the bucket. Copy before changes."""
    bucket = filled(s3, generated, versioned=False)
    lake = lake_at(tmp_path_factory.mktemp("remote") / "lake", proxy.endpoint)
    name_logs(lake, *(f"s3://{bucket}/campaign/{name}" for name in LOGS))
    proxy.clear()
    make(lake, RAW_LOGS)
    make(lake, SIGNALS)
    return lake, bucket, list(proxy.seen)


@pytest.fixture
def lake(proxy, tmp_path):
    return lake_at(tmp_path / "lake", proxy.endpoint)


def problems(lake):
    """What the verifier finds in the bytes of the drive's raw logs."""
    walk = Walk(lake, lake.store.resolve("main"), Policy.model_construct(), {}, progress=lambda _: None)
    walk.contents(lake.head("raw_logs", DRIVE))
    return [f"{problem.where} {problem.what}" for problem in walk.problems], walk


def test_logs_in_a_bucket_are_registered_where_they_are(landed, generated):
    lake, bucket, _ = landed
    raw = lake.head("raw_logs", DRIVE)
    assert [r.uri for r in raw.manifest.references] == [f"s3://{bucket}/campaign/{name}" for name in LOGS]
    arrived = {f"logs/{name}": hash_file(generated / "inbox" / DRIVE / name) for name in LOGS}
    assert {r.path: (r.bytes, r.sha256) for r in raw.manifest.references} == arrived
    assert [e.path for e in raw.manifest.files] == ["health.json", "logs/drive.yaml"]
    assert (raw.manifest.facts["logs"], raw.manifest.facts["quarantined"]) == (2, {})


def test_no_byte_was_put_anywhere_and_each_stage_read_each_log_once(landed, generated):
    _, _, seen = landed
    assert {s.method for s in seen} == {"HEAD", "GET"}
    assert sum(s.sent for s in seen) == 0
    sizes = sum((generated / "inbox" / DRIVE / name).stat().st_size for name in LOGS)
    assert sum(s.got for s in seen) == 2 * sizes


def test_neither_the_store_nor_scratch_holds_a_copy(landed, generated):
    lake, _, _ = landed
    sizes = {(generated / "inbox" / DRIVE / name).stat().st_size for name in LOGS}
    assert [p for p in lake.root.rglob("*") if p.is_file() and p.stat().st_size in sizes] == []
    assert list((lake.root / "scratch").iterdir()) == []


def test_tables_are_those_of_the_same_logs_on_disk(landed, generated, tmp_path):
    local = lake_at(tmp_path / "lake", None)
    shutil.copytree(generated / "inbox" / DRIVE, local.inbox / DRIVE)
    make(local, RAW_LOGS)
    assert make(local, SIGNALS).manifest.files == landed[0].head("signals", DRIVE).manifest.files


def test_a_folder_with_only_a_sidecar_is_an_arrival_and_landed_only_while_it_stays(landed, tmp_path):
    shutil.copytree(landed[0].root, tmp_path / "lake", symlinks=True)
    lake = Lake(tmp_path / "lake")
    (arrival,) = look(lake, 1e12)
    assert (arrival.drive, arrival.waiting, arrival.refused) == (DRIVE, "", "")
    assert stale_because(RAW_LOGS, lake, DRIVE) is None
    name_logs(lake, f"s3://{landed[1]}/campaign/can.mf4")
    assert stale_because(RAW_LOGS, lake, DRIVE) == "files in the inbox changed"


def test_the_verifier_streams_the_logs_and_keeps_nothing(landed, proxy):
    proxy.clear()
    found, walk = problems(landed[0])
    assert found == []
    assert walk.bytes == proxy.bytes_got("GET") + sum(e.bytes for e in landed[0].head("raw_logs", DRIVE).manifest.files)
    assert proxy.bytes_sent() == 0


@pytest.mark.parametrize("versioned", [True, False])
def test_a_replaced_log_reads_as_it_landed_where_the_bucket_keeps_versions_and_is_refused_elsewhere(
    s3, lake, generated, versioned
):
    bucket = filled(s3, generated, versioned=versioned)
    name_logs(lake, f"s3://{bucket}/campaign/can.mf4")
    raw = make(lake, RAW_LOGS)
    client(s3).put_object(Bucket=bucket, Key="campaign/can.mf4", Body=b"something else")
    if versioned:
        assert raw.manifest.references[0].version_id
        assert make(lake, SIGNALS).manifest.facts["rows"] > 0
        assert problems(lake)[0] == []
    else:
        with pytest.raises(LogDamaged, match=r"campaign/can\.mf4 was registered with 16312 bytes.* found 14 bytes"):
            make(lake, SIGNALS)
        (found,) = problems(lake)[0]
        assert "found 14 bytes" in found


def test_a_server_that_does_not_answer_is_a_problem_for_the_verifier_and_no_silence(landed, monkeypatch):
    from drivelake.versions.s3 import calls as s3_calls

    monkeypatch.setattr(s3_calls, "PATIENCE_S", 0.1)
    lake = Lake(landed[0].root)
    store = lake.declaration.store.model_copy(update={"s3_endpoint": "http://127.0.0.1:9"})
    monkeypatch.setattr(lake, "declaration", lake.declaration.model_copy(update={"store": store}))
    found, _ = problems(lake)
    assert len(found) == 2
    assert all("does not answer" in each for each in found)


@pytest.mark.parametrize(
    ("uris", "error", "message"),
    [
        (["/disk/a.mcap"], InputError, "String should match"),
        (["s3://bucket"], InputError, "String should match"),
        (["s3://bucket/folder/"], InputError, "String should match"),
        (["s3://bucket/.hidden.mcap"], InputError, "String should match"),
        (["s3://bucket/a/x.mcap", "s3://bucket/b/x.mcap"], InputError, "2 logs have 1 different names"),
        (["s3://bucket/drive.yaml"], InputError, r"drive\.yaml stands in .* and is named"),
        (["s3://bucket/notes.txt"], EmptyDrive, r"holds 2 file\(s\) and no log"),
        ([], EmptyDrive, r"holds 1 file\(s\) and no log"),
    ],
)
def test_a_sidecar_that_names_no_usable_log_is_refused_before_anything_is_read(lake, proxy, uris, error, message):
    name_logs(lake, *uris)
    proxy.clear()
    with pytest.raises(error, match=message):
        make(lake, RAW_LOGS)
    assert proxy.count() == 0


def test_a_log_that_is_not_there_is_named(s3, lake):
    name_logs(lake, f"s3://{fresh_bucket(s3)}/absent.mcap")
    with pytest.raises(InputError, match=r"absent\.mcap is not there"):
        make(lake, RAW_LOGS)
