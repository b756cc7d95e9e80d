"""What is run together. Belongs here: selections of assets by name. Never here: when they run.

One job a unit of scheduling, since a run has one partition: a rig, a drive, a dataset, a model, an artefact.
"""

import dagster as dg

from drivelake.lake import Lake

__all__ = ["ASSET_JOBS", "JOBS", "assets_of"]

# job -> its assets, in the order the data flows; the jobs too are in that order
JOBS: dict[str, tuple[str, ...]] = {
    "calibrate": ("calibrations",),
    "ingest": ("raw_logs", "signals", "sensor_frames"),
    "curate": ("curated_datasets",),
    "train": ("checkpoints",),
    "release": ("soc_artefacts", "evidence"),
}
ASSET_JOBS = [
    dg.define_asset_job(name, selection=dg.AssetSelection.assets(*assets), description=" -> ".join(assets))
    for name, assets in JOBS.items()
]


def assets_of(lake: Lake, job: str, partition: str) -> tuple[str, ...]:
    """Assets of a job that can be made for a partition: a drive gone from the inbox keeps the raw logs that it has."""
    if job == "ingest" and not (lake.inbox / partition).is_dir():
        return JOBS[job][1:]
    return JOBS[job]
