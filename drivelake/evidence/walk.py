"""The walk: every check the verifier makes on versions, and the words for what it finds.

Belongs here: looking at versions from an artefact down. Never here: reading the log or the keys (verify does), writing
anything, stopping at the first disagreement, parsing bytes that are known to be wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import TypeAdapter

from drivelake.datasets import SPLITS
from drivelake.declaration import Criterion
from drivelake.errors import DrivelakeError, StoreError, Withdrawn
from drivelake.evidence.policy import APPROVAL, INVENTORY, PROVENANCE, TEST_RESULT, Policy
from drivelake.evidence.statements import Approval, Inventory, Provenance, Statement, TestResult
from drivelake.gates import decide
from drivelake.lake import Lake, Version
from drivelake.logs import is_log
from drivelake.manifest import ASSETS, FileEntry, regular_hash
from drivelake.publications import Key
from drivelake.references import rehash, stands_at
from drivelake.retention import needed

__all__ = ["Problem", "Statements", "Walk"]

CRITERIA = TypeAdapter(tuple[Criterion, ...])
MEASURED_IN = {"checkpoints": "metrics.json", "soc_artefacts": "parity.json"}  # where a gate's numbers stand

# (predicate type, digest of a subject) -> what was validly signed about it, in the log's order
Statements = Mapping[tuple[str, str], list[Statement]]


@dataclass(frozen=True)
class Problem:
    """One thing that does not agree: which file or statement, and how."""

    where: str
    what: str


@dataclass
class Walk:
    """One pass over versions, each looked at once, at one commit of main."""

    lake: Lake
    commit: str
    policy: Policy
    statements: Statements
    progress: Callable[[str], None]
    problems: list[Problem] = field(default_factory=list)
    notices: list[str] = field(default_factory=list)
    seen: dict[str, Version] = field(default_factory=dict)
    damaged: set[str] = field(default_factory=set)
    files: int = 0
    bytes: int = 0
    raw_logs: int = 0
    _kept: frozenset[Key] | None = None

    def problem(self, where: str | Path, what: str) -> None:
        """Note a disagreement; paths are named relative to the lake."""
        if isinstance(where, Path) and where.is_relative_to(self.lake.root):
            where = where.relative_to(self.lake.root)
        self.problems.append(Problem(str(where), what))

    def described(self) -> None:
        """All that describes versions in the store holds what its name says, and nothing else is in it."""
        where = self.lake.declaration.store.describe()
        if self.lake.declaration.store.local:
            where, ref = "store/repo.git", self.lake.root / "store" / "repo.git" / "refs" / "heads" / "main"
            if ref.exists() and ref.read_bytes() != f"{self.commit}\n".encode():
                self.problem(ref, f"is not the line {self.commit[:12]} that git writes")
        try:
            self.lake.store.check(self.commit)
            strangers = self.lake.store.strangers(self.commit)
        except StoreError as error:
            self.problem(where, error.message)
            return
        for path in strangers:
            self.problem(where, f"main holds {path}, which no step puts there")

    def heads(self) -> None:
        """Every version at main; what cannot be read is a problem, not a stop."""
        for asset in ASSETS:
            for partition in self.lake.partitions(asset, self.commit):
                try:
                    self.down(self.lake.head(asset, partition, self.commit))
                except DrivelakeError as error:
                    self.problem(f"{asset}/{partition}", error.message)

    def history(self) -> None:
        """Every version that main's history ever published."""
        for named in self.lake.published():
            try:
                self.down(self.lake.version(named))
            except DrivelakeError as error:
                self.problem(f"{named.asset}/{named.partition}", error.message)

    def unpublished(self) -> None:
        """Notice versions that were signed for and do not stand at main: replaced, killed before the merge, or taken away."""
        signed: dict[str, str] = {}
        for (kind, digest), said in self.statements.items():
            if kind == PROVENANCE and said[0].subject[0].digest.sha256 == digest:
                signed[said[0].subject[0].name] = digest
        for name, digest in sorted(signed.items()):
            asset, _, partition = name.partition("/")
            if partition not in self.lake.partitions(asset, self.commit):
                self.notices.append(f"{name} was signed for, and main has no version of it")
            elif digest not in self.seen:
                self.notices.append(f"{name}: the version signed for last, {digest[:12]}, is not the one at main")

    def down(self, version: Version) -> None:
        """Look at a version and everything below it."""
        waiting = [version]
        while waiting:
            here = waiting.pop(0)
            if here.digest in self.seen:
                continue
            self.seen[here.digest] = here
            self.progress(here.name)
            self.one(here)
            for named in here.manifest.inputs:
                if ASSETS.index(named.asset) >= ASSETS.index(here.manifest.asset):
                    self.problem(here.name, f"names {named.asset}/{named.partition} as an input, which is not upstream of it")
                elif named.version not in self.seen:
                    try:
                        waiting.append(self.lake.version(named))
                    except DrivelakeError as error:
                        self.problem(f"{named.asset}/{named.partition}", error.message)

    def one(self, version: Version) -> None:
        """Bytes, statement, and what the kind of asset asks for."""
        self.contents(version)
        self.statement(version)
        if version.manifest.asset == "raw_logs":
            self.inventory(version)
        if version.manifest.asset == "soc_artefacts":
            self.gates(version)
        if version.manifest.asset == "curated_datasets" and version.digest not in self.damaged:
            self.splits(version)

    def contents(self, version: Version) -> None:
        """Every file is there, has its digest, and no other file is."""
        before = len(self.problems)
        entries = {entry.path: entry for entry in version.manifest.files}
        try:
            names = set(version.files)  # the first look fetches what is not on this machine
        except Withdrawn as gone:
            self.notices.append(f"{gone.message} Nothing of it was rehashed; the tombstone is signed by nobody yet.")
            return
        except StoreError as error:
            if self._collected(version):
                self._notice_collected(version)
            else:
                self.problem(version.name, error.message)
                self.damaged.add(version.digest)
            return
        for path in sorted(names - set(entries)):
            self.problem(version.files[path], f"stands in {version.name} as {path}, which its manifest does not name")
        for path, entry in entries.items():
            found = version.files.get(path)
            if found is None and not names and self._collected(version):  # as a migration moves what had been collected
                self._notice_collected(version)
                return
            if found is None:
                self.problem(f"{version.name}/{path}", "is missing")
            else:
                self.hash(found, entry, f"{version.name}/{path}", partial(regular_hash, found))
        for reference in version.manifest.references:
            inbox, endpoint = self.lake.inbox, self.lake.declaration.store.s3_endpoint
            digest_of = partial(rehash, reference, inbox, endpoint)
            self.hash(stands_at(reference, inbox), reference, f"{version.name}/{reference.path}", digest_of)
        if len(self.problems) > before:
            self.damaged.add(version.digest)

    def _notice_collected(self, version: Version) -> None:
        self.damaged.add(version.digest)  # so that nothing of it is parsed
        self.notices.append(
            f"{version.name} {version.digest[:12]}: its bytes are not there; no branch, tag, evidence or release names it, "
            "so a collection may have removed them"
        )

    def _collected(self, version: Version) -> bool:
        """Whether retention lets this version's bytes go, whatever its days: then their absence is no disagreement."""
        if self._kept is None:
            try:
                self._kept = needed(self.lake.store)
            except DrivelakeError:
                return False  # where it cannot be said what may go, nothing may; what hinders is a problem of its own
        return Key(version.manifest.asset, version.manifest.partition, version.digest) not in self._kept

    def hash(self, found: Path | str, entry: FileEntry, name: str, digest_of: Callable[[], tuple[int, str]]) -> None:
        """One file against its entry."""
        try:
            size, digest = digest_of()
        except OSError as error:
            self.problem(found, f"({name}) {error.strerror}")
            return
        except DrivelakeError as error:  # a log in a bucket: gone, replaced, or nobody answers
            self.problem(found, f"({name}) {error.message}")
            return
        self.files += 1
        self.bytes += size
        if digest != entry.sha256:
            expected = f"expected {entry.sha256[:16]}, {entry.bytes} bytes"
            self.problem(found, f"({name}) has SHA-256 {digest[:16]}, {size} bytes; {expected}")

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
        self.raw_logs += sum(is_log(Path(e.path)) for e in entries)
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
            last = said[-1].predicate if said else None  # a later rejection takes an approval back
            if not isinstance(last, Approval) or last.decision != "APPROVED":
                shown = (
                    f"the last decision is {last.decision}"
                    if isinstance(last, Approval)
                    else "no signed statement by an approver"
                )
                self.problem(artefact.name, f"the approval of {asset} is NOT SHOWN: {shown}")

    def gate(self, gate: str, holder: Version, artefact: Version) -> None:
        """Signed as passed on the very numbers that are stored, by the criteria that the artefact's manifest records."""
        declared = artefact.manifest.parameters.get("gates")
        try:
            criteria = CRITERIA.validate_python(declared.get(gate) if isinstance(declared, dict) else None)
            measured = json.loads(holder.path(MEASURED_IN[holder.manifest.asset]).read_bytes())
        except (DrivelakeError, OSError, ValueError) as error:
            self.problem(holder.name, f"gate {gate!r} cannot be judged again: {error}")
            return
        findings = decide(criteria, measured)
        if not findings:
            self.problem(artefact.name, f"gate {gate!r} is NOT SHOWN: no criterion was declared")
        for finding in findings:
            if finding.verdict != "PASS":
                self.problem(holder.name, f"gate {gate!r}: {finding.value} is {finding.measured}, verdict {finding.verdict}")
        again = [(f.value, f.measured, f.minimum, f.maximum, f.verdict) for f in findings]
        said = (s.predicate for s in self.statements.get((TEST_RESULT, holder.digest), []))
        signed = [
            [(c.value, c.measured, c.minimum, c.maximum, c.verdict) for c in p.criteria]
            for p in said
            if isinstance(p, TestResult) and p.gate == gate and p.result == "PASSED"
        ]
        if not signed:
            self.problem(holder.name, f"gate {gate!r} is NOT SHOWN: no signed PASSED result")
        elif again not in signed:
            self.problem(holder.name, f"gate {gate!r}: what was signed as PASSED are other numbers or bounds than those stored")

    def splits(self, dataset: Version) -> None:
        """Each drive stands in one split and no two splits share a raw log, from the rows and manifests themselves."""
        try:
            pairs = _drive_splits(dataset.path("rows.parquet"))
            raws = {i.partition: self.lake.version(i) for i in dataset.manifest.inputs if i.asset == "raw_logs"}
        except (DrivelakeError, OSError, pa.ArrowException) as error:
            self.problem(dataset.name, f"its splits cannot be compared: {error}")
            return
        holders: dict[str, set[str]] = {}
        for drive, split in sorted(pairs):
            if drive not in raws:
                self.problem(dataset.name, f"holds rows of {drive}, whose raw logs it does not name as an input")
                continue
            for entry in (*raws[drive].manifest.files, *raws[drive].manifest.references):
                if is_log(Path(entry.path)):
                    holders.setdefault(entry.sha256, set()).add(split)
        shared = sorted(digest for digest, splits in holders.items() if len(splits) > 1)
        if shared:
            self.problem(dataset.name, f"{len(shared)} raw log(s) stand in more than one split, first {shared[0][:16]}")
        for split in sorted(set(SPLITS) - {split for _, split in pairs}):
            self.problem(dataset.name, f"split {split!r} holds no row: its independence is NOT SHOWN")


def _drive_splits(rows: Path) -> set[tuple[str, str]]:
    """Every pair of drive and split in a dataset's rows, read a row group at a time."""
    found: set[tuple[str, str]] = set()
    with pq.ParquetFile(rows) as file:
        for batch in file.iter_batches(columns=["drive", "split"]):
            found |= {(str(d), str(s)) for d, s in zip(*(batch.column(i).to_pylist() for i in (0, 1)), strict=True)}
    return found
