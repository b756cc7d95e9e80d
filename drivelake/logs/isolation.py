"""Reading a log in a process of its own. Belongs here: starting it, its caps, what its end says about the log.

Never here: what runs in that process (worker), formats of logs, which logs are good enough.

What the caps mean. Memory: all private memory of the process, libraries and unused reservations included (RLIMIT_DATA);
pages of the log and of libraries that the kernel can drop again do not count. Time: wall clock from asking to the answer.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import re
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import IO, Self, TypeVar

from pydantic import JsonValue

from drivelake import errors
from drivelake.errors import DrivelakeError, LogDamaged
from drivelake.logs.findings import RESTORE
from drivelake.logs.report import LogReport

__all__ = ["READER", "Caps", "ReaderProcess", "in_readers"]

T = TypeVar("T")
R = TypeVar("R")

# -P: no module is ever imported from the current folder, which may be a drive
READER = (sys.executable, "-P", "-m", "drivelake.logs.worker")
START_SECONDS = 60.0
ANSWER_BYTES_MAX = 64 << 20
STDERR_BYTES_KEPT = 8 << 10
READ_BYTES = 1 << 16
READERS_MAX = 2
THREADS_MAX = 4
GRACE_SECONDS = 5.0
# Nobody sends these because of what a log holds; the kernel's memory killer and an operator do.
FROM_OUTSIDE = frozenset({signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT})
# What an absent or broken library raises, whatever the log.
BROKEN = frozenset({"ImportError", "ModuleNotFoundError"})
LAST_WORDS = logging.getLogger(__name__)


@dataclass(frozen=True)
class Caps:
    """What reading one log may take.

    Attributes:
        memory_mb: private memory of the reading process, MB of 10^6 bytes.
        seconds: wall clock for one log, s; the least that any log gets.
        seconds_per_gb: wall clock for a large log, s for each 10^9 bytes of it.
        threads: decompress and decode with this many.
    """

    memory_mb: float = 512.0
    seconds: float = 120.0
    seconds_per_gb: float = 600.0
    threads: int = 1

    def seconds_for(self, size: int) -> float:
        """Wall clock for a log of ``size`` bytes, s."""
        return max(self.seconds, self.seconds_per_gb * size / 1e9)


class ReaderProcess:
    """A child process that reads logs, one after the other; a context manager, for one thread at a time.

    The child starts with the first log. One that crashed, hung or used up its memory is replaced, so that it costs that log
    only. It ends with its parent, however that ends.

    Args:
        caps: for each log.
        command: what to start; the caps and the descriptor of its lifeline follow as arguments.
    """

    def __init__(self, caps: Caps | None = None, *, command: Sequence[str] = READER) -> None:
        self.caps = caps or Caps()
        self._command = tuple(command)
        self._child: _Child | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """End the child; the next log would start another."""
        if self._child is not None:
            self._child.end()
            self._child = None

    def inspect(self, path: Path, *, name: str | None = None) -> LogReport:
        """As :func:`~drivelake.logs.inspect_log`; a reader that crashed, hung or took too much stands in the report.

        Raises:
            OSError: the file is not there, or the disk fails.
            DrivelakeError: the reader cannot start, or was stopped from outside.
        """
        name = name or path.name
        try:
            told = self.ask("inspect", path, {"path": str(path.absolute()), "name": name})
        except LogDamaged as damage:
            return LogReport(name, "unknown", path.stat().st_size, (), (damage.message,))
        return LogReport.from_dict(_mapping(told))

    def ask(self, function: str, path: Path, arguments: dict[str, JsonValue]) -> JsonValue:
        """Run a function of the worker on a log.

        Args:
            function: its name.
            path: the log; its size decides how long it may take.
            arguments: of the function, by name.

        Raises:
            DrivelakeError: what the function raised, under its own class; or the reader cannot start, or was stopped from
                outside.
            LogDamaged: the reader crashed, hung or needed more memory than it may have.
            OSError: as raised by the function.
        """
        request = json.dumps({"function": function, "arguments": arguments}).encode() + b"\n"
        deadline_s = self.caps.seconds_for(path.stat().st_size)
        while True:
            child = self._child or _Child(self._command, self.caps)
            # kept only once it has answered well: what it is after any failure is not known
            self._child = None
            try:
                answer = child.ask(request, deadline_s)
            except _Stopped as stopped:
                if stopped.final or not child.answered:
                    raise stopped.as_error() from None
                # the state that earlier logs left in the process may be to blame: once more, in a fresh one
                continue
            except BaseException:
                child.end()
                raise
            self._child = child
            child.answered += 1
            return _result(answer)


def in_readers(items: Sequence[T], do: Callable[[ReaderProcess, T], R], caps: Caps | None = None) -> list[R]:
    """``do`` for each item with a reader that is free, two at a time where there are cores for it; results in order.

    Args:
        items: one a log.
        do: asks the reader about the item.
        caps: for each log, so the memory counts twice where two are read; the cores are shared out as threads.
    """
    cores = len(os.sched_getaffinity(0))
    processes = max(1, min(READERS_MAX, cores, len(items)))
    caps = replace(caps or Caps(), threads=max(1, min(THREADS_MAX, cores // processes)))
    free: queue.SimpleQueue[ReaderProcess] = queue.SimpleQueue()

    def taken(item: T) -> R:
        reader = free.get()
        try:
            return do(reader, item)
        finally:
            free.put(reader)

    with ExitStack() as readers:
        for _ in range(processes):
            free.put(readers.enter_context(ReaderProcess(caps)))
        if processes == 1:
            return [taken(item) for item in items]
        with ThreadPoolExecutor(processes) as pool:
            return list(pool.map(taken, items))


class _Stopped(Exception):
    """The child gave no answer.

    Args:
        sentence: what happened.
        next_step: what helps.
        final: a fresh child would do the same.
        blames_log: whether the log is the reason.
    """

    def __init__(self, sentence: str, *, next_step: str = RESTORE, final: bool = False, blames_log: bool = True) -> None:
        super().__init__(sentence)
        self.sentence, self.next_step, self.final, self.blames_log = sentence, next_step, final, blames_log

    def as_error(self) -> DrivelakeError:
        return (LogDamaged if self.blames_log else DrivelakeError)(self.sentence, next_step=self.next_step)


class _Child:
    """One running process, from its start to its end."""

    def __init__(self, command: Sequence[str], caps: Caps) -> None:
        self.answered = 0
        self._caps = caps
        self._tail = b""
        self._received = bytearray()
        # nobody ever writes to it: the kernel signals the child when its other end closes, that is when we end
        lifeline, self._held = os.pipe()
        try:
            self._process = subprocess.Popen(
                [*command, str(caps.memory_mb), str(caps.threads), str(lifeline)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                pass_fds=(lifeline,),
                start_new_session=True,
                env=_environment(),
            )
        except BaseException:
            os.close(self._held)
            raise
        finally:
            os.close(lifeline)
        self._pipes = [_open(self._process.stdin), _open(self._process.stdout), _open(self._process.stderr)]
        for pipe in self._pipes:
            os.set_blocking(pipe.fileno(), False)
        try:
            self.ask(b"", START_SECONDS)
        except _Stopped as stopped:
            raise DrivelakeError(
                f"The process that reads logs did not start: {stopped.sentence} It said: {self._last_line() or 'nothing'}",
                next_step="raise ingest.reader_memory_mb if it ran out of memory, else drivelake doctor",
            ) from None
        except BaseException:
            self.end()
            raise

    def ask(self, request: bytes, seconds: float) -> dict[str, JsonValue]:
        """Send one line, and wait for one.

        Raises:
            _Stopped: no answer; the child has been ended.
        """
        line = self._exchange(request, seconds)
        answer: dict[str, JsonValue] = _mapping(json.loads(line))
        if answer.get("error") == "MemoryError":
            self.end()
            raise _Stopped(
                f"Reading it takes more than {self._caps.memory_mb:g} MB of memory, the declared cap.",
                next_step=f"raise ingest.reader_memory_mb, or {RESTORE}",
            )
        return answer

    def _exchange(self, request: bytes, seconds: float) -> bytes:
        deadline = time.monotonic() + seconds
        stdin, stdout, stderr = self._pipes
        with selectors.DefaultSelector() as ready:
            if request:
                ready.register(stdin, selectors.EVENT_WRITE)
            for pipe in (stdout, stderr):
                ready.register(pipe, selectors.EVENT_READ)
            while True:
                events = ready.select(max(0.0, deadline - time.monotonic()))
                if not events and time.monotonic() >= deadline:
                    self.end()
                    raise _Stopped(f"Reading it did not end within {seconds:g} s, the declared cap.", final=True)
                for key, _ in events:
                    if key.fileobj is stdin:
                        request = self._send(request)
                        if not request:
                            ready.unregister(stdin)
                    elif key.fileobj is stdout:
                        if (line := self._receive()) is not None:
                            return line
                    elif not self._listen():
                        ready.unregister(stderr)

    def _send(self, request: bytes) -> bytes:
        """What is left to send."""
        try:
            return request[os.write(self._pipes[0].fileno(), request) :]
        except BrokenPipeError:
            return b""  # it died; its end is told where its answer is awaited

    def _receive(self) -> bytes | None:
        """A whole line, once it is there."""
        data = os.read(self._pipes[1].fileno(), READ_BYTES)
        if not data:
            raise self._died()
        self._received += data
        if len(self._received) > ANSWER_BYTES_MAX:
            self.end()
            raise _Stopped(f"The reader says more than {ANSWER_BYTES_MAX >> 20} MiB about it.", final=True)
        if b"\n" not in data:
            return None
        line, _, rest = bytes(self._received).partition(b"\n")
        self._received = bytearray(rest)
        return line

    def _listen(self) -> bool:
        """Keep the end of what it says on its standard error; whether there may be more."""
        data = os.read(self._pipes[2].fileno(), READ_BYTES)
        self._tail = (self._tail + data)[-STDERR_BYTES_KEPT:]
        return bool(data)

    def _died(self) -> _Stopped:
        """Why there is no answer."""
        deadline = time.monotonic() + GRACE_SECONDS
        while not (ended := self._ended()) and time.monotonic() < deadline:
            time.sleep(0.005)
        self.end()
        if not ended:
            return _Stopped("The reader closed its output on it, and went on.")
        code = self._process.returncode
        if self._tail:
            LAST_WORDS.warning("the reader of logs ended with %s and said: %s", code, self._tail.decode(errors="replace"))
        if code >= 0:
            raised = re.match(r"[A-Za-z_][\w.]*(?=:|$)", self._last_line())
            if raised and raised[0] in BROKEN:
                sentence = f"The process that reads logs is not installed well: {self._last_line()}"
                return _Stopped(sentence, next_step="drivelake doctor", final=True, blames_log=False)
            how = f"failed with {raised[0]}" if raised else f"ended with exit code {code}"
            return _Stopped(f"The reader {how} on it.")
        name = signal.Signals(-code).name
        if -code in FROM_OUTSIDE:
            sentence = f"The process that reads logs was stopped from outside, with {name}."
            return _Stopped(
                sentence, next_step="see whether the machine ran out of memory; run again", final=True, blames_log=False
            )
        return _Stopped(f"The reader died of {name} on it.")

    def _ended(self) -> bool:
        """Whether it has ended; it is not waited for, so that its group can still be killed by its number."""
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None

    def _last_line(self) -> str:
        lines = self._tail.decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else ""

    def end(self) -> None:
        """Kill it and its group, and take what it still said."""
        if self._process.returncode is None:  # until it is waited for, nobody else gets its number
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        if not self._pipes[2].closed:
            while _readable(self._pipes[2]) and self._listen():
                pass
            for pipe in self._pipes:
                pipe.close()
            os.close(self._held)


def _environment() -> dict[str, str]:
    """One thread a library, since the readers bring their own; one order of hashes; memory given back when freed."""
    alone = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    return {**os.environ, **alone, "PYTHONHASHSEED": "0", "MALLOC_ARENA_MAX": "2", "ARROW_DEFAULT_MEMORY_POOL": "system"}


def _open(pipe: IO[bytes] | None) -> IO[bytes]:
    assert pipe is not None, "Popen was asked for all three"
    return pipe


def _readable(pipe: IO[bytes]) -> bool:
    with selectors.DefaultSelector() as ready:
        ready.register(pipe, selectors.EVENT_READ)
        return bool(ready.select(0))


def _mapping(value: JsonValue) -> dict[str, JsonValue]:
    assert isinstance(value, dict), "the worker answers with a mapping"
    return value


def _result(answer: dict[str, JsonValue]) -> JsonValue:
    """What a function returned, or raise what it raised."""
    if "error" not in answer:
        return answer["result"]
    kind, message = str(answer["error"]), str(answer["message"])
    if kind == "OSError":
        number = answer["errno"]
        raise OSError(number if isinstance(number, int) else 0, message, str(answer["path"]))
    known = getattr(errors, kind) if kind in errors.__all__ else DrivelakeError
    raise known(message, next_step=str(answer["next_step"]))
