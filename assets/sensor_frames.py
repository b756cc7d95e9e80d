"""sensor_frames: a drive on one clock, one row a reference tick."""

import dagster as dg
import pyarrow.parquet as pq

from assets.partitions import DRIVES
from assets.reporting import markdown_table, picture, publish, result
from drivelake.declaration import Declaration
from drivelake.frames.plots import age_plot, residual_plot
from drivelake.frames.report import SyncReport
from drivelake.frames.stage import SENSOR_FRAMES
from drivelake.frames.thumbnails import thumbnails
from resources import LakeResource

__all__ = ["build"]


def build(declaration: Declaration) -> dg.AssetsDefinition:
    """The asset, owned as declared."""

    @dg.asset(
        name="sensor_frames",
        deps=["signals"],
        partitions_def=DRIVES,
        group_name="drives",
        kinds={"parquet"},
        owners=[declaration.owner],
        code_version=SENSOR_FRAMES.code_version,
        pool="ingest",
        description="One row a tick of the reference camera: for every sensor which sample it holds and how old it is.",
        check_specs=[
            dg.AssetCheckSpec(
                "has_frames", asset="sensor_frames", description="Display only: a drive without frames is left out."
            ),
            dg.AssetCheckSpec(
                "clocks_observed", asset="sensor_frames", description="Display only: every aligned clock was observable."
            ),
        ],
    )
    def sensor_frames(context: dg.AssetExecutionContext, lake: LakeResource) -> dg.MaterializeResult:
        published = publish(context, lake, SENSOR_FRAMES)
        version = published.version
        report = SyncReport.model_validate_json(version.path("sync.json").read_bytes())
        schema = pq.read_schema(version.path("frames.parquet"))
        clocks = [(n, c.method, c.offset_ns / 1e6, c.drift_ppm, c.residual_ms) for n, c in report.clocks.items()]
        sensors = [
            (n, s.rule, s.samples, s.matched, s.unmatched.total, s.reused, s.unused, s.age_ms.p50 if s.age_ms else None,
             s.age_ms.p99 if s.age_ms else None) for n, s in report.sensors.items()
        ]  # fmt: skip
        strip = thumbnails(lake.open(), version)
        clock_header = ("clock", "method", "offset ms", "drift ppm", "residual ms")
        header = ("sensor", "rule", "samples", "matched", "unmatched", "reused", "unused", "age p50 ms", "age p99 ms")
        return result(
            published,
            lake,
            {
                **({"pictures": picture(strip, "eight frames of the drive")} if strip else {}),
                "excluded": dg.MetadataValue.text(report.excluded or "no"),
                "clock residuals": picture(residual_plot(report), "deviation of each window from the clock model"),
                "ages": picture(age_plot(report), "age of each sensor's sample, as a share of its tolerance"),
                "clocks": dg.MetadataValue.md(markdown_table(clock_header, clocks)),
                "sensors": dg.MetadataValue.md(markdown_table(header, sensors)),
                "dagster/row_count": dg.MetadataValue.int(report.frames),
                "dagster/column_schema": dg.TableSchema(columns=[dg.TableColumn(f.name, str(f.type)) for f in schema]),
            },
            checks=[
                dg.AssetCheckResult(
                    check_name="has_frames", passed=not report.excluded, severity=dg.AssetCheckSeverity.WARN,
                    metadata={"reason": report.excluded or ""},
                ),
                dg.AssetCheckResult(
                    check_name="clocks_observed",
                    passed=all(c.method != "not observable" for c in report.clocks.values()),
                    severity=dg.AssetCheckSeverity.WARN,
                ),
            ],
        )  # fmt: skip

    return sensor_frames
