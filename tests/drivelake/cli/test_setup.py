"""Setting up a lake alone and in a team: init, joining, moving, fetching; each is refused where it would lose something."""

import json
import shutil

import pytest
import yaml

from drivelake.cli.setup import with_store
from drivelake.demo import example
from drivelake.errors import Withdrawn
from drivelake.evidence.notary import LakeNotary, establish_trust
from drivelake.lake import Lake
from drivelake.stage import materialise
from drivelake.storage import Store
from drivelake.withdrawal import withdraw
from tests.drivelake.cli.running import drivelake
from tests.drivelake.toy import Toy, tiny_lake
from tests.servers.lakefs.fixtures import lakefs_server
from tests.servers.s3 import client, fresh_bucket


@pytest.fixture(scope="module")
def lakefs():
    with lakefs_server("local") as server:
        yield server


@pytest.fixture
def lake(tmp_path):
    """A lake with two versions of one thing, and a tag on the first."""
    made = tiny_lake(tmp_path / "lake")
    first = materialise(Toy(), made, "d1", LakeNotary(made)).version
    made.store.tag("first", first.commit)
    (made.root / "word").write_text("second")
    materialise(Toy(), made, "d1", LakeNotary(made))
    return Lake(made.root)


def words_for(server, repository):
    return ["--store", "lakefs", "--url", server.endpoint, "--repository", repository]


def digests(lake):
    return {named.version for named in lake.published()}


def test_a_lake_is_made_and_made_again_without_a_change(tmp_path):
    made = drivelake("init", "--lake", tmp_path / "lake", "--json")
    assert made.returncode == 0, made.stderr
    again = drivelake("init", "--lake", tmp_path / "lake", "--json")
    assert json.loads(again.stdout) == json.loads(made.stdout)
    assert (tmp_path / "lake" / "lakehouse.yaml").read_text() == example("generated")


def test_another_store_for_a_lake_that_is_there_is_refused(lake, s3):
    before = (lake.root / "lakehouse.yaml").read_bytes()
    done = drivelake("init", "--lake", lake.root, "--bucket", f"s3://{fresh_bucket(s3)}/lake", "--s3-endpoint", s3)
    assert done.returncode == 2
    assert "keeps its versions in its own folder" in done.stderr
    assert "drivelake migrate" in done.stderr
    assert (lake.root / "lakehouse.yaml").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--store", "lakefs"], "needs url and repository"),
        (["--url", "http://127.0.0.1:1"], "belong to kind lakefs"),
        (["--bucket", "/not/a/bucket"], "bucket"),
    ],
)
def test_options_that_do_not_belong_together_are_refused_before_anything_is_made(tmp_path, words, said):
    done = drivelake("init", "--lake", tmp_path / "lake", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert not (tmp_path / "lake").exists()


def test_a_second_machine_joins_a_bucket_and_reads_what_the_first_published(tmp_path, s3):
    there = ["--bucket", f"s3://{fresh_bucket(s3)}/fleet/lake", "--s3-endpoint", s3]
    assert drivelake("init", "--lake", tmp_path / "one", *there).returncode == 0
    one = Lake(tmp_path / "one")
    (one.root / "word").write_text("shared")
    establish_trust(one)
    made = materialise(Toy(), one, "d1", LakeNotary(one)).version
    assert drivelake("init", "--lake", tmp_path / "two", *there).returncode == 0
    two = Lake(tmp_path / "two")
    found = two.head("signals", "d1")
    assert found.digest == made.digest
    assert found.path("deep/word.txt").read_text() == "shared"
    assert found.path("deep/word.txt").is_relative_to(two.root)


def test_pull_brings_every_file_and_push_stores_again_what_the_bucket_lost(lake, s3):
    bucket = fresh_bucket(s3)
    moved = drivelake("migrate", "--lake", lake.root, "--bucket", f"s3://{bucket}/lake", "--s3-endpoint", s3)
    assert moved.returncode == 0, moved.stderr
    pulled = drivelake("pull", "--lake", lake.root, "--json")
    assert json.loads(pulled.stdout)["files"] == 2
    objects = client(s3)
    keys = [o["Key"] for o in objects.list_objects_v2(Bucket=bucket, Prefix="lake/files/")["Contents"]]
    objects.delete_object(Bucket=bucket, Key=keys[0])
    assert drivelake("push", "--lake", lake.root, "--json").returncode == 0
    there = [o["Key"] for o in objects.list_objects_v2(Bucket=bucket, Prefix="lake/files/")["Contents"]]
    assert sorted(there) == sorted(keys)


def test_only_a_bucket_is_pushed_to(lake):
    done = drivelake("push", "--lake", lake.root)
    assert done.returncode == 4
    assert "only a bucket is pushed to" in done.stderr


def test_a_lake_moves_to_a_bucket_and_on_to_lakefs_with_its_digests_and_still_verifies(lake, s3, lakefs, monkeypatch):
    for name, value in lakefs.environment.items():
        monkeypatch.setenv(name, value)
    before, store = digests(lake), sorted(p.relative_to(lake.root) for p in (lake.root / "store" / "files").rglob("*"))
    repository = lakefs.repository()
    for words in (
        ["--bucket", f"s3://{fresh_bucket(s3)}/lake", "--s3-endpoint", s3],
        words_for(lakefs, repository),
    ):
        done = drivelake("migrate", "--lake", lake.root, *words, "--json")
        assert done.returncode == 0, done.stderr
        said = json.loads(done.stdout)
        assert (said["versions"], said["copied"], said["tags"]) == (2, 2, 1)
        moved = Lake(lake.root)
        assert digests(moved) == before
        assert moved.head("signals", "d1", "first").path("deep/word.txt").read_text() == "first"
        assert drivelake("verify", "signals/d1", "--lake", lake.root).returncode == 0
    assert Lake(lake.root).declaration.store.kind == "lakefs"
    assert "pre-merge hook" in said["rules"]
    (lake.root / "word").write_text("third")
    after = materialise(Toy(), Lake(lake.root), "d1", LakeNotary(Lake(lake.root)))
    assert after.new, "what is published from now on satisfies the hook"
    assert sorted(p.relative_to(lake.root) for p in (lake.root / "store" / "files").rglob("*")) == store, "the old one stays"


def test_of_what_was_collected_the_manifest_moves_and_other_missing_bytes_stop_the_move(lake, s3):
    second = lake.head("signals", "d1")
    (lake.root / "word").write_text("third")
    third = materialise(Toy(), lake, "d1", LakeNotary(lake)).version
    second.path("deep/word.txt").unlink()
    there = ["--bucket", f"s3://{fresh_bucket(s3)}/lake", "--s3-endpoint", s3]
    stood = third.path("deep/word.txt")
    kept = stood.rename(lake.root / "aside")
    refused = drivelake("migrate", "--lake", lake.root, *there)
    assert refused.returncode == 4
    assert "missing" in refused.stderr
    assert Lake(lake.root).declaration.store.local
    kept.rename(stood)
    done = drivelake("migrate", "--lake", lake.root, *there, "--json")
    assert done.returncode == 0, done.stderr
    moved = Lake(lake.root)
    assert moved.head("signals", "d1").path("deep/word.txt").read_text() == "third"
    assert digests(moved) == {second.digest, third.digest, moved.head("signals", "d1", "first").digest}
    verified = json.loads(drivelake("verify", "signals/d1", "--lake", lake.root, "--all", "--json").stdout)
    assert verified["problems"] == []
    assert any("a collection may have removed them" in notice for notice in verified["notices"])


def test_what_was_withdrawn_is_neither_pulled_nor_pushed_back_and_moves_without_its_bytes(lake, s3):
    withdraw(lake.store, "d1", reason="the driver asked for it", authority="privacy office, case 7")
    there = ["--bucket", f"s3://{fresh_bucket(s3)}/lake", "--s3-endpoint", s3]
    for file in (lake.root / "store" / "files").rglob("*"):
        if file.is_file() and not file.name.endswith(".dir"):
            file.unlink()
    moved = drivelake("migrate", "--lake", lake.root, *there)
    assert moved.returncode == 0, moved.stderr
    for command in ("pull", "push"):
        done = drivelake(command, "--lake", lake.root)
        assert done.returncode == 0, done.stderr
        assert "ABSENT-AUTHORISED" in done.stderr
    with pytest.raises(Withdrawn):
        Lake(lake.root).head("signals", "d1").path("deep/word.txt")


def test_moving_to_where_the_lake_is_already_is_refused(lake):
    assert drivelake("migrate", "--lake", lake.root).returncode == 4


def test_without_credentials_lakefs_says_which_variables_it_reads(tmp_path, lakefs, monkeypatch):
    monkeypatch.delenv("LAKEFS_ACCESS_KEY_ID", raising=False)
    done = drivelake(
        "init", "--lake", tmp_path / "lake", "--store", "lakefs", "--url", lakefs.endpoint, "--repository", "any-one"
    )
    assert done.returncode == 4
    assert "LAKEFS_ACCESS_KEY_ID" in done.stderr
    assert not (tmp_path / "lake" / "lakehouse.yaml").exists()


def test_another_store_in_a_declaration_leaves_all_else_as_it_was_written():
    text = example("generated")
    there = with_store(text, Store(bucket="s3://fleet/lake"))
    assert yaml.safe_load(there) == {**yaml.safe_load(text), "store": {"bucket": "s3://fleet/lake"}}
    assert [line for line in there.splitlines() if "#" in line] == [line for line in text.splitlines() if "#" in line]
    assert with_store(there, Store()) == text
    lakefs = Store(kind="lakefs", url="http://l:8000", repository="fleet")
    assert yaml.safe_load(with_store(there, lakefs))["store"] == lakefs.model_dump(exclude_defaults=True)


def test_a_folder_without_its_store_is_no_lake(lake):
    shutil.rmtree(lake.root / "store")
    assert drivelake("log", "--lake", lake.root).returncode == 4


def test_an_option_of_a_wrong_form_is_named_with_the_form_it_should_have(tmp_path):
    done = drivelake("init", "--lake", tmp_path / "lake", "--bucket", "fleet/lake")
    assert done.returncode == 2
    assert "--bucket: expected s3://bucket or s3://bucket/prefix." in done.stderr
    assert not (tmp_path / "lake").exists()
