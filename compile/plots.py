"""Parity as figures. Belongs here: parity.json to small SVG documents, the same text for the same report.

Never here: measuring, files, axes and frames (``drivelake.svg``).
"""

from __future__ import annotations

import numpy as np

from compile.parity import Report, Values
from drivelake import svg

__all__ = ["histogram", "parity_figures", "scatter"]

BINS = 21


def parity_figures(report: Report) -> dict[str, str]:
    """Draw both figures of every target; the keys are ``<target>_scatter`` and ``<target>_histogram``."""
    figures = {}
    for name, values in report["targets"].items():
        figures[f"{name}_scatter"] = scatter(name, values)
        figures[f"{name}_histogram"] = histogram(name, values)
    return figures


def scatter(name: str, values: Values) -> str:
    """Draw compiled over float, with the diagonal on which both agree."""
    both, unit = [*values["float"], *values["compiled"]], _unit(values)
    plot = svg.Plot(
        f"{name}: compiled against float, {len(values['float'])} rows",
        svg.Axis.around(both, f"float{unit}"),
        svg.Axis.around(both, f"compiled{unit}"),
        (svg.Key("row", svg.ACCENT), svg.Key("both agree", svg.MUTED, line=True, dashed=True)),
    )
    diagonal = svg.line([plot.at(value, value) for value in (plot.across.low, plot.across.high)], svg.MUTED, dashed=True)
    points = (plot.at(x, y) for x, y in zip(values["float"], values["compiled"], strict=True))
    return plot.document([diagonal, svg.dots(points, svg.ACCENT, radius=2, opacity=0.6)])


def histogram(name: str, values: Values) -> str:
    """Draw how often compiled minus float falls into each of 21 equal bins around zero."""
    deviation = np.array(values["compiled"]) - np.array(values["float"])
    edge = float(np.abs(deviation).max()) or 1.0
    counts, edges = np.histogram(deviation, bins=BINS, range=(-edge, edge))
    plot = svg.Plot(
        f"{name}: what compiling changed, {len(deviation)} rows",
        svg.Axis.around([-edge, edge], f"compiled - float{_unit(values)}"),
        svg.Axis(0.0, int(counts.max()) * 1.05, "rows", step_min=1),
    )
    bins = zip(edges[:-1].tolist(), edges[1:].tolist(), counts.tolist(), strict=True)
    return plot.document([svg.bars(((plot.at(low, 0), plot.at(high, n)) for low, high, n in bins if n), svg.ACCENT)])


def _unit(values: Values) -> str:
    return f" [{values['unit']}]" if values["unit"] else ""
