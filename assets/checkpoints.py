"""checkpoints: a trained network a declared model."""

import json

import dagster as dg

from assets.partitions import datasets, models
from assets.reporting import figures, markdown_table, publish, result
from drivelake.declaration import Declaration
from drivelake.learning.stage import CHECKPOINTS
from resources import LakeResource

__all__ = ["build"]

JUDGED = ("network", "ridge", "mean")


def build(declaration: Declaration) -> dg.AssetsDefinition:
    """The asset, one partition a declared model."""
    learns_from = {name: model.dataset for name, model in declaration.models.items()}

    @dg.asset(
        name="checkpoints",
        deps=[dg.AssetDep("curated_datasets", partition_mapping=_mapping(declaration, learns_from))],
        partitions_def=models(declaration),
        group_name="models",
        kinds={"pytorch", "optuna"},
        owners=[declaration.owner],
        code_version=CHECKPOINTS.code_version,
        pool="train",
        description="A network trained on one dataset, measured by slice beside two baselines fitted on the same split.",
        check_specs=[
            dg.AssetCheckSpec(
                "beats_both_baselines", asset="checkpoints", description="Display only: the compiling stage checks its gate."
            )
        ],
    )
    def checkpoints(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        published = publish(context, lake, CHECKPOINTS)
        version = published.version
        metrics, study = (json.loads(version.path(f"{name}.json").read_bytes()) for name in ("metrics", "study"))
        overall = [
            (split, judged, metrics[split]["n"], *(metrics[split][judged][m] for m in ("r2", "rmse", "mae")))
            for split in ("train", "validation", "test")
            for judged in JUDGED
        ]
        slices = [
            (slice_, value, splits["test"]["n"], splits["test"]["network"]["r2"], splits["test"]["network"]["mae"])
            for slice_, values in metrics["slices"].items()
            for value, splits in values.items()
        ]
        test = metrics["test"]
        best = max(test["ridge"]["r2"], test["mean"]["r2"])
        return result(
            published,
            lake,
            {
                **figures(version),
                "metrics": dg.MetadataValue.md(markdown_table(("split", "what", "n", "r2", "rmse", "mae"), overall)),
                "test split by slice": dg.MetadataValue.md(markdown_table(("slice", "value", "n", "r2", "mae"), slices)),
                "study": dg.MetadataValue.json(study),
                "test_r2": dg.MetadataValue.float(test["network"]["r2"]),
                "test_r2_best_baseline": dg.MetadataValue.float(best),
            },
            checks=[
                dg.AssetCheckResult(
                    check_name="beats_both_baselines",
                    passed=test["network"]["r2"] > best,
                    severity=dg.AssetCheckSeverity.WARN,
                    metadata={judged: test[judged]["r2"] for judged in JUDGED},
                )
            ],
        )

    return checkpoints


def _mapping(declaration: Declaration, learns_from: dict[str, str]) -> dg.PartitionMapping:
    """Each model on the partition of its dataset."""
    by_dataset = {
        d: [m for m, dataset in learns_from.items() if dataset == d] for d in datasets(declaration).get_partition_keys()
    }
    return dg.StaticPartitionMapping(by_dataset)
