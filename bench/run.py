"""The bench: ours beside what a user would take today and beside what no reader can avoid, in one run.

Belongs here: the order of the runs, and what makes a run invalid. Never here: cases (bench.cases), the table (bench.table).

``python -m bench.run`` runs every variant of every case in a process of its own, in turn, and takes medians. Variants of a
case that saw different numbers of samples make the run invalid: a reader that reads less is not faster.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from bench import table
from bench.case import Case, Counts, Variant
from bench.cases import CASES
from bench.generate import CACHE
from bench.table import Measured

__all__ = ["Invalid", "agree", "main", "measure"]

REPOSITORY = Path(__file__).parents[1]
SECONDS_MAX = 600
# threads of a library that nobody asked for would be counted as the reader's
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")


class Invalid(Exception):
    """The run says nothing: a variant failed, or two of them did not read the same."""


class _Run(NamedTuple):
    cpu_s: float
    wall_s: float
    whole_cpu_s: float
    peak_mb: float
    counts: dict[str, int]


def measure(case: Case, *, factor: float, reps: int, cache: Path = CACHE) -> list[Measured]:
    """Medians of a case's variants, run in turn so that a disturbance hits all of them.

    Raises:
        Invalid: a variant failed, or they do not agree on what they read.
    """
    _run(["bench.generate", str(cache), str(factor), *case.inputs])
    runs: dict[str, list[_Run]] = {variant.name: [] for variant in case.variants}
    for _ in range(reps):
        for variant in case.variants:
            words = _run(["bench.child", str(cache), str(factor), case.name, variant.name])
            runs[variant.name].append(_Run(**json.loads(words.splitlines()[-1])))
    agree(case, {name: [run.counts for run in repeated] for name, repeated in runs.items()})
    return [_medians(variant, runs[variant.name]) for variant in case.variants]


def _medians(variant: Variant, runs: Sequence[_Run]) -> Measured:
    cpu_s, wall_s, whole_cpu_s = (
        statistics.median(times)
        for times in ([run.cpu_s for run in runs], [run.wall_s for run in runs], [run.whole_cpu_s for run in runs])
    )
    return Measured(variant.name, variant.role, cpu_s, wall_s, whole_cpu_s, max(run.peak_mb for run in runs), runs[0].counts)


def agree(case: Case, counts: Mapping[str, Sequence[Counts]]) -> None:
    """Every kind of thing counted is counted alike by all who count it, and each peer shares a kind with ours.

    Args:
        case: the case.
        counts: of each run, by name of the variant.

    Raises:
        Invalid: they are not.
    """
    seen: dict[str, tuple[str, int]] = {}
    for name, repeated in counts.items():
        for kind, count in (item for one in repeated for item in one.items()):
            first, expected = seen.setdefault(kind, (name, count))
            if count != expected or not count:
                raise Invalid(f"{case.name}: {name} saw {count} {kind}, {first} saw {expected}.")
    ours = {kind for variant in case.variants if variant.role == "ours" for kind in counts[variant.name][0]}
    for variant in case.variants:
        if variant.role == "peer" and not ours & set(counts[variant.name][0]):
            raise Invalid(f"{case.name}: {variant.name} counts nothing that drivelake counts.")


def _run(words: Sequence[str]) -> str:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-m", *words],
        cwd=REPOSITORY,
        env={**os.environ, **ONE_THREAD},
        capture_output=True,
        text=True,
        timeout=SECONDS_MAX,
        check=False,
    )
    if done.returncode:
        raise Invalid(f"{' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
    return done.stdout


def main() -> None:
    """Run the bench, print the table, and publish it if it is a whole one."""
    names = [case.name for case in CASES]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--factor", type=float, default=1.0, help="size of the inputs; 1 is what is published")
    parser.add_argument("--reps", type=int, default=3, help="runs of each variant, at least 3 are published")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="cases to run")
    words = parser.parse_args()
    if os.getloadavg()[0] > 0.5:
        print(f"The machine is not idle (load {os.getloadavg()[0]:.1f}): times will be too long.", file=sys.stderr)
    results = {}
    for case in CASES:
        if case.name in words.only:
            results[case] = measure(case, factor=words.factor, reps=words.reps)
            print(table.text({case: results[case]}), flush=True)
    print(table.verdict(results))
    if words.factor == 1.0 and words.reps >= 3 and words.only == names:
        table.publish(results, reps=words.reps)
    else:
        print("Not published: a part of the bench, or at another size.")


if __name__ == "__main__":
    try:
        main()
    except Invalid as invalid:
        sys.exit(f"The run is invalid. {invalid}")
