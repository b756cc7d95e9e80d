"""Every version that was ever published: where its commits are, when, and from what it was made.

Belongs here: reading histories and manifests through any version store. Never here: which version is kept or withdrawn
(``retention`` and ``withdrawal`` decide), files of versions, anything that writes.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from datetime import datetime
from typing import NamedTuple

from drivelake.errors import NotFound, VerificationFailed
from drivelake.versions import MANIFEST, VERSION_TRAILER, VersionStore

__all__ = ["Key", "Place", "Publications"]

PUBLISHED = re.compile(r"(?P<asset>[a-z][a-z0-9_]*)/(?P<partition>[^ /]+) (?P<version>[0-9a-f]{64})")


class Key(NamedTuple):
    """What identifies a version, small enough for a hundred thousand of them.

    Attributes:
        asset: its kind.
        partition: which one of that kind.
        version: SHA-256 of its manifest, 64 hex digits.
    """

    asset: str
    partition: str
    version: str

    @classmethod
    def of(cls, path: str, version: str) -> Key:
        """The key of a version at ``asset/partition``."""
        asset, _, partition = path.partition("/")
        return cls(asset, partition, version)

    @property
    def path(self) -> str:
        """``asset/partition``, as in the version store."""
        return f"{self.asset}/{self.partition}"

    def __str__(self) -> str:
        return f"{self.path} {self.version[:12]}"


class Place(NamedTuple):
    """A commit that published a version, and when that was, UTC."""

    commit: str
    time: datetime


class Publications:
    """What the histories of the commits that were read published. Names and commits are kept, no manifest is.

    A commit's message only says where to look; what is found there is judged by its own digest.
    """

    def __init__(self, store: VersionStore) -> None:
        self.store = store
        self.places: dict[Key, list[Place]] = {}
        self.commits: set[str] = set()
        self.newest: datetime | None = None
        self._of_path: dict[str, list[tuple[Place, Key]]] = {}
        self._inputs: dict[Key, tuple[Key, ...]] = {}

    def read(self, commit: str) -> None:
        """Add what the history of a commit published; a commit that an earlier history held costs nothing.

        Histories run newest first. Read main's first: what replaced what is told by the order in it.
        """
        if commit in self.commits:
            return
        for entry in self.store.history(commit):
            if entry.commit in self.commits:
                continue
            self.commits.add(entry.commit)
            self.newest = entry.time if self.newest is None else max(self.newest, entry.time)
            named = PUBLISHED.fullmatch(entry.metadata.get(VERSION_TRAILER, ""))
            if named:
                self.add(Key(*named.groups()), Place(entry.commit, entry.time))

    def add(self, key: Key, place: Place) -> None:
        """Note one more commit at which a version can be read."""
        self.places.setdefault(key, []).append(place)
        self._of_path.setdefault(key.path, []).append((place, key))

    def published(self, key: Key) -> datetime:
        """When it was published last."""
        return max(place.time for place in self.places[key])

    def successor(self, key: Key) -> tuple[Place, Key] | None:
        """What was published at its path right after it was there last; None where nothing was."""
        later: tuple[Place, Key] | None = None
        for place, found in self._of_path[key.path]:
            if found == key:
                break
            later = (place, found)
        return later

    def raw(self, key: Key) -> bytes:
        """The bytes of its manifest.

        Raises:
            NotFound: no history that was read published it.
            VerificationFailed: what is found there has another digest.
        """
        places = self.places.get(key)
        if not places:
            raise NotFound(
                f"No commit published {key}, which another version was made from.", next_step="fetch the store's full history"
            )
        found = self.store.read(places[0].commit, key.path, MANIFEST)
        check(found, key, places[0].commit)
        return found

    def inputs(self, key: Key) -> tuple[Key, ...]:
        """What it was made from, as its manifest says. Raises as ``raw``, and VerificationFailed for what is no manifest."""
        known = self._inputs.get(key)
        if known is None:
            known = self._inputs[key] = tuple(inputs_of(self.raw(key), key))
        return known

    def learn(self, key: Key, manifest: bytes) -> None:
        """Take a manifest that was read elsewhere already, so that it is not read again."""
        self._inputs[key] = tuple(inputs_of(manifest, key))


def check(manifest: bytes, key: Key, commit: str) -> None:
    """Raise VerificationFailed unless these bytes are the version's manifest."""
    digest = hashlib.sha256(manifest).hexdigest()
    if digest != key.version:
        raise VerificationFailed(
            f"{key.path}/{MANIFEST} at commit {commit[:12]} has digest {digest[:12]}, expected {key.version[:12]}.",
            next_step="restore the store from a copy",
        )


def inputs_of(manifest: bytes, key: Key) -> Iterator[Key]:
    """The inputs that a manifest names. Only these are looked at: its digest answers for the rest."""
    try:
        for named in json.loads(manifest)["inputs"]:
            yield Key(named["asset"], named["partition"], named["version"])
    except (ValueError, KeyError, TypeError) as error:
        raise VerificationFailed(
            f"{key.path}/{MANIFEST} of version {key.version[:12]} names no inputs that can be read ({error}).",
            next_step="drivelake verify --all names what was changed",
        ) from None
