"""What a case of the bench is. Belongs here: the types that cases, the child and the table share.

Never here: any case, any measurement.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

__all__ = ["Case", "Counts", "Inputs", "Target", "Variant", "Work", "work_of"]

Inputs = Mapping[str, Path]

Counts = Mapping[str, int]
"""What a variant saw, by kind: ``samples``, ``messages``, ``values``, ``bytes``; kinds that two variants share must agree."""
Work = Callable[[], Counts]


@dataclass(frozen=True)
class Variant:
    """One way to do the work of a case, run in a process of its own.

    Attributes:
        name: as the table says it.
        role: ``ours``; ``peer``: what a user would take today; ``limit``: the part of the work that no reader can leave out.
        run: reads the inputs, by name, and says what it saw. It is called twice: on tiny inputs, which loads and compiles
            whatever is loaded late, then, measured, on the real ones.
        prepare: in place of ``run`` where something is needed that is not a part of the work, such as an empty store: given the
            inputs and an empty folder, it gives the work.
    """

    name: str
    role: Literal["ours", "peer", "limit"]
    run: Callable[[Inputs], Counts] | None = None
    prepare: Callable[[Inputs, Path], AbstractContextManager[Work]] | None = None


@contextmanager
def work_of(variant: Variant, inputs: Inputs) -> Iterator[Work]:
    """The work of a variant, to be done once; a folder made for it stands beside the inputs and goes afterwards."""
    if variant.prepare is None:
        assert variant.run is not None, "a variant has one of the two"
        yield partial(variant.run, inputs)
        return
    with TemporaryDirectory(dir=next(iter(inputs.values())).parent) as folder, variant.prepare(inputs, Path(folder)) as work:
        yield work


@dataclass(frozen=True)
class Target:
    """A number that a case has to reach.

    Attributes:
        of: name of the variant that is judged.
        measure: ``cpu``: CPU seconds of ``of`` over those of ``against``; ``speed``: the inverse of it; ``wall``: wall clock
            of ``against`` over that of ``of``; ``rate``: millions of ``against`` (a kind of :data:`Counts`) a CPU second;
            ``seconds``: wall clock of ``of`` for one of ``against`` (a kind).
        against: another variant of the case, or a kind.
        bound: at most for ``cpu`` and ``seconds``, at least for the others.
    """

    of: str
    measure: Literal["cpu", "speed", "wall", "rate", "seconds"]
    against: str
    bound: float

    @property
    def at_most(self) -> bool:
        """Whether the bound is an upper one."""
        return self.measure in {"cpu", "seconds"}


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
