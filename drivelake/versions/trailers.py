"""Metadata of a commit as git trailers, ``Key: value`` lines at the end of its message. Belongs here: writing and parsing them.

Never here: which keys exist and what they mean.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from drivelake.errors import StoreError

__all__ = ["join_message", "split_message"]

TRAILER = re.compile(r"([A-Za-z][A-Za-z0-9-]*): (\S|\S.*\S)")


def join_message(message: str, metadata: Mapping[str, str]) -> str:
    """One text that ``split_message`` takes apart into the same two.

    Raises:
        StoreError: a key that is not letters, digits and dashes, a value that is empty or not one trimmed line, or a
            message that would not come back as it is.
    """
    text = "\n".join([message, "", *(f"{key}: {value}" for key, value in metadata.items())]) if metadata else message
    if "\0" in text or split_message(text) != (message, dict(metadata)):
        raise StoreError(
            f"Commit message {message!r} with {dict(metadata)!r} cannot be read back from one text.",
            next_step="keys of letters, digits and dashes; values of one trimmed line; no such lines at the message's end",
        )
    return text


def split_message(text: str) -> tuple[str, dict[str, str]]:
    """Message and metadata; the metadata is the last paragraph, if each of its lines is a trailer."""
    body, gap, last = text.rstrip("\n").rpartition("\n\n")
    lines = [TRAILER.fullmatch(line) for line in last.split("\n")]
    if not gap or not all(lines):
        return text.rstrip("\n"), {}
    return body, {line[1]: line[2] for line in lines if line}
