"""What the tree of a commit holds in the embedded store, and what in it does not belong. Belongs here: names, DVC's settings.

Never here: whether git's objects are sound (``integrity``), whether a version's bytes are those of its manifest.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from drivelake.errors import InputError
from drivelake.manifest import ASSETS, check_partition
from drivelake.versions.gitobjects import BLOB, TREE
from drivelake.versions.graph import COMMIT_ID, HEADS, TAGS, Graph
from drivelake.versions.objects import DATA
from drivelake.versions.store import MAIN, MANIFEST

__all__ = ["DVC_FILE", "first_files", "strangers"]

DVC_FILE = f"{DATA}.dvc"
DVC, CONFIG, IGNORE = ".dvc", "config", ".dvcignore"

URL = re.compile(r"    url = (['\"])(/.*)\1\n\Z")


def first_files(root: Path) -> dict[str, bytes]:
    """What the first commit of a store at ``root`` holds, so that stock DVC finds the bytes from a clone."""
    return {f"{DVC}/{CONFIG}": _config(str(root)), IGNORE: b""}


def strangers(graph: Graph, commit: str) -> list[str]:
    """See ``EmbeddedStore.strangers``."""
    return [_printable(name) for found in (_paths(graph, graph.root(commit)), _refs(graph)) for name in sorted(found)]


def _paths(graph: Graph, root: str) -> Iterator[str]:
    for name, (oid, mode) in graph.children(root).items():
        if name == DVC and mode == TREE:
            yield from _in_dvc(graph, oid)
        elif name in ASSETS and mode == TREE:
            yield from _in_asset(graph, oid, name)
        elif name != IGNORE or mode != BLOB or graph.objects.blob(oid):  # a line in it hides a version from DVC
            yield name


def _in_dvc(graph: Graph, tree: str) -> Iterator[str]:
    for name, (oid, mode) in graph.children(tree).items():
        if name != CONFIG or mode != BLOB or not _as_written(graph.objects.blob(oid)):
            yield f"{DVC}/{name}"


def _in_asset(graph: Graph, tree: str, asset: str) -> Iterator[str]:
    for name, (oid, mode) in graph.children(tree).items():
        path = f"{asset}/{name}"
        if mode != TREE or not _is_partition(name):
            yield path
            continue
        held = {inner: mode for inner, (_, mode) in graph.children(oid).items()}
        if not held.keys() >= {MANIFEST, DVC_FILE}:
            yield path
        yield from (f"{path}/{inner}" for inner, mode in held.items() if inner not in {MANIFEST, DVC_FILE} or mode != BLOB)


def _refs(graph: Graph) -> Iterator[str]:
    for ref in graph.refs():
        tag = ref.removeprefix(TAGS)
        ours = ref == HEADS + MAIN or ref.startswith(f"{HEADS}publish-") or (tag != ref and not COMMIT_ID.fullmatch(tag))
        if not ours:
            yield ref


def _is_partition(name: str) -> bool:
    try:
        return check_partition(name) == name
    except InputError:
        return False


def _config(root: str) -> bytes:
    quote = "'" if '"' in root else '"'
    return f"[core]\n    remote = store\n    analytics = false\n['remote \"store\"']\n    url = {quote}{root}{quote}\n".encode()


def _as_written(config: bytes) -> bool:
    """Whether ``_config`` gives these bytes for some absolute path; a store that was moved still names its first place."""
    text = config.decode(errors="replace")
    url = URL.search(text)
    # DVC's parser ends a line wherever splitlines does, and a value at its quote: more settings could follow there.
    return (
        url is not None
        and len(url[2].splitlines()) == 1
        and url[1] not in url[2]
        and str(PurePosixPath(url[2])) == url[2]
        and _config(url[2]) == config
    )


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in name)
