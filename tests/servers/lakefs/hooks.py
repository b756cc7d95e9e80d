"""Actions of the lakeFS stand-in: files below ``_lakefs_actions/``, which of them an event runs, and the runs it kept.

Never here: Lua. No Lua runs in the stand-in: a hook is looked up by its id among equivalents written in Python
(``equivalents``); an action with a hook that has none is refused loudly, so that no check is ever silently left out.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from typing import Any

import yaml

from tests.servers.lakefs.trees import Difference, Entry, Failure, Tree

FOLDER = "_lakefs_actions/"
ACTION_NAME = re.compile(r"\w[\w\-. ]+")
HOOK_ID = re.compile(r"[_a-zA-Z][\-_a-zA-Z0-9]{1,255}")
EVENTS = {
    f"{when}-{what}"
    for when in ("pre", "post")
    for what in ("commit", "merge", "create-branch", "delete-branch", "create-tag", "delete-tag", "revert", "cherry-pick")
} | {"prepare-commit"}


@dataclass(frozen=True)
class Event:
    """What a hook sees of an operation.

    Attributes:
        kind: ``pre-merge`` or ``pre-commit``.
        branch: the branch that is about to change.
        source: id of the commit that is merged (or the parent of the new one).
        metadata: of the commit about to be made: that of a merge is given to the merge, the source's own is not in it.
    """

    kind: str
    branch: str
    source: str
    metadata: Mapping[str, str]


class Refused(Exception):
    """A hook's error(): the message that lakeFS shows."""


# (event, source tree, changes that the merge brings, how to read an object) -> None, or Refused
Equivalent = Callable[[Event, Tree, Sequence[Difference], Callable[[Entry], bytes]], None]


@dataclass(frozen=True)
class Action:
    """One file of actions, as lakeFS validates it."""

    name: str
    on: Mapping[str, Sequence[str]]
    hooks: Sequence[Mapping[str, Any]]


@dataclass
class Run:
    """One run of all hooks of one event."""

    id: str
    event: Event
    started: datetime
    ended: datetime
    results: list[tuple[str, str, str]] = field(default_factory=list)  # action, hook id, output ("" when it passed)

    @property
    def passed(self) -> bool:
        return not any(output for _, _, output in self.results)


class Runs:
    """Runs of one repository, oldest first."""

    def __init__(self) -> None:
        self.kept: list[Run] = []

    def run(self, event: Event, tree: Tree, changes: Callable[[], Sequence[Difference]], read: Callable[[Entry], bytes]) -> None:
        """Run the hooks that ``tree`` has for the event.

        Raises:
            Failure: 412, in the words of lakeFS, when one refuses.
        """
        matching = [action for action in _actions(tree, read) if _matches(action, event)]
        if not matching:
            return
        now = datetime.now(UTC)
        run = Run(secrets.token_hex(10), event, now, now)
        for action in matching:
            for hook in action.hooks:
                try:
                    _equivalent(hook)(event, tree, changes(), read)
                except Refused as refused:
                    run.results.append((action.name, hook["id"], str(refused)))
                    break
                run.results.append((action.name, hook["id"], ""))
        run.ended = datetime.now(UTC)
        self.kept.append(run)
        failed = [(number, *result) for number, result in enumerate(run.results) if result[2]]
        if failed:
            lines = "".join(
                f"\t* hook run id '0000_{number:04d}' failed on action '{action}' hook '{hook}': {output}\n"
                for number, action, hook, output in failed
            )
            said = f"{len(failed)} error{'s' * (len(failed) > 1)} occurred:\n{lines}\n"
            raise Failure(412, f"{event.kind} hook aborted, run id '{run.id}': {said}")


equivalents: dict[str, Equivalent] = {}


def _equivalent(hook: Mapping[str, Any]) -> Equivalent:
    if hook["id"] not in equivalents:
        raise Failure(501, f"the stand-in runs no Lua and has no equivalent of the hook {hook['id']!r}")
    return equivalents[hook["id"]]


def parse(text: bytes) -> Action:
    """An action file, held to the rules of lakeFS. Raises Failure 400 naming the rule."""
    known = yaml.safe_load(text)
    name = known.get("name", "")
    # YAML 1.1 reads the bare key `on` as true; lakeFS' parser reads it as the text it is
    on = known.get("on", known.get(True))
    if not ACTION_NAME.fullmatch(name):
        raise Failure(400, "'name' is invalid: invalid action")
    if not on:
        raise Failure(400, "'on' is required: invalid action")
    for event in on:
        if event not in EVENTS:
            raise Failure(400, f"event '{event}' is not supported: invalid action")
    for number, hook in enumerate(known.get("hooks") or ()):
        if not HOOK_ID.fullmatch(hook.get("id", "")):
            raise Failure(400, f"hook[{number}] missing ID: invalid action")
        if hook.get("type") not in {"lua", "webhook", "airflow"}:
            raise Failure(400, f"hook[{number}] type '{hook.get('type')}' unknown: invalid action")
        properties = hook.get("properties") or {}
        if hook["type"] == "lua" and not (properties.get("script") or properties.get("script_path")):
            raise Failure(400, "'script' or 'script_path' must be supplied: wrong value type")
    branches = {event: (given or {}).get("branches") or () for event, given in on.items()}
    return Action(name, branches, known.get("hooks") or ())


def _actions(tree: Tree, read: Callable[[Entry], bytes]) -> list[Action]:
    return [parse(read(tree.entries[path])) for path in sorted(path for path in tree.entries if path.startswith(FOLDER))]


def _matches(action: Action, event: Event) -> bool:
    if event.kind not in action.on:
        return False
    patterns = action.on[event.kind]
    return not patterns or any(fnmatchcase(event.branch, pattern) for pattern in patterns)


def drivelake_pre_merge(event: Event, tree: Tree, changes: Sequence[Difference], read: Callable[[Entry], bytes]) -> None:
    """The same rule as the Lua in drivelake/versions/lakefs/rules/drivelake_pre_merge.yaml, written a second time."""
    del read
    changed = {change.path: change.kind for change in changes}
    places = {place for path in changed if (place := _place(path)) is not None}
    if any(not place.startswith("withdrawals/") for place in places):
        for key in ("Drivelake-Version", "Drivelake-Run"):
            if not event.metadata.get(key):
                raise Refused(f"the merge into {event.branch} has no metadata {key}")
    for place in sorted(places):
        record = place + ("/tombstone.json" if place.startswith("withdrawals/") else "/manifest.json")
        if changed.get(record) in {"added", "changed", "conflict"}:
            continue
        if any(path.startswith(place + "/") for path in tree.paths):
            raise Refused(f"{place} changes without bringing {record.rpartition('/')[2]}")


def _place(path: str) -> str | None:
    """asset/partition of an object; None for the actions themselves."""
    if path.startswith(FOLDER):
        return None
    parts = path.split("/")
    if len(parts) < 3:
        raise Refused(f"{path} is no object of an asset's partition")
    return "/".join(parts[:2])


equivalents["drivelake_pre_merge"] = drivelake_pre_merge
