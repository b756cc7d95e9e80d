"""The bytes of every version, by content: DVC's object database. Belongs here: where an object is, here or on the bucket.

Never here: commits, paths in the lake, who may see what, how a file gets its name on this disk (intake).

The layout is that of a DVC remote, on disk and on the bucket alike: ``files/md5/<2 digits>/<30 digits>``. With a bucket, the
bucket is the truth and ``<root>`` is this machine's cache: objects are taken in here, sent by ``ensure``, and come back
when ``files`` asks for one that is not here.
"""

from __future__ import annotations

import os
import re
import secrets
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

from drivelake.errors import NotFound, StoreError
from drivelake.versions.durable import sync, sync_one
from drivelake.versions.dvc.intake import finished, hash_each, name_it, room
from drivelake.versions.dvc.listings import DATA, RESTORE, Staged, md5_of, parse_listing, write_listing
from drivelake.versions.folders import regular_files
from drivelake.versions.store import Address, Stored

if TYPE_CHECKING:
    from drivelake.versions.s3.bucket import Bucket

__all__ = ["DATA", "Objects", "Staged"]

ID = re.compile(r"[0-9a-f]{2}/[0-9a-f]{30}")
BELOW = "files/md5"
DIRECTORY = ".dir"
REQUESTS = 32  # HEADs under way at a time
FETCHED_AT_A_TIME = 256  # what was fetched and compared stays when a later one fails
PAGE = 1000  # keys in one answer to LIST
PREFIXES = 256


class Objects:
    """The database below ``root``; with a bucket, its cache on this machine. Threads may share it.

    An object's *id* is its key below ``files/md5``. Listings have none: they describe a version, as its manifest does, so
    garbage collection and withdrawal leave them, and one that is gone is damage.
    """

    def __init__(self, root: Path, bucket: Bucket | None = None) -> None:
        self.root = root
        self._bucket = bucket
        self._files = root / "files" / "md5"

    def path(self, md5: str) -> Path:
        """Where the object of a digest is on this machine, or would be."""
        return Path(self._name(md5))

    def _name(self, md5: str) -> str:
        return f"{self._files}/{md5[:2]}/{md5[2:]}"

    def _where(self, md5: str) -> str:
        """As a message names the object."""
        return self._name(md5) if self._bucket is None else self._bucket.uri(_key(md5))

    # --- taking in

    def stage(self, folder: Path) -> Staged:
        """Take every file below ``folder`` in on this machine, by hard link where the file system allows it, else by copy.

        The files become read-only. Objects that are here already are kept. Nothing is sent to a bucket: see ``ensure``.
        Everything is on the disk when it returns, the folders of the names too.

        Raises:
            StoreError: the folder holds something that is no regular file, or the disk refused.
        """
        try:
            relpaths = regular_files(folder)
            sources = {relpath: f"{folder}/{relpath}" for relpath in relpaths}
            hashed = hash_each(sources.values(), seal=True)
            listing = write_listing({relpath: hashed[source][0] for relpath, source in sources.items()})
            made = Staged(md5_of(listing) + DIRECTORY, sum(size for _, size in hashed.values()), len(hashed))
            with self._room() as aside:
                for source, (md5, size) in hashed.items():
                    name_it(source, self._name(md5), size, aside)
                self._put(listing, made.md5, aside)
            self._sync_folders({made.md5, *(md5 for md5, _ in hashed.values())})
        except OSError as error:
            raise StoreError(f"{folder} could not be stored: {error}.", next_step="free disk space or set the rights") from error
        return made

    def _room(self) -> AbstractContextManager[Path]:
        return room(self.root / "files" / "tmp", self.root / "locks" / "objects")

    def _put(self, data: bytes, md5: str, aside: Path) -> None:
        fresh = aside / secrets.token_hex(8)
        fresh.write_bytes(data)
        fresh.chmod(0o444)
        sync_one(fresh)
        name_it(str(fresh), self._name(md5), len(data), aside)

    def _sync_folders(self, md5s: Iterable[str]) -> None:
        sync({f"{self._files}/{md5[:2]}" for md5 in md5s} | {str(self._files)})

    # --- reading

    def listing(self, staged: Staged) -> dict[str, tuple[str, int | None]]:
        """MD5, and size in bytes where the file is on this machine, by path inside the folder, sorted; fetches the listing.

        DVC's listings hold no sizes, and none is asked for on the network.

        Raises:
            StoreError: the listing is missing, damaged, or of another form than DVC's.
        """
        md5s = self._md5s(staged)
        sizes = self._sizes(md5s.values())
        return {relpath: (md5, sizes.get(md5)) for relpath, md5 in md5s.items()}

    def files(self, staged: Staged) -> dict[str, Path]:
        """The objects of a staged folder by path inside it, sorted; what is only on the bucket is fetched first.

        Whatever is fetched is compared with its name. The bytes of what is here are not read, with one exception: where the
        bucket has them too and the sizes here do not add up, damaged ones are found and fetched again.

        Raises:
            StoreError: the listing is damaged or of another form than DVC's, or an object it names is gone or came back
                with other bytes.
        """
        md5s = self._md5s(staged)
        sizes = self._sizes(md5s.values())
        gone = sorted({md5 for md5 in md5s.values() if md5 not in sizes})
        if self._bucket is not None:
            if sum(sizes.get(md5, 0) for md5 in md5s.values()) != staged.size:
                gone += self._damaged(sizes)
            self._fetch(gone, staged)
        elif gone:
            raise self._missing(gone[0], staged)
        return {relpath: self.path(md5) for relpath, md5 in md5s.items()}

    def addresses(self, staged: Staged) -> dict[str, Address]:
        """Where each file can be read in place, by path inside the folder, sorted. Fetches the listing alone.

        The absolute path where the object is on this machine, with its size; else its ``s3://`` address, with no size:
        whether it is there is not asked.

        Raises:
            StoreError: as ``listing``; or there is no bucket and an object is not here.
        """
        found = {}
        for relpath, (md5, size) in self.listing(staged).items():
            if size is not None:
                found[relpath] = Address(os.path.abspath(self._name(md5)), size)  # noqa: PTH100 - a Path a file is slow
            elif self._bucket is not None:
                found[relpath] = Address(self._bucket.uri(_key(md5)), None)
            else:
                raise self._missing(md5, staged)
        return found

    def _md5s(self, staged: Staged) -> dict[str, str]:
        return parse_listing(self._read_listing(staged), self._where(staged.md5))

    def _read_listing(self, staged: Staged) -> bytes:
        listing = self.path(staged.md5)
        expected = staged.md5.removesuffix(DIRECTORY)
        try:
            raw = listing.read_bytes()
        except OSError as error:
            if self._bucket is None:
                raise StoreError(f"Object {listing} cannot be read: {error}.", next_step=RESTORE) from error
        else:
            if (found := md5_of(raw)) == expected:
                return raw
            if self._bucket is None:
                raise StoreError(f"Object {listing} has MD5 {found}, expected {expected}.", next_step=RESTORE)
            listing.unlink()  # this machine's copy is damaged; the bucket has the true one
        self._fetch([staged.md5], staged)
        return listing.read_bytes()

    def _sizes(self, md5s: Iterable[str]) -> dict[str, int]:
        """Of those that are on this machine, in bytes."""
        found = {}
        for md5 in md5s:
            try:
                found[md5] = os.stat(self._name(md5)).st_size  # noqa: PTH116 - a Path for each of 20,000 files is slow
            except FileNotFoundError:
                continue
        return found

    def _damaged(self, md5s: Iterable[str]) -> list[str]:
        names = {self._name(md5): md5 for md5 in md5s}
        return [names[name] for name, (found, _) in hash_each(names, seal=False).items() if found != names[name]]

    def _missing(self, md5: str, staged: Staged) -> StoreError:
        return StoreError(f"Object {self._where(md5)} is missing; {self._where(staged.md5)} names it.", next_step=RESTORE)

    def _fetch(self, md5s: list[str], staged: Staged) -> None:
        assert self._bucket is not None, "only what a bucket keeps can be fetched"
        waiting = iter(md5s)
        while some := list(islice(waiting, FETCHED_AT_A_TIME)):
            try:
                with self._room() as aside:
                    self._fetch_some(self._bucket, some, aside, staged)
                self._sync_folders(some)
            except OSError as error:
                raise StoreError(
                    f"Objects of {self._where(staged.md5)} could not be kept on this machine: {error}.",
                    next_step="free disk space or set the rights",
                ) from error

    def _fetch_some(self, bucket: Bucket, md5s: list[str], aside: Path, staged: Staged) -> None:
        fresh = {md5: aside / md5 for md5 in md5s}
        try:
            bucket.download({_key(md5): path for md5, path in fresh.items()})
        except NotFound as error:
            gone = next((md5 for md5, head in zip(md5s, _heads(bucket, md5s), strict=True) if head is None), None)
            if gone is None:
                raise
            raise self._missing(gone, staged) from error
        hashed = hash_each((str(path) for path in fresh.values()), seal=True)
        for md5, path in fresh.items():
            found, _ = hashed[str(path)]
            if found != md5.removesuffix(DIRECTORY):
                raise StoreError(
                    f"Object {bucket.uri(_key(md5))} has MD5 {found}, expected {md5.removesuffix(DIRECTORY)}.", next_step=RESTORE
                )
            finished(path, self._name(md5))

    # --- the bucket

    def ensure(self, staged: Staged) -> None:
        """Return once every object of a staged folder, the listing last, is where every machine finds it.

        With a bucket, those that it lacks are sent from here, each after it was compared with its name; without one, they
        have to be here.

        Raises:
            StoreError: an object is neither there nor here, or what is here is damaged; that one is then removed here, so
                that publishing again brings it back.
        """
        if self._bucket is None:
            self.files(staged)
            return
        files = sorted(set(self._md5s(staged).values()))
        sizes = self._sizes([*files, staged.md5])
        there = _sizes_there(self._bucket, [*files, staged.md5])
        # A size that differs: one of the two is damaged; if it is not the one here, sending mends the other.
        lacking = [md5 for md5 in [*files, staged.md5] if md5 not in there or there[md5] != sizes.get(md5, there[md5])]
        self._send(self._bucket, lacking, sizes, staged)

    def _send(self, bucket: Bucket, md5s: list[str], sizes: Mapping[str, int], staged: Staged) -> None:
        gone = next((md5 for md5 in md5s if md5 not in sizes), None)
        if gone is not None:
            raise self._missing(gone, staged)
        hashed = hash_each((self._name(md5) for md5 in md5s), seal=False)
        for md5 in md5s:
            found, expected = hashed[self._name(md5)][0], md5.removesuffix(DIRECTORY)
            if found != expected:
                self.path(md5).unlink()
                raise StoreError(
                    f"Object {self._name(md5)} has MD5 {found}, expected {expected}; it was removed and nothing was sent.",
                    next_step="publish the same version again",
                )
        for part in ([md5 for md5 in md5s if md5 != staged.md5], [md5 for md5 in md5s if md5 == staged.md5]):
            if part:
                bucket.upload({_key(md5): self.path(md5) for md5 in part})

    # --- garbage collection

    def ids(self, staged: Staged) -> frozenset[str]:
        """Ids of a staged folder's files.

        Given also where the files are gone already.

        Raises:
            StoreError: as ``listing``.
        """
        return frozenset(_id(md5) for md5, _ in self.listing(staged).values())

    def stored(self) -> Iterator[Stored]:
        """Every object, on the bucket where there is one, else here; but no listings. Ages are by the keeper's clock."""
        if self._bucket is not None:
            now = self._bucket.now()
            for head in self._bucket.list(f"{BELOW}/"):
                if ID.fullmatch(head.key.removeprefix(f"{BELOW}/")):
                    yield Stored(head.key.removeprefix(f"{BELOW}/"), head.size, (now - head.modified).total_seconds())
            return
        with self._room() as clock:
            now_s = clock.stat().st_ctime  # of the file system that stamped the objects
        for folder in sorted(os.listdir(self._files)):  # noqa: PTH208 - as below
            with os.scandir(self._files / folder) as entries:
                for entry in entries:
                    if ID.fullmatch(f"{folder}/{entry.name}"):
                        try:
                            found = entry.stat(follow_symlinks=False)
                        except FileNotFoundError:
                            continue  # collected since the folder was listed: a plan takes no lock
                        # The time of the last change of names too: an object's bytes may be older than its place here.
                        yield Stored(f"{folder}/{entry.name}", found.st_size, now_s - found.st_ctime)

    def discard(self, ids: Iterable[str]) -> None:
        """Remove objects, from the bucket and from this machine; other machines' caches keep theirs.

        What is gone already is no error.

        Raises:
            StoreError: an id that ``stored`` never gives, before anything went; or the disk refused.
        """
        wanted = sorted(set(ids))
        for one in wanted:
            if not ID.fullmatch(one):
                raise StoreError(f"{one!r} is no object's id.", next_step="pass on what stored() gives")
        if self._bucket is not None:
            self._bucket.delete(f"{BELOW}/{one}" for one in wanted)
        try:
            for one in wanted:
                (self._files / one).unlink(missing_ok=True)
            sync(folder for folder in {self._files / one[:2] for one in wanted} if folder.is_dir())
        except OSError as error:
            raise StoreError(f"An object could not be removed: {error}.", next_step="set the rights") from error


def _key(md5: str) -> str:
    return f"{BELOW}/{_id(md5)}"


def _id(md5: str) -> str:
    return f"{md5[:2]}/{md5[2:]}"


def _heads(bucket: Bucket, md5s: Iterable[str]) -> list[int | None]:
    with ThreadPoolExecutor(REQUESTS) as pool:
        return [None if head is None else head.size for head in pool.map(bucket.head, map(_key, md5s))]


def _sizes_there(bucket: Bucket, md5s: list[str]) -> dict[str, int]:
    """Sizes in bytes of those that a bucket has: asked one by one or read off a list of all, whichever takes less time."""
    if len(md5s) > REQUESTS:
        # Digests spread evenly, so one of the 256 folders tells about how many there are in all; DVC estimates so too.
        sample = sum(1 for _ in islice(bucket.list(f"{BELOW}/{md5s[0][:2]}/"), len(md5s)))
        pages = 1 + PREFIXES * sample // PAGE
        if pages * REQUESTS <= len(md5s):  # pages come one after the other, HEADs side by side
            wanted = {_key(md5): md5 for md5 in md5s}
            return {wanted[head.key]: head.size for head in bucket.list(f"{BELOW}/") if head.key in wanted}
    return {md5: size for md5, size in zip(md5s, _heads(bucket, md5s), strict=True) if size is not None}
