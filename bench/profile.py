"""Where the time of one variant goes: ``python -m bench.profile camera_none drivelake``. For explaining a target that is missed.

Belongs here: running the profiler. Never here: measurements that are published; a profiler slows down what it looks at.
"""

from __future__ import annotations

import argparse
import cProfile
import pstats

from bench.case import work_of
from bench.cases import CASES
from bench.child import WARM_FACTOR
from bench.generate import inputs

__all__ = ["main"]


def main() -> None:
    """Print the functions that take most time by themselves."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("case", choices=[case.name for case in CASES])
    parser.add_argument("variant", nargs="?", help="the case's first one if not given")
    parser.add_argument("--factor", type=float, default=1.0)
    parser.add_argument("--lines", type=int, default=25)
    words = parser.parse_args()
    case = next(case for case in CASES if case.name == words.case)
    variant = next((one for one in case.variants if one.name == words.variant), case.variants[0])
    with work_of(variant, inputs(case.inputs, WARM_FACTOR)) as work:
        work()
    with work_of(variant, inputs(case.inputs, words.factor)) as work, cProfile.Profile() as profile:
        work()
    pstats.Stats(profile).sort_stats("tottime").print_stats(words.lines)


if __name__ == "__main__":
    main()
