"""The command line as a person runs it: in a process of its own where that is the point, else in this one, which is cheaper."""

import contextlib
import io
import os
import subprocess
import sys
from types import SimpleNamespace
from unittest import mock


def _environment(asked):
    return {k: v for k, v in os.environ.items() if k != "DRIVELAKE_LAKE"} | {"COLUMNS": "200", **asked}


def process(*words, code="from drivelake.cli import main; main()", cwd=None, **environment):
    """A process of its own, so that nothing that is imported here is there."""
    command = [sys.executable, "-c", code, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd, env=_environment(environment))


def drivelake(*words, cwd=None, **environment):
    """The same without a new interpreter: words, folder and environment are those of the process while it answers."""
    said, complained = io.StringIO(), io.StringIO()
    with (
        mock.patch.dict(os.environ, _environment(environment), clear=True),
        mock.patch.object(sys, "argv", ["drivelake", *map(str, words)]),
        contextlib.chdir(cwd or "."),
        contextlib.redirect_stdout(said),
        contextlib.redirect_stderr(complained),
    ):
        from drivelake.cli import main

        try:
            main()
        except SystemExit as ended:
            code = ended.code
    return SimpleNamespace(returncode=code, stdout=said.getvalue(), stderr=complained.getvalue())
