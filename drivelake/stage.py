"""How any asset version is made and published. Belongs here: the shape of a stage, staleness, the one way to publish.

Never here: what a particular stage does (its room knows), dagster, signing keys (the notary is handed in).

The order is the crash-safety argument: everything is made in a scratch folder; hashed; signed; the statement is
logged; only then one atomic merge makes the version visible. A kill anywhere leaves at most a statement about a
version nobody can see, and running the stage again gives the same version and reuses that statement.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, Protocol

from pydantic import BaseModel

from drivelake.errors import NotFound
from drivelake.lake import Lake, Version
from drivelake.manifest import Input, Manifest, Reference, check_partition, hash_folder, tool_versions

__all__ = [
    "Decision",
    "Finding",
    "Made",
    "Notary",
    "Progress",
    "Published",
    "Recipe",
    "Run",
    "Stage",
    "declared",
    "materialise",
    "planned",
    "stale_because",
]

Progress = Callable[[str], None]
Step = Callable[[str], None]


def silent(_: str) -> None:
    """A listener that does not listen."""


@dataclass(frozen=True)
class Finding:
    """One criterion beside what was measured."""

    value: str
    measured: float | None
    minimum: float | None
    maximum: float | None
    verdict: str  # PASS, FAIL or NOT SHOWN


@dataclass(frozen=True)
class Decision:
    """What a gate decided about a version, and on which numbers. Without a subject: about the version being made."""

    gate: str
    findings: tuple[Finding, ...]
    subject: Input | None = None

    @property
    def passed(self) -> bool:
        """Whether there were criteria and every one passed."""
        return bool(self.findings) and all(f.verdict == "PASS" for f in self.findings)


@dataclass(frozen=True)
class Recipe:
    """What goes into a version, known before anything is made."""

    parameters: Mapping[str, object]
    inputs: tuple[Version, ...] = ()

    def input(self, asset: str) -> Version:
        """The one input of that asset."""
        return next(v for v in self.inputs if v.manifest.asset == asset)


@dataclass(frozen=True)
class Made:
    """What a stage says about the folder it filled; all of it deterministic."""

    facts: Mapping[str, object] = field(default_factory=dict)
    references: tuple[Reference, ...] = ()
    decisions: tuple[Decision, ...] = ()
    name_files: bool = False  # the signed statement names each file, so that a binary alone finds its lineage
    tools: tuple[str, ...] = ()  # distributions that only some partitions use
    note: str = ""  # handed back to Stage.published


@dataclass(frozen=True)
class Run:
    """Who runs and since when: goes into the signed statement, never into the manifest."""

    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    started: dt.datetime = field(default_factory=lambda: dt.datetime.now(dt.UTC))


class Notary(Protocol):
    """Signs statements and keeps the append-only log of them; idempotent for one version."""

    def attest(self, manifest: Manifest, made: Made, run: Run) -> str:
        """Log the signed statements about this version, unless they are logged already; gives the code that they name."""


class Stage(ABC):
    """One asset's room, as publishing sees it. Stages hold no state."""

    asset: ClassVar[str]
    code_version: ClassVar[str]  # counted up by hand when the stage would make other bytes from the same inputs
    tools: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def recipe(self, lake: Lake, partition: str) -> Recipe:
        """What the next version would be made from; NotFound when an input does not exist yet."""

    @abstractmethod
    def make(self, lake: Lake, partition: str, recipe: Recipe, out: Path, progress: Progress) -> Made:
        """Fill ``out``; touch nothing else."""

    def changed_outside(self, lake: Lake, partition: str) -> str | None:  # noqa: ARG002 - most stages have no outside
        """Why the version is stale for a reason outside of the store (a replaced log), or None."""
        return None

    def published(self, lake: Lake, version: Version, made: Made) -> None:  # noqa: B027 - most stages have nothing to note
        """Called once the version stands at main."""


@dataclass(frozen=True)
class Published:
    """The version that now stands at main."""

    version: Version
    new: bool
    decisions: tuple[Decision, ...] = ()


def materialise(
    stage: Stage,
    lake: Lake,
    partition: str,
    notary: Notary,
    *,
    run: Run | None = None,
    progress: Progress = silent,
    on_step: Step = silent,
) -> Published:
    """Make the version of ``partition`` from what stands at main now, and publish it.

    ``on_step`` hears the name of each step after it happened; the crash tests kill the process there.

    Raises:
        DrivelakeError: whatever the room raises; nothing is published then.
    """
    check_partition(partition)
    run = run or Run()
    base = lake.store.resolve("main")  # what others publish from here on is a conflict, never silently replaced
    recipe = stage.recipe(lake, partition)
    for version in recipe.inputs:
        version.require_intact()
    with lake.scratch(f"{stage.asset}-{partition}") as scratch:
        out = scratch / "data"
        out.mkdir()
        made = stage.make(lake, partition, recipe, out, progress)
        on_step("made")
        manifest = planned(
            stage,
            partition,
            recipe,
            files=hash_folder(out),
            references=made.references,
            tools=tool_versions((*stage.tools, *made.tools)),
            facts=made.facts,
        )
        on_step("hashed")
        code = notary.attest(manifest, made, run)
        on_step("logged")
        version, new = lake.publish(manifest, out, base=base, run_id=run.id, code=code, on_step=on_step)
        stage.published(lake, version, made)
    on_step("cleaned")
    return Published(version=version, new=new, decisions=made.decisions)


def stale_because(stage: Stage, lake: Lake, partition: str) -> str | None:
    """Why the version at main is not what would be made now, as one short sentence; None when it is."""
    try:
        head = lake.head(stage.asset, partition)
    except NotFound:
        return "not made yet"
    outside = stage.changed_outside(lake, partition)
    if outside:
        return outside
    try:
        recipe = stage.recipe(lake, partition)
    except NotFound as missing:
        return f"an input is missing: {missing.message}"
    return _difference(head.manifest, planned(stage, partition, recipe))


def _difference(was: Manifest, now: Manifest) -> str | None:
    if was.recipe == now.recipe:
        return None
    if was.code_version != now.code_version:
        return f"code version {was.code_version} is now {now.code_version}"
    if was.parameters != now.parameters:
        keys = sorted(k for k in {*was.parameters, *now.parameters} if was.parameters.get(k) != now.parameters.get(k))
        return f"the declaration changed: {', '.join(keys)}"
    before, after = ({(i.asset, i.partition): i.version for i in side.inputs} for side in (was, now))
    moved = sorted(f"{a}/{p}" for a, p in {*before, *after} if before.get((a, p)) != after.get((a, p)))
    return f"{len(moved)} input(s) changed: {', '.join(moved[:3])}{' …' if len(moved) > 3 else ''}"


def declared(part: BaseModel) -> dict[str, object]:
    """A part of the declaration as parameters. The order of its keys counts too, and canonical JSON forgets it."""
    written = hashlib.sha256(part.model_dump_json().encode()).hexdigest()
    return {**part.model_dump(mode="json"), "as_written_sha256": written}


def planned(stage: Stage, partition: str, recipe: Recipe, **made: object) -> Manifest:
    """The manifest as far as it is known; its ``recipe`` says whether a version is still current.

    Args:
        stage: what makes it.
        partition: its key.
        recipe: what goes in.
        made: files, references, tools and facts, once they are there.
    """
    inputs = sorted((v.as_input() for v in recipe.inputs), key=lambda i: (i.asset, i.partition))
    known = {"asset": stage.asset, "partition": partition, "inputs": inputs, "code_version": stage.code_version}
    nothing: dict[str, object] = {"files": (), "tools": {}}
    return Manifest.model_validate({**known, "parameters": dict(recipe.parameters), **nothing, **made})
