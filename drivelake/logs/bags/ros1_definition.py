"""Digests of ROS 1 message definitions. Belongs here: the MD5 that ROS computes over a definition text.

Never here: layouts of messages, connections.

Algorithm: ``genmsg.gentools.compute_md5``, https://github.com/ros/genmsg: comments out, constants first, then fields; a field
of another message type stands for that type's own digest.
"""

from __future__ import annotations

import hashlib
import re

__all__ = ["definition_md5"]

SECTION = re.compile(r"^={3,}[ \t\r]*$", re.MULTILINE)
SECTION_NAME = re.compile(r"\A\s*MSG:[ \t]*(\S+)[^\n]*$", re.MULTILINE)
HEADER = "std_msgs/Header"
DEPTH_MAX = 32
BUILTINS = frozenset(
    {"bool", "byte", "char", "float32", "float64", "string", "time", "duration"}
    | {f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)}
)


def definition_md5(kind: str, definition: bytes) -> str | None:
    """The digest of a type, hexadecimal; None where the text does not hold what the type is made of.

    Args:
        kind: ``sensor_msgs/Imu``.
        definition: its text, with the definitions it depends on in sections.
    """
    first, *others = SECTION.split(definition.decode("utf-8", "surrogateescape"))
    sections = {kind: first}
    for section in others:
        if named := SECTION_NAME.match(section):
            sections.setdefault(named[1], section[named.end() :])
    try:
        return _digest(kind, sections, {}, 0)
    except (KeyError, ValueError):
        return None


def _digest(kind: str, sections: dict[str, str], known: dict[str, str], depth: int) -> str:
    """Raises KeyError for a type that is not there, ValueError for a line that is no definition or types that never end."""
    if kind in known:
        return known[kind]
    if depth > DEPTH_MAX:
        raise ValueError
    package = kind.rpartition("/")[0]
    constants, fields = [], []
    for line in sections[kind].splitlines():
        clean = line.partition("#")[0].strip()
        if "=" in clean:
            constants.append(_constant(line, clean))
        elif clean:
            field, name = clean.split()
            bare = field.partition("[")[0]
            if bare not in BUILTINS:
                field = _digest(_resolved(bare, package, sections), sections, known, depth + 1)
            fields.append(f"{field} {name}")
    text = "\n".join((*constants, *fields)).strip()
    known[kind] = hashlib.md5(text.encode("utf-8", "surrogateescape"), usedforsecurity=False).hexdigest()
    return known[kind]


def _constant(line: str, clean: str) -> str:
    """A text keeps what stands behind ``#``; everything else loses it."""
    kind, _, rest = clean.partition(" ")
    if kind == "string":
        rest = line.strip().partition(" ")[2]
    name, _, value = rest.partition("=")
    return f"{kind} {name.strip()}={value.strip()}"


def _resolved(bare: str, package: str, sections: dict[str, str]) -> str:
    if bare in {"Header", "roslib/Header"} and HEADER in sections:
        return HEADER
    return bare if "/" in bare else f"{package}/{bare}"
