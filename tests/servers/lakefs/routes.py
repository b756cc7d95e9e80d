"""Operations of the lakeFS stand-in on branches, tags, commits and their differences, over HTTP.

Never here: repositories and rules (repositories.py), objects and their bytes (objects.py), what an operation does (model.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import Any

import lakefs_sdk
from lakefs_sdk import models
from starlette.responses import Response

from tests.servers.lakefs.history import Commit
from tests.servers.lakefs.trees import Difference, Failure, Listed, listed
from tests.servers.lakefs.wire import Call, Routes, named_page, page

routes = Routes()
ONE = "/repositories/{repository}"
BRANCH = ONE + "/branches/{branch}"


# --- branches


@routes.add("POST", ONE + "/branches", status=201)
def _create_branch(call: Call) -> Any:
    asked = call.parse(lakefs_sdk.BranchCreation)
    call.repository.writable(force=asked.force)
    commit = call.repository.create_branch(asked.name, asked.source, hidden=bool(asked.hidden))
    return Response(commit, 201, media_type="text/html")


@routes.add("GET", ONE + "/branches", models.RefList)
def _list_branches(call: Call) -> Any:
    branches = {
        name: branch for name, branch in call.repository.branches.items() if call.flag("show_hidden") or not branch.hidden
    }
    return named_page(call, branches, lambda name: {"id": name, "commit_id": branches[name].commit})


@routes.add("GET", BRANCH, models.Ref)
def _get_branch(call: Call) -> Any:
    name = call.params["branch"]
    return {"id": name, "commit_id": call.repository.branch(name).commit}


@routes.add("DELETE", BRANCH, status=204)
def _delete_branch(call: Call) -> None:
    call.repository.writable(force=call.flag("force"))
    call.repository.delete_branch(call.params["branch"])


@routes.add("PUT", BRANCH, status=204)
def _reset_branch(call: Call) -> None:
    asked = call.parse(lakefs_sdk.ResetCreation)
    call.repository.writable(force=asked.force)
    call.repository.reset(call.params["branch"], asked.type, asked.path or "")


@routes.add("PUT", BRANCH + "/hard_reset", status=204)
def _hard_reset(call: Call) -> None:
    call.repository.writable(force=call.flag("force"))
    call.repository.hard_reset(call.params["branch"], call.query["ref"])


@routes.add("GET", BRANCH + "/diff", models.DiffList)
def _uncommitted(call: Call) -> Any:
    return _show_differences(call, call.repository.uncommitted(call.params["branch"]))


@routes.add("POST", BRANCH + "/revert", status=204)
def _revert(call: Call) -> None:
    asked = call.parse(lakefs_sdk.RevertCreation)
    call.repository.writable(force=asked.force)
    overrides = asked.commit_overrides
    call.repository.revert(
        call.params["branch"],
        asked.ref,
        asked.parent_number,
        (overrides.message if overrides else None) or "",
        (overrides.metadata if overrides else None) or {},
        allow_empty=bool(asked.allow_empty),
    )


@routes.add("POST", BRANCH + "/cherry-pick", models.Commit, 201)
def _cherry_pick(call: Call) -> Any:
    asked = call.parse(lakefs_sdk.CherryPickCreation)
    call.repository.writable(force=asked.force)
    overrides = asked.commit_overrides.to_dict() if asked.commit_overrides else {}
    return show_commit(call.repository.cherry_pick(call.params["branch"], asked.ref, asked.parent_number, overrides))


# --- tags


@routes.add("POST", ONE + "/tags", models.Ref, 201)
def _create_tag(call: Call) -> Any:
    asked = call.parse(lakefs_sdk.TagCreation)
    call.repository.writable(force=asked.force)
    return {"id": asked.id, "commit_id": call.repository.create_tag(asked.id, asked.ref)}


@routes.add("GET", ONE + "/tags", models.RefList)
def _list_tags(call: Call) -> Any:
    tags = call.repository.tags
    return named_page(call, tags, lambda name: {"id": name, "commit_id": tags[name]})


@routes.add("GET", ONE + "/tags/{tag}", models.Ref)
def _get_tag(call: Call) -> Any:
    return {"id": call.params["tag"], "commit_id": call.repository.tagged(call.params["tag"])}


@routes.add("DELETE", ONE + "/tags/{tag}", status=204)
def _delete_tag(call: Call) -> None:
    call.repository.writable(force=call.flag("force"))
    call.repository.delete_tag(call.params["tag"])


# --- commits


def show_commit(commit: Commit) -> dict[str, Any]:
    return {
        "id": commit.id,
        "parents": list(commit.parents),
        "committer": commit.committer,
        "message": commit.message,
        "creation_date": commit.creation_date,
        "meta_range_id": commit.tree.id if commit.tree.entries else "",
        "metadata": dict(commit.metadata),
        "generation": commit.generation,
        "version": 1,
    }


@routes.add("POST", BRANCH + "/commits", models.Commit, 201)
def _commit(call: Call) -> Any:
    asked = call.parse(lakefs_sdk.CommitCreation)
    call.repository.writable(force=asked.force)
    made = call.repository.commit(
        call.params["branch"],
        asked.message,
        asked.metadata or {},
        date=asked.var_date,
        allow_empty=bool(asked.allow_empty),
    )
    return show_commit(made)


@routes.add("GET", ONE + "/commits/{commit}", models.Commit)
def _get_commit(call: Call) -> Any:
    return show_commit(call.repository.commit_of(call.params["commit"]))


@routes.add("GET", ONE + "/refs/{ref}/commits", models.CommitList)
def _log(call: Call) -> Any:
    shown = (show_commit(commit) for commit in _logged(call))
    return page(call, shown, "id", promises_more=not call.flag("limit"))


def _logged(call: Call) -> Iterator[Commit]:
    repository, history = call.repository, call.repository.history
    start = repository.commit_of(call.params["ref"]).id
    stop = repository.commit_of(call.query["stop_at"]).id if "stop_at" in call.query else None
    since = datetime.fromisoformat(call.query["since"]).timestamp() if "since" in call.query else None
    after = call.query.get("after")
    touches = history.touching(call.lists("objects"), call.lists("prefixes"))
    begun = not after
    for commit in history.log(start, first_parent=call.flag("first_parent")):
        known = history.commits[commit]
        if since is not None and known.creation_date < since:
            return
        if begun and touches(commit):
            yield known
        begun = begun or commit == after
        if commit == stop:
            return


@routes.add("GET", ONE + "/refs/{left}/diff/{right}", models.DiffList)
def _diff(call: Call) -> Any:
    kind = call.query.get("type", "three_dot")
    if kind not in {"two_dot", "three_dot"}:
        raise Failure(400, f"unknown diff type {kind}")
    found = call.repository.diff(call.params["left"], call.params["right"], three=kind == "three_dot")
    return _show_differences(call, found)


def _show_differences(call: Call, found: Iterable[Difference]) -> Any:
    by_path = {difference.path: difference for difference in found}

    def show(line: Listed) -> dict[str, Any]:
        if line.prefix:
            return {"type": "prefix_changed", "path": line.path, "path_type": "common_prefix"}
        difference = by_path[line.path]
        size = difference.entry.size if difference.entry else 0
        return {"type": difference.kind, "path": line.path, "path_type": "object", "size_bytes": size}

    lines = listed(
        sorted(by_path),
        prefix=call.query.get("prefix", ""),
        delimiter=call.query.get("delimiter", ""),
        after=call.query.get("after", ""),
    )
    return page(call, (show(line) for line in lines), "path")


@routes.add("GET", ONE + "/refs/{source}/merge/{branch}", models.FindMergeBaseResult)
def _merge_base(call: Call) -> Any:
    repository = call.repository
    source, target = repository.commit_of(call.params["source"]).id, repository.commit_of(call.params["branch"]).id
    return {
        "source_commit_id": source,
        "destination_commit_id": target,
        "base_commit_id": repository.history.merge_base(source, target),
    }


@routes.add("POST", ONE + "/refs/{source}/merge/{branch}", models.MergeResult)
def _merge(call: Call) -> Any:
    asked = call.parse(lakefs_sdk.Merge)
    call.repository.writable(force=asked.force)
    made = call.repository.merge(
        call.params["source"],
        call.params["branch"],
        asked.message or "",
        asked.metadata or {},
        strategy=asked.strategy,
        allow_empty=asked.allow_empty,
        squash=asked.squash_merge,
    )
    return {"reference": made.id}
