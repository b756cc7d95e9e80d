"""What train and test must not share. Belongs here: the three comparisons, on digests and times.

Never here: a verdict on rows that were not compared; near duplicates (pictures alike but not equal) are not looked for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

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
        """Note a picture of a split; 32 bytes a picture are kept."""
        self.pictures[split].add(sha256)

    def shared(self) -> dict[str, list[str]]:
        """Every pair of splits that shares something: ``raw_logs``, ``pictures`` and ``times``, as sentences."""
        found: dict[str, list[str]] = {"raw_logs": [], "pictures": [], "times": []}
        for one, other in (("train", "validation"), ("train", "test"), ("validation", "test")):
            same = self.pictures[one] & self.pictures[other]
            if same:
                found["pictures"].append(f"{one} and {other} share {len(same)} equal picture(s)")
            for a in (d for d in self.drives if d.split == one):
                for b in (d for d in self.drives if d.split == other):
                    raw = a.raw_sha256 & b.raw_sha256
                    if raw:
                        found["raw_logs"].append(f"{a.drive} ({one}) and {b.drive} ({other}) hold the same {len(raw)} log(s)")
                    if a.vehicle and a.vehicle == b.vehicle and a.first_ns <= b.last_ns and b.first_ns <= a.last_ns:
                        found["times"].append(f"{a.drive} ({one}) and {b.drive} ({other}) overlap in time on vehicle {a.vehicle}")
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


def _by_split(drives: Sequence[Ancestry]) -> str:
    return ", ".join(f"{name} {sum(d.split == name for d in drives)}" for name in SPLITS)
