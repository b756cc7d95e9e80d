"""Repositories of the lakeFS stand-in: branches, staging, commits, merging, tags, rules. What lakeFS does, without HTTP.

Never here: wire formats and status lines (wire.py and the tables of operations), how bytes are kept (blocks.py).

Taken from lakeFS' own sources as of its 1.x versions: statuses, messages, what counts as a change, that merging looks at
objects, that hooks come from the source of a merge. Assumed where those say nothing: see the word "assumed".
"""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from tests.servers.lakefs.blocks import Blocks
from tests.servers.lakefs.history import Commit, History, Resolved
from tests.servers.lakefs.hooks import Event, Runs
from tests.servers.lakefs.trees import Difference, Entry, Failure, Tree, differences, merged, three_dots

COMMITTER = "stand-in"
LINK_S = 6 * 3600  # how long lakeFS keeps a physical address for linking
REPOSITORY_NAME = re.compile(r"[a-z0-9][a-z0-9-]{2,62}")
BRANCH_NAME = re.compile(r"\w[-\w]*", re.ASCII)
STRATEGIES = {None: "default", "": "default", "source-wins": "source-wins", "dest-wins": "dest-wins"}


@dataclass
class Branch:
    """A head, and what is staged on it; None stands for an object that is to go."""

    commit: str
    staged: dict[str, Entry | None] = field(default_factory=dict)
    hidden: bool = False


class Repository:
    """One repository. Not thread safe: the server holds one lock around it."""

    def __init__(self, name: str, namespace: str, default_branch: str, blocks: Blocks, *, read_only: bool = False) -> None:
        if not REPOSITORY_NAME.fullmatch(name):
            raise Failure(400, "repository id: invalid value: validation error")
        self.name, self.namespace, self.default_branch = name, namespace, default_branch
        self.blocks, self.read_only = blocks, read_only
        self.created = int(time.time())
        self.history, self.runs = History(), Runs()
        self.tags: dict[str, str] = {}
        self.protected: list[str] = []
        self.gc_rules: dict[str, object] | None = None
        self.links: dict[str, float] = {}
        first = Commit((), Tree(), "Repository created", COMMITTER, self.created, 1)
        self.branches = {default_branch: Branch(self.history.add(first))}

    # --- refs

    def branch(self, name: str) -> Branch:
        if name not in self.branches:
            raise Failure(404, "branch not found")
        return self.branches[name]

    def resolve(self, ref: str) -> Resolved:
        return self.history.resolve(ref, {name: branch.commit for name, branch in self.branches.items()}, self.tags)

    def commit_of(self, ref: str) -> Commit:
        """The commit that a ref names, without what is staged."""
        resolved = self.resolve(ref)
        if resolved.asks_for_staged:
            raise Failure(400, f"reference '{ref}': reference to staging area with $ is not a commit")
        return self.history.commits[resolved.commit]

    def tree(self, ref: str) -> Tree:
        """The objects at a ref; at a branch with what is staged on it."""
        resolved = self.resolve(ref)
        tree = self.history.commits[resolved.commit].tree
        return tree.changed(self.branches[resolved.staged_on].staged, addresses=True) if resolved.staged_on else tree

    def entry(self, ref: str, path: str) -> Entry:
        resolved = self.resolve(ref)
        staged = self.branches[resolved.staged_on].staged if resolved.staged_on else {}
        found = staged[path] if path in staged else self.history.commits[resolved.commit].tree.get(path)
        if found is None:
            raise Failure(404, "not found")
        return found

    def writable(self, *, force: bool | None) -> None:
        """``force`` means just this in lakeFS: write although the repository is read-only. It overwrites nothing."""
        if self.read_only and not force:
            raise Failure(403, "read-only repository")

    def is_protected(self, branch: str) -> bool:
        return any(fnmatchcase(branch, pattern) for pattern in self.protected)

    # --- branches and tags

    def create_branch(self, name: str, source: str, *, hidden: bool = False) -> str:
        if not BRANCH_NAME.fullmatch(name):
            raise Failure(400, "branch id: invalid value: validation error")
        if name in self.branches:
            raise Failure(409, "branch already exists: not unique")
        if name in self.tags or self.history.by_prefix(name):
            raise Failure(409, f"{name}: conflict found")
        commit = self.commit_of(source).id
        self.branches[name] = Branch(commit, hidden=hidden)
        return commit

    def delete_branch(self, name: str) -> None:
        """Also with uncommitted objects on it; they go with the branch."""
        if name == self.default_branch:
            raise Failure(403, "cannot delete repository default branch")
        self.branch(name)
        del self.branches[name]

    def reset(self, name: str, kind: str, path: str) -> None:
        branch = self.branch(name)
        if self.is_protected(name):
            raise Failure(403, "cannot write to protected branch")
        if kind == "reset":
            branch.staged.clear()
        elif kind == "object":
            branch.staged.pop(path, None)
        else:
            branch.staged = {staged: entry for staged, entry in branch.staged.items() if not staged.startswith(path)}

    def hard_reset(self, name: str, ref: str) -> None:
        branch = self._clean(name)
        branch.commit = self.commit_of(ref).id

    def create_tag(self, name: str, ref: str) -> str:
        _check_tag(name)
        if name in self.tags:
            raise Failure(409, "tag already exists: not unique")
        if name in self.branches or self.history.by_prefix(name):
            raise Failure(409, f"{name}: conflict found")
        self.tags[name] = self.commit_of(ref).id
        return self.tags[name]

    def tagged(self, name: str) -> str:
        if name not in self.tags:
            raise Failure(404, "tag not found")
        return self.tags[name]

    def delete_tag(self, name: str) -> None:
        self.tagged(name)
        del self.tags[name]

    # --- staging

    def stage(self, name: str, path: str, entry: Entry, *, absent: bool = False, match: str | None = None) -> None:
        """Put an object on a branch; ``absent``: only where there is none, ``match``: only over this checksum."""
        if not path:
            raise Failure(400, "missing path: required value: validation error")
        branch = self.branch(name)
        if self.is_protected(name):
            raise Failure(403, "cannot write to protected branch")
        if absent or match is not None:
            there = branch.staged[path] if path in branch.staged else self.history.commits[branch.commit].tree.get(path)
            if absent and there is not None:
                raise Failure(412, "path already exists")
            if match is not None and (there is None or there.checksum != match.strip('"')):
                raise Failure(412, "Precondition failed")
        branch.staged[path] = entry

    def unstage(self, name: str, path: str) -> None:
        """Stage an object's absence; nothing happens where there is none."""
        branch = self.branch(name)
        if self.is_protected(name):
            raise Failure(403, "cannot write to protected branch")
        if self.history.commits[branch.commit].tree.get(path) is None:
            branch.staged.pop(path, None)
        else:
            branch.staged[path] = None

    def uncommitted(self, name: str) -> list[Difference]:
        branch = self.branch(name)
        before = self.history.commits[branch.commit].tree
        return list(differences(before, before.changed(branch.staged)))

    def _clean(self, name: str) -> Branch:
        branch = self.branch(name)
        if branch.staged:
            raise Failure(400, f"{name}: uncommitted changes (dirty branch)")
        return branch

    def offer_address(self, address: str) -> None:
        """Remember an address that was given out, so that an object may be linked to it once."""
        self.links[address] = time.time() + LINK_S

    def take_address(self, address: str | None) -> str:
        """The address, if it was given out, not yet linked, and not too long ago."""
        if address is None or address not in self.links:
            raise Failure(400, "link address invalid")
        if self.links.pop(address) < time.time():
            raise Failure(400, "link address expired")
        return address

    # --- commits

    def commit(
        self, name: str, message: str, metadata: Mapping[str, str], *, date: int | None = None, allow_empty: bool = False
    ) -> Commit:
        branch = self.branch(name)
        if self.is_protected(name):
            raise Failure(403, "cannot commit to protected branch")
        head = self.history.commits[branch.commit]
        tree = head.tree.changed(branch.staged)
        self._hooks(Event("pre-commit", name, branch.commit, {**metadata}), head.tree, tree)
        if tree.id == head.tree.id and not allow_empty:
            raise Failure(400, "commit: no changes")
        commit = self._extend((branch.commit,), tree, message, metadata, date=date)
        branch.commit, branch.staged = commit.id, {}
        return commit

    def merge(self, source: str, name: str, message: str, metadata: Mapping[str, str], **options: object) -> Commit:
        """Three-way merge of a ref into a branch. Options: strategy, allow_empty, squash."""
        strategy = options.get("strategy")
        if strategy not in STRATEGIES:
            raise Failure(400, "invalid merge strategy")
        branch = self._clean(name)
        theirs, mine = self.commit_of(source), self.history.commits[branch.commit]
        base = self.history.commits[self.history.merge_base(theirs.id, mine.id)]
        with _while_updating(name):
            allow_empty = bool(options.get("allow_empty"))
            wins = str(strategy) if strategy else None
            tree = merged(base.tree, theirs.tree, mine.tree, strategy=wins, allow_empty=allow_empty)
            known = {**metadata, ".lakefs.merge.strategy": STRATEGIES[strategy]}
            self._hooks(Event("pre-merge", name, theirs.id, known), mine.tree, theirs.tree, base.tree)
        parents = (mine.id,) if options.get("squash") else (mine.id, theirs.id)
        commit = self._extend(parents, tree, message or f"Merge '{source}' into '{name}'", known)
        branch.commit = commit.id
        return commit

    def revert(self, name: str, ref: str, parent: int, message: str, metadata: Mapping[str, str], *, allow_empty: bool) -> None:
        """Give what a commit changed its content before. Allowed on protected branches."""
        commit = self.commit_of(ref)
        if len(commit.parents) > 1 and parent <= 0:
            raise Failure(409, "must specify 1-based parent number for reverting merge commit")
        if parent > len(commit.parents):
            raise Failure(400, f"parent {parent}: given commit does not have the given parent number")
        branch = self._clean(name)
        before = self.history.commits[commit.parents[max(parent, 1) - 1]].tree if commit.parents else Tree()
        head = self.history.commits[branch.commit]
        with _while_updating(name):
            tree = merged(commit.tree, before, head.tree, strategy=None, allow_empty=allow_empty)
        branch.commit = self._extend((head.id,), tree, message or f"Revert {ref}", metadata).id

    def cherry_pick(self, name: str, ref: str, parent: int | None, overrides: Mapping[str, object]) -> Commit:
        """Bring one commit's changes to a branch."""
        commit = self.commit_of(ref)
        if parent is None and len(commit.parents) > 1:
            raise Failure(400, "must specify 1-based parent number for cherry-picking merge commit")
        if (parent or 1) > len(commit.parents):
            raise Failure(400, f"parent {parent or 1}: given commit does not have the given parent number")
        branch = self._clean(name)
        before = self.history.commits[commit.parents[(parent or 1) - 1]].tree
        head = self.history.commits[branch.commit]
        with _while_updating(name):
            tree = merged(before, commit.tree, head.tree, strategy=None, allow_empty=False)
        origin = {"cherry-pick-origin": commit.id, "cherry-pick-committer": commit.committer}
        given = overrides.get("metadata")
        metadata = {**(given if isinstance(given, dict) else commit.metadata), **origin}
        picked = self._extend((head.id,), tree, str(overrides.get("message") or commit.message), metadata)
        branch.commit = picked.id
        return picked

    def _extend(
        self, parents: tuple[str, ...], tree: Tree, message: str, metadata: Mapping[str, str], *, date: int | None = None
    ) -> Commit:
        generation = 1 + max(self.history.commits[parent].generation for parent in parents)
        when = int(time.time()) if date is None else date
        commit = Commit(parents, tree, message, COMMITTER, when, generation, dict(metadata))
        return self.history.commits[self.history.add(commit)]

    def _hooks(self, event: Event, before: Tree, after: Tree, base: Tree | None = None) -> None:
        """Run what the actions ask for; in lakeFS they are read at the source of a merge, and on the branch of a commit."""

        def read(entry: Entry) -> bytes:
            return self.blocks.read(entry.address, 0, entry.size)

        def changes() -> list[Difference]:
            return list(differences(before, after) if base is None else three_dots(base, before, after))

        self.runs.run(event, after, changes, read)

    # --- comparing

    def diff(self, left: str, right: str, *, three: bool) -> list[Difference]:
        """Two dots: the right against the left. Three: what the right changed since their merge base."""
        one = self.commit_of(left)
        resolved = self.resolve(right)
        other = self.history.commits[resolved.commit]
        tree = self.tree(right) if resolved.asks_for_staged else other.tree
        if not three:
            return list(differences(one.tree, tree))
        base = self.history.commits[self.history.merge_base(one.id, other.id)]
        return list(three_dots(base.tree, one.tree, tree))


class _while_updating:  # noqa: N801 - reads as the with statement it is
    """Failures say which branch was to be updated, as lakeFS says it."""

    def __init__(self, branch: str) -> None:
        self.branch = branch

    def __enter__(self) -> None: ...

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Failure):
            raise Failure(error.status, f"update branch {self.branch}: {error.message}") from error


def _check_tag(name: str) -> None:
    """The rules of git's ref names, but for ``~``, which lakeFS allows."""
    wrong = (
        not name
        or name == "@"
        or name.endswith((".", ".lock", "/"))
        or any(part in name for part in ("..", "//", "@{"))
        or any(letter in "^:?*[\\" or letter <= " " for letter in name)
    )
    if wrong:
        raise Failure(400, "tag id: invalid value: validation error")
