"""What a lakeFS repository keeps that nobody needs any more. Belongs here: listing and removing bytes, abandoned branches.

Never here: deciding what is needed (see drivelake.versions.retention).

The bytes of versions lie in the repository's storage namespace, below ``data/``, beside those of manifests and of whatever is
staged; lakeFS' own records lie below ``_lakefs/``. Given and removed is only what was once a file of a version, or what was
written more than a day ago and belongs to no commit and is staged on no branch.

Publishers and collectors keep out of each other's way by order. A collector takes its lock, marks from all refs, removes, lets
go. A publisher commits on its branch (a ref), waits while the lock is held, sees that the bytes it relies on are still there,
and stores what is not once more where it was (``lakefs.restoring``); only then it merges. So what was committed before the lock
was taken is marked, and what is committed later is looked at.
"""

from __future__ import annotations

import json
import secrets
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from drivelake.errors import Conflict, NotFound, StoreError
from drivelake.versions.lakefs.refs import GC_LEASE_S, GC_LOCK, GC_NOTE, LOCK, Lock, LockLost, Refs
from drivelake.versions.lakefs.restoring import storage_bucket
from drivelake.versions.lakefs.tags import TAG_LOCK, Tags
from drivelake.versions.lakefs.tree import DATA, Tree, path_of
from drivelake.versions.store import MAIN, PUBLISH, Stored

if TYPE_CHECKING:
    from drivelake.versions.s3.bucket import Bucket

__all__ = ["DAY_S", "Garbage"]

DAY_S = 24 * 3600.0


class Described(NamedTuple):
    """A file of a version, as its commit has it; what every record of a commit on this machine holds."""

    size: int
    sha256: str | None


class Garbage:
    """Collection in one repository.

    Args:
        refs: whose.
        tree: the same repository's.
        tags: the same repository's.
        cache: a folder of this machine, for what is known of commits (they never change) and of branches seen before.
        endpoint: of an S3 other than that of AWS.
        forget: takes the SHA-256 of bytes that this machine shall keep no copy of.
        young_s: what belongs to nothing and is younger is never given by ``stored``.
        lease_s: a collector that has not renewed its lock for so long is taken for dead.
    """

    def __init__(
        self,
        refs: Refs,
        tree: Tree,
        tags: Tags,
        cache: Path,
        forget: Callable[[str], None],
        *,
        endpoint: str | None = None,
        young_s: float = DAY_S,
        lease_s: float = GC_LEASE_S,
    ) -> None:
        self._refs, self._tree, self._tags, self._server = refs, tree, tags, refs.server
        self._cache, self._endpoint = cache, endpoint
        self._forget = forget
        self._young_s, self._lease_s = young_s, lease_s
        self._renewed_s: float | None = None  # monotonic; None while this object does not collect
        self.contents: dict[str, str] = {}  # SHA-256 by address, of what this object has met

    # --- bytes

    def _bucket(self) -> Bucket:
        bucket = storage_bucket(self._server, self._endpoint)
        if bucket is None:
            raise StoreError(
                f"SKIPPED: the bytes of {self._server.repository!r} are not on S3, and nothing else is collected from here.",
                next_step="let lakeFS collect: set rules for its gc (lakectl gc set-config), and run its gc job",
            )
        return bucket

    def stored(self) -> Iterator[Stored]:
        """See ``VersionStore.stored``. Raises StoreError where the storage is no S3; it begins with SKIPPED."""
        bucket = self._bucket()
        kept, data = self._known()
        self.contents.update({address: one.sha256 for address, one in data.items() if one.sha256})
        now = bucket.now()
        for head in bucket.list(DATA):
            address, age_s = bucket.uri(head.key), (now - head.modified).total_seconds()
            if address in data or (address not in kept and age_s >= self._young_s):
                yield Stored(address, head.size, age_s)

    def discard(self, ids: Iterable[str]) -> None:
        """See ``VersionStore.discard``; this machine's copies go as well.

        Raises:
            StoreError: as ``stored``; or this object does not collect, or its lock was not renewed in time.
        """
        bucket = self._bucket()
        wanted, prefix = list(ids), f"{bucket.url}/"
        foreign = next((address for address in wanted if not address.startswith(f"{prefix}{DATA}/")), None)
        if foreign is not None:
            raise StoreError(f"{foreign!r} holds no version's bytes in {bucket.url}.", next_step="pass what stored() gave")
        self._require()
        bucket.delete(address.removeprefix(prefix) for address in wanted)
        for address in wanted:
            if address in self.contents:
                self._forget(self.contents[address])

    def _known(self) -> tuple[set[str], dict[str, Described]]:
        """What commits and branches hold: addresses that are nobody's to collect, and the files of versions by address."""
        server, log = self._server, self._server.sdk.refs_api
        branches = self._refs.heads()
        seen: set[str] = set()
        kept: set[str] = set()
        data: dict[str, Described] = {}
        for head in sorted({*branches.values(), *self._tags.targets().values()}):
            if head in seen:
                continue  # and so are its ancestors
            for commit in server.pages("LOG", lambda head=head, **given: log.log_commits(server.repository, head, **given)):
                known = commit.id in seen
                seen.add(str(commit.id))
                if len(commit.parents) == 1 and not known:
                    beside, files = self._described_by(str(commit.id), str(commit.parents[0]))
                    kept |= beside
                    data |= files
        for branch in branches:
            for name in self._tree.staged(branch):
                kept |= {held.address for held in self._tree.held(branch, name) if held.path == name}
        return kept, data

    def _described_by(self, commit: str, parent: str) -> tuple[set[str], dict[str, Described]]:
        """The objects that a commit brought: what describes versions, and their files. Kept, as a commit never changes."""
        record = self._cache / "described" / commit[:2] / commit
        if record.exists():
            read = json.loads(record.read_text())
            return set(read["beside"]), {address: Described(*given) for address, given in read["data"].items()}
        changed = list(self._tree.changed(parent, commit))
        paths = {path for name in changed if (path := path_of(name)) is not None}
        beside: set[str] = set()
        data: dict[str, Described] = {}
        for path in sorted(paths):
            for name, held in self._tree.version(commit, path).items():
                if name.startswith(f"{DATA}/"):
                    data[held.address] = Described(held.size, held.sha256)
                else:
                    beside.add(held.address)
        for name in changed:
            if path_of(name) is None:
                beside |= {held.address for held in self._tree.held(commit, name) if held.path == name}
        _write(record, {"beside": sorted(beside), "data": data})
        return beside, data

    @contextmanager
    def collecting(self) -> Iterator[None]:
        """See ``VersionStore.collecting``."""
        began_s = time.monotonic()
        lock = self._refs.take(GC_LOCK, {}) or self._take_over()
        self._renewed_s = began_s
        self._refs.note_collection(ended=False)
        done = threading.Event()
        lost: list[BaseException] = []

        def renew() -> None:
            held = lock
            while not done.wait(self._lease_s / 4):
                began_s = time.monotonic()
                try:
                    self._require()  # held up for too long: publishers took this collector for dead, and renewing heals nothing
                    held = self._refs.write(held, {})
                except StoreError as error:  # said by the thread that collects: when it removes something, and at the end
                    lost.append(error)
                    return
                self._renewed_s = began_s

        keeper = threading.Thread(target=renew, daemon=True)
        keeper.start()
        try:
            self.sweep(DAY_S)  # what killed publishers committed would else be kept for as long as their branches stand
            yield
        finally:
            done.set()
            keeper.join()
            self._renewed_s = None
            if not any(isinstance(error, LockLost) for error in lost):
                self._refs.note_collection(ended=True)
                self._refs.delete(GC_LOCK)
        if lost:
            raise StoreError(f"The lock of garbage collection was lost: {lost[0]}", next_step="run it again") from lost[0]

    def _require(self) -> None:
        """See that this object collects, and that publishers still wait for it."""
        if self._renewed_s is None:
            raise StoreError("Nothing may be removed now: nobody keeps publishers waiting.", next_step="call it in collecting()")
        if time.monotonic() - self._renewed_s > self._lease_s / 2:
            raise StoreError(
                f"{GC_LOCK} was not renewed for {self._lease_s / 2:g} s; publishers may be at work again.",
                next_step="collect again when the server answers",
            )

    def _take_over(self) -> Lock:
        held = self._refs.look(GC_LOCK)
        if held is not None and self._refs.age_s(held) > self._lease_s:
            self._refs.delete(GC_LOCK)
            held = None
        lock = self._refs.take(GC_LOCK, {}) if held is None else None
        if lock is None:
            raise Conflict(
                f"Somebody else collects garbage in {self._server.repository!r} just now.", next_step="run again later"
            )
        return lock

    # --- branches

    def sweep(self, older_than_s: float) -> list[str]:
        """Remove branches that killed publishers left, and finish or undo the tag moves of killed movers.

        A branch's age is that of its newest own commit or staged object, by the server's clock. One that has neither has no
        age; it goes once this machine has seen it unchanged for so long.

        Args:
            older_than_s: what is younger is left alone; longer than any publisher takes between two of its steps.

        Returns:
            Names of the branches removed, sorted.
        """
        now_s = self._server.now().timestamp()
        record = self._cache / "sweep.json"
        before = json.loads(record.read_text()) if record.exists() else {}
        seen: dict[str, list[object]] = {}
        removed = []
        for name, head in self._refs.heads().items():
            if _is_tag_lock(name):
                self._tags.heal(name, older_than_s)
            if not name.startswith((PUBLISH, LOCK)) or name in {GC_LOCK, GC_NOTE}:
                continue
            newest_s = self._newest_s(name, head)
            if newest_s is None:
                known = before.get(name)
                seen[name] = known if known and known[0] == head else [head, now_s]
                newest_s = float(str(seen[name][1]))
            # Two clocks of whole seconds may differ by one.
            if max(0.0, now_s - newest_s) >= older_than_s and not _is_tag_lock(name) and self._refs.delete(name):
                removed.append(name)
                seen.pop(name, None)
        _write(record, seen)
        return sorted(removed)

    def _newest_s(self, branch: str, head: str) -> float | None:
        """When the branch was last worked on, if anything on it tells."""
        server, times = self._server, []
        try:
            base = server.call(
                f"BASE of {branch}",
                lambda: server.sdk.refs_api.find_merge_base(server.repository, head, MAIN, **server.limits),
            )
            if base.base_commit_id != head:
                times.append(float(self._refs.commit(head).creation_date))
            # Of what is staged alone: a staged removal brings no object, and its older neighbours say nothing of the branch.
            staged = set(self._tree.staged(branch))
            below = sorted({path_of(name) or name for name in staged})
            times += [float(held.mtime_s) for path in below for held in self._tree.held(branch, path) if held.path in staged]
        except NotFound:
            return None  # its publisher deleted it just now
        return max(times, default=None)


def _write(record: Path, content: object) -> None:
    record.parent.mkdir(parents=True, exist_ok=True)
    fresh = record.with_name(f"{record.name}.{secrets.token_hex(4)}.new")
    fresh.write_text(json.dumps(content, sort_keys=True))
    fresh.replace(record)


def _is_tag_lock(name: str) -> bool:
    """Whether a branch is the lock of a tag itself, and not the scratch branch that one was made on."""
    return name.startswith(TAG_LOCK) and "-" not in name.removeprefix(TAG_LOCK)
