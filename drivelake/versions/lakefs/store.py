"""The version store of a team, on a lakeFS server. Belongs here: a repository as one VersionStore.

Never here: how the server is asked (``lakefs.calls``), merging, tags, transfers, collecting: each has a module of its own.

    <asset>/<partition>/manifest.json, data/...    on the server, on main and on the branch of each publisher
    <cache>/objects/<2 digits>/<sha256>            this machine's copies of files, by content, read-only; safe to delete
    <cache>/locks/, described/, sweep.json         who publishes what just now; what collecting knows; safe to delete at rest

lakeFS stages on the server, for everybody who writes to a branch. So a branch is one publisher's, and a commit of what another
store object staged on it is refused. History shows the commit that a publisher made and the merge that brought it to main; the
merge carries the same metadata for the repository's hooks, and is shown without. What lakeFS says of an object (its size, its
checksum, the SHA-256 that the sender gave) stands in its server's database: nothing here can compute it from the bucket alone.
"""

from __future__ import annotations

import builtins
import os
from collections import defaultdict, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Literal

from lakefs_sdk.models.commit_creation import CommitCreation

from drivelake.errors import Conflict, Denied, NotFound, StoreError
from drivelake.versions.lakefs.calls import PATIENCE_S, THREADS, Server
from drivelake.versions.lakefs.checks import check, strangers
from drivelake.versions.lakefs.errors import NoChanges
from drivelake.versions.lakefs.files import Files, check_small, same
from drivelake.versions.lakefs.garbage import DAY_S, Garbage
from drivelake.versions.lakefs.history import entry_of, history
from drivelake.versions.lakefs.merging import Merging
from drivelake.versions.lakefs.refs import COMMIT_ID, LOCK, Refs, check_branch, check_tag, is_tag
from drivelake.versions.lakefs.setup import (
    ACTIONS,
    action_files,
    keep_committed,
    make_repository,
    protect_main,
    require_repository,
    shipped_actions,
)
from drivelake.versions.lakefs.tags import LEASE_S, Tags
from drivelake.versions.lakefs.transfer import DIRECT_BYTES, PART_BYTES, Hashed, Transfer
from drivelake.versions.lakefs.tree import DATA, Tree, path_of
from drivelake.versions.locks import exclusive
from drivelake.versions.store import (
    MAIN,
    PUBLISH,
    VERSION_TRAILER,
    Address,
    HistoryEntry,
    Stored,
    check_path,
)
from drivelake.versions.trailers import join_message

__all__ = ["LakeFSStore"]

READ_CACHE = 256  # small files of commits that are kept in memory


class LakeFSStore:
    """A VersionStore in a repository of a lakeFS server; any number of processes and machines may open it at once.

    Credentials come from LAKEFS_ACCESS_KEY_ID and LAKEFS_SECRET_ACCESS_KEY alone.

    Args:
        url: the server, with or without ``/api/v1``.
        repository: its name there.
        cache: a folder of this machine, made when needed.
        s3_endpoint: of the S3 behind the server where it is not that of AWS; for ``stored`` and ``discard`` alone.
        patience_s: how long a call is tried again before it is Unavailable.
        lease_s: after how long a mover of tags that says nothing is taken for dead.
        young_s: what belongs to no commit and was written less long ago is never collected.
        addresses_as: what ``addresses`` gives: ``http`` signed addresses, ``s3`` the storage's own.
        part_bytes: what is larger moves in parts; the same for everybody who writes to the repository.
        direct_bytes: what is no larger goes through the server.

    Raises:
        NotFound: there is no such repository.
        Denied: credentials are missing, or not known to the server.
        Unavailable: the server does not answer.
    """

    def __init__(
        self,
        url: str,
        repository: str,
        cache: Path,
        *,
        s3_endpoint: str | None = None,
        patience_s: float = PATIENCE_S,
        lease_s: float = LEASE_S,
        young_s: float = DAY_S,
        addresses_as: Literal["http", "s3"] = "http",
        part_bytes: int = PART_BYTES,
        direct_bytes: int = DIRECT_BYTES,
    ) -> None:
        self.server = Server(url, repository, patience_s=patience_s)
        require_repository(self.server)
        self.cache = cache.absolute()
        self._refs = Refs(self.server)
        self._tags = Tags(self._refs, lease_s=lease_s)
        self._tree = Tree(self.server)
        self._transfer = Transfer(self.server, part_bytes=part_bytes, direct_bytes=direct_bytes)
        self._files = Files(self._refs, self._tree, self._transfer, self.cache, addresses_as=addresses_as, endpoint=s3_endpoint)
        self._merging = Merging(self._refs, self._tree, self._files.restoring)
        self._garbage = Garbage(
            self._refs, self._tree, self._tags, self.cache, self._files.forget, endpoint=s3_endpoint, young_s=young_s
        )
        self._staged: defaultdict[str, set[str]] = defaultdict(set)
        self._read = lru_cache(maxsize=READ_CACHE)(self._transfer.read)

    @classmethod
    def create(
        cls,
        url: str,
        repository: str,
        cache: Path,
        *,
        storage_namespace: str | None = None,
        s3_endpoint: str | None = None,
        patience_s: float = PATIENCE_S,
    ) -> LakeFSStore:
        """Make the repository and protect its main, or open the one that is there; any number may do so at once."""
        server = Server(url, repository, patience_s=patience_s)
        make_repository(server, storage_namespace)
        with suppress(Denied):  # who only joins may not look at the rules; install_rules() says so
            protect_main(server)
        return cls(url, repository, cache, s3_endpoint=s3_endpoint, patience_s=patience_s)

    # --- branches

    def resolve(self, ref: str) -> str:
        """See VersionStore; expressions such as ``main~1`` are none."""
        if COMMIT_ID.fullmatch(ref):
            return self._refs.by_id(ref)
        found = None if ref.startswith(LOCK) else self._refs.head(ref)
        if found is None and is_tag(ref):
            found = self._tags.target(ref)
        if found is None:
            raise NotFound(
                f"No branch, tag or commit {ref!r} in {self.server.repository!r}.",
                next_step="drivelake tag lists the tags, drivelake log the commits",
            )
        return found

    def branches(self) -> Mapping[str, str]:
        """See VersionStore."""
        return {name: commit for name, commit in sorted(self._refs.heads().items()) if not name.startswith(LOCK)}

    def branch(self, name: str, at: str = MAIN) -> None:
        """See VersionStore."""
        if not self._refs.create(check_branch(name), self.resolve(at)):
            stands = self._refs.head(name)
            raise Conflict(
                f"Branch {name!r} is there already, at {stands[:12]}." if stands else f"A tag is named {name!r} already.",
                next_step="delete it, or choose another name",
            )

    def delete_branch(self, name: str) -> None:
        """See VersionStore; main stays."""
        _not_main(name)
        self._staged.pop(name, None)
        if name.startswith(LOCK) or not self._refs.delete(name):
            raise _no_branch(name)

    def put(self, branch: str, path: str, folder: Path, small: Mapping[str, bytes]) -> None:
        """See VersionStore; what the branch holds at this path with the same SHA-256 is not sent again.

        The files become this machine's cache as well, by hard link where they stand on one file system with it.
        """
        self._writable(branch)
        check_path(path)
        check_small(small)
        sent = self._files.hashed(folder)
        self._staged[branch].add(path)
        self._files.stage(branch, path, folder, sent, small)

    def remove(self, branch: str, path: str) -> None:
        """See VersionStore."""
        self._writable(branch)
        there = self._tree.version(branch, check_path(path))
        if not there:
            raise NotFound(f"Branch {branch!r} holds no {path}.", next_step="look at what it holds with list()")
        self._staged[branch].add(path)
        self._files.delete(branch, [f"{path}/{name}" for name in there])

    def commit(self, branch: str, message: str, metadata: Mapping[str, str]) -> str:
        """See VersionStore."""
        head = self._writable(branch)
        join_message(message, metadata)  # refuses what the other store could not read back
        if branch not in self._staged:
            return head
        foreign = sorted({path_of(name) or name for name in self._tree.staged(branch)} - self._staged[branch])
        if foreign:
            raise Conflict(f"{foreign[0]} on branch {branch!r} was staged by another.", next_step="work on a branch of your own")
        made = self._commit(branch, head, message, metadata)
        self._staged.pop(branch, None)
        return made

    def _commit(self, branch: str, head: str, message: str, metadata: Mapping[str, str]) -> str:
        server = self.server
        wanted = CommitCreation(message=message, metadata=dict(metadata), allow_empty=False, date=None)

        def lost() -> str | None:
            now = self._refs.head(branch)
            if now is None or now == head:
                return None
            entry = entry_of(self._refs.commit(now))
            return now if (entry.message, dict(entry.metadata)) == (message, dict(metadata)) else None

        try:
            return server.call(
                f"COMMIT on {branch}",
                lambda: str(server.sdk.commits_api.commit(server.repository, branch, wanted, **server.limits).id),
                lost=lost,
            )
        except NoChanges:
            return self._refs.head(branch) or head

    def merge(self, source: str, into: str = MAIN) -> str:
        """See VersionStore; every merge makes a commit, as there is no fast-forward."""
        return self._merging.merge(self.resolve(source), into)

    def revert(self, commit: str, into: str = MAIN) -> str:
        """See VersionStore."""
        return self._merging.revert(self.resolve(commit), into)

    @contextmanager
    def hold(self, path: str) -> Iterator[None]:
        """See VersionStore."""
        with exclusive(self.cache / "locks" / sha256(path.encode()).hexdigest()[:20]):
            yield

    def _writable(self, branch: str) -> str:
        _not_main(branch)
        head = None if branch.startswith(LOCK) else self._refs.head(branch)
        if head is None:
            raise _no_branch(branch)
        return head

    # --- reading

    def list(self, ref: str, path: str = "") -> tuple[str, ...]:
        """See VersionStore."""
        prefix = f"{path}/" if path else ""
        names = {name.rstrip("/") for name in self._tree.names(self.resolve(ref), prefix)}
        hidden = {DATA} if path.count("/") == 1 else set()
        return tuple(sorted(name for name in names - hidden if path or not name.startswith((".", "_"))))

    def read(self, ref: str, path: str, file: str) -> bytes:
        """See VersionStore."""
        commit = self.resolve(ref)
        try:
            return self._read(commit, f"{check_path(path)}/{file}")
        except NotFound as missing:
            there = ", ".join(self.list(commit, path)) or "nothing"
            raise NotFound(
                f"{path} at {ref} has no {file!r}; it holds {there}.", next_step="check the path and the ref"
            ) from missing

    def read_each(self, ref: str, asset: str, file: str) -> Iterator[tuple[str, bytes]]:
        """See VersionStore; a partition without that file is left out."""
        commit = self.resolve(ref)

        def one(partition: str) -> bytes | None:
            with suppress(NotFound):
                return self._transfer.read(commit, f"{asset}/{partition}/{file}")
            return None

        with ThreadPoolExecutor(THREADS) as pool:
            ahead: deque[tuple[str, Future[bytes | None]]] = deque()
            for partition in self.list(commit, asset):
                ahead.append((partition, pool.submit(one, partition)))
                if len(ahead) >= 4 * THREADS:
                    yield from _given(*ahead.popleft())
            while ahead:
                yield from _given(*ahead.popleft())

    def files(self, ref: str, path: str) -> Mapping[str, Path]:
        """See VersionStore."""
        return self._files.local(self.resolve(ref), check_path(path))

    def addresses(self, ref: str, path: str) -> Mapping[str, Address]:
        """See VersionStore, and ``lakefs.files.Files.addresses`` for a server that can give none."""
        return self._files.addresses(self.resolve(ref), check_path(path))

    def history(self, ref: str = MAIN, path: str | None = None) -> Iterator[HistoryEntry]:
        """See VersionStore; a merge is shown without metadata, and never as a change of a path."""
        yield from history(self.server, self.resolve(ref), path)

    def find(self, path: str, version: str, ref: str = MAIN) -> str | None:
        """See VersionStore."""
        wanted = f"{path} {version}"
        return next((entry.commit for entry in self.history(ref, path) if entry.metadata.get(VERSION_TRAILER) == wanted), None)

    def diff(self, a: str, b: str) -> tuple[str, ...]:
        """See VersionStore; the server compares sizes, checksums and SHA-256 as they were given when the bytes were sent."""
        return tuple(self._tree.changed_paths(self.resolve(a), self.resolve(b)))

    def link(self, commit: str) -> str:
        """See VersionStore: the commit's page in the server's own web pages."""
        return f"{self.server.url}/repositories/{self.server.repository}/commits/{commit}"

    # --- tags

    def tags(self) -> Mapping[str, str]:
        """See VersionStore."""
        return self._tags.targets()

    def tag(self, name: str, ref: str, expected: str | None = None) -> None:
        """See VersionStore; a tag that is at ``ref`` already is no conflict."""
        check_tag(name)
        self._tags.move(name, self.resolve(ref), None if expected is None else self.resolve(expected))

    def untag(self, name: str, expected: str) -> None:
        """See VersionStore."""
        self._tags.move(check_tag(name), None, self.resolve(expected))

    # --- what the bytes are kept in

    def objects(self, ref: str, path: str) -> frozenset[str]:
        """See VersionStore: addresses in the repository's storage."""
        data = self._files.data(self.resolve(ref), check_path(path)).values()
        self._garbage.contents.update({held.address: held.sha256 for held in data if held.sha256})
        return frozenset(held.address for held in data)

    def stored(self) -> Iterator[Stored]:
        """See VersionStore; what belongs to no commit and is younger than ``young_s`` is left out.

        Raises:
            StoreError: the repository's bytes are not on S3; begins with SKIPPED, and says how lakeFS collects itself.
        """
        yield from self._garbage.stored()

    def collecting(self) -> AbstractContextManager[None]:
        """See VersionStore; a lock on the server, for all machines."""
        return self._garbage.collecting()

    def discard(self, ids: Iterable[str]) -> None:
        """See VersionStore; with the credentials of the storage, as lakeFS has no call for it. Raises as ``stored``."""
        self._garbage.discard(ids)

    def sweep(self, older_than_s: float) -> builtins.list[str]:
        """See ``lakefs.garbage.Garbage.sweep``."""
        return self._garbage.sweep(older_than_s)

    # --- looking after itself

    def check(self, ref: str = MAIN) -> int:
        """See VersionStore, and ``lakefs.checks.check`` for what that can tell here, and what not."""
        return check(self._tree, self._transfer, self.resolve(ref))

    def strangers(self, ref: str = MAIN) -> builtins.list[str]:
        """See VersionStore: objects that belong to no path, folders without a manifest, then branches that it does not make."""
        return strangers(self._tree, self.resolve(ref), self.branches())

    # --- what only this backend can be asked

    def install_rules(self) -> None:
        """Give the repository its rules: protected main, the pre-merge hook, and nothing committed for lakeFS' own collector.

        Raises:
            Denied: these credentials may not.
        """
        protect_main(self.server)
        self.install_actions(shipped_actions())
        keep_committed(self.server)

    def install_actions(self, files: Mapping[str, bytes]) -> str:
        """Put definitions of hooks, by file name, where lakeFS looks for them, and give main's head."""
        objects = {name: Hashed.of(data) for name, data in action_files(files).items()}
        head = self.resolve(MAIN)
        there = {held.path: held for held in self._tree.held(head, ACTIONS)}
        fresh = {name: what for name, what in objects.items() if name not in there or not same(there[name], what)}
        if not fresh:
            return head
        branch = f"{PUBLISH}actions-{os.urandom(4).hex()}"
        self.branch(branch, at=head)
        try:
            self._transfer.send(branch, fresh)
            return self.merge(self._commit(branch, head, "Hooks of the repository", {}))
        finally:
            self.delete_branch(branch)


def _not_main(branch: str) -> None:
    if branch == MAIN:
        raise StoreError(f"{MAIN} is written by merge alone.", next_step="work on a branch of its own and merge it")


def _no_branch(name: str) -> NotFound:
    return NotFound(f"There is no branch {name!r}.", next_step="start it with branch()")


def _given(partition: str, reading: Future[bytes | None]) -> Iterator[tuple[str, bytes]]:
    found = reading.result()
    if found is not None:
        yield partition, found
