"""What a person should know of a synchronisation. Belongs here: the sentences, made from the report's own numbers.

Never here: measuring, and verdicts: whether a drive is good enough is said by a gate or a selection.
"""

from __future__ import annotations

from collections.abc import Iterator

from drivelake.frames.report import ReferenceReport, SensorReport

__all__ = ["notes_of"]

NS_PER_S = 1e9
MS_PER_S = 1e3
# a sensor that begins this much after the ticks, or ends this much before them, is told
LATE_S = 1.0


def notes_of(reference: ReferenceReport, sensors: dict[str, SensorReport]) -> tuple[str, ...]:
    """Sentences on the ticks, then on each sensor in the order of the declaration."""
    found = list(_of_ticks(reference))
    for name, sensor in sensors.items():
        found += (f"Sensor {name!r} {words}." for words in (*_of_span(reference, sensor), *_of_values(sensor)))
    return tuple(found)


def _of_ticks(reference: ReferenceReport) -> Iterator[str]:
    who = f"The reference {reference.sensor!r}" if reference.sensor else "The reference"
    if reference.gaps and reference.longest_step_ms is not None:
        yield f"{who} stops {_times(reference.gaps)}, for up to {reference.longest_step_ms / MS_PER_S:.3f} s."
    if reference.duplicated_stamps:
        yield f"{who} has {_count(reference.duplicated_stamps, 'sample')} whose stamp another has too: no tick of its own."


def _of_span(reference: ReferenceReport, sensor: SensorReport) -> Iterator[str]:
    """Where a sensor's samples lie beside the ticks."""
    for source in sensor.sources:
        if source.outside:
            yield f"has samples in {source.log} that lie outside of the ticks; are these two drives in one folder?"
    spans = [s for s in sensor.sources if s.first_ns is not None and s.last_ns is not None and not s.outside]
    if not spans or reference.first_ns is None or reference.last_ns is None:
        return
    slack_s = max(LATE_S, sensor.tolerance_ms / MS_PER_S)
    late_s = (min(s.first_ns for s in spans if s.first_ns is not None) - reference.first_ns) / NS_PER_S
    early_s = (reference.last_ns - max(s.last_ns for s in spans if s.last_ns is not None)) / NS_PER_S
    if late_s > slack_s:
        yield f"begins {late_s:.3f} s after the first tick"
    if early_s > slack_s:
        yield f"ends {early_s:.3f} s before the last tick"


def _of_values(sensor: SensorReport) -> Iterator[str]:
    """What its rows are like."""
    if sensor.missing is not None:
        yield f"has no source in this drive: {sensor.missing}"
    elif sensor.samples == 0:
        yield f"has no samples in {_count(sensor.rows, 'row')}"
    if sensor.without_stamp:
        yield f"has {_count(sensor.without_stamp, 'row')} without its stamp"
    if sensor.invalid:
        yield f"has {_count(sensor.invalid, 'row')} without a usable value"
    if sensor.backward_stamps:
        yield f"goes back in time {_times(sensor.backward_stamps)}, from one row to the next"
    if sensor.duplicated_stamps:
        yield f"has {_count(sensor.duplicated_stamps, 'sample')} whose stamp a later one has too: the later one counts"
    if sensor.constant:
        yield "holds one value throughout"
    if sensor.unmatched.stale and sensor.longest_unchanged_ms is not None:
        longest_s = sensor.longest_unchanged_ms / MS_PER_S
        yield f"stood still for up to {longest_s:.3f} s: {_count(sensor.unmatched.stale, 'tick')} without a value of it"


def _count(count: int, what: str) -> str:
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
