"""Commands that ask the manifests: trace, impact, verify. Neither Dagster nor a network is needed for any of them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.tree import Tree

from drivelake.cli.show import AsJson, LakeFolder, amount, console, emit, table, talk
from drivelake.errors import VerificationFailed
from drivelake.lake import Lake, Version, find_lake

__all__ = ["register"]

Artefact = Annotated[
    str | None, typer.Argument(help="model@target, asset/partition, a digest, or a file; the newest artefact when not given.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    app.command()(trace)
    app.command()(impact)
    app.command()(verify)


def trace(artefact: Artefact = None, lake: LakeFolder = None, as_json: AsJson = False) -> None:
    """What an artefact was made from, down to the raw logs."""
    from drivelake.evidence.lineage import ancestors, find_version

    opened = Lake(find_lake(lake))
    top = find_version(opened, artefact)
    found = ancestors(opened, top)
    if as_json:
        emit(
            {
                "artefact": top.name,
                "version": top.digest,
                "versions": [
                    v.manifest.model_dump(mode="json") | {"version": v.digest, "commit": v.commit} for v in found.values()
                ],
            }
        )
        return
    console.print(_tree(top, found, Tree(_label(top)), shown=set()))


def _tree(version: Version, found: dict[str, Version], tree: Tree, shown: set[str]) -> Tree:
    """Each version is opened once; where it is an input again it stands as a line."""
    for named in version.manifest.inputs:
        branch = tree.add(_label(found[named.version]))
        if named.version in shown:
            continue
        shown.add(named.version)
        _tree(found[named.version], found, branch, shown)
        if named.asset == "raw_logs":
            entries = (*found[named.version].manifest.files, *found[named.version].manifest.references)
            for entry in entries:
                branch.add(f"[dim]{escape(entry.path)}  {amount(entry.bytes)}  sha256 {entry.sha256[:16]}[/]")
    return tree


def _label(version: Version) -> str:
    return f"{escape(version.name)}  [dim]{version.digest[:16]}[/]"


def impact(
    drive: Annotated[str, typer.Argument(help="Name of a landed drive, or calibrations/RIG.")],
    lake: LakeFolder = None,
    as_json: AsJson = False,
) -> None:
    """Everything at main that a drive, or a rig's calibration, went into."""
    from drivelake.evidence.lineage import impact as affected_by

    affected = affected_by(Lake(find_lake(lake)), drive)
    if as_json:
        emit([a.version.model_dump() | {"left_out": a.left_out} for a in affected])
        return
    rows = [
        (
            f"{a.version.asset}/{a.version.partition}",
            a.version.version[:16],
            f"left out: {a.left_out}" if a.left_out else "contains it",
        )
        for a in affected
    ]
    table(f"what {drive} went into", ("version of", "digest", "how"), rows)


def verify(
    artefact: Artefact = None,
    lake: LakeFolder = None,
    trust: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Your own copy of the public keys and policy.")
    ] = None,
    witness: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="An earlier checkpoint of the log, to catch a rewritten history."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also every version ever published.")] = False,
    as_json: AsJson = False,
) -> None:
    """Walk offline from an artefact to the raw bytes and rehash all of it. Exit code 5 when anything disagrees.

    Without a name: the newest artefact and every other version at main.
    """
    from drivelake.evidence.lineage import find_version
    from drivelake.evidence.verify import verify as walk

    opened = Lake(find_lake(lake))
    version = find_version(opened, artefact)
    with talk.status("verifying") as status:
        result = walk(
            opened,
            version,
            trust=trust,
            witness=witness.read_text(encoding="utf-8") if witness else None,
            scope="history" if everything else "main" if artefact is None else "artefact",
            progress=lambda name: status.update(f"verifying {name}"),
        )
    if as_json:
        emit({**vars(result), "problems": [vars(p) for p in result.problems], "verified": result.verified})
    else:
        for problem in result.problems:
            console.print(f"[bold red]PROBLEM[/]   {escape(problem.where)}: {escape(problem.what)}", soft_wrap=True)
        for notice in result.notices:
            console.print(f"[yellow]NOTICE[/]    {escape(notice)}", soft_wrap=True)
        verdict = "[bold green]VERIFIED[/]" if result.verified else "[bold red]NOT VERIFIED[/]"
        console.print(f"{verdict}  {escape(result.artefact)}  {result.version[:16]}", soft_wrap=True)
        console.print(
            f"{result.versions} versions, {result.raw_logs} raw logs, {result.files} files, {amount(result.bytes)} rehashed; "
            f"log of {result.log_size} statements; keys and policy from {escape(result.trust)}",
            soft_wrap=True,
        )
    if not result.verified:
        raise typer.Exit(VerificationFailed.exit_code)
