"""Which code ran: a digest of the sources as they are on disk. Belongs here: hashing our own packages.

Never here: deciding whether that code is approved.
"""

from __future__ import annotations

import shutil
import subprocess
from functools import cache
from pathlib import Path

import rfc8785

from drivelake.evidence.statements import CodeState
from drivelake.manifest import hash_file, merkle_root

__all__ = ["code_state"]

HOUSE = Path(__file__).resolve().parents[2]
SUFFIXES = (".py", ".jinja", ".yaml")
ROOMS = ("assets", "compile", "drivelake", "resources", "sensors")


@cache
def code_state() -> CodeState:
    """RFC 6962 root over ``[path, sha256]`` of every source this process could run, and the commit where one is known.

    Read once a process, when it first signs; a process that lives longer than its sources attests those it began with.
    """
    sources = sorted(p for room in ROOMS for p in (HOUSE / room).rglob("*") if p.is_file() and p.suffix in SUFFIXES)
    sources += [p for p in (HOUSE / "definitions.py",) if p.is_file()]
    leaves = (rfc8785.dumps([p.relative_to(HOUSE).as_posix(), hash_file(p)[1]]) for p in sources)
    root = merkle_root(leaves).hex()
    commit, changes = _git("rev-parse", "HEAD"), _git("status", "--porcelain", "--untracked-files=no")
    if commit is None or changes is None:  # an installed package is no checkout
        return CodeState(root)
    return CodeState(root, commit, git_modified=bool(changes))


def _git(*arguments: str) -> str | None:
    if not (HOUSE / ".git").exists() or shutil.which("git") is None:
        return None
    asked = subprocess.run(["git", "-C", str(HOUSE), *arguments], capture_output=True, text=True, check=False)
    return asked.stdout.strip() if asked.returncode == 0 else None
