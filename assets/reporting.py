"""From a published version to what the UI shows. Belongs here: tables, pictures and links as Dagster metadata.

Never here: measuring; every number shown stands in a published file.
"""

import base64
import logging
from collections.abc import Iterable, Mapping, Sequence

import dagster as dg

from drivelake.errors import DrivelakeError
from drivelake.lake import Version
from drivelake.stage import Decision, Published, Run, Stage, materialise
from drivelake.svg import data_uri
from resources import LakeResource
from resources.liveness import mark_alive

__all__ = ["common", "figures", "gate_table", "markdown_table", "picture", "publish", "result"]

# Whoever runs a lake in the foreground listens here; in the UI the same words stand in the run's log.
PROGRESS = logging.getLogger("drivelake.progress")
Cell = str | int | float | None


def publish(context: dg.AssetExecutionContext, lake: LakeResource, stage: Stage) -> Published:
    """Materialise one partition; a refusal of the domain fails the step with its own words and is not retried."""

    def say(sentence: str) -> None:
        context.log.info(sentence)
        PROGRESS.info("%s/%s: %s", stage.asset, context.partition_key, sentence)

    opened = lake.open()
    mark_alive(opened, context.run.run_id)
    try:
        return materialise(
            stage, opened, context.partition_key, lake.notary(opened), run=Run(id=context.run.run_id), progress=say
        )
    except DrivelakeError as refusal:
        raise dg.Failure(description=str(refusal), metadata={"error": type(refusal).__name__}, allow_retries=False) from refusal


def common(published: Published, lake: LakeResource) -> dict[str, dg.MetadataValue]:
    """What every asset shows: the version, whether it is new, its commit and what it was made from."""
    version = published.version
    manifest = version.manifest
    return {
        "version": dg.MetadataValue.text(version.digest),
        "new": dg.MetadataValue.bool(published.new),
        "commit": _link(lake.open().store.link(version.commit)),
        "files": dg.MetadataValue.int(len(manifest.files) + len(manifest.references)),
        "bytes": dg.MetadataValue.int(sum(e.bytes for e in (*manifest.files, *manifest.references))),
        "made from": dg.MetadataValue.md(
            markdown_table(("input", "version"), [(f"{i.asset}/{i.partition}", i.version[:12]) for i in manifest.inputs])
        ),
        "tools": dg.MetadataValue.json(dict(manifest.tools)),
    }


def result(
    published: Published,
    lake: LakeResource,
    metadata: Mapping[str, dg.MetadataValue],
    checks: Sequence[dg.AssetCheckResult] = (),
) -> dg.MaterializeResult:
    """The materialization with the manifest's digest as Dagster's data version."""
    return dg.MaterializeResult(
        data_version=dg.DataVersion(published.version.digest),
        metadata={**metadata, **common(published, lake)},
        check_results=list(checks),
    )


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> str:
    """A table for the UI; numbers with four digits, what is absent as a dash."""
    lines = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    lines += ["| " + " | ".join(_cell(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) if len(lines) > 2 else "none"


def picture(data: bytes | str, alt: str) -> dg.MetadataValue:
    """A JPEG, or an SVG as text, inside the metadata itself, so that the UI needs no file server."""
    uri = data_uri(data) if isinstance(data, str) else f"data:image/jpeg;base64,{base64.b64encode(data).decode()}"
    return dg.MetadataValue.md(f"![{alt}]({uri})")


def figures(version: Version) -> dict[str, dg.MetadataValue]:
    """Every SVG that the version holds, by its name."""
    found = sorted(path for path in version.files if path.endswith(".svg"))
    return {path.removesuffix(".svg"): picture(version.path(path).read_text(encoding="utf-8"), path) for path in found}


def gate_table(decisions: Iterable[Decision]) -> dg.MetadataValue:
    """Every criterion with what was measured and the verdict."""
    rows = [(d.gate, f.value, f.measured, f.minimum, f.maximum, f.verdict) for d in decisions for f in d.findings]
    return dg.MetadataValue.md(markdown_table(("gate", "value", "measured", "min", "max", "verdict"), rows))


def _link(link: str) -> dg.MetadataValue:
    """A page of the version store, or the command that shows the commit where there is none."""
    return dg.MetadataValue.url(link) if link.startswith(("http://", "https://")) else dg.MetadataValue.md(f"`{link}`")


def _cell(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.4g}" if isinstance(cell, float) else str(cell).replace("|", "\\|").replace("\n", " ")
