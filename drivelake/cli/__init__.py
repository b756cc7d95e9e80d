"""The command line. Belongs here: parsing words, showing results, exit codes. Never here: doing the work.

Exit codes: 0 done, 1 something failed, 2 wrong words or a wrong declaration, 3 a log or drive that cannot be used,
4 the store, 5 not verified, 6 a gate is closed, 7 a tool is missing. With --json, standard output is one JSON value.
"""

from __future__ import annotations

import sys

import typer
from typer.exceptions import TyperException

from drivelake.cli import ask, keep, look, mend, setup, versions, view, work
from drivelake.cli.show import refuse
from drivelake.errors import DeclarationError, DrivelakeError, StoreError

__all__ = ["app", "main"]

INTERRUPTED = 130  # as a shell says it of SIGINT

app = typer.Typer(
    name="drivelake",
    help="From a folder of drives to a verified SoC artefact, and back.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for room in (work, setup, look, view, mend, ask, versions, keep):
    room.register(app)


def main() -> None:
    """Run the command line; an error of the domain becomes its message and its exit code."""
    as_json = "--json" in sys.argv
    try:
        sys.exit(app(standalone_mode=False) or 0)
    except DrivelakeError as error:
        refuse(error, as_json=as_json)
        sys.exit(error.exit_code)
    except OSError as error:
        refuse(StoreError(f"{error.filename}: {error.strerror}.", next_step="check its rights and the disk"), as_json=as_json)
        sys.exit(StoreError.exit_code)
    except TyperException as error:
        refuse(DeclarationError(error.format_message(), next_step="drivelake --help"), as_json=as_json)
        sys.exit(error.exit_code)
    except typer.Abort:
        sys.exit(INTERRUPTED)
