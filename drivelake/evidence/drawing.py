"""The chain of an artefact as one SVG. Belongs here: a layered drawing, a column an asset, a row a drive.

Never here: reading files, verdicts, colours that carry meaning alone, escaping and documents (``svg``).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from drivelake import svg
from drivelake.lake import Version
from drivelake.manifest import ASSETS, Asset

__all__ = ["ROWS_MAX", "left_out", "lineage_svg"]

PER_DRIVE: tuple[Asset, ...] = ("raw_logs", "signals", "sensor_frames")
ROWS_MAX = 12
# Of the rows, when not all drives fit: the reader is to see that drives were left out, and most rows show used ones.
LEFT_OUT_ROWS = 3

BOX_W, BOX_H, GAP, PITCH = 150, 36, 30, 46
MARGIN, HEAD, LANE, FOOT = 12, 36, 28, 32
LABEL_CHARS = 19
LINE, FRAME, FILLED, FAINT = "#9aa5b5", "#7c8798", "#1f4e79", "#dbe6f1"
DASHED = ' stroke-dasharray="5 4"'


@dataclass(frozen=True)
class Box:
    """One version, or a stack of ``count`` versions that have no row of their own."""

    column: int
    row: float
    label: str
    digest: str
    left_out: bool
    count: int = 1

    @property
    def x(self) -> float:
        """Left edge, px."""
        return MARGIN + self.column * (BOX_W + GAP)

    @property
    def y(self) -> float:
        """Top edge, px."""
        return HEAD + self.row * PITCH


def left_out(versions: Iterable[Version]) -> dict[str, str]:
    """Drives that no row of the datasets came from, with the reason that the manifests give, by name."""
    reasons: dict[str, str] = {}
    for version in versions:
        facts = version.manifest.facts
        if version.manifest.asset == "sensor_frames" and facts.get("excluded"):
            reasons.setdefault(version.manifest.partition, str(facts["excluded"]))
        named = facts.get("left_out")
        if version.manifest.asset == "curated_datasets" and isinstance(named, dict):
            reasons.update({drive: str(reason) for drive, reason in named.items()})
    return dict(sorted(reasons.items()))


def lineage_svg(versions: Mapping[str, Version], artefact: Version) -> str:
    """Draw what the artefact was made from, raw logs on the left.

    Lines join a version to those it names as inputs: one by one where they stand in the next column, as one line along
    the bottom where they stand further left. At most ``ROWS_MAX`` drives have a row, the others are one stack.

    Args:
        versions: version digest -> version, all that the artefact descends from, itself included.
        artefact: drawn filled.

    Returns:
        An SVG document; the same versions give the same text.
    """
    out = left_out(versions.values())
    placed = {**_drive_boxes(versions, out), **_later_boxes(versions, out)}
    boxes = sorted(set(placed.values()), key=lambda box: (box.column, box.row))
    bottom = HEAD + max((box.row for box in boxes), default=0.0) * PITCH + BOX_H
    next_door, further = _edges(versions, placed)
    lanes = sorted(further)
    height = bottom + LANE * len(lanes) + FOOT
    columns = _columns(versions)
    width = 2 * MARGIN + len(columns) * BOX_W + (len(columns) - 1) * GAP
    drives = len({v.manifest.partition for v in versions.values() if v.manifest.asset in PER_DRIVE})
    title = f"What {artefact.name} was made from: {len(versions)} versions, {drives} drives, {len(out)} left out"
    parts = [
        *(svg.text(MARGIN + at * (BOX_W + GAP), 20, asset, fill=svg.MUTED, bold=True) for at, asset in enumerate(columns)),
        *(_curve(source, target) for source, target in next_door),
        *(_lane(lane, further[lane], boxes, bottom + LANE * (at + 1)) for at, lane in enumerate(lanes)),
        *(part for box in boxes for part in _box(box, filled=box == placed.get(artefact.digest))),
        svg.text(MARGIN, height - 10, "dashed: left out of the dataset" if out else "no drive was left out", fill=svg.MUTED),
    ]
    return svg.document(title, parts, width=width, height=height)


def _columns(versions: Mapping[str, Version]) -> tuple[Asset, ...]:
    """The assets in the order the data flows; calibrations only where there is one."""
    calibrated = any(version.manifest.asset == "calibrations" for version in versions.values())
    return tuple(asset for asset in ASSETS[:-1] if calibrated or asset != "calibrations")


def _drive_boxes(versions: Mapping[str, Version], out: Mapping[str, str]) -> dict[str, Box]:
    """Boxes by digest of what exists once a drive; drives without a row share the stack of their column."""
    mine = sorted((v for v in versions.values() if v.manifest.asset in PER_DRIVE), key=lambda v: (v.name, v.digest))
    # a second version of one drive, should there be one, gets a row of its own
    seen: Counter[str] = Counter()
    row_of: dict[str, tuple[bool, str, int]] = {}
    for version in mine:
        row_of[version.digest] = (version.manifest.partition in out, version.manifest.partition, seen[version.name])
        seen[version.name] += 1
    rows = sorted(set(row_of.values()))
    shown = rows
    if len(rows) > ROWS_MAX:
        unused = [row for row in rows if row[0]][:LEFT_OUT_ROWS]
        shown = [*[row for row in rows if not row[0]][: ROWS_MAX - 1 - len(unused)], *unused]
    hidden = Counter(v.manifest.asset for v in mine if row_of[v.digest] not in shown)
    boxes, columns = {}, _columns(versions)
    for version in mine:
        asset, row = version.manifest.asset, row_of[version.digest]
        column = columns.index(asset)
        if row in shown:
            boxes[version.digest] = Box(column, shown.index(row), row[1], version.digest, left_out=row[0])
        else:
            boxes[version.digest] = Box(column, len(shown), f"+{hidden[asset]} more", "", left_out=False, count=hidden[asset])
    return boxes


def _later_boxes(versions: Mapping[str, Version], out: Mapping[str, str]) -> dict[str, Box]:
    """Boxes by digest of what is not made once a drive, each column around the middle of the drives."""
    rows = 1 + max((box.row for box in _drive_boxes(versions, out).values()), default=0)
    boxes = {}
    for column, asset in enumerate(_columns(versions)):
        if asset in PER_DRIVE:
            continue
        mine = sorted((v for v in versions.values() if v.manifest.asset == asset), key=lambda v: (v.name, v.digest))
        first = max(0.0, (rows - len(mine)) / 2)
        for at, version in enumerate(mine):
            boxes[version.digest] = Box(column, first + at, version.manifest.partition, version.digest, left_out=False)
    return boxes


def _edges(versions: Mapping[str, Version], placed: Mapping[str, Box]) -> tuple[list[tuple[Box, Box]], Counter[tuple[int, int]]]:
    """Pairs of boxes in neighbouring columns, and how many inputs lead from one column to another further right."""
    near: set[tuple[Box, Box]] = set()
    far: Counter[tuple[int, int]] = Counter()
    for version in versions.values():
        target = placed.get(version.digest)
        for named in version.manifest.inputs:
            source = placed.get(named.version)
            if source is None or target is None:
                continue
            if target.column == source.column + 1:
                near.add((source, target))
            else:
                far[source.column, target.column] += 1
    return sorted(near, key=lambda pair: [(box.column, box.row) for box in pair]), far


def _box(box: Box, *, filled: bool) -> Iterator[str]:
    """The frame and its two lines of text; a stack shows the edges of those behind."""
    for behind in (8, 4) if box.count > 1 else ():
        yield _frame(box.x + behind, box.y + behind, svg.GROUND, "")
    yield _frame(box.x, box.y, FILLED if filled else svg.GROUND, DASHED if box.left_out else "")
    ink, faint = (svg.GROUND, FAINT) if filled else (svg.INK, svg.MUTED)
    label = box.label if len(box.label) <= LABEL_CHARS else f"{box.label[: LABEL_CHARS - 1]}…"
    if not box.digest:
        yield svg.text(box.x + 10, box.y + 22, label, fill=ink)
        return
    yield svg.text(box.x + 10, box.y + 15, label, fill=ink)
    yield svg.text(box.x + 10, box.y + 29, box.digest[:16], fill=faint, monospace=True)


def _frame(x: float, y: float, fill: str, dash: str) -> str:
    return f'<rect x="{x:g}" y="{y:g}" width="{BOX_W}" height="{BOX_H}" rx="5" fill="{fill}" stroke="{FRAME}"{dash}/>'


def _curve(source: Box, target: Box) -> str:
    """From the right edge of one box to the left edge of another."""
    x1, y1, x2, y2 = source.x + BOX_W, source.y + BOX_H / 2, target.x, target.y + BOX_H / 2
    middle = (x1 + x2) / 2
    dash = DASHED if source.left_out else ""
    return f'<path d="M{x1:g} {y1:g}C{middle:g} {y1:g} {middle:g} {y2:g} {x2:g} {y2:g}" fill="none" stroke="{LINE}"{dash}/>'


def _lane(columns: tuple[int, int], count: int, boxes: Iterable[Box], y: float) -> str:
    """From below one column to below another, with the number of inputs that go that way."""
    lowest = {box.column: box for box in sorted(boxes, key=lambda box: box.row)}
    source, target = lowest[columns[0]], lowest[columns[1]]
    # a little off the middle, so that a line that ends and one that starts below the same box stay apart
    x1, x2 = source.x + BOX_W * 0.6, target.x + BOX_W * 0.4
    path = f"M{x1:g} {source.y + BOX_H:g}V{y - 6:g}q0 6 6 6H{x2 - 6:g}q6 0 6 -6V{target.y + BOX_H:g}"
    words = f"{count} version{'s' if count > 1 else ''} read directly"
    return f'<path d="{path}" fill="none" stroke="{LINE}"/>' + svg.text(x1 + 14, y - 5, words, fill=svg.MUTED)
