"""The command line. Belongs here: parsing words, showing results, exit codes. Never here: doing the work.

Exit codes: 0 done, 1 something failed, 2 wrong words or a wrong declaration, 3 a log or drive that cannot be used,
4 the store, 5 not verified, 6 a gate is closed, 7 a tool is missing. With --json, standard output is one JSON value.
"""

from __future__ import annotations

import sys

import typer

from drivelake.cli import ask, look, work
from drivelake.cli.show import refuse
from drivelake.errors import DrivelakeError

__all__ = ["app", "main"]

app = typer.Typer(
    name="drivelake",
    help="From a folder of drives to a verified SoC artefact, and back.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
for room in (work, look, ask):
    room.register(app)


def main() -> None:
    """Run the command line; an error of the domain becomes its message and its exit code."""
    try:
        app()
    except DrivelakeError as error:
        refuse(error, as_json="--json" in sys.argv)
        sys.exit(error.exit_code)
