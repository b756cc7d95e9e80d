"""Who was made from what. Belongs here: naming an artefact, walking down to raw logs (trace) and up from a drive (impact).

Never here: a verdict (verify gives it) or anything that Dagster or a network would have to answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from drivelake.errors import NotFound
from drivelake.lake import Lake, Version
from drivelake.manifest import ASSETS, Asset, Input, Manifest, hash_file

__all__ = ["Affected", "ancestors", "find_version", "impact"]


PREFIX_MIN = 7  # digits of a digest


@dataclass(frozen=True)
class Affected:
    """A version that a drive went into; ``left_out`` says why it was considered and not used."""

    version: Input
    left_out: str | None


def find_version(lake: Lake, named: str | None) -> Version:
    """The version a person means: ``asset/partition`` or a partition of soc_artefacts at main; the digest (7 digits or
    more) of any version ever published; the path of a file that any artefact ever held; without a name, the newest artefact.

    Raises:
        NotFound: nothing answers to it, or several do; names what is there.
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
    if len(named) >= PREFIX_MIN:
        found = [published for published in lake.published() if published.version.startswith(named)]
        if len(found) == 1:
            return lake.version(found[0])
        if found:
            several = ", ".join(f"{i.asset}/{i.partition} {i.version[:12]}" for i in found[:4])
            raise NotFound(f"{named!r} begins {len(found)} digests: {several}.", next_step="give more digits")
    there = ", ".join(lake.partitions("soc_artefacts")) or "none"
    raise NotFound(f"Nothing is called {named!r}; artefacts at main: {there}.", next_step="drivelake verify ARTEFACT")


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


def impact(lake: Lake, named: str) -> list[Affected]:
    """Every version at main that any version of a drive or a calibration went into, in the order the data flows.

    Followed through every version in between, also those that newer ones have replaced at main.

    Args:
        lake: where.
        named: a drive, or ``calibrations/RIG``.

    Raises:
        NotFound: the lake never landed such a drive, or holds no calibration of such a rig.
    """
    asset, partition = _origin(lake, named)
    drive = partition if asset == "raw_logs" else None
    contains: dict[str, bool] = {}

    def offered(manifest: Manifest) -> bool:
        if manifest.asset == asset:
            return manifest.partition == partition
        return any(holds(i) for i in manifest.inputs)

    def holds(named: Input) -> bool:
        if named.version not in contains:
            manifest = lake.version(named).manifest
            contains[named.version] = _left_out(manifest, drive) is None and offered(manifest)
        return contains[named.version]

    commit = lake.store.resolve("main")
    heads = (v for each in ASSETS for v in lake.heads(each, commit))
    return [Affected(v.as_input(), _left_out(v.manifest, drive)) for v in heads if offered(v.manifest)]


def _origin(lake: Lake, named: str) -> tuple[Asset, str]:
    """Asset and partition that the question is about."""
    rig = named.removeprefix("calibrations/")
    asset: Asset = "raw_logs" if rig == named else "calibrations"
    there = lake.partitions(asset)
    if rig in there:
        return asset, rig
    what = "drive {!r} was landed" if asset == "raw_logs" else "calibration of a rig {!r} was published"
    raise NotFound(f"No {what.format(rig)}; {len(there)} are: {', '.join(there[:5])}.", next_step="see drivelake ingest")


def _left_out(manifest: Manifest, drive: str | None) -> str | None:
    """Why a dataset names the drive without holding a row of it."""
    if drive is None:
        return None
    left_out = manifest.facts.get("left_out")
    reason = left_out.get(drive) if isinstance(left_out, dict) else None
    return str(reason) if reason else None


def _newest_artefact(lake: Lake) -> Version:
    """The artefact whose head was published last; the order of commits only says which to name first."""
    heads = {v.as_input(): v for v in lake.heads("soc_artefacts")}
    for published in lake.published():
        if published in heads:
            return heads[published]
    raise NotFound("The lake holds no artefact yet.", next_step="make demo, or materialise soc_artefacts in the UI")


def _holder(lake: Lake, path: Path) -> Version:
    """The artefact that holds these very bytes, now or ever; name and place of the file do not count."""
    _, digest = hash_file(path)
    for published in lake.published():
        if published.asset == "soc_artefacts":
            version = lake.version(published)
            if any(entry.sha256 == digest for entry in version.manifest.files):
                return version
    raise NotFound(
        f"No artefact ever published here holds a file with SHA-256 {digest[:16]} ({path}).",
        next_step="it was changed, or built elsewhere; name the artefact it should be",
    )
