"""Looking a lakeFS repository over. Belongs here: comparing what describes versions, finding what does not belong.

Never here: the files of versions (the verifier compares those), changing anything.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from drivelake.errors import InputError, StoreError
from drivelake.manifest import ASSETS, check_partition
from drivelake.versions.lakefs.calls import THREADS
from drivelake.versions.lakefs.setup import ACTIONS
from drivelake.versions.lakefs.transfer import Hashed, Transfer
from drivelake.versions.lakefs.tree import DATA, Held, Tree, path_of
from drivelake.versions.store import MAIN, MANIFEST, PUBLISH, TOMBSTONE, WITHDRAWALS

__all__ = ["check", "strangers"]


def check(tree: Tree, transfer: Transfer, commit: str) -> int:
    """Read every small file at a commit and compare it with the size, checksum and SHA-256 that the server keeps of it.

    That record is the server's own: whoever may write its database may change both, and nothing here would tell. What a
    version's manifest says of its files is compared by the verifier, and signed evidence is what stands against the rest.

    Returns:
        How many were compared.

    Raises:
        StoreError: one differs, or its bytes are gone; names it.
    """

    def one(held: Held) -> None:
        found = Hashed.of(transfer.read(commit, held.path))
        if found.size != held.size or (held.sha256 is not None and held.sha256 != found.sha256):
            raise StoreError(
                f"{held.path} at {commit[:12]} holds {found.size} bytes with SHA-256 {found.sha256}, the server's record "
                f"says {held.size} and {held.sha256}.",
                next_step="restore it from a copy of the store, or publish the same version again",
            )

    below = f"/{DATA}/"
    waiting = [held for held in tree.held(commit) if below not in held.path and not held.path.startswith(ACTIONS)]
    with ThreadPoolExecutor(THREADS) as pool:
        return sum(1 for _ in pool.map(one, waiting))


def strangers(tree: Tree, commit: str, branches: Iterable[str]) -> list[str]:
    """See ``VersionStore.strangers``.

    Args:
        tree: the repository's.
        commit: where.
        branches: names of all that are no locks.
    """
    found: set[str] = set()
    whole: dict[str, bool] = {}
    for held in tree.held(commit):
        path = path_of(held.path)
        if path is None or not _is_path(path):
            if not held.path.startswith(ACTIONS):
                found.add(held.path)
            continue
        name = held.path.removeprefix(f"{path}/")
        withdrawn = path.startswith(f"{WITHDRAWALS}/")
        needed = TOMBSTONE if withdrawn else MANIFEST
        whole[path] = whole.get(path, False) or name == needed
        if name != needed and (withdrawn or not name.startswith(f"{DATA}/")):
            found.add(held.path)
    found |= {path for path, complete in whole.items() if not complete}
    refs = [f"refs/heads/{name}" for name in branches if name != MAIN and not name.startswith(PUBLISH)]
    return [name if name.isprintable() else ascii(name) for name in (*sorted(found), *refs)]


def _is_path(path: str) -> bool:
    asset, _, partition = path.partition("/")
    if asset not in ASSETS and asset != WITHDRAWALS:
        return False
    try:
        check_partition(partition)
    except InputError:
        return False
    return True
