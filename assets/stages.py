"""Which stage makes which asset, in the order the data flows. Belongs here: that one table. Never here: anything else."""

from compile.stage import SOC_ARTEFACTS
from drivelake.datasets.stage import CURATED_DATASETS
from drivelake.evidence.stage import EVIDENCE
from drivelake.frames.calibration import CALIBRATIONS
from drivelake.frames.stage import SENSOR_FRAMES
from drivelake.learning.stage import CHECKPOINTS
from drivelake.logs.stages import RAW_LOGS, SIGNALS
from drivelake.stage import Stage

__all__ = ["STAGES"]

STAGES: dict[str, Stage] = {
    stage.asset: stage
    for stage in (CALIBRATIONS, RAW_LOGS, SIGNALS, SENSOR_FRAMES, CURATED_DATASETS, CHECKPOINTS, SOC_ARTEFACTS, EVIDENCE)
}
