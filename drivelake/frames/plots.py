"""Plots of a synchronisation as SVG. Belongs here: drawing what the report holds.

Never here: measuring, colours that carry a verdict, axes and frames (``svg``).
"""

from __future__ import annotations

from drivelake import svg
from drivelake.frames.report import SyncReport

__all__ = ["age_plot", "residual_plot"]

LABEL, SUMMARY = 150, 130
PITCH, TOP, BOTTOM = 24, 56, 34
REACH_MIN_MS = 1.0


def residual_plot(report: SyncReport) -> str:
    """Deviation of every alignment window from its clock's model over time, a colour a clock.

    Returns:
        An SVG document; without an estimated clock it says NOT SHOWN and why.
    """
    estimated = {name: model for name, model in report.clocks.items() if model.windows}
    if not estimated:
        return _not_shown(report)
    # whole nanoseconds since 1970 have more digits than a float
    base_ns = min(model.epoch_ns for model in estimated.values())
    points = {
        name: [(w.t_s + (model.epoch_ns - base_ns) / 1e9, w.deviation_ms) for w in model.windows]
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
        tuple(svg.Key(f"{name}: RMS {model.residual_ms:.2f} ms", colours[name]) for name, model in estimated.items()),
    )
    zero = svg.line([plot.at(plot.across.low, 0), plot.at(plot.across.high, 0)], svg.MUTED)
    drawn = [svg.dots((plot.at(t - start_s, d) for t, d in windows), colours[name]) for name, windows in points.items()]
    return plot.document([zero, *drawn])


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
