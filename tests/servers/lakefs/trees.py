"""Trees of the lakeFS stand-in: entries, trees of entries, differences, merging by object, listing. Pure data.

Never here: branches and commits (history.py, model.py), bytes (blocks.py), HTTP.

What counts as one content is lakeFS' rule: size, checksum, user metadata and content type. The physical address is no part
of it, so the same bytes uploaded again are no change; a multipart upload carries another checksum and is one.
"""

from __future__ import annotations

import bisect
import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple


class Failure(Exception):
    """What the server refuses: the status and the message of lakeFS."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status} {message}")
        self.status = status
        self.message = message


@dataclass(frozen=True)
class Entry:
    """One object: where its bytes are and what they are; times in seconds since the epoch."""

    address: str
    checksum: str
    size: int
    mtime: int
    content_type: str = "application/octet-stream"
    metadata: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def identity(self) -> str:
        """What lakeFS compares objects by."""
        text = json.dumps([self.size, self.checksum, sorted(self.metadata.items()), self.content_type])
        return hashlib.sha256(text.encode()).hexdigest()


class Tree:
    """Objects by path, never changed. Its id follows from its content alone, whatever way it was reached."""

    def __init__(self, entries: Mapping[str, Entry] | None = None, total: int | None = None) -> None:
        self.entries: Mapping[str, Entry] = entries or {}
        self._total = sum(_weight(path, entry) for path, entry in self.entries.items()) if total is None else total

    @property
    def id(self) -> str:
        """64 hex digits. A sum of digests, so that a change of one path costs one digest, not the whole tree."""
        return f"{self._total % 2**256:064x}"

    @cached_property
    def paths(self) -> list[str]:
        return sorted(self.entries)

    def get(self, path: str) -> Entry | None:
        return self.entries.get(path)

    def changed(self, changes: Mapping[str, Entry | None], *, addresses: bool = False) -> Tree:
        """This tree with entries put, or taken away (None). The same tree when nothing differs.

        An entry of the same content stands as it is, unless ``addresses`` asks for the new one all the same.
        """
        real = {path: new for path, new in changes.items() if addresses or not same(self.entries.get(path), new)}
        if not real:
            return self
        entries, total = dict(self.entries), self._total
        for path, new in real.items():
            old = entries.pop(path, None)
            total -= _weight(path, old) if old else 0
            total += _weight(path, new) if new else 0
            if new is not None:
                entries[path] = new
        tree = Tree(entries, total)
        if "paths" in self.__dict__ and entries.keys() == self.entries.keys():
            tree.paths = self.paths  # sorting 100,000 paths again would be most of a commit's cost
        return tree


def _weight(path: str, entry: Entry) -> int:
    return int.from_bytes(hashlib.sha256(f"{path}\0{entry.identity}".encode()).digest(), "big")


def same(one: Entry | None, other: Entry | None) -> bool:
    if one is None or other is None:
        return one is other
    return one is other or one.identity == other.identity


class Difference(NamedTuple):
    """One path that differs; ``entry`` is the right side, or the left one where the right has none."""

    kind: str
    path: str
    entry: Entry | None


def differences(left: Tree, right: Tree) -> Iterator[Difference]:
    """What differs on the right, by path, sorted: added, removed, changed."""
    touched = {path for path, entry in left.entries.items() if not same(entry, right.get(path))}
    touched |= right.entries.keys() - left.entries.keys()
    for path in sorted(touched):
        old, new = left.get(path), right.get(path)
        if new is None:
            yield Difference("removed", path, old)
        else:
            yield Difference("added" if old is None else "changed", path, new)


def three_dots(base: Tree, left: Tree, right: Tree) -> Iterator[Difference]:
    """What the right changed since ``base`` and the left has not; ``conflict`` where the left made something else of it."""
    for change in differences(base, right):
        mine, theirs, before = left.get(change.path), right.get(change.path), base.get(change.path)
        if same(mine, theirs):
            continue
        yield change if same(mine, before) else Difference("conflict", change.path, change.entry)


def merged(base: Tree, source: Tree, destination: Tree, *, strategy: str | None, allow_empty: bool) -> Tree:
    """The destination with what changed on the source since ``base``, object by object.

    Raises:
        Failure: 400 when nothing changed on the source; 409 when both sides changed one object to different content.
    """
    if source.id == base.id and not allow_empty:
        raise Failure(400, "no changes")
    if destination.id == base.id:
        return source
    taken: dict[str, Entry | None] = {}
    for change in three_dots(base, destination, source):
        if change.kind == "conflict" and strategy is None:
            raise Failure(409, "conflict found")
        if change.kind != "conflict" or strategy == "source-wins":
            taken[change.path] = source.get(change.path)
    return destination.changed(taken)


class Listed(NamedTuple):
    """One line of a listing: an object, or with ``prefix`` a common prefix."""

    path: str
    prefix: bool


def listed(paths: list[str], *, prefix: str, delimiter: str, after: str) -> Iterator[Listed]:
    """Sorted paths below a prefix and after a path, cut at the delimiter behind the prefix."""
    at = bisect.bisect_left(paths, prefix)
    if after:
        at = max(at, bisect.bisect_right(paths, after))
    previous = after if delimiter and after.endswith(delimiter) else None
    for path in paths[at:]:
        if not path.startswith(prefix):
            return
        head, found, _ = path[len(prefix) :].partition(delimiter) if delimiter else ("", "", "")
        if not found:
            yield Listed(path, prefix=False)
        elif (common := prefix + head + delimiter) != previous:
            previous = common
            yield Listed(common, prefix=True)
