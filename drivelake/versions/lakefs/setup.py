"""Making a repository on a lakeFS server fit for a lake. Belongs here: the repository, protection of main, hooks, gc rules.

Never here: working with it (see lakefs).
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

import lakefs
from lakefs_sdk.models.branch_protection_rule import BranchProtectionRule
from lakefs_sdk.models.garbage_collection_rules import GarbageCollectionRules

from drivelake.errors import NotFound, StoreError
from drivelake.versions.lakefs.calls import Server
from drivelake.versions.store import MAIN

__all__ = [
    "ACTIONS",
    "action_files",
    "keep_committed",
    "make_repository",
    "protect_main",
    "require_repository",
    "shipped_actions",
]

RULES = Path(__file__).with_name("rules")

ACTIONS = "_lakefs_actions/"  # where lakeFS looks for the hooks of a repository


def require_repository(server: Server) -> None:
    """See that the repository is there and has a main.

    Raises:
        NotFound: it is not there.
        StoreError: its default branch is another.
    """
    try:
        found = server.call("REPOSITORY", lambda: server.sdk.repositories_api.get_repository(server.repository, **server.limits))
    except NotFound as missing:
        raise NotFound(
            f"There is no repository {server.repository!r} at {server.url}.",
            next_step="check url and repository, or make it: drivelake init --store lakefs --url ... --storage-namespace ...",
        ) from missing
    if found.default_branch != MAIN:
        raise StoreError(
            f"The default branch of {server.repository!r} is {found.default_branch!r}, expected {MAIN!r}.",
            next_step="make a repository with that default branch",
        )


def make_repository(server: Server, storage_namespace: str | None) -> None:
    """Make the repository, or find it; any number may do so at once.

    Args:
        server: which one, and where.
        storage_namespace: where its objects are kept, as in ``s3://bucket/prefix``; needed when it is not there.
    """
    with suppress(NotFound):
        require_repository(server)
        return
    if storage_namespace is None:
        raise StoreError(
            f"There is no repository {server.repository!r} at {server.url}, and no storage namespace to make one with.",
            next_step="say where its objects are kept, as in s3://bucket/prefix",
        )
    repository = lakefs.Repository(server.repository, client=server.client)
    server.call(
        "NEW REPOSITORY",
        lambda: repository.create(storage_namespace=storage_namespace, default_branch=MAIN, exist_ok=True, **server.limits),
    )
    require_repository(server)


def protect_main(server: Server) -> None:
    """Let the server refuse what is staged or committed on main by anybody, beside the rules that are there."""
    api = server.sdk.repositories_api

    def once() -> None:
        answer = api.get_branch_protection_rules_with_http_info(server.repository, **server.limits)
        rules = list(answer.data or [])
        if any(rule.pattern == MAIN for rule in rules):
            return
        etag = (answer.headers or {}).get("ETag")
        api.set_branch_protection_rules(
            server.repository, [*rules, BranchProtectionRule(pattern=MAIN)], if_match=etag, **server.limits
        )

    server.call("PROTECT main", once)


def keep_committed(server: Server) -> None:
    """Let lakeFS' own collector take nothing that was ever committed, unless somebody gave it rules.

    It knows neither tags nor signed evidence (see rules/README.md): what is not needed any more, ``drivelake gc`` removes.
    """
    api = server.sdk.repositories_api
    with suppress(NotFound):
        server.call("GC RULES", lambda: api.get_gc_rules(server.repository, **server.limits))
        return
    rules = GarbageCollectionRules.from_json((RULES / "gc_rules.json").read_text(encoding="utf-8"))
    assert rules is not None, "shipped with this module"
    server.call("SET GC RULES", lambda: api.set_gc_rules(server.repository, rules, **server.limits))


def shipped_actions() -> dict[str, bytes]:
    """The hook definitions that every repository gets, by file name."""
    return {file.name: file.read_bytes() for file in sorted(RULES.glob("*.yaml"))}


def action_files(files: Mapping[str, bytes]) -> dict[str, bytes]:
    """Where hook definitions stand in a repository, by their file names.

    Raises:
        StoreError: a name that lakeFS would not take for one.
    """
    bad = next((name for name in files if "/" in name or not name.endswith((".yaml", ".yml", ".lua"))), None)
    if bad is not None:
        raise StoreError(f"{bad!r} is no file of a hook: expected a name ending in .yaml or .lua.", next_step="rename it")
    return {f"{ACTIONS}{name}": data for name, data in sorted(files.items())}
