"""The folder of an embedded store on this machine. Belongs here: making it, and whose it is.

Never here: what the store holds.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from drivelake.errors import NotFound, StoreError
from drivelake.versions.dvc.gitbucket import FOLDER
from drivelake.versions.dvc.graph import BOUND, Graph
from drivelake.versions.dvc.layout import first_files
from drivelake.versions.dvc.refs import HEADS
from drivelake.versions.store import MAIN

if TYPE_CHECKING:
    from drivelake.versions.s3.bucket import Bucket

__all__ = ["LOCKS", "REPOSITORY", "make_store", "open_room"]

REPOSITORY, LOCKS = "repo.git", "locks"


def open_room(root: Path, bucket: Bucket | None) -> None:
    """See that the folder of a store is there, or make this machine's part of one that is on a bucket.

    Raises:
        NotFound: there is no store.
        StoreError: the folder belongs to another store.
    """
    repository = root / REPOSITORY
    if not repository.is_dir():
        if bucket is None:
            raise NotFound(f"There is no version store at {root}.", next_step="check the lake's path, or create the lake there")
        if bucket.head(f"{FOLDER}/{HEADS}{MAIN}") is None:
            raise NotFound(
                f"There is no version store at {bucket.url}.", next_step="check store.bucket, or create the lake there"
            )
        _make_part(root, bucket)
    _require_bound(repository, bucket)


def make_store(root: Path, bucket: Bucket | None) -> None:
    """Make the store, unless there is one; any number of processes and machines may do so at once."""
    if bucket is None:
        (root / "files" / "md5").mkdir(parents=True, exist_ok=True)
        Graph.create(root / REPOSITORY, root / LOCKS, first_files(root, None))
        return
    bucket.require_conditions()
    _make_part(root, bucket)
    _require_bound(root / REPOSITORY, bucket)
    graph = Graph(root / REPOSITORY, root / LOCKS, bucket)
    if graph.refs.target(HEADS + MAIN) is None:
        graph.begin(first_files(root, bucket))  # of many who do so at once the bucket takes one


def _make_part(root: Path, bucket: Bucket) -> None:
    (root / "files" / "md5").mkdir(parents=True, exist_ok=True)
    Graph.cache(root / REPOSITORY, root / LOCKS, bucket.url)


def _require_bound(repository: Path, bucket: Bucket | None) -> None:
    """Refs of one store must never overwrite those of another."""
    mark = repository / BOUND
    found = mark.read_text().rstrip("\n") if mark.is_file() else None
    expected = None if bucket is None else bucket.url
    if found != expected:
        raise StoreError(
            f"{repository.parent} is {_described(found)}, expected {_described(expected)}.",
            next_step="give each store a folder of its own; drivelake migrate moves a lake from one to another",
        )


def _described(url: str | None) -> str:
    return "a store of its own" if url is None else f"this machine's part of {url}"
