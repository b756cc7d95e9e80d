"""Signed statements about asset versions. Belongs here: building, signing and opening them.

Never here: keeping them in order (the log), and deciding what they add up to (the verifier). A statement is an in-toto
Statement v1 in canonical JSON (RFC 8785), in a DSSE envelope with one Ed25519 signature:

    predicate                       says                                             signed by (default policy)
    SLSA provenance v1              this version was made from these by this code    runner
    in-toto test-result v0.1        this version met, or missed, these criteria      runner
    ingest inventory v1 (ours)      these files arrived                              logger
    approval v1 (ours)              a person approved, or rejected, this version     approver
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import rfc8785
from pydantic import ValidationError

from drivelake import __version__
from drivelake.errors import VerificationFailed
from drivelake.evidence.keys import PublicKey, Signer
from drivelake.evidence.policy import APPROVAL, INVENTORY, PROVENANCE, TEST_RESULT, Policy
from drivelake.evidence.predicates import (
    Approval,
    CodeState,
    Criterion,
    Inventory,
    Predicate,
    Provenance,
    Sha256,
    Statement,
    Strict,
    Subject,
    TestResult,
    digest_of,
)
from drivelake.manifest import Manifest

if TYPE_CHECKING:
    # only its shape is needed; at run time it would bring the version store along
    from drivelake.stage import Finding

__all__ = [
    "Approval",
    "CodeState",
    "Criterion",
    "Inventory",
    "Opened",
    "Predicate",
    "Provenance",
    "Statement",
    "Subject",
    "TestResult",
    "approval",
    "gate_result",
    "inventory",
    "open_envelope",
    "pae",
    "parse_envelope",
    "payload_holds",
    "provenance",
    "sign",
    "subject_of",
]

PAYLOAD_TYPE = "application/vnd.in-toto+json"


class Signature(Strict):
    """One signature of an envelope, base64."""

    keyid: Sha256
    sig: str


class Envelope(Strict):
    """DSSE v1.0 with one signature, since one role speaks."""

    payload: str
    payload_type: str
    signatures: tuple[Signature]


@dataclass(frozen=True)
class Opened:
    """A statement whose signature holds, and the role that made it."""

    statement: Statement
    role: str
    keyid: str


def subject_of(manifest: Manifest) -> Subject:
    """The version that a manifest identifies, as a subject."""
    return Subject.of(manifest.name, manifest.version)


def provenance(
    manifest: Manifest,
    *,
    run_id: str,
    started: dt.datetime,
    finished: dt.datetime,
    code: CodeState,
    extra: Sequence[Subject] = (),
    logs: Sequence[Subject] = (),
) -> Statement:
    """State what a version was made from.

    Args:
        manifest: the version; its inputs become the dependencies.
        run_id: names the run, not empty.
        started: with a time zone; kept to the second, UTC.
        finished: as ``started``.
        code: what ran.
        extra: further subjects, e.g. each binary of an artefact, so that a binary alone finds its lineage.
        logs: what the run left beside the version; becomes SLSA byproducts.

    Raises:
        VerificationFailed: the parts do not make a valid statement, e.g. an empty run id or one input named twice.
    """
    inputs = [_descriptor(f"{i.asset}/{i.partition}", i.version) for i in manifest.inputs]
    source = _descriptor("source", code.source_sha256)
    commit = {"name": "commit", "digest": {"gitCommit": code.git_commit}, "annotations": {"modified": code.git_modified}}
    asked = {"asset": manifest.asset, "partition": manifest.partition, "parameters": manifest.parameters}
    predicate = {
        "buildDefinition": {
            "externalParameters": asked,
            "internalParameters": {"codeVersion": manifest.code_version, "recipe": manifest.recipe},
            "resolvedDependencies": [*inputs, source, *([commit] if code.git_commit else [])],
        },
        "runDetails": {
            "builder": {"version": {**manifest.tools, "drivelake": __version__}},
            "metadata": {"invocationId": run_id, "startedOn": _utc(started), "finishedOn": _utc(finished)},
            "byproducts": list(logs) or None,
        },
    }
    return _statement([subject_of(manifest), *extra], PROVENANCE, predicate)


def inventory(manifest: Manifest) -> Statement:
    """State which files arrived: every file and every registered log of the version, with size and SHA-256."""
    entries = sorted((*manifest.files, *manifest.references), key=lambda e: e.path)
    files = [{"path": e.path, "bytes": e.bytes, "sha256": e.sha256} for e in entries]
    predicate = {"count": len(files), "bytes": sum(e.bytes for e in entries), "files": files}
    return _statement([subject_of(manifest)], INVENTORY, predicate)


def gate_result(subject: Subject, *, gate: str, result: Literal["PASSED", "FAILED"], criteria: Sequence[Finding]) -> Statement:
    """State what a gate decided about a version, and on which numbers.

    Args:
        subject: the version decided on.
        gate: its name.
        result: PASSED only when there are criteria and all of them passed.
        criteria: as judged, in the order they were declared.

    Raises:
        VerificationFailed: a verdict that its numbers contradict, a result that the verdicts contradict, a criterion
            without a bound, or a number that JSON lacks.
    """
    try:
        rows = [Criterion.model_validate(finding, from_attributes=True) for finding in criteria]
    except ValidationError as error:
        raise _unmakeable(TEST_RESULT, _first(error)) from None
    predicate = {
        "result": result,
        "configuration": [{"name": gate, "digest": {"sha256": digest_of(rows)}, "annotations": {"criteria": rows}}],
        "passedTests": [r.value for r in rows if r.verdict == "PASS"] or None,
        "failedTests": [r.value for r in rows if r.verdict != "PASS"] or None,
    }
    return _statement([subject], TEST_RESULT, predicate)


def approval(
    subject: Subject, *, decision: Literal["APPROVED", "REJECTED"], by: str, reason: str, decided: dt.datetime
) -> Statement:
    """State a person's decision about a version; ``decided`` carries a time zone and is kept to the second, UTC."""
    return _statement([subject], APPROVAL, {"decision": decision, "by": by, "reason": reason, "decidedOn": _utc(decided)})


def pae(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """The bytes that a DSSE signature covers (pre-authentication encoding, DSSE protocol v1.0)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def sign(statement: Statement, signer: Signer) -> bytes:
    """The statement in a signed envelope: one line of canonical JSON, the same for the same statement and key."""
    payload = statement.canonical()
    signature = {"keyid": signer.public.keyid, "sig": _encode(signer.sign(pae(payload)))}
    return rfc8785.dumps({"payload": _encode(payload), "payloadType": PAYLOAD_TYPE, "signatures": [signature]})


def open_envelope(raw: bytes, public_keys: Mapping[str, PublicKey], policy: Policy, *, where: str = "The envelope") -> Opened:
    """Check an envelope's form, signature, role and predicate.

    Args:
        raw: the envelope as it stands in the log, without the line's end.
        public_keys: trusted keys by role.
        policy: which role may sign which predicate type.
        where: opens the message of an error, e.g. ``log.jsonl line 7``.

    Raises:
        VerificationFailed: the message names the reason.
    """
    signature, signed, statement = _parse(raw, where)
    role = next((r for r, key in public_keys.items() if key.keyid == signature.keyid), None)
    if role is None:
        known = ", ".join(f"{r} {k.keyid[:12]}" for r, k in sorted(public_keys.items()))
        raise _refused(where, f"is signed by unknown key {signature.keyid[:12]}; trusted are: {known or 'none'}")
    if not public_keys[role].verifies(_decode(signature.sig, where, "signature"), signed):
        raise _refused(where, f"carries a signature that key {signature.keyid[:12]} of role {role!r} did not make")
    allowed: tuple[str, ...] = next((r for kind, r in policy.roles.items() if kind == statement.predicate_type), ())
    if role not in allowed:
        expected = ", ".join(allowed) or "no role"
        raise _refused(where, f"is signed by role {role!r}; for {statement.predicate_type} the policy allows {expected}")
    return Opened(statement, role, signature.keyid)


def parse_envelope(raw: bytes, *, where: str = "The envelope") -> Statement:
    """The statement in an envelope of valid form. The signature is NOT checked: whoever relies on it opens it.

    Raises:
        VerificationFailed: not canonical, not DSSE with an in-toto payload, or not a known statement.
    """
    return _parse(raw, where)[2]


def payload_holds(raw: bytes, text: str) -> bool:
    """Whether the payload of a canonical envelope holds a text anywhere: a cheap sieve before parsing."""
    # canonical form sorts keys, so that the payload is the first value
    start = len(b'{"payload":"')
    return text.encode() in base64.b64decode(raw[start : raw.index(b'"', start)])


def _parse(raw: bytes, where: str) -> tuple[Signature, bytes, Statement]:
    """Signature, signed bytes and statement. Both layers must be canonical, so that their bytes have one meaning."""
    try:
        envelope = Envelope.model_validate_json(raw)
    except ValidationError as error:
        raise _refused(where, f"is not a DSSE envelope: {_first(error)}") from None
    if rfc8785.dumps(envelope.model_dump(mode="json", by_alias=True)) != raw:
        raise _refused(where, "is not in canonical form")
    if envelope.payload_type != PAYLOAD_TYPE:
        raise _refused(where, f"has payload type {envelope.payload_type!r}, expected {PAYLOAD_TYPE!r}")
    payload = _decode(envelope.payload, where, "payload")
    try:
        statement = Statement.model_validate_json(payload)
        canonical = statement.canonical()
    except ValidationError as error:
        raise _refused(where, f"holds no known statement: {_first(error)}") from None
    except rfc8785.CanonicalizationError as error:
        raise _refused(where, f"holds a value without canonical form: {error}") from None
    if canonical != payload:
        raise _refused(where, "holds a statement that is not in canonical form")
    return envelope.signatures[0], pae(payload), statement


def _statement(subject: Sequence[Subject], predicate_type: str, predicate: Mapping[str, object]) -> Statement:
    try:
        statement = Statement.model_validate({"subject": subject, "predicateType": predicate_type, "predicate": predicate})
        statement.canonical()
    except ValidationError as error:
        raise _unmakeable(predicate_type, _first(error)) from None
    except rfc8785.CanonicalizationError as error:
        raise _unmakeable(predicate_type, str(error)) from None
    return statement


def _descriptor(name: str, sha256: str) -> dict[str, object]:
    """An in-toto ResourceDescriptor."""
    return {"name": name, "digest": {"sha256": sha256}}


def _utc(moment: dt.datetime) -> str:
    if moment.tzinfo is None:
        raise VerificationFailed(f"Time {moment.isoformat()} has no time zone.", next_step="pass a time with one, e.g. UTC")
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _encode(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


def _decode(text: str, where: str, what: str) -> bytes:
    """Standard base64, in the one spelling that encodes to itself."""
    try:
        raw = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refused(where, f"has a {what} that is not base64: {error}") from None
    if _encode(raw) != text:
        raise _refused(where, f"has a {what} in a base64 spelling that is not canonical")
    return raw


def _unmakeable(predicate_type: str, reason: str) -> VerificationFailed:
    return VerificationFailed(
        f"A statement of type {predicate_type} cannot be made: {reason}.", next_step="correct the stage that asked for it"
    )


def _refused(where: str, reason: str) -> VerificationFailed:
    return VerificationFailed(f"{where} {reason}.", next_step="do not use what it speaks of; compare with a copy of the log")


def _first(error: ValidationError) -> str:
    """The first error as one phrase."""
    first = error.errors()[0]
    return f"{'.'.join(map(str, first['loc'])) or 'top level'}: {first['msg']}"
