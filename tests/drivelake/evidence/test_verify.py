"""From the binary to the raw bytes: an honest chain verifies, and whatever was changed is named."""

import base64
import json
import shutil

import pytest
import rfc8785
import yaml

from drivelake.errors import DrivelakeError, VerificationFailed
from drivelake.evidence.keys import create_keys, load_public, load_signer
from drivelake.evidence.lineage import ancestors, find_version
from drivelake.evidence.log import EvidenceLog
from drivelake.evidence.policy import Policy
from drivelake.evidence.statements import Statement, parse_envelope, sign
from drivelake.evidence.verify import verify
from drivelake.lake import Lake
from drivelake.manifest import ASSETS

BELOW = [asset for asset in ASSETS if asset != "evidence"]


def check(lake: Lake, **options):
    """What a person running ``drivelake verify`` sees: problems, or the refusal to even begin."""
    lake = Lake(lake.root)
    try:
        artefact = find_version(lake, None)
    except DrivelakeError as refusal:
        return [str(refusal)]
    return [f"{p.where}: {p.what}" for p in verify(lake, artefact, **options).problems]


def flip(path, at=None):
    """Every bit of one byte, in the middle unless told."""
    path.chmod(0o644)
    raw = bytearray(path.read_bytes())
    raw[len(raw) // 2 if at is None else at] ^= 0xFF
    path.write_bytes(bytes(raw))


def one_of(lake, asset):
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
    result = verify(chain, find_version(chain, None), everything=True)
    assert result.problems == []
    assert result.versions == sum(len(chain.partitions(asset)) for asset in ASSETS)


@pytest.mark.parametrize("asset", BELOW)
def test_one_flipped_byte_in_any_file_of_any_stage_is_named(chain_copy, asset):
    version = one_of(chain_copy, asset)
    for path, found in sorted(version.files.items()):
        original = found.read_bytes()
        for at in {0, len(original) // 2, len(original) - 1}:
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
        assert check(chain_copy), f"byte {at} of {file}"
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
    for target in objects[:: max(1, len(objects) // 6)]:
        original = target.read_bytes()
        flip(target)
        assert any(target.name in p for p in check(chain_copy)), target
        target.chmod(0o644)
        target.write_bytes(original)


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
    assert check(chain_copy) == [], "the bundle alone cannot show it, and the report says so"
    assert check(chain_copy, witness=witness)


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
    assert check(chain_copy, everything=True) == []
    assert sorted((p.as_posix(), p.stat().st_mtime_ns) for p in chain_copy.root.rglob("*") if p.is_file()) == before


def test_the_log_holds_canonical_statements_of_the_right_type(chain):
    for line in (chain.root / "evidence" / "log.jsonl").read_bytes().splitlines():
        envelope = json.loads(line)
        assert rfc8785.dumps(envelope) == line
        assert json.loads(base64.b64decode(envelope["payload"]))["_type"] == "https://in-toto.io/Statement/v1"
