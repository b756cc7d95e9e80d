"""Gates: declared criteria over measured values. Belongs here: judging and refusing.

Never here: measuring, signing, publishing, or a verdict for a value nobody measured.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from drivelake.declaration import Criterion
from drivelake.errors import GateClosed
from drivelake.stage import Decision, Finding

__all__ = ["decide", "judge", "lookup", "require_open"]


def lookup(measured: Mapping[str, object], path: str) -> float | None:
    """The number at a dotted path, or None where there is none: a text, a bool and NaN are not measurements."""
    here: object = measured
    for part in path.split("."):
        if not isinstance(here, Mapping) or part not in here:
            return None
        here = here[part]
    if isinstance(here, bool) or not isinstance(here, int | float) or here != here:  # noqa: PLR0124 - NaN differs from itself
        return None
    return float(here)


def judge(criterion: Criterion, measured: Mapping[str, object]) -> Finding:
    """One criterion beside what was measured; PASS only for a measured value within its bounds."""
    value = lookup(measured, criterion.value)
    if value is None:
        verdict = "NOT SHOWN"
    else:
        low_enough = criterion.max is None or value <= criterion.max
        high_enough = criterion.min is None or value >= criterion.min
        verdict = "PASS" if low_enough and high_enough else "FAIL"
    return Finding(value=criterion.value, measured=value, minimum=criterion.min, maximum=criterion.max, verdict=verdict)


def decide(criteria: Iterable[Criterion], measured: Mapping[str, object]) -> tuple[Finding, ...]:
    """All criteria, in the order they are declared."""
    return tuple(judge(criterion, measured) for criterion in criteria)


def require_open(decision: Decision, *, of: str) -> None:
    """Let a passed decision through.

    Raises:
        GateClosed: a criterion failed or was not shown, or there was none; the message lists each with its number.
    """
    closed = [_sentence(f) for f in decision.findings if f.verdict != "PASS"]
    if not decision.findings:
        closed = ["it has no criterion, so nothing was shown"]
    if closed:
        raise GateClosed(
            f"Gate {decision.gate!r} is closed for {of}: {'; '.join(closed)}.",
            next_step=f"improve what was measured, or change gates.{decision.gate} in lakehouse.yaml; nothing was published",
        )


def _sentence(finding: Finding) -> str:
    bounds = " and ".join(
        f"{word} {bound:g}" for word, bound in (("at least", finding.minimum), ("at most", finding.maximum)) if bound is not None
    )
    measured = "NOT SHOWN" if finding.measured is None else f"{finding.measured:.6g}"
    return f"{finding.value} is {measured}, expected {bounds}"
