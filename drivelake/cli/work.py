"""Commands that make something: demo, ingest, report. Belongs here: words to work. Never here: dagster (found at run time)."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.metadata import entry_points
from pathlib import Path
from typing import Annotated, Protocol, cast

import typer
import yaml
from rich.markup import escape

from drivelake.cli.show import AsJson, LakeFolder, amount, console, emit, talk
from drivelake.errors import DeclarationError, DrivelakeError, NotFound, ToolMissing
from drivelake.lake import Lake, Version, find_lake

__all__ = ["register"]

COLOURS = {"made": "green", "current": "dim", "skipped": "yellow", "failed": "bold red"}


class Outcome(Protocol):
    """What the runner tells about one partition; ``sensors.catch_up.Outcome`` is one."""

    @property
    def job(self) -> str: ...
    @property
    def partition(self) -> str: ...
    @property
    def status(self) -> str: ...
    @property
    def reason(self) -> str: ...
    @property
    def seconds(self) -> float: ...


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    app.command()(demo)
    app.command()(ingest)
    app.command()(report)


def demo(
    lake: LakeFolder = None,
    drives: Annotated[Path | None, typer.Option(help="Recorded drives; generated ones when not given.")] = None,
    declaration: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="lakehouse.yaml for the recorded drives.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the generated drives.")] = 7,
    count: Annotated[int, typer.Option(help="How many drives are generated; the shipped splits need nine.", min=9)] = 10,
    seconds: Annotated[float, typer.Option(help="Length of a generated drive in s.", min=4)] = 40.0,
    as_json: AsJson = False,
) -> None:
    """Make everything: drives, tables, frames, dataset, checkpoint, artefacts, evidence. Again: only what changed."""
    from drivelake.demo import generate_drives

    root = _demo_lake(lake)
    text = _declaration_for(root, drives, declaration)
    _keep_other(root, text)
    opened = Lake.create(root, text)
    talk.print(f"lake      {escape(str(opened.root))}", soft_wrap=True)
    if drives is None:
        talk.print(
            f"drives    {count} generated, {seconds:g} s each, seed {seed}; truth beside them in {escape(str(root / 'truth'))}"
        )
        generate_drives(opened.inbox, seed=seed, drives=count, seconds=seconds, truth_folder=opened.root / "truth")
    else:
        talk.print(f"drives    {escape(str(drives))}", soft_wrap=True)
    outcomes = _run(opened)
    _finish(opened, outcomes, as_json=as_json)


def ingest(
    drives: Annotated[list[str] | None, typer.Argument(help="Names of drives in the inbox; all when not given.")] = None,
    lake: LakeFolder = None,
    as_json: AsJson = False,
) -> None:
    """Land drives of the inbox and make their tables and frames."""
    outcomes = _run(Lake(find_lake(lake)), jobs=("calibrate", "ingest"), drives=drives)
    if as_json:
        emit([vars(outcome) for outcome in outcomes])
    refused = {"failed", "skipped"} if drives else {"failed"}  # a drive that was named must not be passed over
    if any(outcome.status in refused for outcome in outcomes):
        raise typer.Exit(1)


def report(
    artefact: Annotated[str | None, typer.Argument(help="model@target; the newest when not given.")] = None,
    lake: LakeFolder = None,
    out: Annotated[Path | None, typer.Option(help="Where to write it; else <lake>/reports/.")] = None,
    as_json: AsJson = False,
) -> None:
    """Write the evidence report of an artefact as one HTML file."""
    from drivelake.evidence.lineage import find_version

    opened = Lake(find_lake(lake))
    version = find_version(opened, artefact)
    path = _write_report(opened, version, out)
    if as_json:
        emit({"artefact": version.name, "version": version.digest, "report": str(path)})
    else:
        console.print(escape(str(path)), soft_wrap=True)


def _declaration_for(root: Path, drives: Path | None, named: Path | None) -> str:
    """The text of the declaration: the lake's own once it is there, so that a person's changes stay; else the example."""
    from drivelake.demo import example
    from drivelake.logs import is_log

    if drives is not None and not (drives.is_dir() and any(is_log(p) for p in drives.glob("*/*"))):
        raise NotFound(f"{drives} holds no folder with a log.", next_step="a drive is a folder of .mcap, .mf4 or .mdf files")
    text = named.read_text(encoding="utf-8") if named else example("generated" if drives is None else "donkeycar")
    name = _name(text)
    if named is None:
        kept = (path.read_text(encoding="utf-8") for path in (root / "lakehouse.yaml", _kept(root, name)) if path.is_file())
        text = next((found for found in kept if _name(found) == name), text)
    return text if drives is None else _with_inbox(text, drives.resolve())


def _demo_lake(named: Path | None) -> Path:
    """The lake that is meant, or where the first one goes."""
    try:
        return find_lake(named)
    except NotFound:
        return Path("lake")


def _with_inbox(text: str, inbox: Path) -> str:
    """The declaration with another inbox, its comments kept."""
    lines = text.splitlines()
    start = next((i for i, line in enumerate(lines) if re.match(r"ingest:\s*(#.*)?$", line)), None)
    if start is None:
        raise DeclarationError("The declaration has no block `ingest:`.", next_step="add it, with the inbox that is meant")
    end = next((i for i in range(start + 1, len(lines)) if re.match(r"\S", lines[i])), len(lines))
    block = [line for line in lines[start + 1 : end] if not line.startswith("  inbox:")]
    quoted = yaml.safe_dump(str(inbox), width=10_000).splitlines()[0]
    return "\n".join([*lines[: start + 1], f"  inbox: {quoted}", *block, *lines[end:]]) + "\n"


def _keep_other(root: Path, text: str) -> None:
    """Set the declaration of another lakehouse aside before it is replaced; coming back finds it again."""
    there = root / "lakehouse.yaml"
    if there.is_file() and _name(there.read_text(encoding="utf-8")) != _name(text):
        aside = _kept(root, _name(there.read_text(encoding="utf-8")))
        aside.write_bytes(there.read_bytes())
        talk.print(f"kept      the declaration that was here, as {escape(str(aside))}", soft_wrap=True)


def _kept(root: Path, name: str) -> Path:
    return root / f"lakehouse.{name}.yaml"


def _name(text: str) -> str:
    """The declared name of a lakehouse; empty for a text that has none, which is refused later with its reason."""
    try:
        loaded = yaml.safe_load(text)
    except yaml.YAMLError:
        return ""
    return str(loaded.get("lakehouse", "")) if isinstance(loaded, dict) else ""


def _run(lake: Lake, *, jobs: Sequence[str] | None = None, drives: Sequence[str] | None = None) -> list[Outcome]:
    """Hand over to the runner above this package; it brings Dagster with it."""
    runners = entry_points(group="drivelake.runner")
    if "materialize" not in runners.names:
        raise ToolMissing(
            "The runner is not installed; only verify, trace, impact and inspect work.",
            next_step="make demo, or pip install drivelake",
        )
    run = cast("Callable[..., list[Outcome]]", runners["materialize"].load())
    chosen = {"jobs": jobs} if jobs else {}
    with _following():
        return run(lake, drives=drives, tell=_tell, **chosen)


@contextmanager
def _following() -> Iterator[None]:
    """Show what the stages say while they work."""

    class Say(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            talk.print(f"          [dim]{escape(record.getMessage())}[/]", soft_wrap=True)

    logger, handler = logging.getLogger("drivelake.progress"), Say()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)


def _tell(outcome: Outcome) -> None:
    colour = COLOURS[outcome.status]
    took = f" {outcome.seconds:.1f} s" if outcome.status == "made" else ""
    reason = f"  {escape(outcome.reason)}" if outcome.reason else ""
    talk.print(f"{outcome.job:<9} {escape(outcome.partition):<24} [{colour}]{outcome.status}[/]{took}{reason}", soft_wrap=True)


def _finish(lake: Lake, outcomes: Sequence[Outcome], *, as_json: bool) -> None:
    """Verify everything at main and say where it is."""
    from drivelake.evidence.lineage import find_version
    from drivelake.evidence.verify import verify

    counts = {status: sum(o.status == status for o in outcomes) for status in COLOURS}
    talk.print("          " + ", ".join(f"{n} {status}" for status, n in counts.items() if n))
    if not lake.partitions("soc_artefacts"):
        raise DrivelakeError(
            f"No artefact was made: {counts['failed']} of {len(outcomes)} jobs failed.", next_step="see what failed above"
        )
    version = find_version(lake, None)
    result = verify(lake, version, scope="main")
    path = _write_report(lake, version, None) if result.verified else None
    if as_json:
        told = {
            "outcomes": [vars(o) for o in outcomes],
            "artefact": version.name,
            "report": str(path),
            "verified": result.verified,
        }
        emit(told)
    elif result.verified:
        console.print(f"artefact  {escape(version.name)}  {version.digest[:16]}", soft_wrap=True)
        console.print(f"report    {escape(str(path))}", soft_wrap=True)
        console.print(
            f"[bold green]VERIFIED[/]  {result.versions} versions, {result.raw_logs} raw logs, {result.files} files, "
            f"{amount(result.bytes)} rehashed offline"
        )
        console.print("look      make ui, then open http://127.0.0.1:3000")
    result.require()
    if counts["failed"]:
        raise typer.Exit(1)


def _write_report(lake: Lake, artefact: Version, out: Path | None) -> Path:
    """A copy of the report for people, from evidence of this very version, checked on the way."""
    partition = artefact.manifest.partition
    evidence = lake.head("evidence", partition)
    if artefact.as_input() not in evidence.manifest.inputs:
        raise NotFound(
            f"The evidence at main is of {evidence.manifest.inputs[0].version[:12]}, {artefact.name} is {artefact.digest[:12]}.",
            next_step="make its evidence: drivelake demo, or the job release in the UI",
        )
    evidence.require_intact()
    target = out or lake.root / "reports" / f"{partition}.html"
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(evidence.path("report.html").read_bytes())
    return target
