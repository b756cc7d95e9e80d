"""curated_datasets: rows of many drives, selected, split by drive, with their pictures packed."""

import json

import dagster as dg
import pyarrow.parquet as pq

from assets.partitions import datasets
from assets.reporting import markdown_table, picture, publish, result
from drivelake.datasets import SPLITS
from drivelake.datasets.stage import CURATED_DATASETS
from drivelake.datasets.thumbnails import thumbnails
from drivelake.declaration import Declaration
from resources import LakeResource

__all__ = ["build"]


def build(declaration: Declaration) -> dg.AssetsDefinition:
    """The asset, one partition a declared dataset."""

    @dg.asset(
        name="curated_datasets",
        deps=[dg.AssetDep("sensor_frames", partition_mapping=dg.AllPartitionMapping())],
        partitions_def=datasets(declaration),
        group_name="datasets",
        kinds={"duckdb", "parquet"},
        owners=[declaration.owner],
        code_version=CURATED_DATASETS.code_version,
        description="A declared SQL selection over the frames of all drives, split by drive, checked for leaks, pictures packed.",
        check_specs=[
            dg.AssetCheckSpec(
                "splits_share_nothing", asset="curated_datasets", description="Display only: a leak stops publication."
            )
        ],
    )
    def curated_datasets(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        published = publish(context, lake, CURATED_DATASETS)
        version = published.version
        card = json.loads(version.path("card.json").read_bytes())
        counts = [
            (slice_, value, *(n[s] or "EMPTY" for s in SPLITS))
            for slice_, values in card["slices"].items()
            for value, n in values.items()
        ]
        drives = [(drive, d["split"], d["rows"]) for drive, d in card["drives"].items()]
        values = [(n, v["min"], v["mean"], v["max"], v["std"], v["nulls"]) for n, v in card["values"].items()]
        schema = pq.read_schema(version.path("rows.parquet"))
        return result(
            published,
            lake,
            {
                "pictures": picture(thumbnails(version), "pictures from across the dataset"),
                "slices x splits": dg.MetadataValue.md(markdown_table(("slice", "value", *SPLITS), counts)),
                "rows by split": dg.MetadataValue.json(card["splits"]),
                "drives": dg.MetadataValue.md(markdown_table(("drive", "split", "rows"), drives)),
                "left out": dg.MetadataValue.md(markdown_table(("drive", "reason"), card["left_out"].items())),
                "values": dg.MetadataValue.md(markdown_table(("column", "min", "mean", "max", "std", "nulls"), values)),
                "dagster/row_count": dg.MetadataValue.int(card["rows"]),
                "dagster/column_schema": dg.TableSchema(columns=[dg.TableColumn(f.name, str(f.type)) for f in schema]),
            },
            checks=[
                dg.AssetCheckResult(
                    check_name="splits_share_nothing",
                    passed=not any(card["leakage"]["shared"].values()),
                    metadata={"compared": card["leakage"]},
                )
            ],
        )

    return curated_datasets
