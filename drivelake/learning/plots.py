"""Two small pictures of a checkpoint as SVG: its learning curve, and predicted against true values.

Never here: computing metrics, reading files, axes and frames (``svg``).
"""

from collections.abc import Mapping, Sequence

from drivelake import svg

__all__ = ["learning_curve_svg", "scatter_svg"]

POINTS_MAX = 1500


def learning_curve_svg(curve: Sequence[Mapping[str, float]]) -> str:
    """Draw training (dashed) and validation loss over the epochs of ``curve.json``; a dot marks the epoch that was kept.

    Raises:
        ValueError: the curve is empty.

    """
    if not curve:
        raise ValueError("a learning curve needs at least one epoch")
    epochs = [point["epoch"] + 1 for point in curve]
    losses = {name: [point[f"{name}_loss"] for point in curve] for name in ("train", "validation")}
    kept = min(range(len(curve)), key=losses["validation"].__getitem__)
    plot = svg.Plot(
        f"Loss by epoch; kept: epoch {epochs[kept]:g}",
        svg.Axis(0, max(epochs) * 1.05, "epoch", step_min=1),
        svg.Axis.around([*losses["train"], *losses["validation"]], "squared error / variance"),
        (
            svg.Key("validation", svg.ACCENT, line=True),
            svg.Key("training", svg.ACCENT, line=True, dashed=True),
            svg.Key("kept", svg.ACCENT),
        ),
    )
    train, validation = ([plot.at(*point) for point in zip(epochs, losses[n], strict=True)] for n in ("train", "validation"))
    parts = [svg.line(train, svg.ACCENT, width=1.5, dashed=True), svg.line(validation, svg.ACCENT, width=2)]
    return plot.document([*parts, svg.dots([validation[kept]], svg.ACCENT, radius=4)])


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
    # evenly spaced, so that the file stays small and no drive is left out
    shown = sorted({at * len(truth) // min(len(truth), POINTS_MAX) for at in range(min(len(truth), POINTS_MAX))})
    label = f"{name} [{unit}]" if unit else name
    count = f"{len(shown)} of {len(truth)} samples" if len(shown) < len(truth) else f"{len(truth)} samples"
    both = [*truth, *predicted]
    plot = svg.Plot(
        f"{name}: {count}",
        svg.Axis.around(both, f"true {label}"),
        svg.Axis.around(both, f"predicted {label}"),
        (svg.Key("sample", svg.ACCENT), svg.Key("perfect prediction", svg.MUTED, line=True, dashed=True)),
    )
    perfect = [plot.at(value, value) for value in (plot.across.low, plot.across.high)]
    dots = svg.dots((plot.at(truth[at], predicted[at]) for at in shown), svg.ACCENT, radius=1.5, opacity=0.35)
    return plot.document([svg.line(perfect, svg.MUTED, dashed=True), dots])
