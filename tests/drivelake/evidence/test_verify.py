"""From the binary to the raw bytes: an honest chain verifies, and whatever was changed is named."""

import base64
import datetime as dt
import json
import os
import shutil
import subprocess

import pytest
import rfc8785
import yaml

from drivelake.errors import DrivelakeError, VerificationFailed, Withdrawn
from drivelake.evidence.keys import add_public, create_keys, load_public, load_signer
from drivelake.evidence.lineage import ancestors, find_version
from drivelake.evidence.log import EvidenceLog
from drivelake.evidence.notary import LakeNotary
from drivelake.evidence.policy import Policy
from drivelake.evidence.statements import Statement, Subject, approval, gate_result, parse_envelope, sign
from drivelake.evidence.verify import verify
from drivelake.frames.stage import SENSOR_FRAMES
from drivelake.lake import Lake
from drivelake.logs.stages import RAW_LOGS, SIGNALS
from drivelake.manifest import ASSETS
from drivelake.stage import Finding, materialise
from drivelake.withdrawal import withdraw

MADE = [asset for asset in ASSETS if asset != "calibrations"]  # the generated rigs name none
BELOW = [asset for asset in MADE if asset != "evidence"]  # of an artefact


def check(lake: Lake, scope="main", **options):
    """What a person running ``drivelake verify`` sees: problems, or the refusal to even begin."""
    lake = Lake(lake.root)
    try:
        artefact = find_version(lake, None)
    except DrivelakeError as refusal:
        return [str(refusal)]
    return [f"{p.where}: {p.what}" for p in verify(lake, artefact, scope=scope, **options).problems]


def flip(path, at=None):
    """Every bit of one byte, in the middle unless told."""
    path.chmod(0o644)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 if at is None else at] ^= 0xFF
    path.write_bytes(bytes(raw))


def one_of(lake, asset):
    if asset == "evidence":
        return lake.heads("evidence")[0]
    artefact = find_version(lake, None)
    return next(v for v in ancestors(lake, artefact).values() if v.manifest.asset == asset)


def test_an_honest_chain_verifies_down_to_every_raw_log(chain):
    result = verify(chain, find_version(chain, None))
    assert result.problems == []
    assert result.verified
    raw = chain.heads("raw_logs")
    assert result.raw_logs == sum(e.path.endswith((".mcap", ".mf4")) for v in raw for e in v.manifest.files) == 12
    assert result.versions == 3 * len(raw) + 3


def test_everything_at_main_verifies_too(chain):
    for scope in ("main", "history"):
        result = verify(chain, find_version(chain, None), scope=scope)
        assert (result.problems, result.notices) == ([], [])
        assert result.versions == sum(len(chain.partitions(asset)) for asset in ASSETS)


@pytest.mark.parametrize("asset", MADE)
def test_one_flipped_byte_in_any_file_of_any_stage_is_named(chain_copy, asset):
    version = one_of(chain_copy, asset)
    for number, (path, found) in enumerate(sorted(version.files.items())):
        original = found.read_bytes()
        at = (0, len(original) // 2, len(original) - 1)[number % 3]  # every check reads the whole lake
        flip(found, at)
        problems = check(chain_copy)
        found.write_bytes(original)
        named = found.relative_to(chain_copy.root).as_posix()
        assert any(named in p or str(found) in p for p in problems), f"{version.name}/{path} at {at}: {problems}"
    assert check(chain_copy) == []


@pytest.mark.parametrize("asset", BELOW)
def test_a_flipped_byte_in_a_listing_is_named(chain_copy, asset):
    version = one_of(chain_copy, asset)
    pointer = yaml.safe_load(chain_copy.store.read(version.commit, version.name, "data.dvc"))
    md5 = pointer["outs"][0]["md5"]
    listing = chain_copy.root / "store" / "files" / "md5" / md5[:2] / md5[2:]
    flip(listing)
    assert any(str(listing) in p for p in check(chain_copy))


@pytest.mark.parametrize(
    "file", ["evidence/log.jsonl", "evidence/checkpoint", "trust/policy.json", "trust/runner.pub.pem", "trust/log.pub.pem"]
)
def test_a_flipped_byte_in_log_or_trust_is_found(chain_copy, file):
    target = chain_copy.root / file
    size = target.stat().st_size
    for at in range(0, size, max(1, size // 7)):
        original = target.read_bytes()
        flip(target, at)
        problems = check(chain_copy)
        assert any(file.partition("/")[2] in p for p in problems), f"byte {at} of {file}: {problems}"
        target.write_bytes(original)


def test_any_byte_of_the_policy_counts(chain_copy):
    target = chain_copy.root / "trust" / "policy.json"
    original = target.read_bytes()
    for at in range(len(original)):
        for bit in (0x01, 0x20):
            changed = bytearray(original)
            changed[at] ^= bit
            target.write_bytes(bytes(changed))
            try:
                Policy.load(target.parent)
            except DrivelakeError:
                continue
            assert check(chain_copy), f"byte {at} reads {chr(changed[at])!r}"


def test_a_flipped_byte_in_a_git_object_is_named(chain_copy):
    objects = sorted(chain_copy.store.git_objects())
    for target in objects[:: max(1, len(objects) // 12)]:
        original = target.read_bytes()
        flip(target)
        assert any(target.name in p for p in check(chain_copy)), target
        target.chmod(0o644)
        target.write_bytes(original)


def test_a_changed_ref_of_main_is_named(chain_copy):
    ref = chain_copy.root / "store" / "repo.git" / "refs" / "heads" / "main"
    ref.write_text(ref.read_text().upper())
    assert any("refs/heads/main" in p for p in check(chain_copy))


def test_an_old_version_is_walked_with_the_history(chain_copy, generated):
    shutil.copy(generated / "inbox" / "signals_03" / "can.mf4", chain_copy.inbox / "signals_01" / "can.mf4")
    old = chain_copy.head("raw_logs", "signals_01").path("logs/can.mf4")
    notary = LakeNotary(chain_copy)
    for stage in (RAW_LOGS, SIGNALS, SENSOR_FRAMES):
        materialise(stage, chain_copy, "signals_01", notary)
    assert check(chain_copy, scope="history") == []
    flip(old)
    assert any(old.name in p for p in check(chain_copy, scope="history"))


def test_bytes_withdrawn_with_authority_are_noticed_and_all_else_is_verified(chain_copy):
    withdraw(chain_copy.store, "signals_01", reason="the driver asked for it", authority="privacy office, case 7")
    raw = chain_copy.head("raw_logs", "signals_01")
    with pytest.raises(Withdrawn, match="ABSENT-AUTHORISED"):
        raw.path("logs/camera.mcap")
    lake = Lake(chain_copy.root)
    result = verify(lake, one_of(lake, "soc_artefacts"), scope="main")
    assert result.problems == []
    absent = [notice for notice in result.notices if notice.startswith("ABSENT-AUTHORISED: the bytes of raw_logs/signals_01 ")]
    assert len(absent) == 1
    assert "privacy office, case 7" in absent[0]
    assert "signed by nobody yet" in absent[0]


def test_missing_bytes_of_what_nothing_names_are_noticed_and_of_anything_else_a_problem(chain_copy):
    def landed_again(note):
        with (chain_copy.inbox / "signals_01" / "drive.yaml").open("a") as sidecar:
            sidecar.write(f"# {note}\n")
        return materialise(RAW_LOGS, chain_copy, "signals_01", LakeNotary(chain_copy)).version.path("logs/drive.yaml")

    replaced, newest = landed_again("looked at"), landed_again("and again")
    replaced.unlink()
    lake = Lake(chain_copy.root)
    result = verify(lake, find_version(lake, None), scope="history")
    assert result.problems == []
    assert any("a collection may have removed them" in notice for notice in result.notices)
    newest.unlink()
    assert any(newest.name in problem for problem in check(chain_copy, scope="main"))


def test_a_version_taken_away_from_main_is_noticed(chain_copy):
    git = ["git", "--git-dir", str(chain_copy.root / "store" / "repo.git")]
    before = subprocess.run([*git, "rev-parse", "main~2"], capture_output=True, text=True, check=True).stdout.strip()
    subprocess.run([*git, "update-ref", "refs/heads/main", before], check=True)
    lake = Lake(chain_copy.root)
    notices = verify(lake, lake.heads("checkpoints")[0], scope="main").notices
    assert any(n.startswith("soc_artefacts/steering@portable was signed for") for n in notices)


def test_something_else_on_main_is_named(chain_copy, tmp_path):
    clone = tmp_path / "clone"
    subprocess.run(["git", "clone", "-q", str(chain_copy.root / "store" / "repo.git"), str(clone)], check=True)
    (place,) = clone.glob("soc_artefacts/*/steering@portable")
    (place / "model.bin").write_bytes(b"x")
    git = ["git", "-C", str(clone), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    subprocess.run([*git, "add", "-A"], check=True)
    subprocess.run([*git, "commit", "-qm", "x"], check=True)
    subprocess.run([*git, "push", "-q", "origin", "main"], check=True)
    assert any("steering@portable/model.bin" in p for p in check(chain_copy))


def test_an_object_replaced_by_a_link_or_a_pipe_is_named_and_not_followed(chain_copy, tmp_path):
    weights = one_of(chain_copy, "checkpoints").path("weights.pt")
    shutil.copy(weights, tmp_path / "same")
    weights.unlink()
    weights.symlink_to(tmp_path / "same")
    assert any("is no regular file" in p for p in check(chain_copy))
    weights.unlink()
    os.mkfifo(weights)
    assert any("is no regular file" in p for p in check(chain_copy))


def test_a_result_signed_for_other_numbers_is_named(chain_copy):
    def loosened(statement):
        if "test-result" not in statement.predicate_type:
            return statement
        finding = Finding("parity.mean_abs", 0.5, None, 20.0, "PASS")
        gate = statement.predicate.gate
        return gate_result(statement.subject[0], gate=gate, result="PASSED", criteria=[finding])

    reopened(chain_copy, change=loosened)
    assert any("other numbers or bounds" in p for p in check(chain_copy))


def test_the_last_decision_of_an_approver_counts(chain_copy, tmp_path):
    create_keys(tmp_path / "approver", tmp_path / "handed", roles=("approver",))
    trust = chain_copy.root / "trust"
    add_public(trust, "approver", (tmp_path / "handed" / "approver.pub.pem").read_bytes())
    policy = Policy.load(trust).model_copy(update={"approvals": ("soc_artefacts",)})
    (trust / "policy.json").write_bytes(policy.as_bytes())
    assert any("the approval of soc_artefacts is NOT SHOWN" in p for p in check(chain_copy))
    signer = load_signer(tmp_path / "approver", "approver")
    subject = Subject.of("soc_artefacts/steering@portable", find_version(chain_copy, None).digest)
    log = EvidenceLog(
        chain_copy.root / "evidence",
        origin=policy.log_origin,
        public_keys=load_public(trust),
        signer=load_signer(chain_copy.root / "keys", "log"),
    )
    for decision, expected in (("APPROVED", False), ("REJECTED", True)):
        said = approval(subject, decision=decision, by="a person", reason="looked at it", decided=dt.datetime.now(dt.UTC))
        log.append([sign(said, signer)])
        assert any("the approval of" in p for p in check(chain_copy)) is expected


def test_two_swapped_files_are_named(chain_copy):
    version = one_of(chain_copy, "signals")
    one, other = (version.files[p] for p in sorted(version.files)[:2])
    aside = one.with_suffix(".aside")
    one.rename(aside)
    other.rename(one)
    aside.rename(other)
    assert len(check(chain_copy)) >= 2


def test_a_missing_raw_log_is_named(chain_copy):
    target = one_of(chain_copy, "raw_logs").path("logs/camera.mcap")
    target.unlink()
    assert any(target.name in p for p in check(chain_copy))


def reopened(lake, keep=lambda _: True, change=lambda s: s, resign=None):
    """The log written anew with all keys at hand, as an insider would."""
    trust, keys = lake.root / "trust", lake.root / "keys"
    public = load_public(trust)
    origin = Policy.load(trust).log_origin
    lines = EvidenceLog(lake.root / "evidence", origin=origin, public_keys=public).read()
    shutil.rmtree(lake.root / "evidence")
    (lake.root / "evidence").mkdir()
    signers = {role: load_signer(keys, role) for role in ("runner", "logger")}
    by_key = {signer.public.keyid: role for role, signer in signers.items()}
    written = []
    for line in lines:
        statement = parse_envelope(line)
        if keep(statement):
            role = by_key[json.loads(line)["signatures"][0]["keyid"]]
            changed = change(statement)
            written.append(line if changed is statement and resign is None else sign(changed, resign or signers[role]))
    EvidenceLog(lake.root / "evidence", origin=origin, public_keys=public, signer=load_signer(keys, "log")).append(written)


def about(statement: Statement, asset: str) -> bool:
    return statement.subject[0].name.startswith(f"{asset}/")


@pytest.mark.parametrize("asset", BELOW)
def test_a_version_without_a_statement_is_named(chain_copy, asset):
    reopened(chain_copy, keep=lambda s: not about(s, asset))
    assert any(f"{asset}/" in p for p in check(chain_copy))


def test_an_omitted_gate_is_not_shown(chain_copy):
    reopened(chain_copy, keep=lambda s: "test-result" not in s.predicate_type)
    problems = check(chain_copy)
    assert any("gate 'checkpoint' is NOT SHOWN" in p for p in problems)
    assert any("gate 'artefact' is NOT SHOWN" in p for p in problems)


def test_a_step_signed_with_a_foreign_key_is_refused(chain_copy, tmp_path):
    create_keys(tmp_path / "keys", tmp_path / "trust")
    reopened(chain_copy, resign=load_signer(tmp_path / "keys", "runner"))
    assert any("log.jsonl line 1" in p for p in check(chain_copy))


def test_a_runner_cannot_sign_the_ingest_inventory(chain_copy):
    trust, keys = chain_copy.root / "trust", chain_copy.root / "keys"
    runner = load_signer(keys, "runner")

    def role_swapped(lake):
        public = load_public(trust)
        origin = Policy.load(trust).log_origin
        log = EvidenceLog(lake.root / "evidence", origin=origin, public_keys=public)
        lines = [sign(s, runner) if "inventory" in (s := parse_envelope(line)).predicate_type else line for line in log.read()]
        shutil.rmtree(lake.root / "evidence")
        (lake.root / "evidence").mkdir()
        EvidenceLog(lake.root / "evidence", origin=origin, public_keys=public, signer=load_signer(keys, "log")).append(lines)

    role_swapped(chain_copy)
    problems = check(chain_copy)
    assert any("ingest inventory is NOT SHOWN" in p for p in problems)


def test_a_statement_with_other_inputs_is_named(chain_copy):
    def forget_an_input(statement):
        if not about(statement, "curated_datasets"):
            return statement
        dumped = statement.model_dump(mode="json", by_alias=True, exclude_none=True)
        dependencies = dumped["predicate"]["buildDefinition"]["resolvedDependencies"]
        dumped["predicate"]["buildDefinition"]["resolvedDependencies"] = dependencies[1:]
        return Statement.model_validate(dumped)

    reopened(chain_copy, change=forget_an_input)
    assert any("names other inputs than its manifest" in p for p in check(chain_copy))


def test_a_history_rewritten_with_all_keys_is_caught_by_an_earlier_checkpoint_only(chain_copy):
    witness = (chain_copy.root / "evidence" / "checkpoint").read_text()
    extra = one_of(chain_copy, "raw_logs").digest
    reopened(chain_copy, keep=lambda s: not (about(s, "evidence") and s.subject[0].digest.sha256 != extra))
    assert check(chain_copy, scope="artefact") == [], "the bundle alone cannot show it, and the report says so"
    assert check(chain_copy, scope="artefact", witness=witness)


def test_keys_pinned_elsewhere_catch_a_lake_signed_anew(chain_copy, tmp_path):
    pinned = tmp_path / "trust"
    shutil.copytree(chain_copy.root / "trust", pinned)
    assert check(chain_copy, trust=pinned) == []
    create_keys(tmp_path / "other", tmp_path / "othertrust")
    shutil.copy(tmp_path / "othertrust" / "runner.pub.pem", pinned)
    assert check(chain_copy, trust=pinned)


def test_a_failed_verification_names_the_first_file_and_counts_the_rest(chain_copy):
    flip(one_of(chain_copy, "checkpoints").path("weights.pt"))
    with pytest.raises(VerificationFailed, match="NOT VERIFIED: store/files/md5/"):
        verify(Lake(chain_copy.root), find_version(chain_copy, None)).require()


def test_verifying_writes_nothing(chain_copy):
    before = sorted((p.as_posix(), p.stat().st_mtime_ns) for p in chain_copy.root.rglob("*") if p.is_file())
    assert check(chain_copy, scope="history") == []
    assert sorted((p.as_posix(), p.stat().st_mtime_ns) for p in chain_copy.root.rglob("*") if p.is_file()) == before


def test_the_log_holds_canonical_statements_of_the_right_type(chain):
    for line in (chain.root / "evidence" / "log.jsonl").read_bytes().splitlines():
        envelope = json.loads(line)
        assert rfc8785.dumps(envelope) == line
        assert json.loads(base64.b64decode(envelope["payload"]))["_type"] == "https://in-toto.io/Statement/v1"
