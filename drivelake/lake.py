"""The lake: one folder with a declaration, a version store, an inbox, evidence and trust. Belongs here: finding,
creating and reading it, publishing into it.

Never here: what the versions mean, how they are made, who signs them.

    <lake>/lakehouse.yaml   the declaration in force
    <lake>/inbox/           drives as they arrive (unless the declaration names another folder)
    <lake>/store/           every asset version: DVC objects and a bare git repository; where the declared store is
                            shared (a bucket, lakeFS), what this machine keeps of it
    <lake>/evidence/        append-only log of signed statements, and its checkpoint
    <lake>/trust/           public keys and the policy; copy them elsewhere to verify against your own copy
    <lake>/keys/            private keys of this lake's runner, logger and log
    <lake>/scratch/         work in progress; nothing in it is a version
    <lake>/catalogue.sqlite what was seen, landed and framed, a drive a row
    <lake>/hashes.sqlite    SHA-256 of large logs of the inbox, by size, times and place, so that they are hashed once
    <lake>/studies.sqlite   Optuna's studies, so that a killed search goes on
    <lake>/runs/            locks of living runs
    <lake>/reports/         copies of evidence reports, for people
    <lake>/dagster/         Dagster's home, and dagster.lock beside it while it is first made
"""

from __future__ import annotations

import fcntl
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING

from drivelake.declaration import Declaration, load_declaration, parse_declaration
from drivelake.errors import DeclarationError, NotFound, StoreError, VerificationFailed
from drivelake.manifest import ASSETS, Input, Manifest, regular_hash
from drivelake.versions import (
    CODE_TRAILER,
    MANIFEST,
    RUN_TRAILER,
    VERSION_TRAILER,
    VersionStore,
    create_store,
    open_store,
    publish,
)
from drivelake.versions.index import VersionIndex
from drivelake.versions.locks import exclusive
from drivelake.withdrawal import OF_A_DRIVE, Withdrawals

if TYPE_CHECKING:
    from drivelake.snapshots.snapshot import Snapshot

__all__ = ["DECLARATION", "LAKE_ENV", "Lake", "Version", "find_lake", "write_declaration"]

LAKE_ENV = "DRIVELAKE_LAKE"
DECLARATION = "lakehouse.yaml"
LOCK = ".lock"
# the trailer that publishing leaves on a commit
PUBLISHED = re.compile(rf"(?P<asset>{'|'.join(ASSETS)})/(?P<partition>[^ ]+) (?P<version>[0-9a-f]{{64}})")


class Files(Mapping[str, Path]):
    """Where each file of a version can be read on this machine; fetched when one is first asked for, not before."""

    def __init__(self, fetch: Callable[[], Mapping[str, Path]]) -> None:
        self._fetch = fetch

    @cached_property
    def _here(self) -> Mapping[str, Path]:
        return self._fetch()

    def __getitem__(self, path: str) -> Path:
        return self._here[path]

    def __iter__(self) -> Iterator[str]:
        return iter(self._here)

    def __len__(self) -> int:
        return len(self._here)


@dataclass(frozen=True)
class Version:
    """An asset version as it stands in the store: its manifest, its commit, and where each file can be read."""

    manifest: Manifest
    commit: str
    files: Mapping[str, Path]

    @property
    def digest(self) -> str:
        """The version, 64 hex digits."""
        return self.manifest.version

    @property
    def name(self) -> str:
        """``asset/partition``."""
        return self.manifest.name

    def as_input(self) -> Input:
        """This version as another manifest names it."""
        return Input(asset=self.manifest.asset, partition=self.manifest.partition, version=self.digest)

    def path(self, relative: str) -> Path:
        """Where a file of this version can be read; the bytes are the store's own, never write to them.

        Raises:
            NotFound: the version has no such file.
        """
        found = self.files.get(relative)
        if found is None:
            raise NotFound(
                f"{self.name} has no file {relative!r}; it holds {len(self.files)} files.", next_step="see its manifest"
            )
        return found

    def require_intact(self) -> None:
        """Rehash every file: what a stage works on is what the manifest names.

        Raises:
            StoreError: names the first file that has other bytes.
        """
        for entry in self.manifest.files:
            found = self.path(entry.path)
            if regular_hash(found) != (entry.bytes, entry.sha256):
                raise StoreError(
                    f"{found} ({self.name}/{entry.path}) does not hold the {entry.bytes} bytes with SHA-256 {entry.sha256[:16]}.",
                    next_step="drivelake verify --all, then restore what it names from a copy",
                )

    def view(self, folder: Path) -> Path:
        """A folder of links that names the files as the manifest does, for readers that want one."""
        for entry in self.manifest.files:
            link = folder / entry.path
            link.parent.mkdir(parents=True, exist_ok=True)
            link.symlink_to(self.path(entry.path).resolve())
        return folder


class Lake:
    """A lake as this machine sees it. Opening reads nothing; every read names the ref it reads at."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
        if not (self.root / DECLARATION).is_file() or not (self.root / "store").is_dir():
            raise NotFound(f"There is no lake at {self.root}.", next_step="drivelake demo makes one, or name another with --lake")

    @classmethod
    def create(cls, root: Path, declaration: str, *, storage_namespace: str | None = None) -> Lake:
        """Make a lake, or open the one that is there; a changed declaration replaces the old one once it is checked.

        Args:
            root: its folder.
            declaration: text of its ``lakehouse.yaml``.
            storage_namespace: lakeFS only: where a new repository keeps its objects.

        Raises:
            DeclarationError: the text cannot be used, or declares another store than the lake has.
        """
        target = root / DECLARATION
        declared = parse_declaration(declaration, where=str(target)).store
        if target.is_file() and (now := load_declaration(target).store) != declared:
            raise DeclarationError(
                f"{target} keeps its versions in {now.describe()}; the new declaration says {declared.describe()}.",
                next_step="drivelake migrate moves a lake to another store, digests unchanged",
            )
        root.mkdir(parents=True, exist_ok=True)
        create_store(declared, root / "store", storage_namespace=storage_namespace)
        for room in ("store", "scratch", "evidence", "trust", "inbox"):
            (root / room).mkdir(exist_ok=True)
        if not target.is_file() or target.read_text(encoding="utf-8") != declaration:
            write_declaration(root, declaration)
        return cls(root)

    @cached_property
    def declaration(self) -> Declaration:
        """The declaration in force when it was first asked for."""
        return load_declaration(self.root / DECLARATION)

    @cached_property
    def store(self) -> VersionStore:
        """The declared version store, opened when it is first asked for."""
        return open_store(self.declaration.store, self.root / "store")

    @property
    def inbox(self) -> Path:
        """The folder in which drives arrive."""
        return self.root / self.declaration.ingest.inbox

    def drive_folder(self, drive: str) -> Path:
        """Where a drive stands in the inbox; NotFound when it is not there."""
        folder = self.inbox / drive
        if not folder.is_dir():
            raise NotFound(f"There is no drive {drive!r} in {self.inbox}.", next_step="put its folder there")
        return folder

    def partitions(self, asset: str, ref: str = "main") -> list[str]:
        """Partition keys of an asset that have a version at ``ref``, sorted."""
        return sorted(self.store.list(ref, asset))

    def head(self, asset: str, partition: str, ref: str = "main") -> Version:
        """The version that stands at ``ref``.

        Raises:
            NotFound: the asset has no such partition there.
            VerificationFailed: its manifest cannot be read.
        """
        commit, path = self.store.resolve(ref), f"{asset}/{partition}"
        if not self.store.list(commit, path):
            raise NotFound(f"{path} is not made yet.", next_step="run its step: drivelake ingest or demo, or the UI")
        return self._read(commit, path)

    def heads(self, asset: str, ref: str = "main") -> list[Version]:
        """All partitions of an asset at ``ref``, sorted by key."""
        commit = self.store.resolve(ref)
        return [self._parse(commit, f"{asset}/{p}", raw) for p, raw in self.store.read_each(commit, asset, MANIFEST)]

    def version(self, named: Input) -> Version:
        """A version by its digest, wherever in the history it stands.

        Raises:
            NotFound: no commit published it.
            VerificationFailed: the manifest found there has another digest.
        """
        path, main = f"{named.asset}/{named.partition}", self.store.resolve("main")
        if MANIFEST in self.store.list(main, path):  # nearly always: then the history need not be read
            newest = self._read(main, path)
            if newest.digest == named.version:
                return newest
        commit = self.index.find(path, named.version)
        if commit is None:
            raise NotFound(f"No commit published {path} {named.version[:12]}.", next_step="fetch the store's full history")
        found = self._read(commit, path)
        if found.digest != named.version:
            raise VerificationFailed(
                f"{path}/{MANIFEST} at commit {commit[:12]} has digest {found.digest[:12]}, expected {named.version[:12]}.",
                next_step="restore the store from a copy",
            )
        return found

    def published(self) -> Iterator[Input]:
        """Every version that main ever held, newest first, once each; the history is read as far as one asks.

        A commit's message only says where to look; what is found there is judged by its own digest.
        """
        seen: set[str] = set()
        for entry in self.store.history("main"):
            said = entry.metadata.get(VERSION_TRAILER, "")
            named = PUBLISHED.fullmatch(said)
            if named and said not in seen:
                seen.add(said)
                yield Input.model_validate(named.groupdict())

    @cached_property
    def index(self) -> VersionIndex:
        """Which commit published which version, remembered beside the store."""
        return VersionIndex(self.root / "store" / "index.sqlite", self.store)

    @cached_property
    def withdrawals(self) -> Withdrawals:
        """The drives whose bytes were taken away with authority."""
        return Withdrawals(self.store)

    def open(self, ref: str = "main") -> Snapshot:
        """The lake as it stands at a branch, a tag or a commit, as tables: for SQL, DuckDB and Arrow.

        Raises:
            NotFound: the ref resolves to nothing.
        """
        from drivelake.snapshots.snapshot import Snapshot  # Arrow and DuckDB take half a second, which publishing can do without

        return Snapshot(self, ref)

    def publish(
        self, manifest: Manifest, folder: Path, *, base: str, run_id: str, code: str, on_step: Callable[[str], None]
    ) -> tuple[Version, bool]:
        """Make a signed version visible at main in one atomic merge; the same version again changes nothing.

        Args:
            manifest: what it is.
            folder: its files; given away.
            base: the commit of main at which its inputs were read.
            run_id: who published it; in the commit's metadata, like ``code``.
            code: digest of the sources that made it.
            on_step: hears each step's name after it happened.

        Raises:
            Conflict: another version of it was published since ``base``, the commit its inputs were read at.
            Withdrawn: its drive was withdrawn; its bytes must not come back.
        """
        if manifest.asset in OF_A_DRIVE:
            self.withdrawals.refuse_drive(manifest.partition)
        try:
            new = self.head(manifest.asset, manifest.partition).digest != manifest.version
        except NotFound:
            new = True
        commit = publish(
            self.store,
            manifest.name,
            folder,
            manifest.canonical(),
            message=f"{manifest.name}: version {manifest.version[:12]}",
            metadata={RUN_TRAILER: run_id, CODE_TRAILER: code},
            base=base,
            on_step=on_step,
        )
        return self._read(commit, manifest.name), new

    def _read(self, ref: str, path: str) -> Version:
        return self._parse(ref, path, self.store.read(ref, path, MANIFEST))

    def _parse(self, ref: str, path: str, raw: bytes) -> Version:
        manifest = Manifest.parse(raw, where=f"{path}/{MANIFEST} at {ref[:12]}")
        if manifest.name != path:
            raise VerificationFailed(f"{path}/{MANIFEST} speaks of {manifest.name}.", next_step="restore the store from a copy")
        return Version(manifest=manifest, commit=ref, files=Files(partial(self._files, ref, manifest)))

    def _files(self, ref: str, manifest: Manifest) -> Mapping[str, Path]:
        self.withdrawals.refuse(manifest.asset, manifest.partition, manifest.version)
        return self.store.files(ref, manifest.name)

    @contextmanager
    def scratch(self, name: str) -> Iterator[Path]:
        """A folder of one's own on the store's file system, gone afterwards; what dead processes left is swept first.

        A lock inside tells the living from the dead, since process ids mean nothing across containers.
        """
        rooms = self.root / "scratch"
        mine = rooms / f"{name}-{secrets.token_hex(6)}"
        with ExitStack() as held:
            with exclusive(self.root / "store" / "locks" / "scratch", keep=True):  # nobody sweeps what is just being made
                rooms.mkdir(exist_ok=True)
                _sweep(rooms)
                mine.mkdir()
                lock = held.enter_context((mine / LOCK).open("wb"))
                fcntl.flock(lock, fcntl.LOCK_EX)
            try:
                yield mine
            finally:
                shutil.rmtree(mine)


def write_declaration(root: Path, text: str) -> None:
    """Put a lake's declaration in force, in one step."""
    fresh = root / f".{DECLARATION}.{secrets.token_hex(4)}"
    fresh.write_text(text, encoding="utf-8")
    fresh.replace(root / DECLARATION)


def find_lake(named: Path | None = None) -> Path:
    """The lake's folder: the one named, else ``DRIVELAKE_LAKE``, else this folder, else ``./lake``.

    Raises:
        NotFound: none of them is a lake.
    """
    if named is not None:
        return named
    from_environment = os.environ.get(LAKE_ENV)
    if from_environment:
        return Path(from_environment)
    for candidate in (Path.cwd(), Path.cwd() / "lake"):
        if (candidate / DECLARATION).is_file():
            return candidate
    raise NotFound(
        f"No lake here: neither --lake nor {LAKE_ENV} is set, and {Path.cwd()} is none.",
        next_step="make demo, or pass --lake FOLDER",
    )


def _sweep(rooms: Path) -> None:
    """Remove folders whose lock nobody holds."""
    for left in rooms.iterdir():
        try:
            with (left / LOCK).open("ab") as handle:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left)
        except BlockingIOError:
            continue  # somebody works there
        except FileNotFoundError:
            continue  # its owner has just finished with it
