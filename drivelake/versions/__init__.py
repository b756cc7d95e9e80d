"""Versions: every published asset version, addressable by commit. Belongs here: storing, merging, naming, reading them back.

Never here: what a version means, how it is made, signed or verified; a manifest is opaque bytes to this room.

``store`` is the interface and what is built on top of it. ``embedded`` keeps it without a server: DVC's object database
(``objects``) for the bytes, a bare git repository (``graph``) for the commits, on one machine or on a bucket (``bucket``) that
many share. ``lakefs`` keeps it on a lakeFS server. ``opening`` chooses between them by the declaration.
"""

from drivelake.versions.dvc.embedded import EmbeddedStore
from drivelake.versions.opening import create_store, open_store
from drivelake.versions.store import (
    CODE_TRAILER,
    MAIN,
    MANIFEST,
    RUN_TRAILER,
    VERSION_TRAILER,
    Address,
    HistoryEntry,
    Stored,
    VersionStore,
    publish,
)

__all__ = [
    "CODE_TRAILER",
    "MAIN",
    "MANIFEST",
    "RUN_TRAILER",
    "VERSION_TRAILER",
    "Address",
    "EmbeddedStore",
    "HistoryEntry",
    "Stored",
    "VersionStore",
    "create_store",
    "open_store",
    "publish",
]
