"""What all declared models share. Belongs here: strictness, and help with a name that does not exist.

Never here: any model of its own.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from pydantic import BaseModel, ConfigDict

__all__ = ["Strict", "nearest"]


class Strict(BaseModel):
    """Unknown keys are errors; values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def nearest(wrong: str, known: Iterable[str]) -> str:
    """Half a sentence that helps with a name that does not exist."""
    names = sorted(known)
    close = difflib.get_close_matches(wrong, names, n=1, cutoff=0.4)
    return f"did you mean {close[0]!r}?" if close else f"known are: {', '.join(names) or 'none'}"
