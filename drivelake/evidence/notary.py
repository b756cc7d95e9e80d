"""The lake's notary: what is signed about a version, and that it is signed once. Belongs here: statements to log.

Never here: how a statement or the log is built, or keys of people: an approver signs elsewhere.
"""

from __future__ import annotations

import datetime as dt
from typing import Literal

from drivelake.errors import NotFound
from drivelake.evidence.code import code_state
from drivelake.evidence.keys import create_keys, load_public, load_signer
from drivelake.evidence.log import LOG_FILE, EvidenceLog
from drivelake.evidence.policy import POLICY_FILE, Policy
from drivelake.evidence.statements import (
    Statement,
    Subject,
    TestResult,
    gate_result,
    inventory,
    parse_envelope,
    provenance,
    sign,
    subject_of,
)
from drivelake.lake import Lake
from drivelake.manifest import Manifest
from drivelake.stage import Made, Run

__all__ = ["LakeNotary", "establish_trust"]


def establish_trust(lake: Lake) -> None:
    """Make the lake's keys and policy while its log is empty; what is there is never replaced.

    Raises:
        NotFound: the log holds statements and the trust folder lost its policy: a new one would ask for less.
    """
    trust = lake.root / "trust"
    log = lake.root / "evidence" / LOG_FILE
    if (trust / POLICY_FILE).exists():
        return
    if log.exists() and log.stat().st_size:
        raise NotFound(
            f"{trust / POLICY_FILE} is gone, and the log holds statements that were judged by it.",
            next_step="restore the trust folder from your own copy",
        )
    keys = create_keys(lake.root / "keys", trust)
    Policy.default(keys=keys).save(trust)


class LakeNotary:
    """Signs with the lake's own runner and logger keys; a version that is already in the log is not signed again."""

    def __init__(self, lake: Lake) -> None:
        trust, keys = lake.root / "trust", lake.root / "keys"
        self._public = load_public(trust)
        self._policy = Policy.load(trust)
        self._signers = {role: load_signer(keys, role) for role in ("runner", "logger")}
        self._log = EvidenceLog(
            lake.root / "evidence",
            origin=self._policy.log_origin,
            public_keys=self._public,
            signer=load_signer(keys, "log"),
            witness=keys / "log.witness",
        )

    def recover(self) -> None:
        """Finish what a kill in the middle of an append left behind."""
        self._log.append(())

    def attest(self, manifest: Manifest, made: Made, run: Run) -> str:
        """Log provenance, the inventory of raw logs, and each gate's decision; gives the digest of the sources."""
        extra = [Subject.of(e.path, e.sha256) for e in manifest.files] if made.name_files else []
        finished = dt.datetime.now(dt.UTC)
        wanted = [
            (
                "runner",
                provenance(manifest, run_id=run.id, started=run.started, finished=finished, code=code_state(), extra=extra),
            )
        ]
        if manifest.asset == "raw_logs":
            wanted.append(("logger", inventory(manifest)))
        for decision in made.decisions:
            about = decision.subject
            subject = Subject.of(f"{about.asset}/{about.partition}", about.version) if about else subject_of(manifest)
            outcome: Literal["PASSED", "FAILED"] = "PASSED" if decision.passed else "FAILED"
            wanted.append(("runner", gate_result(subject, gate=decision.gate, result=outcome, criteria=decision.findings)))
        fresh = [sign(statement, self._signers[role]) for role, statement in wanted if not self._said(statement)]
        if fresh:
            self._log.append(fresh)
        return code_state().source_sha256

    def _said(self, statement: Statement) -> bool:
        about = self._log.about(statement.subject[0].digest.sha256)
        return _key(statement) in {_key(parse_envelope(raw)) for raw in about}


def _key(statement: Statement) -> tuple[str, ...]:
    """What makes two statements say the same: the kind, the version, and for a gate its name and numbers."""
    kind, version = statement.predicate_type, statement.subject[0]
    said = statement.predicate
    return (
        kind,
        version.name,
        version.digest.sha256,
        said.configuration[0].digest.sha256 if isinstance(said, TestResult) else "",
    )
