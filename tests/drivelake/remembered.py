"""A version store in memory, with a clock that tests set: histories that no real clock would give, and cheaply many of them.

``addresses`` makes it store every put anew, as lakeFS does, where equal content does not mean the same object; without it
objects are named by their bytes, as in DVC.
"""

import contextlib
import hashlib
import itertools
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from drivelake.errors import Conflict, NotFound, StoreError
from drivelake.versions.store import MAIN, VERSION_TRAILER, HistoryEntry, Stored

START = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Commit:
    id: str
    parents: tuple
    tree: dict
    entry: HistoryEntry


@dataclass
class RememberedStore:
    addresses: bool = False
    now: datetime = START  # what commits are stamped with
    keeper: datetime = START  # the clock that ages are told by
    commits: dict = field(default_factory=dict)
    heads: dict = field(default_factory=dict)
    labels: dict = field(default_factory=dict)
    bytes: dict = field(default_factory=dict)
    written: dict = field(default_factory=dict)
    staged: dict = field(default_factory=dict)
    collector: bool = False
    calls: Counter = field(default_factory=Counter)

    def __post_init__(self):
        self._numbers = itertools.count()
        self.heads[MAIN] = self._write((), {}, "began", {})

    def _write(self, parents, tree, message, metadata):
        name = hashlib.sha1(repr((next(self._numbers), parents)).encode()).hexdigest()
        self.commits[name] = Commit(name, parents, tree, HistoryEntry(name, self.now, message, dict(metadata)))
        return name

    def resolve(self, ref):
        if ref in self.heads or ref in self.labels:
            return self.heads.get(ref) or self.labels[ref]
        if ref not in self.commits:
            raise NotFound(f"{ref!r} resolves to nothing.")
        return ref

    def branches(self):
        return dict(sorted(self.heads.items()))

    def tags(self):
        return dict(sorted(self.labels.items()))

    def tag(self, name, ref, expected=None):
        if self.labels.get(name) != expected:
            raise Conflict(f"Tag {name!r} is elsewhere.")
        self.labels[name] = self.resolve(ref)

    def untag(self, name, expected):
        if self.labels.get(name) != expected:
            raise Conflict(f"Tag {name!r} is elsewhere.")
        del self.labels[name]

    def branch(self, name, at=MAIN):
        if name in self.heads:
            raise Conflict(f"Branch {name!r} is there already.")
        self.heads[name] = self.resolve(at)

    def delete_branch(self, name):
        self.staged.pop(name, None)
        if self.heads.pop(name, None) is None:
            raise NotFound(f"There is no branch {name!r}.")

    def put(self, branch, path, folder, small):
        files = {}
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            data = file.read_bytes()
            name = f"{len(self.written)}-{path}" if self.addresses else hashlib.md5(data).hexdigest()
            if name not in self.bytes:
                self.bytes[name], self.written[name] = data, self.keeper
            files[file.relative_to(folder).as_posix()] = (name, len(data), hashlib.sha256(data).hexdigest())
        self.staged.setdefault(branch, {})[path] = (files, dict(small))

    def commit(self, branch, message, metadata):
        head = self.heads[branch]
        tree = {**self.commits[head].tree, **self.staged.pop(branch, {})}
        if not _changed(tree, self.commits[head].tree):
            return head
        self.heads[branch] = self._write((head,), tree, message, metadata)
        return self.heads[branch]

    def merge(self, source, into=MAIN):
        theirs, ours = self.resolve(source), self.heads[into]
        if theirs in self._reachable(ours):
            return ours
        if ours in self._reachable(theirs):
            self.heads[into] = theirs
            return theirs
        base = self.commits[next(c for c in self._newest_first(ours) if c in self._reachable(theirs))].tree
        (a, b) = (self.commits[c].tree for c in (ours, theirs))
        both = _changed(base, a) & _changed(base, b) & _changed(a, b)
        if both:
            raise Conflict(f"{both} changed on both sides.")
        tree = a | {path: b[path] for path in _changed(base, b) - _changed(base, a)}
        self.heads[into] = self._write((ours, theirs), tree, "merged", {})
        return self.heads[into]

    def revert(self, commit, into=MAIN):
        made, head = self.commits[commit], self.commits[self.heads[into]]
        before = self.commits[made.parents[0]].tree
        paths = _changed(before, made.tree)
        if any(path in _changed(made.tree, head.tree) for path in paths):
            raise Conflict("changed again since")
        tree = {p: v for p, v in head.tree.items() if p not in paths} | {p: before[p] for p in paths if p in before}
        self.heads[into] = self._write((head.id,), tree, "reverted", {})
        return self.heads[into]

    @contextlib.contextmanager
    def hold(self, path):
        yield

    def find(self, path, version, ref=MAIN):
        wanted = f"{path} {version}"
        return next((entry.commit for entry in self.history(ref) if entry.metadata.get(VERSION_TRAILER) == wanted), None)

    def list(self, ref, path=""):
        tree = self.commits[self.resolve(ref)].tree
        if "/" in path:
            return tuple(sorted(tree[path][1])) if path in tree else ()
        pairs = [name.split("/") for name in tree]
        return tuple(sorted({a for a, _ in pairs} if not path else {p for a, p in pairs if a == path}))

    def read(self, ref, path, file):
        return self.commits[self.resolve(ref)].tree[path][1][file]

    def read_each(self, ref, asset, file):
        for partition in self.list(ref, asset):
            if file in self.list(ref, f"{asset}/{partition}"):
                yield partition, self.read(ref, f"{asset}/{partition}", file)

    def content(self, ref, path):
        files = self.commits[self.resolve(ref)].tree[path][0]
        missing = [name for name, _, _ in files.values() if name not in self.bytes]
        if missing:
            raise StoreError(f"{path} at {ref} lacks {missing[0]}.")
        return {file: self.bytes[name] for file, (name, _, _) in files.items()}

    def history(self, ref=MAIN, path=None):
        for name in self._newest_first(self.resolve(ref)):
            commit = self.commits[name]
            before = self.commits[commit.parents[0]].tree if commit.parents else {}
            if path is None or path in _changed(before, commit.tree):
                yield commit.entry

    def diff(self, a, b):
        return tuple(sorted(_changed(*(self.commits[self.resolve(ref)].tree for ref in (a, b)))))

    def objects(self, ref, path):
        self.calls["objects"] += 1
        return frozenset(name for name, _, _ in self.commits[self.resolve(ref)].tree[path][0].values())

    def stored(self):
        for name in sorted(self.bytes):
            yield Stored(name, len(self.bytes[name]), (self.keeper - self.written[name]) / timedelta(seconds=1))

    @contextlib.contextmanager
    def collecting(self):
        if self.collector:
            raise Conflict("another collects")
        self.collector = True
        try:
            yield
        finally:
            self.collector = False

    def discard(self, ids):
        assert self.collector, "nothing is removed outside of a collection"
        for name in ids:
            self.bytes.pop(name, None)

    def _newest_first(self, start):
        """Children before parents: what was written later comes first."""
        order = {name: number for number, name in enumerate(self.commits)}
        return sorted(self._reachable(start), key=lambda name: -order[name])

    def _reachable(self, start):
        found, waiting = set(), [start]
        while waiting:
            here = waiting.pop()
            if here not in found:
                found.add(here)
                waiting.extend(self.commits[here].parents)
        return found


def _changed(a, b):
    """Paths whose content differs; where the bytes lie does not count."""

    def content(tree):
        return {path: ({file: digest for file, (_, _, digest) in files.items()}, small) for path, (files, small) in tree.items()}

    one, other = content(a), content(b)
    return {path for path in {*one, *other} if one.get(path) != other.get(path)}
