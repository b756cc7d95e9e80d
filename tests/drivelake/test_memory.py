"""A drive larger than the memory a process may take is ingested all the same: landed, read, synchronised, published."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from mcap.writer import CompressionType, Writer
from mcap_ros2._dynamic import serialize_dynamic

from drivelake.lake import Lake
from tests.drivelake.logs.making import COMPRESSED_IMAGE, START_NS, header
from tests.drivelake.toy import tiny_lake

REPOSITORY = Path(__file__).parents[2]
CAP_BYTES = 400_000_000
INGEST = """
import resource, sys, threading
from pathlib import Path
cap = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_DATA, (cap, cap))  # all private memory of the process, libraries included
threading.stack_size(1 << 20)  # reserved stacks count as well, whatever is used of them
from drivelake.evidence.notary import LakeNotary
from drivelake.frames.stage import SENSOR_FRAMES
from drivelake.lake import Lake
from drivelake.logs.stages import RAW_LOGS, SIGNALS
from drivelake.stage import materialise
lake = Lake(Path(sys.argv[1]))
for stage in (RAW_LOGS, SIGNALS, SENSOR_FRAMES):
    materialise(stage, lake, "large", LakeNotary(lake))
"""


@pytest.mark.slow
def test_a_drive_larger_than_the_memory_cap_is_ingested(tmp_path):
    lake = tiny_lake(tmp_path / "lake")
    folder = lake.inbox / "large"
    folder.mkdir()
    encode = serialize_dynamic("sensor_msgs/msg/CompressedImage", COMPRESSED_IMAGE)["sensor_msgs/msg/CompressedImage"]
    message = encode({"header": header(START_NS), "format": "jpeg", "data": np.random.default_rng(0).bytes(500_000)})
    writer = Writer(str(folder / "camera.mcap"), chunk_size=1 << 20, compression=CompressionType.NONE)
    writer.start()
    schema = writer.register_schema("sensor_msgs/msg/CompressedImage", "ros2msg", COMPRESSED_IMAGE.encode())
    channel = writer.register_channel("/camera", "cdr", schema)
    for number in range(1000):
        writer.add_message(channel, START_NS + number * 50_000_000, message, START_NS + number)
    writer.finish()
    size = (folder / "camera.mcap").stat().st_size

    command = [sys.executable, "-c", INGEST, str(lake.root), str(CAP_BYTES)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=REPOSITORY)

    assert size > CAP_BYTES * 1.2
    assert done.returncode == 0, done.stderr[-6000:]
    assert Lake(lake.root).head("sensor_frames", "large").manifest.facts["frames"] == 1000
