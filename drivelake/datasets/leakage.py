"""What train and test must not share. Belongs here: the three comparisons, on digests and times.

Never here: a verdict on rows that were not compared; near duplicates (pictures alike but not equal) are not looked for.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

from drivelake.datasets.split import SPLITS
from drivelake.errors import DatasetError

__all__ = ["Ancestry", "LeakageCheck"]


@dataclass(frozen=True)
class Ancestry:
    """Where a drive's rows come from: digests of its raw logs, its vehicle and the interval it covers."""

    drive: str
    split: str
    raw_sha256: frozenset[str]
    vehicle: str
    first_ns: int
    last_ns: int


@dataclass
class LeakageCheck:
    """Collects what each split holds and names what two of them share."""

    drives: list[Ancestry] = field(default_factory=list)
    pictures: dict[str, set[bytes]] = field(default_factory=lambda: {name: set() for name in SPLITS})

    def picture(self, split: str, sha256: bytes) -> None:
        """Note a picture of a split; about 100 bytes a picture are kept."""
        self.pictures[split].add(sha256)

    def shared(self) -> dict[str, list[str]]:
        """Every pair of splits that shares something: ``raw_logs``, ``pictures`` and ``times``, as sentences."""
        found: dict[str, list[str]] = {"raw_logs": [], "pictures": [], "times": []}
        for one, other in combinations(SPLITS, 2):
            same = self.pictures[one] & self.pictures[other]
            if same:
                found["pictures"].append(f"{one} and {other} share {len(same)} equal picture(s)")
        holders: dict[str, list[Ancestry]] = defaultdict(list)
        tours: dict[str, list[Ancestry]] = defaultdict(list)
        for drive in self.drives:
            for digest in sorted(drive.raw_sha256):
                holders[digest].append(drive)
            if drive.vehicle:
                tours[drive.vehicle].append(drive)
        for drives in holders.values():
            found["raw_logs"] += [f"{_pair(a, b)} hold the same log" for a, b in combinations(drives, 2) if a.split != b.split]
        for vehicle, drives in sorted(tours.items()):
            found["times"] += [f"{_pair(a, b)} overlap in time on vehicle {vehicle}" for a, b in _overlapping(drives)]
        return found

    def counts(self) -> Mapping[str, int]:
        """How much was compared, a split."""
        return {name: len(pictures) for name, pictures in self.pictures.items()}

    def require_none(self) -> None:
        """Pass only when nothing is shared and every split holds something to compare.

        Raises:
            DatasetError: names what is shared, or the split that is empty (an empty split shows no independence).
        """
        empty = [name for name in SPLITS if not self.pictures[name]]
        if empty:
            raise DatasetError(
                f"The split(s) {', '.join(empty)} hold no row, so their independence is NOT SHOWN; "
                f"drives: {_by_split(self.drives)}.",
                next_step="change split.seed, or put drives by hand with split.assign",
            )
        sentences = [sentence for kind in self.shared().values() for sentence in kind]
        if sentences:
            more = f" and {len(sentences) - 3} more" if len(sentences) > 3 else ""
            raise DatasetError(
                f"The splits leak: {'; '.join(sentences[:3])}{more}.",
                next_step="put such drives on one side with split.assign, or remove the copy from the inbox",
            )


def _pair(a: Ancestry, b: Ancestry) -> str:
    return f"{a.drive} ({a.split}) and {b.drive} ({b.split})"


def _overlapping(drives: Sequence[Ancestry]) -> Iterator[tuple[Ancestry, Ancestry]]:
    """Pairs of other splits whose intervals meet, in order of their beginning."""
    open_until: list[Ancestry] = []
    for drive in sorted(drives, key=lambda d: d.first_ns):
        open_until = [earlier for earlier in open_until if earlier.last_ns >= drive.first_ns]
        yield from ((earlier, drive) for earlier in open_until if earlier.split != drive.split)
        open_until.append(drive)


def _by_split(drives: Sequence[Ancestry]) -> str:
    return ", ".join(f"{name} {sum(d.split == name for d in drives)}" for name in SPLITS)
