"""Sorted groups: their streams as decoded record batches, on one thread or several. Belongs here: jobs, their order, look-ahead.

Never here: what batches become, findings, unsorted streams.

A job is a run of pieces. The record that the border between two runs cuts needs the end of the one and the start of the other:
each job passes the end on as soon as it has inflated its last piece. Jobs start in order, so the one that waits is never
ahead of the one that it waits for. Look-ahead is bounded by a number of jobs, each of about 4 MiB of records.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from drivelake.logs.mdf.blocks import MdfFile
from drivelake.logs.mdf.decoding import Decoded, GroupColumns, Values, Window
from drivelake.logs.mdf.model import Piece
from drivelake.logs.mdf.runs import Lost, Rows, Run, read_run, runs_of
from drivelake.logs.mdf.tables import Table

__all__ = ["Found", "Job", "decoded", "in_order", "jobs_of"]

Found: TypeAlias = "Decoded | Lost"
Result = TypeVar("Result")

# memory of the columns that one window takes, roughly: little enough that the allocator keeps it for the next one, where it would
# give back what a larger one took; and of all windows of a job that runs ahead
WINDOW_BYTES = 4 << 20
AHEAD_BYTES = 64 << 20


@dataclass(frozen=True)
class Job:
    """One run of one table.

    Attributes:
        table: whose records.
        file: the file.
        run: of the table's stream.
        before: the end of the run before.
        after: takes the end of this run.
        records: of the table; what stands behind them is not read.
        streams: values of varying length, by the offset of their channels; they bind the job to the thread that owns them.
        finish: what is done to each batch.
    """

    table: Table
    file: MdfFile
    run: Run
    before: Future[bytes | None]
    after: Future[bytes | None]
    records: int
    streams: Mapping[int, Values]
    finish: Callable[[pa.RecordBatch], pa.RecordBatch]

    @property
    def may_run_ahead(self) -> bool:
        """Whether all that it finds fits into memory beside others."""
        assert self.table.columns is not None
        rows = (self.run.end - self.run.start) // self.table.record_bytes + 1
        return not self.streams and rows * (self.table.columns.row_bytes + self.table.record_bytes) <= AHEAD_BYTES

    def results(self) -> Iterator[Found]:
        """Batches of consecutive records, and what is lost between them, in the order of the stream."""
        assert self.table.columns is not None
        found = read_run(self.file, self.run, self.table.record_bytes, self.before.result, self.after.set_result)
        end = min(self.run.end // self.table.record_bytes, self.records)
        try:
            for item in decoded(self.table.columns, found, end, self.streams):
                yield item if isinstance(item, Lost) else Decoded(self.finish(item.batch), item.wrong)
        finally:
            if not self.after.done():
                self.after.set_result(None)


def jobs_of(
    table: Table,
    file: MdfFile,
    pieces: Sequence[Piece],
    records: int,
    streams: Mapping[int, Values],
    finish: Callable[[pa.RecordBatch], pa.RecordBatch],
) -> Iterator[Job]:
    """The jobs that read a sorted table."""
    before: Future[bytes | None] = Future()
    before.set_result(None)
    for run in runs_of(pieces, table.record_bytes):
        after: Future[bytes | None] = Future()
        yield Job(table, file, run, before, after, records, streams, finish)
        before = after


def in_order(executor: Executor | None, jobs: Iterable[Job], ahead: int) -> Iterator[tuple[Table, Found]]:
    """What jobs find, in their order, at most ``ahead`` of them before their turn."""
    waiting: deque[tuple[Job, Future[list[Found]] | None]] = deque()
    try:
        for job in jobs:
            future = executor.submit(_all, job) if executor and job.may_run_ahead else None
            waiting.append((job, future))
            # a job that runs in its turn may hold what others wait for: nothing is begun behind it
            while waiting and (len(waiting) > ahead or future is None):
                yield from _turn(*waiting.popleft())
        while waiting:
            yield from _turn(*waiting.popleft())
    finally:
        for _, future in waiting:
            if future is not None:
                future.cancel()


def _turn(job: Job, future: Future[list[Found]] | None) -> Iterator[tuple[Table, Found]]:
    for found in job.results() if future is None else future.result():
        yield job.table, found


def _all(job: Job) -> list[Found]:
    return list(job.results())


def decoded(columns: GroupColumns, found: Iterable[Rows | Lost], end: int, streams: Mapping[int, Values]) -> Iterator[Found]:
    """Records gathered into windows and decoded.

    Args:
        columns: of the group.
        found: records in rising order, and what is lost between them.
        end: number of records of the group up to the end of the run; what stands behind is left out.
        streams: values of varying length, by the offset of their channels.
    """
    most = max(1, WINDOW_BYTES // columns.row_bytes)
    cells: list[NDArray[np.generic]] = []
    first = filled = 0
    for item in found:
        if isinstance(item, Lost):
            yield from _flushed(columns, Window(cells, first, filled), streams)
            filled = 0
            yield item
            continue
        at, rows = item.first, item.rows[: max(0, end - item.first)]
        while len(rows):
            if filled and (at != first + filled or filled == most):
                yield from _flushed(columns, Window(cells, first, filled), streams)
                filled = 0
            if not filled:
                first, cells = at, columns.empty(min(most, end - at))
            part = rows[: min(most, end - first) - filled]
            columns.gather(part, cells, filled)
            filled += len(part)
            at += len(part)
            rows = rows[len(part) :]
    yield from _flushed(columns, Window(cells, first, filled), streams)


def _flushed(columns: GroupColumns, window: Window, streams: Mapping[int, Values]) -> Iterator[Decoded]:
    """What was gathered, which may be less than there is place for."""
    if window.count:
        for part in columns.parts(window.part(0, window.count)):
            yield columns.decode(part, streams)
