"""What is run together. Belongs here: selections of assets by name. Never here: when they run.

One job a unit of scheduling, since a run has one partition: a drive, a dataset, a model, an artefact.
"""

import dagster as dg

__all__ = ["ASSET_JOBS", "JOBS"]

# job -> its assets, in the order the data flows; the jobs too are in that order
JOBS: dict[str, tuple[str, ...]] = {
    "ingest": ("raw_logs", "signals", "sensor_frames"),
    "curate": ("curated_datasets",),
    "train": ("checkpoints",),
    "release": ("soc_artefacts", "evidence"),
}
ASSET_JOBS = [
    dg.define_asset_job(name, selection=dg.AssetSelection.assets(*assets), description=" -> ".join(assets))
    for name, assets in JOBS.items()
]
