"""The process that reads damaged logs: the worker of the product with one more function.

Belongs here: cases by number. Never here: laws (oracle), counting (run).
"""

import pickle
import sys
import tempfile
from collections import Counter
from functools import cache
from pathlib import Path

from drivelake.logs import worker
from tests.fuzz.mutations import generator, mutate
from tests.fuzz.oracle import Oracle

SALVAGE_EVERY = 4


def cases(corpus, seed, first, count, threads):
    """Run ``count`` cases from number ``first`` on; what they broke, and how many there were of each kind."""
    oracles = _oracles(corpus)
    broken, kinds = [], Counter()
    for number in range(first, first + count):
        oracle = oracles[number % len(oracles)]
        rng = generator(seed, number)
        damaged = mutate(oracle.seed.data, rng, oracles[int(rng.integers(len(oracles)))].seed.data)
        kinds[f"{oracle.path.suffix} {damaged.kind}"] += 1
        salvage = number // len(oracles) % SALVAGE_EVERY == 0
        case = {"case": number, "log": oracle.seed.name, "damage": damaged.words}
        broken += [{**case, "law": sentence} for sentence in oracle.judge(damaged, salvage=salvage)]
    return {"broken": broken, "kinds": dict(kinds)}


@cache
def _oracles(corpus):
    folder = Path(tempfile.mkdtemp(dir=Path(corpus).parent))
    return [Oracle(seed, folder) for seed in pickle.loads(Path(corpus).read_bytes())]


def main():
    """Serve requests."""
    worker.main(sys.argv[1:], {"cases": cases})
