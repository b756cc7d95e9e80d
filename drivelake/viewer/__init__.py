"""A drive as a file that a viewer opens. Belongs here: what is shown of a drive, in order of aligned time, and the files.

Never here: estimating clocks or poses (frames), what the lake publishes: a file made here is for people and no version.
"""

from drivelake.viewer.drive import LookReport, SensorShown, look

__all__ = ["LookReport", "SensorShown", "look"]
