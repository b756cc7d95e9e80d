"""raw_logs: the logs of a drive as they were recorded."""

import json

import dagster as dg

from assets.partitions import DRIVES
from assets.reporting import markdown_table, publish, result
from drivelake.declaration import Declaration
from drivelake.logs.stages import RAW_LOGS
from resources import LakeResource

__all__ = ["build"]


def build(declaration: Declaration) -> dg.AssetsDefinition:
    """The asset, owned as declared."""

    @dg.asset(
        name="raw_logs",
        partitions_def=DRIVES,
        group_name="drives",
        kinds={"mcap", "mdf4", "dvc"},
        owners=[declaration.owner],
        code_version=RAW_LOGS.code_version,
        pool="ingest",
        description="The logs of one drive as recorded: hashed at landing, read to their end; damaged ones are quarantined.",
        check_specs=[
            dg.AssetCheckSpec("no_log_is_damaged", asset="raw_logs", description="Display only: a damaged log is quarantined.")
        ],
    )
    def raw_logs(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        published = publish(context, lake, RAW_LOGS)
        version = published.version
        health = json.loads(version.path("health.json").read_bytes())
        entries = (*version.manifest.files, *version.manifest.references)
        files = [(e.path, e.bytes, e.sha256[:16]) for e in entries]
        channels = [
            (log, c["name"], c["type"], c["messages"], c["rate_hz"], c["gap_ms_max"])
            for log, report in health["logs"].items()
            for c in report["channels"]
        ]
        quarantined = health["quarantined"]
        return result(
            published,
            lake,
            {
                "file table": dg.MetadataValue.md(markdown_table(("file", "bytes", "sha256"), files)),
                "channels": dg.MetadataValue.md(
                    markdown_table(("log", "channel", "type", "messages", "rate Hz", "longest gap ms"), channels)
                ),
                "quarantined": dg.MetadataValue.md(markdown_table(("log", "reason"), quarantined.items())),
                "tags": dg.MetadataValue.json(version.manifest.facts["tags"]),
            },
            checks=[
                dg.AssetCheckResult(
                    check_name="no_log_is_damaged",
                    passed=not quarantined,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={"quarantined": quarantined},
                )
            ],
        )

    return raw_logs
