"""What the tree of a commit holds in the embedded store, and what in it does not belong. Belongs here: names, DVC's settings.

Never here: whether git's objects are sound (``integrity``), whether a version's bytes are those of its manifest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from drivelake.errors import InputError, StoreError
from drivelake.manifest import ASSETS, check_partition
from drivelake.versions.dvc.gitobjects import BLOB, TREE
from drivelake.versions.dvc.graph import COMMIT_ID, Graph
from drivelake.versions.dvc.objects import DATA
from drivelake.versions.dvc.paths import shard
from drivelake.versions.dvc.refs import HEADS, TAGS
from drivelake.versions.store import MAIN, MANIFEST, PUBLISH, TOMBSTONE, WITHDRAWALS

if TYPE_CHECKING:
    from drivelake.versions.s3.bucket import Bucket

__all__ = ["DVC_FILE", "first_files", "require_layout", "strangers"]

DVC_FILE = f"{DATA}.dvc"
DVC, CONFIG, IGNORE = ".dvc", "config", ".dvcignore"
OWN, LAYOUT = ".drivelake", "layout"
SHARD = re.compile(r"[0-9a-f]{2}")
THIS_LAYOUT = b"2: asset/<2 hex digits of sha256(partition)>/partition\n"

URL = re.compile(r"    url = (['\"])(/.*)\1\n\Z")
ENDPOINT = re.compile(r'    endpointurl = "(https?://[A-Za-z0-9.:/_\[\]-]+)"\n\Z')


def first_files(root: Path, bucket: Bucket | None) -> dict[str, bytes]:
    """What the first commit of a store holds, so that stock DVC finds the bytes from a clone, and we the layout."""
    config = _config(str(root), None, None) if bucket is None else _config("", bucket.url, bucket.endpoint)
    return {f"{DVC}/{CONFIG}": config, IGNORE: b"", f"{OWN}/{LAYOUT}": THIS_LAYOUT}


def require_layout(graph: Graph, commit: str) -> None:
    """See that a store has the layout that is written here; the work does not grow with the store.

    Raises:
        StoreError: it has another one.
    """
    entry = graph.at(graph.root(commit), f"{OWN}/{LAYOUT}")
    if entry is None:
        raise StoreError(
            f"The store {graph.path} is of the earlier layout, each partition directly below its asset.",
            next_step="read it with the release of drivelake that made it, and publish into a new store",
        )
    found = graph.objects.blob(entry[0])
    if found != THIS_LAYOUT:
        raise StoreError(
            f"The store {graph.path} has the layout {found[:80]!r}, expected {THIS_LAYOUT!r}.",
            next_step="use the release of drivelake that made it",
        )


def strangers(graph: Graph, commit: str) -> list[str]:
    """See ``EmbeddedStore.strangers``."""
    return [_printable(name) for found in (_paths(graph, graph.root(commit)), _refs(graph)) for name in sorted(found)]


def _paths(graph: Graph, root: str) -> Iterator[str]:
    for name, (oid, mode) in graph.children(root).items():
        if name == DVC and mode == TREE:
            yield from _in_dvc(graph, oid)
        elif name == OWN and mode == TREE:
            yield from _in_own(graph, oid)
        elif name in {*ASSETS, WITHDRAWALS} and mode == TREE:
            yield from _in_asset(graph, oid, name)
        elif name != IGNORE or mode != BLOB or graph.objects.blob(oid):  # a line in it hides a version from DVC
            yield name


def _in_dvc(graph: Graph, tree: str) -> Iterator[str]:
    bucket = None if graph.remote is None else graph.remote.bucket
    for name, (oid, mode) in graph.children(tree).items():
        if name != CONFIG or mode != BLOB or not _as_written(graph.objects.blob(oid), bucket):
            yield f"{DVC}/{name}"


def _in_own(graph: Graph, tree: str) -> Iterator[str]:
    for name, (oid, mode) in graph.children(tree).items():
        if name != LAYOUT or mode != BLOB or graph.objects.blob(oid) != THIS_LAYOUT:
            yield f"{OWN}/{name}"


def _in_asset(graph: Graph, tree: str, asset: str) -> Iterator[str]:
    shards = graph.children(tree)
    graph.objects.fetch(oid for oid, mode in shards.values() if mode == TREE)
    for name, (oid, mode) in shards.items():
        if mode == TREE and SHARD.fullmatch(name):
            yield from _in_shard(graph, oid, asset, name)
        else:
            yield f"{asset}/{name}"


def _in_shard(graph: Graph, tree: str, asset: str, at: str) -> Iterator[str]:
    small = TOMBSTONE if asset == WITHDRAWALS else MANIFEST
    partitions = graph.objects.read_tree(tree)
    graph.objects.fetch(oid for oid, mode in partitions.values() if mode == TREE)
    if not partitions:
        yield f"{asset}/{at}"
    for name, (oid, mode) in partitions.items():
        path = f"{asset}/{at}/{name}"
        if mode != TREE or not _is_partition(name) or shard(name) != at:
            yield path
            continue
        held = {inner: mode for inner, (_, mode) in graph.objects.read_tree(oid).items()}
        if not held.keys() >= {small, DVC_FILE}:
            yield path
        yield from (f"{path}/{inner}" for inner, mode in held.items() if inner not in {small, DVC_FILE} or mode != BLOB)


def _refs(graph: Graph) -> Iterator[str]:
    for ref in graph.refs.names():
        tag = ref.removeprefix(TAGS)
        ours = ref == HEADS + MAIN or ref.startswith(HEADS + PUBLISH) or (tag != ref and not COMMIT_ID.fullmatch(tag))
        if not ours:
            yield ref


def _is_partition(name: str) -> bool:
    try:
        return check_partition(name) == name
    except InputError:
        return False


def _config(root: str, url: str | None, endpoint: str | None) -> bytes:
    quote = "'" if '"' in root else '"'
    where = f"{quote}{root}{quote}" if url is None else f'"{url}"'
    more = "" if endpoint is None else f'    endpointurl = "{endpoint}"\n'
    return f"[core]\n    remote = store\n    analytics = false\n['remote \"store\"']\n    url = {where}\n{more}".encode()


def _as_written(config: bytes, bucket: Bucket | None) -> bool:
    """Whether ``_config`` gives these bytes for this bucket, or without one for some absolute path.

    A store that was moved still names its first place; a bucket is not moved by moving a folder. But it may have another
    endpoint from here than from where the store was made.
    """
    text = config.decode(errors="replace")
    if bucket is not None:
        endpoint = ENDPOINT.search(text)
        return config == _config("", bucket.url, None if endpoint is None else endpoint[1])
    url = URL.search(text)
    # DVC's parser ends a line wherever splitlines does, and a value at its quote: more settings could follow there.
    return (
        url is not None
        and len(url[2].splitlines()) == 1
        and url[1] not in url[2]
        and str(PurePosixPath(url[2])) == url[2]
        and _config(url[2], None, None) == config
    )


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)
