"""What the report shows, as data: ``summary.json``. Belongs here: picking it from manifests, verdicts, published files.

Never here: words and layout (``report`` and its template), drawing, measuring, and whatever differs from run to run or
moves with the lake (paths, times, the length of the log): the same artefact gives the same summary.
What no file holds is None and reads NOT SHOWN. Order is kept in lists, so that sorting keys changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from pydantic import JsonValue, TypeAdapter, ValidationError

from drivelake import __version__
from drivelake.declaration import Criterion
from drivelake.errors import VerificationFailed
from drivelake.evidence.published import fields, load, pick
from drivelake.evidence.summary_data import dataset_part, drive_part, time_part
from drivelake.evidence.summary_model import compile_part, metrics_part, training_part
from drivelake.evidence.verify import Verification
from drivelake.gates import decide
from drivelake.lake import Version
from drivelake.manifest import ASSETS
from drivelake.stage import Decision

__all__ = ["STATEMENT", "summarise"]

STATEMENT = "Evidence support only; no statement of conformance to any standard is made."
CRITERIA = TypeAdapter(tuple[Criterion, ...])


def summarise(artefact: Version, versions: Mapping[str, Version], verification: Verification) -> dict[str, JsonValue]:
    """Everything the report shows about an artefact.

    Args:
        artefact: a version of ``soc_artefacts``.
        versions: version digest -> version, all that it descends from, itself included.
        verification: what walking the chain gave.

    Returns:
        The content of ``summary.json``: ``artefact``, ``verification``, ``versions``, ``drives``, ``time``, ``dataset``,
        ``training``, ``metrics``, ``compile``, ``gates`` and ``tools``. Times in UTC ns, sizes in bytes.

    Raises:
        VerificationFailed: a file that is read is no JSON, or the recorded gates are not criteria.
    """
    ordered = sorted(versions.values(), key=lambda v: (ASSETS.index(v.manifest.asset), v.manifest.partition, v.digest))
    checkpoint = _input(artefact, "checkpoints", versions)
    dataset = _input(artefact, "curated_datasets", versions)
    return {
        "schema_version": 1,
        "statement": STATEMENT,
        "artefact": _artefact_part(artefact),
        "verification": _verification_part(artefact, verification),
        "versions": [_version_line(version) for version in ordered],
        "drives": drive_part(ordered, dataset),
        "time": time_part(ordered),
        "dataset": dataset_part(ordered, dataset),
        "training": training_part(checkpoint),
        "metrics": metrics_part(checkpoint, dataset, artefact),
        "compile": compile_part(artefact),
        "gates": _gate_part(artefact, checkpoint),
        "tools": _tool_part(ordered, artefact),
    }


def _input(version: Version, asset: str, versions: Mapping[str, Version]) -> Version | None:
    """The one input of that asset, if it is there."""
    named = next((i for i in version.manifest.inputs if i.asset == asset), None)
    return versions.get(named.version) if named else None


def _artefact_part(artefact: Version) -> dict[str, JsonValue]:
    manifest = artefact.manifest
    model, _, target = manifest.partition.partition("@")
    return {
        "name": artefact.name,
        "partition": manifest.partition,
        "version": artefact.digest,
        "model": model,
        "target": target,
        "kind": pick(manifest.parameters, "target", "kind"),
        "executed_on": pick(load(artefact, "build.json"), "executed_on"),
        "root": manifest.root,
        "files": [{"path": e.path, "bytes": e.bytes, "sha256": e.sha256} for e in manifest.files],
    }


def _verification_part(artefact: Version, verification: Verification) -> dict[str, JsonValue]:
    """Without what moves with the lake: where the keys stand and how long the log has grown."""
    about_this = (verification.artefact, verification.version) == (artefact.name, artefact.digest)
    if not about_this:
        raise VerificationFailed(
            f"The verification is about {verification.artefact} {verification.version[:12]}, "
            f"expected {artefact.name} {artefact.digest[:12]}.",
            next_step="verify the artefact that the report is about",
        )
    return {
        "verdict": "VERIFIED" if verification.verified else "NOT VERIFIED",
        "versions": verification.versions,
        "files": verification.files,
        "bytes": verification.bytes,
        "raw_logs": verification.raw_logs,
        "witnessed": verification.witnessed,
        "problems": [{"where": problem.where, "what": problem.what} for problem in verification.problems],
    }


def _version_line(version: Version) -> dict[str, JsonValue]:
    manifest = version.manifest
    entries = (*manifest.files, *manifest.references)
    return {
        "asset": manifest.asset,
        "partition": manifest.partition,
        "version": version.digest,
        "code_version": manifest.code_version,
        "inputs": len(manifest.inputs),
        "files": len(entries),
        "bytes": sum(entry.bytes for entry in entries),
    }


def _gate_part(artefact: Version, checkpoint: Version | None) -> list[JsonValue]:
    """Both gates judged again: the criteria that the artefact's manifest records, over the published numbers."""
    judged: list[JsonValue] = []
    for gate, subject, file in (("checkpoint", checkpoint, "metrics.json"), ("artefact", artefact, "parity.json")):
        try:
            criteria = CRITERIA.validate_python(pick(artefact.manifest.parameters, "gates", gate) or ())
        except ValidationError as error:
            raise VerificationFailed(
                f"{artefact.name} records no usable criteria for gate {gate!r}: {error.errors()[0]['msg']}.",
                next_step="drivelake verify; then materialise the artefact again",
            ) from None
        decision = Decision(gate, decide(criteria, fields(load(subject, file))))
        verdicts = {finding.verdict for finding in decision.findings}
        judged.append(
            {
                "gate": gate,
                "subject": subject.name if subject else None,
                "version": subject.digest if subject else None,
                "file": file,
                "verdict": "PASS" if decision.passed else "FAIL" if "FAIL" in verdicts else None,
                "criteria": [
                    {**asdict(finding), "verdict": None if finding.measured is None else finding.verdict}
                    for finding in decision.findings
                ],
            }
        )
    return judged


def _tool_part(ordered: list[Version], artefact: Version) -> list[JsonValue]:
    """Every tool and version that a manifest or the build names, with the steps that used it, in the order data flows."""
    used: dict[tuple[str, str], dict[str, None]] = {}
    for version in ordered:
        for name, number in version.manifest.tools.items():
            used.setdefault((name, number), {})[version.manifest.asset] = None
    for name, found in fields(load(artefact, "build.json"), "toolchain").items():
        used.setdefault((name, str(found)), {})[artefact.manifest.asset] = None
    used.setdefault(("drivelake", __version__), {})["evidence"] = None
    return [{"name": name, "version": number, "steps": [*steps]} for (name, number), steps in sorted(used.items())]
