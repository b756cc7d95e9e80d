"""The one error tree. Belongs here: exception classes and their exit codes. Never: any logic that raises them.

    DrivelakeError                 1   anything below, and what has no narrower name
    |-- DeclarationError           2   lakehouse.yaml says something that cannot be
    |-- InputError                 3   a drive or a log that cannot be used as it is
    |   |-- LogDamaged             3   bytes of a log contradict its format or its checksums
    |   |-- UnsupportedLog         3   no reader for this kind of file
    |   |-- MissingChannel         3   a declared sensor is not in the log
    |   |-- EmptyDrive             3   a drive folder without one log
    |   `-- DatasetError           3   a selection or a split that gives nothing to learn from
    |-- StoreError                 4   the version store cannot do what was asked
    |   |-- NotFound               4   no such ref, asset or version
    |   |-- Conflict               4   two writers, one asset, different bytes
    |   |-- Denied                 4   credentials are missing, or do not reach so far
    |   |-- Unavailable            4   a server or the network did not answer, also when asked again
    |   `-- Withdrawn              4   bytes that an authorised withdrawal took away: ABSENT-AUTHORISED
    |-- VerificationFailed         5   the evidence and the bytes do not agree
    |-- GateClosed                 6   measured values do not meet the declared criteria
    `-- ToolMissing                7   an optional tool is not installed

The number is the exit code of the command line; it is stable.
A message says what was found and what was expected, with numbers; ``next_step`` says what to do.
"""

__all__ = [
    "Conflict",
    "DatasetError",
    "DeclarationError",
    "Denied",
    "DrivelakeError",
    "EmptyDrive",
    "GateClosed",
    "InputError",
    "LogDamaged",
    "MissingChannel",
    "NotFound",
    "StoreError",
    "ToolMissing",
    "Unavailable",
    "UnsupportedLog",
    "VerificationFailed",
    "Withdrawn",
]


class DrivelakeError(Exception):
    """Root of the tree; carries the message and the next step a person can take."""

    exit_code = 1

    def __init__(self, message: str, *, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.message} Next: {self.next_step}" if self.next_step else self.message


class DeclarationError(DrivelakeError):
    """The declaration cannot be used; the message names the key."""

    exit_code = 2


class InputError(DrivelakeError):
    """A drive, a log or a selection that cannot be used as it is."""

    exit_code = 3


class LogDamaged(InputError):
    """Bytes of a log contradict its format or its checksums; the message carries the offset."""


class UnsupportedLog(InputError):
    """No reader for this kind of file."""


class MissingChannel(InputError):
    """A declared sensor is not in the log; the message names the nearest channel that is."""


class EmptyDrive(InputError):
    """A drive folder without one log."""


class DatasetError(InputError):
    """A selection or a split that gives nothing to learn from, or that leaks."""


class StoreError(DrivelakeError):
    """The version store cannot do what was asked."""

    exit_code = 4


class NotFound(StoreError):
    """No such ref, asset or version."""


class Conflict(StoreError):
    """Two writers published different bytes for one asset; the message names both."""


class Denied(StoreError):
    """The store refuses these credentials, or there are none; the message names the call."""


class Unavailable(StoreError):
    """A server or the network did not answer, also when asked again; nothing is known to be wrong, run again later."""


class Withdrawn(StoreError):
    """The bytes were taken away with authority; the message reads ABSENT-AUTHORISED and names by whom, when and why."""


class VerificationFailed(DrivelakeError):
    """The evidence and the bytes do not agree; the message names the first file."""

    exit_code = 5


class GateClosed(DrivelakeError):
    """Measured values do not meet the declared criteria; the message lists each with its number."""

    exit_code = 6


class ToolMissing(DrivelakeError):
    """An optional tool is not installed; ``next_step`` is the command that installs it."""

    exit_code = 7
