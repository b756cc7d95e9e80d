"""Stretches of steady time in a piece of a drive. Belongs here: coarse search, windows, jumps that the stamps do not show, and a
line for each stretch between them.

Never here: stamps in nanoseconds, clock models (``alignment``).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from drivelake.frames.coarse import coarse_search
from drivelake.frames.lags import Fit, Lags, divide, fit_line, scan, steps_of
from drivelake.frames.observers import Signal, Trace, trace_of
from drivelake.frames.segments import Step, find_step

__all__ = ["Observer", "Search", "Stretch", "find_stretches", "joined", "refined"]

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

Span = tuple[float, float]

SPAN_MIN_S = 4.0
# bounds the memory: five million cells of the coarse raster
SPAN_MAX_S = 5 * 86_400.0
# how far a window's lag may lie from the coarse line
REACH_S = 0.25
# a motion that does not fit for this long may be another stretch, and for this long is not the neighbours'
SUSPECT_S, UNEXPLAINED_S = 20.0, 60.0
# at least this part of the windows that move must agree
FOUND_MIN = 0.4
DEPTH_MAX = 6
ROUNDS = 6


@dataclass(frozen=True)
class Observer:
    """Both sides of one observation: its name, own and reference signal, whether its sign may be turned."""

    name: str
    own: Signal
    reference: Signal
    either: bool


@dataclass(frozen=True)
class Search:
    """What is declared: the largest lag, s, and the largest drift, s/s, either way."""

    reach_s: float
    drift: float

    @property
    def drift_prior(self) -> float:
        """Standard deviation of a drift that may be anything within the bound."""
        return self.drift / float(np.sqrt(3))


@dataclass(frozen=True)
class Stretch:
    """A span of own time with one line, or with the reason why it has none.

    Attributes:
        span_s: own time.
        fit: None where nothing is observable.
        lags: of the windows.
        correlation: of the coarse search.
        traces: what was compared.
        reason: why there is no fit, or what is to be known of it.
        contradicted: the signals move and do not agree, so a neighbour's line is wrong here.
    """

    span_s: Span
    fit: Fit | None = None
    lags: Lags | None = None
    correlation: float | None = None
    traces: tuple[Trace, ...] = ()
    reason: str = ""
    contradicted: bool = False


def find_stretches(observers: Sequence[Observer], span_s: Span, search: Search, depth: int = 0) -> list[Stretch]:
    """Split a span into stretches of steady time.

    Args:
        observers: of the same clock.
        span_s: own time in which the stamps show no jump.
        search: the declared bounds.
        depth: how often a span was divided already.

    Returns:
        At least one, in order of time, together the span.
    """
    # a real lag a little beyond what is declared is found and named, instead of the flank that lies inside
    reach_s = max(1.25 * search.reach_s, search.reach_s + 1.0)
    inside = _inside(observers, span_s, reach_s)
    if inside[1] - inside[0] < SPAN_MIN_S:
        seen_s = max(inside[1] - inside[0], 0)
        return [Stretch(span_s, reason=f"the two signals overlap for {seen_s:.1f} s, at least {SPAN_MIN_S:g} s are needed")]
    if inside[1] - inside[0] > SPAN_MAX_S:
        days = (inside[1] - inside[0]) / 86_400
        return [Stretch(span_s, reason=f"the drive lasts {days:.1f} days, at most {SPAN_MAX_S / 86_400:g} are looked at")]
    # what is near is cut out once: a drive of many pieces is not read for each of them
    wide = inside[0] - reach_s - 1, inside[1] + reach_s + 1
    pairs = [(_near(one.own, inside), _near(one.reference, wide)) for one in observers]
    coarse = coarse_search(pairs, [one.either for one in observers], inside, reach_s, search.drift)
    if coarse.line is None:
        return [Stretch(span_s, correlation=coarse.correlation, reason=coarse.reason, contradicted=True)]
    traces = tuple(
        replace(trace_of(one.name, *pair, inside), own=_turned(one.own, turned=turned), reference=one.reference, turned=turned)
        for one, pair, turned, used in zip(observers, pairs, coarse.turned, coarse.used, strict=True)
        if used
    )
    said = [f"{one.name}: sign opposite" for one, turned in zip(observers, coarse.turned, strict=True) if turned]
    said += [f"{one.name}: not used, it does not agree" for one, used in zip(observers, coarse.used, strict=True) if not used]
    blank = Stretch(span_s, None, None, coarse.correlation, traces, "; ".join(said))
    lags = scan(traces, inside, coarse.line, REACH_S + 2 * max(trace.smooth_s for trace in traces))
    parts = _parts(observers, lags, blank, search, depth)
    if not parts:
        tried = f"in none of {lags.t_s.size} windows the lag could be found"
        return [replace(blank, lags=lags.taken(np.zeros(lags.t_s.size, dtype=np.bool_)), reason=tried, contradicted=True)]
    return refined(_bounded(parts, span_s), search)


def _inside(observers: Sequence[Observer], span_s: Span, reach_s: float) -> Span:
    """The part of a span in which some observation has both sides."""
    spans = []
    for one in observers:
        own_s = one.own.t_s[np.searchsorted(one.own.t_s, span_s[0]) : np.searchsorted(one.own.t_s, span_s[1], side="right")]
        if own_s.size >= 2:
            spans.append((max(own_s[0], one.reference.t_s[0] - reach_s), min(own_s[-1], one.reference.t_s[-1] + reach_s)))
    longest = [span for span in spans if span[1] > span[0]] or [(span_s[0], span_s[0])]
    return float(min(low for low, _ in longest)), float(max(high for _, high in longest))


def _near(signal: Signal, span_s: Span) -> Signal:
    """The samples in a span, and one more on each side."""
    first, last = np.searchsorted(signal.t_s, span_s)
    rows = slice(max(0, int(first) - 1), int(last) + 1)
    return replace(signal, t_s=signal.t_s[rows], values=signal.values[rows])


def _turned(signal: Signal, *, turned: bool) -> Signal:
    return replace(signal, values=-signal.values) if turned else signal


def _parts(observers: Sequence[Observer], lags: Lags, blank: Stretch, search: Search, depth: int) -> list[Stretch]:
    """Stretches that begin and end at windows: those of each line, and those that were searched anew."""
    found = lags.taken(lags.found)
    if found.t_s.size == 0:
        return []
    lines = [_ranged(found.taken(rows), blank, search) for rows in _steady(found)]
    others: list[Stretch] = []
    for low, high in _unexplained(lags, blank.traces) if depth < DEPTH_MAX else []:
        deeper = find_stretches(observers, (low, high), search, depth + 1)
        if any(one.fit is not None for one in deeper):
            others.extend(one for one in deeper if one.fit is not None)
        elif high - low >= UNEXPLAINED_S:
            reason = f"the signals move and do not agree: {deeper[0].reason}"
            others.append(replace(blank, span_s=(low, high), reason=reason, contradicted=True))
    return sorted(_cut(lines, others), key=lambda one: one.span_s)


def _steady(lags: Lags) -> list[BoolArray]:
    """The windows between steps, as masks."""
    waiting, done = [np.arange(lags.t_s.size)], []
    while waiting:
        rows = waiting.pop()
        step = _step(lags.taken(rows))
        if step is None:
            mask = np.zeros(lags.t_s.size, dtype=np.bool_)
            mask[rows] = True
            done.append(mask)
        else:
            waiting += [rows[: step.at], rows[step.at :]]
    return done


def _step(lags: Lags) -> Step | None:
    """A step in the windows' lags; the sensors' own delays, which differ from pair to pair, are none."""
    lag_s = lags.lag_s.copy()
    for trace in np.unique(lags.trace).tolist():
        lag_s[lags.trace == trace] -= np.median(lag_s[lags.trace == trace])
    return find_step(lags.t_s, lag_s, lags.sigma_s)


def _ranged(lags: Lags, blank: Stretch, search: Search) -> Stretch:
    fit = fit_line(lags.t_s, lags.lag_s, lags.sigma_s, search.drift_prior)
    return replace(blank, span_s=(float(lags.t_s[0]), float(lags.t_s[-1])), fit=fit, lags=lags)


def _unexplained(lags: Lags, traces: Sequence[Trace]) -> list[Span]:
    """Spans in which windows move and none finds the lag."""
    spans, start, last = [], None, 0.0
    longest = max(trace.window_s for trace in traces)
    state = np.where(lags.found, 1, np.where(lags.moving, -1, 0))
    for t_s, one in zip(lags.t_s.tolist(), [*state.tolist()], strict=True):
        if one < 0:
            start = t_s if start is None else start
            last = t_s
        elif one > 0 and start is not None:
            spans.append((start - longest / 2, last + longest / 2))
            start = None
    if start is not None:
        spans.append((start - longest / 2, last + longest / 2))
    return [span for span in spans if span[1] - span[0] >= max(SUSPECT_S, 2 * longest)]


def _cut(lines: Sequence[Stretch], others: Sequence[Stretch]) -> list[Stretch]:
    """Take what was searched anew out of the stretches around it."""
    kept = list(others)
    for line in lines:
        pieces = [line.span_s]
        for other in others:
            low, high = other.span_s
            pieces = [
                part
                for first, last in pieces
                for part in (
                    [(first, min(last, low)), (max(first, high), last)] if first < high and low < last else [(first, last)]
                )
                if part[1] >= part[0]
            ]
        kept.extend(replace(line, span_s=part) for part in pieces)
    return kept


def _bounded(parts: Sequence[Stretch], span_s: Span) -> list[Stretch]:
    """Let each stretch end where the next one begins."""
    edges = [span_s[0]]
    for left, right in itertools.pairwise(parts):
        window_s = max((trace.window_s for trace in (*left.traces, *right.traces)), default=0.0)
        low, high = left.span_s[1], right.span_s[0]
        low, high = max(min(low, high) - window_s / 2, edges[-1]), max(low, high) + window_s / 2
        edges.append(_edge(left, right, (low, max(high, low))))
    edges.append(span_s[1])
    return [replace(part, span_s=(low, high)) for part, low, high in zip(parts, edges[:-1], edges[1:], strict=True)]


def _edge(left: Stretch, right: Stretch, near: Span) -> float:
    """Where one line stops to fit and the other begins."""
    if left.fit is None or right.fit is None:
        return (near[0] + near[1]) / 2
    return divide(left.traces, near, left.fit.line, right.fit.line)


def refined(parts: Sequence[Stretch], search: Search) -> list[Stretch]:
    """Fit every stretch by Gauss-Newton, and divide it where its lags still step.

    Args:
        parts: with a first fit, or none.
        search: the declared bounds.
    """
    waiting, done, left = list(parts)[::-1], list[Stretch](), 4 * len(parts) + 16
    while waiting:
        part = _fitted(waiting.pop(), search)
        rows = None if part.lags is None or part.fit is None else np.flatnonzero(part.lags.found)
        step = None
        if rows is not None and part.lags is not None and left > 0:
            step = _step(part.lags.taken(rows))
        if step is None or rows is None or part.lags is None:
            done.append(part)
            continue
        left -= 1
        halves = [_ranged(part.lags.taken(some), part, search) for some in (rows[: step.at], rows[step.at :])]
        waiting += _bounded(halves, part.span_s)[::-1]
    return done


def _fitted(part: Stretch, search: Search) -> Stretch:
    """Repeat Gauss-Newton steps of all windows until the line stays."""
    fit = part.fit
    if fit is None:
        return part
    lags = steps_of(part.traces, part.span_s, fit.line)
    for _ in range(ROUNDS):
        found = lags.taken(lags.found)
        if found.t_s.size == 0:
            return replace(part, fit=None, lags=lags, reason=f"in none of {lags.t_s.size} windows the lag could be found")
        before = fit.line
        fit = fit_line(found.t_s, found.lag_s, found.sigma_s, search.drift_prior)
        ends = np.array(part.span_s)
        if float(np.max(np.abs(fit.line.at(ends) - before.at(ends)))) < 2e-5:
            break
        lags = steps_of(part.traces, part.span_s, fit.line)
    moving, agree = int((lags.moving | lags.found).sum()), int(lags.found.sum())
    if agree < FOUND_MIN * moving:
        reason = f"in only {agree} of {moving} windows that move a lag could be found: the correlation may be chance"
        return replace(part, fit=None, lags=lags, reason=reason, contradicted=True)
    return replace(part, fit=fit, lags=lags)


def joined(left: Stretch, right: Stretch, search: Search) -> Stretch | None:
    """One stretch out of two on both sides of a pause, where one line fits both; else None. To be refined when all are joined.

    The lines must agree in the pause within their uncertainty, and the joined windows must show no step.
    """
    if left.fit is None or right.fit is None or left.lags is None or right.lags is None:
        return None
    if [(t.name, t.turned) for t in left.traces] != [(t.name, t.turned) for t in right.traces]:
        return None
    middle = np.array([(left.span_s[1] + right.span_s[0]) / 2])
    apart = float(left.fit.line.at(middle)[0] - right.fit.line.at(middle)[0])
    if abs(apart) > 3 * np.hypot(left.fit.sigma(middle)[0], right.fit.sigma(middle)[0]) + 1e-3:
        return None
    lags = Lags.joined([left.lags, right.lags])
    found = lags.taken(lags.found)
    if _step(found) is not None:
        return None
    span_s = left.span_s[0], right.span_s[1]
    return replace(_ranged(found, left, search), span_s=span_s, lags=lags)
