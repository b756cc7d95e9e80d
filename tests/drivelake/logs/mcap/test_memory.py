"""Memory is bounded by the chunk and the batch, never by the file: also what is mapped, and what threads hold ahead."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mcap.writer import CompressionType, Writer
from mcap_ros2._dynamic import serialize_dynamic

from tests.drivelake.logs.making import COMPRESSED_IMAGE, START_NS, header

REPOSITORY = Path(__file__).parents[4]

MEASURE = """
import json, sys
from pathlib import Path
from drivelake.logs.findings import Findings
from drivelake.logs.mcap.log import inspect_mcap, read_mcap

def read(path):
    batches = read_mcap(Path(path), wanted=lambda _: True, batch_rows=8192, leftovers=None,
                        findings=Findings(strict=True), threads=int(sys.argv[3]))
    return sum(batch.batch.num_rows for batch in batches)

def status(key):
    return int(Path("/proc/self/status").read_text().split(key + ":")[1].split()[0]) * 1024

read(sys.argv[1])
Path("/proc/self/clear_refs").write_text("5")  # the peak begins here
before = status("VmRSS")
rows = read(sys.argv[2])
inspected = sum(channel.messages for channel in inspect_mcap(Path(sys.argv[2]), Findings(strict=True))[1])
print(json.dumps({"grown": status("VmHWM") - before, "rows": rows, "inspected": inspected}))
"""


def write(path, count, compression):
    pixels = np.random.default_rng(0).bytes(100_000)
    encode = serialize_dynamic("sensor_msgs/msg/CompressedImage", COMPRESSED_IMAGE)["sensor_msgs/msg/CompressedImage"]
    message = encode({"header": header(START_NS), "format": "jpeg", "data": pixels})
    writer = Writer(str(path), chunk_size=1 << 20, compression=compression)
    writer.start()
    schema = writer.register_schema("sensor_msgs/msg/CompressedImage", "ros2msg", COMPRESSED_IMAGE.encode())
    channel = writer.register_channel("/camera", "cdr", schema)
    for number in range(count):
        writer.add_message(channel, START_NS + number, message, START_NS + number)
    writer.finish()


@pytest.mark.slow
@pytest.mark.parametrize(("compression", "threads"), [(CompressionType.NONE, 1), (CompressionType.LZ4, 2)])
def test_300_megabytes_are_read_in_a_fifth_of_their_size(tmp_path, compression, threads):
    small, large = tmp_path / "small.mcap", tmp_path / "large.mcap"
    write(small, 20, compression)
    write(large, 3000, compression)
    command = [sys.executable, "-c", MEASURE, str(small), str(large), str(threads)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY, timeout=120)
    found = json.loads(done.stdout)
    assert large.stat().st_size > 290_000_000
    assert found["rows"] == found["inspected"] == 3000
    assert found["grown"] < 60_000_000, f"{found['grown'] / 1e6:.0f} MB"
