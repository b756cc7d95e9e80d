"""What the pass over an MCAP file has read, against what the file's indexes and statistics say of it.

Belongs here: the comparison. Never here: reading, messages.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping
from itertools import starmap

from mcap.opcode import Opcode
from mcap.records import AttachmentIndex, ChunkIndex, MetadataIndex, Statistics

from drivelake.logs.mcap.framing import Frame
from drivelake.logs.mcap.records import CHANNEL_OFFSET, name_of

__all__ = ["Ledger"]

# Records whose places an index of the summary names.
PLACED = frozenset({Opcode.CHUNK, Opcode.ATTACHMENT, Opcode.METADATA})


class Ledger:
    """What was read.

    Args:
        damaged: told every contradiction, one sentence each.

    Attributes:
        counts: readable messages by channel id.
        records: by opcode, those that stand in the file itself.
    """

    def __init__(self, damaged: Callable[[str], None]) -> None:
        self.counts: Counter[int] = Counter()
        self.records: Counter[int] = Counter()
        self._damaged = damaged
        self._lengths: dict[int, dict[int, int]] = defaultdict(dict)
        self._indexes: dict[int, bytes] = {}

    def passed(self, frame: Frame) -> None:
        """One record of the file."""
        self.records[frame.opcode] += 1
        if frame.opcode in PLACED:
            self._lengths[frame.opcode][frame.offset] = frame.end - frame.offset

    def indexed(self, chunk: Frame, offsets: Mapping[int, int]) -> None:
        """Where the message indexes of a chunk stand, by channel id."""
        self._indexes[chunk.offset] = _packed(offsets)

    def check_chunk_index(self, offset: int, index: ChunkIndex) -> None:
        """A chunk index against the chunk and the message indexes that it names."""
        self._check(offset, Opcode.CHUNK, index.chunk_start_offset, index.chunk_length)
        found = self._indexes.get(index.chunk_start_offset)
        if found is not None and index.message_index_offsets and _packed(index.message_index_offsets) != found:
            self._damaged(
                f"The chunk index at offset {offset} names message indexes of {len(index.message_index_offsets)} channels"
                f" behind the chunk at offset {index.chunk_start_offset}; {len(found) // CHANNEL_OFFSET.size} stand there, not"
                " all where it says."
            )

    def check_attachment_index(self, offset: int, index: AttachmentIndex) -> None:
        """An attachment index against the attachment that it names."""
        self._check(offset, Opcode.ATTACHMENT, index.offset, index.length)

    def check_metadata_index(self, offset: int, index: MetadataIndex) -> None:
        """A metadata index against the record that it names."""
        self._check(offset, Opcode.METADATA, index.offset, index.length)

    def check_counts(self, promised: Statistics, names: Mapping[int, str], *, only: Iterable[int] | None = None) -> None:
        """What the statistics promise against what was read. No silent zero.

        Args:
            promised: the statistics.
            names: of the channels, by id.
            only: the channels whose every message was asked for; all channels if None.
        """
        counts: list[tuple[str, int, int]] = []
        if only is None:
            counts += [
                ("messages", promised.message_count, self.counts.total()),
                ("chunks", promised.chunk_count, self.records[Opcode.CHUNK]),
                ("attachments", promised.attachment_count, self.records[Opcode.ATTACHMENT]),
                ("metadata records", promised.metadata_count, self.records[Opcode.METADATA]),
            ]
        by_id = promised.channel_message_counts
        ids = sorted({*by_id, *self.counts} if only is None else only) if by_id else []
        counts += [(f"messages of {names.get(i, f'channel {i}')}", by_id.get(i, 0), self.counts[i]) for i in ids]
        for what, expected, found in counts:
            if expected != found:
                self._damaged(f"The statistics promise {expected} {what}, {found} can be read.")

    def _check(self, offset: int, opcode: Opcode, start: int, length: int) -> None:
        found = self._lengths[opcode].get(start)
        if found != length:
            kind = name_of(opcode).lower()
            what = f"no {kind} stands there" if found is None else f"the {kind} there has {found}"
            self._damaged(f"The {kind} index at offset {offset} names {length} bytes at offset {start}, {what}.")


def _packed(offsets: Mapping[int, int]) -> bytes:
    """Offsets by channel, small enough to be kept for every chunk."""
    return b"".join(starmap(CHANNEL_OFFSET.pack, sorted(offsets.items())))
