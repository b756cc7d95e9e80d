"""Memory is bounded by the batch, never by the drive: logs larger than the memory that their signals may take."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mcap.writer import CompressionType, Writer
from mcap_ros2._dynamic import serialize_dynamic

from tests.drivelake.logs.making import COMPRESSED_IMAGE, START_NS, header

REPOSITORY = Path(__file__).parents[3]

MEASURE = """
import json, sys, threading, time
from pathlib import Path
import asammdf, mcap_ros2.decoder, pyarrow.parquet
from drivelake.logs import inspect_log, write_signals

def anonymous():
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024

log, out = Path(sys.argv[1]), Path(sys.argv[2])
before, peak, done = anonymous(), 0, threading.Event()

def watch():
    global peak
    while not done.is_set():
        peak = max(peak, anonymous())
        time.sleep(0.002)

watcher = threading.Thread(target=watch)
watcher.start()
report = inspect_log(log)
index = write_signals({log.name: log}, out, quarantined={})
done.set()
watcher.join()
rows = sum(table["rows"] for table in index["tables"])
print(json.dumps({"grown": peak - before, "rows": rows, "damage": report.damage, "quarantined": index["quarantined"]}))
"""


def measure(log, out):
    command = [sys.executable, "-c", MEASURE, str(log), str(out)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY, timeout=120)
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.slow
def test_300_megabytes_of_pictures_become_signals_in_a_fraction_of_their_size(tmp_path):
    log, count, pixels = tmp_path / "camera.mcap", 3100, np.random.default_rng(0).bytes(100_000)
    encode = serialize_dynamic("sensor_msgs/msg/CompressedImage", COMPRESSED_IMAGE)["sensor_msgs/msg/CompressedImage"]
    message = encode({"header": header(START_NS), "format": "jpeg", "data": pixels})
    writer = Writer(str(log), chunk_size=1 << 20, compression=CompressionType.NONE)
    writer.start()
    schema = writer.register_schema("sensor_msgs/msg/CompressedImage", "ros2msg", COMPRESSED_IMAGE.encode())
    channel = writer.register_channel("/camera", "cdr", schema)
    for number in range(count):
        writer.add_message(channel, START_NS + number, message, START_NS + number)
    writer.finish()
    size = log.stat().st_size
    found = measure(log, tmp_path / "signals")
    assert size > 300_000_000
    assert (found["rows"], found["damage"], found["quarantined"]) == (count, [], [])
    assert found["grown"] < 40_000_000, f"{found['grown'] / 1e6:.0f} MB for a log of {size / 1e6:.0f} MB"
    assert sum(path.stat().st_size for path in (tmp_path / "signals").rglob("*.parquet")) < 500_000


@pytest.mark.slow
def test_80_megabytes_of_channels_become_signals_in_a_fraction_of_their_size(tmp_path):
    from asammdf import MDF, Signal

    log, count = tmp_path / "control.mf4", 2_600_000
    t = np.arange(count) / 1000
    with MDF(version="4.10") as mdf:
        mdf.append([Signal(np.sqrt(t) + i, t, name=f"c{i}") for i in range(3)], comment="")
        mdf.save(log)
    size = log.stat().st_size
    found = measure(log, tmp_path / "signals")
    assert size > 83_000_000
    assert (found["rows"], found["damage"], found["quarantined"]) == (count, [], [])
    assert found["grown"] < 65_000_000, f"{found['grown'] / 1e6:.0f} MB for a log of {size / 1e6:.0f} MB"
