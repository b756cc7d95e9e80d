"""Messages that the pass over an MCAP file hands on.

Belongs here: which buffers they stand in, which of them cannot be believed. Never here: finding them, what they say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivelake.logs.findings import Findings
from drivelake.logs.mcap.content import Content
from drivelake.logs.messages.block import Source

__all__ = ["Messages", "believed", "place"]

STAMP_MAX_NS = (1 << 63) - 1


class Messages(NamedTuple):
    """Messages that stand in one buffer, or in several chunks one behind the other.

    Attributes:
        sources: the buffers, valid until the next event is asked for.
        content: where the messages stand in their buffers, and their heads; sorted by channel, then by source, then by place.
        pieces: of each run of ``content``: the sources, by number, and how many of its messages stand in each.
    """

    sources: tuple[Source, ...]
    content: Content
    pieces: tuple[tuple[tuple[int, int], ...], ...]

    @classmethod
    def of(cls, source: Source, content: Content) -> Messages:
        """The messages of one buffer."""
        return cls((source,), content, tuple(((0, run.stop - run.start),) for _, run in content.runs))

    def numbers(self) -> NDArray[np.int64]:
        """(n,) int64, the number of the source of each message."""
        parts = np.array([part for parts in self.pieces for part in parts], np.int64).reshape(-1, 2)
        return parts[:, 0].repeat(parts[:, 1])

    def parts(self) -> Iterator[tuple[Source, Content]]:
        """The messages of each source."""
        numbers = self.numbers()
        for number, source in enumerate(self.sources):
            yield source, self.content.rows(np.flatnonzero(numbers == number))


def place(source: Source, offset: int) -> str:
    """Where a record stands, for sentences."""
    return f"byte {offset + source.origin}" + (f" of the chunk at offset {source.chunk}" if source.chunk >= 0 else "")


def believed(source: Source, content: Content, late: Mapping[int, int], names: Mapping[int, str], findings: Findings) -> Content:
    """The messages without those whose stamps do not fit and those that stand before their channel, which are told.

    Args:
        source: their buffer.
        content: they.
        late: where in the buffer a channel was declared first, by id; not those that were declared before it.
        names: of the channels, by id.
        findings: told.
    """
    sound = (content.log_ns | content.publish_ns) >= 0
    if not late and sound.all() and all(number in names for number, _ in content.runs):
        return content
    for number, run in content.runs:
        name, offsets = names.get(number), content.offsets[run]
        if len(wrong := np.flatnonzero(~sound[run])):
            row = run.start + int(wrong[0])
            stamp = max(int(stamps[row]) % (1 << 64) for stamps in (content.log_ns, content.publish_ns))
            findings.damaged(
                f"The message at {place(source, int(content.offsets[row]))} is stamped {stamp} ns, at most {STAMP_MAX_NS} fit;"
                f" {len(wrong)} messages of its channel beside it are.",
                channel=name,
                lost=len(wrong),
            )
        early = np.full(len(offsets), fill_value=True) if name is None else offsets < late.get(number, -1)
        if count := int((early & sound[run]).sum()):
            sound[run] &= ~early
            findings.damaged(
                f"The message at {place(source, int(offsets[0]))} belongs to channel {number}, which is not declared before it;"
                f" {count} messages there do.",
                channel=name,
                lost=count,
            )
    return content.rows(sound)
