"""Operations of the lakeFS stand-in on the server itself, repositories, their rules, and runs of actions, over HTTP.

Never here: branches and commits (routes.py), objects (objects.py), what an operation does (model.py).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

import lakefs_sdk
from lakefs_sdk import models
from starlette.responses import Response

from tests.servers.lakefs.hooks import Run
from tests.servers.lakefs.model import Repository
from tests.servers.lakefs.trees import Failure
from tests.servers.lakefs.wire import VERSION, Call, Routes, check_answer, named_page, page

repositories = Routes()
ONE = "/repositories/{repository}"


# --- the server


@repositories.add("GET", "/healthcheck", status=204)
def _health(_: Call) -> None:
    return None


@repositories.add("GET", "/setup_lakefs", models.SetupState)
def _setup(_: Call) -> Any:
    return {"state": "initialized", "comm_prefs_missing": False}


@repositories.add("GET", "/config", models.Config)
def _config(call: Call) -> Any:
    storage = _storage(call)
    return {"version_config": {"version": VERSION}, "storage_config": storage, "storage_config_list": []}


@repositories.add("GET", "/config/storage", models.StorageConfig)
def _storage(call: Call) -> Any:
    blocks = call.lake.blocks
    return {
        "blockstore_type": blocks.scheme,
        "blockstore_namespace_example": f"{blocks.scheme}://example-bucket/",
        "blockstore_namespace_ValidityRegex": f"^{blocks.scheme}://",
        "default_namespace_prefix": blocks.root(),
        "pre_sign_support": blocks.presigns,
        "pre_sign_support_ui": blocks.presigns,
        "import_support": False,
        "import_validity_regex": f"^{blocks.scheme}://",
        "pre_sign_multipart_upload": blocks.presigns,
    }


@repositories.add("GET", "/config/version", models.VersionConfig)
def _version(_: Call) -> Any:
    return {"version": VERSION}


@repositories.add("GET", "/user", models.CurrentUser)
def _user(call: Call) -> Any:
    return {"user": {"id": call.lake.access_key_id, "creation_date": 0}}


# --- repositories


def show_repository(repository: Repository) -> dict[str, Any]:
    return {
        "id": repository.name,
        "creation_date": repository.created,
        "default_branch": repository.default_branch,
        "storage_id": "",
        "storage_namespace": repository.namespace,
        "read_only": repository.read_only,
    }


@repositories.add("POST", "/repositories", models.Repository, 201)
def _create_repository(call: Call) -> Any:
    asked = call.parse(lakefs_sdk.RepositoryCreation)
    lake = call.lake
    if asked.name in lake.repositories:
        raise Failure(409, "error creating repository: repository already exists: not unique")
    if not asked.storage_namespace.startswith(f"{lake.blocks.scheme}://"):
        raise Failure(400, f"error creating repository: storage namespace must start with {lake.blocks.scheme}://")
    namespace = asked.storage_namespace.rstrip("/")
    if any(other.namespace == namespace for other in lake.repositories.values()):
        raise Failure(
            400, "failed to create repository: found lakeFS objects in the storage namespace: storage namespace already in use"
        )
    made = Repository(asked.name, namespace, asked.default_branch or "main", lake.blocks, read_only=bool(asked.read_only))
    # lakeFS marks its namespace so, and keeps its own files below _lakefs/
    lake.blocks.write(f"{namespace}/dummy", b"this is dummy data - created by lakeFS to check accessibility")
    lake.blocks.write(f"{namespace}/_lakefs/stand-in", b"the ranges of a real server stand here")
    lake.repositories[asked.name] = made
    return show_repository(made)


@repositories.add("GET", "/repositories", models.RepositoryList)
def _list_repositories(call: Call) -> Any:
    known = call.lake.repositories
    return named_page(call, known, lambda name: show_repository(known[name]))


@repositories.add("GET", ONE, models.Repository)
def _get_repository(call: Call) -> Any:
    return show_repository(call.repository)


@repositories.add("DELETE", ONE, status=204)
def _delete_repository(call: Call) -> None:
    call.repository.writable(force=call.flag("force"))
    del call.lake.repositories[call.params["repository"]]


@repositories.add("GET", ONE + "/metadata")
def _repository_metadata(call: Call) -> Any:
    call.repository.writable(force=True)
    return {}


@repositories.add("GET", ONE + "/settings/branch_protection")
@repositories.add("GET", ONE + "/branch_protection")
def _protection(call: Call) -> Any:
    rules = [{"pattern": pattern} for pattern in call.repository.protected]
    check_answer(rules, models.BranchProtectionRule)
    return Response(json.dumps(rules), 200, {"ETag": _etag(rules)}, "application/json")


@repositories.add("PUT", ONE + "/settings/branch_protection", status=204)
def _set_protection(call: Call) -> None:
    repository = call.repository
    now = [{"pattern": pattern} for pattern in repository.protected]
    if call.headers.get("if-match", _etag(now)) != _etag(now):
        raise Failure(412, "Precondition failed")
    rules = [models.BranchProtectionRule.from_dict(rule) for rule in json.loads(call.body)]
    repository.protected = [rule.pattern for rule in rules]


def _etag(rules: list[dict[str, str]]) -> str:
    return hashlib.md5(json.dumps(rules).encode()).hexdigest()


@repositories.add("GET", ONE + "/settings/gc_rules", models.GarbageCollectionRules)
@repositories.add("GET", ONE + "/gc/rules", models.GarbageCollectionRules)
def _gc_rules(call: Call) -> Any:
    if call.repository.gc_rules is None:
        raise Failure(404, "not found")
    return call.repository.gc_rules


@repositories.add("PUT", ONE + "/settings/gc_rules", status=204)
@repositories.add("POST", ONE + "/gc/rules", status=204)
def _set_gc_rules(call: Call) -> None:
    call.repository.gc_rules = call.parse(lakefs_sdk.GarbageCollectionRules).to_dict()


@repositories.add("DELETE", ONE + "/settings/gc_rules", status=204)
@repositories.add("DELETE", ONE + "/gc/rules", status=204)
def _delete_gc_rules(call: Call) -> None:
    call.repository.gc_rules = None


# --- runs of actions


def _show_run(run: Run) -> dict[str, Any]:
    return {
        "run_id": run.id,
        "branch": run.event.branch,
        "start_time": run.started.isoformat(),
        "end_time": run.ended.isoformat(),
        "event_type": run.event.kind,
        "status": "completed" if run.passed else "failed",
        "commit_id": run.event.source,
    }


@repositories.add("GET", ONE + "/actions/runs")
def _runs(call: Call) -> Any:
    wanted = [run for run in reversed(call.repository.runs.kept) if call.query.get("branch") in {None, run.event.branch}]
    return _checked(page(call, (_show_run(run) for run in wanted), "run_id"), models.ActionRunList)


def _run(call: Call) -> Run:
    for run in call.repository.runs.kept:
        if run.id == call.params["run"]:
            return run
    raise Failure(404, "not found")


@repositories.add("GET", ONE + "/actions/runs/{run}")
def _get_run(call: Call) -> Any:
    return _checked(_show_run(_run(call)), models.ActionRun)


@repositories.add("GET", ONE + "/actions/runs/{run}/hooks")
def _hook_runs(call: Call) -> Any:
    run = _run(call)
    shown = [
        {
            "hook_run_id": f"0000_{number:04d}",
            "action": action,
            "hook_id": hook,
            "start_time": run.started.isoformat(),
            "end_time": run.ended.isoformat(),
            "status": "failed" if output else "completed",
        }
        for number, (action, hook, output) in enumerate(run.results)
    ]
    return _checked(page(call, shown, "hook_run_id"), models.HookRunList)


@repositories.add("GET", ONE + "/actions/runs/{run}/hooks/{hook}/output")
def _hook_output(call: Call) -> Any:
    number = int(call.params["hook"].rpartition("_")[2])
    return Response(_run(call).results[number][2], 200, media_type="application/octet-stream")


def _checked(content: Any, model: type[Any]) -> Any:
    check_answer(content, model)
    return content
