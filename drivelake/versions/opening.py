"""From what is declared to a store that works. Belongs here: choosing the backend. Never here: anything that a backend does."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from drivelake.storage import Store
from drivelake.versions.dvc.embedded import EmbeddedStore
from drivelake.versions.store import VersionStore

if TYPE_CHECKING:
    from drivelake.versions.s3.bucket import Bucket

__all__ = ["create_store", "open_store"]


def open_store(declared: Store, folder: Path) -> VersionStore:
    """The declared store.

    Args:
        declared: which one, and where.
        folder: the store itself when it is embedded; where the store is shared, a room in it is what this machine keeps of
            it. Rooms of several stores stand side by side, so that a lake can change stores by its declaration alone.

    Raises:
        NotFound: there is no such store.
        Denied: credentials are missing or do not suffice.
        Unavailable: its server or bucket does not answer.
    """
    if declared.kind == "lakefs":
        return _lakefs(declared, folder)
    return EmbeddedStore(_room(declared, folder), _bucket(declared))


def create_store(declared: Store, folder: Path, *, storage_namespace: str | None = None) -> VersionStore:
    """Make the declared store, or open the one that is there; any number may do so at once.

    Args:
        declared: which one, and where.
        folder: as for ``open_store``.
        storage_namespace: lakeFS only: where a new repository keeps its objects, as in ``s3://bucket/prefix``.
    """
    if declared.kind == "lakefs":
        from drivelake.versions.lakefs.store import LakeFSStore

        assert declared.url is not None, "checked by the declaration"
        assert declared.repository is not None, "checked by the declaration"
        return LakeFSStore.create(
            declared.url,
            declared.repository,
            _room(declared, folder),
            storage_namespace=storage_namespace,
            s3_endpoint=declared.s3_endpoint,
        )
    return EmbeddedStore.create(_room(declared, folder), _bucket(declared))


def _room(declared: Store, folder: Path) -> Path:
    if declared.local:
        return folder
    return folder / f"{declared.kind}-{hashlib.sha256(declared.describe().encode()).hexdigest()[:8]}"


def _bucket(declared: Store) -> Bucket | None:
    if declared.bucket is None:
        return None
    from drivelake.versions.s3.bucket import Bucket  # boto3 takes a third of a second, which no lake of one machine needs

    return Bucket(declared.bucket, declared.s3_endpoint)


def _lakefs(declared: Store, folder: Path) -> VersionStore:
    from drivelake.versions.lakefs.store import LakeFSStore  # its client takes a third of a second, which no embedded lake needs

    assert declared.url is not None, "checked by the declaration"
    assert declared.repository is not None, "checked by the declaration"
    return LakeFSStore(declared.url, declared.repository, _room(declared, folder), s3_endpoint=declared.s3_endpoint)
