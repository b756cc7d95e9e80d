"""Topics of a ROS 2 bag and the definitions of their messages. Belongs here: what the database and rosbags' stores say.

Never here: messages, counts.

Schema of the database: rosbag2_storage_sqlite3, versions 1 to 4; https://github.com/ros2/rosbag2. Bags before version 4 carry
no definitions: those of the standard messages come from rosbags' store of the distribution that recorded them. The hash of a
type is that of REP 2011.
"""

from __future__ import annotations

import sqlite3
from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from drivelake.errors import UnsupportedLog
from drivelake.logs.bags.tables import Names
from drivelake.logs.findings import Findings
from drivelake.logs.messages.block import Channel

if TYPE_CHECKING:
    from rosbags.typesys.store import Typestore

__all__ = ["Topic", "read_topics"]

DEFAULT_DISTRIBUTION = "humble"
TABLES = {
    "topics": {b"id", b"name", b"type", b"serialization_format"},
    "messages": {b"topic_id", b"timestamp", b"data"},
}
DEFINITION_COLUMNS = {b"topic_type", b"encoding", b"encoded_message_definition"}


class Topic(NamedTuple):
    """One topic of the bag.

    Attributes:
        topic: as recorded.
        channel: its table.
        reason: why its messages cannot be a table, as far as the bag tells.
    """

    topic: str
    channel: Channel
    reason: str


def read_topics(bag: sqlite3.Connection, distribution: str, findings: Findings) -> dict[int, Topic]:
    """Topics by id.

    Args:
        bag: the database.
        distribution: that recorded the bag, by what stands beside it; the bag's own word counts more.
        findings: of the log.

    Raises:
        UnsupportedLog: the database is no bag.
        sqlite3.DatabaseError, UnicodeDecodeError: a page that is needed for it is damaged.
    """
    missing = [table for table, columns in TABLES.items() if not _has(bag, table, columns)]
    if len(missing) == len(TABLES):
        raise UnsupportedLog(
            "The database has no tables of topics and messages: it is no ROS 2 bag.", next_step="leave it out of the drive"
        )
    if missing:
        columns = ", ".join(sorted(column.decode() for column in TABLES[missing[0]]))
        findings.damaged(f"The bag has no table {missing[0]!r} with the columns {columns}, and none named rowid.")
        return {}
    recorded = _recorded_definitions(bag, findings)
    store = _Store(_distribution(bag) or distribution, findings)
    names = Names()
    topics: dict[int, Topic] = {}
    for number, name, kind, form, digest in _rows(bag):
        try:
            texts = [text.decode("utf-8") for text in (name, kind, form, digest)]
        except (AttributeError, UnicodeDecodeError):
            findings.damaged(f"The topic with id {number!r} has {name!r} of type {kind!r} as {form!r}, expected texts.")
            continue
        if not isinstance(number, int) or number in topics:
            findings.damaged(f"The topic {texts[0]!r} has id {number!r}, expected a number of its own.")
            continue
        topics[number] = _topic(names, store, recorded.get(texts[1]), *texts)
    store.say_which()
    return topics


def _topic(
    names: Names, store: _Store, recorded: tuple[str, bytes] | None, topic: str, kind: str, form: str, digest: str
) -> Topic:
    encoding, definition = recorded or store.definition(kind)
    reason = ""
    if not definition:
        reason = (
            f"the bag carries no definition of {kind!r}, and it is none of the standard messages of ROS 2 {store.distribution};"
            " `ros2 bag convert` to MCAP, where the package of the type is installed, records it"
        )
    elif digest and encoding == "ros2msg":
        reason = store.contradiction(topic, kind, definition, digest)
    return Topic(topic, Channel(names.name(topic, form, kind, definition), form, kind, encoding, definition), reason)


def _has(bag: sqlite3.Connection, table: str, columns: set[bytes]) -> bool:
    """Whether there is such a table: no view and no virtual table, which could compute anything.

    A column of the name ``rowid`` would hide the number that SQLite gives each row.
    """
    kinds = bag.execute("SELECT type, sql FROM sqlite_master WHERE name = ?", (table,)).fetchall()
    if len(kinds) != 1 or kinds[0][0] != b"table" or b"VIRTUAL" in (kinds[0][1] or b"VIRTUAL").upper().split(b"(")[0]:
        return False
    found = {row[1].lower() for row in bag.execute(f"PRAGMA table_info({table})")}
    return columns <= found and b"rowid" not in found


def _rows(bag: sqlite3.Connection) -> list[tuple[object, bytes, bytes, bytes, bytes]]:
    digest = "type_description_hash" if _has(bag, "topics", {b"type_description_hash"}) else "x''"
    return bag.execute(f"SELECT id, name, type, serialization_format, {digest} FROM topics ORDER BY id").fetchall()


def _distribution(bag: sqlite3.Connection) -> str:
    row = bag.execute("SELECT ros_distro FROM schema").fetchone() if _has(bag, "schema", {b"ros_distro"}) else None
    return row[0].decode("utf-8", "replace") if row and isinstance(row[0], bytes) else ""


def _recorded_definitions(bag: sqlite3.Connection, findings: Findings) -> dict[str, tuple[str, bytes]]:
    """Encoding and text of each definition, by type; a text that is none is as good as absent, and so are two that differ."""
    if not _has(bag, "message_definitions", DEFINITION_COLUMNS):
        return {}
    rows = bag.execute("SELECT topic_type, encoding, encoded_message_definition FROM message_definitions").fetchall()
    found: dict[str, tuple[str, bytes]] = {}
    doubtful: set[str] = set()
    for row in rows:
        if all(isinstance(text, bytes) for text in row) and row[2]:
            kind, encoding = (text.decode("utf-8", "replace") for text in row[:2])
            if found.setdefault(kind, (encoding, row[2])) != (encoding, row[2]):
                doubtful.add(kind)
    for kind in sorted(doubtful):
        findings.damaged(f"The bag carries definitions of {kind!r} that differ: none of them is used.")
        del found[kind]
    return found


class _Store:
    """Standard messages of one distribution; opened when a definition is asked for, since rosbags takes its time."""

    def __init__(self, recorded_by: str, findings: Findings) -> None:
        self._recorded_by, self._findings = recorded_by, findings
        self._used: list[str] = []

    @cached_property
    def distribution(self) -> str:
        """That of the bag where rosbags knows it."""
        from rosbags.typesys import Stores

        return self._recorded_by if f"ROS2_{self._recorded_by.upper()}" in Stores.__members__ else DEFAULT_DISTRIBUTION

    @cached_property
    def _store(self) -> Typestore:
        from rosbags.typesys import Stores, get_typestore

        return get_typestore(Stores[f"ROS2_{self.distribution.upper()}"])

    def definition(self, kind: str) -> tuple[str, bytes]:
        """Encoding and text of a standard message; both empty for any other."""
        package, _, name = kind.replace("/msg/", "/").partition("/")
        full = f"{package}/msg/{name}"
        if full not in self._store.fielddefs:
            return "", b""
        self._used.append(kind)
        return "ros2msg", self._store.generate_msgdef(full, ros_version=2)[0].encode()

    def say_which(self) -> None:
        """A note on the definitions that are not the bag's own."""
        if self._used:
            known = self.distribution == self._recorded_by
            why = "which recorded it" if known else f"for it names {self._recorded_by or 'nothing'!r} as what recorded it"
            kinds = ", ".join(sorted(set(self._used)))
            self._findings.note(f"The bag carries no definition of {kinds}: those of ROS 2 {self.distribution} are used, {why}.")

    def contradiction(self, topic: str, kind: str, definition: bytes, digest: str) -> str:
        """What is wrong with a recorded definition, held against the hash of the type; told, and returned."""
        from rosbags.typesys import Stores, TypesysError, get_types_from_msg, get_typestore

        store = get_typestore(Stores.EMPTY)
        try:
            store.register(get_types_from_msg(definition.decode("utf-8"), kind))
            found = store.hash_rihs01(kind)
        except (TypesysError, UnicodeDecodeError, KeyError, RecursionError) as error:
            found = f"nothing ({type(error).__name__})"
        if found == digest:
            return ""
        reason = f"its definition gives {found}, its publisher said {digest}"
        self._findings.damaged(f"The type {kind!r} of {topic!r} is in doubt: {reason}.", channel=topic)
        return reason
