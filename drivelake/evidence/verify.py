"""The verifier: from one artefact down to the raw bytes, offline. Belongs here: every check and the words for it.

Never here: writing anything, asking Dagster, a database or a network, trusting a commit message or a file name.
It needs read access to the lake, the public keys and the policy; those are pinned in a trust folder that may
stand anywhere. What it cannot see: a runner that lied about what it did, and a history rewritten with all keys,
unless an earlier checkpoint is handed to it (``witness``).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow.parquet as pq
from pydantic import TypeAdapter

from drivelake.declaration import Criterion
from drivelake.errors import DrivelakeError, StoreError, VerificationFailed
from drivelake.evidence.keys import load_public
from drivelake.evidence.log import EvidenceLog
from drivelake.evidence.policy import APPROVAL, INVENTORY, PROVENANCE, TEST_RESULT, Policy
from drivelake.evidence.statements import Approval, Inventory, Provenance, Statement, TestResult, open_envelope
from drivelake.gates import decide
from drivelake.lake import Lake, Version
from drivelake.logs import is_log
from drivelake.manifest import ASSETS, FileEntry, hash_file

__all__ = ["Problem", "Verification", "verify"]

CRITERIA = TypeAdapter(tuple[Criterion, ...])
MEASURED_IN = {"checkpoints": "metrics.json", "soc_artefacts": "parity.json"}  # where a gate's numbers stand


@dataclass(frozen=True)
class Problem:
    """One thing that does not agree: which file or statement, and how."""

    where: str
    what: str


@dataclass
class Verification:
    """What was looked at and what did not agree. Verified means: looked at, and no problem."""

    artefact: str
    version: str
    versions: int = 0
    files: int = 0
    bytes: int = 0
    raw_logs: int = 0
    statements: int = 0
    log_size: int = 0
    trust: str = ""
    witnessed: bool = False
    problems: list[Problem] = field(default_factory=list)

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


Statements = Mapping[tuple[str, str], list[Statement]]


def verify(
    lake: Lake,
    artefact: Version,
    *,
    trust: Path | None = None,
    witness: str | None = None,
    everything: bool = False,
    progress: Callable[[str], None] = lambda _: None,
) -> Verification:
    """Walk from ``artefact`` to the raw bytes, rehash all of it and check every signature, gate and split.

    Args:
        lake: where the bytes and the log stand.
        artefact: what to start from.
        trust: folder of public keys and ``policy.json``; the lake's own when not given.
        witness: text of an earlier checkpoint, to catch a rewritten history.
        everything: also walk every other version at main.
        progress: hears the name of each version.
    """
    trust = trust or lake.root / "trust"
    result = Verification(artefact=artefact.name, version=artefact.digest, trust=str(trust))
    try:
        policy, statements = _read_log(lake, trust, witness, result)
    except DrivelakeError as error:
        result.problems.append(Problem("evidence log", error.message))
        return result
    walk = _Walk(lake, policy, statements, result, progress)
    walk.git()
    walk.down(artefact)
    if everything:
        for asset in ASSETS:
            for version in walk.heads(asset):
                walk.down(version)
    return result


def _read_log(lake: Lake, trust: Path, witness: str | None, result: Verification) -> tuple[Policy, Statements]:
    keys = load_public(trust)
    policy = Policy.load(trust)
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


class _Walk:
    """One pass down from an artefact; every version is looked at once."""

    def __init__(
        self, lake: Lake, policy: Policy, statements: Statements, result: Verification, progress: Callable[[str], None]
    ) -> None:
        self.lake, self.policy, self.statements, self.result, self.progress = lake, policy, statements, result, progress
        self.seen: dict[str, Version] = {}

    def problem(self, where: str | Path, what: str) -> None:
        """Note a disagreement; paths are named relative to the lake."""
        if isinstance(where, Path) and where.is_relative_to(self.lake.root):
            where = where.relative_to(self.lake.root)
        self.result.problems.append(Problem(str(where), what))

    def git(self) -> None:
        """Every git object that main reaches hashes to its name."""
        try:
            self.lake.store.check_git()
        except StoreError as error:
            self.problem("store/repo.git", error.message)

    def heads(self, asset: str) -> list[Version]:
        """Versions of an asset at main; what cannot be read is a problem, not a stop."""
        found = []
        for partition in self.lake.partitions(asset):
            try:
                found.append(self.lake.head(asset, partition))
            except DrivelakeError as error:
                self.problem(f"{asset}/{partition}", error.message)
        return found

    def down(self, version: Version) -> None:
        """Look at a version and everything below it."""
        waiting = [version]
        while waiting:
            here = waiting.pop(0)
            if here.digest in self.seen:
                continue
            self.seen[here.digest] = here
            self.progress(here.name)
            self.result.versions += 1
            self.one(here)
            for named in here.manifest.inputs:
                if ASSETS.index(named.asset) >= ASSETS.index(here.manifest.asset):
                    self.problem(here.name, f"names {named.asset}/{named.partition} as an input, which is not upstream of it")
                    continue
                try:
                    waiting.append(self.lake.version(named))
                except DrivelakeError as error:
                    self.problem(f"{named.asset}/{named.partition}", error.message)
        for each in [v for v in self.seen.values() if v.manifest.asset == "curated_datasets"]:
            self.splits(each)

    def one(self, version: Version) -> None:
        """Bytes, statement, and what the kind of asset asks for."""
        self.bytes(version)
        self.statement(version)
        if version.manifest.asset == "raw_logs":
            self.inventory(version)
        if version.manifest.asset == "soc_artefacts":
            self.gates(version)

    def bytes(self, version: Version) -> None:
        """Every file is there, has its digest, and no other file is."""
        entries = {entry.path: entry for entry in version.manifest.files}
        for path in sorted(set(version.files) - set(entries)):
            self.problem(version.files[path], f"stands in {version.name} as {path}, which its manifest does not name")
        for path, entry in entries.items():
            found = version.files.get(path)
            if found is None:
                self.problem(f"{version.name}/{path}", "is missing")
            else:
                self.hash(found, entry, f"{version.name}/{path}")
        for reference in version.manifest.references:
            self.hash(reference.local, reference, f"{version.name}/{reference.path}")

    def hash(self, found: Path, entry: FileEntry, name: str) -> None:
        """One file against its entry."""
        try:
            size, digest = hash_file(found)
        except OSError as error:
            self.problem(found, f"({name}) cannot be read: {error.strerror}")
            return
        self.result.files += 1
        self.result.bytes += size
        if digest != entry.sha256:
            self.problem(
                found, f"({name}) has SHA-256 {digest[:16]}, {size} bytes; expected {entry.sha256[:16]}, {entry.bytes} bytes"
            )

    def statement(self, version: Version) -> None:
        """A signed provenance names this version and the same inputs."""
        said = self.statements.get((PROVENANCE, version.digest), [])
        if not said:
            self.problem(version.name, f"version {version.digest[:16]} has no signed statement in the log")
        inputs = {(f"{i.asset}/{i.partition}", i.version) for i in version.manifest.inputs}
        for each in said:
            assert isinstance(each.predicate, Provenance), "the predicate type decides the predicate"
            named = {(s.name, s.digest.sha256) for s in each.predicate.inputs}
            if (version.name, version.digest) not in {(s.name, s.digest.sha256) for s in each.subject} or named != inputs:
                self.problem(version.name, "its signed statement names other inputs than its manifest")

    def inventory(self, version: Version) -> None:
        """The logger signed exactly these files at landing."""
        entries = (*version.manifest.files, *version.manifest.references)
        self.result.raw_logs += sum(is_log(Path(e.path)) for e in entries)
        said = self.statements.get((INVENTORY, version.digest), [])
        if not said:
            self.problem(version.name, "the ingest inventory is NOT SHOWN: no statement by the logger")
        for each in said:
            assert isinstance(each.predicate, Inventory), "the predicate type decides the predicate"
            if {(f.path, f.sha256) for f in each.predicate.files} != {(e.path, e.sha256) for e in entries}:
                self.problem(version.name, "the logger's inventory names other files than the manifest")

    def gates(self, artefact: Version) -> None:
        """Every gate and approval the policy asks for, on the artefact and on what it was compiled from."""
        holders = {artefact.manifest.asset: artefact}
        for named in artefact.manifest.inputs:
            try:
                holders[named.asset] = self.lake.version(named)
            except DrivelakeError as error:
                self.problem(f"{named.asset}/{named.partition}", error.message)
        for asset, gates in self.policy.gates.items():
            for gate in gates:
                if asset in holders and asset in MEASURED_IN:
                    self.gate(gate, holders[asset], artefact)
                else:
                    self.problem(artefact.name, f"gate {gate!r} is NOT SHOWN: no version of {asset} to judge")
        for asset in self.policy.approvals:
            said = self.statements.get((APPROVAL, holders[asset].digest), []) if asset in holders else []
            if not any(isinstance(s.predicate, Approval) and s.predicate.decision == "APPROVED" for s in said):
                self.problem(artefact.name, f"the approval of {asset} is NOT SHOWN: no signed statement by an approver")

    def gate(self, gate: str, holder: Version, artefact: Version) -> None:
        """Signed as passed, and passing again: the stored numbers against the criteria that the artefact's manifest records."""
        said = [s.predicate for s in self.statements.get((TEST_RESULT, holder.digest), [])]
        if not any(isinstance(p, TestResult) and p.gate == gate and p.result == "PASSED" for p in said):
            self.problem(holder.name, f"gate {gate!r} is NOT SHOWN: no signed PASSED result")
        declared = artefact.manifest.parameters.get("gates")
        try:
            criteria = CRITERIA.validate_python(declared.get(gate) if isinstance(declared, dict) else None)
            measured = json.loads(holder.path(MEASURED_IN[holder.manifest.asset]).read_bytes())
        except (DrivelakeError, OSError, ValueError) as error:
            self.problem(holder.name, f"gate {gate!r} cannot be judged again: {error}")
            return
        if not criteria:
            self.problem(artefact.name, f"gate {gate!r} is NOT SHOWN: no criterion was declared")
        for finding in decide(criteria, measured):
            if finding.verdict != "PASS":
                self.problem(holder.name, f"gate {gate!r}: {finding.value} is {finding.measured}, verdict {finding.verdict}")

    def splits(self, dataset: Version) -> None:
        """Each drive stands in one split and no two splits share a raw log, from the rows and manifests themselves."""
        try:
            table = pq.read_table(dataset.path("rows.parquet"), columns=["drive", "split"])
        except (DrivelakeError, OSError, ValueError) as error:
            self.problem(f"{dataset.name}/rows.parquet", f"cannot be read: {error}")
            return
        pairs = {(row["drive"], row["split"]) for row in table.group_by(["drive", "split"]).aggregate([]).to_pylist()}
        raws = {i.partition: self.seen.get(i.version) for i in dataset.manifest.inputs if i.asset == "raw_logs"}
        holders: dict[str, set[str]] = {}
        for drive, split in pairs:
            raw = raws.get(drive)
            if raw is None:
                self.problem(dataset.name, f"holds rows of {drive}, whose raw logs it does not name as an input")
                continue
            for entry in (*raw.manifest.files, *raw.manifest.references):
                if is_log(Path(entry.path)):
                    holders.setdefault(entry.sha256, set()).add(split)
        shared = [digest for digest, splits in holders.items() if len(splits) > 1]
        if shared:
            self.problem(dataset.name, f"{len(shared)} raw log(s) stand in more than one split, first {shared[0][:16]}")
        for split in {"train", "validation", "test"} - {split for _, split in pairs}:
            self.problem(dataset.name, f"split {split!r} holds no row: its independence is NOT SHOWN")
