"""The commits behind a ref on a lakeFS server. Belongs here: reading them, newest first, all or those of one path.

Never here: making commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime

from lakefs_sdk.models.commit import Commit

from drivelake.versions.lakefs.calls import Server
from drivelake.versions.store import HistoryEntry

__all__ = ["entry_of", "history"]

OWN = ".lakefs."  # keys that the server adds to the metadata of merges
FEW, MANY = 1, 1000


def history(server: Server, start: str, path: str | None) -> Iterator[HistoryEntry]:
    """Commits reachable from ``start``, newest first; with a path, those that changed it.

    The server's time is in whole seconds, and it promises no order within one: there the number of generations decides.
    """
    if path is None:
        yield from _entries(_log(server, start))
        return
    # Most callers want one. A long history is then read up to the first hit, and not up to the second.
    newest = next(_log(server, start, prefixes=[f"{path}/"], amount=FEW, limit=True), None)
    if newest is None:
        return
    second = int(newest.creation_date)
    since = datetime.fromtimestamp(second - 1, UTC)
    beside = _log(server, start, prefixes=[f"{path}/"], amount=MANY, since=since)
    first = {str(commit.id): commit for commit in (newest, *beside) if int(commit.creation_date) >= second}
    yield from _entries(_newest_first(first.values()))
    rest = _log(server, start, prefixes=[f"{path}/"], amount=MANY)
    yield from _entries(commit for commit in rest if str(commit.id) not in first)


def entry_of(commit: Commit) -> HistoryEntry:
    """A commit as it was made. A merge carries the metadata of what it merged for the repository's hooks; it made nothing."""
    merge = len(commit.parents) > 1
    metadata: Mapping[str, str] = {} if merge else commit.metadata or {}
    return HistoryEntry(
        str(commit.id),
        datetime.fromtimestamp(commit.creation_date, UTC),
        str(commit.message),
        {key: value for key, value in metadata.items() if not key.startswith(OWN)},
        tuple(str(parent) for parent in commit.parents),
    )


def _log(server: Server, start: str, **given: object) -> Iterator[Commit]:
    api = server.sdk.refs_api
    return server.pages(f"LOG {start[:12]}", lambda **more: api.log_commits(server.repository, start, **more), **given)


def _entries(commits: Iterable[Commit]) -> Iterator[HistoryEntry]:
    run: list[Commit] = []
    for commit in commits:
        if run and run[0].creation_date != commit.creation_date:
            yield from map(entry_of, _newest_first(run))
            run = []
        run.append(commit)
    yield from map(entry_of, _newest_first(run))


def _newest_first(commits: Iterable[Commit]) -> list[Commit]:
    return sorted(commits, key=lambda commit: (commit.creation_date, commit.generation or 0), reverse=True)
