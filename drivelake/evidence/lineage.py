"""Who was made from what. Belongs here: naming an artefact, walking down to raw logs (trace) and up from a drive (impact).

Never here: a verdict (verify gives it) or anything that Dagster or a network would have to answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from drivelake.errors import NotFound
from drivelake.lake import Lake, Version
from drivelake.manifest import ASSETS, Input, hash_file
from drivelake.versions import VERSION_TRAILER

__all__ = ["Affected", "ancestors", "find_version", "impact"]


@dataclass(frozen=True)
class Affected:
    """A version that a drive went into; ``left_out`` says why it was considered and not used."""

    version: Input
    left_out: str | None


def find_version(lake: Lake, named: str | None) -> Version:
    """The version a person means: ``asset/partition``, a partition of soc_artefacts, a digest of 7 digits or more
    at main, the path of a file that an artefact holds, or, without a name, the newest artefact.

    Raises:
        NotFound: nothing at main answers to it; names what is there.
    """
    if named is None:
        return _newest_artefact(lake)
    asset, _, partition = named.partition("/")
    if asset in ASSETS and partition:
        return lake.head(asset, partition)
    if named in lake.partitions("soc_artefacts"):
        return lake.head("soc_artefacts", named)
    if Path(named).is_file():
        return _holder(lake, Path(named))
    if len(named) >= 7:
        for version in _all_heads(lake):
            if version.digest.startswith(named):
                return version
    there = ", ".join(lake.partitions("soc_artefacts")) or "none"
    raise NotFound(f"Nothing at main is called {named!r}; artefacts: {there}.", next_step="drivelake verify ARTEFACT")


def ancestors(lake: Lake, version: Version) -> dict[str, Version]:
    """Every version that went into this one, itself included, by digest; what is nearest to it first."""
    found: dict[str, Version] = {version.digest: version}
    waiting = [version]
    while waiting:
        for named in waiting.pop(0).manifest.inputs:
            if named.version not in found:
                found[named.version] = lake.version(named)
                waiting.append(found[named.version])
    return found


def impact(lake: Lake, drive: str) -> list[Affected]:
    """Every version at main that the drive's logs went into, in the order the data flows.

    Raises:
        NotFound: the lake never landed such a drive.
    """
    drives = lake.partitions("raw_logs")
    if drive not in drives:
        raise NotFound(
            f"No drive {drive!r} was landed; {len(drives)} are: {', '.join(drives[:5])}.", next_step="see drivelake ingest"
        )
    touched: set[str] = set()
    affected = []
    for version in _all_heads(lake):
        manifest = version.manifest
        own = manifest.partition == drive and manifest.asset in ASSETS[:3]
        if own or any(i.version in touched for i in manifest.inputs):
            reason = _left_out(version, drive)
            if reason is None:
                touched.add(version.digest)
            affected.append(Affected(version.as_input(), reason))
    return affected


def _left_out(version: Version, drive: str) -> str | None:
    """Why a dataset names the drive without holding a row of it."""
    left_out = version.manifest.facts.get("left_out")
    reason = left_out.get(drive) if isinstance(left_out, dict) else None
    return str(reason) if reason else None


def _all_heads(lake: Lake) -> Iterator[Version]:
    commit = lake.store.resolve("main")
    for asset in ASSETS:
        yield from lake.heads(asset, commit)


def _newest_artefact(lake: Lake) -> Version:
    for entry in lake.store.history("main"):
        asset, _, partition = entry.metadata.get(VERSION_TRAILER, "").partition(" ")[0].partition("/")
        if asset == "soc_artefacts":
            return lake.head(asset, partition)
    raise NotFound("The lake holds no artefact yet.", next_step="make demo, or materialise soc_artefacts in the UI")


def _holder(lake: Lake, path: Path) -> Version:
    """The artefact that holds these very bytes; ``name`` and place of the file do not count."""
    _, digest = hash_file(path)
    for version in lake.heads("soc_artefacts"):
        if any(entry.sha256 == digest for entry in version.manifest.files):
            return version
    raise NotFound(
        f"No artefact at main holds a file with SHA-256 {digest[:16]} ({path}).",
        next_step="it was changed, or built elsewhere; name the artefact it should be",
    )
