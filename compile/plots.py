"""Parity as figures. Belongs here: parity.json to small inline SVG, the same text for the same report.

Never here: measuring, files, plotting libraries, scripts or fonts from elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

import numpy as np

from compile.parity import Report, Values

__all__ = ["histogram", "parity_figures", "scatter"]

WIDTH, HEIGHT = 360, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 12, 28, 44
TICKS = 5
BINS = 21


class Axis(NamedTuple):
    """A linear map from values to pixels."""

    low: float
    high: float
    start: float
    end: float

    def at(self, value: float) -> float:
        """The pixel of a value."""
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self) -> list[float]:
        """About five multiples of 1, 2 or 5 times a power of ten."""
        rough = (self.high - self.low) / TICKS
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(f * power for f in (1.0, 2.0, 5.0, 10.0) if f * power >= rough)
        return [n * step for n in range(math.ceil(self.low / step), math.floor(self.high / step) + 1)]


def parity_figures(report: Report) -> dict[str, str]:
    """Draw both figures of every target; the keys are ``<target>_scatter`` and ``<target>_histogram``."""
    figures = {}
    for name, values in report["targets"].items():
        figures[f"{name}_scatter"] = scatter(name, values)
        figures[f"{name}_histogram"] = histogram(name, values)
    return figures


def scatter(name: str, values: Values) -> str:
    """Draw compiled over float, with the diagonal on which both agree."""
    low, high = _padded([*values["float"], *values["compiled"]])
    across, up = Axis(low, high, LEFT, WIDTH - RIGHT), Axis(low, high, HEIGHT - BOTTOM, TOP)
    diagonal = f'<line x1="{across.start}" y1="{up.start}" x2="{across.end}" y2="{up.end}" stroke="#999" stroke-dasharray="4 3"/>'
    points = "".join(
        f'<circle cx="{across.at(x):.1f}" cy="{up.at(y):.1f}" r="2"/>'
        for x, y in zip(values["float"], values["compiled"], strict=True)
    )
    body = f'{diagonal}<g fill="#0b62a4" fill-opacity="0.6">{points}</g>'
    unit = _unit(values)
    return _figure(
        f"{name}: compiled against float, {len(values['float'])} rows", body, across, up, f"float{unit}", f"compiled{unit}"
    )


def histogram(name: str, values: Values) -> str:
    """Draw how often compiled minus float falls into each of 21 equal bins around zero."""
    deviation = np.array(values["compiled"]) - np.array(values["float"])
    edge = float(np.abs(deviation).max()) or 1.0
    counts = np.histogram(deviation, bins=BINS, range=(-edge, edge))[0].tolist()
    across, up = Axis(-edge, edge, LEFT, WIDTH - RIGHT), Axis(0.0, max(counts) * 1.05, HEIGHT - BOTTOM, TOP)
    width = (across.end - across.start) / BINS
    bars = "".join(_bar(across.start + at * width, width - 1, up, count) for at, count in enumerate(counts) if count)
    title = f"{name}: what compiling changed, {len(deviation)} rows"
    return _figure(title, f'<g fill="#0b62a4">{bars}</g>', across, up, f"compiled - float{_unit(values)}", "rows")


def _bar(x: float, width: float, up: Axis, count: int) -> str:
    y = up.at(count)
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{up.start - y:.1f}"/>'


def _figure(title: str, body: str, across: Axis, up: Axis, x_label: str, y_label: str) -> str:
    """Axes, ticks and words around a body."""
    x, y = (across.start + across.end) / 2, (up.start + up.end) / 2
    size = f'viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="sans-serif" font-size="10" fill="#333">',
        f"<title>{escape(title)}</title>",
        f'<text x="{LEFT}" y="16" font-size="12">{escape(title)}</text>',
        *_ticks(across, up),
        f'<path d="M{across.start} {up.end}V{up.start}H{across.end}" fill="none" stroke="#333"/>',
        body,
        f'<text x="{x:.1f}" y="{HEIGHT - 8}" text-anchor="middle">{escape(x_label)}</text>',
        f'<text x="12" y="{y:.1f}" text-anchor="middle" transform="rotate(-90 12 {y:.1f})">{escape(y_label)}</text>',
        "</svg>",
    ]
    return "".join(parts)


def _ticks(across: Axis, up: Axis) -> Iterator[str]:
    for value in across.ticks():
        x = across.at(value)
        yield f'<line x1="{x:.1f}" y1="{up.start}" x2="{x:.1f}" y2="{up.start + 4}" stroke="#333"/>'
        yield f'<text x="{x:.1f}" y="{up.start + 15}" text-anchor="middle">{value:.4g}</text>'
    for value in up.ticks():
        y = up.at(value)
        yield f'<line x1="{across.start - 4}" y1="{y:.1f}" x2="{across.end}" y2="{y:.1f}" stroke="#ddd"/>'
        yield f'<text x="{across.start - 7}" y="{y + 3:.1f}" text-anchor="end">{value:.4g}</text>'


def _padded(values: Sequence[float]) -> tuple[float, float]:
    """The range of the values with 5 % to spare, and never empty."""
    low, high = min(values), max(values)
    spare = (high - low) * 0.05 or abs(high) * 0.05 or 1.0
    return low - spare, high + spare


def _unit(values: Values) -> str:
    return f" [{values['unit']}]" if values["unit"] else ""
