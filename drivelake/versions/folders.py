"""Folders that are given away to a store. Belongs here: what may be in one, for every backend. Never here: taking it in."""

from __future__ import annotations

import os
from pathlib import Path

from drivelake.errors import StoreError

__all__ = ["regular_files"]

IGNORE_FILE = ".dvcignore"  # DVC would leave out what it names


def regular_files(folder: Path) -> list[str]:
    """Path inside ``folder`` of every file, with slashes.

    Raises:
        StoreError: there is something else than regular files and folders, or a file that DVC gives a meaning.
        OSError: it cannot be read.
    """
    found: list[str] = []
    waiting = [""]
    while waiting:
        below = waiting.pop()
        with os.scandir(folder / below) as entries:
            for entry in entries:
                relpath = below + entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(f"{relpath}/")
                elif not entry.is_file(follow_symlinks=False):
                    raise StoreError(
                        f"{entry.path} is a link or a special file, expected regular files.", next_step="copy what it points at"
                    )
                elif entry.name == IGNORE_FILE:
                    raise StoreError(
                        f"{folder} cannot be stored: DVC does not take {entry.path}.", next_step=f"leave {IGNORE_FILE} out"
                    )
                else:
                    found.append(relpath)
    return found
