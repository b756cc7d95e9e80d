"""The lake as a Dagster resource. Belongs here: from a configured folder to a Lake and its notary. Never: asset logic."""

from pathlib import Path

import dagster as dg

from drivelake.evidence.notary import LakeNotary, establish_trust
from drivelake.lake import Lake

__all__ = ["LakeResource"]


class LakeResource(dg.ConfigurableResource[None]):
    """One lake on this machine."""

    root: str

    def open(self) -> Lake:
        """The lake; each call reads the declaration anew, so that a long-lived process sees a change."""
        return Lake(Path(self.root))

    def notary(self, lake: Lake) -> LakeNotary:
        """The notary that signs for this lake, with keys of its own."""
        establish_trust(lake)
        return LakeNotary(lake)
