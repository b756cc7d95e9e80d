"""The process that reads logs: ``python -m drivelake.logs.worker MEMORY_MB THREADS LIFELINE``.

Belongs here: its caps, its loop, the functions it runs by name. Never here: reading a format, judging a log, the parent's
side (isolation).

It takes one JSON line a request on standard input (``function``, ``arguments``) and gives one a reply (``result``; or
``error``, ``message``, ``next_step``). What is not expected of a reader ends it: the parent tells that from its exit.
"""

from __future__ import annotations

import faulthandler
import fcntl
import json
import os
import resource
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType

import pyarrow as pa
from pydantic import JsonValue, TypeAdapter

from drivelake.errors import DrivelakeError
from drivelake.logs.opening import inspect_log
from drivelake.logs.salvage import salvage_log
from drivelake.logs.tables import write_tables

__all__ = ["main"]

THREAD_STACK_BYTES = 1 << 20
JSON = TypeAdapter(dict[str, JsonValue])


def inspect(path: str, name: str, threads: int) -> JsonValue:  # noqa: ARG001 - every function is given the threads
    """:func:`~drivelake.logs.inspect_log` as JSON."""
    return inspect_log(Path(path), name=name).as_dict()


def tables(log: str, path: str, out: str, databases: Sequence[str], threads: int) -> JsonValue:
    """:func:`~drivelake.logs.tables.write_tables` as JSON."""
    written = write_tables(log, Path(path), Path(out), databases=[Path(p) for p in databases], threads=threads)
    return JSON.validate_python(written)


def salvage(path: str, out: str, threads: int) -> JsonValue:  # noqa: ARG001 - as above
    """:func:`~drivelake.logs.salvage.salvage_log` as JSON."""
    return salvage_log(Path(path), Path(out)).as_dict()


FUNCTIONS: Mapping[str, Callable[..., JsonValue]] = {"inspect": inspect, "salvage": salvage, "tables": tables}


def main(arguments: Sequence[str], functions: Mapping[str, Callable[..., JsonValue]] = FUNCTIONS) -> None:
    """Serve requests until the parent closes standard input."""
    memory_mb, threads, lifeline = float(arguments[0]), int(arguments[1]), int(arguments[2])
    faulthandler.enable()
    # replies keep a descriptor of their own; whatever a library prints goes to standard error
    with os.fdopen(os.dup(1), "wb") as replies:
        os.dup2(2, 1)
        _end_with_parent(lifeline)
        _cap(int(memory_mb * 1e6))
        _keep_pandas_away()
        _reply(replies.fileno(), {"result": os.getpid()})
        for line in sys.stdin.buffer:
            request = json.loads(line)
            answer = _answer(functions[request["function"]], {**request["arguments"], "threads": threads})
            _reply(replies.fileno(), answer)


def _answer(function: Callable[..., JsonValue], arguments: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """What a function returns, or the errors that a caller can act on."""
    try:
        return {"result": function(**arguments)}
    except DrivelakeError as error:
        return {"error": type(error).__name__, "message": error.message, "next_step": error.next_step}
    except OSError as error:
        return {"error": "OSError", "message": error.strerror or str(error), "errno": error.errno, "path": str(error.filename)}
    except MemoryError:
        return {"error": "MemoryError"}


def _reply(descriptor: int, answer: dict[str, JsonValue]) -> None:
    left = json.dumps(answer).encode() + b"\n"
    while left:
        left = left[os.write(descriptor, left) :]


def _end_with_parent(lifeline: int) -> None:
    """Let the kernel signal us when the other end of the pipe closes; SIGIO ends a process, also one that hangs."""
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, fcntl.fcntl(lifeline, fcntl.F_GETFL) | os.O_ASYNC)


def _cap(memory: int) -> None:
    """Cap private memory, at most to what the parent may have; leave no core file of somebody's drive behind."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    limit = memory if hard == resource.RLIM_INFINITY else min(memory, hard)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    threading.stack_size(THREAD_STACK_BYTES)  # reserved stacks count, whatever is used of them
    pa.set_io_thread_count(1)


class _NoPandas(MetaPathFinder):
    """Finds everything but pandas."""

    def find_spec(self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None) -> None:  # noqa: ARG002
        if fullname == "pandas":
            raise ModuleNotFoundError("pandas is kept away from Arrow")


def _keep_pandas_away() -> None:
    """Let Arrow find no pandas at its first conversion of a Python value, when it looks for it once and for all.

    Importing it takes more CPU time than reading most logs. What needs it (asammdf) imports it later as ever.
    """
    finder = _NoPandas()
    sys.meta_path.insert(0, finder)
    try:
        pa.array([0])
    finally:
        sys.meta_path.remove(finder)


if __name__ == "__main__":
    main(sys.argv[1:])
