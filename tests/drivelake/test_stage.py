"""Publishing is one atomic step, whatever happens around it, and the same step gives the same version."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from drivelake.errors import Conflict, InputError, NotFound, StoreError
from drivelake.evidence.keys import load_public
from drivelake.evidence.log import EvidenceLog
from drivelake.evidence.notary import LakeNotary
from drivelake.evidence.policy import Policy
from drivelake.lake import Lake
from drivelake.stage import Recipe, materialise, stale_because
from tests.drivelake.toy import Toy, tiny_lake

TOY = Path(__file__).with_name("toy.py")
STEPS = ["made", "hashed", "logged", "branched", "objects staged", "committed on branch", "merged", "branch deleted", "cleaned"]


def run(folder: Path, kill_at: str = "nowhere") -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, str(TOY), str(folder), kill_at], capture_output=True, text=True, check=False)


def log_of(lake: Lake) -> list[bytes]:
    trust = lake.root / "trust"
    return EvidenceLog(lake.root / "evidence", origin=Policy.load(trust).log_origin, public_keys=load_public(trust)).read()


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    """A lake with one version, and the digest that an undisturbed second version gets."""
    lake = tiny_lake(tmp_path_factory.mktemp("toy") / "lake")
    materialise(Toy(), lake, "d1", LakeNotary(lake))
    undisturbed = lake.root.with_name("undisturbed")
    shutil.copytree(lake.root, undisturbed)
    (undisturbed / "word").write_text("second")
    done = run(undisturbed)
    assert done.stdout.splitlines()[:-1] == STEPS, done.stderr
    return lake, done.stdout.splitlines()[-1]


@pytest.mark.parametrize("step", STEPS)
def test_a_kill_at_any_step_leaves_the_old_or_the_new_version_and_running_again_gives_the_same(first, tmp_path, step):
    source, expected = first
    root = tmp_path / "lake"
    shutil.copytree(source.root, root)
    (root / "word").write_text("second")
    old = source.head("signals", "d1").digest

    killed = run(root, kill_at=step)

    assert killed.returncode == -signal.SIGKILL
    lake = Lake(root)
    visible = lake.head("signals", "d1")
    assert visible.digest == (expected if STEPS.index(step) >= STEPS.index("merged") else old)
    words = {old: "first", expected: "second"}
    assert visible.path("deep/word.txt").read_text() == words[visible.digest]

    again = run(root)

    assert again.returncode == 0, again.stderr
    assert again.stdout.splitlines()[-1] == expected
    assert Lake(root).head("signals", "d1").digest == expected
    assert len(log_of(lake)) == 2, "one statement a version, however often it was tried"
    assert list((root / "scratch").iterdir()) == []


def test_the_same_step_again_makes_no_new_commit(tmp_path):
    lake = tiny_lake(tmp_path / "lake")
    one = materialise(Toy(), lake, "d1", LakeNotary(lake))
    at = lake.store.resolve("main")
    two = materialise(Toy(), lake, "d1", LakeNotary(lake))
    assert (one.new, two.new) == (True, False)
    assert two.version.digest == one.version.digest
    assert lake.store.resolve("main") == at


def test_a_stage_that_raises_publishes_nothing_and_leaves_nothing(tmp_path):
    class Broken(Toy):
        def make(self, lake, partition, recipe, out, progress):
            (out / "half").write_text("half")
            raise InputError("Half a log.")

    lake = tiny_lake(tmp_path / "lake")
    kept = materialise(Toy(), lake, "d1", LakeNotary(lake)).version
    with pytest.raises(InputError):
        materialise(Broken(), lake, "d1", LakeNotary(lake))
    assert lake.head("signals", "d1") == kept
    assert list((lake.root / "scratch").iterdir()) == []


def test_an_odd_key_is_refused_before_anything_is_made(tmp_path):
    class Never(Toy):
        def make(self, lake, partition, recipe, out, progress):
            raise AssertionError("made")

    lake = tiny_lake(tmp_path / "lake")
    with pytest.raises(InputError, match="cannot be a partition key"):
        materialise(Never(), lake, "../d1", LakeNotary(lake))


def test_staleness_says_what_changed(tmp_path):
    class Other(Toy):
        code_version = "2"

    lake = tiny_lake(tmp_path / "lake")
    assert stale_because(Toy(), lake, "d1") == "not made yet"
    materialise(Toy(), lake, "d1", LakeNotary(lake))
    assert stale_because(Toy(), lake, "d1") is None
    assert stale_because(Other(), lake, "d1") == "code version 1 is now 2"
    (lake.root / "word").write_text("changed")
    assert stale_because(Toy(), lake, "d1") == "the declaration changed: word"


def test_a_version_is_found_by_its_digest_after_another_replaced_it(tmp_path):
    lake = tiny_lake(tmp_path / "lake")
    old = materialise(Toy(), lake, "d1", LakeNotary(lake)).version
    (lake.root / "word").write_text("changed")
    materialise(Toy(), lake, "d1", LakeNotary(lake))
    assert lake.version(old.as_input()).path("deep/word.txt").read_text() == "first"
    unknown = old.as_input().model_copy(update={"version": "f" * 64})
    with pytest.raises(NotFound, match="No commit published"):
        lake.version(unknown)


def test_a_stage_refuses_inputs_that_are_not_what_their_manifest_names(tmp_path):
    class Follower(Toy):
        asset = "sensor_frames"

        def recipe(self, lake, partition):
            return Recipe(parameters={}, inputs=(lake.head("signals", partition),))

        def make(self, lake, partition, recipe, out, progress):
            raise AssertionError("made from damaged bytes")

    lake = tiny_lake(tmp_path / "lake")
    word = materialise(Toy(), lake, "d1", LakeNotary(lake)).version.path("deep/word.txt")
    word.chmod(0o644)
    word.write_text("other")
    with pytest.raises(StoreError, match=word.name):
        materialise(Follower(), lake, "d1", LakeNotary(lake))
    assert lake.partitions("sensor_frames") == []


def test_a_slow_run_does_not_replace_what_a_faster_one_published_meanwhile(tmp_path):
    class Slow(Toy):
        def make(self, lake, partition, recipe, out, progress):
            (lake.root / "word").write_text("newer")
            materialise(Toy(), lake, partition, LakeNotary(lake))
            return super().make(lake, partition, recipe, out, progress)

    lake = tiny_lake(tmp_path / "lake", word="older")
    with pytest.raises(Conflict):
        materialise(Slow(), lake, "d1", LakeNotary(lake))
    assert lake.head("signals", "d1").path("deep/word.txt").read_text() == "newer"
