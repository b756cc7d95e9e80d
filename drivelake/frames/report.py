"""What ``sync.json`` holds. Belongs here: the fields of the report on one synchronisation, and its bytes.

Never here: measuring any of it, and anything that differs from run to run (times, hosts, absolute paths).
"""

from __future__ import annotations

import json
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from drivelake.frames.clocks import ClockModel

__all__ = ["Ages", "ReferenceReport", "SensorReport", "SourceEntry", "SyncReport", "Unmatched"]


class Part(BaseModel):
    """Unknown keys are errors; values never change after they were measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceEntry(Part):
    """One table that samples came from."""

    log: str
    channel: str
    column: str = Field(description="the value column; empty for a payload")


class Ages(Part):
    """Percentiles of |age| over the matched ticks, in ms; nearest rank, so each is the age of some frame."""

    p50: float
    p95: float
    p99: float
    max: float


class Unmatched(Part):
    """Ticks without a sample, by the first reason that holds."""

    no_samples: int = Field(default=0, description="the sensor has none in this drive")
    before_first: int = Field(default=0, description="the tick is earlier than the first sample")
    after_last: int = Field(default=0, description="the tick is later than the last sample (not for rule previous)")
    too_old: int = Field(default=0, description="samples stand on the sides that the rule looks at, none within the tolerance")

    @property
    def total(self) -> int:
        """Sum over the reasons."""
        return self.no_samples + self.before_first + self.after_last + self.too_old


class SensorReport(Part):
    """Counts of one sensor. ``rows = samples + without_stamp + invalid + duplicated_stamps``."""

    kind: str
    rule: str
    stamp: str
    clock: str
    tolerance_ms: float
    unit: str = Field(description="as declared")
    unit_found: str = Field(default="", description="as the signals carry it; empty when unknown")
    sources: tuple[SourceEntry, ...] = ()
    quarantined_logs: tuple[str, ...] = Field(default=(), description="logs of this sensor that gave nothing")
    missing: str | None = Field(default=None, description="why there is no source")
    rows: int = Field(default=0, description="rows of the tables read")
    without_stamp: int = Field(default=0, description="rows whose declared stamp is null, or outside 1970 to 2116")
    invalid: int = Field(default=0, description="rows whose value is null, NaN or infinite: not samples")
    duplicated_stamps: int = Field(default=0, description="samples dropped because a later row has the same stamp")
    backward_stamps: int = Field(default=0, description="rows whose stamp is earlier than that of the row before, as written")
    samples: int = Field(default=0, description="samples that matching could use")
    matched: int = 0
    unmatched: Unmatched = Unmatched()
    reused: int = Field(default=0, description="matched ticks whose sample an earlier tick holds already")
    unused: int = Field(default=0, description="samples that no frame holds")
    age_ms: Ages | None = None


class ReferenceReport(Part):
    """The ticks: the reference sensor's samples in order of their stamp, one a stamp."""

    sensor: str
    ticks: int = 0
    first_ns: int | None = None
    last_ns: int | None = None
    duplicated_stamps: int = Field(
        default=0, description="samples of the reference that give no tick: another has the same stamp"
    )
    backward_stamps: int = 0


class SyncReport(Part):
    """One synchronisation: the clock models, and for every sensor which samples were used and which were not."""

    schema_version: int = 1
    excluded: str | None = Field(default=None, description="why the drive is left out; the counts then go as far as it was read")
    frames: int = Field(description="rows of frames.parquet, one a tick")
    reference: ReferenceReport
    clocks: dict[str, ClockModel]
    sensors: dict[str, SensorReport]

    def as_dict(self) -> dict[str, JsonValue]:
        """The fields as plain JSON values, in their order."""
        return self.model_dump(mode="json")

    def write(self, path: Path) -> None:
        """Write as UTF-8 JSON in the order of the fields and of the declaration; equal reports give equal bytes."""
        text = json.dumps(self.as_dict(), indent=1, ensure_ascii=False, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8", newline="\n")
