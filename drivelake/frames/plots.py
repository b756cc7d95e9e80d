"""Plots of a synchronisation as SVG. Belongs here: drawing what the report holds, in a few hundred bytes a plot.

Never here: measuring, colours that carry a verdict, scripts or external references (the plots stand in data URIs).
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from html import escape

from drivelake.frames.report import SyncReport

__all__ = ["age_plot", "data_uri", "residual_plot"]

WIDTH, HEIGHT = 640, 240
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 32, 36
ROW = 22
LABEL = 160
INK, MUTED = "#333333", "#999999"
COLOURS = ("#1f6fb4", "#d1731a", "#2f8f4e", "#8c4fb0", "#b03a4a")


def residual_plot(report: SyncReport) -> str:
    """Deviation of every alignment window from its clock's model over time, a colour a clock.

    Returns:
        An SVG document; without an estimated clock it says NOT SHOWN and why.
    """
    estimated = {name: model for name, model in report.clocks.items() if model.windows}
    if not estimated:
        reasons = [f"{name}: {model.reason}" for name, model in report.clocks.items() if model.reason]
        return _document(
            HEIGHT // 2,
            [_text(16, 24, "Clock residuals NOT SHOWN: no clock was estimated")]
            + [_text(16, 48 + 18 * at, reason[:100], fill=MUTED) for at, reason in enumerate(reasons[:3])],
        )
    points = [(w.t_s + m.epoch_ns / 1e9, w.deviation_ms) for m in estimated.values() for w in m.windows]
    start_s, end_s = min(t for t, _ in points), max(t for t, _ in points)
    reach_ms = max(1.0, *(abs(d) for _, d in points))
    middle = (TOP + HEIGHT - BOTTOM) / 2

    def x(t_s: float) -> float:
        return LEFT + (t_s - start_s) / max(end_s - start_s, 1e-9) * (WIDTH - LEFT - RIGHT)

    def y(deviation_ms: float) -> float:
        return middle - deviation_ms / reach_ms * (HEIGHT - TOP - BOTTOM) / 2

    parts = [_line(LEFT, middle, WIDTH - RIGHT, middle, MUTED), _line(LEFT, TOP, LEFT, HEIGHT - BOTTOM, MUTED)]
    parts += [_text(LEFT - 6, y(v) + 4, f"{v:.1f}", anchor="end") for v in (reach_ms, 0.0, -reach_ms)]
    parts.append(_text(WIDTH / 2, HEIGHT - 8, f"time over {end_s - start_s:.0f} s; deviation in ms", anchor="middle", fill=MUTED))
    for at, (name, model) in enumerate(estimated.items()):
        colour = COLOURS[at % len(COLOURS)]
        parts.append(_text(LEFT + 150 * at, 18, f"{name}: RMS {model.residual_ms:.2f} ms", fill=colour))
        parts += [_dot(x(w.t_s + model.epoch_ns / 1e9), y(w.deviation_ms), colour) for w in model.windows]
    return _document(HEIGHT, parts)


def age_plot(report: SyncReport) -> str:
    """Percentiles of the age of every sensor, as shares of its tolerance.

    Returns:
        An SVG document with one row a sensor: a line to the greatest age, marks at p50, p95 and p99.
    """
    height = TOP + ROW * max(len(report.sensors), 1) + BOTTOM
    parts = [_line(x, TOP - 6, x, height - BOTTOM, MUTED) for x in (LABEL, WIDTH - LABEL)]
    parts.append(_text(LABEL, 18, "age 0", anchor="middle", fill=MUTED))
    parts.append(_text(WIDTH - LABEL, 18, "tolerance", anchor="middle", fill=MUTED))
    for at, (name, sensor) in enumerate(report.sensors.items()):
        y = TOP + ROW * (at + 0.5)
        parts.append(_text(LABEL - 8, y + 4, name[:22], anchor="end"))
        if sensor.age_ms is None:
            parts.append(_text(LABEL + 8, y + 4, "NOT SHOWN: nothing matched", fill=MUTED))
            continue
        scale = (WIDTH - 2 * LABEL) / sensor.tolerance_ms
        parts.append(_line(LABEL, y, LABEL + sensor.age_ms.max * scale, y, COLOURS[0]))
        marks = [LABEL + age_ms * scale for age_ms in (sensor.age_ms.p50, sensor.age_ms.p95, sensor.age_ms.p99)]
        parts += [_line(x, y - 5, x, y + 5, COLOURS[0]) for x in marks]
        summary = f"p95 {sensor.age_ms.p95:.1f} of {sensor.tolerance_ms:g} ms"
        parts.append(_text(WIDTH - LABEL + 8, y + 4, summary, fill=MUTED))
    parts.append(
        _text(WIDTH / 2, height - 10, "marks: p50, p95, p99; the line ends at the greatest age", anchor="middle", fill=MUTED)
    )
    return _document(height, parts)


def data_uri(svg: str) -> str:
    """The document as a URI that an img element takes."""
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode("ascii")


def _document(height: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" font-family="sans-serif" font-size="12">'
    return "".join((head, f'<rect width="{WIDTH}" height="{height:g}" fill="#ffffff"/>', *parts, "</svg>"))


def _text(x: float, y: float, text: str, *, anchor: str = "start", fill: str = INK) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}">{escape(text)}</text>'


def _line(x1: float, y1: float, x2: float, y2: float, colour: str) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="1.5"/>'


def _dot(x: float, y: float, colour: str) -> str:
    return f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="{colour}"/>'
