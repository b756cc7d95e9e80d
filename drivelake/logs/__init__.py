"""Drive logs: opened, checked and decoded to Arrow. Belongs here: MCAP and MDF, ROS 2 messages, CAN frames, units.

Never here: clocks and synchronisation (drivelake.frames), rigs and other declarations, what is done about damage.
Nothing outside of this room knows which library reads a format.
"""

from drivelake.logs.opening import DATABASE_SUFFIXES, LOG_SUFFIXES, inspect_log, is_log, read_log
from drivelake.logs.payload import PayloadReader
from drivelake.logs.report import ChannelReport, Leftovers, LogBatch, LogReport
from drivelake.logs.signals import write_signals

__all__ = [
    "DATABASE_SUFFIXES",
    "LOG_SUFFIXES",
    "ChannelReport",
    "Leftovers",
    "LogBatch",
    "LogReport",
    "PayloadReader",
    "inspect_log",
    "is_log",
    "read_log",
    "write_signals",
]
