"""What is true about a generated drive, beside what was estimated. Belongs here: reading the truth, and that comparison.

Never here: generating, estimating, anything that a version is made from.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np

from drivelake.frames.clocks import Segment
from drivelake.frames.report import SyncReport

__all__ = ["ClockTruth", "clock_truths"]

NS_PER_MS = 1e6
COMPARED_AT = 101


class ClockTruth(NamedTuple):
    """One segment of an estimated clock beside the truth.

    Attributes:
        clock: the domain.
        segment: its number.
        true: the law that the generator used.
        estimated: what the frames were made with.
        largest_ms: the greatest difference of the mapped time over the windows of the segment; None without an estimate.
    """

    clock: str
    segment: int
    true: Segment
    estimated: Segment
    largest_ms: float | None

    @property
    def true_offset_ms(self) -> float:
        """The true offset where the estimated one holds."""
        at_ns = np.array([self.estimated.epoch_ns or self.true.epoch_ns])
        return float((self.true.shift(at_ns) - at_ns)[0]) / NS_PER_MS


def clock_truths(folder: Path, drive: str, report: SyncReport) -> tuple[ClockTruth, ...]:
    """Every estimated clock of a generated drive beside its truth; empty for a drive that nobody generated.

    Args:
        folder: that the generator wrote the truth into.
        drive: name of the drive.
        report: of the drive's frames.
    """
    path = folder / f"{drive}.json"
    if not path.is_file():
        return ()
    law = json.loads(path.read_text(encoding="utf-8"))["clock"]
    true = Segment(method="declared", offset_ns=law["offset_ns"], drift_ppm=law["drift_ppm"], epoch_ns=law["native_zero_ns"])
    # a rig may know more clocks than the generator bent: the domain is that of the log's sensors
    domains = {s.clock for s in report.sensors.values() if any(source.log == law["log"] for source in s.sources)}
    return tuple(
        ClockTruth(name, number, true, segment, _largest_ms(segment, true))
        for name, model in report.clocks.items()
        if name in domains
        for number, segment in enumerate(model.segments)
    )


def _largest_ms(estimated: Segment, true: Segment) -> float | None:
    if not estimated.windows:
        return None
    first, last = (round(edge(w.t_s for w in estimated.windows) * 1e9) for edge in (min, max))
    native_ns = estimated.epoch_ns + np.linspace(first, last, COMPARED_AT).astype(np.int64)
    return float(np.abs(estimated.shift(native_ns) - true.shift(native_ns)).max()) / NS_PER_MS
