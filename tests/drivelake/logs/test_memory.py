"""Memory is bounded by the batch, never by the log: one larger than the memory that reading it may take."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[3]

MEASURE = """
import json, sys, threading, time
from pathlib import Path
import asammdf
from drivelake.logs import inspect_log, read_log

def anonymous():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024

log = Path(sys.argv[1])
before, peak, done = anonymous(), 0, threading.Event()

def watch():
    global peak
    while not done.is_set():
        peak = max(peak, anonymous())
        time.sleep(0.002)

watcher = threading.Thread(target=watch)
watcher.start()
report = inspect_log(log)
rows = sum(batch.batch.num_rows for batch in read_log(log))
done.set()
watcher.join()
print(json.dumps({"grown": peak - before, "rows": rows, "damage": report.damage}))
"""


def measure(log):
    command = [sys.executable, "-c", MEASURE, str(log)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY, timeout=120)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_80_megabytes_of_channels_are_read_in_a_fraction_of_their_size(tmp_path):
    from asammdf import MDF, Signal

    log, count = tmp_path / "control.mf4", 2_600_000
    t = np.arange(count) / 1000
    with MDF(version="4.10") as mdf:
        mdf.append([Signal(np.sqrt(t) + i, t, name=f"c{i}") for i in range(3)], comment="")
        mdf.save(log)
    size = log.stat().st_size
    found = measure(log)
    assert size > 83_000_000
    assert (found["rows"], found["damage"]) == (count, [])
    assert found["grown"] < 65_000_000, f"{found['grown'] / 1e6:.0f} MB for a log of {size / 1e6:.0f} MB"
