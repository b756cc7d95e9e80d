"""The report that an assessor reads: one HTML file from a summary and figures. Belongs here: formats, figures, rendering.

Never here: picking numbers (``summary``), and anything that a reader's browser would have to fetch or execute. The words
and the layout stand in ``report.html.jinja``.
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup
from pydantic import JsonValue

from drivelake.svg import data_uri

__all__ = ["ROWS_MAX", "render"]

TEMPLATE = "report.html.jinja"
# A longer table is cut, with the number of rows that stand in summary.json only: a page is for reading.
ROWS_MAX = 200
NOT_SHOWN = Markup('<span class="none">NOT SHOWN</span>')
NS_PER_S = 1_000_000_000


class Figure(NamedTuple):
    """A figure in its section; ``source`` is None where it was not handed in."""

    caption: str
    source: str | None


class Expected(NamedTuple):
    """Figures that the report has a place for: names as globs, the section, and words for who cannot see the figure."""

    section: str
    caption: str
    names: tuple[str, ...]


EXPECTED = (
    Expected(
        "lineage", "Every version the artefact descends from: raw logs on the left, the artefact on the right.", ("lineage",)
    ),
    Expected("time", "Deviation of each alignment window from its clock's model over time, on one drive.", ("sync*",)),
    Expected("training", "Training and validation loss by epoch.", ("learning_curve*",)),
    Expected(
        "metrics", "Predictions of the network over the recorded values, and its errors.", ("scatter*", "errors*", "*_predicted")
    ),
    Expected("compile", "Predictions of the compiled model against the float model.", ("parity*", "*_scatter", "*_histogram")),
)
FURTHER = "metrics"  # the section of figures with other names


def render(summary: Mapping[str, JsonValue], pictures: Mapping[str, str]) -> str:
    """The report as one HTML document without scripts and without references to anything outside of it.

    Args:
        summary: what :func:`drivelake.evidence.summary.summarise` gave.
        pictures: SVG documents by name, see ``EXPECTED``. A kind without one reads NOT SHOWN; figures with other names
            follow the metrics.

    Returns:
        HTML text; equal arguments give equal text, whatever the order of keys.
    """
    return _template().render(summary=summary, figures=_placed(pictures), rows_max=ROWS_MAX)


@cache
def _template() -> Template:
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {"shown": shown, "exact": exact, "amount": amount, "utc": utc, "interval": interval}
    return environment.get_template(TEMPLATE)


def shown(value: JsonValue) -> str:
    """A value for people: floats with four significant digits, whole numbers in groups, what is absent as NOT SHOWN."""
    if value is None:
        return NOT_SHOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    if isinstance(value, list):
        return Markup(", ").join(shown(item) for item in value) or "none"
    return exact(value)


def exact(value: JsonValue) -> str:
    """A value as the file holds it: every digit of a number, mappings as JSON."""
    if value is None:
        return NOT_SHOWN
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, ensure_ascii=False)


def amount(size_bytes: JsonValue) -> str:
    """Bytes in powers of 1000."""
    if not isinstance(size_bytes, int):
        return NOT_SHOWN
    size, unit = float(size_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"


def utc(stamp_ns: JsonValue) -> str:
    """A stamp in UTC ns to the second, as ISO 8601 writes it."""
    if not isinstance(stamp_ns, int):
        return NOT_SHOWN
    moment = dt.datetime.fromtimestamp(stamp_ns // NS_PER_S, dt.UTC)
    return moment.strftime("%Y-%m-%d %H:%M:%SZ")


def interval(found: Mapping[str, JsonValue]) -> str:
    """The 95 % interval of r2 as ``0.61 to 0.74``."""
    low, high = found.get("r2_low"), found.get("r2_high")
    return NOT_SHOWN if low is None or high is None else f"{shown(low)} to {shown(high)}"


def _placed(pictures: Mapping[str, str]) -> dict[str, list[Figure]]:
    """Figures by section, those of one kind by name."""
    figures: dict[str, list[Figure]] = {}
    waiting = sorted(pictures)
    for section, caption, globs in EXPECTED:
        found = [name for name in waiting if any(fnmatchcase(name, glob) for glob in globs)]
        waiting = [name for name in waiting if name not in found]
        drawn = [Figure(caption if len(found) == 1 else f"{caption} ({name})", data_uri(pictures[name])) for name in found]
        figures.setdefault(section, []).extend(drawn or [Figure(caption, None)])
    figures[FURTHER].extend(Figure(name, data_uri(pictures[name])) for name in waiting)
    return figures
