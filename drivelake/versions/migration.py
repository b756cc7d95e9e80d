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
    HistoryEntry,
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
    """

    versions: int
    copied: int
    tags: int


def migrate(source: VersionStore, target: VersionStore, scratch: Path, tell: Callable[[str], None] = lambda _: None) -> Moved:
    """Bring every version of the source's main, in the order they were made, and every tag into the target.

    Interrupted anywhere, it goes on when it is run again: what the target's history holds already is passed over. The source
    is only read. At the end main and each tag of both hold the same versions, or this raises.

    Args:
        source: what is moved; nobody may publish into it meanwhile, which is checked at the end.
        target: an empty store, or one that an earlier try began to fill.
        scratch: an empty folder, best on the file system of the source: files are linked then, not copied.
        tell: hears what is going on.

    Raises:
        Conflict: the source moved on meanwhile, or the target holds versions that do not come from it.
    """
    start = source.resolve(MAIN)
    entries = [entry for entry in source.history(start) if VERSION_TRAILER in entry.metadata][::-1]
    known = {entry.metadata[ORIGIN]: entry.commit for entry in target.history(MAIN) if ORIGIN in entry.metadata}
    _only_ours(target, known)
    copied = 0
    for number, entry in enumerate(entries, start=1):
        path, _, version = entry.metadata[VERSION_TRAILER].partition(" ")
        if entry.commit in known:
            continue
        tell(f"{number} of {len(entries)}: {path} {version[:12]}")
        metadata = {**entry.metadata, ORIGIN: entry.commit, MADE: entry.time.isoformat()}
        known[entry.commit] = _bring(source, entry.commit, target, [path], MAIN, (entry.message, metadata), scratch)
        copied += 1
    # What no version's commit explains: reverts, withdrawals.
    _level(source, start, target, MAIN, scratch)
    tags = source.tags()
    for name, commit in tags.items():
        _tag(source, commit, target, name, known, scratch)
    if source.resolve(MAIN) != start:
        raise Conflict(f"{MAIN} left {start[:12]} while it was moved.", next_step="stop whoever publishes, and run again")
    return Moved(len(entries), copied, len(tags))


def _only_ours(target: VersionStore, known: Mapping[str, str]) -> None:
    strange = next((e for e in target.history(MAIN) if VERSION_TRAILER in e.metadata and ORIGIN not in e.metadata), None)
    if strange is not None:
        raise Conflict(
            f"The target holds {strange.metadata[VERSION_TRAILER].split()[0]} (commit {strange.commit[:12]}), which was not "
            f"moved there; {len(known)} versions were.",
            next_step="name an empty store",
        )


def _bring(
    source: VersionStore,
    ref: str,
    target: VersionStore,
    paths: list[str],
    base: str,
    said: tuple[str, Mapping[str, str]],
    scratch: Path,
    into: str | None = MAIN,
) -> str:
    """Give paths of the target the content they have at the source's ref, in one commit; gives it."""
    branch = publish_branch(paths[0], "migrate")
    with tempfile.TemporaryDirectory(dir=scratch) as room, target.hold(paths[0]):
        target.branch(branch, at=base)
        try:
            for number, path in enumerate(paths):
                small = {name: source.read(ref, path, name) for name in source.list(ref, path)}
                if small:
                    target.put(branch, path, _linked(source.files(ref, path), Path(room) / str(number)), small)
                else:
                    target.remove(branch, path)
            commit = target.commit(branch, *said)
            if into is not None:
                target.merge(commit, into)
        finally:
            with suppress(NotFound):
                target.delete_branch(branch)
    return commit


def _level(source: VersionStore, ref: str, target: VersionStore, at: str, scratch: Path, into: str | None = MAIN) -> str:
    """Make the target hold at a branch what the source holds at a ref; gives the commit at which it does."""
    wanted, found = _contents(source, ref), _contents(target, at)
    paths = sorted(path for path in {*wanted, *found} if wanted.get(path) != found.get(path))
    if not paths:
        return target.resolve(at)
    made = next(iter(source.history(ref)))
    said = (f"As commit {made.commit[:12]} had it", {ORIGIN: made.commit, MADE: made.time.isoformat()})
    commit = _bring(source, ref, target, paths, at, said, scratch, into)
    if _contents(target, commit if into is None else into) != wanted:
        raise StoreError("The target does not hold what was put there.", next_step="run again; if it stays so, keep the source")
    return commit


def _tag(source: VersionStore, commit: str, target: VersionStore, name: str, known: Mapping[str, str], scratch: Path) -> None:
    """Set a tag on a commit of the target that holds exactly what the source's tag names."""
    origin = next((e for e in source.history(commit) if e.commit in known), None)
    near = _commit_of(known, origin, target)
    exact = _level(source, commit, target, near, scratch, into=None)
    stands = target.tags().get(name)
    if stands is None or (stands != exact and _contents(target, stands) != _contents(source, commit)):
        target.tag(name, exact, expected=stands)


def _commit_of(known: Mapping[str, str], origin: HistoryEntry | None, target: VersionStore) -> str:
    return target.resolve(MAIN) if origin is None else known[origin.commit]


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
