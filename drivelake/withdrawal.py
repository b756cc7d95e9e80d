"""Withdrawal of a drive: its bytes must go, its lineage stays. Belongs here: the tombstone, writing it, refusing to read
what it names.

Never here: removing bytes (``retention`` does, in a collection), signing the decision, taking a withdrawal back: bytes that
are gone do not return, so no reversal is offered.
"""

from __future__ import annotations

import builtins
import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Literal

import rfc8785
from pydantic import AwareDatetime, Field, StringConstraints, ValidationError, field_validator, model_validator

from drivelake.errors import Conflict, DeclarationError, NotFound, Unavailable, VerificationFailed, Withdrawn
from drivelake.manifest import ASSETS, Input, Manifest, check_partition
from drivelake.publications import Key, Publications
from drivelake.strict import Strict
from drivelake.versions.store import MAIN, MANIFEST, TOMBSTONE, WITHDRAWALS, VersionStore, publish_branch

__all__ = ["OF_A_DRIVE", "Affected", "Registered", "Tombstone", "Withdrawal", "Withdrawals", "prepare", "withdraw", "withdrawals"]

# the assets whose versions hold the bytes of one drive alone; its name is their partition
OF_A_DRIVE = ("raw_logs", "signals", "sensor_frames")
ATTEMPTS = 8  # others may write tombstones at the same time; each lost race means that another one got through

Line = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500, pattern=r"^[^\x00-\x1f\x7f]+$")]


class Registered(Strict):
    """A log that stands outside of the store: ABSENT-AUTHORISED here, and to be removed there by its owner."""

    uri: str
    bytes: int = Field(ge=0)
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")


class Tombstone(Strict):
    """Which versions' bytes go, who decided it, and why. It is not signed: whoever may write to main may write it."""

    schema_version: Literal[1] = 1
    drive: str
    versions: tuple[Input, ...] = Field(min_length=1)
    registered: tuple[Registered, ...] = Field(default=(), description="to be removed by their owner")
    reason: Line
    authority: Line = Field(description="who decided, and where that is written down")
    requested: AwareDatetime

    @field_validator("requested")
    @classmethod
    def _to_the_second(cls, value: datetime) -> datetime:
        return value.astimezone(UTC).replace(microsecond=0)

    @model_validator(mode="after")
    def _of_one_drive(self) -> Tombstone:
        for named in self.versions:
            if named.partition != self.drive or named.asset not in OF_A_DRIVE:
                raise ValueError(f"{named.asset}/{named.partition} does not hold bytes of drive {self.drive!r} alone")
        return self

    def canonical(self) -> builtins.bytes:
        """RFC 8785 bytes."""
        return rfc8785.dumps(self.model_dump(mode="json"))

    @classmethod
    def parse(cls, raw: builtins.bytes, drive: str) -> Tombstone:
        """The tombstone of a drive. Raises VerificationFailed for anything else."""
        where = f"{WITHDRAWALS}/{drive}/{TOMBSTONE}"
        try:
            found = cls.model_validate_json(raw)
        except ValidationError as error:
            first = error.errors()[0]
            raise VerificationFailed(
                f"{where} is no tombstone: {'.'.join(map(str, first['loc']))}: {first['msg']}.",
                next_step="find out who wrote it; restore main from a copy",
            ) from None
        if found.drive != drive or found.canonical() != raw:
            raise VerificationFailed(
                f"{where} speaks of {found.drive!r}, or is not in canonical form.", next_step="restore main from a copy"
            )
        return found

    def says(self, key: Key) -> str:
        """What reading a version that it names is answered with."""
        return (
            f"ABSENT-AUTHORISED: the bytes of {key.path} (version {key.version[:12]}) were withdrawn on "
            f"{self.requested:%Y-%m-%d} by {self.authority}: {self.reason.removesuffix('.')}."
        )


@dataclass(frozen=True)
class Affected:
    """A version that holds bytes of the drive among others, or was made from such; what becomes of it a person decides."""

    version: Key
    at_main: bool


@dataclass(frozen=True)
class Withdrawal:
    """A withdrawal as it stands, or as it would stand.

    Attributes:
        tombstone: what it says.
        standing: the very same stands at main already.
        affected: every version ever published that the drive went into and that is not withdrawn with it.
    """

    tombstone: Tombstone
    standing: bool
    affected: tuple[Affected, ...]


class Withdrawals:
    """The tombstones at main, read once a state of main. One object for one lake; safe for several threads."""

    def __init__(self, store: VersionStore) -> None:
        self._store = store
        self._read: tuple[str, Mapping[Key, Tombstone]] | None = None

    def standing(self) -> Mapping[Key, Tombstone]:
        """The tombstone of every withdrawn version. Raises VerificationFailed when one cannot be read."""
        commit = self._store.resolve(MAIN)
        known = self._read
        if known is None or known[0] != commit:
            known = self._read = (commit, withdrawals(self._store, commit))
        return known[1]

    def of(self, asset: str, partition: str, version: str) -> str | None:
        """What stands instead of a version's bytes where they are withdrawn, also while they are still there; None elsewhere."""
        key = Key(asset, partition, version)
        found = self.standing().get(key) if asset in OF_A_DRIVE else None
        return None if found is None else found.says(key)

    def refuse(self, asset: str, partition: str, version: str) -> None:
        """Raise Withdrawn with what ``of`` says."""
        absent = self.of(asset, partition, version)
        if absent is not None:
            raise Withdrawn(absent, next_step="its manifest and its lineage stay; ask the authority that is named")

    def refuse_drive(self, drive: str) -> None:
        """Raise Withdrawn, if the drive has a tombstone: what was taken away must not land again from the inbox."""
        raw = _at(self._store, MAIN, drive)
        if raw is not None:
            found = Tombstone.parse(raw, drive)
            raise Withdrawn(
                f"ABSENT-AUTHORISED: drive {drive!r} was withdrawn on {found.requested:%Y-%m-%d} by {found.authority}: "
                f"{found.reason.removesuffix('.')}.",
                next_step="remove its folder from the inbox",
            )


def withdrawals(store: VersionStore, ref: str = MAIN) -> Mapping[Key, Tombstone]:
    """The tombstone of every version that is withdrawn at a ref. Raises VerificationFailed when one cannot be read."""
    found: dict[Key, Tombstone] = {}
    for drive, raw in store.read_each(ref, WITHDRAWALS, TOMBSTONE):
        tombstone = Tombstone.parse(raw, drive)
        found |= dict.fromkeys((Key(i.asset, i.partition, i.version) for i in tombstone.versions), tombstone)
    return found


def prepare(store: VersionStore, drive: str, *, reason: str, authority: str, now: datetime | None = None) -> Withdrawal:
    """What withdrawing a drive would say, and what it would touch. Writes nothing.

    Raises:
        NotFound: no version of the drive was ever published.
        Conflict: it was withdrawn already, for another reason or by another authority.
        DeclarationError: the reason or the authority is no single line of text.
        VerificationFailed: a manifest or a tombstone cannot be read.
    """
    return _prepare(store, store.resolve(MAIN), drive, reason, authority, now or datetime.now(UTC))


def withdraw(store: VersionStore, drive: str, *, reason: str, authority: str, now: datetime | None = None) -> Withdrawal:
    """Put the tombstone at main: from here on reading is refused, and the next collection removes the bytes.

    The same again changes nothing; versions that were published since are added. Raises as ``prepare``.
    """
    path = f"{WITHDRAWALS}/{check_partition(drive)}"
    now = now or datetime.now(UTC)
    with store.hold(path):
        for _ in range(ATTEMPTS):
            base = store.resolve(MAIN)
            found = _prepare(store, base, drive, reason, authority, now)
            if found.standing:
                return found
            with suppress(Conflict):  # somebody else wrote this tombstone since: look at what stands there now
                _write(store, base, path, found.tombstone)
                return Withdrawal(found.tombstone, standing=True, affected=found.affected)
    raise Conflict(f"{path} was written by others {ATTEMPTS} times meanwhile.", next_step="run again")


def _write(store: VersionStore, base: str, path: str, tombstone: Tombstone) -> None:
    branch = publish_branch(path, "withdraw")
    store.branch(branch, at=base)
    try:
        with TemporaryDirectory() as empty:
            store.put(branch, path, Path(empty), {TOMBSTONE: tombstone.canonical()})
        message = f"Withdrawn: {tombstone.drive}, {len(tombstone.versions)} version(s)"
        store.merge(store.commit(branch, message, {"Drivelake-Withdrawal": tombstone.drive}))
    finally:
        with suppress(Unavailable, NotFound):  # swept later, like those of publishers; it must not hide why writing failed
            store.delete_branch(branch)


def _prepare(store: VersionStore, commit: str, drive: str, reason: str, authority: str, now: datetime) -> Withdrawal:
    known = Publications(store)
    known.read(commit)
    gone = {key for key in known.places if key.partition == drive and key.asset in OF_A_DRIVE}
    raw = _at(store, commit, drive)
    before = Tombstone.parse(raw, drive) if raw is not None else None
    if before is not None:
        gone |= {Key(i.asset, i.partition, i.version) for i in before.versions}
    if not gone:
        raise NotFound(f"No version of a drive {drive!r} was ever published.", next_step="name a drive that was landed")
    ordered = sorted(gone, key=_flow)
    try:
        tombstone = Tombstone(
            drive=drive,
            versions=tuple(Input.model_validate(key._asdict()) for key in ordered),
            registered=_registered(known, ordered),
            reason=reason,
            authority=authority,
            requested=before.requested if before is not None else now,
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise DeclarationError(
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}.",
            next_step="give a reason and an authority, each one line of 1 to 500 letters",
        ) from None
    if before is not None and (before.reason, before.authority) != (tombstone.reason, tombstone.authority):
        raise Conflict(
            f"Drive {drive!r} was withdrawn on {before.requested:%Y-%m-%d} by {before.authority}: {before.reason}",
            next_step="nothing to do; to add versions that came since, give the same reason and authority",
        )
    return Withdrawal(tombstone, standing=tombstone == before, affected=_affected(known, commit, gone, drive))


def _registered(known: Publications, keys: list[Key]) -> tuple[Registered, ...]:
    """Logs that the versions name where they stand; each place once."""
    found: dict[tuple[str, str], Registered] = {}
    for key in keys:
        if key.asset == "raw_logs":
            manifest = Manifest.parse(known.raw(key), where=f"{key.path}/{MANIFEST}")
            for each in manifest.references:
                found[each.uri, each.sha256] = Registered(uri=each.uri, bytes=each.bytes, sha256=each.sha256)
    return tuple(found[name] for name in sorted(found))


def _affected(known: Publications, commit: str, gone: set[Key], drive: str) -> tuple[Affected, ...]:
    """Everything that the drive went into and that does not go with it, upwards through every version in between.

    A dataset that looked at the drive and left it out holds no row of it.
    """
    holds, found = set(gone), []
    later = sorted((key for key in known.places if key not in gone and key.asset not in OF_A_DRIVE), key=_flow)
    for key in later:
        if holds.isdisjoint(known.inputs(key)) or _left_out(known, key, drive):
            continue
        holds.add(key)
        found.append(Affected(key, at_main=_stands(known, commit, key)))
    return tuple(found)


def _flow(key: Key) -> tuple[int, str, str]:
    """In the order in which data flows, so that what a version was made from was looked at before it."""
    order: tuple[str, ...] = ASSETS
    return (order.index(key.asset) if key.asset in order else len(order), key.partition, key.version)


def _left_out(known: Publications, key: Key, drive: str) -> bool:
    if key.asset != "curated_datasets":
        return False
    left_out = Manifest.parse(known.raw(key), where=f"{key.path}/{MANIFEST}").facts.get("left_out")
    return isinstance(left_out, dict) and bool(left_out.get(drive))


def _stands(known: Publications, commit: str, key: Key) -> bool:
    if MANIFEST not in known.store.list(commit, key.path):
        return False
    return hashlib.sha256(known.store.read(commit, key.path, MANIFEST)).hexdigest() == key.version


def _at(store: VersionStore, ref: str, drive: str) -> builtins.bytes | None:
    """The bytes of a drive's tombstone, if one stands there."""
    path = f"{WITHDRAWALS}/{check_partition(drive)}"
    return store.read(ref, path, TOMBSTONE) if TOMBSTONE in store.list(ref, path) else None
