"""Reading what stages published as JSON. Belongs here: opening a file of a version, and reaching into what it holds.

Never here: what the fields mean. What is absent is None, an empty mapping or an empty list, never an error: whoever
reads on says NOT SHOWN. A file that is there and is no JSON is an error.
"""

from __future__ import annotations

import json

from pydantic import JsonValue

from drivelake.errors import VerificationFailed
from drivelake.lake import Version

__all__ = ["fields", "listed", "load", "pick"]


def load(version: Version | None, name: str) -> JsonValue:
    """The content of a JSON file of a version; None without the version or the file, NaN and infinities too are None.

    Raises:
        VerificationFailed: the file is not JSON.
    """
    if version is None or name not in version.files:
        return None
    try:
        loaded: JsonValue = json.loads(version.path(name).read_bytes(), parse_constant=lambda _: None)
    except (OSError, ValueError) as error:
        raise VerificationFailed(
            f"{version.name}/{name} cannot be read as JSON: {error}.", next_step="drivelake verify names what was changed"
        ) from None
    return loaded


def pick(value: object, *path: str) -> JsonValue:
    """The value at a path of keys; None where the path ends early."""
    for key in path:
        if not isinstance(value, dict) or key not in value:
            return None
        value = value[key]
    found: JsonValue = value  # type: ignore[assignment] # a part of JSON is JSON
    return found


def fields(value: object, *path: str) -> dict[str, JsonValue]:
    """The mapping at a path, sorted by key; empty where there is none."""
    found = pick(value, *path)
    return dict(sorted(found.items())) if isinstance(found, dict) else {}


def listed(value: object, *path: str) -> list[JsonValue]:
    """The list at a path; empty where there is none."""
    found = pick(value, *path)
    return found if isinstance(found, list) else []
