"""calibrations: the frame transforms of a rig, as its declaration names them."""

import dagster as dg

from assets.partitions import calibrated_rigs
from assets.reporting import markdown_table, publish, result
from drivelake.declaration import Declaration
from drivelake.frames.calibration import CALIBRATIONS, FILE, transforms_of
from drivelake.frames.transforms import parse_calibration
from resources import LakeResource

__all__ = ["build"]


def build(declaration: Declaration) -> dg.AssetsDefinition:
    """The asset, one partition a rig that names a calibration."""

    @dg.asset(
        name="calibrations",
        partitions_def=calibrated_rigs(declaration),
        group_name="drives",
        kinds={"yaml"},
        owners=[declaration.owner],
        code_version=CALIBRATIONS.code_version,
        description="The calibration file of a rig, checked: a tree of frames below `vehicle`, each with its source and date.",
    )
    def calibrations(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        published = publish(context, lake, CALIBRATIONS)
        version = published.version
        stated = parse_calibration(version.path(FILE).read_text(encoding="utf-8"), where=version.name)
        placed = transforms_of(version).in_vehicle
        header = ("frame", "parent", "x m", "y m", "z m in vehicle", "source", "date")
        rows = [
            (name, frame.parent, *(float(part) for part in placed[name][:3, 3]), frame.source, str(frame.date or ""))
            for name, frame in stated.frames.items()
        ]
        return result(published, lake, {"frames": dg.MetadataValue.md(markdown_table(header, rows))})

    return calibrations
