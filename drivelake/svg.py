"""Small SVG documents. Belongs here: document, escaped text, line, dots, bars, an axis with round ticks, a framed plot.

Never here: what is plotted. Colours are fixed: inside an img element nothing of the page is inherited, so every document
is dark ink on its own white ground. Pixels have one digit, so that equal values are equal text.
"""

from __future__ import annotations

import base64
import math
import re
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

__all__ = [
    "ACCENT",
    "COLOURS",
    "GROUND",
    "HEIGHT",
    "INK",
    "MARGIN",
    "MUTED",
    "ROW",
    "WIDTH",
    "Axis",
    "Key",
    "Plot",
    "bars",
    "data_uri",
    "document",
    "dots",
    "fitted",
    "heading",
    "line",
    "text",
    "wrapped",
]

Point = tuple[float, float]

WIDTH, HEIGHT = 480, 260
MARGIN, ROW = 12, 16
LEFT, TOP, BOTTOM = 76, 50, 44
SIZE, TITLE_SIZE = 11, 13
# the widest of the usual sans-serif faces needs this much of its size for a letter of running text
LETTER = 0.6
INK, MUTED, GRID, GROUND = "#1d2430", "#5a6474", "#e3e7ee", "#ffffff"
COLOURS = ("#1f6fb4", "#c2601a", "#2f8f4e", "#8c4fb0", "#b03a4a")
ACCENT = COLOURS[0]
STEPS = 6
# letters of a number up to which powers of ten read no better
PLAIN_MAX = 6

# XML 1.0, production 2 (Char): what no escape brings into a document
NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def data_uri(drawn: str) -> str:
    """A document as a URI that an img element takes."""
    return "data:image/svg+xml;base64," + base64.b64encode(drawn.encode()).decode("ascii")


def document(title: str, parts: Iterable[str], *, width: float = WIDTH, height: float = HEIGHT) -> str:
    """Put drawn parts on a white ground.

    Args:
        title: what a reader that does not see the picture is told; not drawn.
        parts: elements, the later ones above the earlier ones.
        width: px.
        height: px.

    Returns:
        An SVG document without references to anything outside of it.
    """
    size = f'viewBox="0 0 {_px(width)} {_px(height)}" width="{_px(width)}" height="{_px(height)}"'
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" font-family="system-ui, sans-serif" font-size="{SIZE}">',
        f"<title>{_escaped(title)}</title>",
        f'<rect width="{_px(width)}" height="{_px(height)}" fill="{GROUND}"/>',
    )
    return "\n".join([*head, *parts, "</svg>\n"])


def text(
    x: float,
    y: float,
    words: str,
    *,
    fill: str = INK,
    anchor: str = "start",
    size: float = SIZE,
    bold: bool = False,
    monospace: bool = False,
    upwards: bool = False,
) -> str:
    """Words with the base line at ``y``; ``anchor`` is start, middle or end; ``upwards`` reads from the bottom to the top."""
    more = "".join(
        (
            f' text-anchor="{anchor}"' if anchor != "start" else "",
            f' font-size="{_px(size)}"' if size != SIZE else "",
            ' font-weight="600"' if bold else "",
            ' font-family="monospace"' if monospace else "",
            f' transform="rotate(-90 {_px(x)} {_px(y)})"' if upwards else "",
        )
    )
    return f'<text x="{_px(x)}" y="{_px(y)}" fill="{fill}"{more}>{_escaped(words)}</text>'


def heading(words: str, width: float = WIDTH) -> str:
    """The words in the first row of a document, cut to its width."""
    return text(MARGIN, 20, fitted(words, width - 2 * MARGIN, TITLE_SIZE), size=TITLE_SIZE, bold=True)


def fitted(words: str, width: float, size: float = SIZE) -> str:
    """The words, or as many of their letters as fit into ``width`` px, ending in an ellipsis."""
    letters = max(1, int(width / (LETTER * size)))
    return words if len(words) <= letters else f"{words[: letters - 1].rstrip()}…"


def wrapped(words: str, width: float, *, rows: int) -> list[str]:
    """The words in rows of at most ``width`` px; where ``rows`` do not hold them, the last one ends in an ellipsis."""
    return textwrap.wrap(words, width=max(2, int(width / (LETTER * SIZE))), max_lines=rows, placeholder="…")


def line(points: Iterable[Point], colour: str, *, width: float = 1.0, dashed: bool = False) -> str:
    """Straight lines from point to point."""
    path = " ".join(f"{_px(x)},{_px(y)}" for x, y in points)
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    return f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="{_px(width)}"{dash}/>'


def dots(points: Iterable[Point], colour: str, *, radius: float = 3.0, opacity: float = 1.0) -> str:
    """A dot at every point; less opacity shows where many lie on each other."""
    circles = "".join(f'<circle cx="{_px(x)}" cy="{_px(y)}" r="{_px(radius)}"/>' for x, y in points)
    return f'<g fill="{colour}" fill-opacity="{opacity:g}">{circles}</g>'


def bars(corners: Iterable[tuple[Point, Point]], colour: str) -> str:
    """A bar from every left bottom to its right top corner, less a pixel between neighbours."""
    rects = "".join(
        f'<rect x="{_px(x1)}" y="{_px(y2)}" width="{_px(x2 - x1 - 1)}" height="{_px(y1 - y2)}"/>'
        for (x1, y1), (x2, y2) in corners
    )
    return f'<g fill="{colour}">{rects}</g>'


@dataclass(frozen=True)
class Axis:
    """Values from ``low`` to ``high``; ticks are at least ``step_min`` apart.

    Raises:
        ValueError: ``low`` is not less than ``high``, or the range is not finite.
    """

    low: float
    high: float
    label: str = ""
    step_min: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.high - self.low < math.inf:
            raise ValueError(f"an axis goes from {self.low} to {self.high}: expected a finite range with the smaller value first")

    @classmethod
    def around(cls, values: Sequence[float], label: str = "") -> Axis:
        """Fit an axis to values with a twentieth to spare; one value alone gets room of its own size around it.

        Raises:
            ValueError: no values, or not all of them are finite.
        """
        if not values or not all(map(math.isfinite, values)):
            raise ValueError(f"{len(values)} values: expected at least 1, and all of them finite")
        low, high = min(values), max(values)
        size = max(abs(low), abs(high))
        # less than the seventh digit is no range a label could show; near the smallest float there is nothing to divide
        room = (high - low) / 20 if high - low > 1e-6 * size else size
        room = room if room > 1e-290 else 1.0
        return cls(low - room, high + room, label)

    def ticks(self) -> list[tuple[float, str]]:
        """Round values inside the axis with their words: steps of 1, 2 or 5 times a power of ten, about five of them."""
        rough = max((self.high - self.low) / STEPS, self.step_min)
        exponent = math.floor(math.log10(rough))
        factor = next(m for m in (1, 2, 5, 10) if m * 10.0**exponent >= rough * (1 - 1e-9))
        step = factor * 10.0**exponent
        slack = 1e-9 * (self.high - self.low)
        first, last = math.ceil((self.low - slack) / step), math.floor((self.high + slack) / step)
        values = [n * step for n in range(first, last + 1)]
        largest = max((abs(value) for value in values), default=0.0)
        exponent += factor == 10
        # as many digits as tell two neighbours apart
        digits = math.floor(math.log10(largest)) - exponent + 1 if largest else 1
        plain = [f"{value:.{max(0, -exponent)}f}" for value in values]
        powers = [f"{value:.{digits}g}" for value in values]
        longest = max(map(len, plain), default=0)
        short = longest <= PLAIN_MAX or longest <= max(map(len, powers))
        return list(zip(values, plain if short else powers, strict=True))


@dataclass(frozen=True)
class Key:
    """One entry of a legend, drawn as a dot or, where it names a line, as a piece of it."""

    words: str
    colour: str
    line: bool = False
    dashed: bool = False


@dataclass(frozen=True)
class Plot:
    """A frame with axes, ticks, labels, title and legend around a drawing.

    The document is ``WIDTH`` by ``HEIGHT`` px; each row of the legend after the first adds ``ROW``.
    """

    title: str
    across: Axis
    up: Axis
    legend: tuple[Key, ...] = ()

    def at(self, x: float, y: float) -> Point:
        """Where a pair of values lies, in px."""
        return (
            LEFT + (x - self.across.low) / (self.across.high - self.across.low) * (WIDTH - MARGIN - LEFT),
            self._bottom - (y - self.up.low) / (self.up.high - self.up.low) * (self._bottom - self._top),
        )

    def document(self, parts: Iterable[str]) -> str:
        """Put the frame around parts that lie where ``at`` says."""
        height = self._bottom + BOTTOM
        return document(self.title, [heading(self.title), *self._keys(), *self._frame(), *parts], height=height)

    @property
    def _top(self) -> float:
        return TOP + ROW * max(0, len(self._rows()) - 1)

    @property
    def _bottom(self) -> float:
        return self._top + HEIGHT - TOP - BOTTOM

    def _rows(self) -> list[list[tuple[float, Key]]]:
        """The legend's entries row by row with their left edges, each as wide as its words."""
        rows: list[list[tuple[float, Key]]] = []
        x = math.inf
        for key in self.legend:
            width = 40 + LETTER * SIZE * len(key.words)
            if x + width > WIDTH - MARGIN:
                rows.append([])
                x = LEFT
            rows[-1].append((x, key))
            x += width
        return rows

    def _keys(self) -> Iterator[str]:
        for at, row in enumerate(self._rows()):
            y = 38.0 + ROW * at
            for x, key in row:
                if key.line:
                    yield line([(x, y - 4), (x + 16, y - 4)], key.colour, width=2, dashed=key.dashed)
                else:
                    yield dots([(x + 8, y - 4)], key.colour)
                yield text(x + 21, y, fitted(key.words, WIDTH - MARGIN - x - 21), fill=MUTED)

    def _frame(self) -> Iterator[str]:
        """Grid, ticks, both axes and their labels."""
        (left, bottom), (right, top) = self.at(self.across.low, self.up.low), self.at(self.across.high, self.up.high)
        for value, words in self.across.ticks():
            x, _ = self.at(value, self.up.low)
            yield line([(x, top), (x, bottom + 4)], GRID)
            # the last one may stand on the border of the frame
            inside = min(x, WIDTH - LETTER * SIZE * len(words) / 2)
            yield text(inside, bottom + 16, words, fill=MUTED, anchor="middle")
        for value, words in self.up.ticks():
            _, y = self.at(self.across.low, value)
            yield line([(left - 4, y), (right, y)], GRID)
            yield text(left - 7, y + 4, words, fill=MUTED, anchor="end")
        yield line([(left, top), (left, bottom), (right, bottom)], MUTED)
        below = fitted(self.across.label, right - left)
        yield text((left + right) / 2, bottom + BOTTOM - 10, below, anchor="middle")
        yield text(MARGIN + 4, (top + bottom) / 2, fitted(self.up.label, bottom), anchor="middle", upwards=True)


def _escaped(words: str) -> str:
    """The words as XML character data or as an attribute's value; what XML cannot carry is the replacement character."""
    return escape(NOT_XML.sub("\ufffd", words))


def _px(value: float) -> str:
    """Pixels with one digit at most, and no negative zero."""
    return f"{round(value, 1) + 0.0:g}"
