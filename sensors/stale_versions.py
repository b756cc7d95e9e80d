"""The sensor that follows up: what stands on older inputs or an older declaration is made again.

Belongs here: asking for one run a stale partition, the earliest room first. Off by default: a team decides
itself when a training starts.
"""

import dagster as dg

from assets.partitions import artefact_keys
from assets.stages import STAGES
from compile.targets import missing
from drivelake.declaration import Declaration
from drivelake.errors import NotFound
from drivelake.lake import Lake
from drivelake.stage import planned, stale_because
from resources import LakeResource
from sensors.jobs import ASSET_JOBS
from sensors.new_drives import BUSY

__all__ = ["partitions_of", "stale_versions"]

FOLLOWING = {"curated_datasets": "curate", "checkpoints": "train", "soc_artefacts": "release"}


def partitions_of(declaration: Declaration, asset: str) -> list[str]:
    """Partitions of an asset that the declaration names; artefacts whose toolchain is absent are not among them."""
    if asset == "curated_datasets":
        return list(declaration.datasets)
    if asset == "checkpoints":
        return list(declaration.models)
    return [key for key in artefact_keys(declaration) if missing(declaration.targets[key.partition("@")[2]]) is None]


@dg.sensor(
    jobs=ASSET_JOBS,
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.STOPPED,
    description="Runs what is stale after the drives: datasets, then checkpoints, then artefacts.",
)
def stale_versions(context: dg.SensorEvaluationContext, lake: LakeResource) -> dg.SensorResult:
    """Requests for the first room that is stale; later rooms would be made from what is about to change."""
    opened = lake.open()
    if context.instance.get_runs_count(dg.RunsFilter(statuses=BUSY)):
        return dg.SensorResult(skip_reason=dg.SkipReason("runs are under way; what they change is looked at afterwards"))
    for asset, job in FOLLOWING.items():
        requests = _requests(opened, asset, job)
        if requests:
            return dg.SensorResult(run_requests=requests)
    return dg.SensorResult(skip_reason=dg.SkipReason("nothing is stale"))


def _requests(lake: Lake, asset: str, job: str) -> list[dg.RunRequest]:
    requests = []
    for partition in partitions_of(lake.declaration, asset):
        reason = stale_because(STAGES[asset], lake, partition)
        if reason is None:
            continue
        try:
            wanted = planned(STAGES[asset], partition, STAGES[asset].recipe(lake, partition)).recipe
        except NotFound:
            continue  # an input does not exist yet; its own room comes first
        # once a recipe: what failed is not tried again until something in it changes
        requests.append(dg.RunRequest(run_key=f"{asset}:{partition}:{wanted}", partition_key=partition, job_name=job))
    return requests
