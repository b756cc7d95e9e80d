"""Lakes with many drives, for the bench. Belongs here: making them quickly. Never here: what is measured on them.

Every drive is a version of one file, and it is the same version for all: the tree of a commit is then as large as with a
million different ones, and it is written in seconds, since only its folders are (git keeps equal content once).
"""

from __future__ import annotations

import json
from pathlib import Path

from drivelake.demo import example
from drivelake.lake import Lake
from drivelake.versions import MAIN, EmbeddedStore, publish
from drivelake.versions.dvc.paths import place

__all__ = ["ASSET", "write_lake", "write_order"]

ASSET = "raw_logs"
FILE_BYTES = 10_240


def write_lake(path: Path, drives: int) -> None:
    """A lake at main with so many drives, all published in one commit.

    Args:
        path: folder to make.
        drives: how many.
    """
    lake = Lake.create(path, example("generated"))
    store = lake.store
    assert isinstance(store, EmbeddedStore), "what the example declares"
    folder = path / "one"
    folder.mkdir()
    (folder / "log.bin").write_bytes(bytes(FILE_BYTES))
    publish(store, f"{ASSET}/drive", folder, b"{}", message="one drive", metadata={})
    (folder / "log.bin").unlink()
    folder.rmdir()
    graph = store._graph  # noqa: SLF001 - a store publishes one path at a time, which would take a day
    head = graph.resolve(MAIN)
    root = graph.root(head)
    version = graph.at(root, place(f"{ASSET}/drive"))
    changes = {place(f"{ASSET}/drive_{n:07d}"): version for n in range(drives)} | {place(f"{ASSET}/drive"): None}
    graph.move(f"refs/heads/{MAIN}", head, graph.write_commit(graph.graft(root, changes), [head], "the others"))


def write_order(path: Path, files: int) -> None:
    """How many files a case is to write: the bytes are a part of the work."""
    path.write_text(json.dumps({"files": files, "bytes": FILE_BYTES}), encoding="utf-8")
