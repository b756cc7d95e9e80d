"""What a statement can say. Belongs here: the four predicates and the in-toto Statement v1 around them, as types.

Never here: signing, opening, and who may say it. Reading is strict: a predicate that contradicts itself (a PASSED gate
with a missed criterion, an inventory that does not add up) is refused like one with an unknown key.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import rfc8785
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializeAsAny,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic.alias_generators import to_camel

from drivelake.evidence.policy import APPROVAL, INVENTORY, PROVENANCE, TEST_RESULT
from drivelake.manifest import FileEntry, Json

__all__ = [
    "Approval",
    "CodeState",
    "Criterion",
    "Inventory",
    "Predicate",
    "Provenance",
    "Statement",
    "Subject",
    "TestResult",
    "digest_of",
]


Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Name = Annotated[str, Field(min_length=1)]
Time = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")]


Parameters = dict[str, Json]


class Strict(BaseModel):
    """JSON with camelCase keys; unknown keys, and numbers that JSON lacks, are errors."""

    model_config = ConfigDict(extra="forbid", frozen=True, alias_generator=to_camel, populate_by_name=True, allow_inf_nan=False)


class Digest(Strict):
    """An in-toto DigestSet with the one algorithm that is used here."""

    sha256: Sha256


class Subject(Strict):
    """What is spoken of: a version by its manifest's digest, or a file by its own."""

    name: Name
    digest: Digest

    @classmethod
    def of(cls, name: str, sha256: str) -> Subject:
        """A subject from its two parts."""
        return cls(name=name, digest=Digest(sha256=sha256))


@dataclass(frozen=True)
class CodeState:
    """The code that ran: a digest over its source, and the commit that was checked out, where one is known."""

    source_sha256: str
    git_commit: str | None = None
    git_modified: bool = False  # the sources differed from the commit


class GitDigest(Strict):
    """An in-toto DigestSet that names a commit."""

    git_commit: str = Field(pattern=r"^([0-9a-f]{40}|[0-9a-f]{64})$")


class CommitState(Strict):
    """Whether the sources differed from the commit."""

    modified: bool


class Commit(Strict):
    """The commit that was checked out; what ran is named by the source's digest, which sees every change."""

    name: Literal["commit"]
    digest: GitDigest
    annotations: CommitState


class Predicate(Strict):
    """What a statement says of its subjects."""


class BuildDefinition(Strict):
    """What was asked for, and what went in: inputs by name, then ``source``, then ``commit`` where one is known."""

    build_type: Literal["urn:drivelake:build-type:stage:v1"] = "urn:drivelake:build-type:stage:v1"
    external_parameters: Parameters
    internal_parameters: Parameters
    resolved_dependencies: tuple[Commit | Subject, ...]


class Builder(Strict):
    """What made it, and the versions of the tools."""

    id: Literal["urn:drivelake:builder:runner:v1"] = "urn:drivelake:builder:runner:v1"
    version: dict[str, str]


class BuildMetadata(Strict):
    """Which run, and when."""

    invocation_id: Name
    started_on: Time
    finished_on: Time


class RunDetails(Strict):
    """The run that made it, and what it left beside the version."""

    builder: Builder
    metadata: BuildMetadata
    byproducts: tuple[Subject, ...] | None = Field(None, min_length=1)


class Provenance(Predicate):
    """SLSA provenance v1 (slsa.dev/spec/v1.0/provenance)."""

    build_definition: BuildDefinition
    run_details: RunDetails

    @property
    def inputs(self) -> tuple[Subject, ...]:
        """The versions that went in."""
        return tuple(d for d in self.build_definition.resolved_dependencies if isinstance(d, Subject) and d.name != "source")

    @property
    def code(self) -> CodeState:
        """The code that ran."""
        dependencies = self.build_definition.resolved_dependencies
        source = next(d.digest.sha256 for d in dependencies if isinstance(d, Subject) and d.name == "source")
        commit = next((d for d in dependencies if isinstance(d, Commit)), None)
        return CodeState(source, commit.digest.git_commit, commit.annotations.modified) if commit else CodeState(source)

    @model_validator(mode="after")
    def _names_everything_once(self) -> Provenance:
        names = [d.name for d in self.build_definition.resolved_dependencies]
        twice = sorted({n for n in names if names.count(n) > 1}) if len(set(names)) != len(names) else []
        if twice:
            raise ValueError(f"dependency {twice[0]!r} is named twice")
        if "source" not in names:
            raise ValueError("the code that ran is not named: expected a dependency 'source'")
        return self

    @model_validator(mode="after")
    def _second_judge_agrees(self) -> Provenance:
        from in_toto_attestation.predicates.provenance.v1 import provenance_pb2

        _judge(self, provenance_pb2.Provenance())
        return self


class Criterion(Strict):
    """One criterion of a gate with its measured value; the verdict must follow from the numbers."""

    value: Name
    measured: float | None = None
    minimum: float | None = None
    maximum: float | None = None
    verdict: Literal["PASS", "FAIL", "NOT SHOWN"]

    @model_validator(mode="after")
    def _verdict_follows(self) -> Criterion:
        low, high = self.minimum, self.maximum
        if low is None and high is None:
            raise ValueError(f"{self.value} has no bound")
        if self.measured is None:
            expected = "NOT SHOWN"
        else:
            inside = (low is None or self.measured >= low) and (high is None or self.measured <= high)
            expected = "PASS" if inside else "FAIL"
        if self.verdict != expected:
            raise ValueError(f"{self.value} measured {self.measured}, bounds {low} to {high}: {expected}, not {self.verdict}")
        return self


class Criteria(Strict):
    """All criteria of one gate, in the order they were declared."""

    criteria: tuple[Criterion, ...]


class GateCriteria(Strict):
    """The configuration of a test run: the gate's name, its criteria, and a digest over them."""

    name: Name
    digest: Digest
    annotations: Criteria

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """One row a criterion."""
        return self.annotations.criteria


class TestResult(Predicate):
    """in-toto test-result v0.1; what was measured stands in the annotations of its one configuration."""

    __test__ = False  # the specification's name; pytest would take it for a test

    result: Literal["PASSED", "FAILED"]
    configuration: tuple[GateCriteria]
    passed_tests: tuple[str, ...] | None = None
    failed_tests: tuple[str, ...] | None = None

    @property
    def gate(self) -> str:
        """The gate that decided."""
        return self.configuration[0].name

    @property
    def criteria(self) -> tuple[Criterion, ...]:
        """What it decided on."""
        return self.configuration[0].criteria

    @model_validator(mode="after")
    def _result_follows(self) -> TestResult:
        passed = tuple(c.value for c in self.criteria if c.verdict == "PASS")
        others = tuple(c.value for c in self.criteria if c.verdict != "PASS")
        expected = "PASSED" if passed and not others else "FAILED"
        if self.result != expected:
            raise ValueError(f"{len(passed)} of {len(self.criteria)} criteria passed: {expected}, not {self.result}")
        # protobuf leaves empty lists out
        if (self.passed_tests, self.failed_tests) != (passed or None, others or None):
            raise ValueError("passedTests and failedTests do not list what the criteria say")
        if self.configuration[0].digest.sha256 != digest_of(self.criteria):
            raise ValueError("the digest of the criteria is not theirs")
        return self

    @model_validator(mode="after")
    def _second_judge_agrees(self) -> TestResult:
        from in_toto_attestation.predicates.test_result.v0 import test_result_pb2

        _judge(self, test_result_pb2.TestResult())
        return self


class Inventory(Predicate):
    """Every file of a drive as it landed, sorted by path."""

    count: int = Field(ge=0)
    bytes: int = Field(ge=0)
    files: tuple[FileEntry, ...]

    @model_validator(mode="after")
    def _adds_up(self) -> Inventory:
        paths = [f.path for f in self.files]
        if paths != sorted(set(paths)):
            raise ValueError("paths are not sorted, or one stands twice")
        count, size = len(self.files), sum(f.bytes for f in self.files)
        if (count, size) != (self.count, self.bytes):
            raise ValueError(f"it lists {count} files of {size} bytes and says {self.count} of {self.bytes}")
        return self


class Approval(Predicate):
    """A person's decision about a version."""

    decision: Literal["APPROVED", "REJECTED"]
    by: Name
    reason: Name
    decided_on: Time


PREDICATES: Mapping[str, type[Predicate]] = {
    PROVENANCE: Provenance,
    TEST_RESULT: TestResult,
    INVENTORY: Inventory,
    APPROVAL: Approval,
}


class Statement(Strict):
    """An in-toto Statement v1 whose predicate is of a known type."""

    type: Literal["https://in-toto.io/Statement/v1"] = Field("https://in-toto.io/Statement/v1", alias="_type")
    subject: tuple[Subject, ...] = Field(min_length=1)
    predicate_type: str
    predicate: SerializeAsAny[Predicate]

    @field_validator("subject")
    @classmethod
    def _names_each_once(cls, value: tuple[Subject, ...]) -> tuple[Subject, ...]:
        if len({s.name for s in value}) != len(value):
            raise ValueError("two subjects have one name")
        return value

    @field_validator("predicate", mode="before")
    @classmethod
    def _by_type(cls, value: object, info: ValidationInfo) -> Predicate:
        expected = PREDICATES.get(info.data.get("predicate_type", ""))
        if expected is None:
            raise ValueError("the predicate type is unknown")
        return expected.model_validate(value)

    def canonical(self) -> bytes:
        """RFC 8785 bytes; what is signed."""
        return rfc8785.dumps(self.model_dump(mode="json", by_alias=True, exclude_none=True))


def digest_of(criteria: Sequence[Criterion]) -> str:
    """SHA-256 over the canonical criteria."""
    return hashlib.sha256(
        rfc8785.dumps([c.model_dump(mode="json", by_alias=True, exclude_none=True) for c in criteria])
    ).hexdigest()


def _judge(predicate: Predicate, message: object) -> None:
    """Refuse what in-toto's own protobuf definition does not accept, e.g. a time that no calendar has."""
    from google.protobuf.json_format import ParseDict, ParseError

    try:
        ParseDict(predicate.model_dump(mode="json", by_alias=True, exclude_none=True), message)
    except ParseError as error:
        raise ValueError(str(error)) from None
