"""Commands that look: inspect a log or a drive, doctor the installation. Never here: a lake's versions (ask does)."""

from __future__ import annotations

import importlib.util
import shutil
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from drivelake.catalogue import drive_files
from drivelake.cli.show import AsJson, LakeFolder, amount, console, emit, table
from drivelake.errors import DrivelakeError, EmptyDrive, NotFound
from drivelake.lake import Lake, find_lake

if TYPE_CHECKING:
    from drivelake.logs import ChannelReport, LogReport

__all__ = ["register"]

DAMAGED = 3
# distribution -> what it is for; the last column of doctor
CORE = {
    "dagster": "runs, UI",
    "asammdf": "MDF4",
    "mcap": "MCAP",
    "duckdb": "selections",
    "dvc-data": "versions",
    "pygit2": "versions",
    "torch": "training",
    "optuna": "studies",
    "onnxruntime": "portable target",
    "lakefs": "team store",
}
EXTRAS = {
    "onnxruntime-qnn": ("snapdragon target", "make snapdragon, or pip install 'drivelake[snapdragon]'"),
    "rerun-sdk": ("look, as .rrd", "make viewer, or pip install 'drivelake[viewer]'"),
}


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    app.command()(inspect)
    app.command()(doctor)


def inspect(
    what: Annotated[str, typer.Argument(help="A log file, a drive's folder, or the name of a drive in the inbox.")],
    lake: LakeFolder = None,
    memory_mb: Annotated[float, typer.Option(min=256, help="Private memory that reading one log may take, MB.")] = 512,
    seconds: Annotated[float, typer.Option(min=0.1, help="Wall clock that one log may take; more for more than 200 MB.")] = 120,
    as_json: AsJson = False,
) -> None:
    """Read a log or a drive to its end: messages, rates, gaps, damage and its cost. Exit code 3 when something is damaged."""
    from drivelake.logs import Caps, in_readers

    logs = _logs(what, lake)
    caps = Caps(memory_mb=memory_mb, seconds=seconds)
    reports = in_readers(list(logs), lambda reader, name: reader.inspect(logs[name], name=name), caps)
    if as_json:
        emit([report.as_dict() for report in reports])
    else:
        for report in reports:
            _show(report)
    if any(report.damage for report in reports):
        raise typer.Exit(DAMAGED)


def _logs(what: str, lake: Path | None) -> dict[str, Path]:
    from drivelake.logs import LOG_SUFFIXES, is_log

    path = Path(what)
    if not path.exists():
        path = _drive(what, lake)
    if path.is_file():
        return {path.name: path}
    found = {p.relative_to(path).as_posix(): p for p in drive_files(path) if is_log(p)}
    if not found:
        suffixes = ", ".join(sorted(LOG_SUFFIXES))
        raise EmptyDrive(f"{path} holds no log ({suffixes}).", next_step="name a log or a drive's folder")
    return found


def _drive(name: str, lake: Path | None) -> Path:
    """The folder of a drive of the inbox, where no file and no folder has that name.

    Raises:
        NotFound: there is none, or no lake whose inbox could hold it.
    """
    try:
        return Lake(find_lake(lake)).drive_folder(name)
    except NotFound as error:
        raise NotFound(
            f"There is no file or folder {name}, and no drive of that name: {error.message}",
            next_step="name a log, a drive's folder, or a drive of the inbox with --lake FOLDER",
        ) from None


def _show(report: LogReport) -> None:
    rows = [
        (c.name, c.type, _counted(c), c.lost, c.rate_hz, c.mean_hz, c.gaps, c.gap_ms_max, c.backward_steps, c.backward_jumps)
        for c in report.channels
    ]
    header = ("channel", "type", "messages", "lost", "rate Hz", "mean Hz", "gaps", "longest ms", "backward", "jumps")
    table(f"{report.name}  {report.format}, {amount(report.bytes)}, {_duration_s(report):.4g} s", header, rows)
    for sentence in report.damage:
        console.print(f"[bold red]DAMAGED[/]  {escape(sentence)}", soft_wrap=True)
    for channel in report.channels:
        for why in channel.why:
            if why not in report.damage:
                console.print(f"lost     {escape(channel.name)}: {escape(why)}", soft_wrap=True)
    for note in report.notes:
        console.print(f"NOTE     {escape(note)}", soft_wrap=True)
    console.print(_verdict(report), soft_wrap=True)


def _verdict(report: LogReport) -> str:
    if report.verdict == "sound":
        lost = ", ".join(f"{channel.lost} of {channel.name}" for channel in report.channels if channel.lost)
        return f"[bold green]SOUND[/]    {report.messages} messages, {f'lost: {escape(lost)}' if lost else 'no damage found'}"
    if report.verdict == "lost":
        return "[bold red]LOST[/]     no message can be read"
    share = report.recovered_share
    of = "how many there were cannot be known" if share is None else f"{share:.2%} of those that it promises"
    return f"[bold yellow]SALVAGED[/] {report.messages} messages can be read, {of}"


def _counted(channel: ChannelReport) -> str:
    """Messages, beside those that were promised where that is another number."""
    short = channel.expected is not None and channel.expected != channel.messages
    return f"{channel.messages} of {channel.expected}" if short else str(channel.messages)


def _duration_s(report: LogReport) -> float:
    """From the first stamp of any channel to the last."""
    first = [c.first_ns for c in report.channels if c.first_ns is not None]
    last = [c.last_ns for c in report.channels if c.last_ns is not None]
    return (max(last) - min(first)) / 1e9 if first and last else 0.0


def doctor(lake: LakeFolder = None, as_json: AsJson = False) -> None:
    """What is installed, what a target lacks, and the command that would help."""
    rows: list[tuple[str, str, str, str]] = [
        (name, _version(name) or "missing", use, "" if _version(name) else "make demo") for name, use in CORE.items()
    ]
    rows += [(name, _version(name) or "missing", use, "" if _version(name) else fix) for name, (use, fix) in EXTRAS.items()]
    rows.append(("git", "found" if shutil.which("git") else "missing", "versions", "" if shutil.which("git") else "install git"))
    targets = _targets(lake)
    where = _where(lake)
    if as_json:
        emit(
            {
                "tools": [dict(zip(("name", "version", "for", "fix"), row, strict=True)) for row in rows],
                "targets": targets,
                "lake": where,
            }
        )
        return
    table("tools", ("name", "version", "for", "fix"), rows)
    table("targets of this lake", ("target", "state"), list(targets.items()) or [("-", "no lake here")])
    console.print(f"lake  {escape(where)}", soft_wrap=True)


def _version(name: str) -> str | None:
    try:
        return distribution(name).version
    except PackageNotFoundError:
        return None


def _targets(lake: Path | None) -> dict[str, str]:
    """State of each declared target; the compilers say themselves what they lack."""
    try:
        declared = Lake(find_lake(lake)).declaration.targets
    except NotFound:
        return {}
    if importlib.util.find_spec("compile") is None:
        return dict.fromkeys(declared, "the compile package is not installed")
    from importlib import import_module

    missing = import_module("compile.targets").missing
    return {name: missing(target) or "ready" for name, target in declared.items()}


def _where(lake: Path | None) -> str:
    try:
        return str(Lake(find_lake(lake)).root)
    except DrivelakeError as error:
        return error.message
