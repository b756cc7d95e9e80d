"""What ``sync.json`` holds. Belongs here: the fields of the report on one synchronisation, and its bytes.

Never here: measuring any of it, and anything that differs from run to run (times, hosts, absolute paths).
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from drivelake.frames.clocks import ClockModel

__all__ = [
    "Ages",
    "EgoReport",
    "Quality",
    "ReferenceReport",
    "SensorReport",
    "SourceEntry",
    "SyncReport",
    "Unmatched",
]


class Part(BaseModel):
    """Unknown keys are errors; values never change after they were measured."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SourceEntry(Part):
    """One table that samples came from."""

    log: str
    channel: str
    column: str = Field(description="the value column, of an attitude all four; empty for a payload")
    samples: int = Field(default=0, description="samples that this table gave")
    first_ns: int | None = Field(default=None, description="earliest of them on the reference clock")
    last_ns: int | None = Field(default=None, description="latest of them on the reference clock")
    outside: bool = Field(default=False, description="none of them is within the tolerance of the span of the ticks")


class Ages(Part):
    """Percentiles of |age| over the matched ticks, in ms; nearest rank, so each is the age of some frame."""

    p50: float
    p95: float
    p99: float
    max: float


class Unmatched(Part):
    """Ticks without a sample, by the first reason that holds."""

    no_samples: int = Field(default=0, description="the sensor has none in this drive")
    before_first: int = Field(default=0, description="the tick is earlier than the first sample (not for rule next)")
    after_last: int = Field(
        default=0, description="the tick is later than the last sample (not for rules that look back: previous, aggregates)"
    )
    too_old: int = Field(
        default=0, description="samples stand on the sides that the rule looks at, none within the tolerance or the interval"
    )
    gap: int = Field(default=0, description="between neighbours, or over an interval, longer than max_gap_ms")
    stale: int = Field(default=0, description="the value had not changed for longer than stale_ms: a frozen sensor")

    @property
    def total(self) -> int:
        """Sum over the reasons."""
        return self.no_samples + self.before_first + self.after_last + self.too_old + self.gap + self.stale


class SensorReport(Part):
    """Counts of one sensor. ``rows = samples + without_stamp + invalid + duplicated_stamps``."""

    kind: str
    rule: str
    stamp: str
    clock: str
    tolerance_ms: float
    max_gap_ms: float | None = None
    stale_ms: float | None = None
    interval_exact: bool = False
    unit: str = Field(description="as declared")
    unit_found: str = Field(default="", description="as the signals carry it; empty when unknown")
    sources: tuple[SourceEntry, ...] = ()
    quarantined_logs: tuple[str, ...] = Field(default=(), description="logs of this sensor that gave nothing")
    missing: str | None = Field(default=None, description="why there is no source")
    rows: int = Field(default=0, description="rows of the tables read")
    without_stamp: int = Field(default=0, description="rows whose declared stamp is null, or outside 1970 to 2116")
    invalid: int = Field(
        default=0, description="rows whose value is null, NaN or infinite, or an attitude of length zero: not samples"
    )
    duplicated_stamps: int = Field(default=0, description="samples dropped because a later row has the same stamp")
    backward_stamps: int = Field(default=0, description="rows whose stamp is earlier than that of the row before, as written")
    samples: int = Field(default=0, description="samples that matching could use")
    constant: bool = Field(default=False, description="all samples, two or more, hold one value")
    longest_unchanged_ms: float | None = Field(default=None, description="where stale_ms is declared: the longest it stood still")
    matched: int = 0
    unmatched: Unmatched = Unmatched()
    reused: int = Field(default=0, description="matched ticks whose sample an earlier tick holds already")
    unused: int = Field(default=0, description="samples that no frame holds: dropped")
    age_ms: Ages | None = None


class ReferenceReport(Part):
    """The ticks, in order of time, one a stamp."""

    kind: Literal["sensor", "rate", "events"] = "sensor"
    sensor: str = Field(description="the sensor that ticks, or whose changes do; empty for a fixed rate")
    rate_hz: float | None = None
    ticks: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    duplicated_stamps: int = Field(
        default=0, description="samples of the reference that give no tick: another has the same stamp"
    )
    backward_stamps: int = 0
    gaps: int = Field(default=0, description="steps longer than five times the median step; not counted for events")
    longest_step_ms: float | None = Field(default=None, description="longest time between two ticks")


class Quality(Part):
    """The columns of the drive that a dataset's selection can use; null where nothing was estimated, or not all of it."""

    residual_ms_p99: float | None = Field(default=None, description="sync_residual_ms_p99: the worst of the estimated clocks")
    sigma_ms_max: float | None = Field(default=None, description="sync_sigma_ms_max: the worst of the estimated clocks")
    matched_share: float | None = Field(
        default=None, description="sync_matched_share: frames in which every required sensor holds a sample; null without frames"
    )


class EgoReport(Part):
    """How the ego motion was found."""

    method: str
    reason: str


class SyncReport(Part):
    """One synchronisation: the clock models, and for every sensor which samples were used and which were not."""

    schema_version: int = 2
    excluded: str | None = Field(default=None, description="why the drive is left out; the counts then go as far as it was read")
    notes: tuple[str, ...] = Field(
        default=(), description="what a person should know: gaps, late or frozen sensors, foreign logs"
    )
    frames: int = Field(description="rows of frames.parquet, one a tick")
    reference: ReferenceReport
    quality: Quality = Quality()
    clocks: dict[str, ClockModel]
    sensors: dict[str, SensorReport]
    ego: EgoReport | None = None

    def as_dict(self) -> dict[str, JsonValue]:
        """The fields as plain JSON values, in their order."""
        return self.model_dump(mode="json")

    def write(self, path: Path) -> None:
        """Write as UTF-8 JSON in the order of the fields and of the declaration; equal reports give equal bytes."""
        text = self.model_dump_json(indent=1)
        path.write_text(text + "\n", encoding="utf-8", newline="\n")
