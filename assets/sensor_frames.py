"""sensor_frames: a drive on one clock, one row a reference tick."""

import dagster as dg
import pyarrow.parquet as pq

from assets.partitions import DRIVES
from assets.reporting import markdown_table, picture, publish, result
from drivelake.declaration import Declaration
from drivelake.demo.truth import ClockTruth, clock_truths
from drivelake.frames.plots import age_plot, drop_plot, offset_plot, residual_plot
from drivelake.frames.quality import doubts
from drivelake.frames.report import SyncReport
from drivelake.frames.stage import SENSOR_FRAMES
from drivelake.frames.thumbnails import thumbnails
from resources import LakeResource

__all__ = ["build"]

TRUTH_HEADER = (
    "clock", "true offset ms", "estimated offset ms", "true drift ppm", "estimated drift ppm", "sigma ms", "greatest error ms"
)  # fmt: skip


def build(declaration: Declaration) -> dg.AssetsDefinition:
    """The asset, owned as declared."""

    @dg.asset(
        name="sensor_frames",
        deps=["signals", dg.AssetDep("calibrations", partition_mapping=dg.AllPartitionMapping())],
        partitions_def=DRIVES,
        group_name="drives",
        kinds={"parquet"},
        owners=[declaration.owner],
        code_version=SENSOR_FRAMES.code_version,
        pool="ingest",
        description="One row a tick of the reference: for every sensor which sample it holds, how old it is, or why none.",
        check_specs=[
            dg.AssetCheckSpec(
                "has_frames", asset="sensor_frames", description="Display only: a drive without frames is left out."
            ),
            dg.AssetCheckSpec(
                "sync_quality",
                asset="sensor_frames",
                description="Display only: every clock is known better than its sensors tolerate.",
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
        clocks = [
            (n, s.method, s.offset_ns / 1e6, s.drift_ppm, s.sigma_ms, s.residual_ms)
            for n, c in report.clocks.items()
            for s in c.segments
        ]
        sensors = [
            (n, s.rule, s.samples, s.matched, s.unmatched.total, s.reused, s.unused, s.age_ms.p50 if s.age_ms else None,
             s.age_ms.p99 if s.age_ms else None) for n, s in report.sensors.items()
        ]  # fmt: skip
        strip = thumbnails(lake.open(), version)
        # the truth about a generated drive lies beside the lake; it is shown, and no version is made from it
        truths = clock_truths(lake.open().root / "truth", context.partition_key, report)
        clock_header = ("clock", "method", "offset ms", "drift ppm", "sigma ms", "residual ms")
        header = ("sensor", "rule", "samples", "matched", "unmatched", "reused", "unused", "age p50 ms", "age p99 ms")
        return result(
            published,
            lake,
            {
                **({"pictures": picture(strip, "eight frames of the drive")} if strip else {}),
                "excluded": dg.MetadataValue.text(report.excluded or "no"),
                "clock offsets": picture(
                    offset_plot(report, {truth.clock: truth.true for truth in truths}), "offset of each clock over time"
                ),
                **({"clock truth": dg.MetadataValue.md(_truth_table(truths))} if truths else {}),
                "clock residuals": picture(residual_plot(report), "deviation of each window from the clock model"),
                "ages": picture(age_plot(report), "age of each sensor's sample, as a share of its tolerance"),
                "drops": picture(drop_plot(report), "ticks that hold a sample, hold one again, or hold none"),
                "clocks": dg.MetadataValue.md(markdown_table(clock_header, clocks)),
                "sensors": dg.MetadataValue.md(markdown_table(header, sensors)),
                "dagster/row_count": dg.MetadataValue.int(report.frames),
                "dagster/column_schema": dg.TableSchema(columns=[dg.TableColumn(f.name, str(f.type)) for f in schema]),
            },
            checks=_checks(report),
        )

    return sensor_frames


def _truth_table(truths: tuple[ClockTruth, ...]) -> str:
    rows = [
        (t.clock, t.true_offset_ms, t.estimated.offset_ns / 1e6, t.true.drift_ppm, t.estimated.drift_ppm, t.estimated.sigma_ms,
         t.largest_ms) for t in truths
    ]  # fmt: skip
    return markdown_table(TRUTH_HEADER, rows)


def _checks(report: SyncReport) -> list[dg.AssetCheckResult]:
    doubted = doubts(report)
    return [
        dg.AssetCheckResult(
            check_name="has_frames",
            passed=not report.excluded,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"reason": report.excluded or ""},
        ),
        dg.AssetCheckResult(
            check_name="clocks_observed",
            passed=all(c.method not in ("not observable", "partly estimated") for c in report.clocks.values()),
            severity=dg.AssetCheckSeverity.WARN,
        ),
        dg.AssetCheckResult(
            check_name="sync_quality",
            passed=not doubted,
            severity=dg.AssetCheckSeverity.WARN,
            metadata={"doubts": dg.MetadataValue.md("\n".join(f"- {sentence}" for sentence in doubted) or "none")},
        ),
    ]
