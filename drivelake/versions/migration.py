"""Moving versions from one store to another. Belongs here: replaying a history with every version's bytes as they were.

Never here: which stores those are, the declaration, what a version means.

Commits get new ids, for a commit names its parents and its store; versions keep their digests, for a manifest is copied byte
for byte. What points at versions (inputs, statements, evidence) names digests, so nothing of it changes.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from drivelake.errors import Conflict, NotFound, StoreError
from drivelake.manifest import ASSETS
from drivelake.versions.store import (
    MAIN,
    MANIFEST,
    TOMBSTONE,
    VERSION_TRAILER,
    WITHDRAWALS,
    VersionStore,
    publish_branch,
)

__all__ = ["Moved", "migrate"]

ORIGIN, MADE = "Drivelake-Migrated-From", "Drivelake-Made"  # trailers: the commit it was, and when that was made


class Moved(NamedTuple):
    """What a migration did.

    Attributes:
        versions: versions of the source's history, whether they were copied now or by an earlier try.
        copied: those copied now.
        tags: tags of the source, all of them in the target now.
        without_bytes: ``asset/partition`` of what was copied now without its files: collected or withdrawn before.
    """

    versions: int
    copied: int
    tags: int
    without_bytes: tuple[str, ...]


def migrate(
    source: VersionStore,
    target: VersionStore,
    scratch: Path,
    tell: Callable[[str], None] = lambda _: None,
    may_lack: Callable[[str, str], bool] = lambda _path, _version: False,
) -> Moved:
    """Bring every version of the source's main, in the order they were made, and every tag into the target.

    Interrupted anywhere, it goes on when it is run again: what the target's history holds already is passed over. The source
    is only read. At the end main and each tag of both hold the same versions, or this raises.

    Args:
        source: what is moved; nobody may publish into it meanwhile, which is checked at the end.
        target: an empty store, or one that an earlier try began to fill.
        scratch: an empty folder, best on the file system of the source: files are linked then, not copied.
        tell: hears what is going on.
        may_lack: whether the files of a path's version may be gone: then its manifest alone is moved. Of all others every
            file has to be there.

    Raises:
        Conflict: the source moved on meanwhile, or the target holds versions that do not come from it.
        StoreError: files are gone that should not be.
    """
    start = source.resolve(MAIN)
    entries = [entry for entry in source.history(start) if VERSION_TRAILER in entry.metadata][::-1]
    known = {entry.metadata[ORIGIN]: entry.commit for entry in target.history(MAIN) if ORIGIN in entry.metadata}
    _only_ours(target, known)
    move = _Move(source, target, scratch, may_lack)
    copied = 0
    for number, entry in enumerate(entries, start=1):
        path, _, version = entry.metadata[VERSION_TRAILER].partition(" ")
        if entry.commit in known:
            continue
        tell(f"{number} of {len(entries)}: {path} {version[:12]}")
        metadata = {**entry.metadata, ORIGIN: entry.commit, MADE: entry.time.isoformat()}
        known[entry.commit] = move.bring(entry.commit, [path], MAIN, (entry.message, metadata), into=MAIN)
        copied += 1
    # What no version's commit explains: reverts, withdrawals.
    move.level(start, MAIN, into=MAIN)
    tags = source.tags()
    for name, commit in tags.items():
        move.tag(name, commit, known)
    if source.resolve(MAIN) != start:
        raise Conflict(f"{MAIN} left {start[:12]} while it was moved.", next_step="stop whoever publishes, and run again")
    return Moved(len(entries), copied, len(tags), tuple(move.without_bytes))


@dataclass(frozen=True)
class _Move:
    """From where to where."""

    source: VersionStore
    target: VersionStore
    scratch: Path
    may_lack: Callable[[str, str], bool]
    without_bytes: list[str] = field(default_factory=list)

    def bring(self, ref: str, paths: list[str], base: str, said: tuple[str, Mapping[str, str]], *, into: str | None) -> str:
        """Give paths of the target the content they have at the source's ref, in one commit; gives it."""
        branch = publish_branch(paths[0], "migrate")
        with tempfile.TemporaryDirectory(dir=self.scratch) as room, self.target.hold(paths[0]):
            self.target.branch(branch, at=base)
            try:
                for number, path in enumerate(paths):
                    small = {name: self.source.read(ref, path, name) for name in self.source.list(ref, path)}
                    if small:
                        files = self._files(ref, path, small.get(MANIFEST, b""))
                        self.target.put(branch, path, _linked(files, Path(room) / str(number)), small)
                    else:
                        self.target.remove(branch, path)
                commit = self.target.commit(branch, *said)
                if into is not None:
                    self.target.merge(commit, into)
            finally:
                with suppress(NotFound):
                    self.target.delete_branch(branch)
        return commit

    def _files(self, ref: str, path: str, manifest: bytes) -> Mapping[str, Path]:
        try:
            return self.source.files(ref, path)
        except StoreError:
            if not self.may_lack(path, hashlib.sha256(manifest).hexdigest()):
                raise
            self.without_bytes.append(path)
            return {}

    def level(self, ref: str, at: str, *, into: str | None) -> str:
        """Make the target hold at a branch what the source holds at a ref; gives the commit at which it does."""
        wanted, found = _contents(self.source, ref), _contents(self.target, at)
        paths = sorted(path for path in {*wanted, *found} if wanted.get(path) != found.get(path))
        if not paths:
            return self.target.resolve(at)
        made = next(iter(self.source.history(ref)))
        said = (f"As commit {made.commit[:12]} had it", {ORIGIN: made.commit, MADE: made.time.isoformat()})
        commit = self.bring(ref, paths, at, said, into=into)
        if _contents(self.target, commit if into is None else into) != wanted:
            raise StoreError(
                "The target does not hold what was put there.", next_step="run again; if it stays so, keep the source"
            )
        return commit

    def tag(self, name: str, commit: str, known: Mapping[str, str]) -> None:
        """Set a tag on a commit of the target that holds exactly what the source's tag names."""
        origin = next((e for e in self.source.history(commit) if e.commit in known), None)
        exact = self.level(commit, self.target.resolve(MAIN) if origin is None else known[origin.commit], into=None)
        stands = self.target.tags().get(name)
        if stands is None or (stands != exact and _contents(self.target, stands) != _contents(self.source, commit)):
            self.target.tag(name, exact, expected=stands)


def _only_ours(target: VersionStore, known: Mapping[str, str]) -> None:
    strange = next((e for e in target.history(MAIN) if VERSION_TRAILER in e.metadata and ORIGIN not in e.metadata), None)
    if strange is not None:
        raise Conflict(
            f"The target holds {strange.metadata[VERSION_TRAILER].split()[0]} (commit {strange.commit[:12]}), which was not "
            f"moved there; {len(known)} versions were.",
            next_step="name an empty store",
        )


def _contents(store: VersionStore, ref: str) -> dict[str, str]:
    """SHA-256 of what describes each path; a manifest names every other byte by its digest."""
    commit = store.resolve(ref)
    files = [*((asset, MANIFEST) for asset in ASSETS), (WITHDRAWALS, TOMBSTONE)]
    return {
        f"{asset}/{partition}": hashlib.sha256(raw).hexdigest()
        for asset, file in files
        for partition, raw in store.read_each(commit, asset, file)
    }


def _linked(files: Mapping[str, Path], folder: Path) -> Path:
    """A folder of these files, by hard link where the file system allows it."""
    folder.mkdir()
    for name, file in files.items():
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        try:
            os.link(file, place)
        except OSError:
            shutil.copyfile(file, place)
    return folder
