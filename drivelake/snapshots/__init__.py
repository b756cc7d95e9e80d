"""A lake at one commit. Belongs here: reading it as tables, comparing two, writing one out as files.

Never here: publishing, moving a ref, what a version means.
"""

from drivelake.snapshots.snapshot import Snapshot, Table

__all__ = ["Snapshot", "Table"]
