"""The version store: a commit into a large lake, opening one, and publishing many small files. Belongs here: those cases.

Never here: making lakes (bench.lake_files), the S3 that stands in for one (bench.s3).

*One of a million*: a lake of 1,000,000 drives of one file each takes another drive; beside the same into 1,000 drives.
*Opening*: the lake's folder, its declaration, its store, and the names of 100,000 drives; Python's imports are done before.
*Small files*: 10,000 files of 10 KB from nothing to a version at main: written, hashed, stored, committed, merged. The limits
beside it write and hash the same files: once leaving them to the page cache, and once as durably as a published version is,
each file and folder synced; the promise is judged by that one. ``dvc add`` and ``dvc push`` sync nothing; they run inside one
process, loaded before, in a git repository, with a folder or the same S3 as their remote, and keep a cache beside it.
*The same bytes again*: what is published as one drive is published as another. A run in which the store on disk grows by a
file's bytes, or anything but the commit is sent to S3, is invalid.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bench.case import Case, Counts, Inputs, Target, Variant, Work
from bench.lake_files import ASSET
from bench.s3 import Place, s3_place

if TYPE_CHECKING:
    from dvc.repo import Repo

    from drivelake.versions import EmbeddedStore
    from drivelake.versions.s3.bucket import Bucket

__all__ = ["CASES"]

FOLDERS = 10


# --- one of a million


@contextmanager
def _one_more(inputs: Inputs, room: Path, *, lake: str) -> Iterator[Work]:
    """Into a copy of the lake, since a run changes it."""
    from drivelake.lake import Lake

    copy = Lake(shutil.copytree(inputs[lake], room / "lake"))
    folder = room / "new"
    folder.mkdir()
    (folder / "log.bin").write_bytes(b"the new one" * 1000)

    def work() -> Counts:
        _publish(copy.store, "another_drive", folder)
        return {"commits": 1}

    yield work


# --- opening


def _open(inputs: Inputs) -> Counts:
    from drivelake.lake import Lake

    (root,) = inputs.values()
    return {"lakes": 1, "drives": len(Lake(root).partitions(ASSET))}


def _ls_tree(inputs: Inputs) -> Counts:
    """Git itself, reading the same trees."""
    (root,) = inputs.values()
    words = ["git", "--git-dir", str(root / "store" / "repo.git"), "ls-tree", "-r", "-d", "--name-only", f"main:{ASSET}"]
    listed = subprocess.run(words, check=True, capture_output=True, text=True).stdout
    return {"drives": sum("/" in line for line in listed.splitlines())}


# --- small files


def _order(inputs: Inputs) -> tuple[int, int]:
    (order,) = inputs.values()
    given = json.loads(order.read_bytes())
    return given["files"], given["bytes"]


def _write(inputs: Inputs, folder: Path) -> None:
    files, size = _order(inputs)
    for n in range(FOLDERS):
        (folder / f"part_{n}").mkdir(parents=True)
    for n in range(files):
        with open(f"{folder}/part_{n % FOLDERS}/{n:06d}.bin", "wb") as handle:  # noqa: PTH123 - the bench's own cost is to be small
            handle.write(n.to_bytes(8, "little") * (size // 8))


def _hash(folder: Path, *, synced: bool) -> int:
    """SHA-256 of every file, as short as Python can say it."""
    count = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with open(f"{parent}/{name}", "rb", buffering=0) as handle:  # noqa: PTH123 - as above
                hashlib.sha256(handle.read()).hexdigest()
            count += 1
    if synced:
        from drivelake.versions.durable import sync

        sync(os.path.join(parent, name) for parent, _, names in os.walk(folder) for name in names)  # noqa: PTH118 - as above
        sync(parent for parent, _, _ in os.walk(folder))
    return count


@contextmanager
def _limit(inputs: Inputs, room: Path, *, synced: bool) -> Iterator[Work]:
    def work() -> Counts:
        _write(inputs, room / "limit")
        return {"files": _hash(room / "limit", synced=synced)}

    yield work


class _Store:
    """Ours, on disk or on S3, and what its bucket was sent."""

    def __init__(self, room: Path, place: Place | None) -> None:
        from drivelake.versions import EmbeddedStore

        self.room = room
        self.sent_bytes = 0
        self.store: EmbeddedStore = EmbeddedStore.create(room / "store", None if place is None else self._bucket(place))

    def _bucket(self, place: Place) -> Bucket:
        from drivelake.versions.s3.bucket import Bucket

        class Counting(Bucket):
            def upload(inner, files: Mapping[str, Path]) -> None:  # noqa: N805 - self is the one that counts
                self.sent_bytes += sum(path.stat().st_size for path in files.values())
                super().upload(files)

        return Counting(place.url, place.endpoint)

    def publish(self, inputs: Inputs, drive: str) -> None:
        folder = self.room / drive
        _write(inputs, folder)
        _publish(self.store, drive, folder)

    def state(self) -> tuple[int, int, int]:
        """Objects, bytes on disk (a listing of the same files is the same object), bytes sent."""
        found = (path for path in (self.room / "store" / "files").rglob("*") if path.is_file())
        return sum(1 for _ in self.store.stored()), sum(path.stat().st_size for path in found), self.sent_bytes


def _publish(store: EmbeddedStore, drive: str, folder: Path) -> None:
    """As a stage does it: hash, name, publish."""
    from drivelake.manifest import Manifest, hash_folder
    from drivelake.versions import publish

    manifest = Manifest(
        asset="raw_logs", partition=drive, files=hash_folder(folder), code_version="1", parameters={}, tools={}
    ).canonical()
    publish(store, f"{ASSET}/{drive}", folder, manifest, message=drive, metadata={})


class _Dvc:
    """Stock DVC in a git repository."""

    def __init__(self, room: Path, place: Place | None) -> None:
        from dvc.repo import Repo

        os.environ["DVC_SITE_CACHE_DIR"] = str(room / "site")  # what earlier runs hashed is not to be remembered
        self.root = room / "work"
        self.root.mkdir()
        self._git("init", "-q")
        self.repo: Repo = Repo.init(str(self.root))
        remote = {"url": str(room / "remote")} if place is None else {"url": place.url, "endpointurl": place.endpoint}
        with self.repo.config.edit() as config:
            config["core"] = {**config.get("core", {}), "remote": "bench", "analytics": False}
            config["remote"]["bench"] = remote

    def _git(self, *words: str) -> None:
        named = ("-c", "user.name=bench", "-c", "user.email=bench@example.invalid", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *named, *words], cwd=self.root, check=True, capture_output=True)

    def publish(self, inputs: Inputs, drive: str) -> None:
        _write(inputs, self.root / drive)
        self.repo.add(str(self.root / drive))
        self.repo.push()
        self._git("add", ".")
        self._git("commit", "-q", "-m", drive)


@contextmanager
def _place(room: Path, *, s3: bool) -> Iterator[Place | None]:
    if not s3:
        yield None
        return
    with s3_place(room) as place:
        yield place


@contextmanager
def _published(inputs: Inputs, room: Path, *, kind: type[_Store | _Dvc], s3: bool = False) -> Iterator[Work]:
    with _place(room, s3=s3) as place:
        versions = kind(room, place)

        def work() -> Counts:
            versions.publish(inputs, "drive_1")
            return {"files": _order(inputs)[0]}

        yield work


@contextmanager
def _again(inputs: Inputs, room: Path, *, s3: bool = False) -> Iterator[Work]:
    with _place(room, s3=s3) as place:
        ours = _Store(room, place)
        ours.publish(inputs, "drive_1")
        before = ours.state()

        def work() -> Counts:
            ours.publish(inputs, "drive_2")
            if ours.state() != before:
                raise RuntimeError(f"The same bytes again: objects, bytes on disk, bytes sent were {before}, are {ours.state()}.")
            return {"files": _order(inputs)[0]}

        yield work


@contextmanager
def _dvc_again(inputs: Inputs, room: Path, *, s3: bool = False) -> Iterator[Work]:
    with _place(room, s3=s3) as place:
        theirs = _Dvc(room, place)
        theirs.publish(inputs, "drive_1")

        def work() -> Counts:
            theirs.publish(inputs, "drive_2")
            return {"files": _order(inputs)[0]}

        yield work


SYNCED = "writing, hashing, syncing"
LIMITS = (
    Variant(SYNCED, "limit", prepare=partial(_limit, synced=True)),
    Variant("writing, hashing", "limit", prepare=partial(_limit, synced=False)),
)

CASES = (
    Case(
        "versions_commit",
        "One drive into a lake of 1,000,000 drives",
        ("drives_many", "drives_few"),
        (
            Variant("1 of 1,000,000", "ours", prepare=partial(_one_more, lake="drives_many")),
            Variant("1 of 1,000", "ours", prepare=partial(_one_more, lake="drives_few")),
        ),
        (Target("1 of 1,000,000", "seconds", "commits", 2),),
    ),
    Case(
        "versions_open",
        "Opening a lake of 100,000 drives",
        ("drives_opened",),
        (Variant("drivelake", "ours", _open), Variant("git ls-tree", "peer", _ls_tree)),
        (Target("drivelake", "seconds", "lakes", 1),),
    ),
    Case(
        "versions_publish",
        "Publishing 10,000 files of 10 KB",
        ("small_files",),
        (
            Variant("drivelake", "ours", prepare=partial(_published, kind=_Store)),
            *LIMITS,
            Variant("dvc add, dvc push", "peer", prepare=partial(_published, kind=_Dvc)),
        ),
        (Target("drivelake", "cpu", SYNCED, 2),),
    ),
    Case(
        "versions_again",
        "The same 10,000 files again, as another drive",
        ("small_files",),
        (
            Variant("drivelake", "ours", prepare=_again),
            Variant("dvc add, dvc push", "peer", prepare=_dvc_again),
        ),
    ),
    Case(
        "versions_s3",
        "Publishing 1,000 files of 10 KB to S3",
        ("sent_files",),
        (
            Variant("drivelake", "ours", prepare=partial(_published, kind=_Store, s3=True)),
            Variant("dvc add, dvc push", "peer", prepare=partial(_published, kind=_Dvc, s3=True)),
        ),
    ),
    Case(
        "versions_s3_again",
        "The same 1,000 files again to S3, as another drive",
        ("sent_files",),
        (
            Variant("drivelake", "ours", prepare=partial(_again, s3=True)),
            Variant("dvc add, dvc push", "peer", prepare=partial(_dvc_again, s3=True)),
        ),
    ),
)
