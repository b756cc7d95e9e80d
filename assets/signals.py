"""signals: the tables of a drive, one a topic or channel group."""

import json

import dagster as dg

from assets.partitions import DRIVES
from assets.reporting import markdown_table, publish, result
from drivelake.declaration import Declaration
from drivelake.logs.stages import SIGNALS
from resources import LakeResource

__all__ = ["build"]


def build(declaration: Declaration) -> dg.AssetsDefinition:
    """The asset, owned as declared."""

    @dg.asset(
        name="signals",
        deps=["raw_logs"],
        partitions_def=DRIVES,
        group_name="drives",
        kinds={"parquet", "arrow"},
        owners=[declaration.owner],
        code_version=SIGNALS.code_version,
        pool="ingest",
        description="One Parquet table a topic or channel group, SI units, native stamps; pictures as pointers into the logs.",
    )
    def signals(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        published = publish(context, lake, SIGNALS)
        index = json.loads(published.version.path("index.json").read_bytes())
        tables = [(t["table"], t["channel"], t["type"], t["rows"], len(t["columns"])) for t in index["tables"]]
        units = [
            (t["channel"], c["name"], c["dtype"], c["unit"], c["source_unit"])
            for t in index["tables"]
            for c in t["columns"]
            if c["unit"]
        ]
        salvaged = [
            (s["log"], c["channel"], c["expected"], c["recovered"], c["lost"], " ".join(c["why"] or s["damage"][:1]))
            for s in index["salvaged"]
            for c in s["channels"]
        ]
        salvage_header = ("log", "channel", "expected", "recovered", "lost", "why")
        return result(
            published,
            lake,
            {
                "tables": dg.MetadataValue.md(markdown_table(("table", "channel", "type", "rows", "columns"), tables)),
                "units": dg.MetadataValue.md(markdown_table(("channel", "column", "type", "unit", "unit in the log"), units)),
                "salvaged": dg.MetadataValue.md(markdown_table(salvage_header, salvaged)),
                "quarantined": dg.MetadataValue.json(index["quarantined"]),
                "dagster/row_count": dg.MetadataValue.int(sum(t["rows"] for t in index["tables"])),
            },
        )

    return signals
