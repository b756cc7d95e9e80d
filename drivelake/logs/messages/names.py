"""Names of tables. Belongs here: what a topic is called that a log declares more than once.

Never here: channels, connections, files.
"""

from __future__ import annotations

from collections import Counter

__all__ = ["Names"]


class Names:
    """Names of tables: the topic, with ``#2`` and so on where a topic is declared again with another definition."""

    def __init__(self) -> None:
        self._names: dict[tuple[str, str, str, bytes], str] = {}
        self._taken: set[str] = set()
        self._places: Counter[str] = Counter()

    def name(self, topic: str, encoding: str, kind: str, definition: bytes) -> str:
        """The same name for the same topic, encoding, type and definition, and for nothing else."""
        key = topic, encoding, kind, definition
        while key not in self._names:
            self._places[topic] += 1
            name = f"{topic}#{self._places[topic]}" if self._places[topic] > 1 else topic
            if name not in self._taken:  # a topic may end in a number itself
                self._names[key] = name
                self._taken.add(name)
        return self._names[key]
