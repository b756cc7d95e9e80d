"""A sensor's samples on the reference clock. Belongs here: mapping, order, frozen values, where each log lies.

Never here: reading a table (sources), estimating a clock (domains), ticks.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivelake.frames.clocks import ClockModel
from drivelake.frames.matching import order_samples
from drivelake.frames.sources import Absent, Samples, Source, read_samples
from drivelake.rig import Sensor

__all__ = ["Ordered", "Span", "in_order"]

BoolArray = NDArray[np.bool_]
FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

NS_PER_MS = 1_000_000


class Span(NamedTuple):
    """Where the samples of one table lie on the reference clock; no stamps where there are none."""

    samples: int
    first_ns: int | None
    last_ns: int | None


@dataclass(frozen=True)
class Ordered:
    """Samples in order of strictly increasing time on the reference clock. N samples.

    Attributes:
        t_ns: (N,) int64, on the reference clock.
        samples: the same samples with their native stamps.
        duplicated: samples dropped because a later one has the same time.
        spans: of each table that was read.
        stale: (N,) bool, samples whose value has not changed for longer than declared; None where nothing is declared.
        longest_unchanged_ms: the longest that a value stood; None where nothing is declared.
        constant: two or more samples, all with one value.
    """

    t_ns: IntArray
    samples: Samples
    duplicated: int
    spans: tuple[Span, ...]
    stale: BoolArray | None
    longest_unchanged_ms: float | None
    constant: bool


def in_order(signals: Path, name: str, sensor: Sensor, source: Source | Absent, clock: ClockModel) -> Ordered:
    """Read a sensor and put its samples in order; an absent sensor has none.

    Stamps are mapped in the order in which they were written, which the segments of a clock need, and sorted after that.
    """
    samples = read_samples(signals, name, sensor, Source((), ()) if isinstance(source, Absent) else source)
    # the reference's own stamps need no second array
    t_ns = samples.t_ns if clock.method == "same" and clock.scale == "utc" else clock.to_reference(samples.t_ns)
    spans = tuple(_span(t_ns[start:end]) for start, end in pairwise((0, *samples.ends)))
    rows, duplicated = order_samples(t_ns)
    if rows is not None:
        t_ns, samples = t_ns[rows], samples.taken(rows)
    stale, longest_ms = _unchanged(t_ns, samples, sensor.stale_ms)
    return Ordered(t_ns, samples, duplicated, spans, stale, longest_ms, sensor.kind != "payload" and _constant(samples.values))


def _constant(values: FloatArray | IntArray) -> bool:
    """Whether two or more samples all hold one value."""
    return len(values) > 1 and bool(np.all(values[-1] == values[0])) and bool(np.all(values == values[0]))


def _span(t_ns: IntArray) -> Span:
    return Span(t_ns.size, int(t_ns.min()), int(t_ns.max())) if t_ns.size else Span(0, None, None)


def _unchanged(t_ns: IntArray, samples: Samples, stale_ms: float | None) -> tuple[BoolArray | None, float | None]:
    """Which samples repeat a value that is older than declared, and the longest time without a change."""
    if stale_ms is None or t_ns.size == 0:
        return None, None
    values = samples.values.reshape(t_ns.size, -1)
    starts = np.flatnonzero(np.concatenate(([True], np.any(values[1:] != values[:-1], axis=1))))
    began = np.repeat(starts, np.diff(np.append(starts, t_ns.size)))
    stood_ns = t_ns - t_ns[began]
    return stood_ns > round(stale_ms * NS_PER_MS), round(int(stood_ns.max()) / NS_PER_MS, 6)
