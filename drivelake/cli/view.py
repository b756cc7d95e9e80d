"""The command that shows: look writes a drive as a file for a viewer. Never here: what is shown, and how (viewer does)."""

from __future__ import annotations

import math
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from drivelake.cli.show import AsJson, LakeFolder, amount, console, emit, table
from drivelake.errors import DeclarationError
from drivelake.lake import Lake, find_lake

if TYPE_CHECKING:
    from drivelake.viewer import LookReport

__all__ = ["register"]

NS_PER_S = 1e9


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    app.command()(look)


def look(
    drive: Annotated[str, typer.Argument(help="A drive whose frames are made.")],
    lake: LakeFolder = None,
    out: Annotated[
        Path | None,
        typer.Option(help="The file to write: .mcap (Foxglove, Lichtblick) or .rrd (Rerun); else DRIVE.mcap in this folder."),
    ] = None,
    seconds: Annotated[
        str | None, typer.Option(metavar="FROM:TO", help="Only these seconds since the first tick; either may be left out.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Write a drive for a viewer: pictures, clouds, signals, trajectory on the aligned clock. Nothing is overwritten."""
    from drivelake.viewer import look as write

    report = write(Lake(find_lake(lake)), drive, out or Path(f"{drive}.mcap"), seconds=_seconds(seconds))
    if as_json:
        emit(asdict(report))
    else:
        _show(report)


def _seconds(asked: str | None) -> tuple[float | None, float | None]:
    """FROM and TO.

    Raises:
        DeclarationError: what is asked for is not that, or ends before it begins.
    """
    if asked is None:
        return None, None
    first, colon, end = asked.partition(":")
    try:
        span = (float(first) if first else None, float(end) if end else None)
    except ValueError:
        span, colon = (None, None), ""
    numbers = [s for s in span if s is not None]
    if not colon or not all(math.isfinite(s) for s in numbers) or numbers != sorted(set(numbers)):
        raise DeclarationError(f"--seconds is {asked!r}, expected FROM:TO such as 10:25.5, 10: or :30.", next_step="correct it")
    return span


def _show(report: LookReport) -> None:
    header = ("sensor", "kind", "shown", "outside", "without stamp", "without value", "not shown", "why")
    rows = [
        (s.sensor, s.kind, s.shown, s.outside, s.without_stamp, s.invalid, s.hidden, s.missing or "; ".join(s.not_shown))
        for s in report.sensors
    ]
    duration_s = (report.last_ns - report.first_ns) / NS_PER_S
    table(f"{report.drive}  {duration_s:.4g} s, {report.poses} poses, {report.fixes} positions", header, rows)
    for note in report.notes:
        console.print(f"NOTE     {escape(note)}", soft_wrap=True)
    console.print(f"written  {escape(report.file)}  {amount(report.bytes)}", soft_wrap=True)
    if report.layout:
        console.print(f"layout   {escape(report.layout)}  import it in Foxglove or Lichtblick", soft_wrap=True)
    else:
        console.print(f"open     rerun {escape(report.file)}", soft_wrap=True)
