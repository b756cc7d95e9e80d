"""The verifier: from one artefact down to the raw bytes, offline. Belongs here: its question, its answer, reading the log.

Never here: writing anything, asking Dagster, a database or a network, trusting a commit message or a file name.
It needs read access to the lake, the public keys and the policy; those are pinned in a trust folder that may
stand anywhere. What it cannot see: a runner that lied about what it did, a bar set too low (the criteria are those the
artefact was released by), and a history rewritten with all keys, unless an earlier checkpoint is handed to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from drivelake.errors import DrivelakeError, VerificationFailed
from drivelake.evidence.keys import load_public
from drivelake.evidence.log import EvidenceLog
from drivelake.evidence.policy import Policy
from drivelake.evidence.statements import Statement, open_envelope
from drivelake.evidence.walk import Problem, Statements, Walk
from drivelake.lake import Lake, Version

__all__ = ["Problem", "Scope", "Verification", "verify"]

# from the artefact down; also every other version at main; also every version that ever stood there
Scope = Literal["artefact", "main", "history"]


@dataclass
class Verification:
    """What was looked at and what did not agree. Verified means: looked at, and no problem."""

    artefact: str
    version: str
    scope: Scope = "artefact"
    versions: int = 0
    files: int = 0
    bytes: int = 0
    raw_logs: int = 0
    statements: int = 0
    log_size: int = 0
    trust: str = ""
    witnessed: bool = False
    problems: list[Problem] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)

    @property
    def verified(self) -> bool:
        """At least one version was walked and nothing disagreed."""
        return self.versions > 0 and not self.problems

    def require(self) -> None:
        """Pass only when verified.

        Raises:
            VerificationFailed: names the first file, and how many more there are.
        """
        if not self.verified:
            first = self.problems[0]
            more = f" ({len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            raise VerificationFailed(
                f"{self.artefact} is NOT VERIFIED: {first.where}: {first.what.rstrip('.')}{more}.",
                next_step="restore what is named from a copy, or run its step again",
            )


def verify(
    lake: Lake,
    artefact: Version,
    *,
    trust: Path | None = None,
    witness: str | None = None,
    scope: Scope = "artefact",
    progress: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Walk from ``artefact`` to the raw bytes, rehash all of it and check every signature, gate and split.

    Args:
        lake: where the bytes and the log stand.
        artefact: what to start from.
        trust: folder of public keys and ``policy.json``; the lake's own when not given.
        witness: text of an earlier checkpoint, to catch a rewritten history.
        scope: how much else is walked.
        progress: hears the name of each version.
    """
    trust = trust or lake.root / "trust"
    result = Verification(artefact=artefact.name, version=artefact.digest, scope=scope, trust=str(trust))
    try:
        policy, statements = _read_log(lake, trust, witness, result)
        walk = Walk(
            lake, lake.store.resolve("main"), policy, statements, progress, problems=result.problems, notices=result.notices
        )
    except DrivelakeError as error:
        result.problems.append(Problem("evidence log", error.message))
        return result
    others = {"artefact": (), "main": (walk.heads, walk.unpublished), "history": (walk.heads, walk.unpublished, walk.history)}
    walk.described()
    walk.down(artefact)
    for look in others[scope]:
        try:
            look()
        except DrivelakeError as error:  # a tree that cannot be read ends this look, not the others
            walk.problem("store/repo.git", error.message)
    result.versions, result.files, result.bytes, result.raw_logs = len(walk.seen), walk.files, walk.bytes, walk.raw_logs
    return result


def _read_log(lake: Lake, trust: Path, witness: str | None, result: Verification) -> tuple[Policy, Statements]:
    keys = load_public(trust)
    policy = Policy.load(trust)
    policy.require_keys(keys)
    log = EvidenceLog(lake.root / "evidence", origin=policy.log_origin, public_keys=keys)
    envelopes = log.read()
    result.log_size = len(envelopes)
    if witness is not None:
        log.consistent_with(witness)
        result.witnessed = True
    statements: dict[tuple[str, str], list[Statement]] = {}
    for line, raw in enumerate(envelopes, start=1):
        where = f"evidence/log.jsonl line {line}"
        try:
            statement = open_envelope(raw, keys, policy, where=where).statement
        except VerificationFailed as error:
            result.problems.append(Problem(where, error.message))
            continue
        result.statements += 1
        for subject in statement.subject:
            statements.setdefault((statement.predicate_type, subject.digest.sha256), []).append(statement)
    return policy, statements
