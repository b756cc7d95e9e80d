"""Plots of a synchronisation as SVG. Belongs here: drawing what the report holds.

Never here: measuring, colours that carry a verdict, axes and frames (``svg``).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import accumulate, pairwise

from drivelake import svg
from drivelake.frames.clocks import ClockModel, Segment
from drivelake.frames.report import SensorReport, SyncReport

__all__ = ["age_plot", "drop_plot", "offset_plot", "residual_plot"]

LABEL, SUMMARY = 150, 130
PITCH, TOP, BOTTOM = 24, 56, 34
REACH_MIN_MS = 1.0
NS_PER_MS = 1e6


def offset_plot(report: SyncReport, truths: Mapping[str, Segment] | None = None) -> str:
    """How the offset of every estimated clock changes over time: a dot a window, a line a segment of its model.

    Args:
        report: of the drive.
        truths: of clocks whose law is known, drawn as dashed lines.

    Returns:
        An SVG document; without an estimated clock it says NOT SHOWN and why.
    """
    estimated = {name: model for name, model in report.clocks.items() if model.windows}
    if not estimated:
        return _not_shown(report)
    base_ns = _base_ns(estimated)
    dots, lines, dashed = {}, {}, {}
    for name, model in estimated.items():
        shown = [segment for segment in model.segments if segment.windows]
        # what is plotted is the change: one clock is off by hours, another by milliseconds
        zero_ms = shown[0].offset_ns / NS_PER_MS
        dots[name] = [(_since_s(s, w.t_s, base_ns), w.lag_ms - zero_ms) for s in shown for w in s.windows]
        lines[name] = [_law(s, s, base_ns, zero_ms) for s in shown]
        dashed[name] = [_law(truths[name], s, base_ns, zero_ms) for s in shown] if truths and name in truths else []
    start_s = min(t_s for drawn in dots.values() for t_s, _ in drawn)
    ends = [point for drawn in (*lines.values(), *dashed.values()) for line in drawn for point in line]
    every = [*ends, *(point for drawn in dots.values() for point in drawn)]
    colours = {name: svg.COLOURS[at % len(svg.COLOURS)] for at, name in enumerate(estimated)}
    plot = svg.Plot(
        "Offset of each clock over time",
        svg.Axis.around([t_s - start_s for t_s, _ in every], "time since the first window [s]"),
        svg.Axis.around([-REACH_MIN_MS, REACH_MIN_MS, *(ms for _, ms in every)], "change of the offset [ms]"),
        tuple(_offset_keys(estimated, colours, dashed)),
    )
    drawn = [
        svg.line([plot.at(t - start_s, ms) for t, ms in line], colours[name], width=2, dashed=of is dashed)
        for of in (lines, dashed)
        for name, found in of.items()
        for line in found
    ]
    points = [svg.dots((plot.at(t - start_s, ms) for t, ms in found), colours[name]) for name, found in dots.items()]
    return plot.document([*points, *drawn])


def residual_plot(report: SyncReport) -> str:
    """Deviation of every alignment window from its clock's model over time, a colour a clock.

    Returns:
        An SVG document; without an estimated clock it says NOT SHOWN and why.
    """
    estimated = {name: model for name, model in report.clocks.items() if model.windows}
    if not estimated:
        return _not_shown(report)
    base_ns = _base_ns(estimated)
    points = {
        name: [(_since_s(s, w.t_s, base_ns), w.deviation_ms) for s in model.segments for w in s.windows]
        for name, model in estimated.items()
    }
    start_s = min(t_s for windows in points.values() for t_s, _ in windows)
    times_s = [t_s - start_s for windows in points.values() for t_s, _ in windows]
    reach_ms = max(REACH_MIN_MS, *(abs(deviation) for windows in points.values() for _, deviation in windows))
    colours = {name: svg.COLOURS[at % len(svg.COLOURS)] for at, name in enumerate(estimated)}
    plot = svg.Plot(
        "Deviation of each alignment window from its clock's model",
        svg.Axis.around(times_s, "time since the first window [s]"),
        svg.Axis.around([-reach_ms, reach_ms], "deviation [ms]"),
        tuple(svg.Key(f"{name}: RMS {model.worst('residual_ms'):.2f} ms", colours[name]) for name, model in estimated.items()),
    )
    zero = svg.line([plot.at(plot.across.low, 0), plot.at(plot.across.high, 0)], svg.MUTED)
    drawn = [svg.dots((plot.at(t - start_s, d) for t, d in windows), colours[name]) for name, windows in points.items()]
    return plot.document([zero, *drawn])


def drop_plot(report: SyncReport) -> str:
    """For every sensor the share of ticks that hold a sample, that hold one again, and that hold none, by reason.

    Returns:
        An SVG document with one row a sensor.
    """
    bottom = TOP + PITCH * max(len(report.sensors), 1)
    left, right = LABEL, svg.WIDTH - SUMMARY
    title = "Ticks with and without a sample"
    parts = [svg.heading(title)]
    legend = (("a sample of its own", svg.ACCENT), ("an earlier tick's sample", svg.MUTED))
    for at, (words, colour) in enumerate(legend):
        x = left + at * (right - left) / 2
        parts += [
            svg.line([(x, TOP - 16), (x + 16, TOP - 16)], colour, width=6),
            svg.text(x + 21, TOP - 12, words, fill=svg.MUTED),
        ]
    for at, (name, sensor) in enumerate(report.sensors.items()):
        y = TOP + PITCH * (at + 0.5)
        parts.append(svg.text(left - 8, y + 4, svg.fitted(name, left - 8 - svg.MARGIN), anchor="end"))
        parts.append(svg.line([(left, y), (right, y)], svg.GRID, width=6))
        if report.frames:
            shares = [(sensor.matched - sensor.reused) / report.frames, sensor.reused / report.frames]
            edges = [left, *(left + done * (right - left) for done in accumulate(shares))]
            colours = [colour for _, colour in legend]
            parts += [
                svg.line([(x1, y), (x2, y)], c, width=6) for (x1, x2), c in zip(pairwise(edges), colours, strict=True) if x2 > x1
            ]
        parts.append(svg.text(right + 8, y + 4, svg.fitted(_without(sensor), SUMMARY - svg.MARGIN), fill=svg.MUTED))
    return svg.document(title, parts, height=bottom + svg.MARGIN)


def age_plot(report: SyncReport) -> str:
    """Percentiles of the age of every sensor, as shares of its tolerance.

    Returns:
        An SVG document with one row a sensor: a line to the greatest age, marks at p50, p95 and p99.
    """
    bottom = TOP + PITCH * max(len(report.sensors), 1)
    left, right = LABEL, svg.WIDTH - SUMMARY
    title = "Age of each sensor's sample within its tolerance"
    parts = [svg.heading(title)]
    for x, words in ((left, "age 0"), (right, "tolerance")):
        parts.append(svg.line([(x, TOP - 6), (x, bottom)], svg.MUTED))
        parts.append(svg.text(x, TOP - 12, words, fill=svg.MUTED, anchor="middle"))
    for at, (name, sensor) in enumerate(report.sensors.items()):
        y = TOP + PITCH * (at + 0.5)
        parts.append(svg.text(left - 8, y + 4, svg.fitted(name, left - 8 - svg.MARGIN), anchor="end"))
        if sensor.age_ms is None:
            parts.append(svg.text(left + 8, y + 4, "NOT SHOWN: nothing matched", fill=svg.MUTED))
            continue
        ages, scale = sensor.age_ms, (right - left) / sensor.tolerance_ms
        parts.append(svg.line([(left, y), (left + ages.max * scale, y)], svg.ACCENT, width=2))
        marks = [left + age_ms * scale for age_ms in (ages.p50, ages.p95, ages.p99)]
        parts += [svg.line([(x, y - 6), (x, y + 6)], svg.ACCENT, width=2) for x in marks]
        parts.append(svg.text(right + 8, y + 4, f"p95 {ages.p95:.1f} of {sensor.tolerance_ms:g} ms", fill=svg.MUTED))
    legend = "marks: p50, p95, p99; the line ends at the greatest age"
    parts.append(svg.text(svg.WIDTH / 2, bottom + BOTTOM - 12, legend, fill=svg.MUTED, anchor="middle"))
    return svg.document(title, parts, height=bottom + BOTTOM)


def _not_shown(report: SyncReport) -> str:
    """Words instead of a plot: why the drive was left out, else why no clock has a model."""
    title = "Clock residuals NOT SHOWN: no clock was estimated"
    clocks = [f"{name}: {model.reason}" for name, model in report.clocks.items() if model.reason]
    reasons = [report.excluded] if report.excluded else clocks
    lines = [row for reason in reasons[:5] for row in svg.wrapped(reason, svg.WIDTH - 2 * svg.MARGIN, rows=5)]
    parts = [svg.text(svg.MARGIN, 44 + svg.ROW * at, row, fill=svg.MUTED) for at, row in enumerate(lines)]
    return svg.document(title, [svg.heading(title), *parts], height=44 + svg.ROW * len(lines))


def _base_ns(estimated: Mapping[str, ClockModel]) -> int:
    """A near base: whole nanoseconds since 1970 have more digits than a float."""
    return min(segment.epoch_ns for model in estimated.values() for segment in model.segments if segment.windows)


def _since_s(segment: Segment, t_s: float, base_ns: int) -> float:
    return t_s + (segment.epoch_ns - base_ns) / 1e9


def _law(law: Segment, over: Segment, base_ns: int, zero_ms: float) -> list[tuple[float, float]]:
    """Both ends of a clock's law over the windows of a segment: time in s, offset in ms."""
    ends = []
    for edge in (min, max):
        t_s = edge(window.t_s for window in over.windows)
        elapsed_s = t_s + (over.epoch_ns - law.epoch_ns) / 1e9
        ends.append((_since_s(over, t_s, base_ns), law.offset_ns / NS_PER_MS + law.drift_ppm * elapsed_s / 1e3 - zero_ms))
    return ends


def _offset_keys(
    estimated: Mapping[str, ClockModel], colours: Mapping[str, str], truths: Mapping[str, list[list[tuple[float, float]]]]
) -> Iterator[svg.Key]:
    for name, model in estimated.items():
        first = next(segment for segment in model.segments if segment.windows)
        jumps = len(model.segments) - 1
        more = f", {jumps} jump{'s' if jumps > 1 else ''}" if jumps else ""
        yield svg.Key(f"{name}: {first.offset_ns / NS_PER_MS:+.1f} ms, {first.drift_ppm:+.1f} ppm{more}", colours[name])
        if truths[name]:
            yield svg.Key("the truth", colours[name], line=True, dashed=True)


def _without(sensor: SensorReport) -> str:
    """How many ticks hold no sample, and the reason that most of them have."""
    reasons = {name.replace("_", " "): int(number) for name, number in sensor.unmatched.model_dump().items() if number}
    if not reasons:
        return "none without"
    return f"{sensor.unmatched.total} without: {max(reasons, key=lambda name: reasons[name])}"
