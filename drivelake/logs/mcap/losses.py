"""What damage cost, kept until the pass is over and every channel has its name.

Belongs here: losses by channel, promises, how far checksums reach. Never here: the damage itself, reading.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from drivelake.logs.findings import Findings

__all__ = ["Losses"]

SENTENCES_MAX = 8


class Losses:
    """What was lost so far.

    Attributes:
        incomplete: declarations may be missing, because something was left out.
    """

    def __init__(self) -> None:
        self.incomplete = False
        self._unknown: list[str] = []
        self._known: Counter[tuple[int, str]] = Counter()
        self._unchecked: Counter[str] = Counter()

    def unknown(self, why: str) -> None:
        """Something cost nobody knows how many messages of which channels."""
        self.incomplete = True
        if len(self._unknown) < SENTENCES_MAX:
            self._unknown.append(why)

    def messages(self, channel: int, count: int, why: str) -> None:
        """Something cost messages of a channel, given by its id."""
        self.incomplete = True
        self._known[channel, why] += count

    def unchecked(self, what: str, count: int) -> None:
        """So many of them carry no checksum."""
        self._unchecked[what] += count

    @property
    def channels(self) -> Iterable[int]:
        """Ids of the channels with known losses."""
        return {channel for channel, _ in self._known}

    def settle(self, findings: Findings, names: Mapping[int, str], promised: Mapping[int, int]) -> None:
        """Tell all of it.

        Args:
            findings: told.
            names: of the tables, by channel id.
            promised: messages by channel id, as sound statistics say; empty without.
        """
        for (channel, why), count in self._known.items():
            if channel in names:
                findings.lose(names[channel], count, why)
        if promised:
            totals: Counter[str] = Counter()
            for channel, name in names.items():
                totals[name] += promised.get(channel, 0)
            for name, total in totals.items():
                findings.promise(name, total)
        else:
            for name in sorted(set(names.values())):
                for why in self._unknown:
                    findings.lose(name, 0, why)
        for what, count in self._unchecked.items():
            if count:
                findings.note(f"{count} {what} carry no CRC-32: changed bytes in them cannot be seen.")
