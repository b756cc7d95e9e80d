"""Two small pictures of a checkpoint as inline SVG: its learning curve, and predicted against true values.

Colours come from the page (``currentColor`` and one accent). Never here: computing metrics, reading files.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

__all__ = ["learning_curve_svg", "scatter_svg"]

WIDTH, HEIGHT = 360, 260
LEFT, RIGHT, TOP, BOTTOM = 52, 12, 26, 40
ACCENT = "#0b6e99"
POINTS_MAX = 1500
TICKS = 5


@dataclass(frozen=True)
class Axis:
    """One direction of a plot: values ``low`` .. ``high`` lie on the pixels ``start`` .. ``end``."""

    low: float
    high: float
    start: float
    end: float
    step_min: float = 0.0

    def at(self, value: float) -> str:
        """Place a value, in pixels with two digits, so that the same value is always the same text."""
        return f"{self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start):.2f}"

    def ticks(self) -> list[float]:
        """List round values inside the axis: steps of 1, 2 or 5 times a power of ten."""
        rough = max((self.high - self.low) / TICKS, self.step_min)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
        return [n * step for n in range(math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9) + 1)]


def learning_curve_svg(curve: Sequence[Mapping[str, float]]) -> str:
    """Draw training (dashed) and validation loss over the epochs of ``curve.json``; a dot marks the epoch that was kept.

    Raises:
        ValueError: the curve is empty.

    """
    if not curve:
        raise ValueError("a learning curve needs at least one epoch")
    epochs = [point["epoch"] + 1 for point in curve]
    losses = {name: [point[f"{name}_loss"] for point in curve] for name in ("train", "validation")}
    across = Axis(0, max(epochs), LEFT, WIDTH - RIGHT, step_min=1)
    up = _axis([*losses["train"], *losses["validation"]], HEIGHT - BOTTOM, TOP)
    parts = []
    dashed, bold = f'stroke="{ACCENT}" stroke-dasharray="4 3"', f'stroke="{ACCENT}" stroke-width="2"'
    for name, style in (("train", dashed), ("validation", bold)):
        line = " ".join(f"{across.at(e)},{up.at(v)}" for e, v in zip(epochs, losses[name], strict=True))
        parts.append(f'<polyline fill="none" {style} points="{line}"/>')
    kept = min(range(len(curve)), key=losses["validation"].__getitem__)
    parts.append(f'<circle cx="{across.at(epochs[kept])}" cy="{up.at(losses["validation"][kept])}" r="4" fill="{ACCENT}"/>')
    title = f"Loss by epoch: validation (line), training (dashed); kept: epoch {epochs[kept]:g}"
    return _frame(title, across, up, "epoch", "squared error / variance", parts)


def scatter_svg(truth: Sequence[float], predicted: Sequence[float], *, name: str, unit: str = "") -> str:
    """Draw predicted against true values of one target, with the line of perfect prediction.

    Args:
        truth: N values in physical units.
        predicted: N values, the same unit.
        name: of the target.
        unit: shown at the axes.

    Raises:
        ValueError: no values, or not as many of one as of the other.

    """
    if not truth or len(truth) != len(predicted):
        raise ValueError(f"{len(truth)} true and {len(predicted)} predicted values: expected as many of each, and at least 1")
    both = [*truth, *predicted]
    across, up = _axis(both, LEFT, WIDTH - RIGHT), _axis(both, HEIGHT - BOTTOM, TOP)
    low, high = across.low, across.high
    perfect = f"M{across.at(low)} {up.at(low)}L{across.at(high)} {up.at(high)}"
    parts = [f'<path d="{perfect}" stroke="currentColor" stroke-dasharray="2 3"/>']
    # evenly spaced, so that the file stays small and no drive is left out
    shown = sorted({at * len(truth) // min(len(truth), POINTS_MAX) for at in range(min(len(truth), POINTS_MAX))})
    dots = "".join(f'<circle cx="{across.at(truth[at])}" cy="{up.at(predicted[at])}" r="1.5"/>' for at in shown)
    parts.append(f'<g fill="{ACCENT}" fill-opacity="0.35">{dots}</g>')
    label = f"{name} [{unit}]" if unit else name
    count = f"{len(shown)} of {len(truth)} samples" if len(shown) < len(truth) else f"{len(truth)} samples"
    return _frame(f"{name}: {count}", across, up, f"true {label}", f"predicted {label}", parts)


def _axis(values: Sequence[float], start: float, end: float) -> Axis:
    """Fit an axis to values; a single value gets room of its own size around it."""
    low, high = min(values), max(values)
    room = (high - low) / 20 if high > low else (abs(low) or 1.0)
    return Axis(low - room, high + room, start, end)


def _frame(title: str, across: Axis, up: Axis, across_label: str, up_label: str, parts: Sequence[str]) -> str:
    """Put title, axes, ticks and labels around the drawing."""
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"',
        'role="img" font-family="sans-serif" font-size="10" fill="currentColor">',
        f"<title>{escape(title)}</title>",
        f'<text x="{LEFT}" y="14" font-size="11">{escape(title)}</text>',
        f'<path d="M{LEFT} {TOP}V{HEIGHT - BOTTOM}H{WIDTH - RIGHT}" fill="none" stroke="currentColor"/>',
    ]
    below = f'y="{HEIGHT - BOTTOM + 13}" text-anchor="middle"'
    lines += [f'<text x="{across.at(tick)}" {below}>{tick + 0.0:.4g}</text>' for tick in across.ticks()]
    for tick in up.ticks():
        lines.append(f'<text x="{LEFT - 4}" y="{up.at(tick)}" dy="3" text-anchor="end">{tick + 0.0:.4g}</text>')
        lines.append(f'<path d="M{LEFT} {up.at(tick)}H{WIDTH - RIGHT}" stroke="currentColor" stroke-opacity="0.12"/>')
    middle = (TOP + HEIGHT - BOTTOM) / 2
    lines.append(f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">{escape(across_label)}</text>')
    lines.append(f'<text transform="translate(12 {middle}) rotate(-90)" text-anchor="middle">{escape(up_label)}</text>')
    return "\n".join([*lines, *parts, "</svg>"])
