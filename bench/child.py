"""One variant of one case in a process of its own. Belongs here: the measurement. Never here: what is measured, the table.

``python -m bench.child CACHE FACTOR CASE VARIANT`` prints one line of JSON.
"""

from __future__ import annotations

import gc
import json
import resource
import sys
import time
from pathlib import Path

from bench.case import work_of
from bench.cases import CASES
from bench.generate import inputs

WARM_FACTOR = 0.005


def main(cache: str, factor: str, case_name: str, variant_name: str) -> None:
    """Warm up on tiny inputs, then measure."""
    import pyarrow as pa

    pa.set_cpu_count(1)
    case = next(case for case in CASES if case.name == case_name)
    variant = next(variant for variant in case.variants if variant.name == variant_name)
    real = inputs(case.inputs, float(factor), Path(cache))
    with work_of(variant, inputs(case.inputs, WARM_FACTOR, Path(cache))) as work:
        work()
    with work_of(variant, real) as work:
        gc.collect()
        cpu_s, wall_s = _cpu_s(), time.perf_counter()
        counts = work()
        wall_s, cpu_s = time.perf_counter() - wall_s, _cpu_s() - cpu_s
    print(json.dumps({"cpu_s": cpu_s, "wall_s": wall_s, "whole_cpu_s": _cpu_s(), "peak_mb": _peak_mb(), "counts": dict(counts)}))


def _cpu_s() -> float:
    """CPU seconds of this process and of the children that it waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def _peak_mb() -> float:
    """The most memory that was resident; the kernel's own high water mark, since ``ru_maxrss`` starts at the parent's."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")) * 1024 / 1e6


if __name__ == "__main__":
    main(*sys.argv[1:])
