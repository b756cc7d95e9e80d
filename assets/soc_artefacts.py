"""soc_artefacts: a checkpoint compiled for a target."""

import json

import dagster as dg

from assets.partitions import artefacts
from assets.reporting import figures, gate_table, markdown_table, publish, result
from compile.stage import SOC_ARTEFACTS
from drivelake.declaration import Declaration
from resources import LakeResource

__all__ = ["build"]


def build(declaration: Declaration) -> dg.AssetsDefinition:
    """The asset, one partition a model and target."""
    by_model = {m: [f"{m}@{t}" for t in declaration.targets] for m in declaration.models}

    @dg.asset(
        name="soc_artefacts",
        deps=[dg.AssetDep("checkpoints", partition_mapping=dg.StaticPartitionMapping(by_model))],
        partitions_def=artefacts(declaration),
        group_name="release",
        kinds={"onnx", "onnxruntime"},
        owners=[declaration.owner],
        code_version=SOC_ARTEFACTS.code_version,
        pool="compile",
        description="A compiled binary with its tensor contract and parity against float; published only past both gates.",
        check_specs=[
            dg.AssetCheckSpec("gates_passed", asset="soc_artefacts", description="Display only: a closed gate stops publication.")
        ],
    )
    def soc_artefacts(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        published = publish(context, lake, SOC_ARTEFACTS)
        version = published.version
        contract, build_, measured = (json.loads(version.path(f"{n}.json").read_bytes()) for n in ("contract", "build", "parity"))
        files = [(e.path, e.bytes, e.sha256[:16]) for e in version.manifest.files]
        numbers = [(group, name, value) for group in ("parity", "task") for name, value in measured[group].items()]
        return result(
            published,
            lake,
            {
                **figures(version),
                "measured": dg.MetadataValue.md(markdown_table(("group", "value", "measured"), numbers)),
                "gates": gate_table(published.decisions),
                "file table": dg.MetadataValue.md(markdown_table(("file", "bytes", "sha256"), files)),
                "tensor contract": dg.MetadataValue.json(contract),
                "toolchain": dg.MetadataValue.json(build_),
            },
            checks=[
                dg.AssetCheckResult(
                    check_name="gates_passed", passed=bool(published.decisions) and all(d.passed for d in published.decisions)
                )
            ],
        )

    return soc_artefacts
