"""Units of scheduling. Belongs here: partition definitions from the declaration. Never: per-drive state (the lake keeps it)."""

import dagster as dg

from drivelake.declaration import Declaration

__all__ = ["DRIVES", "artefact_keys", "artefacts", "calibrated", "calibrated_rigs", "datasets", "models"]

DRIVES = dg.DynamicPartitionsDefinition(name="drives")


def calibrated(declaration: Declaration) -> list[str]:
    """Rigs that name a calibration."""
    return [name for name, rig in declaration.rigs.items() if rig.calibration is not None]


def calibrated_rigs(declaration: Declaration) -> dg.StaticPartitionsDefinition:
    """One partition a rig that names a calibration."""
    return dg.StaticPartitionsDefinition(calibrated(declaration))


def datasets(declaration: Declaration) -> dg.StaticPartitionsDefinition:
    """One partition a declared dataset."""
    return dg.StaticPartitionsDefinition(list(declaration.datasets))


def models(declaration: Declaration) -> dg.StaticPartitionsDefinition:
    """One partition a declared model."""
    return dg.StaticPartitionsDefinition(list(declaration.models))


def artefact_keys(declaration: Declaration) -> list[str]:
    """``model@target`` for every declared pair."""
    return [f"{model}@{target}" for model in declaration.models for target in declaration.targets]


def artefacts(declaration: Declaration) -> dg.StaticPartitionsDefinition:
    """One partition a model and target."""
    return dg.StaticPartitionsDefinition(artefact_keys(declaration))
