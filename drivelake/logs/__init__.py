"""Drive logs: opened, checked and decoded to Arrow. Belongs here: MCAP, MDF and bags, messages, bus frames, units.

Never here: clocks and synchronisation (drivelake.frames), rigs and other declarations, what is done about damage.
Nothing outside of this room knows which library reads a format.
"""

from drivelake.logs.findings import Findings
from drivelake.logs.isolation import Caps, ReaderProcess, in_readers
from drivelake.logs.mdf.physical import to_physical
from drivelake.logs.opening import DATABASE_SUFFIXES, LOG_SUFFIXES, inspect_log, is_log, read_log
from drivelake.logs.payload import PayloadReader
from drivelake.logs.report import ChannelReport, Leftovers, LogBatch, LogReport
from drivelake.logs.signals import write_signals

__all__ = [
    "DATABASE_SUFFIXES",
    "LOG_SUFFIXES",
    "Caps",
    "ChannelReport",
    "Findings",
    "Leftovers",
    "LogBatch",
    "LogReport",
    "PayloadReader",
    "ReaderProcess",
    "in_readers",
    "inspect_log",
    "is_log",
    "read_log",
    "to_physical",
    "write_signals",
]
