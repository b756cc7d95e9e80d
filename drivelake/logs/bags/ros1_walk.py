"""One pass over a ROS 1 bag, chunk by chunk, against everything that its index promises.

Belongs here: the order of records, where reading goes on behind damage, connections, counts.
Never here: what stands inside a chunk, tables, statistics of stamps.

Format: https://wiki.ros.org/Bags/Format/2.0. The pass runs over the chunks from the first to the last, so bags without an index
need no second way of reading. The format has no checksums but those of bz2 and of some lz4 frames; what else can be checked is:
lengths, counts, stamps, ids and offsets, each of which stands in the bag twice, and the digests of definitions.
"""

from __future__ import annotations

import mmap
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivelake.errors import LogDamaged, UnsupportedLog
from drivelake.logs.ahead import in_order
from drivelake.logs.bags.ros1_chunk import ChunkRecord, Messages, content_is_checked, find_messages, open_chunk
from drivelake.logs.bags.ros1_definition import definition_md5
from drivelake.logs.bags.ros1_records import MAGIC, BagHeader, Connection, RecordBroken, bag_header, read_record
from drivelake.logs.bags.ros1_top import Index, read_chunks, read_index
from drivelake.logs.bags.tables import Names
from drivelake.logs.findings import Findings
from drivelake.logs.messages.block import Channel

__all__ = ["OpenChunk", "Ros1Walk"]

OLD_MAGIC = b"#ROSBAG V1."


class OpenChunk(NamedTuple):
    """An opened chunk and its sound messages.

    Attributes:
        data: (bytes,) uint8; valid until the next chunk is asked for.
        offset: of its record; payload pointers call it by this.
        messages: in the order they stand.
    """

    data: NDArray[np.uint8]
    offset: int
    messages: Messages


class _Content(NamedTuple):
    """What was found in one chunk: messages by connection, sound ones and lost ones, and the stamps of the sound ones."""

    sound: Counter[int]
    lost: Counter[int]
    first_ns: int
    last_ns: int


class Ros1Walk:
    """The pass.

    Args:
        path: the bag.
        findings: take every contradiction.
        threads: that decompress chunks ahead.

    Attributes:
        channels: by id of the connection, as far as they are declared; complete from the start in a bag with an index.

    Raises:
        UnsupportedLog: another version of the format, or an encrypted bag.
    """

    def __init__(self, path: Path, findings: Findings, *, threads: int = 1) -> None:
        self._findings, self._threads = findings, threads
        self.channels: dict[int, Channel] = {}
        self._connections: dict[int, Connection] = {}
        self._copies: Counter[int] = Counter()
        self._names = Names()
        self._contents: dict[int, _Content] = {}
        self._skipped: set[int] = set()
        self._whole: dict[int, bool] = {}
        self._size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(len(MAGIC))
            if start.startswith(OLD_MAGIC):
                raise UnsupportedLog(
                    f"{path.name} begins with {start!r}, only {MAGIC!r} is read.",
                    next_step="convert it to version 2.0 with `rosbag fix`, or record it again",
                )
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if self._size else None
        self._file = memoryview(self._map or b"")
        self._head = BagHeader(0, 0, 0, "")
        self._begin = len(MAGIC)
        if start != MAGIC:
            findings.damaged(f"The file begins with {start!r}, expected {MAGIC!r}.")
        self._read_head()
        self._index = self._read_index()
        self._indexed = frozenset(self._connections)

    def _read_head(self) -> None:
        try:
            record = read_record(self._file, self._begin, self._size)
            self._head, self._begin = bag_header(record), record.end
        except RecordBroken as broken:
            self._findings.damaged(f"At offset {self._begin} stands {broken}; expected the bag header.")
        if self._head.encryptor:
            raise UnsupportedLog(
                f"The bag is encrypted by {self._head.encryptor!r}.", next_step="decrypt it with `rosbag decrypt`"
            )

    def _read_index(self) -> Index:
        """Connections and chunk infos at the end of the bag, and how far the chunks before them reach."""
        where = self._head.index_pos
        if not self._begin <= where <= self._size:
            reason = "was never closed" if not where else f"is cut: its index stood at offset {where}"
            self._findings.damaged(f"The bag {reason}; {self._size} bytes are there. Its chunks are read one after the other.")
            return Index((), (), self._size)
        index = read_index(self._file, where, self._findings)
        for connection in index.connections:
            self._declare(connection)
        found = (len(self._connections), len(index.infos))
        if found != (self._head.connections, self._head.chunks):
            self._findings.damaged(
                f"The bag header promises {self._head.connections} connections and {self._head.chunks} chunks,"
                f" the index at offset {where} holds {found[0]} and {found[1]}."
            )
        return index

    def promised(self) -> Counter[str]:
        """Messages by channel, from the chunk infos."""
        promised: Counter[str] = Counter()
        for info in self._index.infos:
            for number, count in info.counts.items():
                promised[self._name(number)] += count
        return promised

    def chunks(self, skip: Callable[[frozenset[str]], bool] | None = None) -> Iterator[OpenChunk]:
        """Every chunk in the order of the file; then the promises of the index are checked.

        Args:
            skip: whether a chunk need not be opened, by the names of the channels that its index lists.
        """
        for chunk, data in in_order(self._records(skip), self._open, weight=_weight, threads=self._threads):
            if isinstance(chunk, str):
                self._findings.damaged(chunk)
            elif isinstance(chunk, Connection):
                self._declare(chunk)
            elif isinstance(data, LogDamaged):
                self._unopened(chunk, data.message)
            elif data is not None:
                yield OpenChunk(data, chunk.offset, self._messages(chunk, data))
                self._release(chunk)
        self._check_infos()

    def _records(self, skip: Callable[[frozenset[str]], bool] | None) -> Iterator[ChunkRecord | Connection | str]:
        for record in read_chunks(self._file, self._begin, self._index.begin, self._index.infos):
            if skip and isinstance(record, ChunkRecord) and record.listing:
                numbers = {listed.connection for listed in record.listing}
                # Those that only chunks declare are known in time or not, as the threads are ahead or not.
                if numbers <= self._indexed and skip(frozenset(map(self._name, numbers))):
                    self._skipped.add(record.offset)
                    continue
            yield record

    def _open(self, record: ChunkRecord | Connection | str) -> NDArray[np.uint8] | LogDamaged | None:
        """Runs in a thread of the pool: nothing is told here."""
        if not isinstance(record, ChunkRecord):
            return None
        try:
            return open_chunk(self._file, record)
        except LogDamaged as damage:
            return damage

    def _release(self, chunk: ChunkRecord) -> None:
        """The pages of the file behind the pass are no longer held."""
        begin = chunk.start - chunk.start % mmap.PAGESIZE
        if self._map is not None and chunk.end > begin:
            self._map.madvise(mmap.MADV_DONTNEED, begin, chunk.end - begin)

    def _unopened(self, chunk: ChunkRecord, sentence: str) -> None:
        """A chunk that costs its messages: those that its index lists."""
        lost = Counter({listed.connection: len(listed.offsets) for listed in chunk.listing})
        self._contents[chunk.offset] = _Content(Counter(), lost, 0, 0)
        self._findings.damaged(sentence)
        for number, count in lost.items():
            self._findings.lose(self._name(number), count, sentence)

    def _messages(self, chunk: ChunkRecord, data: NDArray[np.uint8]) -> Messages:
        lost: Counter[int] = Counter()
        unnamed: Counter[int] = Counter()

        def tell(sentence: str, number: int | None) -> None:
            sentence = f"In the chunk at offset {chunk.offset}, {sentence}."
            if number is not None and number in self._connections:
                lost[number] += 1
                self._findings.damaged(sentence, channel=self._name(number), lost=1)
                return
            unnamed.update([] if number is None else [number])
            self._findings.damaged(sentence)

        found = find_messages(data, chunk, tell, self._declare)
        # a chunk may declare a connection behind the damage that was told of it
        for number in sorted(unnamed.keys() & self._connections.keys()):
            lost[number] += unnamed[number]
            why = f"{unnamed[number]} messages of the chunk at offset {chunk.offset} are in doubt"
            self._findings.lose(self._name(number), unnamed[number], why)
        if len(found.offsets) and not chunk.listing and chunk.whole:
            tell(f"{len(found.offsets)} messages stand without an index", None)
        if not content_is_checked(self._file, chunk):
            self._findings.note(f"Chunks compressed as {chunk.compression!r} carry no checksum: a changed value may go unseen.")
        numbers, counts = np.unique(found.connections, return_counts=True)
        sound = Counter(dict(zip(numbers.tolist(), counts.tolist(), strict=True)))
        unusable = {number: why for number in sound if (why := self._unusable(number))}
        for number, why in unusable.items():
            count = sound.pop(number)
            lost[number] += count
            sentence = f"{count} messages of the chunk at offset {chunk.offset} {why}."
            self._findings.damaged(sentence, channel=self._name(number), lost=count)
        if unusable:
            found = found.rows(~np.isin(found.connections, list(unusable)))
        stamps = found.stamps_ns if len(found.stamps_ns) else np.zeros(1, np.int64)
        self._contents[chunk.offset] = _Content(sound, lost, int(stamps.min()), int(stamps.max()))
        return found

    def _unusable(self, number: int) -> str:
        """Why messages of a connection cannot be understood, or nothing."""
        if number not in self._connections:
            return f"belong to connection {number}, which is not declared"
        if self._copies[number] < 2 and not self._whole[number]:
            return f"have a definition that does not give the MD5 {self._connections[number].md5} beside it"
        return ""

    def _name(self, number: int) -> str:
        return self.channels[number].name if number in self.channels else f"connection {number}"

    def _declare(self, connection: Connection) -> None:
        """A connection stands in the chunk of its first message and in the index; the digest says which copy is sound."""
        number = connection.number
        known = self._connections.get(number)
        self._copies[number] += 1
        if known == connection:
            if self._copies[number] == 2 and not self._whole[number]:
                self._findings.note(
                    f"The definition of {connection.type!r} on {connection.topic!r} does not give the MD5 {connection.md5}"
                    " beside it; the bag says so twice, so the recorder wrote it."
                )
            return
        if known is not None:
            self._findings.damaged(f"Connection {number} is declared twice: {_differences(known, connection)}.")
            if self._whole[number] or not _is_whole(connection):
                return
        self._connections[number] = connection
        self._whole[number] = _is_whole(connection)
        # Definitions with one digest differ in comments at most, so they share a table.
        key = connection.definition if connection.md5 == "*" else connection.md5.encode()
        name = self._names.name(connection.topic, "ros1", connection.type, key) if known is None else self._name(number)
        self.channels[number] = Channel(name, "ros1", connection.type, "ros1msg", connection.definition)

    def _check_infos(self) -> None:
        """What the index promises against what was found. No silent zero."""
        for info in self._index.infos:
            if info.chunk in self._skipped:
                continue
            content = self._contents.get(info.chunk, _Content(Counter(), Counter(), 0, 0))
            exact = bool(content.sound) and not content.lost
            for number in sorted({*info.counts, *content.sound, *content.lost}):
                promised, sound, lost = info.counts.get(number, 0), content.sound[number], content.lost[number]
                if promised != sound + lost:
                    exact = False
                    self._findings.damaged(
                        f"The index promises {promised} messages of {self._name(number)} in the chunk at offset {info.chunk},"
                        f" {sound + lost} are there.",
                        channel=self._name(number),
                        lost=max(promised - sound - lost, 0),
                    )
            if exact and (info.first_ns, info.last_ns) != (content.first_ns, content.last_ns):
                self._findings.damaged(
                    f"The index stamps the chunk at offset {info.chunk} from {info.first_ns} to {info.last_ns} ns,"
                    f" its messages from {content.first_ns} to {content.last_ns} ns."
                )
        unlisted = sorted(set(self._contents) - {info.chunk for info in self._index.infos})
        if unlisted and self._index.infos:
            self._findings.damaged(f"{len(unlisted)} chunks are not in the index, the first at offset {unlisted[0]}.")


def _weight(record: ChunkRecord | Connection | str) -> int:
    return record.size if isinstance(record, ChunkRecord) and record.compression != "none" else 0


def _is_whole(connection: Connection) -> bool:
    """Whether a definition gives its digest, as far as the recorder knew it."""
    return connection.md5 == "*" or definition_md5(connection.type, connection.definition) == connection.md5


def _differences(one: Connection, other: Connection) -> str:
    names = [name for name, a, b in zip(Connection._fields, one, other, strict=True) if a != b]
    return "its copies differ in " + ", ".join(names)
