"""Commands that decide what stays: gc, withdraw. Both only show what they would do until they are told to do it.

Never here: marking, planning, writing a tombstone (``retention`` and ``withdrawal`` do).
"""

from __future__ import annotations

import shlex
from collections import Counter
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from drivelake.cli.show import AsJson, LakeFolder, amount, console, emit, table, talk
from drivelake.lake import Lake, find_lake

if TYPE_CHECKING:
    from drivelake.retention import Amount, Plan
    from drivelake.withdrawal import Withdrawal

__all__ = ["register"]

HOUR_S = 3600.0
GRACE_HOURS = 24.0  # as retention.GRACE_S, which is not loaded for words alone


KINDS = {
    "ref": "at a branch or a tag",
    "evidence": "evidence",
    "release": "releases",
    "days": "published lately",
    "input": "inputs",
}


def register(app: typer.Typer) -> None:
    """Add the commands of this room."""
    app.command()(gc)
    app.command()(withdraw)


def gc(
    days: Annotated[
        float | None, typer.Option(min=0, help="Keep what was published within so many days; else retention.days as declared.")
    ] = None,
    grace_hours: Annotated[float, typer.Option(min=0, help="Nothing goes that was stored within so many hours.")] = GRACE_HOURS,
    delete: Annotated[bool, typer.Option("--delete", help="Remove it; else only say what would go.")] = False,
    lake: LakeFolder = None,
    as_json: AsJson = False,
) -> None:
    """Which bytes nothing keeps, and why; with --delete they are removed. Manifests and commits always stay."""
    from drivelake.retention import collect

    opened = Lake(find_lake(lake))
    window = opened.declaration.retention.days if days is None else days
    with talk.status("marking") as status:
        found = collect(
            opened.store,
            window,
            dry_run=not delete,
            grace_s=grace_hours * HOUR_S,
            said=lambda done, of: status.update(f"removing {done} of {of}"),
        )
    if as_json:
        emit(_plan_as_json(found, deleted=delete))
        return
    _show(found)
    if delete:
        console.print(f"[bold]REMOVED[/]  {_counted(found.removed)}")
        return
    if not found.removed.objects:
        console.print("[bold]DRY RUN[/]  there is nothing to remove.")
        return
    again = ["drivelake", "gc", "--delete", *([] if days is None else ["--days", f"{days:g}"])]
    again += [] if grace_hours == GRACE_HOURS else ["--grace-hours", f"{grace_hours:g}"]
    again += [] if lake is None else ["--lake", str(lake)]
    console.print(f"[bold]DRY RUN[/]  nothing was removed; this removes {_counted(found.removed)}:", soft_wrap=True)
    console.print(f"         {escape(shlex.join(again))}", soft_wrap=True)


def withdraw(
    drive: Annotated[str, typer.Argument(help="Name of a drive that was ever landed.")],
    reason: Annotated[str, typer.Option(help="Why its bytes must go; one line, kept for ever.")],
    authority: Annotated[str, typer.Option(help="Who decided it, and where that is written down; one line, kept for ever.")],
    yes: Annotated[bool, typer.Option("--yes", help="Withdraw it; else only show. It cannot be taken back.")] = False,
    lake: LakeFolder = None,
    as_json: AsJson = False,
) -> None:
    """Take a drive's bytes away with authority; its manifests and lineage stay. The next gc --delete removes the bytes."""
    from drivelake.withdrawal import prepare
    from drivelake.withdrawal import withdraw as put_tombstone

    opened = Lake(find_lake(lake))
    found = (put_tombstone if yes else prepare)(opened.store, drive, reason=reason, authority=authority)
    if as_json:
        affected = [{**each.version._asdict(), "at_main": each.at_main} for each in found.affected]
        emit({"withdrawn": found.standing, "affected": affected, **found.tombstone.model_dump(mode="json")})
        return
    _show_withdrawal(found)
    if found.standing:
        console.print(f"[bold]WITHDRAWN[/]  {escape(drive)}: reading its bytes is refused from now on.", soft_wrap=True)
        console.print("Next: drivelake gc --delete removes them; run it on every machine that keeps copies of its own.")
    else:
        console.print("[bold]DRY RUN[/]  nothing was withdrawn; --yes does it, and cannot be taken back.", soft_wrap=True)


def _show(found: Plan) -> None:
    rows = [(str(each.version), _bytes(each.goes), _bytes(each.shared), _bytes(each.waits), each.reason) for each in found.going]
    if found.unnamed.objects or found.unnamed_waits.objects:
        from drivelake.retention import UNNAMED

        rows.append(("no version", _bytes(found.unnamed), "-", _bytes(found.unnamed_waits), UNNAMED))
    if rows:
        table("what goes", ("version", "goes", "shared, stays", "too young", "why"), rows)
    for branch in found.publishing:
        console.print(f"NOTE     {escape(branch)} keeps what a publisher committed, who is at work or was killed", soft_wrap=True)
    kinds = Counter(KINDS[each.kind] for each in found.kept)
    said = ", ".join(f"{kinds[kind]} {kind}" for kind in KINDS.values() if kinds[kind]) or "none"
    console.print(f"KEPT     {len(found.kept)} versions ({said}), {_counted(found.stays)}", soft_wrap=True)
    console.print(f"         published since {found.since:%Y-%m-%d %H:%M} UTC, {found.days:g} days", soft_wrap=True)
    if found.waiting.objects:
        hours = found.grace_s / HOUR_S
        console.print(f"WAITING  {_counted(found.waiting)} stored less than {hours:g} hours ago", soft_wrap=True)


def _show_withdrawal(found: Withdrawal) -> None:
    tombstone = found.tombstone
    rows = [(f"{each.asset}/{each.partition}", each.version[:12]) for each in tombstone.versions]
    table("bytes that go", ("version of", "digest"), rows)
    for log in tombstone.registered:
        console.print(
            f"NOTE     {escape(log.uri)} ({amount(log.bytes)}) stands outside of the store: to be removed by its owner",
            soft_wrap=True,
        )
    if found.affected:
        table(
            "what holds its bytes among others, or was made from such: a person decides",
            ("version of", "digest", "stands at main"),
            [(each.version.path, each.version.version[:12], "yes" if each.at_main else "no") for each in found.affected],
        )
    console.print(f"reason     {escape(tombstone.reason)}", soft_wrap=True)
    console.print(f"authority  {escape(tombstone.authority)}; not signed", soft_wrap=True)
    console.print(f"requested  {tombstone.requested:%Y-%m-%d %H:%M:%S} UTC", soft_wrap=True)


def _plan_as_json(found: Plan, *, deleted: bool) -> dict[str, object]:
    going = [
        {
            **each.version._asdict(),
            "reason": each.reason,
            "withdrawn": each.withdrawn,
            "goes": vars(each.goes),
            "shared": vars(each.shared),
            "waits": vars(each.waits),
        }
        for each in found.going
    ]
    return {
        "deleted": deleted,
        "days": found.days,
        "since": found.since.isoformat(),
        "grace_s": found.grace_s,
        "kept": [{**each.version._asdict(), "reasons": each.reasons} for each in found.kept],
        "going": going,
        "unnamed": vars(found.unnamed),
        "unnamed_waits": vars(found.unnamed_waits),
        "publishing": found.publishing,
        "stays": vars(found.stays),
        "removed": vars(found.removed),
        "waiting": vars(found.waiting),
    }


def _bytes(counted: Amount) -> str:
    return amount(counted.bytes) if counted.objects else "-"


def _counted(counted: Amount) -> str:
    return f"{counted.objects} objects, {amount(counted.bytes)}"
