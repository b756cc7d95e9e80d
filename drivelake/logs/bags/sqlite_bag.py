"""One ROS 2 bag in SQLite, opened. Belongs here: its rows by channel, counted against what is promised.

Never here: pages, definitions, tables.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from drivelake.errors import LogDamaged, UnsupportedLog
from drivelake.logs.bags.sqlite_file import BAG_ERRORS, ZSTD_MAGIC, is_sound, open_bag
from drivelake.logs.bags.sqlite_metadata import Metadata, read_metadata
from drivelake.logs.bags.sqlite_rows import Window, opened, read_windows
from drivelake.logs.bags.sqlite_topics import Topic, read_topics
from drivelake.logs.bags.tables import rows_by_name
from drivelake.logs.findings import Findings

__all__ = ["SqliteBag"]


class SqliteBag:
    """An opened bag, its pages checked; a context manager.

    Args:
        path: the bag.
        findings: take every contradiction.

    Attributes:
        topics: by id.

    Raises:
        LogDamaged: at the first contradiction, if the findings are strict.
        UnsupportedLog: a database that is no bag, or a bag compressed as a whole file.
    """

    def __init__(self, path: Path, findings: Findings) -> None:
        self._findings, self._path = findings, path
        self._counts: Counter[str] = Counter()
        self._lost: Counter[str] = Counter()
        self._metadata: Metadata | None = None
        self.topics: dict[int, Topic] = {}
        with ExitStack() as stack:
            self._bag = stack.enter_context(open_bag(path, findings))
            self._sound = is_sound(self._bag, findings)
            self._metadata = read_metadata(path, findings)
            self._read_topics()
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def _read_topics(self) -> None:
        try:
            self.topics = read_topics(self._bag, self._metadata.ros_distro if self._metadata else "", self._findings)
        except (*BAG_ERRORS, UnsupportedLog) as error:
            if isinstance(error, UnsupportedLog) and not self._findings.sentences:
                raise  # a sound database, and no bag
            reason = error.message if isinstance(error, UnsupportedLog) else str(error)
            self._findings.damaged(f"The topics of the bag cannot be read, so none of its messages can be: {reason}")
        kinds = {topic.topic: topic.channel.schema_name for topic in self.topics.values()}
        for name, kind in (self._metadata.kinds if self._metadata else {}).items():
            if kinds.get(name, kind) != kind:
                self._findings.damaged(f"metadata.yaml says that {name!r} is a {kind!r}, the bag says {kinds[name]!r}.")

    def promise(self, wanted: Callable[[str], bool]) -> None:
        """Tell the findings what ``metadata.yaml`` promises of the wanted channels."""
        for name, count in self._promised().items():
            if wanted(name):
                self._findings.promise(name, count)

    def _promised(self) -> dict[str, int]:
        """Messages by channel; nothing where the metadata speak of several files, or of a topic with several definitions."""
        if self._metadata is None or len(self._metadata.relative_file_paths) != 1:
            return {}
        channels = {topic.channel.name: topic.topic for topic in self.topics.values()}
        topics = Counter(channels.values())
        counts = self._metadata.counts
        return {name: counts[topic] for name, topic in channels.items() if topics[topic] == 1 and topic in counts}

    def windows(self, wanted: Collection[int]) -> Iterator[Window]:
        """All rows in the order they were logged; then the promises of ``metadata.yaml`` are checked.

        Args:
            wanted: ids of the topics whose messages are read; of the others, only that they are there.
        """
        names = {number: topic.channel.name for number, topic in self.topics.items()}
        if names:
            for window in read_windows(self._bag, names, frozenset(wanted), self._findings, self._lost, sound=self._sound):
                for name, rows in self.by_channel(window):
                    self._counts[name] += len(rows)
                yield window
        self._check_counts()

    def by_channel(self, window: Window) -> Iterator[tuple[str, NDArray[np.int64]]]:
        """The rows of a window by channel, in order."""
        return rows_by_name(window.topics, lambda number: self.topics[number].channel.name)

    def message(self, window: Window, row: int, channel: str) -> bytes | None:
        """The encoded message of a row, decompressed; None where it does not open, which is told."""
        data = window.data[row]
        if data is None or not data.startswith(ZSTD_MAGIC):
            return data
        try:
            return opened(data)
        except LogDamaged as damage:
            sentence = f"Row {window.numbers[row]} of the messages: {damage.message}."
            self._findings.damaged(sentence, channel=channel, lost=1)
            return None

    def _check_counts(self) -> None:
        """No silent zero."""
        if self._metadata is None:
            return
        promised = self._promised()
        for name, count in promised.items():
            found = self._counts[name] + self._lost[name]
            if found != count:
                self._findings.damaged(
                    f"metadata.yaml promises {count} messages of {name!r}, the bag has {found}.",
                    channel=name,
                    lost=max(count - found, 0),
                )
        known = {topic.topic for topic in self.topics.values()}
        absent = {name: count for name, count in self._metadata.counts.items() if name not in known and count}
        if absent and promised:
            self._findings.damaged(
                f"metadata.yaml promises {sum(absent.values())} messages of {sorted(absent)}, the bag has none."
            )
        total, found = self._metadata.of_file(self._path.name), self._counts.total() + self._lost.total()
        if total is not None and total != found:
            self._findings.damaged(f"metadata.yaml promises {total} messages in {self._path.name}, it has {found}.")
