"""Datasets: selection, slices, splits, leakage, packed shards. Belongs here: from frames to rows to learn from.

Never here: synchronising (frames does), decoding and augmenting pictures (learning does).
"""

from drivelake.datasets.curate import SourceDrive, curate
from drivelake.datasets.leakage import Ancestry, LeakageCheck
from drivelake.datasets.select import DriveFrames
from drivelake.datasets.split import SPLITS, split_of

__all__ = ["SPLITS", "Ancestry", "DriveFrames", "LeakageCheck", "SourceDrive", "curate", "split_of"]
