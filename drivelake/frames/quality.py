"""Whether the clocks of a drive are known well enough for what its sensors tolerate. Belongs here: that judgement, for people.

Never here: measuring, gates (drivelake.gates), which drives a dataset takes (its SQL).
"""

from __future__ import annotations

from collections.abc import Iterator

from drivelake.frames.clocks import ClockModel
from drivelake.frames.report import SyncReport

__all__ = ["doubts"]

# standard uncertainties that a time is within in 95 of 100 cases
SIGMAS = 1.96


def doubts(report: SyncReport) -> tuple[str, ...]:
    """A sentence for every clock whose time may be off by more than a sensor on it tolerates; empty when all is well."""
    found: list[str] = []
    for name, model in report.clocks.items():
        tolerances = {sensor: s.tolerance_ms for sensor, s in report.sensors.items() if s.clock == name}
        if not tolerances:
            continue
        strictest = min(tolerances, key=lambda sensor: tolerances[sensor])
        found += _of(name, model, f"sensor {strictest!r} tolerates {tolerances[strictest]:g} ms", tolerances[strictest])
    return tuple(found)


def _of(name: str, model: ClockModel, words: str, tolerance_ms: float) -> Iterator[str]:
    for number, segment in enumerate(model.segments):
        where = f"Clock {name!r}" + (f", segment {number + 1} of {len(model.segments)}" if len(model.segments) > 1 else "")
        if segment.method == "not observable":
            yield f"{where}: {segment.reason}."
        elif segment.sigma_ms is not None and SIGMAS * segment.sigma_ms > tolerance_ms:
            yield f"{where}: its time is known to {SIGMAS * segment.sigma_ms:.1f} ms (95 %), {words}."
    beside = model.compared
    if (
        beside is not None
        and beside.largest_ms is not None
        and beside.largest_ms - SIGMAS * (beside.sigma_ms or 0) > tolerance_ms
    ):
        yield f"Clock {name!r}: the declared offset is {beside.largest_ms:.1f} ms away from what the signals say, {words}."
