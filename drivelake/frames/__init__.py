"""Frames: the signals of one drive lined up on one clock. Belongs here: finding a declared sensor's samples, clock
models and their estimation, matching samples to reference ticks, the report on how well it went and its plots.

Never here: decoding a log (drivelake.logs), choosing rows for a dataset (drivelake.datasets), judging the report (gates).
"""

from drivelake.frames.report import SyncReport
from drivelake.frames.synchronisation import synchronise

__all__ = ["SyncReport", "synchronise"]
