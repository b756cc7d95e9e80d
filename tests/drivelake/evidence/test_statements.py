"""Laws of statements: what was signed reads back as it was, other tools agree, and every forgery is refused by name."""

import base64
import datetime as dt
import json
import shutil
import subprocess
from dataclasses import dataclass

import pytest
import rfc8785
from google.protobuf.json_format import ParseDict
from hypothesis import given, settings
from hypothesis import strategies as st
from in_toto_attestation.v1 import statement_pb2
from in_toto_attestation.v1.statement import Statement as InTotoStatement
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from drivelake.errors import VerificationFailed
from drivelake.evidence.keys import create_keys, load_public, load_signer
from drivelake.evidence.policy import APPROVAL, INVENTORY, PROVENANCE, TEST_RESULT, Policy
from drivelake.evidence.statements import (
    CodeState,
    Subject,
    approval,
    gate_result,
    inventory,
    open_envelope,
    pae,
    parse_envelope,
    payload_holds,
    provenance,
    sign,
    subject_of,
)
from drivelake.manifest import FileEntry, Input, Manifest, Reference

NOW = dt.datetime(2025, 11, 20, 9, 0, 0, 123456, tzinfo=dt.timezone(dt.timedelta(hours=1)))
CODE = CodeState("c" * 64, "d" * 40, git_modified=True)
PARAMETERS = {"seed": 7, "rate": 0.5, "note": None, "nested": {"ü": [1, True, "x", {}]}, "most": 2**53 - 1}
FILES = (FileEntry(path="a/b.bin", bytes=3, sha256="1" * 64), FileEntry(path="a.bin", bytes=4, sha256="2" * 64))


@dataclass(frozen=True)
class Found:
    """The shape of drivelake.stage.Finding."""

    value: str
    measured: float | None
    minimum: float | None
    maximum: float | None
    verdict: str


GOOD = (Found("test.r2", 0.93, 0.8, None, "PASS"), Found("test.mae", 1, 0, 2.5, "PASS"))
BAD = (*GOOD, Found("test.night.r2", None, 0.7, None, "NOT SHOWN"), Found("drop", 0.3, None, 0.2, "FAIL"))


def manifest(**changes):
    fields = {
        "asset": "checkpoints",
        "partition": "lane",
        "files": FILES,
        "references": (Reference(path="b.mcap", bytes=5, sha256="3" * 64, uri="inbox:d/b.mcap"),),
        "inputs": (Input(asset="curated_datasets", partition="cut_in", version="4" * 64),),
        "code_version": "3",
        "parameters": PARAMETERS,
        "tools": {"python": "3.11", "torch": "2.13"},
    }
    return Manifest(**{**fields, **changes})


SUBJECT = subject_of(manifest())


def made(**changes):
    return provenance(manifest(**changes), run_id="r1", started=NOW, finished=NOW + dt.timedelta(minutes=1), code=CODE)


def approved():
    return approval(SUBJECT, decision="APPROVED", by="safety@example.com", reason="reviewed", decided=NOW)


def gated(criteria=GOOD, result="PASSED"):
    return gate_result(SUBJECT, gate="checkpoint", result=result, criteria=criteria)


@pytest.fixture(scope="module")
def room(tmp_path_factory):
    folder = tmp_path_factory.mktemp("keys")
    create_keys(folder / "private", folder / "trust", roles=("runner", "logger", "log", "approver"))
    create_keys(folder / "foreign", folder / "elsewhere")
    return folder


@pytest.fixture(scope="module")
def signers(room):
    return {role: load_signer(room / "private", role) for role in ("runner", "logger", "log", "approver")}


@pytest.fixture(scope="module")
def keys(room):
    return load_public(room / "trust")


POLICY = Policy.default()
EVERY = [("runner", made), ("runner", gated), ("logger", lambda: inventory(manifest())), ("approver", approved)]
KINDS = ["provenance", "gate", "inventory", "approval"]


@pytest.mark.parametrize(("role", "build"), EVERY, ids=KINDS)
def test_what_was_signed_opens_as_it_was(signers, keys, role, build):
    statement = build()
    envelope = sign(statement, signers[role])
    assert envelope == sign(build(), signers[role]), "signing must be deterministic"
    assert b"\n" not in envelope
    opened = open_envelope(envelope, keys, POLICY)
    assert opened.statement == statement == parse_envelope(envelope)
    assert (opened.role, opened.keyid) == (role, keys[role].keyid)


@pytest.mark.parametrize(("role", "build"), EVERY, ids=KINDS)
def test_in_toto_and_securesystemslib_accept_the_envelope(signers, keys, role, build):
    raw = json.loads(sign(build(), signers[role]))
    public = SSlibKey(keys[role].keyid, "ed25519", "ed25519", {"public": keys[role].raw.hex()})
    envelope = Envelope.from_dict(json.loads(json.dumps(raw)))
    assert envelope.verify([public], threshold=1)
    InTotoStatement.copy_from_pb(ParseDict(json.loads(envelope.payload), statement_pb2.Statement())).validate()
    raw["payload"] = base64.b64encode(envelope.payload.replace(b"lane", b"land")).decode()
    with pytest.raises(VerificationError):
        Envelope.from_dict(raw).verify([public], threshold=1)


def test_openssl_accepts_the_signature_and_refuses_another(signers, room, tmp_path):
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed: its opinion on the signature is NOT SHOWN")
    envelope = json.loads(sign(made(), signers["runner"]))
    (tmp_path / "signature").write_bytes(base64.b64decode(envelope["signatures"][0]["sig"]))
    payload = base64.b64decode(envelope["payload"])
    for signed, expected in ((pae(payload), 0), (pae(payload + b" "), 1)):
        (tmp_path / "signed").write_bytes(signed)
        call = ["openssl", "pkeyutl", "-verify", "-rawin", "-pubin", "-inkey", room / "trust" / "runner.pub.pem"]
        asked = subprocess.run(
            [*call, "-in", tmp_path / "signed", "-sigfile", tmp_path / "signature"], capture_output=True, check=False
        )
        assert asked.returncode == expected, asked.stdout + asked.stderr


def test_the_signed_bytes_are_those_of_the_dsse_specification():
    assert pae(b"hello world", "http://example.com/HelloWorld") == b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"


def test_provenance_names_version_inputs_code_and_run():
    binary = Subject.of("lane.onnx", "5" * 64)
    run_log = Subject.of("run.log", "6" * 64)
    statement = provenance(manifest(), run_id="r1", started=NOW, finished=NOW, code=CODE, extra=[binary], logs=[run_log])
    said = json.loads(statement.canonical())
    assert statement.subject == (Subject.of("checkpoints/lane", manifest().version), binary)
    assert statement.predicate.inputs == (Subject.of("curated_datasets/cut_in", "4" * 64),)
    assert statement.predicate.code == CODE
    assert said["predicateType"] == PROVENANCE
    assert said["predicate"]["buildDefinition"]["externalParameters"]["parameters"] == PARAMETERS
    details = said["predicate"]["runDetails"]
    assert details["metadata"] == {
        "invocationId": "r1",
        "startedOn": "2025-11-20T08:00:00Z",
        "finishedOn": "2025-11-20T08:00:00Z",
    }
    assert details["byproducts"] == [{"name": "run.log", "digest": {"sha256": "6" * 64}}]


def test_code_without_a_commit_is_named_by_its_source_alone():
    statement = provenance(manifest(), run_id="r", started=NOW, finished=NOW, code=CodeState("c" * 64))
    assert statement.predicate.code == CodeState("c" * 64)
    assert b"gitCommit" not in statement.canonical()


def test_the_inventory_lists_every_file_and_every_registered_log():
    said = inventory(manifest()).predicate
    assert [(f.path, f.bytes, f.sha256) for f in said.files] == [
        ("a.bin", 4, "2" * 64),
        ("a/b.bin", 3, "1" * 64),
        ("b.mcap", 5, "3" * 64),
    ]
    assert (said.count, said.bytes) == (3, 12)
    assert b"file://" not in inventory(manifest()).canonical(), "where a log stood is no part of what arrived"


def test_a_gate_shows_every_number_and_what_was_not_shown():
    said = json.loads(gated(BAD, "FAILED").canonical())["predicate"]
    assert said["passedTests"] == ["test.r2", "test.mae"]
    assert said["failedTests"] == ["test.night.r2", "drop"]
    rows = said["configuration"][0]["annotations"]["criteria"]
    assert rows[2] == {"value": "test.night.r2", "minimum": 0.7, "verdict": "NOT SHOWN"}
    assert said["configuration"][0]["name"] == "checkpoint"


@pytest.mark.parametrize(
    ("criteria", "result", "reason"),
    [
        (BAD, "PASSED", "2 of 4 criteria passed"),
        (GOOD, "FAILED", "2 of 2 criteria passed"),
        ((), "PASSED", "0 of 0 criteria passed"),
        ((Found("r2", 0.1, 0.8, None, "PASS"),), "PASSED", "FAIL, not PASS"),
        ((Found("r2", None, 0.8, None, "PASS"),), "PASSED", "NOT SHOWN, not PASS"),
        ((Found("r2", 0.9, None, None, "PASS"),), "PASSED", "no bound"),
        ((Found("r2", float("nan"), 0.8, None, "FAIL"),), "FAILED", "measured"),
        ((Found("r2", 0.9, 0.8, None, "WARN"),), "PASSED", "verdict"),
    ],
)
def test_a_gate_that_contradicts_its_numbers_cannot_be_stated(criteria, result, reason):
    with pytest.raises(VerificationFailed, match=reason):
        gated(criteria, result)


def test_a_gate_without_criteria_can_only_fail():
    assert gated((), "FAILED").predicate.result == "FAILED"


def test_a_statement_that_is_missing_a_part_cannot_be_made():
    with pytest.raises(VerificationFailed, match="no time zone"):
        provenance(manifest(), run_id="r", started=NOW.replace(tzinfo=None), finished=NOW, code=CODE)
    with pytest.raises(VerificationFailed, match="invocationId"):
        provenance(manifest(), run_id="", started=NOW, finished=NOW, code=CODE)
    with pytest.raises(VerificationFailed, match="named twice"):
        made(inputs=manifest().inputs * 2)
    with pytest.raises(VerificationFailed, match="one name"):
        provenance(manifest(), run_id="r", started=NOW, finished=NOW, code=CODE, extra=[SUBJECT])
    with pytest.raises(VerificationFailed, match="reason"):
        approval(SUBJECT, decision="APPROVED", by="a", reason="", decided=NOW)


@pytest.mark.parametrize(("role", "build"), EVERY, ids=KINDS)
def test_the_sieve_finds_what_the_payload_holds(signers, role, build):
    raw = sign(build(), signers[role])
    assert payload_holds(raw, manifest().version)
    assert payload_holds(raw, "checkpoints/lane")
    assert not payload_holds(raw, "8" * 64)
    assert not payload_holds(raw, signers[role].public.keyid), "the signature is no part of the payload"


@pytest.mark.parametrize(("role", "build"), EVERY, ids=KINDS)
def test_a_foreign_key_under_a_trusted_name_is_refused(room, keys, role, build):
    with pytest.raises(VerificationFailed, match="unknown key"):
        open_envelope(sign(build(), load_signer(room / "foreign", "runner")), keys, POLICY)


def test_a_key_id_is_never_trusted_alone(room, keys):
    forged = json.loads(sign(made(), load_signer(room / "foreign", "runner")))
    forged["signatures"][0]["keyid"] = keys["runner"].keyid
    with pytest.raises(VerificationFailed, match="role 'runner' did not make"):
        open_envelope(rfc8785.dumps(forged), keys, POLICY)


@pytest.mark.parametrize(
    ("role", "build"),
    [("runner", approved), ("runner", lambda: inventory(manifest())), ("logger", made), ("approver", gated), ("log", made)],
    ids=["runner approves itself", "runner takes in", "logger makes", "approver measures", "log makes"],
)
def test_a_role_that_the_policy_does_not_allow_is_refused(signers, keys, role, build):
    with pytest.raises(VerificationFailed, match=f"signed by role '{role}'"):
        open_envelope(sign(build(), signers[role]), keys, POLICY)


def test_a_predicate_type_that_the_policy_leaves_out_has_no_role(signers, keys):
    silent = Policy(log_origin="o", roles={})
    with pytest.raises(VerificationFailed, match="no role"):
        open_envelope(sign(made(), signers["runner"]), keys, silent)


def resigned(statement, change, signer):
    """An envelope with a valid signature over a changed statement, as a lying holder of the key would make it."""
    said = json.loads(statement.canonical())
    change(said)
    payload = rfc8785.dumps(said)
    signature = {"keyid": signer.public.keyid, "sig": base64.b64encode(signer.sign(pae(payload))).decode()}
    envelope = {
        "payload": base64.b64encode(payload).decode(),
        "payloadType": "application/vnd.in-toto+json",
        "signatures": [signature],
    }
    return rfc8785.dumps(envelope)


def renamed(said):
    definition = said["predicate"]["buildDefinition"]
    definition["resolved_dependencies"] = definition.pop("resolvedDependencies")


@pytest.mark.parametrize(
    ("build", "change", "reason"),
    [
        (made, lambda s: s["predicate"].update(bogus=1), "bogus"),
        (made, lambda s: s["predicate"]["buildDefinition"].update(bogus=1), "bogus"),
        (made, renamed, "not in canonical form"),
        (made, lambda s: s["predicate"]["buildDefinition"]["resolvedDependencies"].pop(1), "expected a dependency 'source'"),
        (made, lambda s: s["predicate"]["buildDefinition"].update(buildType="x"), "buildType"),
        (made, lambda s: s["predicate"]["runDetails"]["metadata"].update(startedOn="2025-13-40T08:00:00Z"), "startedOn|time"),
        (made, lambda s: s.update(predicateType="urn:else"), "unknown"),
        (made, lambda s: s.update(predicateType=TEST_RESULT), "configuration|result"),
        (made, lambda s: s.update(subject=[]), "subject"),
        (made, lambda s: s["subject"][0]["digest"].update(sha256="A" * 64), "sha256"),
        (made, lambda s: s.update(_type="https://in-toto.io/Statement/v0.1"), "_type"),
        (gated, lambda s: s["predicate"].update(result="FAILED"), "PASSED, not FAILED"),
        (gated, lambda s: s["predicate"]["configuration"][0]["annotations"]["criteria"][0].update(minimum=0.1), "digest"),
        (gated, lambda s: s["predicate"].update(passedTests=["test.r2"]), "do not list"),
        (lambda: gated(BAD, "FAILED"), lambda s: s["predicate"].update(result="PASSED"), "FAILED, not PASSED"),
        (lambda: inventory(manifest()), lambda s: s["predicate"].update(count=2), "says 2"),
        (lambda: inventory(manifest()), lambda s: s["predicate"]["files"].reverse(), "not sorted"),
        (approved, lambda s: s["predicate"].update(decision="MAYBE"), "decision"),
    ],
)
def test_a_statement_that_contradicts_itself_is_refused_in_spite_of_its_signature(signers, keys, build, change, reason):
    with pytest.raises(VerificationFailed, match=reason):
        open_envelope(resigned(build(), change, signers["runner"]), keys, POLICY)


def test_another_payload_type_is_refused(signers, keys):
    envelope = json.loads(sign(made(), signers["runner"]))
    envelope["payloadType"] = "application/json"
    with pytest.raises(VerificationFailed, match="payload type 'application/json'"):
        open_envelope(rfc8785.dumps(envelope), keys, POLICY)


def test_more_or_fewer_signatures_than_one_are_refused(signers, keys):
    envelope = json.loads(sign(made(), signers["runner"]))
    for count in (0, 2):
        changed = {**envelope, "signatures": envelope["signatures"] * count}
        with pytest.raises(VerificationFailed, match="not a DSSE envelope"):
            open_envelope(rfc8785.dumps(changed), keys, POLICY)


def test_the_same_content_in_other_bytes_is_refused(signers, keys):
    raw = sign(made(), signers["runner"])
    twice = raw.replace(b'"payloadType":', b'"payloadType":"x","payloadType":')
    for other in (raw + b" ", b" " + raw, json.dumps(json.loads(raw)).encode(), raw.replace(b"/", b"\\/"), twice):
        with pytest.raises(VerificationFailed, match="not in canonical form"):
            open_envelope(other, keys, POLICY)


ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"


def test_a_signature_in_another_base64_spelling_is_refused(signers, keys):
    envelope = json.loads(sign(made(), signers["runner"]))
    sig = envelope["signatures"][0]["sig"]
    # 64 bytes leave four bits of the last letter without a meaning
    other = sig[:-3] + ALPHABET[ALPHABET.index(sig[-3]) ^ 1] + "=="
    assert base64.b64decode(other) == base64.b64decode(sig)
    for spelling, reason in ((other, "spelling"), (sig.rstrip("="), "not base64"), (sig + "\n", "not base64|spelling")):
        envelope["signatures"][0]["sig"] = spelling
        with pytest.raises(VerificationFailed, match=reason):
            open_envelope(rfc8785.dumps(envelope), keys, POLICY)


def test_the_message_says_where(signers):
    with pytest.raises(VerificationFailed, match=r"^log\.jsonl line 7 is not a DSSE envelope"):
        open_envelope(b"{}", {}, POLICY, where="log.jsonl line 7")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_any_flipped_bit_of_an_envelope_is_refused(signers, keys, data):
    raw = bytearray(sign(gated(), signers["runner"]))
    position = data.draw(st.integers(0, len(raw) - 1))
    raw[position] ^= 1 << data.draw(st.integers(0, 7))
    with pytest.raises(VerificationFailed):
        open_envelope(bytes(raw), keys, POLICY)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=100, deadline=None)
@given(raw=st.binary(max_size=60) | JSON.map(lambda value: json.dumps(value).encode()))
def test_wild_bytes_are_refused_and_never_crash(keys, raw):
    with pytest.raises(VerificationFailed):
        open_envelope(raw, keys, POLICY)


@settings(max_examples=100, deadline=None)
@given(value=JSON)
def test_wild_parameters_under_a_valid_signature_open_or_are_refused(signers, keys, value):
    payload = json.loads(made().canonical())
    payload["predicate"]["buildDefinition"]["externalParameters"] = {"wild": value}
    raw = json.dumps(payload).encode()
    signature = {"keyid": keys["runner"].keyid, "sig": base64.b64encode(signers["runner"].sign(pae(raw))).decode()}
    envelope = {"payload": base64.b64encode(raw).decode(), "payloadType": "application/vnd.in-toto+json"}
    try:
        opened = open_envelope(rfc8785.dumps({**envelope, "signatures": [signature]}), keys, POLICY)
    except VerificationFailed:
        return
    assert opened.statement.canonical() == raw


@settings(max_examples=60, deadline=None)
@given(value=st.dictionaries(st.text(max_size=5), JSON, max_size=3))
def test_every_parameter_that_a_manifest_can_hold_can_be_stated(signers, keys, value):
    try:
        manifest(parameters=value).canonical()
    except ValueError:
        return
    statement = made(parameters=value)
    assert open_envelope(sign(statement, signers["runner"]), keys, POLICY).statement == statement


@pytest.mark.parametrize("value", [1e20, 2.0**53, -1e16, 1.7e308, 5e-324])
def test_large_and_small_doubles_survive_the_round_trip(signers, keys, value):
    opened = open_envelope(sign(made(parameters={"x": value}), signers["runner"]), keys, POLICY)
    assert opened.statement.predicate.build_definition.external_parameters["parameters"] == {"x": value}


def test_an_integer_that_no_double_holds_is_refused(signers, keys):
    payload = made(parameters={"x": 1}).canonical()
    for number in (b"9007199254740993", b"1" + b"0" * 400):
        raw = payload.replace(b'"x":1', b'"x":' + number)
        signature = {"keyid": keys["runner"].keyid, "sig": base64.b64encode(signers["runner"].sign(pae(raw))).decode()}
        envelope = {"payload": base64.b64encode(raw).decode(), "payloadType": "application/vnd.in-toto+json"}
        with pytest.raises(VerificationFailed, match=r"canonical form|JSON can carry"):
            open_envelope(rfc8785.dumps({**envelope, "signatures": [signature]}), keys, POLICY)


def test_the_predicate_types_of_others_are_spelled_as_they_spell_them():
    assert PROVENANCE == "https://slsa.dev/provenance/v1"
    assert TEST_RESULT == "https://in-toto.io/attestation/test-result/v0.1"
    assert all(ours.startswith("urn:drivelake:predicate:") for ours in (INVENTORY, APPROVAL))
