"""raw_logs: the logs of a drive as they were recorded."""

import json
from collections.abc import Mapping, Sequence

import dagster as dg

from assets.partitions import DRIVES
from assets.reporting import markdown_table, publish, result
from drivelake.declaration import Declaration
from drivelake.logs import LogReport
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
        description="The logs of one drive as recorded: hashed at landing, read to their end, damage told by channel.",
        check_specs=[
            dg.AssetCheckSpec(
                "no_log_is_damaged", asset="raw_logs", description="Display only: a damaged log is salvaged or quarantined."
            )
        ],
    )
    def raw_logs(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        published = publish(context, lake, RAW_LOGS)
        version = published.version
        health = json.loads(version.path("health.json").read_bytes())
        entries = (*version.manifest.files, *version.manifest.references)
        files = [(e.path, e.bytes, e.sha256[:16]) for e in entries]
        logs = [LogReport.from_dict(report) for _, report in sorted(health["logs"].items())]
        quarantined, salvaged = health["quarantined"], health["salvaged"]
        return result(
            published,
            lake,
            {
                "file table": dg.MetadataValue.md(markdown_table(("file", "bytes", "sha256"), files)),
                "logs": dg.MetadataValue.md(_logs(logs, quarantined)),
                "channels": dg.MetadataValue.md(_channels(logs)),
                "damage": dg.MetadataValue.md(markdown_table(("log", "damage"), [(r.name, s) for r in logs for s in r.damage])),
                "notes": dg.MetadataValue.md(markdown_table(("log", "note"), [(r.name, s) for r in logs for s in r.notes])),
                "quarantined": dg.MetadataValue.md(markdown_table(("log", "reason"), quarantined.items())),
                "tags": dg.MetadataValue.json(version.manifest.facts["tags"]),
            },
            checks=[
                dg.AssetCheckResult(
                    check_name="no_log_is_damaged",
                    passed=not quarantined and not salvaged,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={"quarantined": quarantined, "salvaged": salvaged},
                )
            ],
        )

    return raw_logs


def _logs(logs: Sequence[LogReport], quarantined: Mapping[str, str]) -> str:
    rows = [
        (r.name, r.format, r.bytes, "quarantined" if r.name in quarantined else r.verdict, r.messages, r.recovered_share)
        for r in logs
    ]
    return markdown_table(("log", "format", "bytes", "verdict", "messages", "recovered share"), rows)


def _channels(logs: Sequence[LogReport]) -> str:
    about = ("log", "channel", "type", "messages", "expected", "lost", "why")
    header = (*about, "rate Hz", "mean Hz", "gaps", "longest gap ms", "jumps back")
    rows = [
        (
            r.name,
            c.name,
            c.type,
            c.messages,
            c.expected,
            c.lost,
            " ".join(c.why),
            c.rate_hz,
            c.mean_hz,
            c.gaps,
            c.gap_ms_max,
            c.backward_jumps,
        )
        for r in logs
        for c in r.channels
    ]
    return markdown_table(header, rows)
