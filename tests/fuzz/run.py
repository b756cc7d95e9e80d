"""Damage logs of every format and read them: ``python -m tests.fuzz.run --cases 12000``.

Belongs here: dealing cases out to reader processes, and counting. Never here: cases (reader), laws (oracle).

A case is a number: the same number and seed give the same damage. A reader process that dies or hangs is replaced, and the
cases it held are run again one by one, so that the one to blame is known.
"""

import argparse
import pickle
import sys
import tempfile
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from drivelake.errors import DrivelakeError
from drivelake.logs.isolation import Caps, ReaderProcess
from tests.fuzz.corpus import corpus

ROOT = Path(__file__).parents[2]
START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from tests.fuzz.reader import main; main()"
COMMAND = (sys.executable, "-c", START, str(ROOT))
TOGETHER = 25
CAPS = Caps(memory_mb=512, seconds=120)
CAPS_ALONE = Caps(memory_mb=512, seconds=30)


@dataclass
class Outcome:
    """What a run found.

    Attributes:
        cases: how many were run.
        broken: laws that did not hold: case, log, damage, law.
        died: cases that ended or hung their process: case, why.
        kinds: cases by format and kind of damage.
    """

    cases: int = 0
    broken: list = field(default_factory=list)
    died: list = field(default_factory=list)
    kinds: Counter = field(default_factory=Counter)

    def add(self, told):
        """What one request told."""
        self.broken += told["broken"]
        self.kinds.update(told["kinds"])
        self.cases += sum(told["kinds"].values())


def fuzz(cases, seed=0, *, first=0, readers=2):
    """Run cases ``first`` to ``first + cases``; see :class:`Outcome`."""
    outcome = Outcome()
    with tempfile.TemporaryDirectory() as folder:
        kept = Path(folder) / "corpus"
        kept.write_bytes(pickle.dumps(corpus(Path(folder))))
        spans = [(start, min(TOGETHER, first + cases - start)) for start in range(first, first + cases, TOGETHER)]
        with ThreadPoolExecutor(readers) as pool:
            for told in pool.map(lambda lane: _lane(kept, seed, spans[lane::readers]), range(readers)):
                for part in told.results:
                    outcome.add(part)
                outcome.died += told.died
                outcome.cases += len(told.died)
    outcome.broken.sort(key=lambda one: one["case"])
    outcome.died.sort()
    return outcome


@dataclass
class _Lane:
    results: list = field(default_factory=list)
    died: list = field(default_factory=list)


def _lane(kept, seed, spans):
    """The requests of one reader process after the other."""
    lane = _Lane()
    with ReaderProcess(CAPS, command=COMMAND) as together, ReaderProcess(CAPS_ALONE, command=COMMAND) as alone:
        for first, count in spans:
            try:
                lane.results.append(_ask(together, kept, seed, first, count))
            except DrivelakeError:
                for number in range(first, first + count):
                    try:
                        lane.results.append(_ask(alone, kept, seed, number, 1))
                    except DrivelakeError as error:
                        lane.died.append((number, error.message))
    return lane


def _ask(reader, kept, seed, first, count):
    return reader.ask("cases", kept, {"corpus": str(kept), "seed": seed, "first": first, "count": count})


def main():
    """Run, and say what was found; exit code 1 where a law did not hold."""
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("--cases", type=int, default=12_000)
    words.add_argument("--seed", type=int, default=0)
    words.add_argument("--first", type=int, default=0, help="number of the first case")
    words.add_argument("--readers", type=int, default=2, help="processes at a time")
    given = words.parse_args()
    began = time.monotonic()
    outcome = fuzz(given.cases, given.seed, first=given.first, readers=given.readers)
    formats = Counter()
    for kind, count in outcome.kinds.items():
        formats[kind.split()[0]] += count
    for one in outcome.broken:
        print(f"case {one['case']}  {one['log']}, {one['damage']}: {one['law']}")
    for number, why in outcome.died:
        print(f"case {number}  the reader died: {why}")
    print(
        f"{outcome.cases} cases in {time.monotonic() - began:.0f} s"
        f" ({', '.join(f'{count} {kind}' for kind, count in sorted(formats.items()))}):"
        f" {len(outcome.died)} ended their process, {len({one['case'] for one in outcome.broken})} broke a law"
    )
    sys.exit(bool(outcome.broken or outcome.died))


if __name__ == "__main__":
    main()
