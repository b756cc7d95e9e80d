"""Assets, resources and sensors of one lake -> Definitions. Belongs here: putting them together. Never here: anything else.

``dg dev`` and the daemon load ``defs``; the lake is the one that DRIVELAKE_LAKE names, else the one in this folder.
Where there is none yet, the graph of the shipped example is shown, and every run says how to make a lake.
"""

from collections.abc import Callable, Collection, Sequence
from pathlib import Path

import dagster as dg

from assets import build_assets
from drivelake.declaration import Declaration, load_declaration, parse_declaration
from drivelake.demo import example
from drivelake.errors import NotFound
from drivelake.lake import Lake, find_lake
from drivelake.versions.locks import exclusive
from resources import LakeResource
from sensors.catch_up import Outcome, catch_up
from sensors.jobs import ASSET_JOBS, JOBS
from sensors.new_drives import new_drives
from sensors.stale_versions import build_stale_versions

__all__ = ["build_defs", "dagster_home", "defs", "materialize_all"]

# Telemetry would look for a network; a welcome page asks for an address.
DAGSTER_YAML = """\
nux:
  enabled: false
telemetry:
  enabled: false
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config:
    max_concurrent_runs: 2
sensors:
  use_threads: true
  num_workers: 2
"""


def build_defs(declaration: Declaration, lake: Path) -> dg.Definitions:
    """The code location of a lake."""
    return dg.Definitions(
        assets=build_assets(declaration),
        jobs=ASSET_JOBS,
        sensors=[new_drives, build_stale_versions(declaration)],
        resources={"lake": LakeResource(root=str(lake))},
        executor=dg.in_process_executor,
    )


def dagster_home(lake: Path) -> Path:
    """Dagster's home inside the lake, with its configuration and its storage; made on the first call.

    Two processes that open a fresh home at once leave databases that can never be opened again (each stamps its own
    schema revision), so the storage is opened here, under a lock, before anybody else does.
    """
    home = lake / "dagster"
    home.mkdir(parents=True, exist_ok=True)
    with exclusive(lake / "dagster.lock", keep=True):
        if not (home / "dagster.yaml").exists():
            (home / "dagster.yaml").write_text(DAGSTER_YAML, encoding="utf-8")
        with dg.DagsterInstance.from_config(str(home)):
            return home


def materialize_all(
    lake: Lake,
    *,
    jobs: Collection[str] = tuple(JOBS),
    drives: Sequence[str] | None = None,
    tell: Callable[[Outcome], None] = lambda _: None,
) -> list[Outcome]:
    """Bring the lake up to date through Dagster, in this process; the command line finds this by its entry point."""
    with dg.DagsterInstance.from_config(str(dagster_home(lake.root))) as instance:
        return catch_up(lake, build_defs(lake.declaration, lake.root), instance, jobs=jobs, drives=drives, tell=tell)


def _load() -> dg.Definitions:
    """The lake's own definitions; a declaration that is there and cannot be used is an error, never the example."""
    try:
        root = find_lake().resolve()
    except NotFound:
        root = Path("lake").resolve()
    if (root / "lakehouse.yaml").is_file():
        return build_defs(load_declaration(root / "lakehouse.yaml"), root)
    return build_defs(parse_declaration(example("generated")), root)


defs = _load()
