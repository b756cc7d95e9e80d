"""Commands that read the lake at any commit: query, diff, log, checkout, tag. Neither Dagster nor, for a lake of one machine, a
network is needed. Belongs here: words to calls, results to text. Never here: SQL, git, files.
"""

from __future__ import annotations

import re
import shutil
import sys
import tempfile
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import IO, TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from drivelake.cli.show import AsJson, LakeFolder, amount, console, emit, table, talk
from drivelake.errors import DeclarationError, NotFound
from drivelake.lake import Lake, find_lake
from drivelake.versions import MAIN, RUN_TRAILER, VERSION_TRAILER

if TYPE_CHECKING:
    import duckdb

    from drivelake.snapshots.comparison import Change, Comparison

__all__ = ["register"]

SHOWN_ROWS = 50
SPOOL_BYTES = 16_000_000
DIGITS = 12
COMMIT = re.compile(r"[0-9a-f]{7,64}")

At = Annotated[str, typer.Option("--at", help="Branch, tag or commit to read.")]


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    app.command()(query)
    app.command()(diff)
    app.command()(log)
    app.command()(checkout)
    app.command()(tag)


def query(
    sql: Annotated[str, typer.Argument(metavar="SQL", help="One SELECT; 'SELECT * FROM tables' lists what there is.")],
    at: At = MAIN,
    limit: Annotated[int | None, typer.Option(min=1, help=f"Rows at most; as text {SHOWN_ROWS} unless said.")] = None,
    as_csv: Annotated[bool, typer.Option("--csv", help="CSV on standard output.")] = False,
    out: Annotated[Path | None, typer.Option(help="Write a Parquet file instead; it must not be there yet.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="One gives the same last digits of sums every time.")] = None,
    lake: LakeFolder = None,
    as_json: AsJson = False,
) -> None:
    """Ask the tables of a commit with SQL, where their files stand; nothing is copied, nothing can be written."""
    from drivelake.snapshots.rows import write_csv, write_json, write_parquet
    from drivelake.snapshots.snapshot import Snapshot

    if as_csv and (as_json or out):
        raise DeclarationError("--csv goes with neither --json nor --out.", next_step="choose one")
    snapshot = Snapshot(Lake(find_lake(lake)), at)
    found = snapshot.sql(sql, threads=threads)
    for absent in snapshot.absent.values():
        talk.print(escape(absent), soft_wrap=True)
    chosen = found if limit is None else found.limit(limit)
    if out is not None:
        written = write_parquet(chosen, out)
        if as_json:
            emit({"commit": snapshot.commit, "path": str(out), "rows": written, "bytes": out.stat().st_size})
        else:
            console.print(f"written  {escape(str(out))}  {written} rows, {amount(out.stat().st_size)}", soft_wrap=True)
    elif as_csv:
        _whole(lambda to: write_csv(chosen, to))
    elif as_json:
        _whole(lambda to: write_json(chosen, to, {"commit": snapshot.commit, "ref": at}))
    else:
        _show(found, limit or SHOWN_ROWS, f"at {snapshot.commit[:DIGITS]}")


def _whole(write: Callable[[IO[str]], None]) -> None:
    """Standard output gets all of it or, after an error, nothing."""
    with tempfile.SpooledTemporaryFile(SPOOL_BYTES, "w+", encoding="utf-8", newline="") as spool:
        write(spool)
        spool.seek(0)
        shutil.copyfileobj(spool, sys.stdout)


def _show(found: duckdb.DuckDBPyRelation, limit: int, title: str) -> None:
    from drivelake.snapshots.rows import count, rows, text_of

    shown = list(rows(found.limit(limit + 1)))
    table(title, found.columns, ([text_of(value) for value in row] for row in shown[:limit]))
    if len(shown) > limit:
        more = count(found) - limit
        talk.print(f"{more} more {'row' if more == 1 else 'rows'}: --limit, --csv, --json or --out shows them", soft_wrap=True)


def diff(
    a: Annotated[str, typer.Argument(help="Branch, tag or commit: before.")],
    b: Annotated[str, typer.Argument(help="Branch, tag or commit: after.")] = MAIN,
    lake: LakeFolder = None,
    as_json: AsJson = False,
) -> None:
    """What differs between two commits: partitions of each asset, and rows of each table. No table's data is read."""
    from drivelake.snapshots.comparison import compare

    found = compare(Lake(find_lake(lake)), a, b)
    if as_json:
        emit(
            {
                "a": found.a,
                "b": found.b,
                "assets": found.assets(),
                "tables": {name: {"before": rows[0], "after": rows[1]} for name, rows in found.totals().items()},
                "changes": [
                    {
                        "asset": change.asset,
                        "partition": change.partition,
                        "how": change.how,
                        "files": change.files,
                        "tables": {name: rows._asdict() for name, rows in change.tables.items()},
                    }
                    for change in found.changes
                ],
            }
        )
        return
    _show_diff(found)


def _show_diff(found: Comparison) -> None:
    title = f"{found.a[:DIGITS]} -> {found.b[:DIGITS]}"
    if not found.changes:
        console.print(f"{title}  no difference")
        return
    by_asset = ((asset, len(how["added"]), len(how["removed"]), len(how["changed"])) for asset, how in found.assets().items())
    table(title, ("asset", "added", "removed", "changed"), by_asset)
    totals = found.totals()
    if totals:
        lines = ((name, before, after, f"{after - before:+d}") for name, (before, after) in totals.items())
        table("rows in the partitions that differ", ("table", "before", "after", "difference"), lines)
    table("partitions", ("partition", "how", "what"), map(_line, found.changes[:SHOWN_ROWS]))
    if len(found.changes) > SHOWN_ROWS:
        talk.print(f"{len(found.changes) - SHOWN_ROWS} more partitions: --json shows them", soft_wrap=True)


def _line(change: Change) -> tuple[str, str, str]:
    counted = [
        f"{name.partition('.')[2]} {'-' if rows.before is None else rows.before} -> {'-' if rows.after is None else rows.after}"
        for name, rows in change.tables.items()
    ]
    others = len(change.files) - len(counted)
    what = [*counted, *([f"{others} other {'file' if others == 1 else 'files'}"] if others else [])] or [
        "no file: only its inputs, code or parameters"
    ]
    return f"{change.asset}/{change.partition}", change.how, ", ".join(what)


def log(
    ref: Annotated[str, typer.Argument(help="Branch, tag or commit to begin at.")] = MAIN,
    path: Annotated[str | None, typer.Option(help="asset/partition: only commits that changed it.")] = None,
    number: Annotated[int, typer.Option(min=1, help="Commits at most.")] = 20,
    lake: LakeFolder = None,
    as_json: AsJson = False,
) -> None:
    """Commits, newest first: when, which version, by which run."""
    store = Lake(find_lake(lake)).store
    entries = list(islice(store.history(ref, path), number))
    if not entries:
        raise NotFound(f"No commit in the history of {ref} changed {path}.", next_step="name it as in raw_logs/drive_01")
    tags: dict[str, list[str]] = {}
    for name, commit in store.tags().items():
        tags.setdefault(commit, []).append(name)
    lines = []
    for entry in entries:
        version_of, _, version = entry.metadata.get(VERSION_TRAILER, "").partition(" ")
        lines.append(
            {
                "commit": entry.commit,
                "time": entry.time.isoformat(),
                "message": entry.message.strip(),
                "path": version_of or None,
                "version": version or None,
                "run": entry.metadata.get(RUN_TRAILER),
                "tags": tags.get(entry.commit, []),
                "metadata": dict(entry.metadata),
            }
        )
    if as_json:
        emit(lines)
        return
    header = ("commit", "time", "version of", "version", "run", "tags")
    cells = [
        (
            str(line["commit"])[:DIGITS],
            entry.time.strftime("%Y-%m-%d %H:%M:%S"),
            str(line["path"] or entry.message.split("\n", 1)[0]),
            str(line["version"] or "-")[:DIGITS],
            str(line["run"] or "-"),
            " ".join(tags.get(entry.commit, [])),
        )
        for line, entry in zip(lines, entries, strict=True)
    ]
    table(f"history of {path or ref}, UTC", header, cells)


def checkout(
    ref: Annotated[str, typer.Argument(help="Branch, tag or commit to read.")],
    folder: Annotated[Path, typer.Argument(file_okay=False, help="Not there yet, or empty.")],
    what: Annotated[list[str] | None, typer.Argument(metavar="[ASSET[/PARTITION]]...", help="All when none is named.")] = None,
    lake: LakeFolder = None,
    as_json: AsJson = False,
) -> None:
    """Copy versions into a folder, as ASSET/PARTITION/FILE with their manifests, every byte compared."""
    from drivelake.snapshots.checkout import checkout as write

    with talk.status("copying"):
        done = write(Lake(find_lake(lake)), ref, folder, what or ())
    if as_json:
        emit({**vars(done), "folder": str(done.folder)})
        return
    for said in done.absent.values():
        talk.print(escape(said), soft_wrap=True)
    for name, uri in done.references.items():
        talk.print(f"[yellow]NOTE[/]  {escape(name)} is not copied: it stands at {escape(uri)}", soft_wrap=True)
    console.print(
        f"written  {escape(str(done.folder))}  {len(done.versions)} versions, {done.files} files, {amount(done.bytes)}, "
        f"at {done.commit[:DIGITS]}",
        soft_wrap=True,
    )


def tag(
    name: Annotated[str | None, typer.Argument(help="Of the tag; without it all tags are listed.")] = None,
    ref: Annotated[str, typer.Argument(help="Branch, tag or commit to point it at.")] = MAIN,
    move_from: Annotated[str | None, typer.Option(metavar="COMMIT", help="Where the tag points now: then it is moved.")] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Remove the tag; needs --at.")] = False,
    at: Annotated[str | None, typer.Option("--at", metavar="COMMIT", help="Where the tag to remove points now.")] = None,
    lake: LakeFolder = None,
    as_json: AsJson = False,
) -> None:
    """Name a commit for good, so that it is kept and found; move or remove a name only by saying where it points now."""
    store = Lake(find_lake(lake)).store
    if name is None:
        tags = store.tags()
        if as_json:
            emit([{"name": each, "commit": commit} for each, commit in tags.items()])
        else:
            table("tags", ("name", "commit"), tags.items())
        return
    if delete != (at is not None) or (delete and move_from):
        raise DeclarationError(
            "--delete and --at go together, and without --move-from.",
            next_step=f"drivelake tag {name} --delete --at COMMIT; drivelake tag lists where each points",
        )
    known = at or move_from
    if known is not None and not COMMIT.fullmatch(known):
        raise DeclarationError(
            f"{known!r} is no commit: expected 7 or more hex digits of it.", next_step="drivelake tag lists where each tag points"
        )
    if at is not None:
        old = store.resolve(at)
        store.untag(name, old)
        said: dict[str, object] = {"name": name, "commit": None, "was": old}
    else:
        before = None if move_from is None else store.resolve(move_from)
        store.tag(name, ref, before)
        said = {"name": name, "commit": store.tags()[name], "was": before}
    if as_json:
        emit(said)
    else:
        console.print(f"{escape(name)}  {said['commit'] or 'removed, was at ' + str(said['was'])}", soft_wrap=True)
