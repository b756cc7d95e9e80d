"""How results look. Belongs here: JSON or rich, standard output for results, standard error for everything else."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from drivelake.errors import DrivelakeError

__all__ = ["AsJson", "LakeFolder", "amount", "console", "emit", "refuse", "table", "talk"]

LakeFolder = Annotated[Path | None, typer.Option("--lake", help="The lake's folder; else DRIVELAKE_LAKE, else here or ./lake.")]
AsJson = Annotated[bool, typer.Option("--json", help="One JSON value on standard output.")]

# No terminal, no width: what a program or a file takes must not depend on it.
UNBROKEN = 10_000

console = Console(highlight=False, emoji=False, width=None if sys.stdout.isatty() else UNBROKEN)
talk = Console(stderr=True, highlight=False, emoji=False)

Cell = str | int | float | None


def emit(value: object) -> None:
    """One JSON value on standard output."""
    json.dump(value, sys.stdout, indent=1, sort_keys=True, default=str)
    sys.stdout.write("\n")


def table(title: str, header: Sequence[str], rows: Iterable[Sequence[Cell]]) -> None:
    """A table on standard output."""
    shown = Table(header_style="bold", box=None, pad_edge=False)
    for name in header:
        shown.add_column(name, overflow="fold")
    for row in rows:
        shown.add_row(*(_cell(cell) for cell in row))
    console.print(f"[italic]{escape(title)}[/]", soft_wrap=True)
    console.print(shown)


def refuse(error: DrivelakeError, *, as_json: bool) -> None:
    """Say what went wrong and what to do."""
    if as_json:
        emit(
            {"error": type(error).__name__, "message": error.message, "next_step": error.next_step, "exit_code": error.exit_code}
        )
        return
    talk.print(f"[bold red]{type(error).__name__}[/]: {escape(error.message)}", soft_wrap=True)
    if error.next_step:
        talk.print(f"[bold]Next[/]: {escape(error.next_step)}", soft_wrap=True)


def amount(size_bytes: float) -> str:
    """Bytes for people, in powers of 1000."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size_bytes < 1000 or unit == "TB":
            return f"{size_bytes:.0f} {unit}" if unit == "B" else f"{size_bytes:.1f} {unit}"
        size_bytes /= 1000
    raise AssertionError("TB ends the loop")


def _cell(cell: Cell) -> str:
    if cell is None:
        return "-"
    return f"{cell:.4g}" if isinstance(cell, float) else escape(str(cell))
