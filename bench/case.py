"""What a case of the bench is. Belongs here: the types that cases, the child and the table share.

Never here: any case, any measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

__all__ = ["Case", "Counts", "Target", "Variant"]

Counts = Mapping[str, int]
"""What a variant saw, by kind: ``samples``, ``messages``, ``values``, ``bytes``; kinds that two variants share must agree."""


@dataclass(frozen=True)
class Variant:
    """One way to do the work of a case, run in a process of its own.

    Attributes:
        name: as the table says it.
        role: ``ours``; ``peer``: what a user would take today; ``limit``: the part of the work that no reader can leave out.
        run: reads the inputs, by name, and says what it saw. It is called twice: on tiny inputs, which loads and compiles
            whatever is loaded late, then, measured, on the real ones.
    """

    name: str
    role: Literal["ours", "peer", "limit"]
    run: Callable[[Mapping[str, Path]], Counts]


@dataclass(frozen=True)
class Target:
    """A number that a case has to reach.

    Attributes:
        of: name of the variant that is judged.
        measure: ``cpu``: CPU seconds of ``of`` over those of ``against``; ``speed``: the inverse of it; ``wall``: wall clock
            of ``against`` over that of ``of``; ``rate``: millions of ``against`` (a kind of :data:`Counts`) a CPU second.
        against: another variant of the case, or a kind.
        bound: at most for ``cpu``, at least for the others.
    """

    of: str
    measure: Literal["cpu", "speed", "wall", "rate"]
    against: str
    bound: float

    @property
    def at_most(self) -> bool:
        """Whether the bound is an upper one."""
        return self.measure == "cpu"


@dataclass(frozen=True)
class Case:
    """One piece of work and those who do it.

    Attributes:
        name: short, for ``--only``.
        title: for the table.
        inputs: names of generated files, see :mod:`bench.generate`.
        variants: the first is the one that ratios are given to.
        targets: what is promised.
    """

    name: str
    title: str
    inputs: tuple[str, ...]
    variants: tuple[Variant, ...]
    targets: tuple[Target, ...] = ()
