"""Versions: every published asset version, addressable by commit. Belongs here: storing, merging, naming, reading them back.

Never here: what a version means, how it is made, signed or verified; a manifest is opaque bytes to this room.

``store`` is the interface and what is built on top of it; ``embedded`` keeps it on one machine without a server:
DVC's object database (``objects``) for the bytes, a bare git repository (``graph``) for the commits.
"""

from drivelake.versions.embedded import EmbeddedStore
from drivelake.versions.store import MAIN, MANIFEST, VERSION_TRAILER, HistoryEntry, VersionStore, publish

__all__ = ["MAIN", "MANIFEST", "VERSION_TRAILER", "EmbeddedStore", "HistoryEntry", "VersionStore", "publish"]
