"""What is wrong with one log, told while it is read. Belongs here: collecting it, or stopping at the first of it.

Never here: what a format promises, what is done about damage.
"""

from __future__ import annotations

from collections import Counter

from drivelake.errors import LogDamaged

__all__ = ["RESTORE", "Findings"]

RESTORE = "restore the log from its source, or leave the drive out"
SENTENCES_MAX = 200
REASONS_MAX = 8


class Findings:
    """Damage, promises and notes of one log.

    A reader tells every contradiction to :meth:`damaged`. Strict findings raise there, so that nothing is read past the
    first contradiction; others remember it, and the reader goes on with what is sound behind it.

    Args:
        strict: raise :class:`~drivelake.errors.LogDamaged` at the first contradiction.

    Attributes:
        sentences: one for each contradiction, with offsets and numbers; at most 200, then their number.
        notes: what limits the use of a sound log, or the reach of its checks.
        expected: messages by channel, where the log promises a number.
        lost: messages by channel that are known to be lost.
        reasons: by channel, why messages of it were lost; at most 8 each.
    """

    def __init__(self, *, strict: bool = False) -> None:
        self.strict = strict
        self.notes: list[str] = []
        self.expected: dict[str, int] = {}
        self.lost: Counter[str] = Counter()
        self.reasons: dict[str, list[str]] = {}
        self._sentences: list[str] = []
        self._unsaid = 0

    @property
    def sentences(self) -> tuple[str, ...]:
        """Everything told, in order."""
        more = (f"{self._unsaid} more findings are not listed.",) if self._unsaid else ()
        return (*self._sentences, *more)

    def damaged(self, sentence: str, *, channel: str | None = None, lost: int = 0) -> None:
        """One contradiction.

        Args:
            sentence: what was found and what was expected, with offset and numbers.
            channel: the table it cost messages, where that is known.
            lost: how many messages of ``channel`` it cost, where that is known.

        Raises:
            LogDamaged: the findings are strict.
        """
        if self.strict:
            raise LogDamaged(sentence, next_step=RESTORE)
        if len(self._sentences) < SENTENCES_MAX:
            self._sentences.append(sentence)
        else:
            self._unsaid += 1
        if channel is not None:
            self.lose(channel, lost, sentence)

    def lose(self, channel: str, count: int, why: str) -> None:
        """Messages of one more channel that something told already has cost; ``count`` 0 where it cannot be known."""
        self.lost[channel] += count
        reasons = self.reasons.setdefault(channel, [])
        if why not in reasons and len(reasons) < REASONS_MAX:
            reasons.append(why)

    def promise(self, channel: str, count: int) -> None:
        """The log promises ``count`` messages of a channel."""
        self.expected[channel] = count

    def note(self, sentence: str) -> None:
        """Something that a reader of the report should know and that is no damage."""
        if sentence not in self.notes:
            self.notes.append(sentence)
