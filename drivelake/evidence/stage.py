"""The stage evidence: verify an artefact, then write down what was seen. Belongs here: what goes into the bundle.

Never here: verifying, drawing, wording (their modules do). A chain that does not verify gives no evidence.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

from drivelake.evidence.drawing import lineage_svg
from drivelake.evidence.keys import load_public
from drivelake.evidence.lineage import ancestors
from drivelake.evidence.log import EvidenceLog
from drivelake.evidence.policy import Policy
from drivelake.evidence.report import render
from drivelake.evidence.statements import parse_envelope
from drivelake.evidence.summary import summarise
from drivelake.evidence.verify import verify
from drivelake.frames.plots import residual_plot
from drivelake.frames.report import SyncReport
from drivelake.lake import Lake, Version
from drivelake.stage import Made, Progress, Recipe, Stage

__all__ = ["EVIDENCE", "Evidence", "pictures_of"]


class Evidence(Stage):
    """The signed statements of a chain, its summary, and a report a person can read."""

    asset = "evidence"
    code_version = "1"
    tools = ("jinja2", "cryptography", "securesystemslib", "in-toto-attestation")

    def recipe(self, lake: Lake, partition: str) -> Recipe:
        """The artefact, from which everything below is reached, and what was decided about it by which policy."""
        artefact = lake.head("soc_artefacts", partition)
        log, policy = _log(lake)
        about = [line for v in (artefact.digest, *(i.version for i in artefact.manifest.inputs)) for line in log.about(v)]
        said = hashlib.sha256(b"\n".join(about)).hexdigest()
        return Recipe(parameters={"policy": policy.digest, "statements": said}, inputs=(artefact,))

    def make(self, lake: Lake, partition: str, recipe: Recipe, out: Path, progress: Progress) -> Made:  # noqa: ARG002 - every stage
        """Verify, summarise, render, and copy the statements that were relied on.

        Raises:
            VerificationFailed: something in the chain does not agree; nothing is published.
        """
        artefact = recipe.input("soc_artefacts")
        verification = verify(lake, artefact)
        verification.require()
        versions = ancestors(lake, artefact)
        summary = summarise(artefact, versions, verification)
        (out / "summary.json").write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        (out / "report.html").write_text(
            render(summary, {**pictures_of(versions), "lineage": lineage_svg(versions, artefact)}), encoding="utf-8"
        )
        (out / "statements.jsonl").write_bytes(b"".join(line + b"\n" for line in _about(lake, versions)))
        progress(f"verified {verification.files} files of {verification.versions} versions")
        return Made(facts={"versions": verification.versions, "files": verification.files, "raw_logs": verification.raw_logs})


def pictures_of(versions: Mapping[str, Version]) -> dict[str, str]:
    """Every figure of a chain as SVG, by name."""
    found: dict[str, str] = {}
    for version in versions.values():
        found.update({Path(p).stem: version.path(p).read_text(encoding="utf-8") for p in version.files if p.endswith(".svg")})
    for version in sorted(versions.values(), key=lambda v: v.name):
        if version.manifest.asset == "sensor_frames" and not version.manifest.facts["excluded"]:
            report = SyncReport.model_validate_json(version.path("sync.json").read_bytes())
            return {**found, "sync": residual_plot(report)}
    return found


def _about(lake: Lake, versions: Mapping[str, Version]) -> list[bytes]:
    """The lines of the log that speak of any of these versions, in the log's order."""
    lines = _log(lake)[0].read()
    return [line for line in lines if any(s.digest.sha256 in versions for s in parse_envelope(line).subject)]


def _log(lake: Lake) -> tuple[EvidenceLog, Policy]:
    trust = lake.root / "trust"
    policy = Policy.load(trust)
    return EvidenceLog(lake.root / "evidence", origin=policy.log_origin, public_keys=load_public(trust)), policy


EVIDENCE = Evidence()
