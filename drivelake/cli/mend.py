"""The command that mends: salvage a damaged log. Never here: looking at logs (look does), what is sound of them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Annotated

import typer
from pydantic import JsonValue, TypeAdapter
from rich.markup import escape

from drivelake.cli.show import AsJson, amount, console, emit, table
from drivelake.errors import NotFound

if TYPE_CHECKING:
    from drivelake.logs.salvage import SalvageReport

__all__ = ["register"]

PASSES = 3  # the log is inspected, written, and what was written is inspected


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    app.command()(salvage)


def salvage(
    file: Annotated[Path, typer.Argument(help="The log; it is only read.")],
    out: Annotated[Path | None, typer.Option(help="The file to write; else NAME.salvaged.SUFFIX in the current folder.")] = None,
    memory_mb: Annotated[float, typer.Option(min=256, help="Private memory that the reader may take, MB.")] = 512,
    seconds: Annotated[float, typer.Option(min=0.1, help="Wall clock of one pass of three; more for more than 200 MB.")] = 120,
    as_json: AsJson = False,
) -> None:
    """Write what is sound of a log as a clean, indexed MCAP or MDF 4. Nothing that is there is overwritten."""
    from drivelake.logs import Caps, ReaderProcess
    from drivelake.logs.salvage import SalvageReport, publish, salvaged_name

    if not file.is_file():
        raise NotFound(f"There is no file {file}.", next_step="name a log")
    written = out or Path(salvaged_name(file))
    if not written.parent.is_dir():
        raise NotFound(f"There is no folder {written.parent}.", next_step="make it, or name another with --out")
    caps = Caps(memory_mb=memory_mb, seconds=PASSES * seconds, seconds_per_gb=PASSES * Caps.seconds_per_gb)
    # the folder is ours, so that nothing of it stays when the reader does not come to its end
    with TemporaryDirectory(dir=written.parent, prefix=f".{written.name}.") as scratch, ReaderProcess(caps) as reader:
        made = Path(scratch).absolute() / written.name
        told = reader.ask("salvage", file, {"path": str(file.absolute()), "out": str(made)})
        publish(made, written)
    if as_json:
        emit({**TypeAdapter(Mapping[str, JsonValue]).validate_python(told), "path": str(written)})
    else:
        _show(TypeAdapter(SalvageReport).validate_python(told), written)


def _show(report: SalvageReport, written: Path) -> None:
    header = ("channel", "expected", "recovered", "lost", "why")
    rows = [(c.channel, c.expected, c.recovered, c.lost, " ".join(c.why)) for c in report.channels]
    table(f"{report.source}  {report.format}", header, rows)
    for sentence in report.damage:
        console.print(f"[bold red]DAMAGED[/]  {escape(sentence)}", soft_wrap=True)
    for note in report.notes:
        console.print(f"NOTE     {escape(note)}", soft_wrap=True)
    recovered = sum(channel.recovered for channel in report.channels)
    was = "" if report.damage or any(channel.lost for channel in report.channels) else ", nothing was damaged"
    console.print(f"written  {escape(str(written))}  {recovered} messages, {amount(report.bytes)}{was}", soft_wrap=True)
