"""Retention: which bytes stay and why, which go and why, and making them go. Belongs here: marking, planning, collecting.

Never here: how a store keeps bytes or its lock, showing a plan (the command line does), writing a tombstone
(``withdrawal`` does). Manifests and commits are never removed: what a version was made from can be asked for ever.

A version is kept when any of these holds, and with it everything that it was made from, since verifying walks down to that:

    it stands at the head of a branch, main included, or at a tag
    it is signed evidence, or a release: every published version of soc_artefacts is one, since none is published with a
    closed gate
    it was published within the declared days

A withdrawn version is the exception: its bytes go whoever names it, unless a version that is kept holds the same bytes.
What no version ever named was left by a publisher that was killed, and goes too. Nothing goes that is younger than a grace.
Memory: about 2.5 kB a version of five files; 234 MiB for 100,000 of them.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Literal

from drivelake.errors import Conflict, NotFound
from drivelake.publications import Key, Place, Publications
from drivelake.versions.store import MAIN, MANIFEST, WITHDRAWALS, VersionStore
from drivelake.withdrawal import Tombstone, withdrawals

__all__ = ["GRACE_S", "UNNAMED", "Amount", "Going", "Kept", "Kind", "Plan", "collect", "needed", "plan"]

BY_NAME_ALONE = -1.0  # days of retention: nothing is kept for its age
GRACE_S = 24 * 3600.0  # longer than any publisher takes from storing bytes to its commit
DAY_S = 24 * 3600.0
BATCH = 1000  # ids; between two batches it is looked whether a tag or a branch moved
RELEASE, EVIDENCE = "soc_artefacts", "evidence"
UNNAMED = "no version ever named them: left by a publisher that was killed, or by a commit that was never merged"
Said = Callable[[int, int], None]
Kind = Literal["ref", "evidence", "release", "days", "input"]


@dataclass
class Amount:
    """How many stored things, and their bytes."""

    objects: int = 0
    bytes: int = 0

    def add(self, size: int) -> None:
        """One more."""
        self.objects += 1
        self.bytes += size


@dataclass(frozen=True)
class Kept:
    """A version whose bytes stay.

    Attributes:
        version: which.
        kind: of the first reason.
        reasons: those that were found, not all there are.
    """

    version: Key
    kind: Kind
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Going:
    """A version of which bytes go.

    Attributes:
        version: which.
        reason: why it is not kept.
        withdrawn: it goes by an authorised withdrawal, not for its age.
        goes: what is removed. Bytes that several such versions share count for the one that was published last.
        shared: what of it stays, since a version that is kept holds the same bytes.
        waits: what of it is younger than the grace, and goes another time.
    """

    version: Key
    reason: str
    withdrawn: bool
    goes: Amount = field(default_factory=Amount)
    shared: Amount = field(default_factory=Amount)
    waits: Amount = field(default_factory=Amount)


@dataclass(frozen=True)
class Plan:
    """What stays and why, what goes and why.

    Attributes:
        days: versions published within so many days are kept.
        since: and so published at or after this; the days end at the newest commit, or now where that is earlier.
        grace_s: what was stored within so many seconds stays.
        kept: versions that stay, sorted.
        going: versions of which bytes go, or wait; those whose bytes went before are not named again.
        unnamed: what goes and belongs to no version.
        unnamed_waits: the same, and younger than the grace.
        stays: everything that is stored and marked.
        publishing: branches of publishers at work or killed; what they committed is kept as long as they stand.
        ids: what is to be discarded.
        echoes: withdrawn bytes that the store does not hold any more; they are discarded again, since this machine may still
            keep copies of its own.
        roots: the commit of every branch and tag that was marked from.
    """

    days: float
    since: datetime
    grace_s: float
    kept: tuple[Kept, ...]
    going: tuple[Going, ...]
    unnamed: Amount
    unnamed_waits: Amount
    stays: Amount
    publishing: tuple[str, ...]
    ids: tuple[str, ...]
    echoes: tuple[str, ...]
    roots: Mapping[str, str]

    @property
    def removed(self) -> Amount:
        """What goes, all together."""
        parts = [self.unnamed, *(each.goes for each in self.going)]
        return Amount(sum(a.objects for a in parts), sum(a.bytes for a in parts))

    @property
    def waiting(self) -> Amount:
        """What would go and is younger than the grace."""
        parts = [self.unnamed_waits, *(each.waits for each in self.going)]
        return Amount(sum(a.objects for a in parts), sum(a.bytes for a in parts))


def plan(store: VersionStore, days: float, *, grace_s: float = GRACE_S, now: datetime | None = None) -> Plan:
    """Mark from every root and say what would go. Removes nothing, takes no lock.

    Args:
        store: where.
        days: versions published within so many days are kept; from the declaration's ``retention.days``. With 0 that is the
            newest commit, with less it is none.
        grace_s: nothing goes that was stored within so many seconds, by the clock of whoever keeps it.
        now: the time; a clock that is ahead removes nothing, since days end at the newest commit at the latest.

    Raises:
        NotFound: the history of a version that is kept is not all there, so nothing can be said of what may go.
        VerificationFailed: a manifest or a tombstone cannot be read.
    """
    marking = _Marking(store, days, now or datetime.now(UTC))
    return marking.swept(grace_s)


def needed(store: VersionStore) -> frozenset[Key]:
    """Versions whose bytes a branch, a tag, signed evidence or a release needs, whatever their age, and nobody withdrew.

    Of every other version the bytes may be gone: a collection was allowed to take them. Raises as ``plan``.
    """
    marking = _Marking(store, BY_NAME_ALONE, datetime.now(UTC))
    return frozenset(key for key in marking.reasons if key not in marking.withdrawn)


def collect(
    store: VersionStore,
    days: float,
    *,
    dry_run: bool = True,
    grace_s: float = GRACE_S,
    now: datetime | None = None,
    said: Said = lambda _done, _of: None,
) -> Plan:
    """Remove what nothing keeps, and give what was planned within the collection.

    Killed at any moment it has removed only what nothing marked; running it again goes on.

    Args:
        store: where.
        days: as for ``plan``.
        dry_run: only plan.
        grace_s: as for ``plan``.
        now: as for ``plan``.
        said: hears how many objects of how many are gone.

    Raises:
        Conflict: another collects; or a tag or a branch was moved meanwhile, and what it names now was not marked.
        NotFound, VerificationFailed: as ``plan``; nothing was removed.
    """
    if dry_run:
        return plan(store, days, grace_s=grace_s, now=now)
    with store.collecting():
        found = plan(store, days, grace_s=grace_s, now=now)
        done = 0
        for batch in _batches((*found.ids, *found.echoes)):
            _steady(store, found)
            store.discard(batch)
            done += len(batch)
            said(done, len(found.ids) + len(found.echoes))
        return found


class _Marking:
    """One pass over everything that is published: who is kept, and which stored things that keeps."""

    def __init__(self, store: VersionStore, days: float, now: datetime) -> None:
        self.store, self.days, self.now = store, days, now
        self.roots = _roots(store)
        self.main = self.roots[f"branch {MAIN}"]
        self.known = Publications(store)
        self.known.read(self.main)
        for commit in self.roots.values():
            self.known.read(commit)
        self.since = _since(now, self.known.newest or now, days)
        self.withdrawn = withdrawals(store, self.main)
        self.reasons: defaultdict[Key, list[tuple[Kind, str]]] = defaultdict(list)
        self.at_main: dict[str, Key] = {}
        self.marked: set[str] = set()
        self._at_branches_and_tags()
        self._by_kind_and_age()
        self._below()
        self._mark()

    def _at_branches_and_tags(self) -> None:
        names: defaultdict[str, list[str]] = defaultdict(list)
        for name, commit in sorted(self.roots.items()):
            names[commit].append(name)
        for asset in self.store.list(self.main):
            if asset != WITHDRAWALS:
                self._heads(asset, "stands at main")
        for commit, named in names.items():
            # where a path is as at main, the same version stands there
            for path in self.store.diff(self.main, commit) if commit != self.main else ():
                self._head(commit, path, f"stands at {named[0]}" + (f" and {len(named) - 1} more" if named[1:] else ""))

    def _heads(self, asset: str, why: str) -> None:
        manifests = dict.fromkeys(self.store.list(self.main, asset))
        for partition, raw in self.store.read_each(self.main, asset, MANIFEST):
            del manifests[partition]
            self.at_main[f"{asset}/{partition}"] = self._stands(self.main, asset, partition, raw, why)
        for partition in manifests:
            self._unmanifested(self.main, f"{asset}/{partition}")

    def _head(self, commit: str, path: str, why: str) -> None:
        asset, _, partition = path.partition("/")
        files = self.store.list(commit, path)
        if MANIFEST in files:
            self._stands(commit, asset, partition, self.store.read(commit, path, MANIFEST), why)
        elif files and asset != WITHDRAWALS:
            self._unmanifested(commit, path)

    def _stands(self, commit: str, asset: str, partition: str, raw: bytes, why: str) -> Key:
        key = Key(asset, partition, hashlib.sha256(raw).hexdigest())
        self.known.learn(key, raw)
        self.reasons[key].append(("ref", why))
        if key not in self.known.places:
            # no commit says that it published this: it is read where it stands
            self.known.add(key, Place(commit, datetime.min.replace(tzinfo=UTC)))
        return key

    def _unmanifested(self, commit: str, path: str) -> None:
        """What stands at a ref and is no version is not ours to remove."""
        self.marked.update(self.store.objects(commit, path))

    def _by_kind_and_age(self) -> None:
        for key in self.known.places:
            if key.asset == EVIDENCE:
                self.reasons[key].append(("evidence", "signed evidence"))
            if key.asset == RELEASE:
                self.reasons[key].append(("release", "a release"))
            if self.known.published(key) >= self.since:
                self.reasons[key].append(("days", f"published within {self.days:g} days"))

    def _below(self) -> None:
        """Everything that went into what is kept."""
        waiting = list(self.reasons)
        while waiting:
            here = waiting.pop()
            for named in self.known.inputs(here):
                if named not in self.known.places:
                    raise NotFound(
                        f"{here} was made from {named}, which no commit published: what holds its bytes cannot be told.",
                        next_step="fetch the store's full history; nothing was removed",
                    )
                if named not in self.reasons:
                    self.reasons[named].append(("input", f"went into {here}"))
                    waiting.append(named)

    def _mark(self) -> None:
        for key in self.reasons:
            if key not in self.withdrawn:
                self.marked |= self._objects(key)

    def _objects(self, key: Key) -> set[str]:
        """What holds its bytes, wherever it was published: each time may have stored them anew."""
        commits = [place.commit for place in self.known.places[key]]
        if self.at_main.get(key.path) == key:
            commits.append(self.main)
        return {name for commit in commits for name in self.store.objects(commit, key.path)}

    def swept(self, grace_s: float) -> Plan:
        """Compare what is stored with what is marked."""
        going, owner, sharers = self._unkept()
        unnamed, unnamed_waits, stays, ids = Amount(), Amount(), Amount(), list[str]()
        for stored in self.store.stored():
            if stored.id in self.marked:
                stays.add(stored.size)
                for each in sharers.get(stored.id, ()):
                    going[each].shared.add(stored.size)
                continue
            number = owner.pop(stored.id, None)
            mine = None if number is None else going[number]
            if stored.age_s is not None and stored.age_s < grace_s:
                (mine.waits if mine else unnamed_waits).add(stored.size)
                continue
            (mine.goes if mine else unnamed).add(stored.size)
            ids.append(stored.id)
        return Plan(
            days=self.days,
            since=self.since,
            grace_s=grace_s,
            kept=tuple(self._kept(key) for key in sorted(self.reasons) if key not in self.withdrawn),
            going=tuple(each for each in going if each.goes.objects or each.waits.objects),
            unnamed=unnamed,
            unnamed_waits=unnamed_waits,
            stays=stays,
            publishing=tuple(name.removeprefix("branch ") for name in self.roots if _publishers(name)),
            ids=tuple(ids),
            echoes=tuple(sorted(name for name, number in owner.items() if self._echoes(going[number], grace_s))),
            roots=self.roots,
        )

    def _kept(self, key: Key) -> Kept:
        reasons = self.reasons[key]
        return Kept(key, reasons[0][0], tuple(text for _, text in reasons))

    def _echoes(self, each: Going, grace_s: float) -> bool:
        """Whether what ``stored`` did not give of it is gone: some stores do not give what is young either."""
        return each.withdrawn and (self.now - self.known.published(each.version)).total_seconds() >= grace_s

    def _unkept(self) -> tuple[list[Going], dict[str, int], dict[str, list[int]]]:
        """Every version that is not kept; by number, which of them each id counts for, and which share it with one kept."""
        going, owner, sharers = list[Going](), dict[str, int](), dict[str, list[int]]()
        for key in self.known.places:
            tombstone = self.withdrawn.get(key)
            if key in self.reasons and tombstone is None:
                continue
            each = Going(key, self._why(key, tombstone), withdrawn=tombstone is not None)
            for name in self._objects(key):
                if name in self.marked:
                    sharers.setdefault(name, []).append(len(going))
                else:
                    owner.setdefault(name, len(going))
            going.append(each)
        return going, owner, sharers

    def _why(self, key: Key, tombstone: Tombstone | None) -> str:
        if tombstone is not None:
            return f"withdrawn on {tombstone.requested:%Y-%m-%d} by {tombstone.authority}: {tombstone.reason}"
        published = self.known.published(key)
        later = self.known.successor(key)
        fate = f"replaced by {later[1].version[:12]} on {later[0].time:%Y-%m-%d}" if later else "taken back"
        return f"{fate}; published {published:%Y-%m-%d}; no branch, tag, evidence or release needs it"


def _roots(store: VersionStore) -> Mapping[str, str]:
    """The commit of every branch and tag."""
    branches = {f"branch {name}": commit for name, commit in store.branches().items()}
    return branches | {f"tag {name}": commit for name, commit in store.tags().items()}


def _publishers(root: str) -> bool:
    return root.startswith("branch publish-")


def _steady(store: VersionStore, found: Plan) -> None:
    """Whatever a person moved since the marking was not marked. Publishers look after themselves."""
    before, after = ({n: c for n, c in roots.items() if not _publishers(n)} for roots in (found.roots, _roots(store)))
    if before != after:
        moved = sorted(name for name in {*before, *after} if before.get(name) != after.get(name))
        raise Conflict(
            f"{', '.join(moved[:3])} moved while this collection ran; nothing was removed since.",
            next_step="run again: it marks anew",
        )


def _since(now: datetime, newest: datetime, days: float) -> datetime:
    end = min(now, newest)
    try:
        return end - timedelta(seconds=days * DAY_S)
    except OverflowError:
        return datetime.min.replace(tzinfo=UTC)


def _batches(ids: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(ids)
    while batch := list(islice(rest, BATCH)):
        yield batch
