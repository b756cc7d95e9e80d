"""evidence: the signed chain of an artefact, and a report a person can read."""

import json

import dagster as dg

from assets.partitions import artefacts
from assets.reporting import markdown_table, publish, result
from drivelake.declaration import Declaration
from drivelake.evidence.stage import EVIDENCE
from resources import LakeResource

__all__ = ["build"]


def build(declaration: Declaration) -> dg.AssetsDefinition:
    """The asset, one partition an artefact."""

    @dg.asset(
        name="evidence",
        deps=["soc_artefacts"],
        partitions_def=artefacts(declaration),
        group_name="release",
        kinds={"intoto", "html"},
        owners=[declaration.owner],
        code_version=EVIDENCE.code_version,
        description="The chain from the binary to the raw bytes, walked and rehashed, with its signed statements and a report.",
        check_specs=[
            dg.AssetCheckSpec("verified", asset="evidence", description="Display only: a chain that disagrees gives no evidence.")
        ],
    )
    def evidence(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        published = publish(context, lake, EVIDENCE)
        version = published.version
        facts = version.manifest.facts
        summary = json.loads(version.path("summary.json").read_bytes())
        return result(
            published,
            lake,
            {
                "report": dg.MetadataValue.md(f"`drivelake report {version.manifest.partition} --lake {lake.root}`"),
                "walked": dg.MetadataValue.md(markdown_table(("what", "count"), [(k, str(v)) for k, v in facts.items()])),
                "summary": dg.MetadataValue.json(summary),
            },
            checks=[
                dg.AssetCheckResult(
                    check_name="verified", passed=summary["verification"]["verdict"] == "VERIFIED", metadata=dict(facts)
                )
            ],
        )

    return evidence
