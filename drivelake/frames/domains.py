"""Clock domains of a drive. Belongs here: which model each declared clock gets, and the observations that it is estimated from.

Never here: how a lag is found (alignment), how stamps are mapped (clocks), which sensors make a pair (pairs).

Memory: the samples of one pair at a time (16 bytes each, about four times that while they are cleaned), and the observations
of one clock (16 bytes a sample of every pair).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from drivelake.frames.alignment import Observation, estimate_clock, not_observable
from drivelake.frames.clocks import ClockModel, Comparison, OffsetRow, declared_clock
from drivelake.frames.flow import sideways_flow
from drivelake.frames.pairs import Chosen, NoPair, find_pairs
from drivelake.frames.sources import Absent, Source, read_samples
from drivelake.rig import Alignment, Clock, Observed, Rig

__all__ = ["Estimate", "Pictures", "clock_models", "slopes"]

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
Pictures = Callable[[str], Iterator[tuple[int, bytes]]]
Estimate = Callable[[Sequence[Observation], Alignment], ClockModel]

NS_PER_S = 1_000_000_000
NS_PER_MS = 1_000_000
# A pause of more periods than this has no slope that says anything of the motion in it.
SLOPE_PERIODS_MAX = 5


class Drive(NamedTuple):
    """What observations are read from; ``pictures`` gives native stamp and bytes of pictures of a payload sensor."""

    signals: Path
    rig: Rig
    found: Mapping[str, Source | Absent]
    pictures: Pictures | None


def clock_models(
    signals: Path,
    rig: Rig,
    found: Mapping[str, Source | Absent],
    offsets: Mapping[str, tuple[OffsetRow, ...]],
    *,
    pictures: Pictures | None = None,
    estimate: Estimate = estimate_clock,
) -> dict[str, ClockModel]:
    """The model of every declared clock of one drive.

    A row of ``offsets``, else a declared ``offset_ns``, is used as it is; the estimate is made nevertheless, on stamps that the
    declared offset has mapped already, and stands beside it in ``compared``. Without either, the estimate of ``align`` counts.
    A clock with neither an offset nor ``align`` is taken as equal to the reference clock.

    Args:
        signals: folder with ``index.json`` and its tables.
        rig: the declared sensors and clocks.
        found: where each sensor of the rig stands, or why nowhere.
        offsets: this drive's rows of the clocks' tables, by clock.
        pictures: pictures of a payload sensor in the order written, for pairs with ``optical_flow``; without it they are
            NOT OBSERVABLE.
        estimate: finds a clock's model from its observations.

    Returns:
        Models by clock: ``reference`` first, then in the order of the declaration.

    Raises:
        DeclarationError: a clock that no model can hold.
        InputError: a table is unreadable, or a column cannot be what is declared.
    """
    drive = Drive(signals, rig, found, pictures)
    reference = declared_clock("reference", rig.clocks.get("reference"))
    models = {"reference": reference}
    for name, clock in rig.clocks.items():
        if name != "reference":
            models[name] = _model(drive, name, clock, offsets.get(name, ()), reference, estimate)
    return models


def _model(
    drive: Drive, name: str, clock: Clock, rows: Sequence[OffsetRow], reference: ClockModel, estimate: Estimate
) -> ClockModel:
    declared = declared_clock(name, clock, rows)
    if rows or clock.offset_ns is not None:
        # without align nobody asked for an estimate: signals are at hand, pictures would mean reading the logs again
        seen = drive if clock.align else drive._replace(pictures=None)
        rest = _estimated(seen, name, clock, declared.to_reference, reference, estimate)
        return declared.model_copy(update={"compared": _compared(rest)})
    if clock.align is None:
        return declared
    estimated = _estimated(drive, name, clock, declared.to_utc, reference, estimate).model
    return estimated.model_copy(update={"scale": clock.scale, "leap_s": clock.leap_s})


class _Estimated(NamedTuple):
    """An estimate, and the stamps that it was made from."""

    model: ClockModel
    observations: tuple[Observation, ...]


def _estimated(
    drive: Drive,
    name: str,
    clock: Clock,
    own_stamps: Callable[[IntArray], IntArray],
    reference: ClockModel,
    estimate: Estimate,
) -> _Estimated:
    """Estimate a clock from its pairs; ``own_stamps`` maps its native stamps before anything is compared."""
    align = clock.align or Alignment()
    chosen = _pairs(drive, name, align)
    if isinstance(chosen, NoPair):
        return _Estimated(not_observable(chosen.reason), ())
    observations, unusable = [], []
    for pair, _ in chosen:
        own = _observed(drive, pair.own, pair.own_as)
        other = own if isinstance(own, str) else _observed(drive, pair.reference, pair.reference_as)
        if isinstance(own, str) or isinstance(other, str):
            unusable.append(str(other))
            continue
        own_ns, own_values = _written_once(own_stamps(own[0]), own[1])
        reference_ns, reference_values = _increasing(reference.to_reference(other[0]), other[1])
        observations.append(
            Observation(
                name=f"{pair.own}~{pair.reference}",
                own_ns=own_ns,
                own=own_values,
                reference_ns=reference_ns,
                reference=reference_values,
                sign=pair.sign,
            )
        )
    if not observations:
        return _Estimated(not_observable("; ".join(unusable)), ())
    model = estimate(observations, align)
    said = [model.reason, *(why for _, why in chosen if why), *(f"not used: {reason}" for reason in unusable)]
    reason = "; ".join(part for part in said if part)
    return _Estimated(model.model_copy(update={"reason": reason}), tuple(observations))


def _pairs(drive: Drive, name: str, align: Alignment) -> tuple[Chosen, ...] | NoPair:
    """The declared pairs, else those that units and names give."""
    if align.declared_pairs:
        return tuple(Chosen(pair, "") for pair in align.declared_pairs)
    return find_pairs(drive.rig, name, drive.found)


def _observed(drive: Drive, sensor: str, how: Observed) -> tuple[IntArray, FloatArray] | str:
    """Native stamps and values of a sensor in the order written, or why there are none.

    Returns:
        (N,) int64 ns and (N,) float64, finite; of a derivative and of optical flow the stamps lie between two samples.
    """
    source = drive.found[sensor]
    if isinstance(source, Absent):
        return source.reason
    if how == "optical_flow":
        if drive.pictures is None:
            return f"sensor {sensor!r}: its pictures are not at hand, only the signals, so there is no optical flow"
        return sideways_flow(drive.pictures(sensor), sensor)
    samples = read_samples(drive.signals, sensor, drive.rig.sensors[sensor], source)
    values = samples.values.astype(np.float64, copy=False)
    if samples.t_ns.size == 0:
        return f"sensor {sensor!r} has no samples ({samples.rows} rows)"
    return slopes(samples.t_ns, values) if how == "derivative" else (samples.t_ns, values)


def slopes(t_ns: IntArray, values: FloatArray) -> tuple[IntArray, FloatArray]:
    """Differences between neighbouring samples, stamped in the middle between them.

    A step back, a repeated stamp and a pause of more than five median periods give none.

    Args:
        t_ns: (N,) int64, in the order written.
        values: (N,) float64, finite.

    Returns:
        (M,) int64 stamps, rounded down, and (M,) float64 in units of ``values`` a second.
    """
    steps_ns = np.diff(t_ns)
    ahead = steps_ns > 0
    if not ahead.any():
        return np.empty(0, dtype=np.int64), np.empty(0)
    ahead &= steps_ns <= SLOPE_PERIODS_MAX * np.median(steps_ns[ahead])
    middle: IntArray = t_ns[:-1][ahead] + steps_ns[ahead] // 2
    slope: FloatArray = np.diff(values)[ahead] / (steps_ns[ahead] / NS_PER_S)
    return middle, slope


def _written_once(t_ns: IntArray, values: FloatArray) -> tuple[IntArray, FloatArray]:
    """Samples in the order written; of neighbours with one stamp the first."""
    kept = np.concatenate((np.ones(min(t_ns.size, 1), dtype=bool), np.diff(t_ns) != 0))
    return t_ns[kept], values[kept]


def _increasing(t_ns: IntArray, values: FloatArray) -> tuple[IntArray, FloatArray]:
    """Samples in order of time; of those with one stamp the one that was written first."""
    unique_ns, first = np.unique(t_ns, return_index=True)
    return unique_ns, values[first]


def _compared(rest: _Estimated) -> Comparison:
    """What an estimate leaves of a declared offset: it was made on stamps that the offset had mapped already."""
    differences = []
    for observation in rest.observations:
        own = rest.model.segment_of(observation.own_ns)
        shown = np.isin(own, [at for at, segment in enumerate(rest.model.segments) if segment.method == "estimated"])
        differences.append((observation.own_ns - rest.model.to_reference(observation.own_ns))[shown])
    found = np.concatenate(differences) if differences else np.empty(0, dtype=np.int64)
    if found.size == 0:
        return Comparison(largest_ms=None, reason=rest.model.reason)
    sigmas = [segment.sigma_ms for segment in rest.model.segments if segment.sigma_ms is not None]
    largest_ms = round(int(np.abs(found).max()) / NS_PER_MS, 4)
    return Comparison(largest_ms=largest_ms, sigma_ms=max(sigmas, default=None), reason=rest.model.reason)
