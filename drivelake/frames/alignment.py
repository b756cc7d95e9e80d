"""Alignment: a clock model from signals that observe the same motion. Belongs here: what goes in and out of the estimation, how
stamps become seconds and lines become segments in whole nanoseconds.

Never here: files, correlating (``coarse``, ``lags``), looking for jumps (``segments``, ``stretches``), applying the model
(``clocks``). Stamps become float seconds only after a near base was subtracted.

Method: (1) pieces whose stamps show no jump; (2) in each, the lag over the whole declared offset by correlation of 0.1 s
averages; (3) the lag of each window, and a line through them by Gauss-Newton on own = gain * reference(t + lag) + bias, both
smoothed alike; (4) where the windows' lags step, the clock jumped, and each side gets its own line; (5) pieces on both sides of
a pause become one segment where one line fits both.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from drivelake.errors import DeclarationError
from drivelake.frames.clocks import DRIFT_LIMIT_PPM, AlignmentWindow, ClockModel, Segment
from drivelake.frames.lags import Fit, Lags
from drivelake.frames.observers import Signal, observer
from drivelake.frames.segments import Piece, UnsteadyStamps, pieces
from drivelake.frames.stretches import Observer, Search, Stretch, find_stretches, joined, refined
from drivelake.rig import Alignment

__all__ = ["Observation", "estimate_clock", "not_observable"]

FloatArray = NDArray[np.float64]
IntArray = NDArray[np.int64]

MS_PER_S = 1e3
NS_PER_S = 1e9
PPM = 1e6
# kept of each segment, evenly chosen: enough for a plot
WINDOWS_KEPT = 300
NOTHING = "a signal is constant, has fewer than two samples, or they are more than 10 s apart: no motion to align by"
# a drift whose standard error is above this part of what the bound alone says was not shown by the signals
DRIFT_SHOWN = 0.5
# pairs that differ by less are said to agree
DISAGREE_MS = 5.0
# how far from where the signals show a jump its stamps are looked for
EDGE_S, EDGE_FAR_S = 4.0, 20.0
# signals that contradict a line for this long are another segment
CONTRADICTED_NS = 20_000_000_000


@dataclass(frozen=True)
class Observation:
    """The same motion seen from both clocks. N own samples, M of the reference.

    Attributes:
        name: own~reference, the two sensors.
        own_ns: (N,) int64, native stamps on UTC, in the order written; may jump back or repeat.
        own: (N,) float64, the motion as seen on the clock that is aligned; NaN is left out.
        reference_ns: (M,) int64, stamps on the reference clock, strictly increasing.
        reference: (M,) float64, the same quantity; gain and bias may differ.
        sign: whether both count the same way.
    """

    name: str
    own_ns: IntArray
    own: FloatArray
    reference_ns: IntArray
    reference: FloatArray
    sign: Literal["same", "opposite", "either"] = "same"


@dataclass(frozen=True)
class _Found:
    """A piece of the drive, its stamps in the order written, and what was found in it."""

    run: int
    first_ns: int
    last_ns: int
    written_ns: IntArray
    stretches: list[Stretch]
    merged: bool = False


def not_observable(reason: str, *, correlation: float | None = None, windows_tried: int = 0) -> ClockModel:
    """A model that maps every stamp to itself and says why nothing better is known."""
    said = f"NOT OBSERVABLE: {reason}"
    segment = Segment(
        method="not observable",
        correlation=None if correlation is None else round(correlation, 4),
        windows_tried=windows_tried,
        reason=said,
    )
    return ClockModel(method="not observable", segments=(segment,), reason=said)


def estimate_clock(observations: Sequence[Observation], declared: Alignment) -> ClockModel:
    """Estimate offset and drift of a clock domain against the reference clock, segment by segment.

    All observations of the domain vote on one model. A segment ends where the stamps show a jump (a step back, a long pause after
    which another line fits) or where the windows' lags step. A segment's ``sigma_ms`` is the standard uncertainty of the mapped
    time where it is greatest inside of the segment: the error of any mapped stamp is below 1.96 ``sigma_ms`` with a
    probability of about 95 %. It contains the noise of both signals with its autocorrelation, the scatter of the windows
    beyond that, the uncertainty of the drift and Student's factor for few windows; a delay of a sensor that is the same all
    the time cannot be told from an offset, and is not in it.

    Args:
        observations: of one clock; those that share no motion are left out and named in the segment's reason.
        declared: bounds of the search.

    Returns:
        ``estimated``, ``partly estimated`` or ``not observable`` with the reason; never a silent zero.

    Raises:
        DeclarationError: ``max_drift_ppm`` beyond what a clock model holds.
    """
    if declared.max_drift_ppm > DRIFT_LIMIT_PPM:
        raise DeclarationError(
            f"align.max_drift_ppm is {declared.max_drift_ppm:g}, expected at most {DRIFT_LIMIT_PPM:g}.",
            next_step="a quartz drifts by less than 100 ppm; lower it",
        )
    finite = [_finite(one) for one in observations]
    usable = [one for one in finite if min(one.own_ns.size, one.reference_ns.size) >= 2]
    if not usable:
        said = ", ".join(f"{one.name}: {one.own_ns.size} own and {one.reference_ns.size} reference samples" for one in finite)
        return not_observable(f"at least 2 samples of each side are needed; {said or 'there is no observation'}")
    base_ns = min(int(one.own_ns.min()) for one in usable)
    search = Search(declared.max_offset_ms / MS_PER_S, declared.max_drift_ppm / PPM)
    try:
        cut = pieces([one.own_ns for one in usable])
    except UnsteadyStamps as unsteady:
        return not_observable(str(unsteady))
    references = [observer((one.reference_ns - base_ns) / NS_PER_S, one.reference) for one in usable]
    found: list[_Found] = []
    for _, group in itertools.groupby(cut, key=lambda piece: piece.run):
        together = list(group)
        observers = _observers(together, usable, references, base_ns)
        found.extend(_merged([_searched(piece, usable, observers, base_ns, search) for piece in together], search))
    return _model([segment for piece in found for segment in _segments(piece, base_ns, declared)])


def _finite(one: Observation) -> Observation:
    """Without samples that have no value; a value that nobody saw has no stamp either."""
    own, reference = np.isfinite(one.own), np.isfinite(one.reference)
    return replace(
        one,
        own_ns=one.own_ns[own],
        own=one.own[own],
        reference_ns=one.reference_ns[reference],
        reference=one.reference[reference],
    )


def _observers(
    run: Sequence[Piece], observations: Sequence[Observation], references: Sequence[Signal | None], base_ns: int
) -> list[Observer]:
    """The observations of one run that have both sides; what is constant observes nothing."""
    observers = []
    for at, (one, reference) in enumerate(zip(observations, references, strict=True)):
        rows = np.concatenate([piece.rows[at] for piece in run])
        own = observer((one.own_ns[rows] - base_ns) / NS_PER_S, one.own[rows])
        if own is not None and reference is not None:
            turned = replace(own, values=-own.values) if one.sign == "opposite" else own
            observers.append(Observer(one.name, turned, reference, either=one.sign == "either"))
    return observers


def _searched(
    piece: Piece, observations: Sequence[Observation], observers: Sequence[Observer], base_ns: int, search: Search
) -> _Found:
    """Find the stretches of one piece."""
    span_s = ((piece.first_ns - base_ns) / NS_PER_S, (piece.last_ns - base_ns) / NS_PER_S)
    stretches = find_stretches(observers, span_s, search) if observers else [Stretch(span_s, reason=NOTHING)]
    densest = max(range(len(observations)), key=lambda at: piece.rows[at].size)
    written_ns = observations[densest].own_ns[np.sort(piece.rows[densest])]
    return _Found(piece.run, piece.first_ns, piece.last_ns, written_ns, stretches)


def _merged(found: Sequence[_Found], search: Search) -> list[_Found]:
    """Join pieces of a run where one line fits what stands before a pause and what stands behind it.

    What lies between two that fit, too short or too still to be observable by itself, goes with them: the clock would have
    had to jump there and back. What contradicts them does not.
    """
    done: list[_Found] = []
    for piece in found:
        done.append(piece)
        at = len(done) - 2
        while at >= 0 and done[at].stretches[-1].fit is None and not _contradicts(done[at]):
            at -= 1
        if at < 0:
            continue
        left = done[at]
        whole = joined(left.stretches[-1], piece.stretches[0], search)
        if whole is not None:
            stretches = [*left.stretches[:-1], whole, *piece.stretches[1:]]
            written_ns = np.concatenate([one.written_ns for one in done[at:]])
            done[at:] = [_Found(left.run, left.first_ns, piece.last_ns, written_ns, stretches, merged=True)]
    return [replace(one, stretches=refined(one.stretches, search)) if one.merged else one for one in done]


def _contradicts(piece: _Found) -> bool:
    return piece.stretches[-1].contradicted and piece.last_ns - piece.first_ns > CONTRADICTED_NS


def _segments(piece: _Found, base_ns: int, declared: Alignment) -> list[Segment]:
    """The stretches of a piece in whole nanoseconds, from their first stamp to their last; one without a stamp is left out."""
    size = piece.written_ns.size
    edges = [_row_of_edge(piece.written_ns, base_ns, *pair) for pair in itertools.pairwise(piece.stretches)]
    found = []
    begin = 0
    for number, (stretch, end) in enumerate(zip(piece.stretches, [*edges, size], strict=True)):
        if end <= begin:
            continue
        rows = piece.written_ns[begin:end]
        first_ns = piece.first_ns if begin == 0 else int(rows.min())
        last_ns = piece.last_ns if number == len(edges) else int(rows.max())
        found.append(_segment(stretch, first_ns, last_ns, base_ns, declared))
        begin = end
    return found


def _row_of_edge(written_ns: IntArray, base_ns: int, left: Stretch, right: Stretch) -> int:
    """The first row, in the order written, behind a jump that signals show near a time.

    The stamps step there by the height of the jump more than by a period; where none does, the signals' time is taken.
    """
    edge_s = left.span_s[1]
    dt_s = np.diff(written_ns) / NS_PER_S
    period_s = float(np.median(dt_s))
    at_s = (written_ns[1:] - base_ns) / NS_PER_S
    at = int(np.clip(1 + np.searchsorted(np.maximum.accumulate(at_s), edge_s), 1, written_ns.size - 1))
    if left.fit is None or right.fit is None:
        return at
    edge = np.array([edge_s])
    # the native clock steps forward by as much as the lag falls
    jump_s = float(left.fit.line.at(edge)[0] - right.fit.line.at(edge)[0])
    fits = np.flatnonzero(
        (np.abs(at_s - edge_s) <= EDGE_FAR_S + abs(jump_s)) & (np.abs(dt_s - period_s - jump_s) < 0.35 * abs(jump_s))
    )
    if fits.size == 0:
        return at
    nearest = int(fits[np.argmin(np.abs(at_s[fits] - edge_s))])
    # lost samples look like a small step forward: of several the nearest one, and only near by
    return nearest + 1 if fits.size == 1 or abs(at_s[nearest] - edge_s) <= EDGE_S + abs(jump_s) else at


def _segment(stretch: Stretch, first_ns: int, last_ns: int, base_ns: int, declared: Alignment) -> Segment:
    """One stretch as a segment; refused where it lies beyond what is declared."""
    fit, lags = stretch.fit, stretch.lags
    tried = 0 if lags is None else lags.t_s.size
    correlation = None if stretch.correlation is None else round(stretch.correlation, 4)
    ends_s = (np.array([first_ns, last_ns]) - base_ns) / NS_PER_S
    refused = stretch.reason if fit is None or lags is None else _beyond(fit, ends_s, declared)
    if fit is None or lags is None or refused:
        return Segment(
            method="not observable",
            first_ns=first_ns,
            last_ns=last_ns,
            correlation=correlation,
            windows_tried=tried,
            reason=f"NOT OBSERVABLE: {refused}",
        )
    found = lags.taken(lags.found)
    deviation_ms = (found.lag_s - fit.line.at(found.t_s)) * MS_PER_S
    prior = declared.max_drift_ppm / float(np.sqrt(3))
    drift_sigma = float(np.sqrt(fit.covariance[1, 1])) * PPM
    shown = prior == 0 or drift_sigma < DRIFT_SHOWN * prior
    not_shown = "" if shown else f"drift NOT SHOWN: {drift_sigma:.0f} ppm of uncertainty, {prior:.0f} without any signal"
    absolute_ms = np.abs(deviation_ms)
    disagreement, between_ms = _disagreement(found, deviation_ms, stretch)
    return Segment(
        method="estimated",
        first_ns=first_ns,
        last_ns=last_ns,
        # whole microseconds and 1e-3 ppm: finer digits are rounding, and would differ between processors
        offset_ns=round(fit.line.offset_s * 1e6) * 1000,
        drift_ppm=round(fit.line.drift * PPM, 3),
        epoch_ns=base_ns + round(fit.line.epoch_s * NS_PER_S),
        sigma_ms=round(float(np.hypot(fit.sigma(ends_s).max() * MS_PER_S, between_ms)), 4),
        drift_sigma_ppm=round(drift_sigma, 3) if shown else None,
        residual_ms=round(float(np.sqrt(np.mean(deviation_ms**2))), 4),
        residual_p95_ms=round(float(np.percentile(absolute_ms, 95)), 4),
        residual_p99_ms=round(float(np.percentile(absolute_ms, 99)), 4),
        correlation=correlation,
        windows_tried=tried,
        windows=_windows(found, deviation_ms, fit.line.epoch_s, stretch),
        reason="; ".join(said for said in (stretch.reason, disagreement, not_shown) if said),
    )


def _beyond(fit: Fit, ends_s: FloatArray, declared: Alignment) -> str:
    """Why a line is refused: more drift or offset than declared; empty where it is not."""
    limit = declared.max_drift_ppm / PPM
    if abs(fit.drift_seen) > limit + 3 * fit.drift_sigma:
        return (
            f"the windows drift by {fit.drift_seen * PPM:.0f} +- {fit.drift_sigma * PPM:.0f} ppm, "
            f"declared are at most {declared.max_drift_ppm:g}"
        )
    lags_s = fit.line.at(ends_s)
    least_ms = float(np.abs(lags_s).min() - 3 * fit.sigma(ends_s).max()) * MS_PER_S
    if least_ms > declared.max_offset_ms + 1:
        return f"the lag is {lags_s[0] * MS_PER_S:.1f} ms, more than max_offset_ms {declared.max_offset_ms:g}"
    return ""


def _disagreement(found: Lags, deviation_ms: FloatArray, stretch: Stretch) -> tuple[str, float]:
    """Pairs whose windows lie apart by more than chance, as a sensor does that delays.

    Returns:
        What is to be said, and how far the pairs lie from the line, RMS in ms: which of them is right nobody knows.
    """
    said, away_ms = [], []
    for at, trace in enumerate(stretch.traces):
        mine = found.trace == at
        if mine.any() and not mine.all():
            by_ms = float(np.median(deviation_ms[mine]) - np.median(deviation_ms[~mine]))
            # a median is 1.25 times as uncertain as a mean
            chance_ms = 3 * 1.25 * float(np.sqrt(_variance(found.sigma_s[mine]) + _variance(found.sigma_s[~mine]))) * MS_PER_S
            if abs(by_ms) > max(chance_ms, DISAGREE_MS):
                said.append(f"{trace.name} {by_ms:+.1f} ms")
                away_ms.append(float(np.median(deviation_ms[mine])))
    if not said:
        return "", 0.0
    return f"pairs disagree, sensors delay differently: {', '.join(said)}", float(np.sqrt(np.mean(np.square(away_ms))))


def _variance(sigma_s: FloatArray) -> float:
    """Of the weighted mean of values with these standard errors."""
    return float(1 / np.sum(sigma_s**-2))


def _windows(found: Lags, deviation_ms: FloatArray, epoch_s: float, stretch: Stretch) -> tuple[AlignmentWindow, ...]:
    """The windows that are kept."""
    rows = np.unique(np.linspace(0, found.t_s.size - 1, min(found.t_s.size, WINDOWS_KEPT)).round().astype(np.int64))
    return tuple(
        AlignmentWindow(
            t_s=round(float(found.t_s[at] - epoch_s), 3),
            lag_ms=round(float(found.lag_s[at]) * MS_PER_S, 4),
            deviation_ms=round(float(deviation_ms[at]), 4),
            sigma_ms=round(float(found.sigma_s[at]) * MS_PER_S, 4),
            correlation=round(float(found.correlation[at]), 4),
            pair=stretch.traces[int(found.trace[at])].name,
        )
        for at in rows.tolist()
    )


def _model(segments: Sequence[Segment]) -> ClockModel:
    """All segments, and what is to be said of them together."""
    estimated = sum(segment.method == "estimated" for segment in segments)
    reasons = list(dict.fromkeys(segment.reason for segment in segments if segment.reason))
    if not estimated:
        rest = [reason.removeprefix("NOT OBSERVABLE: ") for reason in reasons]
        return ClockModel(method="not observable", segments=tuple(segments), reason=f"NOT OBSERVABLE: {'; '.join(rest[:3])}")
    method: Literal["estimated", "partly estimated"] = "estimated" if estimated == len(segments) else "partly estimated"
    return ClockModel(method=method, segments=tuple(segments), reason="; ".join(reasons[:3]))
