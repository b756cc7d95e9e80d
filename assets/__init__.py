"""One noun a file: declares the asset, calls the domain, reports to the UI. Never here: computing, triggering.

No module here may use ``from __future__ import annotations``: Dagster reads the annotations of its functions.
"""

import dagster as dg

from assets import calibrations, checkpoints, curated_datasets, evidence, raw_logs, sensor_frames, signals, soc_artefacts
from drivelake.declaration import Declaration

__all__ = ["build_assets"]

NOUNS = (calibrations, raw_logs, signals, sensor_frames, curated_datasets, checkpoints, soc_artefacts, evidence)


def build_assets(declaration: Declaration) -> list[dg.AssetsDefinition]:
    """Every asset of a lake with this declaration, in the order the data flows."""
    return [noun.build(declaration) for noun in NOUNS]
